//! Rules whose place in precedence changed between two snapshots, listener by listener.
//! It must not know texts of configurations.
//! Part of a plan.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::explain::words;
use crate::snapshot::listener::Listener;
use crate::snapshot::route::Candidate;
use crate::snapshot::Snapshot;

/// A rule that is tried earlier or later than before, beside rules that are on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The listener.
    pub listener: String,
    /// Host pattern.
    pub host: String,
    /// The route.
    pub route: String,
    /// What it matches.
    pub matches: String,
    /// Rules it was behind and is before now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub now_before: Vec<String>,
    /// Where it is written now.
    pub place: String,
}

/// Every rule that moved.
pub fn order(old: &Snapshot, new: &Snapshot) -> Vec<Moved> {
    let mut moved = Vec::new();
    for listener in &new.listeners {
        if let Some(before) = old.listener(&listener.name) {
            of_listener(before, listener, &mut moved);
        }
    }
    moved
}

/// A rule by what it is, not by where it is written.
type Key = (String, String, String);

fn key(candidate: &Candidate) -> Key {
    let conditions = words::conditions(&candidate.conditions).join(", ");
    (
        candidate.rule.route.to_string(),
        candidate.host.to_string(),
        format!("{} {conditions}", words::path(&candidate.path)),
    )
}

fn of_listener(old: &Listener, new: &Listener, moved: &mut Vec<Moved>) {
    let places: HashMap<Key, usize> = ranked(old)
        .into_iter()
        .enumerate()
        .map(|(at, candidate)| (key(candidate), at))
        .collect();
    let mut by_host: HashMap<&str, Vec<(&Candidate, Key, usize)>> = HashMap::new();
    for candidate in ranked(new) {
        let key = key(candidate);
        if let Some(at) = places.get(&key) {
            let host = by_host.entry(&candidate.host).or_default();
            host.push((candidate, key, *at));
        }
    }
    let mut hosts: Vec<_> = by_host.into_iter().collect();
    hosts.sort_by_key(|(host, _)| host.to_string());
    for (host, now) in hosts {
        let stayed = longest_rising(now.iter().map(|(_, _, at)| *at));
        for (at, (candidate, key, before)) in now.iter().enumerate() {
            if stayed.contains(before) {
                continue;
            }
            let passed = now[at + 1..].iter().filter(|(_, _, other)| other < before);
            moved.push(Moved {
                listener: new.name.to_string(),
                host: words::host(host).to_owned(),
                route: key.0.clone(),
                matches: key.2.trim_end().to_owned(),
                now_before: passed
                    .map(|(other, ..)| other.rule.route.to_string())
                    .collect(),
                place: candidate.rule.place.to_string(),
            });
        }
    }
}

/// Rules in the order they are tried where all would match.
fn ranked(listener: &Listener) -> Vec<&Candidate> {
    let mut all: Vec<&Candidate> = listener.routes.all().map(|one| &**one).collect();
    all.sort_by(|one, other| words::rank(one).cmp(&words::rank(other)));
    all
}

/// The members of a longest rising subsequence: what stayed, so that the fewest are told as moved (patience sorting, Fredman 1975).
fn longest_rising(places: impl Iterator<Item = usize>) -> HashSet<usize> {
    let places: Vec<usize> = places.collect();
    // For each length, where the subsequence of that length with the lowest end ends; and who came before each.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        let length = ends.partition_point(|end| places[*end] < *place);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut stayed = HashSet::new();
    let mut next = ends.last().copied();
    while let Some(at) = next {
        stayed.insert(places[at]);
        next = before[at];
    }
    stayed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fewest_are_told_as_moved() {
        let stayed = longest_rising([3, 0, 1, 2, 4].into_iter());

        assert_eq!(stayed, HashSet::from([0, 1, 2, 4]));
        assert!(longest_rising([].into_iter()).is_empty());
    }

    proptest! {
        #[test]
        fn what_stayed_rises_and_nothing_can_be_added(places in Just((0..9usize).collect::<Vec<_>>()).prop_shuffle()) {
            let stayed = longest_rising(places.iter().copied());

            let kept: Vec<_> = places.iter().filter(|place| stayed.contains(place)).collect();
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            for extra in places.iter().filter(|place| !stayed.contains(place)) {
                let with: Vec<_> = places.iter().filter(|place| stayed.contains(place) || *place == extra).collect();
                prop_assert!(!with.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
