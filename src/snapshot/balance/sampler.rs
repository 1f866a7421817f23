//! Weighted draws in constant time, single and in pairs for the power of two choices.
//! It must not know how a pair is compared.
//! Called by `ewma`, `least_request` and `random`.

use super::eligible::Eligible;
use super::hash::Random;
use crate::snapshot::pool::{Choices, Member};

/// Members with a weight, drawn by weight: an alias table built by Vose's method (IEEE TSE 17(9), 1991), one
/// multiplication and one comparison for a draw however many members there are.
pub(super) struct Sampler {
    columns: Box<[Column]>,
    heavy: Option<Heavy>,
}

/// A column of the alias table: its own member up to the threshold, the other above it. 8 bytes, so eight share a
/// cache line.
#[derive(Clone, Copy)]
struct Column {
    keep: u32,
    own: u16,
    other: u16,
}

/// The member with more than half of all weight, of which there is one at most.
struct Heavy {
    at: u16,
    /// How often, in 2^32, it is compared with another although it was drawn twice.
    compare: u32,
}

impl Sampler {
    /// A sampler for positions and their weights, none of them zero.
    pub(super) fn new(weighted: &[(u16, u32)]) -> Sampler {
        let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
        Sampler {
            columns: columns(weighted, total),
            heavy: heavy(weighted, total),
        }
    }

    /// An eligible member by weight.
    pub(super) fn one(&self, eligible: &Eligible<'_>, random: &mut Random) -> Option<u16> {
        for _ in 0..DRAWS {
            let at = self.draw(random);
            if eligible.allows(at) && eligible.takes_turn(at, random) {
                return Some(at);
            }
        }
        eligible.scan(random, None)
    }

    /// Two eligible members to compare, or one that needs no comparison. A tie belongs to the first, whose draws follow
    /// the weights exactly.
    ///
    /// Equal weights are always compared two by two. A member with more than half of the weight often comes alone, so
    /// that each of the others is compared about twice as often as its weight says, and never more: two endpoints of
    /// 9 to 1 that always met would share evenly whenever the pool is not busy.
    pub(super) fn pair(
        &self,
        eligible: &Eligible<'_>,
        random: &mut Random,
    ) -> Option<(u16, Option<u16>)> {
        let first = self.one(eligible, random)?;
        let mut asked = false;
        for _ in 0..DRAWS {
            let second = self.draw(random);
            if second == first {
                if !asked && self.stands_alone(first, random) {
                    return Some((first, None));
                }
                asked = true;
            } else if eligible.allows(second) {
                // A newcomer that leaves out its turn leaves the first alone: looking on would meet it again and again
                // in a small pool, and compare it in nearly every choice.
                let second = Some(second).filter(|at| eligible.takes_turn(*at, random));
                return Some((first, second));
            }
        }
        Some((first, self.other(first, eligible, random)))
    }

    /// The best of some eligible members by `is_better(challenger, best)`. Ties belong to the first drawn, so that idle
    /// members have traffic by weight.
    pub(super) fn best(
        &self,
        choices: Choices,
        eligible: &Eligible<'_>,
        random: &mut Random,
        is_better: impl Fn(&Member, &Member) -> bool,
    ) -> Option<u16> {
        let (first, second) = match choices {
            Choices::Of(2) => self.pair(eligible, random)?,
            Choices::Of(_) | Choices::All => (self.one(eligible, random)?, None),
        };
        let mut best = (first, eligible.member(first)?);
        let mut challenge = |at: u16| {
            if let Some(member) = eligible.member(at).filter(|one| is_better(one, best.1)) {
                best = (at, member);
            }
        };
        match choices {
            Choices::Of(2) => second.into_iter().for_each(challenge),
            Choices::Of(count) => {
                for _ in 1..count {
                    let at = self.draw(random);
                    if eligible.allows(at) && eligible.takes_turn(at, random) {
                        challenge(at);
                    }
                }
            }
            Choices::All => {
                for at in eligible.among().iter().copied() {
                    if at != first && eligible.allows(at) && eligible.takes_turn(at, random) {
                        challenge(at);
                    }
                }
            }
        }
        Some(best.0)
    }

    fn draw(&self, random: &mut Random) -> u16 {
        let bits = random.bits();
        let column = ((bits >> 32) * self.columns.len() as u64) >> 32;
        match self.columns.get(column as usize) {
            Some(column) if bits as u32 <= column.keep => column.own,
            Some(column) => column.other,
            None => u16::MAX,
        }
    }

    fn stands_alone(&self, at: u16, random: &mut Random) -> bool {
        match &self.heavy {
            Some(heavy) if heavy.at == at => random.bits() as u32 > heavy.compare,
            _ => false,
        }
    }

    /// An eligible member that is not `first`: the next one from a random start. Reached when draws by weight keep
    /// meeting `first` or members that may not be chosen; a tie still goes to `first`, so that weights keep their meaning.
    fn other(&self, first: u16, eligible: &Eligible<'_>, random: &mut Random) -> Option<u16> {
        let start = random.below(self.columns.len() as u64) as usize;
        let (before, after) = self.columns.split_at(start);
        let around = after.iter().chain(before).map(|column| column.own);
        around
            .filter(|at| *at != first)
            .find(|at| eligible.allows(*at))
    }
}

fn columns(weighted: &[(u16, u32)], total: u64) -> Box<[Column]> {
    let count = weighted.len() as u64;
    // Each column holds `total`; weights are scaled so that they fill all columns exactly, in integers.
    let mut left: Vec<u64> = weighted
        .iter()
        .map(|(_, weight)| u64::from(*weight) * count)
        .collect();
    let mut columns: Vec<Column> = weighted
        .iter()
        .map(|(at, _)| Column {
            keep: u32::MAX,
            own: *at,
            other: *at,
        })
        .collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..left.len()).partition(|column| left[*column] < total);
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        columns[poor].keep = part(left[poor], total);
        columns[poor].other = columns[rich].own;
        left[rich] -= total - left[poor];
        if left[rich] < total {
            small.push(rich);
        } else {
            large.push(rich);
        }
    }
    columns.into()
}

fn heavy(weighted: &[(u16, u32)], total: u64) -> Option<Heavy> {
    let (at, weight) = weighted
        .iter()
        .find(|(_, weight)| u64::from(*weight) * 2 > total)?;
    // With p for its part of the weight, the others are to be in a pair in 2(1-p) of choices. Draws alone give
    // (1-p)(1+p); the rest is p * p times this.
    let odds = (total - u64::from(*weight)) as f64 / f64::from(*weight);
    let compare = (odds * odds * f64::from(u32::MAX)) as u32;
    Some(Heavy { at: *at, compare })
}

/// `part` of `whole` in 2^32, less one because thresholds are inclusive.
fn part(part: u64, whole: u64) -> u32 {
    let scaled = (u128::from(part) << 32) / u128::from(whole.max(1));
    u32::try_from(scaled.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// Draws before giving up on chance. With half of the members out, one choice in 256 gets past them.
const DRAWS: usize = 8;
