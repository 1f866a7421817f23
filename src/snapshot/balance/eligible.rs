//! Who may be chosen: the rules that every algorithm shares, asked one member at a time.
//! It must not know in which order an algorithm asks, nor why a member is unhealthy or ejected.
//! Made by a level for each choice; the algorithms call it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::hash::Random;
use super::warmth::{warmth, FULL};
use super::Choice;
use crate::snapshot::pool::Member;

/// What holds for every choice from a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    /// Below this share of available members health is ignored, 0 to 1; 0 for never.
    pub(super) panic: f64,
    /// How long a newcomer's weight grows, in nanoseconds; 0 for not.
    pub(super) slow_start: u64,
    /// How many times the mean load a member of a consistent algorithm takes; 0 for any load.
    pub(super) bound: f64,
    /// A member with so many requests under way is passed over.
    pub(super) full: u32,
}

/// The rules applied to one choice.
///
/// Members are counted only once a candidate turns out to be unavailable, so that a pool in order pays nothing.
pub(super) struct Eligible<'a> {
    members: &'a [Member],
    /// Positions of the members to choose from.
    among: &'a [u16],
    choice: &'a Choice<'a>,
    law: &'a Law,
    census: &'a Census,
    share: Cell<Option<Share>>,
    /// Load for one unit of weight that a member may reach; found out once.
    limit: Cell<Option<f64>>,
}

impl<'a> Eligible<'a> {
    /// `share` is `None` unless someone counted already.
    pub(super) fn new(
        members: &'a [Member],
        among: &'a [u16],
        choice: &'a Choice<'a>,
        law: &'a Law,
        census: &'a Census,
        share: Option<Share>,
    ) -> Eligible<'a> {
        Eligible {
            members,
            among,
            choice,
            law,
            census,
            share: Cell::new(share),
            limit: Cell::new(None),
        }
    }

    /// Whether the member may be chosen: untried, and available unless the pool panics. Weight 0 is not asked about
    /// here: such members are in no table.
    pub(super) fn allows(&self, at: u16) -> bool {
        if self.choice.tried.contains(&at) {
            return false;
        }
        let Some(member) = self.members.get(usize::from(at)) else {
            debug_assert!(false, "a table is used with the members it was built for");
            return false;
        };
        let full = self.law.full;
        if full != u32::MAX && member.endpoint.state.in_flight.load(Relaxed) >= full {
            return false;
        }
        member.endpoint.state.is_available(self.choice.now) || self.share() == Share::Few
    }

    /// Whether a member that may be chosen takes its turn: always, unless it is a newcomer. Then it takes as many of its
    /// turns as its weight has grown to.
    pub(super) fn takes_turn(&self, at: u16, random: &mut Random) -> bool {
        if self.law.slow_start == 0 {
            return true;
        }
        let grown = self.grown(at);
        grown >= FULL || random.below(FULL) < grown
    }

    /// The part of a member's weight that counts now, of [`FULL`].
    fn grown(&self, at: u16) -> u64 {
        let member = self.members.get(usize::from(at));
        member.map_or(FULL, |member| {
            warmth(&member.endpoint.state, self.choice.now, self.law.slow_start)
        })
    }

    /// The weight that load is measured against, in units that only compare.
    pub(super) fn weight(&self, member: &Member) -> u64 {
        if self.law.slow_start == 0 {
            return u64::from(member.weight);
        }
        let state = &member.endpoint.state;
        u64::from(member.weight) * warmth(state, self.choice.now, self.law.slow_start)
    }

    /// The same in the units of weights.
    pub(super) fn weight_of(&self, member: &Member) -> f64 {
        let weight = self.weight(member) as f64;
        if self.law.slow_start == 0 {
            weight
        } else {
            weight / FULL as f64
        }
    }

    /// Whether loads are bounded at all.
    pub(super) fn is_bounded(&self) -> bool {
        self.law.bound > 0.0
    }

    /// Whether one request more leaves the member within the bound on its load: so many times its part of all requests
    /// of the members that may be chosen, the one to place among them, and always one (Mirrokni, Thorup, Zadimoghaddam:
    /// consistent hashing with bounded loads, SODA 2018).
    pub(super) fn carries(&self, at: u16) -> bool {
        let Some(member) = self.members.get(usize::from(at)) else {
            return false;
        };
        let limit = self.limit.get().unwrap_or_else(|| {
            let limit =
                self.census.load(self.members, self.among, self.choice.now) * self.law.bound;
            self.limit.set(Some(limit));
            limit
        });
        let most = (limit * f64::from(member.weight)).ceil().max(1.0);
        f64::from(member.endpoint.state.in_flight.load(Relaxed)) + 1.0 <= most
    }

    /// The positions to choose from.
    pub(super) fn among(&self) -> &'a [u16] {
        self.among
    }

    /// Whether it is known by now that no member is available; then looking further is in vain.
    pub(super) fn is_hopeless(&self) -> bool {
        self.share.get() == Some(Share::None)
    }

    /// One of all eligible members but `except`, at random by weight, in one pass over all members. The last resort
    /// after an algorithm's own draws met only members that may not be chosen.
    pub(super) fn scan(&self, random: &mut Random, except: Option<u16>) -> Option<u16> {
        let mut chosen = None;
        let mut weights = 0;
        for at in self.among.iter().copied() {
            if self.is_hopeless() {
                return None;
            }
            if Some(at) == except || !self.allows(at) {
                continue;
            }
            let Some(member) = self.member(at) else {
                continue;
            };
            let weight = self.weight(member);
            weights += weight;
            if random.below(weights) < weight {
                chosen = Some(at);
            }
        }
        chosen
    }

    pub(super) fn member(&self, at: u16) -> Option<&'a Member> {
        self.members.get(usize::from(at))
    }

    pub(super) fn choice(&self) -> &Choice<'a> {
        self.choice
    }

    fn share(&self) -> Share {
        match self.share.get() {
            Some(share) => share,
            None => {
                let now = self.choice.now;
                let share = self
                    .census
                    .share(self.members, self.among, self.law.panic, now);
                self.share.set(Some(share));
                share
            }
        }
    }
}

