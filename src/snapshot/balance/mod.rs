//! Choosing an endpoint.
//! It must not know pools' settings beyond the algorithm, nor requests beyond a hash.
//! Tables are built with each endpoint set; `pick` runs for every attempt.

use super::pool::{Algorithm, Member};

/// What an algorithm prepares for a set.
pub struct Table {
    algorithm: Algorithm,
}

/// What a choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// Hash of the request's key, for the consistent algorithms; `None` spreads.
    pub hash: Option<u64>,
    /// Positions in the set already tried for this request.
    pub tried: &'a [u16],
    /// Nanoseconds of `observe::clock`.
    pub now: u64,
    /// Random bits.
    pub random: u64,
}

impl Table {
    /// Prepares an algorithm for these members.
    pub fn new(algorithm: Algorithm, _members: &[Member]) -> Table {
        Table { algorithm }
    }

    /// The position of the chosen member, or `None` when none may be chosen.
    pub fn pick(&self, members: &[Member], choice: &Choice<'_>) -> Option<usize> {
        let _ = self.algorithm;
        (0..members.len()).find(|at| {
            !choice.tried.contains(&(*at as u16))
                && members[*at].endpoint.state.is_available(choice.now)
        })
    }
}
