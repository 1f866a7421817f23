//! A group: all members of a pool, or those of a subset, in levels of priority and zone, and how they share the traffic.
//! It must not know how a level chooses.
//! Made by a table; asked for every choice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::eligible::{Law, Share, COUNTED_ALWAYS, FRESH_NANOS};
use super::hash::mix;
use super::level::{Level, Rank};
use super::Choice;
use crate::snapshot::pool::{Balance, Member, ZonePreference};

/// Levels in the order they are asked. One is the usual case and pays for no other.
pub(super) struct Group {
    pub(super) levels: Box<[Level]>,
    /// Members of all levels.
    count: usize,
    recent: Recent,
}

/// What a level has of the traffic now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Its part, of [`WHOLE`].
    pub(super) part: u32,
    /// Whether it may be asked, and how it looks at health.
    pub(super) share: Share,
}

impl Group {
    /// A group of the members that `belongs` names.
    pub(super) fn new(
        balance: &Balance,
        members: &[Member],
        belongs: impl Fn(&Member) -> bool,
    ) -> Group {
        let positions = (0..u16::MAX).zip(members);
        let weighted = positions.filter(|(_, member)| member.weight > 0 && belongs(member));
        let mut by_rank: BTreeMap<Rank, Vec<(u16, u32)>> = BTreeMap::new();
        for (at, member) in weighted {
            let rank = rank(balance, member);
            by_rank.entry(rank).or_default().push((at, member.weight));
        }
        if let Some(zone) = &balance.zone {
            join_small(zone, &mut by_rank);
        }
        if by_rank.is_empty() {
            by_rank.insert(Rank::default(), Vec::new());
        }
        let count = by_rank.values().map(Vec::len).sum();
        let levels: Box<[Level]> = by_rank
            .into_iter()
            .map(|(rank, weighted)| Level::new(rank, balance, members, &weighted))
            .collect();
        Group {
            count,
            recent: Recent::new(levels.len()),
            levels,
        }
    }

    pub(super) fn pick(&self, members: &[Member], choice: &Choice<'_>, law: &Law) -> Option<u16> {
        match &*self.levels {
            [one] => one.pick(members, choice, law, None),
            many => self.pick_level(many, members, choice, law),
        }
    }

    /// By the levels' parts of the traffic; where the level has none left to try, the others in their order.
    fn pick_level(
        &self,
        levels: &[Level],
        members: &[Member],
        choice: &Choice<'_>,
        law: &Law,
    ) -> Option<u16> {
        let mut loads = [NONE; MOST_LEVELS];
        let loads = &mut loads[..levels.len().min(MOST_LEVELS)];
        self.recent_loads(members, law, choice.now, loads);
        // By the key where there is one, so that it meets the same level while shares stay.
        let point = mix(choice.hash.unwrap_or(choice.random) ^ SALT) as u32 & (WHOLE - 1);
        let mut before = 0;
        let chosen = loads.iter().position(|load| {
            before += load.part;
            point < before
        });
        let ask = |at: usize| {
            let load = loads.get(at)?;
            match load.share {
                Share::None => None,
                Share::Enough | Share::Few => {
                    levels[at].pick(members, choice, law, Some(load.share))
                }
            }
        };
        let first = chosen.and_then(ask);
        first.or_else(|| {
            (0..levels.len())
                .filter(|at| Some(*at) != chosen)
                .find_map(ask)
        })
    }

    /// What each level has of the traffic now, counted afresh.
    pub(super) fn loads(&self, members: &[Member], law: &Law, now: u64) -> Vec<Load> {
        let mut loads = vec![NONE; self.levels.len()];
        self.count_loads(members, law, now, &mut loads);
        if let [one] = &mut *loads {
            // A level alone is not a matter of shares: the threshold alone decides.
            let level = &self.levels[0];
            one.share = Share::of(level.available(members, now), level.among.len(), law.panic);
        }
        loads
    }

    fn recent_loads(&self, members: &[Member], law: &Law, now: u64, loads: &mut [Load]) {
        if self.count > COUNTED_ALWAYS && self.recent.read(now, loads) {
            return;
        }
        self.count_loads(members, law, now, loads);
        if self.count > COUNTED_ALWAYS {
            self.recent.write(now, loads);
        }
    }

    fn count_loads(&self, members: &[Member], law: &Law, now: u64, loads: &mut [Load]) {
        let mut counts = [(0, 0); MOST_LEVELS];
        let counts = &mut counts[..loads.len().min(MOST_LEVELS)];
        for (count, level) in counts.iter_mut().zip(&self.levels) {
            *count = (level.available(members, now), level.among.len());
        }
        divide(counts, law.panic, loads);
    }
}

fn rank(balance: &Balance, member: &Member) -> Rank {
    let zone = balance.zone.as_ref();
    Rank {
        priority: member.priority,
        zone: zone.map_or(0, |zone| zone.distance(&member.labels)),
    }
}

