//! A level: members that stand beside each other, and what the algorithm prepared for them.
//! It must not know other levels.
//! Made by a group for each of its levels; asked for every choice.

use super::eligible::{available, Census, Eligible, Law, Share};
use super::{ewma, ketama, least_request, maglev, random, round_robin, Choice};
use crate::snapshot::pool::{Algorithm, Balance, Member};

/// Members of one priority and zone distance.
pub(super) struct Level {
    /// Where it stands: priority, then zone distance.
    pub(super) rank: Rank,
    /// Positions of its members, all with a weight.
    pub(super) among: Box<[u16]>,
    prepared: Prepared,
    /// Where sessions go that are told by a hash, beside an algorithm that does not hash.
    sticky: Option<maglev::Maglev>,
    census: Census,
}

/// Where a level stands among others; lower is asked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The endpoints' priority; 0 is first.
    pub priority: u8,
    /// 0 for the own zone, then the zones of `failover`, then all others. 0 without zones.
    pub zone: u8,
}

impl Level {
    pub(super) fn new(
        rank: Rank,
        balance: &Balance,
        members: &[Member],
        weighted: &[(u16, u32)],
    ) -> Level {
        let hashes = balance.affinity.as_ref().is_some_and(|it| it.is_hashed());
        Level {
            rank,
            among: weighted.iter().map(|(at, _)| *at).collect(),
            prepared: Prepared::new(balance, members, weighted),
            sticky: (hashes && weighted.len() > 1).then(|| maglev::Maglev::new(members, weighted)),
            census: Census::default(),
        }
    }

    /// A member of the level; `share` is what is known of it already.
    pub(super) fn pick(
        &self,
        members: &[Member],
        choice: &Choice<'_>,
        law: &Law,
        share: Option<Share>,
    ) -> Option<u16> {
        let eligible = Eligible::new(members, &self.among, choice, law, &self.census, share);
        if let (Some(sticky), Some(_)) = (&self.sticky, choice.hash) {
            return sticky.pick(&eligible);
        }
        match &self.prepared {
            Prepared::Empty => None,
            Prepared::Single(at) => Some(*at).filter(|at| eligible.allows(*at)),
            Prepared::Ewma(ewma) => ewma.pick(&eligible),
            Prepared::RoundRobin(round_robin) => round_robin.pick(&eligible),
            Prepared::LeastRequest(least_request) => least_request.pick(&eligible),
            Prepared::Random(random) => random.pick(&eligible),
            Prepared::Maglev(maglev) => maglev.pick(&eligible),
            Prepared::Ketama(ketama) => ketama.pick(&eligible),
        }
    }

    /// How many members are available.
    pub(super) fn available(&self, members: &[Member], now: u64) -> usize {
        available(members, &self.among, now)
    }
}

enum Prepared {
    /// No member has a weight.
    Empty,
    /// One member has; nothing to choose.
    Single(u16),
    Ewma(ewma::Ewma),
    RoundRobin(round_robin::RoundRobin),
    LeastRequest(least_request::LeastRequest),
    Random(random::WeightedRandom),
    Maglev(maglev::Maglev),
    Ketama(ketama::Ketama),
}

impl Prepared {
    fn new(balance: &Balance, members: &[Member], weighted: &[(u16, u32)]) -> Prepared {
        if let [] | [_] = *weighted {
            return weighted
                .first()
                .map_or(Prepared::Empty, |(at, _)| Prepared::Single(*at));
        }
        let choices = balance.choices;
        match balance.algorithm {
            Algorithm::Ewma => Prepared::Ewma(ewma::Ewma::new(weighted, choices)),
            Algorithm::RoundRobin => Prepared::RoundRobin(round_robin::RoundRobin::new(weighted)),
            Algorithm::LeastRequest => {
                Prepared::LeastRequest(least_request::LeastRequest::new(weighted, choices))
            }
            Algorithm::Random => Prepared::Random(random::WeightedRandom::new(weighted)),
            Algorithm::Maglev => Prepared::Maglev(maglev::Maglev::new(members, weighted)),
            Algorithm::Ketama => Prepared::Ketama(ketama::Ketama::new(members, weighted)),
        }
    }
}
