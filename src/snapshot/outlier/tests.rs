//! Every kind of ejection, the times, the way back and the one request that tries, on a clock of its own.
//! It must not sleep or ask the real clock.
//! Run by `cargo test`.

mod probation;
mod rates;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::observe::metrics::Metrics;
use crate::snapshot::balance::{Choice, Table};
use crate::snapshot::endpoint::{Address, Endpoint, Endpoints};
use crate::snapshot::pool::{Algorithm, EndpointSet, FailurePercentage, Member, SuccessRate};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_000 * SECOND;

fn rules() -> Ejection {
    Ejection {
        consecutive_failures: 3,
        consecutive_5xx: 0,
        success_rate: None,
        failure_percentage: None,
        success_below: None,
        interval: Duration::from_secs(10),
        base_time: Duration::from_secs(10),
        max_time: Duration::from_secs(60),
        jitter: 0.0,
        max_ejected: 1.0,
        probation: false,
        ended_by_health: true,
    }
}

fn on_probation() -> Ejection {
    Ejection {
        probation: true,
        ..rules()
    }
}

/// A pool of these weights, told things at moments.
struct Scene {
    rules: Ejection,
    set: EndpointSet,
}

impl Scene {
    fn new(rules: Ejection, weights: &[u32]) -> Scene {
        let (endpoints, metrics) = (Endpoints::default(), Metrics::new(100));
        let member = |(at, weight): (u8, &u32)| Member {
            endpoint: endpoints.endpoint(
                "web",
                &Address::Tcp(([10, 0, 0, at], 80).into()),
                &metrics,
            ),
            weight: *weight,
            labels: Default::default(),
            priority: 0,
        };
        let members: Box<[Member]> = (0_u8..).zip(weights).map(member).collect();
        let table = Table::new(Algorithm::RoundRobin, &members);
        let set = EndpointSet {
            members,
            table,
            sessions: None,
            local: None,
            birth: None,
            forbidden: Box::default(),
            template: Default::default(),
        };
        Scene { rules, set }
    }

    fn told(&self, now: u64) -> Told<'_> {
        Told {
            rules: &self.rules,
            members: &self.set.members,
            now,
            random: 0,
        }
    }

    fn endpoint(&self, at: usize) -> &Arc<Endpoint> {
        &self.set.members[at].endpoint
    }

    fn tell(&self, at: usize, verdict: Verdict, now: u64) -> Option<Change> {
        tell(self.endpoint(at), verdict, None, &self.told(now))
    }

    fn tell_all(&self, at: usize, verdicts: &[Verdict], now: u64) -> Option<Change> {
        let tell = |verdict: &Verdict| self.tell(at, *verdict, now);
        verdicts.iter().filter_map(tell).last()
    }

    fn seen(&self, at: usize, now: u64) -> Seen {
        self.endpoint(at).state.outlier.seen(&self.rules, now)
    }

    fn probe(&self, at: usize, now: u64) -> Box<Probe> {
        match Probe::claim(self.endpoint(at), now) {
            Claim::Probe(probe) => probe,
            other => panic!("{other:?}"),
        }
    }

    fn choose(&self, choice: &Choice<'_>) -> Option<(usize, Option<Box<Probe>>)> {
        let set = &self.set;
        set.choose(choice.now, || set.table.pick(&set.members, choice))
    }

    fn tell_probe(&self, at: usize, verdict: Verdict, now: u64) -> Option<Change> {
        let probe = Some(self.probe(at, now));
        tell(self.endpoint(at), verdict, probe, &self.told(now))
    }

    fn sweep(&self, now: u64) -> Vec<(usize, Reason)> {
        let changes = sweep(&self.told(now), &mut || 0);
        let position = |member: &Member| {
            let mut members = self.set.members.iter();
            members.position(|one| std::ptr::eq(one, member)).unwrap()
        };
        let ejected = changes.iter().map(|(member, change)| match change {
            Change::Ejected { reason, .. } => (position(member), *reason),
            Change::Back => panic!("a sweep brings nobody back"),
        });
        ejected.collect()
    }
}

