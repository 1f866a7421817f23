//! What a table would do now, for people: levels with their shares, and the part of the traffic of each member.
//! It must not be asked by traffic; it counts everything afresh and allocates.
//! Called by `explain` and the admin pages.

use super::eligible::Share;
use super::group::{Group, WHOLE};
use super::warmth::{warmth, FULL};
use super::{Rank, Table};
use crate::snapshot::pool::{Member, SubsetFallback};

/// A level as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelShare {
    /// Where it stands.
    pub rank: Rank,
    /// Its part of the traffic, 0 to 1.
    pub part: f64,
    /// Whether health is ignored in it.
    pub panics: bool,
    /// Members with a weight.
    pub total: usize,
    /// Those of them that are available.
    pub available: usize,
}

impl Table {
    /// The levels of the pool, or of a subset of it, in their order.
    pub fn levels(&self, members: &[Member], subset: Option<u16>, now: u64) -> Vec<LevelShare> {
        let group = self.group(members, subset, now);
        let loads = group.loads(members, &self.law, now);
        let levels = group.levels.iter().zip(loads);
        let levels = levels.map(|(level, load)| LevelShare {
            rank: level.rank,
            part: f64::from(load.part) / f64::from(WHOLE),
            panics: load.share == Share::Few,
            total: level.among.len(),
            available: level.available(members, now),
        });
        levels.collect()
    }

    /// The part of new traffic that each member has by level, weight and slow start, 0 to 1. Load, latency, keys and
    /// sessions shift it further.
    pub fn shares(&self, members: &[Member], subset: Option<u16>, now: u64) -> Vec<f64> {
        let group = self.group(members, subset, now);
        let mut shares = vec![0.0; members.len()];
        for (level, load) in group
            .levels
            .iter()
            .zip(group.loads(members, &self.law, now))
        {
            let part = f64::from(load.part) / f64::from(WHOLE);
            let weight = |at: &u16| {
                let member = &members[usize::from(*at)];
                let state = &member.endpoint.state;
                let takes = load.share == Share::Few || state.is_available(now);
                let grown = match self.law.slow_start {
                    0 => FULL,
                    window => warmth(state, now, window),
                };
                f64::from(member.weight) * grown as f64 * f64::from(u8::from(takes))
            };
            let sum: f64 = level.among.iter().map(weight).sum();
            for at in level.among.iter().filter(|_| sum > 0.0) {
                shares[usize::from(*at)] = part * weight(at) / sum;
            }
        }
        shares
    }

    /// The group that would be asked now.
    fn group(&self, members: &[Member], subset: Option<u16>, now: u64) -> &Group {
        let found = subset.and_then(|subset| self.subsets.get(usize::from(subset)));
        match found {
            None => &self.whole,
            Some(group) => {
                let loads = group.loads(members, &self.law, now);
                let is_down = loads.iter().all(|load| load.share == Share::None);
                match self.fallback {
                    SubsetFallback::Any if is_down => &self.whole,
                    SubsetFallback::Any | SubsetFallback::None => group,
                }
            }
        }
    }

    /// How many members of a subset there are with a weight, whatever their health.
    pub fn subset_size(&self, subset: u16) -> usize {
        let group = self.subsets.get(usize::from(subset));
        let levels = group.map_or(&[][..], |group| &group.levels);
        levels.iter().map(|level| level.among.len()).sum()
    }
}
