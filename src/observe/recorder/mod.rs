//! The flight recorder: records of the requests somebody may ask about, in bounded memory.
//! It must not know who serves requests, and never makes one wait: a record goes into a queue, and whoever has the store empties it.
//! The fast path asks `wants` once per request, and calls `keep` for few; the admin address reads; a reload configures.

mod head;
mod quantile;
mod record;
mod store;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{mpsc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{causes, Blame, Cause};

use super::access_log::{stamp, Entry};
use super::metrics::{FirstUse, RecorderMetrics};
pub(super) use head::harmless;
pub use head::Head;
use quantile::Slowest;
pub use record::{Asked, Attempt, Caller, Decision, Durations, Given, Pair, Record, Seen};
use store::{Bounds, Kept, Store};

/// What an operator can set.
#[derive(Debug, Clone, PartialEq)]
pub struct RecorderSettings {
    /// Whether anything is kept.
    pub enabled: bool,
    /// Most records.
    pub records: usize,
    /// Most memory, in bytes.
    pub bytes: usize,
    /// Share of ordinary requests kept, from 0 to 1.
    pub sample: f64,
    /// Whether the slowest one in a hundred are kept.
    pub slowest: bool,
}

impl Default for RecorderSettings {
    fn default() -> RecorderSettings {
        RecorderSettings {
            enabled: true,
            records: 2000,
            bytes: 8 << 20,
            sample: 0.01,
            slowest: true,
        }
    }
}

/// Why a request has a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It failed, or the proxy answered it.
    Error,
    /// It was slower than 99 of 100.
    Slowest,
    /// A policy in audit mode would have treated it differently.
    Audit,
    /// By lot.
    #[default]
    Sample,
}

/// What decides whether a request gets a record.
pub struct Outcome {
    /// The status sent; 0 when nothing was sent.
    pub status: u16,
    /// Set when the proxy answered or cut the response itself.
    pub cause: Option<&'static Cause>,
    /// `grpc-status` of a gRPC call.
    pub grpc_status: Option<u16>,
    /// Whether a policy in audit mode would have treated it differently.
    pub audited: bool,
    /// Time to the end, of a stream to its response header.
    pub duration: Duration,
    /// A moment of `clock::now`.
    pub now: u64,
    /// 64 random bits.
    pub random: u64,
}

/// What a record is made from, besides what the access log is told.
pub struct Told<'a> {
    /// What the access log is told.
    pub entry: &'a Entry<'a>,
    /// Where the request's head is read from.
    pub head: Head<'a>,
    /// Whether that is what was received.
    pub seen: Seen,
    /// The host asked for as received, with its port.
    pub authority: &'a str,
    /// Where the connection came from.
    pub peer: Option<SocketAddr>,
    /// Who the client's certificate names.
    pub certificate: Option<String>,
    /// The generation of the configuration.
    pub generation: u64,
    /// Where the rule stands, as `file:line`.
    pub place: &'a str,
    /// Attempts at endpoints.
    pub attempts: Vec<Attempt>,
    /// Time to the first attempt.
    pub before_upstream: Option<Duration>,
}

/// The recorder.
pub struct Recorder {
    enabled: AtomicBool,
    slowest: AtomicBool,
    /// An ordinary request is kept if its random bits are below this.
    sample: AtomicU64,
    durations: Slowest,
    errors: FirstUse<&'static str, Allowance>,
    slow: Allowance,
    sampled: Allowance,
    queue: mpsc::Sender<Kept>,
    /// Records in the queue.
    waiting: AtomicUsize,
    store: Mutex<Shelf>,
    metrics: RecorderMetrics,
}

/// The store and the end of the queue that leads to it.
struct Shelf {
    store: Store,
    queue: mpsc::Receiver<Kept>,
}

impl Recorder {
    /// A recorder without records.
    pub fn new(settings: &RecorderSettings, metrics: RecorderMetrics) -> Recorder {
        let (sender, queue) = mpsc::channel();
        let store = Store::new(Bounds::default());
        let recorder = Recorder {
            enabled: AtomicBool::new(false),
            slowest: AtomicBool::new(false),
            sample: AtomicU64::new(0),
            durations: Slowest::default(),
            errors: FirstUse::default(),
            slow: Allowance::default(),
            sampled: Allowance::default(),
            queue: sender,
            waiting: AtomicUsize::new(0),
            store: Mutex::new(Shelf { store, queue }),
            metrics,
        };
        recorder.configure(settings);
        recorder
    }