fn below() -> SuccessBelow {
    SuccessBelow {
        rate: 0.8,
        window: Duration::from_secs(10),
        minimum_requests: 5,
    }
}

fn ejected(reason: Reason, seconds: u64) -> Option<Change> {
    let time = Duration::from_secs(seconds);
    Some(Change::Ejected { reason, time })
}

use Verdict::{Broke, Error, Gateway, Limited, Silent};

#[test]
fn gateway_failures_in_a_row_eject_and_a_success_ends_the_row() {
    let scene = Scene::new(rules(), &[1, 1]);

    assert_eq!(
        scene.tell_all(0, &[Gateway, Gateway, Verdict::Ok], NOW),
        None
    );
    assert_eq!(
        scene.tell_all(0, &[Gateway, Error, Gateway, Gateway], NOW),
        None
    );
    let change = scene.tell(0, Gateway, NOW);

    assert_eq!(change, ejected(Reason::ConsecutiveFailures, 10));
    let seen = scene.seen(0, NOW + SECOND);
    assert_eq!(
        (seen.phase, seen.left.as_secs(), seen.failures),
        (Phase::Shut, 9, 0)
    );
    assert_eq!(seen.reason, Some(Reason::ConsecutiveFailures));
    assert_eq!(scene.seen(0, NOW + 10 * SECOND).phase, Phase::Open);
}

#[test]
fn answers_of_5xx_in_a_row_eject_only_where_they_are_counted() {
    let off = Scene::new(rules(), &[1, 1]);
    let counted = Ejection {
        consecutive_5xx: 4,
        ..rules()
    };
    let on = Scene::new(counted, &[1, 1]);

    assert_eq!(off.tell_all(0, &[Error; 100], NOW), None);
    assert_eq!(on.tell_all(0, &[Error, Gateway, Error], NOW), None);
    assert_eq!(on.tell(0, Error, NOW), ejected(Reason::Consecutive5xx, 10));
}

#[test]
fn a_refusal_for_rate_neither_counts_in_a_row_nor_ends_one() {
    let scene = Scene::new(rules(), &[1, 1]);

    assert_eq!(scene.tell_all(0, &[Limited; 100], NOW), None);
    assert_eq!(scene.tell_all(0, &[Gateway, Gateway, Limited], NOW), None);

    assert!(scene.tell(0, Gateway, NOW).is_some());
}

