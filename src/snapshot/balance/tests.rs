//! Laws that hold for every algorithm, and what each promises.
//! It must not know an algorithm's table, only members, choices and what comes of them.
//! Run by the test harness, with fixed seeds where chance would decide.

mod consistent;
mod law;
mod levels;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::{Address, EndpointState, Endpoints};

const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Ewma,
    Algorithm::RoundRobin,
    Algorithm::LeastRequest,
    Algorithm::Random,
    Algorithm::Maglev,
    Algorithm::Ketama,
];

const NOW: u64 = 1_000_000_000_000;

const MILLI: Duration = Duration::from_millis(1);

fn members(weights: &[u32]) -> Vec<Member> {
    let specs: Vec<(String, u32)> = (1..)
        .zip(weights)
        .map(|(at, weight)| (format!("10.0.{}.{}:8080", at / 250, at % 250 + 1), *weight))
        .collect();
    let specs: Vec<(&str, u32)> = specs
        .iter()
        .map(|(address, weight)| (address.as_str(), *weight))
        .collect();
    members_at(&specs)
}

fn members_at(specs: &[(&str, u32)]) -> Vec<Member> {
    let endpoints = Endpoints::default();
    let metrics = Metrics::new(100);
    let member = |(address, weight): &(&str, u32)| {
        let address = match address.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(address.parse().unwrap()),
        };
        Member {
            endpoint: endpoints.endpoint("pool", &address, &metrics),
            weight: *weight,
            labels: BTreeMap::new(),
            priority: 0,
        }
    };
    specs.iter().map(member).collect()
}

fn choice(seed: u64) -> Choice<'static> {
    Choice {
        hash: Some(hash_bytes(format!("user-{seed}").as_bytes())),
        tried: &[],
        now: NOW,
        random: hash::mix(seed),
        subset: None,
    }
}

fn estimate(state: &EndpointState) -> f64 {
    f64::from_bits(state.latency.load(Relaxed))
}

fn take_out(member: &Member) {
    member.endpoint.state.healthy.store(false, Relaxed);
}

/// How often each member is chosen in so many choices.
fn tally(table: &Table, members: &[Member], choices: u64) -> Vec<u64> {
    let mut times = vec![0; members.len()];
    for seed in 0..choices {
        times[table.pick(members, &choice(seed)).unwrap()] += 1;
    }
    times
}

#[derive(Debug, Clone)]
struct Situation {
    algorithm: Algorithm,
    /// Weight, healthy, ejected until after now, tried, in flight.
    members: Vec<(u32, bool, bool, bool, u32)>,
    hash: Option<u64>,
    random: u64,
}

fn situation() -> impl Strategy<Value = Situation> {
    let member = (
        prop_oneof![2 => Just(0_u32), 5 => 1..10_u32, 1 => 1..=u32::MAX],
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
        0..5_u32,
    );
    (
        prop::sample::select(&ALGORITHMS[..]),
        prop::collection::vec(member, 0..24),
        any::<Option<u64>>(),
        any::<u64>(),
    )
        .prop_map(|(algorithm, members, hash, random)| Situation {
            algorithm,
            members,
            hash,
            random,
        })
}

