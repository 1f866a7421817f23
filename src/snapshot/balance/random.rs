//! Weighted random choice.
//! It must not know load or latency.
//! Called by `Table::pick` for pools with `algorithm: random`, and for nothing else.

use super::eligible::Eligible;
use super::hash::Random;
use super::sampler::Sampler;

/// Members at random by weight: stateless, and as even as chance over many requests.
pub(super) struct WeightedRandom {
    sampler: Sampler,
}

impl WeightedRandom {
    pub(super) fn new(weighted: &[(u16, u32)]) -> WeightedRandom {
        WeightedRandom {
            sampler: Sampler::new(weighted),
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        let mut random = Random::new(eligible.choice().random);
        self.sampler.one(eligible, &mut random)
    }
}
