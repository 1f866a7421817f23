//! The one request that tries an endpoint whose time is over: its verdict, its absence, and others at the same moment.
//! It must not sleep or ask the real clock.
//! Run by `cargo test`.

use super::*;

#[test]
fn one_request_tries_and_its_success_opens() {
    let scene = Scene::new(on_probation(), &[1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let (early, later) = (NOW + 9 * SECOND, NOW + 100 * SECOND);
    let state = &scene.endpoint(0).state;

    assert!(!state.is_available(early));
    assert!(state.is_available(later) && state.is_ejected(later));
    assert_eq!(scene.seen(0, later).phase, Phase::Awaiting);
    let probe = scene.probe(0, later);
    assert_eq!(scene.seen(0, later).phase, Phase::Trying);
    assert!(!state.is_available(later));
    assert!(matches!(
        Probe::claim(scene.endpoint(0), later),
        Claim::Busy
    ));
    // Other responses, late ones, are not counted.
    assert_eq!(
        scene.tell_all(0, &[Verdict::Ok, Gateway, Gateway, Gateway], later),
        None
    );
    let change = tell(
        scene.endpoint(0),
        Verdict::Ok,
        Some(probe),
        &scene.told(later),
    );

    assert_eq!(change, Some(Change::Back));
    assert_eq!(scene.seen(0, later).phase, Phase::Open);
    assert!(matches!(
        Probe::claim(scene.endpoint(0), later),
        Claim::Free
    ));
}

#[test]
fn a_failed_try_ejects_for_twice_the_time() {
    let scene = Scene::new(on_probation(), &[1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let mut now = NOW + 10 * SECOND;

    for seconds in [20, 40, 60, 60] {
        let change = scene.tell_probe(0, Gateway, now);
        assert_eq!(change, ejected(Reason::Probation, seconds));
        assert!(!scene
            .endpoint(0)
            .state
            .is_available(now + seconds * SECOND - 1));
        now += seconds * SECOND;
    }

    assert_eq!(scene.tell_probe(0, Verdict::Ok, now), Some(Change::Back));
    // Working again takes the doublings back by and by.
    assert_eq!(scene.seen(0, now).ejections, 3);
    assert_eq!(scene.seen(0, now + 30 * SECOND).ejections, 0);
}

#[test]
fn a_try_fails_by_what_would_count_otherwise() {
    let counted = Ejection {
        consecutive_5xx: 4,
        ..on_probation()
    };
    let shares = Ejection {
        success_below: Some(below()),
        ..on_probation()
    };
    let after = |rules: Ejection, verdict| {
        let scene = Scene::new(rules, &[1, 1]);
        scene.tell_all(0, &[Gateway; 3], NOW);
        scene.tell_probe(0, verdict, NOW + 10 * SECOND)
    };

    assert_eq!(after(on_probation(), Error), Some(Change::Back));
    assert_eq!(after(on_probation(), Limited), Some(Change::Back));
    assert_eq!(
        after(counted.clone(), Error),
        ejected(Reason::Probation, 20)
    );
    assert_eq!(after(counted, Limited), Some(Change::Back));
    assert_eq!(after(shares, Limited), ejected(Reason::Probation, 20));
}

#[test]
fn a_try_without_a_verdict_is_given_back() {
    let scene = Scene::new(on_probation(), &[1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let later = NOW + 10 * SECOND;

    drop(scene.probe(0, later));

    assert_eq!(scene.seen(0, later).phase, Phase::Awaiting);
    assert_eq!(scene.tell_probe(0, Verdict::Ok, later), Some(Change::Back));
}

#[test]
fn a_health_check_that_passes_meanwhile_makes_a_try_an_ordinary_request() {
    let scene = Scene::new(on_probation(), &[1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let later = NOW + 10 * SECOND;
    let probe = scene.probe(0, later);

    assert!(scene.endpoint(0).state.outlier.open(later));
    let change = tell(scene.endpoint(0), Gateway, Some(probe), &scene.told(later));

    assert_eq!(change, None);
    assert_eq!(
        (scene.seen(0, later).phase, scene.seen(0, later).failures),
        (Phase::Open, 1)
    );
    assert!(!scene.endpoint(0).state.outlier.open(later), "once");
}

#[test]
fn a_long_response_opens_after_the_base_time_unless_it_fails_before() {
    let begun = || {
        let scene = Scene::new(on_probation(), &[1, 1]);
        scene.tell_all(0, &[Gateway; 3], NOW);
        let mut probe = scene.probe(0, NOW + 10 * SECOND);
        probe.answered(&scene.told(NOW + 10 * SECOND));
        (scene, probe)
    };
    let at = |seconds: u64| NOW + seconds * SECOND;

    let (scene, probe) = begun();
    assert!(!scene.endpoint(0).state.is_available(at(19)));
    assert!(scene.endpoint(0).state.is_available(at(20)));
    // Hours later it is a failure like any other.
    assert_eq!(
        tell(
            scene.endpoint(0),
            Gateway,
            Some(probe),
            &scene.told(at(9000))
        ),
        None
    );
    assert_eq!(scene.seen(0, at(9000)).failures, 1);

    let (scene, probe) = begun();
    let change = tell(scene.endpoint(0), Gateway, Some(probe), &scene.told(at(19)));
    assert_eq!(change, ejected(Reason::Probation, 20));

    let (scene, probe) = begun();
    let change = tell(
        scene.endpoint(0),
        Verdict::Ok,
        Some(probe),
        &scene.told(at(12)),
    );
    assert_eq!(change, Some(Change::Back));

    let (scene, probe) = begun();
    drop(probe);
    assert!(!scene.endpoint(0).state.is_available(at(19)));
    assert!(scene.endpoint(0).state.is_available(at(20)));
}

#[test]
fn of_many_threads_one_at_a_time_tries() {
    let scene = Scene::new(on_probation(), &[1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let later = NOW + 10 * SECOND;
    let trying = AtomicU32::new(0);
    let tries = AtomicU32::new(0);

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    if let Claim::Probe(probe) = Probe::claim(scene.endpoint(0), later) {
                        assert_eq!(trying.fetch_add(1, Relaxed), 0);
                        tries.fetch_add(1, Relaxed);
                        trying.fetch_sub(1, Relaxed);
                        drop(probe);
                    }
                }
            });
        }
    });

    assert!(tries.load(Relaxed) > 0);
}

#[test]
fn of_many_requests_that_choose_at_once_one_tries_and_the_others_go_elsewhere() {
    let scene = Scene::new(on_probation(), &[1, 1, 1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let now = NOW + 10 * SECOND;

    let choose = |random| {
        let choice = Choice {
            subset: None,
            hash: None,
            tried: &[],
            now,
            random,
        };
        scene.choose(&choice).unwrap()
    };

    let chosen: Vec<(usize, Option<Box<Probe>>)> = std::thread::scope(|scope| {
        let work = || (0..50).map(&choose).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let of = threads.into_iter().flat_map(|one| one.join().unwrap());
        of.collect()
    });

    let of_first = chosen.iter().filter(|(at, _)| *at == 0).count();
    let probes = chosen.iter().filter(|(_, probe)| probe.is_some()).count();
    assert_eq!((of_first, probes), (1, 1));
}

#[test]
fn who_loses_the_try_chooses_again_and_goes_there_only_if_that_is_chosen_again() {
    let scene = Scene::new(on_probation(), &[1, 1, 1]);
    scene.tell_all(0, &[Gateway; 3], NOW);
    let now = NOW + 10 * SECOND;
    let _first = scene.probe(0, now);
    let chosen_of = |picks: &[usize]| {
        let picks = std::cell::RefCell::new(picks.iter().copied());
        let chosen = scene.set.choose(now, || picks.borrow_mut().next());
        chosen.map(|(at, probe)| (at, probe.is_some()))
    };

    assert_eq!(chosen_of(&[0, 1]), Some((1, false)));
    // An algorithm that insists does so because the pool panics.
    assert_eq!(chosen_of(&[0, 0, 1]), Some((0, false)));
    assert_eq!(chosen_of(&[0]), None);
    assert_eq!(chosen_of(&[]), None);
}

#[test]
fn a_panicking_pool_uses_endpoints_that_are_out_without_trying_them() {
    let scene = Scene::new(on_probation(), &[1, 1, 1]);
    for at in [0, 1] {
        scene.tell_all(at, &[Gateway; 3], NOW);
    }

    let chosen = (0..30).map(|random| {
        let choice = Choice {
            subset: None,
            hash: None,
            tried: &[],
            now: NOW + SECOND,
            random,
        };
        scene.choose(&choice).unwrap()
    });
    let chosen: Vec<_> = chosen.collect();

    assert!([0, 1, 2]
        .iter()
        .all(|at| chosen.iter().any(|(one, _)| one == at)));
    assert!(chosen.iter().all(|(_, probe)| probe.is_none()));
}