    /// Takes new settings. Records that no longer fit go; all of them when it is off.
    pub fn configure(&self, settings: &RecorderSettings) {
        self.enabled.store(settings.enabled, Relaxed);
        self.slowest.store(settings.slowest, Relaxed);
        self.sample.store(threshold(settings.sample), Relaxed);
        let (records, bytes) = match settings.enabled {
            true => (settings.records, settings.bytes),
            false => (0, 0),
        };
        self.shelf().store.resize(Bounds { records, bytes });
    }

    /// Whether a request gets a record. For nearly all: four loads and as many comparisons.
    pub fn wants(&self, outcome: &Outcome) -> Option<Reason> {
        if !self.enabled.load(Relaxed) {
            return None;
        }
        if is_error(outcome) {
            return self.allows(outcome).then_some(Reason::Error);
        }
        if outcome.audited
            && self
                .errors
                .entry(AUDITED, Allowance::default)
                .take(second(outcome))
        {
            return Some(Reason::Audit);
        }
        let nanos = u64::try_from(outcome.duration.as_nanos()).unwrap_or(u64::MAX);
        let second = second(outcome);
        if self.slowest.load(Relaxed) && self.durations.has(nanos, outcome.random) {
            return self.slow.take(second).then_some(Reason::Slowest);
        }
        let is_drawn = outcome.random < self.sample.load(Relaxed);
        (is_drawn && self.sampled.take(second)).then_some(Reason::Sample)
    }

    fn allows(&self, outcome: &Outcome) -> bool {
        let cause = outcome.cause.map_or("", |cause| cause.name);
        let allowance = self.errors.entry(cause, Allowance::default);
        let allowed = allowance.take(second(outcome));
        if !allowed {
            self.metrics.left_out.inc();
        }
        allowed
    }

