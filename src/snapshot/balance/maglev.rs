//! Maglev hashing.
//! It must not know what was hashed.
//! Called by `Table::pick` for pools with `algorithm: maglev`.

use super::around;
use super::eligible::Eligible;
use super::hash::{fnv1a, mix, Random};
use crate::snapshot::pool::Member;

/// The look-up table of Maglev (Eisenbud et al., NSDI 2016, section 3.4) with 65537 places, as many as Envoy's, and
/// Envoy's turns for weights.
///
/// Members fill the table in the order of their addresses, so replicas agree however their sources sort. A member that
/// is out does not rebuild the table: its keys are hashed again, up to eight times, then go to the next eligible
/// member in the order of addresses. So keys of the others stay where they are, keys of the lost one spread by weight,
/// and they return when it does.
///
/// A table takes 128 KiB whatever its members. Size is not made to fit: another size would move nearly all keys.
pub(super) struct Maglev {
    places: Box<[u16]>,
    /// Positions by address.
    order: Box<[u16]>,
}

impl Maglev {
    pub(super) fn new(members: &[Member], weighted: &[(u16, u32)]) -> Maglev {
        let mut sorted = weighted.to_vec();
        sorted.sort_by_key(|(at, _)| &members[usize::from(*at)].endpoint.label);
        Maglev {
            places: fill(members, &sorted),
            order: sorted.iter().map(|(at, _)| *at).collect(),
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        if eligible.is_bounded() {
            let carries = |at| eligible.allows(at) && eligible.carries(at);
            if let Some(at) = self.find(eligible, carries) {
                return Some(at);
            }
        }
        self.find(eligible, |at| eligible.allows(at))
    }

    fn find(&self, eligible: &Eligible<'_>, may: impl Fn(u16) -> bool) -> Option<u16> {
        let key = eligible.choice().hash.unwrap_or(eligible.choice().random);
        let mut hashes = Random::new(key);
        for _ in 0..HASHES {
            let at = self.places[(hashes.bits() % PLACES) as usize];
            if may(at) {
                return Some(at);
            }
            if eligible.is_hopeless() {
                return None;
            }
        }
        let start = hashes.below(self.order.len() as u64) as usize;
        around(&self.order, start).find(|at| may(*at))
    }
}

/// A member's way through all places: from `next` by `skip`, which is prime to their number.
struct Walk {
    at: u16,
    next: u32,
    skip: u32,
    weight: u64,
    due: u64,
}

impl Walk {
    fn new(member: &Member, at: u16, weight: u32) -> Walk {
        let hash = fnv1a(member.endpoint.label.as_bytes());
        Walk {
            at,
            next: (mix(hash) % PLACES) as u32,
            skip: (mix(!hash) % (PLACES - 1)) as u32 + 1,
            weight: u64::from(weight),
            due: 0,
        }
    }

    /// The next place on the way that nobody has.
    fn claim(&mut self, places: &mut [u16]) {
        while places[self.next as usize] != FREE {
            self.advance();
        }
        places[self.next as usize] = self.at;
        self.advance();
    }

    fn advance(&mut self) {
        self.next += self.skip;
        if self.next >= PLACES as u32 {
            self.next -= PLACES as u32;
        }
    }
}

/// Fills all places in rounds. The heaviest members have a turn in every round, others whenever their weights add up to
/// the heaviest; everyone has one in the first.
fn fill(members: &[Member], sorted: &[(u16, u32)]) -> Box<[u16]> {
    let heaviest = sorted.iter().map(|(_, weight)| *weight).max();
    let heaviest = u64::from(heaviest.unwrap_or(1));
    let mut walks: Vec<Walk> = sorted
        .iter()
        .map(|(at, weight)| Walk::new(&members[usize::from(*at)], *at, *weight))
        .collect();
    let mut places = vec![FREE; PLACES as usize].into_boxed_slice();
    let mut free = if walks.is_empty() { 0 } else { places.len() };
    let mut round = 0;
    while free > 0 {
        round += 1;
        for walk in &mut walks {
            if round * walk.weight >= walk.due && free > 0 {
                walk.due += heaviest;
                walk.claim(&mut places);
                free -= 1;
            }
        }
    }
    places
}

const PLACES: u64 = 65_537;

/// No member has this position: sets end before it.
const FREE: u16 = u16::MAX;

const HASHES: usize = 8;
