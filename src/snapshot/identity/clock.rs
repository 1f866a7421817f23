//! What is known of certificates over time: when each is renewed, what went wrong, and whether its source answers.
//! It must not know any source; those in `control::identity` write here through their desk.
//! Read by views and by `windrose certs`; nothing on the fast path asks.

use std::time::SystemTime;

/// The renewal of one workload's certificate.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// When the certificate in use came.
    pub renewed_at: Option<SystemTime>,
    /// When its source means to renew it; `None` where somebody else does, as with files.
    pub renew_at: Option<SystemTime>,
    /// Failures since the last success.
    pub failures: u32,
    /// The last failure, until a success follows it. Holds no secrets.
    pub error: Option<String>,
    /// When that was.
    pub failed_at: Option<SystemTime>,
}

impl Clock {
    /// A certificate came.
    pub(super) fn renewed(&mut self, now: SystemTime, renew_at: Option<SystemTime>) {
        *self = Clock {
            renewed_at: Some(now),
            renew_at,
            ..Clock::default()
        };
    }

    /// None came.
    pub(super) fn failed(&mut self, now: SystemTime, error: String) {
        self.failures = self.failures.saturating_add(1);
        self.error = Some(error);
        self.failed_at = Some(now);
    }
}

/// Whether the source of certificates answers.
#[derive(Debug, Clone, Default)]
pub struct SourceState {
    /// Its word in the configuration.
    pub kind: &'static str,
    /// When it last answered.
    pub answered_at: Option<SystemTime>,
    /// Since when it does not; `None` while it does.
    pub failing_since: Option<SystemTime>,
    /// Why.
    pub error: Option<String>,
}

/// The certificate with which the node proves itself to the built-in authority.
#[derive(Debug, Clone, Default)]
pub struct NodeClock {
    /// Whom it names.
    pub id: String,
    /// When it begins, in seconds since 1970.
    pub not_before: i64,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    /// When it is to be renewed.
    pub renew_at: Option<SystemTime>,
    /// Failures since the last success.
    pub failures: u32,
    /// The last failure, until a success follows it. Holds no secrets.
    pub error: Option<String>,
}

/// How far the authority's clock is ahead of this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Seconds, to about one; below zero where it is behind.
    pub seconds: i64,
    /// When that was found.
    pub at: SystemTime,
}

impl Ahead {
    /// By what the authority says it is at this moment.
    pub(super) fn now(theirs: SystemTime) -> Ahead {
        let at = SystemTime::now();
        let whole = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let seconds = match theirs.duration_since(at) {
            Ok(ahead) => whole(ahead),
            Err(behind) => -whole(behind.duration()),
        };
        Ahead { seconds, at }
    }
}
