//! Choosing an endpoint.
//! It must not know pools' settings beyond the algorithm, nor requests beyond a hash.
//! Tables are built with each endpoint set; `pick` runs for every attempt.

mod eligible;
mod ewma;
mod hash;
mod ketama;
mod least_request;
mod maglev;
mod random;
mod round_robin;
mod sampler;

pub use ewma::observe;
pub use hash::{hash_bytes, mix};

use super::pool::{Algorithm, Member};
use eligible::{Census, Eligible, Share};

/// What an algorithm prepares for a set.
///
/// A choice takes no lock and allocates nothing. These rules hold for every algorithm:
/// - A member of weight 0 is draining and never chosen; neither is one already tried for this request.
/// - A member is chosen while it is available: healthy and not ejected.
/// - Panic: if fewer than half of the members with a weight are available, health and ejection are ignored, as in Envoy
///   (`healthy_panic_threshold`, 50 %). The few would not carry the load of all, and so much bad news is more often
///   wrong than right.
/// - If none is available, none is chosen. Envoy would panic here too; but a pool that is wholly down is better told at
///   once, with its own cause, than by a time-out per attempt. Health checks and the end of ejection bring it back.
///
/// Members beyond position 65,534 are never chosen, because `tried` could not name them.
pub struct Table {
    prepared: Prepared,
    census: Census,
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

/// What a choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// Hash of the request's key by [`hash_bytes`], for the consistent algorithms; `None` spreads.
    pub hash: Option<u64>,
    /// Positions in the set already tried for this request.
    pub tried: &'a [u16],
    /// Nanoseconds of `observe::clock`.
    pub now: u64,
    /// Random bits.
    pub random: u64,
}

impl Table {
    /// Prepares an algorithm for these members. Slow path: `maglev` takes 0.5 to 2 ms whatever the set, `ketama` up to
    /// 12 ms, `round_robin` 6 ms for 1,000 members of unlike weights and 0.5 s for 10,000, the others microseconds.
    pub fn new(algorithm: Algorithm, members: &[Member]) -> Table {
        Table {
            prepared: Prepared::new(algorithm, members),
            census: Census::default(),
        }
    }

    /// The position of the chosen member, or `None` when none may be chosen. `members` are those of [`Table::new`].
    pub fn pick(&self, members: &[Member], choice: &Choice<'_>) -> Option<usize> {
        self.pick_below(members, choice, u32::MAX)
    }

    /// As [`Table::pick`], passing over members with so many requests under way, as if they were not there.
    pub fn pick_below(&self, members: &[Member], choice: &Choice<'_>, full: u32) -> Option<usize> {
        let eligible = Eligible::new(members, choice, &self.census, full);
        let at = match &self.prepared {
            Prepared::Empty => None,
            Prepared::Single(at) => Some(*at).filter(|at| eligible.allows(*at)),
            Prepared::Ewma(ewma) => ewma.pick(&eligible),
            Prepared::RoundRobin(round_robin) => round_robin.pick(&eligible),
            Prepared::LeastRequest(least_request) => least_request.pick(&eligible),
            Prepared::Random(random) => random.pick(&eligible),
            Prepared::Maglev(maglev) => maglev.pick(&eligible),
            Prepared::Ketama(ketama) => ketama.pick(&eligible),
        };
        at.map(usize::from)
    }

    /// Whether health and ejection are ignored now because fewer than half of the members are available, but some are.
    /// Counts all members: for views and metrics, not for every request.
    pub fn is_panicking(&self, members: &[Member], now: u64) -> bool {
        Share::count(members, now) == Share::Few
    }
}

impl Prepared {
    fn new(algorithm: Algorithm, members: &[Member]) -> Prepared {
        let weighted: Vec<(u16, u32)> = (0..u16::MAX)
            .zip(members)
            .filter(|(_, member)| member.weight > 0)
            .map(|(at, member)| (at, member.weight))
            .collect();
        if let [] | [_] = *weighted {
            return weighted
                .first()
                .map_or(Prepared::Empty, |(at, _)| Prepared::Single(*at));
        }
        match algorithm {
            Algorithm::Ewma => Prepared::Ewma(ewma::Ewma::new(&weighted)),
            Algorithm::RoundRobin => Prepared::RoundRobin(round_robin::RoundRobin::new(&weighted)),
            Algorithm::LeastRequest => {
                Prepared::LeastRequest(least_request::LeastRequest::new(&weighted))
            }
            Algorithm::Random => Prepared::Random(random::WeightedRandom::new(&weighted)),
            Algorithm::Maglev => Prepared::Maglev(maglev::Maglev::new(members, &weighted)),
            Algorithm::Ketama => Prepared::Ketama(ketama::Ketama::new(members, &weighted)),
        }
    }
}

/// Whether one more member may be ejected now: always if none is, else while the share of ejected ones with it stays
/// within `max_share`, 0 to 1, as Envoy's `max_ejection_percent`. Members of weight 0 do not count. Callers on several
/// threads may both be told yes and exceed the share by one each; the next question counts them.
pub fn may_eject(members: &[Member], now: u64, max_share: f64) -> bool {
    let weighted = members.iter().filter(|member| member.weight > 0);
    let (all, ejected) = weighted.fold((0_u32, 0_u32), |(all, ejected), member| {
        let out = member.endpoint.state.is_ejected(now);
        (all + 1, ejected + u32::from(out))
    });
    ejected == 0 || f64::from(ejected + 1) <= max_share * f64::from(all)
}

/// The whole list once, from a start within it or at its end.
fn around(list: &[u16], start: usize) -> impl Iterator<Item = u16> + '_ {
    let (before, after) = list.split_at(start);
    after.iter().chain(before).copied()
}

#[cfg(test)]
mod tests;
