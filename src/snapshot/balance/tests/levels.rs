//! Levels of priority and zone, the panic threshold in each, and subsets.
//! It must not know tables, only where choices go.
//! Run by the test harness, with fixed seeds.

use super::law::{near, tally_at};
use super::*;
use crate::snapshot::pool::{Balance, SubsetFallback, ZonePreference};

/// Members of these priorities and zones, all of weight 1.
fn placed(specs: &[(u8, &str)]) -> Vec<Member> {
    let mut members = members(&vec![1; specs.len()]);
    for (member, (priority, zone)) in members.iter_mut().zip(specs) {
        member.priority = *priority;
        member.labels = BTreeMap::from([("zone".to_owned(), (*zone).to_owned())]);
    }
    members
}

fn zone(own: &str, failover: &[&str], min_endpoints: usize) -> Option<ZonePreference> {
    Some(ZonePreference {
        own: own.into(),
        label: "zone".into(),
        failover: failover.iter().map(|one| (*one).into()).collect(),
        min_endpoints,
    })
}

/// The part of the traffic that each run of so many members has.
fn runs(table: &Table, members: &[Member], length: usize) -> Vec<f64> {
    let shares = tally_at(table, members, 20_000, NOW);
    shares.chunks(length).map(|run| run.iter().sum()).collect()
}

fn are_near(found: &[f64], wanted: &[f64]) -> bool {
    found.len() == wanted.len()
        && found
            .iter()
            .zip(wanted)
            .all(|(one, two)| near(*one, *two, 0.02))
}

#[test]
fn priorities_spill_as_the_first_loses_members_and_take_back() {
    for algorithm in ALGORITHMS {
        let specs = [
            (0, ""),
            (0, ""),
            (0, ""),
            (0, ""),
            (1, ""),
            (1, ""),
            (1, ""),
            (1, ""),
        ];
        let members = placed(&specs);
        let table = Table::new(algorithm, &members);

        let whole = runs(&table, &members, 4);
        take_out(&members[0]);
        let three = runs(&table, &members, 4);
        take_out(&members[1]);
        let half = runs(&table, &members, 4);
        members[..4].iter().for_each(take_out);
        let none = runs(&table, &members, 4);
        for member in &members[..4] {
            member.endpoint.state.healthy.store(true, Relaxed);
        }
        let again = runs(&table, &members, 4);

        assert!(are_near(&whole, &[1.0, 0.0]), "{algorithm:?} {whole:?}");
        assert!(are_near(&three, &[1.0, 0.0]), "{algorithm:?} {three:?}");
        assert!(are_near(&half, &[0.7, 0.3]), "{algorithm:?} {half:?}");
        assert!(are_near(&none, &[0.0, 1.0]), "{algorithm:?} {none:?}");
        assert_eq!(again, whole);
    }
}

#[test]
fn an_attempt_leaves_its_level_only_when_every_member_of_it_was_tried() {
    let members = placed(&[(0, ""), (0, ""), (3, "")]);
    let table = Table::new(Algorithm::Random, &members);
    let after = |tried: &[u16]| {
        let tried = Choice { tried, ..choice(1) };
        table.pick(&members, &tried)
    };

    assert_eq!(after(&[0]), Some(1));
    assert_eq!(after(&[0, 1]), Some(2));
    assert_eq!(after(&[0, 1, 2]), None);
}

#[test]
fn a_level_below_the_threshold_keeps_to_health_while_others_carry() {
    let members = placed(&[(0, ""), (0, ""), (0, ""), (0, ""), (1, "")]);
    members[1..4].iter().for_each(take_out);
    let table = Table::new(Algorithm::Random, &members);

    let shares = tally_at(&table, &members, 5_000, NOW);
    let calm = table.is_panicking(&members, NOW);
    take_out(&members[4]);
    let alone = tally_at(&table, &members, 5_000, NOW);

    assert_eq!(shares[1..4], [0.0, 0.0, 0.0]);
    assert!(!calm);
    assert!(table.is_panicking(&members, NOW));
    assert!(alone[1..4].iter().all(|share| *share > 0.1), "{alone:?}");
}

#[test]
fn zones_are_asked_in_their_order() {
    let specs = [(0, "a"), (0, "a"), (0, "b"), (0, "b"), (0, "c"), (0, "d")];
    let members = placed(&specs);
    let balance = Balance {
        zone: zone("a", &["b"], 1),
        ..Balance::of(Algorithm::Ewma)
    };
    let table = Table::with(&balance, &members);

    let own = runs(&table, &members, 2);
    take_out(&members[0]);
    let spilled = runs(&table, &members, 2);
    take_out(&members[1]);
    let next = runs(&table, &members, 2);
    members[2..4].iter().for_each(take_out);
    let others = runs(&table, &members, 2);

    assert!(are_near(&own, &[1.0, 0.0, 0.0]), "{own:?}");
    assert!(are_near(&spilled, &[0.7, 0.3, 0.0]), "{spilled:?}");
    assert!(are_near(&next, &[0.0, 1.0, 0.0]), "{next:?}");
    assert!(are_near(&others, &[0.0, 0.0, 1.0]), "{others:?}");
}