/// How many of the members that may have traffic at all are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// As many as the panic threshold wants.
    Enough,
    /// Fewer, but one at least: health is ignored.
    Few,
    /// Not one.
    None,
}

impl Share {
    /// What so many of all mean.
    pub(super) fn of(available: usize, all: usize, panic: f64) -> Share {
        match available {
            0 => Share::None,
            _ if (available as f64) < panic * all as f64 => Share::Few,
            _ => Share::Enough,
        }
    }

    /// Counts the members at these positions.
    pub(super) fn count(members: &[Member], among: &[u16], panic: f64, now: u64) -> Share {
        Share::of(available(members, among, now), among.len(), panic)
    }
}

/// How many of the members at these positions are available.
pub(super) fn available(members: &[Member], among: &[u16], now: u64) -> usize {
    let some = among.iter().filter_map(|at| members.get(usize::from(*at)));
    some.filter(|member| member.endpoint.state.is_available(now))
        .count()
}

/// The last counts of a big set, kept for a moment: when half of 1,000 members are down nearly every choice meets one,
/// and each count touches 1,000 cache lines.
#[derive(Default)]
pub(super) struct Census {
    share: AtomicU64,
    load: AtomicU64,
    load_at: AtomicU64,
}

impl Census {
    fn share(&self, members: &[Member], among: &[u16], panic: f64, now: u64) -> Share {
        if among.len() <= COUNTED_ALWAYS {
            return Share::count(members, among, panic, now);
        }
        let (taken, share) = unpack(self.share.load(Relaxed));
        match share {
            Some(share) if taken.abs_diff(now) < FRESH_NANOS => share,
            _ => {
                let share = Share::count(members, among, panic, now);
                self.share.store(pack(now, share), Relaxed);
                share
            }
        }
    }

    /// Requests in flight and one more, for each unit of weight, at members that are available; at all if none is.
    fn load(&self, members: &[Member], among: &[u16], now: u64) -> f64 {
        let is_fresh = self.load_at.load(Relaxed).abs_diff(now) < LOAD_FRESH_NANOS;
        if among.len() > COUNTED_ALWAYS && is_fresh {
            return f64::from_bits(self.load.load(Relaxed));
        }
        let sum = |only_available: bool| {
            let some = among.iter().filter_map(|at| members.get(usize::from(*at)));
            let some = some.filter(|one| !only_available || one.endpoint.state.is_available(now));
            some.fold((1_u64, 0_u64), |(requests, weights), member| {
                let in_flight = member.endpoint.state.in_flight.load(Relaxed);
                (
                    requests + u64::from(in_flight),
                    weights + u64::from(member.weight),
                )
            })
        };
        let (mut requests, mut weights) = sum(true);
        if weights == 0 {
            (requests, weights) = sum(false);
        }
        let load = requests as f64 / weights.max(1) as f64;
        self.load.store(load.to_bits(), Relaxed);
        self.load_at.store(now, Relaxed);
        load
    }
}

/// Moment and share in one word, so that neither is read without the other; 0 is no count. The upper 62 bits of
/// nanoseconds last 146 years.
fn pack(now: u64, share: Share) -> u64 {
    let code = match share {
        Share::Enough => 1,
        Share::Few => 2,
        Share::None => 3,
    };
    (now << 2) | code
}

fn unpack(word: u64) -> (u64, Option<Share>) {
    let share = match word & 3 {
        1 => Some(Share::Enough),
        2 => Some(Share::Few),
        3 => Some(Share::None),
        _ => None,
    };
    (word >> 2, share)
}

/// Up to so many members are counted whenever the share is needed.
pub(super) const COUNTED_ALWAYS: usize = 64;

/// How long a count of more members is believed. A pool enters and leaves panic so much late.
pub(super) const FRESH_NANOS: u64 = 10_000_000;

/// The same for a sum of loads, which move with every request.
const LOAD_FRESH_NANOS: u64 = 1_000_000;