    /// Keeps a record. Never waits.
    pub fn keep(&self, reason: Reason, told: &Told<'_>) {
        let record = record(reason, told);
        let Ok(json) = serde_json::to_vec(&record) else {
            debug_assert!(false, "a record is plain data");
            return;
        };
        let kept = Kept {
            reason,
            kind: told.entry.cause.map_or("", |cause| cause.name),
            request_id: record.request_id.into(),
            trace_id: record.trace_id.into(),
            json: json.into(),
        };
        if self.waiting.fetch_add(1, Relaxed) < LONGEST_QUEUE {
            // The receiver lives as long as the recorder.
            let _ = self.queue.send(kept);
        } else {
            self.waiting.fetch_sub(1, Relaxed);
            self.metrics.lost.inc();
        }
        // Also where there was no room: else a full queue would stay full.
        match self.store.try_lock() {
            Ok(mut shelf) => self.shelve(&mut shelf),
            Err(TryLockError::Poisoned(shelf)) => self.shelve(&mut shelf.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Empties the queue into the store.
    fn shelve(&self, shelf: &mut Shelf) {
        for kept in shelf.queue.try_iter() {
            self.waiting.fetch_sub(1, Relaxed);
            let reason = kept.reason;
            match (shelf.store.push(kept), reason) {
                (false, _) => self.metrics.lost.inc(),
                (true, Reason::Error) => self.metrics.errors.inc(),
                (true, Reason::Slowest) => self.metrics.slowest.inc(),
                (true, Reason::Audit) => self.metrics.audit.inc(),
                (true, Reason::Sample) => self.metrics.sample.inc(),
            }
        }
    }

    /// The store, for those who may wait, with what was in the queue.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        let mut shelf = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelve(&mut shelf);
        shelf
    }

    /// Every record, newest first.
    pub fn all(&self) -> Vec<Record> {
        self.matching(|_| true)
    }

    /// The records of a request id or a trace id, newest first.
    pub fn find(&self, id: &str) -> Vec<Record> {
        self.matching(|kept| *kept.request_id == *id || *kept.trace_id == *id)
    }

    fn matching(&self, wanted: impl Fn(&Kept) -> bool) -> Vec<Record> {
        // Only pointers are copied under the lock: meanwhile the queue fills.
        let all = self.shelf().store.all();
        let wanted = all.iter().filter(|kept| wanted(kept));
        wanted
            .filter_map(|kept| serde_json::from_slice(&kept.json).ok())
            .collect()
    }
}

/// An answer that is no error: written in the configuration, or a plugin's that is no refusal.
fn is_error(outcome: &Outcome) -> bool {
    let Some(cause) = outcome.cause else {
        return outcome.status >= 500;
    };
    let is_written = *cause == causes::ROUTE_RESPOND || *cause == causes::ROUTE_REDIRECT;
    // A refused gRPC call has status 200, and says in a field of its own that it was refused.
    let is_refused = outcome.grpc_status.is_some_and(|status| status != 0);
    let is_meant =
        cause.blame == Blame::Policy && (1..400).contains(&outcome.status) && !is_refused;
    outcome.status >= 500 || !(is_written || is_meant)
}

fn second(outcome: &Outcome) -> u64 {
    outcome.now / 1_000_000_000
}

/// Among causes, what policies in audit mode would have refused.
const AUDITED: &str = "policy_audit";

/// How many records of one kind are made in the second that runs.
#[derive(Default)]
struct Allowance(AtomicU64);

impl Allowance {
    /// Whether one more is kept. Second and count share a word; threads that race may keep one too many.
    fn take(&self, second: u64) -> bool {
        let seen = self.0.load(Relaxed);
        if seen >> COUNT_BITS != second {
            self.0.store(second << COUNT_BITS | 1, Relaxed);
            return true;
        }
        let left = seen & ((1 << COUNT_BITS) - 1) < MOST_PER_SECOND;
        if left {
            self.0.fetch_add(1, Relaxed);
        }
        left
    }
}

fn threshold(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

fn record(reason: Reason, told: &Told<'_>) -> Record {
    let entry = told.entry;
    let text = |text: &str| head::harmless(text.as_bytes(), LONGEST_TEXT).0;
    let some = |it: &str| (!it.is_empty()).then(|| text(it));
    let mut time = Vec::new();
    stamp::rfc3339(&mut time, entry.time);
    let mut asked = Asked {
        method: text(entry.method),
        scheme: text(entry.scheme),
        host: text(entry.host),
        authority: text(told.authority),
        protocol: text(entry.protocol),
        seen: told.seen,
        bytes: entry.request_bytes,
        ..Asked::default()
    };
    head::read(&told.head, &mut asked);
    Record {
        time: String::from_utf8(time).unwrap_or_default(),
        kept: reason,
        request_id: text(entry.request_id),
        trace_id: text(entry.trace_id.unwrap_or_default()),
        caller: Caller {
            listener: text(entry.listener),
            role: text(entry.role),
            client: text(entry.client),
            peer: told.peer.map_or(String::new(), |peer| peer.to_string()),
            destination: entry.destination.map(|to| to.to_string()),
            sni: entry.sni.map(text),
            certificate: told.certificate.as_deref().map(text),
            principal: entry.principal.map(text),
        },
        request: asked,
        decision: Decision {
            generation: told.generation,
            route: some(entry.route),
            rule: (!entry.route.is_empty()).then_some(entry.rule),
            place: some(told.place),
            pool: some(entry.pool),
            policy: some(entry.policy),
            policy_audit: some(entry.audit),
        },
        attempts: told.attempts.clone(),
        answer: Given {
            status: entry.status,
            cause: entry.cause.map(|cause| cause.name.to_owned()),
            grpc_status: entry.grpc_status,
            bytes: entry.response_bytes,
            cache: Some(entry.cache.to_owned()).filter(|word| !word.is_empty()),
        },
        durations: Durations {
            total_ms: millis(entry.duration),
            before_upstream_ms: told.before_upstream.map(millis),
            upstream_ms: entry.upstream_duration.map(millis),
        },
    }
}

/// Milliseconds with three decimals.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Records made in one second of errors of one cause, of slow requests, or of samples: enough to see what they have in common.
/// A record costs as much as a third of a small request, and more of them would only push out older ones sooner.
const MOST_PER_SECOND: u64 = 20;
/// Records that may wait while another thread has the store; besides the store's own, so few.
const LONGEST_QUEUE: usize = 16;
const COUNT_BITS: u32 = 16;
const LONGEST_TEXT: usize = 512;

#[cfg(test)]
mod tests;
