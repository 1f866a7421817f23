//! Passive health: what real requests say about an endpoint, and taking it out for a while when they say too much.
//! It must not know requests, nor read the clock: every step takes the moment and its random bits.
//! The fast path tells verdicts through [`tell`], a task of `control` compares endpoints with [`sweep()`]; `balance` asks who is
//! open.
//!
//! # Rules
//! - Rows of failures act at once, as in Envoy and Linkerd; comparisons act at the end of an interval, as in Envoy.
//! - What arrives about an endpoint that is out is not counted: it is about the time before.
//! - The time out doubles with each ejection in a row; each interval without one takes a doubling back, as in Envoy.
//! - With probation, as in Linkerd, one request tries an endpoint whose time is over. Until its verdict no other goes there.
//! - A pool of one is never ejected; of others one always may be, more up to the share.

mod gate;
mod judge;
mod probe;
mod sweep;
mod window;

pub use gate::Phase;
pub use judge::{is_one_of_several, tell, Change, Told};
pub use probe::{Claim, Probe};
pub use sweep::sweep;
pub use window::Tally;

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::OnceLock;
use std::time::Duration;

use super::pool::{Ejection, SuccessBelow};
use gate::Gate;
use window::{nanos, Interval, Sample, Window};

/// What an attempt said about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Ok,
    /// It refuses for too many requests: that counts against its rate but is no failure in a row.
    Limited,
    /// The service on it failed: 5xx.
    Error,
    /// It could not be used, or says that it could not use another: 502, 503, no connection, a broken one.
    Gateway,
    /// No answer came in time, or it says the same of another: 504. Counts as [`Verdict::Gateway`], but ejects fewer.
    Silent,
    /// A response that was counted as working broke off.
    Broke,
}

/// What an endpoint was ejected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Gateway failures in a row.
    ConsecutiveFailures,
    /// Answers of 5xx in a row.
    Consecutive5xx,
    /// A success rate far below those of the others.
    SuccessRate,
    /// A share of failures.
    FailurePercentage,
    /// A share of successes below the bound.
    SuccessBelow,
    /// The request that tried it failed.
    Probation,
}

const REASONS: [Reason; 6] = [
    Reason::ConsecutiveFailures,
    Reason::Consecutive5xx,
    Reason::SuccessRate,
    Reason::FailurePercentage,
    Reason::SuccessBelow,
    Reason::Probation,
];

impl Reason {
    /// Its name: the key that turns it on.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ConsecutiveFailures => "consecutive_failures",
            Reason::Consecutive5xx => "consecutive_5xx",
            Reason::SuccessRate => "success_rate",
            Reason::FailurePercentage => "failure_percentage",
            Reason::SuccessBelow => "success_below",
            Reason::Probation => "probation",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Passive health of one endpoint. Every field is an atomic; readers may see them a moment apart.
#[derive(Debug)]
pub struct Outlier {
    gate: Gate,
    /// Gateway failures in a row.
    failures: AtomicU32,
    /// Answers of 5xx and gateway failures in a row.
    failures_5xx: AtomicU32,
    /// Doublings of the next time out, as of `opened_at`.
    ejections: AtomicU32,
    /// When it was last open again; as far away as can be while that is not known.
    opened_at: AtomicU64,
    /// Position in `REASONS` of the last ejection's.
    reason: AtomicU8,
    interval: Interval,
    /// Made by the first request of a pool that judges by it.
    window: OnceLock<Box<Window>>,
}

/// Passive health as views show it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Whether it is open.
    pub phase: Phase,
    /// What it is out for.
    pub reason: Option<Reason>,
    /// How long it is still out.
    pub left: Duration,
    /// Gateway failures in a row.
    pub failures: u32,
    /// Answers of 5xx and gateway failures in a row.
    pub failures_5xx: u32,
    /// How many ejections in a row count for the next time.
    pub ejections: u32,
    /// How long it would be out next time, without chance.
    pub next: Duration,
    /// Requests of this interval, when intervals are looked at.
    pub interval: Option<Tally>,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            gate: Gate::default(),
            failures: AtomicU32::new(0),
            failures_5xx: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            opened_at: AtomicU64::new(u64::MAX),
            reason: AtomicU8::new(0),
            interval: Interval::default(),
            window: OnceLock::new(),
        }
    }
}

impl Outlier {
    /// Whether a request may be sent here now: it is open, or waits for one that tries it.
    pub fn admits(&self, now: u64) -> bool {
        self.gate.admits(now)
    }

    /// Whether it is out, also while a request tries it.
    pub fn is_ejected(&self, now: u64) -> bool {
        !self.gate.is_open(now)
    }

    /// When its last ejection ended, if that is over; 0 if there was none.
    pub fn open_since(&self, now: u64) -> u64 {
        let opened_at = self.opened_at.load(Relaxed);
        if opened_at > now {
            0
        } else {
            opened_at
        }
    }

    /// What views show.
    pub fn seen(&self, rules: &Ejection, now: u64) -> Seen {
        let phase = self.gate.phase(now);
        let ejections = self.ejections(now, rules.interval);
        let left = match phase {
            Phase::Shut => Duration::from_nanos(self.gate.until().saturating_sub(now)),
            Phase::Open | Phase::Awaiting | Phase::Trying => Duration::ZERO,
        };
        Seen {
            phase,
            reason: self.reason().filter(|_| phase != Phase::Open),
            left,
            failures: self.failures.load(Relaxed),
            failures_5xx: self.failures_5xx.load(Relaxed),
            ejections,
            next: rules.time(ejections),
            interval: rules.has_sweep().then(|| self.interval.look()),
        }
    }

