use proptest::prelude::*;

use super::*;
use crate::observe::metrics::Metrics;

fn split(shares: &[(&str, u32)]) -> Split {
    let metrics = Metrics::new(100);
    let share = |(name, weight): &(&str, u32)| {
        let target = Target::Quarantined((*name).into());
        Share::new(name, *weight, target, metrics.share("r", name))
    };
    Split::new(shares.iter().map(share).collect(), None, None).unwrap()
}

/// Keys as applications have them: in sequence, not random.
fn keys(count: u32) -> impl Iterator<Item = u64> {
    (0..count).map(|number| hash_bytes(format!("user-{number}").as_bytes()))
}

fn of(split: &Split, hash: u64) -> String {
    split.by_key(hash).name.to_string()
}

#[test]
fn keys_are_dealt_by_weight() {
    let split = split(&[("stable", 90), ("canary", 9), ("dark", 0), ("tiny", 1)]);

    let mut counts = std::collections::BTreeMap::<String, f64>::new();
    for key in keys(100_000) {
        *counts.entry(of(&split, key)).or_default() += 1.0;
    }

    // Six standard deviations of a fair draw; the keys are always the same.
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!((counts["stable"] - 90_000.0).abs() < 570.0, "{counts:?}");
    assert!((counts["canary"] - 9_000.0).abs() < 545.0, "{counts:?}");
    assert!((counts["tiny"] - 1_000.0).abs() < 190.0, "{counts:?}");
}

#[test]
fn a_share_that_grows_keeps_everybody_and_takes_no_more_than_it_must() {
    let five = split(&[("stable", 95), ("canary", 5)]);
    let ten = split(&[("stable", 90), ("canary", 10)]);

    let moved = keys(20_000).filter(|key| of(&five, *key) != of(&ten, *key));
    let moved: Vec<u64> = moved.collect();

    assert!(moved.iter().all(|key| of(&ten, *key) == "canary"));
    assert!((800..1200).contains(&moved.len()), "{}", moved.len());
}

#[test]
fn the_shares_of_known_keys_never_change() {
    let split = split(&[("stable", 80), ("canary", 20)]);

    let canary = keys(20).enumerate();
    let canary = canary.filter(|(_, key)| of(&split, *key) == "canary");
    let canary: Vec<usize> = canary.map(|(number, _)| number).collect();

    // A version that deals otherwise would move users at an upgrade, and replicas of two versions would disagree.
    assert_eq!(canary, KNOWN);
}

const KNOWN: [usize; 3] = [3, 14, 19];

proptest! {
    #[test]
    fn a_key_moves_only_to_a_share_that_grew_beside_its_own(
        weights in prop::collection::vec((0_u32..1000, 0_u32..1000), 1..6),
        hashes in prop::collection::vec(any::<u64>(), 50),
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let of_version = |version: fn(&(u32, u32)) -> u32| {
            let shares = names.iter().zip(&weights);
            shares.map(|(name, pair)| (*name, version(pair))).collect::<Vec<_>>()
        };
        let (before, after) = (of_version(|pair| pair.0), of_version(|pair| pair.1));
        prop_assume!(before.iter().any(|(_, weight)| *weight > 0));
        prop_assume!(after.iter().any(|(_, weight)| *weight > 0));
        let (old, new) = (split(&before), split(&after));

        for hash in hashes {
            let (was, is) = (of(&old, hash), of(&new, hash));
            let weight = |shares: &[(&str, u32)], name: &str| {
                let found = shares.iter().find(|(one, _)| *one == name);
                u64::from(found.map_or(0, |(_, weight)| *weight))
            };
            // is/was grew: is_new / was_new > is_old / was_old.
            let grew = weight(&after, &is) * weight(&before, &was)
                > weight(&before, &is) * weight(&after, &was);
            prop_assert!(was == is || grew, "{was} {is} {before:?} {after:?}");
        }
    }

    #[test]
    fn neither_order_nor_a_common_factor_matters(
        weights in prop::collection::vec(1_u32..1000, 2..5),
        hashes in prop::collection::vec(any::<u64>(), 20),
    ) {
        let names = ["a", "b", "c", "d"];
        let written: Vec<_> = names.iter().copied().zip(weights.iter().copied()).collect();
        let mut turned: Vec<_> = written.iter().map(|(name, weight)| (*name, weight * 8)).collect();
        turned.reverse();

        for hash in hashes {
            prop_assert_eq!(of(&split(&written), hash), of(&split(&turned), hash));
        }
    }

    #[test]
    fn chance_never_meets_a_share_without_weight(
        weights in prop::collection::vec(0_u32..3, 2..5),
        random in any::<u64>(),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let names = ["a", "b", "c", "d"];
        let shares: Vec<_> = names.iter().copied().zip(weights.iter().copied()).collect();

        prop_assert!(split(&shares).by_chance(random).weight > 0);
    }
}
