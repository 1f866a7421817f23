//! Who may be chosen: the rules that every algorithm shares, asked one member at a time.
//! It must not know in which order an algorithm asks, nor why a member is unhealthy or ejected.
//! Made by `Table::pick` for each choice; the algorithms call it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::hash::Random;
use super::Choice;
use crate::snapshot::pool::Member;

/// The rules applied to one choice.
///
/// Members are counted only once a candidate turns out to be unavailable, so that a pool in order pays nothing.
pub(super) struct Eligible<'a> {
    members: &'a [Member],
    choice: &'a Choice<'a>,
    census: &'a Census,
    /// A member with so many requests under way is passed over.
    full: u32,
    share: Cell<Option<Share>>,
}

impl<'a> Eligible<'a> {
    pub(super) fn new(
        members: &'a [Member],
        choice: &'a Choice<'a>,
        census: &'a Census,
        full: u32,
    ) -> Eligible<'a> {
        Eligible {
            members,
            choice,
            census,
            full,
            share: Cell::new(None),
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
        if self.full != u32::MAX && member.endpoint.state.in_flight.load(Relaxed) >= self.full {
            return false;
        }
        member.endpoint.state.is_available(self.choice.now) || self.share() == Share::Few
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
        for (at, member) in (0..u16::MAX).zip(self.members) {
            if self.is_hopeless() {
                return None;
            }
            if member.weight == 0 || Some(at) == except || !self.allows(at) {
                continue;
            }
            weights += u64::from(member.weight);
            if random.below(weights) < u64::from(member.weight) {
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
                let share = self.census.share(self.members, self.choice.now);
                self.share.set(Some(share));
                share
            }
        }
    }
}

/// How many of the members that may have traffic at all are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// At least half.
    Enough,
    /// Fewer than half, but one at least: the pool panics.
    Few,
    /// Not one.
    None,
}

impl Share {
    /// Counts the members with a weight.
    pub(super) fn count(members: &[Member], now: u64) -> Share {
        let mut all = 0_usize;
        let mut available = 0_usize;
        for member in members.iter().filter(|member| member.weight > 0) {
            all += 1;
            available += usize::from(member.endpoint.state.is_available(now));
        }
        match available {
            0 => Share::None,
            _ if available * 2 < all => Share::Few,
            _ => Share::Enough,
        }
    }
}

/// The last count of a big set, kept for a moment: when half of 1,000 members are down nearly every choice meets one,
/// and each count touches 1,000 cache lines.
#[derive(Default)]
pub(super) struct Census(AtomicU64);

impl Census {
    fn share(&self, members: &[Member], now: u64) -> Share {
        if members.len() <= COUNTED_ALWAYS {
            return Share::count(members, now);
        }
        let (taken, share) = unpack(self.0.load(Relaxed));
        match share {
            Some(share) if taken.abs_diff(now) < FRESH_NANOS => share,
            _ => {
                let share = Share::count(members, now);
                self.0.store(pack(now, share), Relaxed);
                share
            }
        }
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
const COUNTED_ALWAYS: usize = 64;

/// How long a count of more members is believed. A pool enters and leaves panic so much late.
const FRESH_NANOS: u64 = 10_000_000;
