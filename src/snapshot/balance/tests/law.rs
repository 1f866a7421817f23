//! What holds beyond weights: newcomers, choice counts, bounded load, sessions by hash.
//! It must not know tables, only where choices go.
//! Run by the test harness, with a clock of its own and fixed seeds.

use super::*;
use crate::snapshot::pool::{Affinity, Balance, Choices};

const SECOND: u64 = 1_000_000_000;

/// The algorithms that know newcomers.
const GRADUAL: [Algorithm; 4] = [
    Algorithm::Ewma,
    Algorithm::RoundRobin,
    Algorithm::LeastRequest,
    Algorithm::Random,
];

pub(super) fn tally_at(table: &Table, members: &[Member], choices: u64, now: u64) -> Vec<f64> {
    let mut times = vec![0; members.len()];
    for seed in 0..choices {
        let choice = Choice {
            now,
            ..choice(seed)
        };
        if let Some(at) = table.pick(members, &choice) {
            times[at] += 1;
        }
    }
    times
        .iter()
        .map(|times| f64::from(*times) / choices as f64)
        .collect()
}

pub(super) fn near(found: f64, wanted: f64, within: f64) -> bool {
    (found - wanted).abs() <= within
}

#[test]
fn a_newcomer_grows_to_its_share_in_every_gradual_algorithm() {
    for algorithm in GRADUAL {
        let members = members(&[1; 10]);
        let balance = Balance {
            slow_start: Duration::from_secs(30),
            ..Balance::of(algorithm)
        };
        let table = Table::with(&balance, &members);
        members[3].endpoint.state.came(NOW);

        for (second, grown) in [
            (0, 0.1),
            (3, 0.1),
            (15, 0.5),
            (24, 0.8),
            (30, 1.0),
            (99, 1.0),
        ] {
            let now = NOW + second * SECOND;
            let share = tally_at(&table, &members, 20_000, now)[3];

            let wanted = grown / (9.0 + grown);
            assert!(
                near(share, wanted, 0.008),
                "{algorithm:?} {second} {share} {wanted}"
            );
            let told = table.shares(&members, None, now)[3];
            assert!(near(told, wanted, 1e-4), "{told}");
        }
    }
}

#[test]
fn a_newcomer_without_load_has_at_most_twice_its_grown_weight() {
    for algorithm in [Algorithm::Ewma, Algorithm::LeastRequest] {
        let members = members(&[1, 1]);
        members[0].endpoint.state.in_flight.store(50, Relaxed);
        observe(&members[0].endpoint.state, NOW, MILLI);
        let balance = Balance {
            slow_start: Duration::from_secs(30),
            ..Balance::of(algorithm)
        };
        let table = Table::with(&balance, &members);
        members[1].endpoint.state.came(NOW);

        let share = tally_at(&table, &members, 20_000, NOW + SECOND)[1];

        assert!(share < 0.2, "{algorithm:?} {share}");
    }
}

#[test]
fn the_end_of_an_ejection_begins_slow_start() {
    let members = members(&[1, 1, 1]);
    let state = &members[0].endpoint.state;
    state.outlier.shut(NOW, Duration::from_secs(10));
    let window = 10 * SECOND;

    assert_eq!(warmth(state, NOW + 10 * SECOND, window), FULL / 10);
    assert_eq!(warmth(state, NOW + 15 * SECOND, window), FULL / 2);
    assert_eq!(warmth(state, NOW + 20 * SECOND, window), FULL);
    assert_eq!(warmth(&members[1].endpoint.state, NOW, window), FULL);
}

#[test]
fn newcomers_alone_share_evenly() {
    for algorithm in GRADUAL {
        let members = members(&[1, 1, 1, 1]);
        let balance = Balance {
            slow_start: Duration::from_secs(30),
            ..Balance::of(algorithm)
        };
        let table = Table::with(&balance, &members);
        members
            .iter()
            .for_each(|member| member.endpoint.state.came(NOW));

        let shares = tally_at(&table, &members, 8_000, NOW);

        assert!(
            shares.iter().all(|share| near(*share, 0.25, 0.02)),
            "{shares:?}"
        );
    }
}

