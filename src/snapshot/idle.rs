//! How long an endpoint keeps an idle connection, learned from when it closes them.
//! It must not know connections; whoever watches them tells it.
//! Written and read by `proxy::upstream`, shown by `control::admin`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Closes that agree before they are believed: a restart or a deployment closes connections too, but not three times after the
/// same silence.
const AGREEING: u32 = 3;
/// How long it is believed. Then it is learned anew, since a longer limit would never show itself.
const BELIEVED: Duration = Duration::from_secs(600);
/// How far two closes may lie apart to agree, beside a tenth of the time.
const APART: Duration = Duration::from_millis(250);
/// Closes sooner than this are no sign of a limit: they come with the end of a response, after so many requests.
const SHORTEST: Duration = Duration::from_millis(100);
/// Closes nearer to each other than this are one event, such as a restart.
const TOGETHER: Duration = Duration::from_millis(100);
/// How long before the limit a connection is given up at least, beside a tenth of the time: a request needs time to get there.
const AHEAD: Duration = Duration::from_millis(100);

/// The time after which an endpoint closes idle connections. Every field is an atomic; two observers at a time may lose one
/// observation, which the next ones make up for.
#[derive(Debug, Default)]
pub struct IdleLimit {
    /// In nanoseconds; 0 for not known.
    learned: AtomicU64,
    /// In nanoseconds of `observe::clock`.
    learned_at: AtomicU64,
    /// The shortest of the closes that agree so far, in nanoseconds.
    candidate: AtomicU64,
    agreeing: AtomicU32,
    /// When the last close came, in nanoseconds of `observe::clock`.
    closed_at: AtomicU64,
}

impl IdleLimit {
    /// The endpoint closed a connection that had been idle so long.
    pub fn closed(&self, idle: Duration, now: u64) {
        let before = self.closed_at.swap(now, Relaxed);
        if idle < SHORTEST || now.saturating_sub(before) < nanos(TOGETHER) {
            return;
        }
        let idle = nanos(idle);
        let candidate = self.candidate.load(Relaxed);
        let apart = nanos(APART).max(candidate / 10);
        if candidate != 0 && idle.abs_diff(candidate) <= apart {
            self.candidate.store(candidate.min(idle), Relaxed);
            if self.agreeing.fetch_add(1, Relaxed) + 1 >= AGREEING {
                self.learned.store(candidate.min(idle), Relaxed);
                self.learned_at.store(now, Relaxed);
                self.agreeing.store(AGREEING, Relaxed);
            }
        } else {
            self.candidate.store(idle, Relaxed);
            self.agreeing.store(1, Relaxed);
        }
    }

    /// The limit, while it is believed.
    pub fn limit(&self, now: u64) -> Option<Duration> {
        let learned = self.learned.load(Relaxed);
        let age = now.saturating_sub(self.learned_at.load(Relaxed));
        (learned != 0 && age < nanos(BELIEVED)).then(|| Duration::from_nanos(learned))
    }

    /// How long a connection may be idle to be used for another request; zero for not at all.
    pub fn safe(&self, now: u64) -> Option<Duration> {
        let limit = self.limit(now)?;
        Some(limit.saturating_sub(AHEAD.max(limit / 10)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const LATER: u64 = 10 * SECOND;

    fn told(closes: &[u64]) -> IdleLimit {
        let limit = IdleLimit::default();
        for (at, millis) in (1..).zip(closes) {
            limit.closed(Duration::from_millis(*millis), at * SECOND);
        }
        limit
    }

    #[test]
    fn three_closes_after_the_same_silence_are_a_limit() {
        let limit = told(&[5000, 5003, 5001]);

        assert_eq!(limit.limit(LATER), Some(Duration::from_millis(5000)));
        assert_eq!(limit.safe(LATER), Some(Duration::from_millis(4500)));
    }

    #[test]
    fn closes_that_do_not_agree_teach_nothing() {
        assert_eq!(told(&[5000, 5001]).limit(LATER), None);
        assert_eq!(
            told(&[100, 5000, 900, 5000, 20_000, 100]).limit(LATER),
            None
        );
    }

    #[test]
    fn a_limit_is_forgotten_so_that_a_longer_one_can_be_learned() {
        let limit = told(&[5000, 5000, 5000]);
        let later = nanos(BELIEVED) + LATER;

        assert_eq!(limit.limit(later), None);
        (0..3).for_each(|at| limit.closed(Duration::from_secs(60), later + at * SECOND));
        assert_eq!(limit.limit(later), Some(Duration::from_secs(60)));
    }

    #[test]
    fn closes_that_end_a_response_are_no_limit() {
        assert_eq!(told(&[0, 1, 2, 50]).limit(LATER), None);
    }

    #[test]
    fn a_restart_that_closes_everything_at_once_is_no_limit() {
        let limit = IdleLimit::default();
        (0..20).for_each(|at| limit.closed(Duration::from_secs(3), LATER + at));

        assert_eq!(limit.limit(LATER + 30), None);
    }
}