proptest! {
    // Each case builds tables of 65537 places in a debug build.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Chosen is only who may be, and someone is chosen whenever anyone may be.
    #[test]
    fn a_choice_is_made_from_exactly_the_eligible_members(situation in situation()) {
        let weights: Vec<u32> = situation.members.iter().map(|member| member.0).collect();
        let members = members(&weights);
        for (member, (_, healthy, ejected, _, in_flight)) in members.iter().zip(&situation.members) {
            let state = &member.endpoint.state;
            state.healthy.store(*healthy, Relaxed);
            state.outlier.shut(NOW, Duration::from_nanos(u64::from(*ejected)));
            state.in_flight.store(*in_flight, Relaxed);
        }
        let positions = (0_u16..).zip(&situation.members);
        let tried: Vec<u16> = positions.filter(|(_, member)| member.3).map(|(at, _)| at).collect();
        let table = Table::new(situation.algorithm, &members);
        let weighted = || situation.members.iter().filter(|member| member.0 > 0);
        let available = weighted().filter(|member| member.1 && !member.2).count();
        let panics = available > 0 && available * 2 < weighted().count();

        let chosen = table.pick(&members, &Choice {
            hash: situation.hash,
            tried: &tried,
            now: NOW,
            random: situation.random,
            subset: None,
        });

        let eligible: BTreeSet<usize> = (0..members.len())
            .filter(|at| {
                let (weight, healthy, ejected, tried, _) = situation.members[*at];
                weight > 0 && !tried && ((healthy && !ejected) || panics)
            })
            .collect();
        prop_assert_eq!(table.is_panicking(&members, NOW), panics);
        match chosen {
            Some(at) => prop_assert!(eligible.contains(&at), "{at} of {eligible:?}"),
            None => prop_assert!(eligible.is_empty(), "{eligible:?}"),
        }
    }

    #[test]
    fn consistent_choices_do_not_depend_on_order_or_chance(
        weights in prop::collection::vec(0..5_u32, 2..12),
        rotation in 0..12_usize,
        hash: u64,
        randoms: (u64, u64),
    ) {
        for algorithm in [Algorithm::Maglev, Algorithm::Ketama] {
            let one = members(&weights);
            let mut two = members(&weights);
            two.rotate_left(rotation % weights.len());
            for member in one.iter().chain(&two) {
                if &*member.endpoint.label == "10.0.0.2:8080" {
                    take_out(member);
                }
            }

            let label = |members: &[Member], random| {
                let table = Table::new(algorithm, members);
                let at = table.pick(members, &Choice { hash: Some(hash), tried: &[], now: NOW, random, subset: None })?;
                Some(members[at].endpoint.label.clone())
            };

            prop_assert_eq!(label(&one, randoms.0), label(&two, randoms.1));
        }
    }
}

#[test]
fn choices_follow_the_weights() {
    // Heavy enough for ketama, whose arcs are as uneven as chance: 1,600 points are within a few per cent.
    let weights = [10, 20, 30, 40];
    for algorithm in ALGORITHMS {
        let members = members(&weights);
        let table = Table::new(algorithm, &members);

        let times = tally(&table, &members, 50_000);

        for (times, weight) in times.iter().zip(weights) {
            let exact = f64::from(weight) * 500.0;
            let off = (*times as f64 - exact).abs() / exact;
            assert!(off < 0.05, "{algorithm:?} {times} for {exact}");
        }
    }
}

#[test]
fn choices_of_the_rest_follow_the_weights_when_a_member_is_out() {
    for algorithm in ALGORITHMS {
        let members = members(&[1, 1, 1, 1]);
        take_out(&members[1]);
        let table = Table::new(algorithm, &members);

        let times = tally(&table, &members, 30_000);

        assert_eq!(times[1], 0);
        for at in [0, 2, 3] {
            assert!(
                (8_000..12_000).contains(&times[at]),
                "{algorithm:?} {times:?}"
            );
        }
    }
}

#[test]
fn a_pool_below_half_uses_all_members_and_a_pool_all_down_none() {
    for algorithm in ALGORITHMS {
        let members = members(&[1; 5]);
        let table = Table::new(algorithm, &members);
        members[2..].iter().for_each(take_out);

        let panicking = table.is_panicking(&members, NOW);
        let times = tally(&table, &members, 5_000);
        members[..2].iter().for_each(take_out);
        let down = table.pick(&members, &choice(1));

        assert!(panicking);
        assert!(
            times.iter().all(|times| *times > 500),
            "{algorithm:?} {times:?}"
        );
        assert_eq!(down, None);
        assert!(!table.is_panicking(&members, NOW));
    }
}