#[test]
fn zones_of_a_priority_are_asked_before_the_next_priority() {
    let members = placed(&[(0, "b"), (1, "a"), (0, "a"), (1, "b")]);
    let balance = Balance {
        zone: zone("a", &["b"], 1),
        ..Balance::of(Algorithm::Random)
    };
    let table = Table::with(&balance, &members);
    let mut order = Vec::new();

    while let Some(at) = table.pick(&members, &choice(1)) {
        order.push(at);
        take_out(&members[at]);
    }

    assert_eq!(order, [2, 0, 1, 3]);
}

#[test]
fn a_zone_with_too_few_members_is_joined_by_the_next() {
    let members = placed(&[(0, "a"), (0, "b"), (0, "c"), (0, "c")]);
    let balance = Balance {
        zone: zone("a", &["b"], 2),
        ..Balance::of(Algorithm::RoundRobin)
    };
    let table = Table::with(&balance, &members);

    let shares = tally_at(&table, &members, 1_000, NOW);

    assert_eq!(shares, [0.5, 0.5, 0.0, 0.0]);
}

#[test]
fn a_big_pool_shares_between_levels_and_sees_changes_once_its_count_is_old() {
    let specs: Vec<(u8, &str)> = (0..200).map(|at| (u8::from(at >= 100), "")).collect();
    let members = placed(&specs);
    let table = Table::new(Algorithm::LeastRequest, &members);

    let before = runs(&table, &members, 100);
    members[..50].iter().for_each(take_out);
    let later = tally_at(&table, &members, 20_000, NOW + 10_000_000);

    assert!(are_near(&before, &[1.0, 0.0]));
    let first: f64 = later[..100].iter().sum();
    assert!(near(first, 0.7, 0.02), "{first}");
    assert_eq!(later[..50].iter().sum::<f64>(), 0.0);
}

#[test]
fn a_threshold_of_zero_never_ignores_health_and_of_all_always() {
    let members = members(&[1; 10]);
    members[1..].iter().for_each(take_out);
    let table = |panic_threshold| {
        let balance = Balance {
            panic_threshold,
            ..Balance::of(Algorithm::Random)
        };
        Table::with(&balance, &members)
    };

    let never = tally_at(&table(0.0), &members, 500, NOW);
    for member in &members[1..9] {
        member.endpoint.state.healthy.store(true, Relaxed);
    }
    let always = tally_at(&table(1.0), &members, 2_000, NOW);

    assert_eq!(never[0], 1.0);
    assert!(always[9] > 0.05, "{always:?}");
}

#[test]
fn a_subset_has_its_members_alone_or_any_where_it_is_down() {
    for algorithm in ALGORITHMS {
        let members = placed(&[(0, "a"), (0, "b"), (0, "b"), (0, "c")]);
        let table = |subset_fallback| {
            let wanted = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
            let balance = Balance {
                subsets: Box::new([wanted]),
                subset_fallback,
                ..Balance::of(algorithm)
            };
            Table::with(&balance, &members)
        };
        let chosen = |table: &Table| -> BTreeSet<Option<usize>> {
            let from = |seed| Choice {
                subset: Some(0),
                ..choice(seed)
            };
            (0..200)
                .map(|seed| table.pick(&members, &from(seed)))
                .collect()
        };
        let (strict, any) = (table(SubsetFallback::None), table(SubsetFallback::Any));

        let sound = [chosen(&strict), chosen(&any)];
        members[1..3].iter().for_each(take_out);
        let down = [chosen(&strict), chosen(&any)];
        members[1].endpoint.state.healthy.store(true, Relaxed);

        let both = BTreeSet::from([Some(1), Some(2)]);
        assert_eq!(sound, [both.clone(), both], "{algorithm:?}");
        let others = BTreeSet::from([Some(0), Some(3)]);
        assert_eq!(down, [BTreeSet::from([None]), others], "{algorithm:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Loads that a table tells add up to the whole, and choices follow them.
    #[test]
    fn choices_follow_the_shares_that_are_told(
        specs in prop::collection::vec((0..3_u8, 0..3_u8, any::<bool>()), 2..12),
        seed: u32,
    ) {
        let names = ["a", "b", "c"];
        let places: Vec<(u8, &str)> =
            specs.iter().map(|(priority, zone, _)| (*priority, names[usize::from(*zone)])).collect();
        let members = placed(&places);
        for (member, (_, _, healthy)) in members.iter().zip(&specs) {
            member.endpoint.state.healthy.store(*healthy, Relaxed);
        }
        let balance = Balance {
            zone: zone("a", &["b"], 1),
            ..Balance::of(Algorithm::Random)
        };
        let table = Table::with(&balance, &members);

        let told = table.shares(&members, None, NOW);
        let mut times = vec![0_u32; members.len()];
        for at in 0..4_000_u64 {
            let choice = choice(u64::from(seed) * 4_000 + at);
            if let Some(at) = table.pick(&members, &choice) {
                times[at] += 1;
            }
        }

        let sum: f64 = told.iter().sum();
        let is_down = specs.iter().all(|(_, _, healthy)| !healthy);
        prop_assert!(near(sum, f64::from(u8::from(!is_down)), 1e-6), "{}", sum);
        for (told, times) in told.iter().zip(times) {
            prop_assert!(near(*told, f64::from(times) / 4_000.0, 0.04), "{} {}", told, times);
        }
    }
}