/// Where the own zone has too few endpoints to carry its callers, the next zones join it until they are enough.
fn join_small(zone: &ZonePreference, by_rank: &mut BTreeMap<Rank, Vec<(u16, u32)>>) {
    let owns: Vec<Rank> = by_rank
        .keys()
        .filter(|rank| rank.zone == 0)
        .copied()
        .collect();
    for own in owns {
        while by_rank[&own].len() < zone.min_endpoints {
            let mut further = by_rank.keys().filter(|rank| rank.priority == own.priority);
            let Some(next) = further.find(|rank| **rank > own).copied() else {
                break;
            };
            let more = by_rank.remove(&next).unwrap_or_default();
            by_rank.entry(own).or_default().extend(more);
        }
        by_rank.entry(own).or_default().sort_unstable();
    }
}

/// Divides the traffic between levels, given how many members of each are available, as Envoy does between priorities
/// (`LoadBalancerBase::recalculatePerPriorityState`): a level counts as healthy up to 1.4 times its available share, so
/// that it keeps all traffic down to 72 %, and what it cannot carry goes to the next ones. If all together cannot carry
/// everything, each has its part of what they can, and a level below the panic threshold ignores health; if all are
/// below it, members count and not their health. Not Envoy's: where no member at all is available, nobody is chosen.
fn divide(counts: &[(usize, usize)], panic: f64, loads: &mut [Load]) {
    loads.fill(NONE);
    let health = |(available, all): (usize, usize)| {
        let share = available as u64 * u64::from(WHOLE) / (all as u64).max(1);
        (share * 14 / 10).min(u64::from(WHOLE))
    };
    let sum: u64 = counts.iter().copied().map(health).sum();
    if sum == 0 {
        return;
    }
    for (load, (available, all)) in loads.iter_mut().zip(counts) {
        let share = Share::of(*available, *all, panic);
        // Others carry what this one cannot: no reason to send requests to what is down.
        let calm = sum >= u64::from(WHOLE) && share == Share::Few;
        load.share = if calm { Share::Enough } else { share };
    }
    let is_panicking = |(load, count): (&Load, &(usize, usize))| {
        load.share == Share::Few || (panic > 0.0 && count.0 == 0)
    };
    let all_panic = sum < u64::from(WHOLE) && loads.iter().zip(counts).all(is_panicking);
    let all: u64 = counts.iter().map(|(_, all)| *all as u64).sum();
    let mut left = u64::from(WHOLE);
    for (load, count) in loads.iter_mut().zip(counts) {
        let part = match (all_panic, sum < u64::from(WHOLE)) {
            (true, _) => {
                load.share = Share::Few;
                count.1 as u64 * u64::from(WHOLE) / all.max(1)
            }
            (false, true) => health(*count) * u64::from(WHOLE) / sum,
            (false, false) => health(*count),
        };
        load.part = part.min(left) as u32;
        left -= u64::from(load.part);
    }
    // What rounding left over belongs to the first that has anything.
    if let Some(first) = loads.iter_mut().find(|load| load.part > 0) {
        first.part += left as u32;
    }
}

/// The loads of a big group, kept for a moment. Readers may see them a moment apart, which only shifts a choice.
struct Recent {
    at: AtomicU64,
    loads: Box<[AtomicU32]>,
}

impl Recent {
    fn new(levels: usize) -> Recent {
        let levels = if levels > 1 { levels } else { 0 };
        Recent {
            at: AtomicU64::new(0),
            loads: (0..levels).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn read(&self, now: u64, loads: &mut [Load]) -> bool {
        if self.at.load(Relaxed).abs_diff(now) >= FRESH_NANOS {
            return false;
        }
        for (load, word) in loads.iter_mut().zip(&self.loads) {
            let word = word.load(Relaxed);
            *load = Load {
                part: word >> 2,
                share: match word & 3 {
                    1 => Share::Enough,
                    2 => Share::Few,
                    _ => Share::None,
                },
            };
        }
        true
    }

    fn write(&self, now: u64, loads: &[Load]) {
        for (load, word) in loads.iter().zip(&self.loads) {
            let code = match load.share {
                Share::Enough => 1,
                Share::Few => 2,
                Share::None => 3,
            };
            word.store((load.part << 2) | code, Relaxed);
        }
        self.at.store(now, Relaxed);
    }
}

/// All traffic.
pub(super) const WHOLE: u32 = 1 << 16;

/// Eight priorities by eight zone distances; `config::rules` keeps within it.
pub(super) const MOST_LEVELS: usize = 64;

const NONE: Load = Load {
    part: 0,
    share: Share::None,
};

/// Keeps the choice of a level apart from the choice within it.
const SALT: u64 = 0x6c65_7665_6c73_2121;

#[cfg(test)]
mod tests;