#[test]
fn exactly_half_available_is_no_panic() {
    for algorithm in ALGORITHMS {
        let members = members(&[1, 1, 1, 1]);
        members[2..].iter().for_each(take_out);
        let table = Table::new(algorithm, &members);

        let times = tally(&table, &members, 1_000);

        assert_eq!((times[2], times[3]), (0, 0), "{algorithm:?}");
    }
}

#[test]
fn a_big_pool_leaves_panic_once_its_count_is_old() {
    let members = members(&[1; 100]);
    let table = Table::new(Algorithm::Random, &members);
    members[40..].iter().for_each(take_out);
    let out = |now| {
        let picks = (0..1_000).map(|seed| {
            let choice = Choice {
                now,
                ..choice(seed)
            };
            table.pick(&members, &choice).unwrap()
        });
        picks.filter(|at| *at >= 60).count()
    };

    let panicking = out(NOW);
    for member in &members[40..60] {
        member.endpoint.state.healthy.store(true, Relaxed);
    }
    let recovered = out(NOW + 10_000_000);

    assert!(panicking > 300, "{panicking}");
    assert_eq!(recovered, 0);
}

#[test]
fn empty_and_single_sets_need_no_choice() {
    for algorithm in ALGORITHMS {
        let none = members(&[0, 0]);
        let one = members(&[0, 7, 0]);
        let table = Table::new(algorithm, &one);

        let drained = Table::new(algorithm, &none).pick(&none, &choice(1));
        let only = table.pick(&one, &choice(1));
        let tried = table.pick(
            &one,
            &Choice {
                tried: &[1],
                ..choice(1)
            },
        );
        take_out(&one[1]);
        let down = table.pick(&one, &choice(1));

        assert_eq!(drained, None);
        assert_eq!(only, Some(1));
        assert_eq!((tried, down), (None, None));
    }
}

#[test]
fn round_robin_is_exact_across_threads() {
    let members = members(&[5, 1, 1]);
    let table = Table::new(Algorithm::RoundRobin, &members);

    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| tally(&table, &members, 7_000)))
            .collect();
        let mut sum = vec![0; 3];
        for thread in threads {
            for (sum, times) in sum.iter_mut().zip(thread.join().unwrap()) {
                *sum += times;
            }
        }
        sum
    });

    assert_eq!(times, [20_000, 4_000, 4_000]);
}

#[test]
fn round_robin_gives_the_turns_of_a_lost_member_to_all_others() {
    let members = members(&[1, 1, 1]);
    take_out(&members[1]);
    let table = Table::new(Algorithm::RoundRobin, &members);

    assert_eq!(tally(&table, &members, 1_000), [500, 0, 500]);
}

#[test]
fn round_robin_tables_start_in_different_places() {
    let members = members(&[1; 50]);

    let starts: BTreeSet<_> = (0..20)
        .map(|_| Table::new(Algorithm::RoundRobin, &members).pick(&members, &choice(1)))
        .collect();

    assert!(starts.len() > 5, "{starts:?}");
}

#[test]
fn least_request_fills_members_in_proportion_to_weight() {
    let members = members(&[1, 2, 4]);
    let table = Table::new(Algorithm::LeastRequest, &members);

    for seed in 0..700 {
        let at = table.pick(&members, &choice(seed)).unwrap();
        members[at].endpoint.state.in_flight.fetch_add(1, Relaxed);
    }

    let load = |at: usize| members[at].endpoint.state.in_flight.load(Relaxed);
    assert!(load(0).abs_diff(100) < 10, "{}", load(0));
    assert!(load(1).abs_diff(200) < 10, "{}", load(1));
    assert!(load(2).abs_diff(400) < 10, "{}", load(2));
}

#[test]
fn a_light_member_is_compared_about_as_often_as_its_weight_says() {
    let members = members(&[9, 1]);
    members[0].endpoint.state.in_flight.store(1_000, Relaxed);
    let table = Table::new(Algorithm::LeastRequest, &members);

    // The light one wins every comparison, so this counts comparisons: 20 % for a tenth of the weight.
    let times = tally(&table, &members, 20_000);

    assert!(times[1].abs_diff(4_000) < 200, "{times:?}");
}

