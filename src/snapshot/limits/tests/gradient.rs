//! The gradient against a simulated service in virtual time: so many workers, a line before them, and more demand than
//! they can serve.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

const MILLI: u64 = 1_000_000;

fn settings() -> Adaptive {
    Adaptive {
        least: 3,
        most: 1000,
        window: Duration::from_millis(100),
        buffer: 0.25,
        measure_every: Duration::from_secs(60),
        measure_requests: 50,
        jitter: 0.15,
    }
}

/// A service, its clients, and the limit between them.
struct Scene {
    gradient: Gradient,
    now: u64,
    workers: usize,
    /// How long a worker needs for a request.
    time: u64,
    /// Requests that clients would have under way.
    demand: usize,
    line: VecDeque<u64>,
    busy: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Scene {
    fn new(workers: usize, time: u64, demand: usize) -> Scene {
        Scene {
            gradient: Gradient::new(settings(), 1, 7),
            now: 1,
            workers,
            time,
            demand,
            line: VecDeque::new(),
            busy: BinaryHeap::new(),
        }
    }

    fn under_way(&self) -> usize {
        self.line.len() + self.busy.len()
    }

    /// Lets time go by; the limits at its ends of windows.
    fn run(&mut self, time: Duration) -> Vec<u32> {
        let end = self.now + nanos(time);
        let mut limits = Vec::new();
        while self.now < end {
            let most = self.demand.min(self.gradient.limit() as usize);
            while self.under_way() < most {
                self.line.push_back(self.now);
            }
            while self.busy.len() < self.workers {
                let Some(began) = self.line.pop_front() else {
                    break;
                };
                // Requests differ by a tenth, so that they do not end in step.
                let spread = self.time / 10 * (began % 3);
                self.busy
                    .push(Reverse((self.now + self.time + spread, began)));
            }
            let Some(Reverse((ends, began))) = self.busy.pop() else {
                return limits;
            };
            self.now = ends.max(self.now + 1);
            self.gradient.answered(began, self.now);
            limits.push(self.gradient.limit());
        }
        limits
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn median(mut limits: Vec<u32>) -> u32 {
    limits.sort_unstable();
    limits[limits.len() / 2]
}

#[test]
fn under_too_much_demand_the_limit_settles_near_what_the_service_can_do() {
    for workers in [20, 50, 200] {
        let mut scene = Scene::new(workers, 10 * MILLI, 5_000);
        // The reference is measured before the crowd comes.
        scene.demand = workers / 2;
        scene.run(Duration::from_secs(2));
        scene.demand = 5_000;
        scene.run(Duration::from_secs(20));

        let limit = median(scene.run(Duration::from_secs(10))) as usize;

        assert!(limit >= workers, "{workers} workers idle at {limit}");
        assert!(limit <= workers * 2, "{workers} workers, limit {limit}");
    }
}

#[test]
fn a_crowd_from_the_first_moment_settles_after_the_next_measurement() {
    let mut scene = Scene::new(20, 10 * MILLI, 5_000);

    scene.run(Duration::from_secs(300));

    let limit = median(scene.run(Duration::from_secs(30)));
    assert!((20..=60).contains(&limit), "{limit}");
}

#[test]
fn measuring_again_and_again_does_not_let_the_limit_climb() {
    let mut scene = Scene::new(50, 10 * MILLI, 5_000);
    scene.demand = 20;
    scene.run(Duration::from_secs(2));
    scene.demand = 5_000;
    scene.run(Duration::from_secs(50));
    let early = median(scene.run(Duration::from_secs(10)));

    scene.run(Duration::from_secs(1_200));

    let late = median(scene.run(Duration::from_secs(10)));
    assert!(late <= early * 3 / 2, "{early} became {late}");
    assert!(late >= 50, "{late}");
}

#[test]
fn a_service_that_slows_down_is_asked_less_and_more_again_when_it_recovers() {
    let mut scene = Scene::new(50, 10 * MILLI, 5_000);
    scene.demand = 20;
    scene.run(Duration::from_secs(2));
    scene.demand = 5_000;
    let before = median(scene.run(Duration::from_secs(20)));

    scene.workers = 5;
    scene.run(Duration::from_secs(10));
    let slow = median(scene.run(Duration::from_secs(5)));
    scene.workers = 50;
    scene.run(Duration::from_secs(20));
    let after = median(scene.run(Duration::from_secs(5)));

    assert!(slow * 3 < before, "{before}, then {slow}");
    assert!(after * 4 > before * 3, "{before}, then {after}");
}

#[test]
fn little_traffic_raises_the_limit_to_its_highest() {
    let mut scene = Scene::new(50, 10 * MILLI, 10);

    scene.run(Duration::from_secs(30));

    assert_eq!(scene.gradient.limit(), 1000);
}

#[test]
fn while_it_measures_nobody_is_refused_who_uses_less_than_half() {
    let mut scene = Scene::new(50, 10 * MILLI, 10);
    scene.run(Duration::from_secs(30));

    let limits = scene.run(Duration::from_secs(120));

    assert_eq!(limits.iter().copied().min(), Some(500));
}

#[test]
fn a_reference_that_is_no_longer_true_is_measured_early() {
    let mut scene = Scene::new(50, 10 * MILLI, 40);
    scene.run(Duration::from_secs(5));

    // A new version of the service needs eight times as long.
    scene.time = 80 * MILLI;
    scene.run(Duration::from_secs(15));

    let reference = scene.gradient.reference().unwrap_or(0);
    assert!(reference >= 70 * MILLI, "{reference}");
    assert!(scene.gradient.limit() >= 40, "{}", scene.gradient.limit());
}

#[test]
fn the_same_seed_gives_the_same_limits() {
    let run = || Scene::new(20, 10 * MILLI, 200).run(Duration::from_secs(90));

    assert_eq!(run(), run());
}

proptest! {
    #[test]
    fn whatever_comes_the_limit_stays_within_its_bounds(
        times in proptest::collection::vec((0..5_000_u64, 0..3_000_u64), 1..400),
        least in 1..20_u32,
        more in 0..50_u32,
    ) {
        let settings = Adaptive { least, most: least + more, ..settings() };
        let mut gradient = Gradient::new(settings, 0, 1);
        let mut now = 0;
        for (latency, pause) in times {
            now += pause * MILLI;
            gradient.answered(now.saturating_sub(latency * MILLI), now);
            prop_assert!((least..=least + more).contains(&gradient.limit()));
        }
    }
}
