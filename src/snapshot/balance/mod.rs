//! Choosing an endpoint.
//! It must not know pools' settings beyond how to balance, nor requests beyond a hash.
//! Tables are built with each endpoint set; `pick` runs for every attempt.

mod eligible;
mod ewma;
mod group;
mod hash;
mod ketama;
mod least_request;
mod level;
mod maglev;
mod random;
mod round_robin;
mod sampler;
mod view;
mod warmth;

pub use ewma::{estimate, observe};
pub use hash::{hash_bytes, mix};
pub use level::Rank;
pub use view::LevelShare;
pub use warmth::{warmth, FULL};

use std::time::Duration;

use super::pool::{Algorithm, Balance, Member, SubsetFallback};
use eligible::{Law, Share};
use group::Group;

/// What an algorithm prepares for a set.
///
/// A choice takes no lock and allocates nothing. These rules hold for every algorithm:
/// - A member of weight 0 is draining and never chosen; neither is one already tried for this request.
/// - A member is chosen while it is available: healthy and not ejected.
/// - Members stand in levels by priority and zone distance. Traffic stays in the first level and moves on to the next ones
///   as far as it cannot carry it, by Envoy's rule (see `group`).
/// - Panic: if fewer than `panic_threshold` (50 %) of a level are available, and other levels cannot carry what it
///   cannot, its health and ejection are ignored, as in Envoy (`healthy_panic_threshold`). The few would not carry the
///   load of all, and so much bad news is more often wrong than right. At 0 % it never happens.
/// - If none is available, none is chosen. Envoy would panic here too; but a pool that is wholly down is better told at
///   once, with its own cause, than by a time-out per attempt. Health checks and the end of ejection bring it back.
/// - A newcomer has a growing part of its weight while `slow_start` lasts; the consistent algorithms know no such thing.
///
/// Members beyond position 65,534 are never chosen, because `tried` could not name them.
pub struct Table {
    whole: Group,
    /// In the order of [`Balance::subsets`].
    subsets: Box<[Group]>,
    fallback: SubsetFallback,
    law: Law,
}

/// What a choice depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Hash of the request's key by [`hash_bytes`], for the consistent algorithms and sessions told by a header or the
    /// client's address; `None` spreads.
    pub hash: Option<u64>,
    /// Positions in the set already tried for this request.
    pub tried: &'a [u16],
    /// Nanoseconds of `observe::clock`.
    pub now: u64,
    /// Random bits.
    pub random: u64,
    /// Which of the pool's subsets to choose from; `None` for all members.
    pub subset: Option<u16>,
}

impl Table {
    /// Prepares an algorithm for these members, with every other setting at its default.
    pub fn new(algorithm: Algorithm, members: &[Member]) -> Table {
        Table::with(&Balance::of(algorithm), members)
    }

    /// Prepares everything for these members. Slow path, once for each level and subset: `maglev` takes 0.5 to 2 ms
    /// whatever the set, `ketama` up to 12 ms, `round_robin` 6 ms for 1,000 members of unlike weights and 0.5 s for
    /// 10,000, the others microseconds.
    pub fn with(balance: &Balance, members: &[Member]) -> Table {
        let subsets = balance.subsets.iter();
        let subset = |subset: &super::pool::Labels| {
            Group::new(balance, members, |member| member.has(subset))
        };
        Table {
            whole: Group::new(balance, members, |_| true),
            subsets: subsets.map(subset).collect(),
            fallback: balance.subset_fallback,
            law: Law {
                panic: balance.panic_threshold,
                slow_start: nanos(balance.slow_start),
                bound: balance.load_bound,
                full: u32::MAX,
            },
        }
    }

    /// The position of the chosen member, or `None` when none may be chosen. `members` are those the table was made for.
    pub fn pick(&self, members: &[Member], choice: &Choice<'_>) -> Option<usize> {
        self.pick_below(members, choice, u32::MAX)
    }

    /// As [`Table::pick`], passing over members with so many requests under way, as if they were not there.
    pub fn pick_below(&self, members: &[Member], choice: &Choice<'_>, full: u32) -> Option<usize> {
        let law = Law { full, ..self.law };
        let at = match choice.subset {
            None => self.whole.pick(members, choice, &law),
            Some(subset) => self.pick_subset(subset, members, choice, &law),
        };
        at.map(usize::from)
    }

    fn pick_subset(
        &self,
        subset: u16,
        members: &[Member],
        choice: &Choice<'_>,
        law: &Law,
    ) -> Option<u16> {
        let subset = self.subsets.get(usize::from(subset));
        debug_assert!(subset.is_some(), "a rule's subset is one of its pool's");
        let found = subset.and_then(|group| group.pick(members, choice, law));
        match self.fallback {
            SubsetFallback::None => found,
            SubsetFallback::Any => found.or_else(|| self.whole.pick(members, choice, law)),
        }
    }

    /// Whether health and ejection are ignored now in some level, because too few of its members are available.
    /// Counts all members: for views and metrics, not for every request.
    pub fn is_panicking(&self, members: &[Member], now: u64) -> bool {
        let loads = self.whole.loads(members, &self.law, now);
        loads.iter().any(|load| load.share == Share::Few)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