#[test]
fn ewma_prefers_the_fast_member_and_returns_to_one_that_recovered() {
    let members = members(&[1, 1, 1]);
    let table = Table::new(Algorithm::Ewma, &members);
    observe(&members[0].endpoint.state, NOW, 400 * MILLI);
    observe(&members[1].endpoint.state, NOW, MILLI);
    observe(&members[2].endpoint.state, NOW, MILLI);

    let slow = tally(&table, &members, 1_000);
    // The others go on answering while the slow one has no traffic.
    let later = NOW + 61_000_000_000;
    observe(&members[1].endpoint.state, later, MILLI);
    observe(&members[2].endpoint.state, later, MILLI);
    let choice_later = Choice {
        now: later,
        ..choice(3)
    };
    let tried_again = (0..20).filter(|seed| {
        let choice = Choice {
            random: *seed,
            ..choice_later
        };
        table.pick(&members, &choice) == Some(0)
    });

    assert_eq!(slow[0], 0);
    assert!(tried_again.count() > 5);
}

#[test]
fn ewma_weighs_latency_against_load() {
    let members = members(&[1, 1]);
    let table = Table::new(Algorithm::Ewma, &members);
    observe(&members[0].endpoint.state, NOW, 4 * MILLI);
    observe(&members[1].endpoint.state, NOW, MILLI);
    let picks = |in_flight| {
        members[1]
            .endpoint
            .state
            .in_flight
            .store(in_flight, Relaxed);
        table.pick(&members, &choice(1))
    };

    assert_eq!(picks(0), Some(1));
    assert_eq!(picks(2), Some(1));
    assert_eq!(picks(4), Some(0));
}

#[test]
fn ewma_sends_one_request_at_a_time_to_a_member_without_history() {
    let members = members(&[1, 1]);
    let table = Table::new(Algorithm::Ewma, &members);
    observe(&members[0].endpoint.state, NOW, MILLI);
    members[0].endpoint.state.in_flight.store(50, Relaxed);

    let first = table.pick(&members, &choice(1));
    members[1].endpoint.state.in_flight.store(1, Relaxed);
    let second = table.pick(&members, &choice(2));
    observe(&members[1].endpoint.state, NOW, 2 * MILLI);
    let third = table.pick(&members, &choice(3));

    assert_eq!([first, second, third], [Some(1), Some(0), Some(1)]);
}

#[test]
fn observing_from_many_threads_keeps_the_peak() {
    let members = members(&[1]);
    let state = &members[0].endpoint.state;

    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for at in 0..1_000 {
                    let peak = thread == 2 && at == 500;
                    let sample = if peak { 900 * MILLI } else { MILLI };
                    observe(state, NOW + at, sample);
                    // A sample may be dropped under contention; the next of its kind is not.
                    while peak && estimate(state) < 899e6 {
                        observe(state, NOW + at, sample);
                    }
                }
            });
        }
    });

    assert!(estimate(state) > 899e6, "{}", estimate(state));
}

#[test]
fn one_may_always_be_ejected_and_more_up_to_the_share() {
    let members = members(&[1, 1, 1, 1, 0]);
    let eject = |at: usize| {
        let state = &members[at].endpoint.state;
        state.outlier.shut(NOW, Duration::from_secs(10));
    };

    assert!(may_eject(&members, NOW, 0.0));
    eject(4);
    assert!(may_eject(&members, NOW, 0.0));
    eject(0);
    assert!(!may_eject(&members, NOW, 0.4));
    assert!(may_eject(&members, NOW, 0.5));
    eject(1);
    assert!(!may_eject(&members, NOW, 0.5));
    assert!(may_eject(&members, NOW + 10_000_000_000, 0.5));
}
