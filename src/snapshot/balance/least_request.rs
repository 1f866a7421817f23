//! Fewest requests in flight for the weight, among two random members or more.
//! It must not know latency.
//! Called by `Table::pick` for pools with `algorithm: least_request`.

use std::sync::atomic::Ordering::Relaxed;

use super::eligible::Eligible;
use super::hash::Random;
use super::sampler::Sampler;
use crate::snapshot::pool::{Choices, Member};

/// Power of two choices (Mitzenmacher, IEEE TPDS 12(10), 2001) on requests in flight divided by weight, as Envoy's
/// `LEAST_REQUEST`. Two choices instead of the minimum over all: as good within a constant, O(1), and many proxies do
/// not all run to the same endpoint.
pub(super) struct LeastRequest {
    sampler: Sampler,
    choices: Choices,
}

impl LeastRequest {
    pub(super) fn new(weighted: &[(u16, u32)], choices: Choices) -> LeastRequest {
        LeastRequest {
            sampler: Sampler::new(weighted),
            choices,
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        let mut random = Random::new(eligible.choice().random);
        let load = |member: &Member| u128::from(member.endpoint.state.in_flight.load(Relaxed));
        let weight = |member: &Member| u128::from(eligible.weight(member));
        // in_flight / weight compared without dividing. Idle members tie, and a tie follows the weights.
        self.sampler
            .best(self.choices, eligible, &mut random, |one, best| {
                load(one) * weight(best) < load(best) * weight(one)
            })
    }
}
