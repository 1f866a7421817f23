//! Tests of places and of whose turn it is. Nothing here takes time: futures are polled by hand.

mod gradient;
mod shed;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake};

use proptest::prelude::*;

use super::*;
use crate::observe::metrics::Metrics;

fn limiter(limits: &Limits) -> Arc<Limiter> {
    Limiter::new(limits, Metrics::new(100).limits("p"))
}

fn limits(requests: u32, pending: u32) -> Limits {
    Limits {
        requests: Some(requests),
        pending,
        queue_timeout: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// Counts wake-ups.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Whether it is called, `None` while it waits.
fn called(waiting: &Waiting) -> Option<bool> {
    look(waiting, &Arc::default())
}

fn look(waiting: &Waiting, bell: &Arc<Bell>) -> Option<bool> {
    let waker = bell.clone().into();
    match pin!(waiting.called()).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(called) => Some(called),
        Poll::Pending => None,
    }
}

fn wait(limiter: &Arc<Limiter>, priority: Priority) -> Waiting {
    let waiting = limiter.wait(priority, Choosiness::Any);
    let waiting = waiting.expect("the queue has room");
    if called(&waiting) == Some(true) {
        assert!(waiting.try_enter().is_none(), "nothing was free");
        waiting.in_vain(Lack::Place);
    }
    waiting
}

#[test]
fn places_are_given_up_to_the_limit_and_come_back() {
    let limiter = limiter(&limits(2, 0));

    let first = limiter.try_enter().expect("a place");
    let second = limiter.try_enter().expect("a place");
    assert!(limiter.try_enter().is_none());
    assert!(limiter.wait(Priority::Critical, Choosiness::Any).is_none());

    drop(first);
    let third = limiter.try_enter();
    assert!(third.is_some());
    drop((second, third));
    assert_eq!(limiter.load().in_flight, 0);
}

#[test]
fn the_first_to_come_is_called_first() {
    let limiter = limiter(&limits(1, 3));
    let held = limiter.try_enter().expect("a place");
    let waiting = [(); 3].map(|()| wait(&limiter, Priority::Normal));

    drop(held);

    assert_eq!(waiting.each_ref().map(called), [Some(true), None, None]);
    let held = waiting[0].try_enter().expect("its place");
    let [served, second, third] = waiting;
    drop(served);
    // Called because there might be more; there is not.
    assert_eq!(called(&second), Some(true));
    assert!(second.try_enter().is_none());
    second.in_vain(Lack::Place);
    assert_eq!((called(&second), called(&third)), (None, None));
    drop(held);
    assert_eq!((called(&second), called(&third)), (Some(true), None));
}

#[test]
fn a_higher_class_is_called_before_those_that_came_earlier() {
    let limiter = limiter(&limits(1, 4));
    let held = limiter.try_enter().expect("a place");
    let low = wait(&limiter, Priority::Low);
    let normal = wait(&limiter, Priority::Normal);
    let critical = wait(&limiter, Priority::Critical);

    drop(held);

    assert_eq!(
        [&low, &normal, &critical].map(called),
        [None, None, Some(true)]
    );
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let limiter = limiter(&limits(1, 1));
    let held = limiter.try_enter().expect("a place");
    let waiting = wait(&limiter, Priority::Low);

    drop(held);

    assert!(limiter.try_enter().is_none());
    assert!(waiting.try_enter().is_some());
}

#[test]
fn a_full_queue_gives_up_the_newest_of_a_lower_class_for_a_higher_one() {
    let limiter = limiter(&limits(1, 2));
    let _held = limiter.try_enter().expect("a place");
    let first = wait(&limiter, Priority::Low);
    let second = wait(&limiter, Priority::Low);
    let bell = Arc::<Bell>::default();
    assert_eq!(look(&second, &bell), None);

    let high = limiter.wait(Priority::High, Choosiness::Any);

    assert!(high.is_some());
    assert_eq!(bell.0.load(SeqCst), 1);
    assert_eq!((called(&first), called(&second)), (None, Some(false)));
    assert!(limiter.wait(Priority::Low, Choosiness::Any).is_none());
}

#[test]
fn who_leaves_the_queue_while_called_passes_the_call_on() {
    let limiter = limiter(&limits(1, 2));
    let held = limiter.try_enter().expect("a place");
    let first = wait(&limiter, Priority::Normal);
    let second = wait(&limiter, Priority::Normal);
    let bell = Arc::<Bell>::default();
    assert_eq!(look(&second, &bell), None);
    drop(held);
    assert_eq!(called(&first), Some(true));

    drop(first);

    assert_eq!(bell.0.load(SeqCst), 1);
    assert_eq!(called(&second), Some(true));
    assert!(second.try_enter().is_some());
}

#[test]
fn what_becomes_free_during_a_try_is_not_missed() {
    let limiter = limiter(&limits(1, 1));
    let held = limiter.try_enter().expect("a place");
    let waiting = limiter.wait(Priority::Normal, Choosiness::Any);
    let waiting = waiting.expect("room");
    assert_eq!(called(&waiting), Some(true));
    assert!(waiting.try_enter().is_none());

    drop(held);
    waiting.in_vain(Lack::Place);

    assert_eq!(called(&waiting), Some(true));
    assert!(waiting.try_enter().is_some());
}

#[test]
fn behind_a_particular_one_the_next_may_try() {
    let limiter = limiter(&limits(5, 3));
    let enter = |choice| limiter.wait(Priority::Normal, choice).expect("room");
    let particular = enter(Choosiness::Particular);
    assert_eq!(called(&particular), Some(true));
    particular.in_vain(Lack::Endpoint);
    let any = enter(Choosiness::Any);
    // The particular one had its chance again first.
    assert_eq!((called(&particular), called(&any)), (Some(true), None));

    particular.in_vain(Lack::Endpoint);

    assert_eq!(called(&any), Some(true));
    let last = enter(Choosiness::Any);
    any.in_vain(Lack::Endpoint);
    assert_eq!((called(&any), called(&last)), (None, None));
}

#[test]
fn a_retry_that_holds_its_place_is_called_behind_one_that_finds_none() {
    let limiter = limiter(&limits(1, 3));
    // The retry's.
    let _place = limiter.try_enter().expect("a place");
    let first = wait(&limiter, Priority::Normal);
    let second = wait(&limiter, Priority::Normal);
    let retry = limiter.wait(Priority::Normal, Choosiness::Particular);
    let retry = retry.expect("room");
    let states = || [&first, &second, &retry].map(called);

    // An endpoint may have become free while it entered.
    assert_eq!(states(), [Some(true), None, None]);
    first.in_vain(Lack::Place);
    assert_eq!(states(), [None, None, Some(true)]);
    retry.in_vain(Lack::Endpoint);
    assert_eq!(states(), [None; 3]);

    limiter.ring();
    assert_eq!(states(), [Some(true), None, None]);
    first.in_vain(Lack::Place);
    assert_eq!(states(), [None, None, Some(true)]);
}

#[test]
fn a_raised_limit_calls_and_a_lowered_one_lets_what_is_under_way_end() {
    let limiter = limiter(&limits(1, 2));
    let first = limiter.try_enter().expect("a place");
    let waiting = wait(&limiter, Priority::Normal);

    limiter.resize(&limits(2, 2));
    assert_eq!(called(&waiting), Some(true));
    let second = waiting.try_enter().expect("a place");
    drop(waiting);

    limiter.resize(&limits(1, 2));
    assert_eq!(limiter.load().in_flight, 2);
    drop(first);
    assert!(limiter.try_enter().is_none());
    drop(second);
    assert!(limiter.try_enter().is_some());
}

#[test]
fn retries_are_counted_apart() {
    let limiter = limiter(&Limits {
        retries: Some(1),
        ..Limits::default()
    });

    let one = limiter.try_retry();
    assert!(one.is_some() && limiter.try_retry().is_none());
    drop(one);
    assert!(limiter.try_retry().is_some());
}

#[test]
fn a_limiter_is_found_again_while_it_is_in_use() {
    let limiters = Limiters::default();
    let new = || limiter(&limits(1, 0));
    let one = limiters.limiter("p", new);
    let held = one.try_enter();
    drop(one);

    assert_eq!(limiters.limiter("p", new).load().in_flight, 1);
    drop(held);
    assert!(limiters.known("p").is_none());
}

#[test]
fn threads_never_hold_more_places_than_there_are() {
    let limiter = limiter(&limits(3, 0));
    let most = AtomicUsize::new(0);
    let now = AtomicUsize::new(0);

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Some(_held) = limiter.try_enter() {
                        let held = now.fetch_add(1, SeqCst) + 1;
                        most.fetch_max(held, SeqCst);
                        now.fetch_sub(1, SeqCst);
                    }
                }
            });
        }
    });

    assert!(most.load(SeqCst) <= 3);
    assert_eq!(limiter.load().in_flight, 0);
}

