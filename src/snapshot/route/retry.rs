//! How long a request may take, and which failures are followed by another attempt.
//! It must not know how attempts are made, nor whether one still fits; `decide` judges that.
//! Part of a rule; built by `config::compile`.

use std::time::Duration;

use http::Method;

use crate::snapshot::budget::Budget;

/// Times of a request; `None` for no bound.
#[derive(Debug, Clone, Default)]
pub struct Timeouts {
    /// Until the response's header.
    pub response_header: Option<Duration>,
    /// Silence while bodies are under way.
    pub idle: Option<Duration>,
    /// Everything, all attempts together.
    pub request: Option<Duration>,
    /// One attempt: to connect, and from there to the response's header.
    pub per_try: Option<Duration>,
    /// Whether a deadline that the request brings shortens it.
    pub honours_clients: bool,
}

/// Attempts after a failure; the default makes none.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// Further attempts.
    pub attempts: u8,
    /// Whether a connection that was not made is tried again.
    pub on_connect_failure: bool,
    /// Whether a stream that was refused is tried again.
    pub on_refused_stream: bool,
    /// Whether a connection that broke before the response is tried again.
    pub on_reset: bool,
    /// Whether an attempt that took too long is tried again.
    pub on_per_try_timeout: bool,
    /// Statuses that are tried again.
    pub statuses: Box<[u16]>,
    /// gRPC statuses that are tried again: bit n for status n.
    pub grpc: u32,
    /// Methods that may be sent twice.
    pub methods: Box<[Method]>,
    /// The wait before a further attempt.
    pub backoff: Backoff,
    /// The rule's own budget.
    pub budget: Option<Budget>,
}

impl Retry {
    /// Whether a response with this status is tried again.
    pub fn on_status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// Whether a gRPC response with this status is tried again.
    pub fn on_grpc(&self, status: u16) -> bool {
        status < 32 && self.grpc & (1 << status) != 0
    }

    /// Whether responses can be tried again at all.
    pub fn reads_responses(&self) -> bool {
        !self.statuses.is_empty() || self.grpc != 0
    }
}

/// Exponential back-off with full jitter, as Envoy: before further attempt n any time up to (2^n - 1) times the base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the first further attempt.
    pub base: Duration,
    /// The longest wait at all.
    pub max: Duration,
}

impl Backoff {
    /// The longest wait before further attempt `n`, which counts from 1.
    pub fn longest(&self, n: u8) -> Duration {
        let factor = (1_u32 << n.min(20)) - 1;
        self.base.saturating_mul(factor).min(self.max)
    }

    /// A wait before further attempt `n`; `fraction` is chance, 0 to 1.
    pub fn wait(&self, n: u8, fraction: f64) -> Duration {
        self.longest(n).mul_f64(fraction.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let backoff = Backoff {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        };
        let longest: Vec<u128> = (1..=5).map(|n| backoff.longest(n).as_millis()).collect();

        assert_eq!(longest, [25, 75, 175, 250, 250]);
        assert_eq!(backoff.wait(2, 0.5), Duration::from_micros(37_500));
        assert_eq!(backoff.longest(u8::MAX), backoff.max);
    }
}