    /// What it was last ejected for; of no meaning while it never was.
    fn reason(&self) -> Option<Reason> {
        REASONS.get(usize::from(self.reason.load(Relaxed))).copied()
    }

    /// Ends an ejection, with all counters at zero. Whether there was one.
    pub fn open(&self, now: u64) -> bool {
        let was_shut = self.gate.open(now);
        if was_shut {
            self.opened_at.store(now, Relaxed);
            self.forget();
        }
        was_shut
    }

    /// Counts what an attempt came to and says what the endpoint should be ejected for. An endpoint that is out counts
    /// nothing.
    fn count(&self, verdict: Verdict, rules: &Ejection, now: u64) -> Option<Reason> {
        if !self.gate.is_open(now) {
            return None;
        }
        let sample = match verdict {
            Verdict::Ok => Sample::Good,
            Verdict::Limited | Verdict::Error | Verdict::Gateway | Verdict::Silent => Sample::Bad,
            Verdict::Broke => Sample::Spoilt,
        };
        if rules.has_sweep() {
            self.interval.add(sample);
        }
        let share = rules.success_below.as_ref();
        let is_below = share.is_some_and(|below| self.is_below(below, now, sample));
        let row = self.row(verdict, rules);
        row.or(is_below.then_some(Reason::SuccessBelow))
    }

    /// Counts in a row. An endpoint in order costs two reads.
    fn row(&self, verdict: Verdict, rules: &Ejection) -> Option<Reason> {
        let end = |row: &AtomicU32| {
            if row.load(Relaxed) != 0 {
                row.store(0, Relaxed);
            }
        };
        let more = |row: &AtomicU32, most: u32| {
            let in_a_row = row.fetch_add(1, Relaxed).saturating_add(1);
            most > 0 && in_a_row >= most
        };
        match verdict {
            Verdict::Ok => {
                end(&self.failures);
                end(&self.failures_5xx);
                None
            }
            Verdict::Limited => None,
            Verdict::Error => {
                end(&self.failures);
                more(&self.failures_5xx, rules.consecutive_5xx).then_some(Reason::Consecutive5xx)
            }
            Verdict::Gateway | Verdict::Silent | Verdict::Broke => {
                let gateway = more(&self.failures, rules.consecutive_failures);
                let any = more(&self.failures_5xx, rules.consecutive_5xx);
                let any = any.then_some(Reason::Consecutive5xx);
                gateway.then_some(Reason::ConsecutiveFailures).or(any)
            }
        }
    }

    /// Judged with a failure alone: nothing else makes a share smaller, but for successes that grow old.
    fn is_below(&self, below: &SuccessBelow, now: u64, sample: Sample) -> bool {
        let window = self.window.get_or_init(Box::default);
        let tally = window.add(now, below.window, sample);
        sample != Sample::Good
            && tally.requests >= below.minimum_requests.max(1)
            && tally.success() < below.rate
    }

    /// Takes an open endpoint out. The time, unless another request did it first.
    fn eject(&self, reason: Reason, rules: &Ejection, now: u64, random: u64) -> Option<Duration> {
        let before = self.ejections(now, rules.interval);
        let time = rules.time_by_chance(before, random);
        let until = now.saturating_add(nanos(time));
        let is_first = self.gate.shut(now, until, rules.probation);
        is_first.then(|| {
            self.ejected(reason, rules, before, until);
            time
        })
    }

    /// What a request that tried it came to means: out again, for longer.
    fn fail(&self, trying: u64, rules: &Ejection, now: u64, random: u64) -> Option<Duration> {
        let before = self.ejections(now, rules.interval);
        let time = rules.time_by_chance(before, random);
        let until = now.saturating_add(nanos(time));
        let is_ours = self.gate.fail(trying, until, rules.probation);
        is_ours.then(|| {
            self.ejected(Reason::Probation, rules, before, until);
            time
        })
    }

    fn ejected(&self, reason: Reason, rules: &Ejection, before: u32, until: u64) {
        let at = REASONS.iter().position(|one| *one == reason);
        self.reason.store(at.map_or(0, |at| at as u8), Relaxed);
        // Past the longest time nothing doubles, and the way back is not made longer.
        let is_longest = rules.time(before) >= rules.max_time;
        let ejections = if is_longest { before } else { before + 1 };
        self.ejections.store(ejections, Relaxed);
        let opened_at = if rules.probation { u64::MAX } else { until };
        self.opened_at.store(opened_at, Relaxed);
        self.forget();
    }

    /// The request that tried it was answered well.
    fn pass(&self, trying: u64, now: u64) -> bool {
        let is_ours = self.gate.pass(trying);
        if is_ours {
            self.opened_at.store(now, Relaxed);
            self.forget();
        }
        is_ours
    }

    /// How many ejections in a row count now: each interval since the last one ended takes one back.
    fn ejections(&self, now: u64, interval: Duration) -> u32 {
        let open = now.saturating_sub(self.opened_at.load(Relaxed));
        let intervals = open / nanos(interval).max(1);
        let back = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.ejections.load(Relaxed).saturating_sub(back)
    }

    /// Begins counting anew, so that old failures do not eject again after few new ones.
    fn forget(&self) {
        self.failures.store(0, Relaxed);
        self.failures_5xx.store(0, Relaxed);
        self.interval.take();
        if let Some(window) = self.window.get() {
            window.clear();
        }
    }
}

#[cfg(test)]
impl Outlier {
    /// Out for a time, for tests of what must respect that.
    pub fn shut(&self, now: u64, time: Duration) {
        let until = now.saturating_add(nanos(time));
        self.gate.shut(now, until, false);
        self.opened_at.store(until, Relaxed);
    }
}

#[cfg(test)]
mod tests;