#[derive(Debug, Clone)]
enum Act {
    Arrive(usize),
    Finish(usize),
    GiveUp(usize),
    Resize(u32),
    Poll,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..4_usize).prop_map(Act::Arrive),
        3 => any::<usize>().prop_map(Act::Finish),
        1 => any::<usize>().prop_map(Act::GiveUp),
        1 => (1..6_u32).prop_map(Act::Resize),
        3 => Just(Act::Poll),
    ];
    proptest::collection::vec(act, 1..120)
}

/// Lets everyone who is called try until nobody is.
fn settle(waiting: &mut Vec<Waiting>, held: &mut Vec<Permit>) {
    loop {
        let before = waiting.len();
        waiting.retain(|one| match called(one) {
            None => true,
            Some(false) => false,
            Some(true) => match one.try_enter() {
                Some(permit) => {
                    held.push(permit);
                    false
                }
                None => {
                    one.in_vain(Lack::Place);
                    true
                }
            },
        });
        if waiting.len() == before && waiting.iter().all(|one| called(one).is_none()) {
            return;
        }
    }
}

proptest! {
    #[test]
    fn places_never_leak_and_never_wait_beside_those_who_want_them(acts in acts()) {
        let limiter = limiter(&limits(3, 8));
        let (mut held, mut waiting, mut most) = (Vec::new(), Vec::new(), 3);
        for act in acts {
            match act {
                Act::Arrive(class) => match limiter.try_enter() {
                    Some(permit) => {
                        held.push(permit);
                        prop_assert!(held.len() <= most, "beyond the limit");
                    }
                    None => waiting.extend(limiter.wait(Priority::ALL[class], Choosiness::Any)),
                },
                Act::Finish(at) if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                Act::GiveUp(at) if !waiting.is_empty() => drop(waiting.remove(at % waiting.len())),
                Act::Resize(to) => {
                    limiter.resize(&limits(to, 8));
                    most = to as usize;
                }
                Act::Poll => {
                    let before = held.len();
                    settle(&mut waiting, &mut held);
                    prop_assert!(held.len() <= most.max(before));
                    prop_assert!(waiting.is_empty() || held.len() >= most, "a free place and somebody who waits");
                }
                Act::Finish(_) | Act::GiveUp(_) => {}
            }
            let load = limiter.load();
            prop_assert_eq!(load.in_flight as usize, held.len());
            prop_assert_eq!(load.waiting as usize, waiting.len());
        }
        drop((held, waiting));
        let load = limiter.load();
        prop_assert_eq!((load.in_flight, load.waiting), (0, 0));
    }
}
