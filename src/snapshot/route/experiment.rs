//! What is tried out on a rule's requests: faults that are injected, copies to further pools.
//! It must not know requests; `decide` rolls the dice.
//! Part of a rule that has any; built by `config::compile`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{Guard, Mirror, ValueCondition};
use crate::observe::metrics::FaultMetrics;

/// What is tried out on a rule's requests.
pub struct Experiments {
    /// Delays and aborts.
    pub fault: Option<Fault>,
    /// Copies to further pools; at most as many as [`MOST_MIRRORS`](super::MOST_MIRRORS).
    pub mirrors: Box<[Mirror]>,
}

/// Delays and aborts.
pub struct Fault {
    /// What is injected, unless a request asks for something itself.
    pub plan: FaultPlan,
    /// Fields a request must have.
    pub when: Box<[(HeaderName, ValueCondition)]>,
    /// Whom it is for.
    pub guard: Guard,
    /// Whether requests may ask for a fault themselves.
    pub by_header: bool,
    /// Counts what was injected.
    pub metrics: Arc<FaultMetrics>,
}

/// What may be injected into a request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FaultPlan {
    /// How long it waits.
    pub delay: Option<(Duration, Chance)>,
    /// What it is answered with.
    pub abort: Option<(Abort, Chance)>,
}

/// What an aborted request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// A status of HTTP.
    Status(u16),
    /// A status of gRPC.
    Grpc(u16),
}

/// A share of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance(f64);

impl Chance {
    /// Every request.
    pub const CERTAIN: Chance = Chance(1.0);

    /// A share from 0 to 1.
    pub fn new(fraction: f64) -> Chance {
        Chance(fraction.clamp(0.0, 1.0))
    }

    /// Whether it takes the request with this random number.
    pub fn takes(self, random: u64) -> bool {
        // 53 bits: from 0 up to, but never, 1.
        ((random >> 11) as f64 / (1_u64 << 53) as f64) < self.0
    }

    /// Whether it takes every request.
    pub fn is_certain(self) -> bool {
        self.0 >= 1.0
    }

    /// The share in percent, as it was written.
    pub fn percent(self) -> f64 {
        (self.0 * 10_000.0).round() / 100.0
    }
}

/// The longest a request may be delayed.
pub const LONGEST_DELAY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_chance_are_never_and_always() {
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(Chance::CERTAIN.takes(random) && Chance::new(1.0).takes(random));
            assert!(!Chance::new(0.0).takes(random));
        }
        assert_eq!(Chance::new(0.001).percent(), 0.1);
    }

    #[test]
    fn a_chance_takes_its_share() {
        let mut taken = 0;
        for number in 0..100_000_u64 {
            let random = crate::snapshot::balance::mix(number);
            taken += u32::from(Chance::new(0.01).takes(random));
        }

        // Six standard deviations; the numbers are always the same.
        assert!((811..1189).contains(&taken), "{taken}");
    }
}