#[test]
fn more_choices_find_the_best_member_more_often() {
    for algorithm in [Algorithm::Ewma, Algorithm::LeastRequest] {
        let members = members(&[1; 10]);
        for member in &members[1..] {
            observe(&member.endpoint.state, NOW, MILLI);
            member.endpoint.state.in_flight.store(9, Relaxed);
        }
        observe(&members[0].endpoint.state, NOW, MILLI);
        let share = |choices| {
            let balance = Balance {
                choices,
                ..Balance::of(algorithm)
            };
            tally_at(&Table::with(&balance, &members), &members, 10_000, NOW)[0]
        };

        // Two differing members, then up to so many draws with repetition.
        assert!(near(share(Choices::Of(2)), 0.2, 0.02));
        assert!(near(share(Choices::Of(5)), 1.0 - 0.9_f64.powi(5), 0.02));
        assert_eq!(share(Choices::All), 1.0);
    }
}

#[test]
fn all_choices_follow_the_weights_while_members_are_idle() {
    let members = members(&[1, 3]);
    let balance = Balance {
        choices: Choices::All,
        ..Balance::of(Algorithm::LeastRequest)
    };

    let shares = tally_at(&Table::with(&balance, &members), &members, 10_000, NOW);

    assert!(near(shares[1], 0.75, 0.02), "{shares:?}");
}

#[test]
fn bounded_load_spreads_a_hot_key_and_leaves_others_in_place() {
    for algorithm in [Algorithm::Maglev, Algorithm::Ketama] {
        let members = members(&[1; 10]);
        let balance = Balance {
            load_bound: 1.25,
            ..Balance::of(algorithm)
        };
        let (bounded, free) = (
            Table::with(&balance, &members),
            Table::new(algorithm, &members),
        );
        let hot = |random| Choice {
            hash: Some(7),
            random,
            ..choice(0)
        };

        let idle = (0..500).all(|seed| {
            bounded.pick(&members, &choice(seed)) == free.pick(&members, &choice(seed))
        });
        for seed in 0..1_000 {
            let at = bounded.pick(&members, &hot(seed)).unwrap();
            members[at].endpoint.state.in_flight.fetch_add(1, Relaxed);
        }

        assert!(idle, "{algorithm:?}");
        let loads = members
            .iter()
            .map(|one| one.endpoint.state.in_flight.load(Relaxed));
        let loads: Vec<u32> = loads.collect();
        // 1.25 times the mean of 100, and eight members are enough to carry it.
        assert!(
            loads.iter().all(|load| *load <= 126),
            "{algorithm:?} {loads:?}"
        );
        assert_eq!(loads.iter().sum::<u32>(), 1_000);
    }
}

#[test]
fn bounded_load_follows_weights_and_falls_back_where_all_are_loaded() {
    for algorithm in [Algorithm::Maglev, Algorithm::Ketama] {
        let members = members(&[1, 3, 1]);
        let balance = Balance {
            load_bound: 1.2,
            ..Balance::of(algorithm)
        };
        let table = Table::with(&balance, &members);
        for seed in 0..500 {
            let at = table.pick(&members, &choice(seed)).unwrap();
            members[at].endpoint.state.in_flight.fetch_add(1, Relaxed);
        }
        let load = |at: usize| members[at].endpoint.state.in_flight.load(Relaxed);

        assert!(load(1) > 240 && load(1) <= 361, "{algorithm:?} {}", load(1));
        let tried = [0, 1];
        let last = Choice {
            tried: &tried,
            ..choice(1)
        };
        members[2].endpoint.state.in_flight.store(10_000, Relaxed);
        assert_eq!(table.pick(&members, &last), Some(2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Sessions told by a hash stay when another member goes, but for the few that Maglev moves.
    #[test]
    fn hashed_sessions_survive_changes_of_the_set(count in 3..20_usize, lost in 0..20_usize) {
        let lost = lost % count;
        let balance = Balance {
            affinity: Some(Affinity::Address),
            ..Balance::of(Algorithm::Ewma)
        };
        let before = members(&vec![1; count]);
        let mut after = members(&vec![1; count]);
        after.remove(lost);
        after.reverse();
        let (one, two) = (Table::with(&balance, &before), Table::with(&balance, &after));

        let mut moved = 0;
        for seed in 0..2_000 {
            let from = one.pick(&before, &choice(seed)).unwrap();
            let to = two.pick(&after, &choice(seed)).unwrap();
            let stays = before[from].endpoint.label == after[to].endpoint.label;
            moved += usize::from(!stays && from != lost);
        }

        prop_assert!(moved < 2_000 / 50, "{}", moved);
    }
}