#[test]
fn what_arrives_while_an_endpoint_is_out_is_not_counted() {
    let scene = Scene::new(rules(), &[1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);

    assert_eq!(scene.tell_all(0, &[Gateway; 50], NOW + SECOND), None);

    let seen = scene.seen(0, NOW + 10 * SECOND);
    assert_eq!((seen.phase, seen.failures), (Phase::Open, 0));
}

#[test]
fn times_double_to_the_longest_and_each_quiet_interval_takes_one_back() {
    let scene = Scene::new(rules(), &[1, 1]);
    let mut now = NOW;
    let mut eject = |expected: u64| {
        let change = scene.tell_all(0, &[Gateway; 3], now);
        assert_eq!(change, ejected(Reason::ConsecutiveFailures, expected));
        now += expected * SECOND;
        now
    };

    let times = [10, 20, 40, 60, 60];
    let back = times.map(&mut eject)[4];

    // Three doublings reach 80 s, cut to 60 s; more are not counted.
    assert_eq!(scene.seen(0, back).ejections, 3);
    assert_eq!(scene.seen(0, back + 9 * SECOND).ejections, 3);
    assert_eq!(scene.seen(0, back + 10 * SECOND).ejections, 2);
    assert_eq!(scene.seen(0, back + 29 * SECOND).next.as_secs(), 20);
    // A success alone does not: an endpoint that flaps works now and then.
    scene.tell(0, Verdict::Ok, back);
    assert_eq!(scene.seen(0, back).ejections, 3);
    assert_eq!(scene.seen(0, back + 3600 * SECOND).next.as_secs(), 10);
}

#[test]
fn a_pool_of_one_is_never_ejected() {
    for weights in [&[1][..], &[1, 0]] {
        let scene = Scene::new(rules(), weights);

        assert_eq!(scene.tell_all(0, &[Gateway; 50], NOW), None);
    }
}

#[test]
fn one_may_always_be_out_and_others_within_the_share() {
    let few = Ejection {
        max_ejected: 0.5,
        ..rules()
    };
    let scene = Scene::new(few.clone(), &[1, 1, 1, 1]);
    let none = Scene::new(
        Ejection {
            max_ejected: 0.0,
            ..few
        },
        &[1, 1],
    );

    let out = [0, 1, 2, 3].map(|at| scene.tell_all(at, &[Gateway; 3], NOW).is_some());

    assert_eq!(out, [true, true, false, false]);
    assert!(
        scene.tell(2, Gateway, NOW + 11 * SECOND).is_some(),
        "room again"
    );
    assert!(none.tell_all(0, &[Gateway; 3], NOW).is_some());
    assert!(none.tell_all(1, &[Gateway; 3], NOW).is_none());
}

#[test]
fn silence_ejects_no_more_than_a_tenth() {
    let half = Ejection {
        max_ejected: 0.5,
        ..rules()
    };
    let scene = Scene::new(half, &[1; 20]);

    let silent = (0..20).filter(|at| scene.tell_all(*at, &[Silent; 3], NOW).is_some());
    assert_eq!(silent.count(), 2);

    let refusing = (0..20).filter(|at| scene.tell_all(*at, &[Gateway; 3], NOW).is_some());
    assert_eq!(refusing.count(), 8, "half may be out for other reasons");
}

#[test]
fn of_many_threads_that_see_the_last_failure_one_ejects() {
    let scene = Scene::new(rules(), &[1, 1]);

    let changes: usize = std::thread::scope(|scope| {
        let work = || (0..100).filter_map(|_| scene.tell(0, Gateway, NOW)).count();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).sum()
    });

    assert_eq!(changes, 1);
    assert_eq!(scene.seen(0, NOW).ejections, 1);
}

proptest! {
    /// Chance lengthens a time by at most its share, and never shortens it.
    #[test]
    fn times_stay_within_their_bounds(
        before in 0_u32..100,
        random in any::<u64>(),
        jitter in 0.0..=1.0_f64,
        base in 1_u64..1000,
        longest in 1_u64..100_000,
    ) {
        let rules = Ejection {
            base_time: Duration::from_millis(base.min(longest)),
            max_time: Duration::from_millis(longest),
            jitter,
            ..rules()
        };

        let time = rules.time_by_chance(before, random).as_secs_f64();

        let plain = rules.time(before).as_secs_f64();
        prop_assert!(time >= plain - 1e-9 && time <= plain * (1.0 + jitter) + 1e-9);
        prop_assert!(plain <= rules.max_time.as_secs_f64());
        prop_assert!(rules.time(before + 1) >= rules.time(before));
    }

    /// Whatever happens, never more are out than may be, and the window never invents requests.
    #[test]
    fn no_more_are_out_than_may_be(
        steps in prop::collection::vec((0_usize..6, 0_u8..4, 0_u64..5), 0..400),
        max_ejected in 0.0..=1.0_f64,
        probation in any::<bool>(),
    ) {
        let rules = Ejection {
            max_ejected,
            probation,
            success_below: Some(below()),
            ..rules()
        };
        let scene = Scene::new(rules, &[1; 6]);
        let mut now = NOW;
        for (at, verdict, seconds) in steps {
            now += seconds * SECOND;
            let verdict = [Verdict::Ok, Error, Gateway, Gateway][usize::from(verdict)];
            let probe = match Probe::claim(scene.endpoint(at), now) {
                Claim::Probe(probe) => Some(probe),
                Claim::Free | Claim::Busy => None,
            };
            tell(scene.endpoint(at), verdict, probe, &scene.told(now));

            let out = (0..6).filter(|at| scene.endpoint(*at).state.is_ejected(now)).count();
            prop_assert!(out <= 1 || out as f64 <= max_ejected * 6.0 + 1e-9, "{out} of 6");
        }
    }
}
