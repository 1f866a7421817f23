//! Chance for timers, so that many pools and many nodes do not ask at the same moment.
//! It must not be used where guessing would do harm; this is no secret randomness.
//! Called by discovery and health tasks.

use std::time::Duration;

/// A moment between zero and `longest`.
pub(in crate::control) fn within(longest: Duration) -> Duration {
    longest.mul_f64(fraction())
}

/// The time with up to a tenth more or less.
pub(in crate::control) fn around(time: Duration) -> Duration {
    time.mul_f64(0.9 + 0.2 * fraction())
}

/// The time with up to a tenth more.
pub(in crate::control) fn after(time: Duration) -> Duration {
    time.mul_f64(1.0 + 0.1 * fraction())
}

/// Random bits. Every `RandomState` has keys of its own, which is all the chance this needs.
pub(in crate::control) fn bits() -> u64 {
    ahash::RandomState::new().hash_one(0_u8)
}

/// From 0 up to but not including 1.
fn fraction() -> f64 {
    let bits = bits() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_within_their_bounds_and_differ() {
        let second = Duration::from_secs(1);
        let times: Vec<Duration> = (0..1000).map(|_| around(second)).collect();

        assert!(times
            .iter()
            .all(|time| (900..=1100).contains(&time.as_millis())));
        assert!(times.iter().any(|time| *time < second));
        assert!(times.iter().any(|time| *time > second));
        assert!((0..1000).all(|_| within(second) < second));
        assert!((0..1000).all(|_| after(second) >= second));
    }
}
