//! Fewest requests in flight for the weight, among two random members.
//! It must not know latency.
//! Called by `Table::pick` for pools with `algorithm: least_request`.

use std::sync::atomic::Ordering::Relaxed;

use super::eligible::Eligible;
use super::hash::Random;
use super::sampler::Sampler;

/// Power of two choices (Mitzenmacher, IEEE TPDS 12(10), 2001) on requests in flight divided by weight, as Envoy's
/// `LEAST_REQUEST`. Two choices instead of the minimum over all: as good within a constant, O(1), and many proxies do
/// not all run to the same endpoint.
pub(super) struct LeastRequest {
    sampler: Sampler,
}

impl LeastRequest {
    pub(super) fn new(weighted: &[(u16, u32)]) -> LeastRequest {
        LeastRequest {
            sampler: Sampler::new(weighted),
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        let mut random = Random::new(eligible.choice().random);
        let (first, second) = self.sampler.pair(eligible, &mut random)?;
        let Some(second) = second else {
            return Some(first);
        };
        let one = eligible.member(first)?;
        let two = eligible.member(second)?;
        let one_in_flight = u64::from(one.endpoint.state.in_flight.load(Relaxed));
        let two_in_flight = u64::from(two.endpoint.state.in_flight.load(Relaxed));
        // in_flight / weight compared without dividing. Idle members tie, and a tie follows the weights.
        if two_in_flight * u64::from(one.weight) < one_in_flight * u64::from(two.weight) {
            Some(second)
        } else {
            Some(first)
        }
    }
}
