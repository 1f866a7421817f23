//! When a certificate is renewed, and when a source that failed is asked again.
//! It must not know any source; chance comes from OpenSSL.
//! Used by sources that fetch.

use std::time::Duration;

/// How long until a certificate with this much life left is renewed: half of it, give or take a tenth of that, so that nodes
/// that began together do not ask together. At least a second, also where nothing is left.
pub(super) fn until_renewal(left: Duration) -> Duration {
    left.mul_f64(0.5 * (0.9 + 0.2 * chance())).max(SOONEST)
}

/// Grows from half a second to two minutes, and moves by a fifth either way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one failure more. With `left` of a certificate's life, the next try comes while some of it is left.
    pub(super) fn next(&mut self, left: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(LONGEST).mul_f64(0.8 + 0.4 * chance());
        match left.filter(|left| !left.is_zero()) {
            Some(left) => wait.min((left / 2).max(FIRST)),
            None => wait,
        }
    }

    /// Whether the last try failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// From 0 to 1.
pub(in crate::control) fn chance() -> f64 {
    let mut bytes = [0; 4];
    match openssl::rand::rand_bytes(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

const SOONEST: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_around_half_of_what_is_left() {
        let day = Duration::from_secs(86_400);
        let times: Vec<f64> = (0..200)
            .map(|_| until_renewal(day).as_secs_f64() / 86_400.0)
            .collect();

        assert!(times.iter().all(|part| (0.449..=0.551).contains(part)));
        assert!(times.iter().any(|part| *part < 0.49) && times.iter().any(|part| *part > 0.51));
        assert_eq!(until_renewal(Duration::ZERO), Duration::from_secs(1));
    }

    #[test]
    fn failures_are_waited_out_longer_and_longer_but_never_past_the_end() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next(None)).collect();
        let near = backoff.next(Some(Duration::from_secs(10)));
        backoff.reset();

        assert!(waits[0] < Duration::from_secs(1) && waits[4] > Duration::from_secs(5));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(120)));
        assert!(near <= Duration::from_secs(5));
        assert!(backoff.next(None) < Duration::from_secs(1));
    }
}
