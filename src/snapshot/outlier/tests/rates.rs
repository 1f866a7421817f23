//! Ejection by shares: an endpoint's own, and compared with the others.
//! It must not sleep or ask the real clock.
//! Run by `cargo test`.

use super::*;

fn judged_by_itself() -> Ejection {
    Ejection {
        consecutive_failures: 0,
        success_below: Some(below()),
        ..rules()
    }
}

#[test]
fn too_few_successes_of_its_own_eject_at_once() {
    let scene = Scene::new(judged_by_itself(), &[1, 1]);

    // Four of five is not below 80 %.
    assert_eq!(scene.tell_all(0, &[Verdict::Ok; 4], NOW), None);
    assert_eq!(scene.tell(0, Error, NOW), None);
    let change = scene.tell(0, Limited, NOW + SECOND);

    assert_eq!(change, ejected(Reason::SuccessBelow, 10));
    // It begins anew.
    assert_eq!(scene.tell_all(0, &[Error; 4], NOW + 12 * SECOND), None);
    assert!(scene.tell(0, Error, NOW + 12 * SECOND).is_some());
}

#[test]
fn a_window_forgets_what_is_older_than_it() {
    let scene = Scene::new(judged_by_itself(), &[1, 1]);
    scene.tell_all(0, &[Error; 4], NOW);

    assert_eq!(scene.tell_all(0, &[Error; 4], NOW + 10 * SECOND), None);
    assert_eq!(
        scene.tell(0, Error, NOW + 19 * SECOND),
        ejected(Reason::SuccessBelow, 10)
    );
}

#[test]
fn a_response_that_breaks_off_counts_as_one_failed_request() {
    let scene = Scene::new(judged_by_itself(), &[1, 1]);

    for _ in 0..4 {
        assert_eq!(scene.tell_all(0, &[Verdict::Ok, Broke], NOW), None);
    }

    let change = scene.tell_all(0, &[Verdict::Ok, Broke], NOW);
    assert_eq!(change, ejected(Reason::SuccessBelow, 10));
}

fn compared() -> Ejection {
    Ejection {
        consecutive_failures: 0,
        success_rate: Some(SuccessRate {
            minimum_endpoints: 5,
            minimum_requests: 100,
            deviations: 1.9,
        }),
        ..rules()
    }
}

fn by_percentage() -> Ejection {
    Ejection {
        consecutive_failures: 0,
        failure_percentage: Some(FailurePercentage {
            at_least: 0.85,
            minimum_endpoints: 2,
            minimum_requests: 20,
        }),
        ..rules()
    }
}

impl Scene {
    fn requests(&self, at: usize, ok: usize, failed: usize) {
        for (verdict, count) in [(Verdict::Ok, ok), (Error, failed)] {
            for _ in 0..count {
                assert_eq!(self.tell(at, verdict, NOW), None);
            }
        }
    }
}

#[test]
fn a_rate_far_below_the_others_ejects_at_the_end_of_the_interval() {
    let scene = Scene::new(compared(), &[1; 6]);
    for at in 0..5 {
        scene.requests(at, 100, 1);
    }
    scene.requests(5, 70, 40);

    assert_eq!(scene.sweep(NOW), [(5, Reason::SuccessRate)]);
    assert_eq!(scene.sweep(NOW), [], "counts were taken");
}

#[test]
fn too_few_requests_or_endpoints_compare_nothing() {
    let few_endpoints = Scene::new(compared(), &[1; 5]);
    let few_requests = Scene::new(compared(), &[1; 6]);
    let draining = Scene::new(compared(), &[1, 1, 1, 1, 0]);
    for at in 0..4 {
        few_endpoints.requests(at, 100, 0);
        few_requests.requests(at, 100, 0);
        draining.requests(at, 100, 0);
    }
    few_endpoints.requests(4, 0, 99);
    few_requests.requests(4, 100, 0);
    few_requests.requests(5, 0, 99);
    draining.requests(4, 0, 100);

    assert_eq!(few_endpoints.sweep(NOW), []);
    assert_eq!(few_requests.sweep(NOW), []);
    assert_eq!(draining.sweep(NOW), []);
}

#[test]
fn a_share_of_failures_ejects_within_the_share_that_may_be_out() {
    let scene = Scene::new(by_percentage(), &[1; 4]);
    let half = Scene::new(
        Ejection {
            max_ejected: 0.5,
            ..by_percentage()
        },
        &[1; 4],
    );
    for scene in [&scene, &half] {
        scene.requests(0, 3, 17);
        scene.requests(1, 4, 16);
        scene.requests(2, 0, 19);
        scene.requests(3, 0, 20);
    }
    half.requests(1, 0, 80);

    let all = Reason::FailurePercentage;
    assert_eq!(scene.sweep(NOW), [(0, all), (3, all)]);
    assert_eq!(half.sweep(NOW), [(0, all), (1, all)]);
}

#[test]
fn what_was_counted_before_an_ejection_does_not_count_after_it() {
    let rules = Ejection {
        consecutive_failures: 3,
        ..by_percentage()
    };
    let scene = Scene::new(rules, &[1; 4]);
    scene.requests(0, 0, 100);
    scene.requests(1, 100, 0);
    scene.tell_all(0, &[Gateway; 3], NOW);

    assert_eq!(scene.sweep(NOW + 11 * SECOND), []);
}

#[test]
fn counts_of_an_interval_are_exact_under_threads() {
    let interval = Interval::default();
    let window = Window::default();

    let taken: u32 = std::thread::scope(|scope| {
        let work = || {
            for _ in 0..5000 {
                interval.add(Sample::Bad);
                window.add(NOW, Duration::from_secs(10), Sample::Bad);
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let mut taken = 0;
        while threads.iter().any(|one| !one.is_finished()) {
            taken += interval.take().failed;
        }
        taken + interval.take().requests
    });

    assert_eq!(taken, 20_000);
    let sum = window.add(NOW, Duration::from_secs(10), Sample::Good);
    assert_eq!((sum.requests, sum.failed), (20_001, 20_000));
}

proptest! {
    /// Endpoints that do the same are never told apart, whatever the bound.
    #[test]
    fn equal_rates_eject_nobody(
        ok in 0_usize..200,
        failed in 0_usize..200,
        count in 3_usize..12,
        deviations in 0.001..3.0_f64,
    ) {
        let mut rules = compared();
        rules.success_rate = Some(SuccessRate { minimum_endpoints: 3, minimum_requests: 1, deviations });
        let scene = Scene::new(rules, &vec![1; count]);
        for at in 0..count {
            scene.requests(at, ok, failed);
        }

        prop_assert_eq!(scene.sweep(NOW), vec![]);
    }

    /// Among n endpoints none is as far as the root of n-1 deviations below the mean; a rule of the configuration relies on it.
    #[test]
    fn no_rate_is_farther_below_the_mean_than_its_bound(
        counts in prop::collection::vec((0_usize..100, 0_usize..100), 3..12),
    ) {
        let mut rules = compared();
        let deviations = ((counts.len() - 1) as f64).sqrt();
        rules.success_rate = Some(SuccessRate { minimum_endpoints: 3, minimum_requests: 1, deviations });
        let scene = Scene::new(rules, &vec![1; counts.len()]);
        for (at, (ok, failed)) in counts.iter().enumerate() {
            scene.requests(at, *ok, failed + 1);
        }

        prop_assert_eq!(scene.sweep(NOW), vec![]);
    }
}
