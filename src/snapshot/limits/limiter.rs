//! The places of one pool: taken without a lock while there are some, waited for in turn when there are none.
//! It must not know what a request is, nor when it gives up waiting; whoever waits brings its own deadline.
//! One for each pool with `limits`, kept by name so that a reload changes its bounds and not its counts.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::queue::{Key, Queue, Turn};
use super::{Choosiness, Limits, Priority};
use crate::observe::metrics::LimitMetrics;

/// The places of a pool.
#[derive(Debug)]
pub struct Limiter {
    /// Those who wait in the upper half, those under way in the lower: one word, so that neither is seen without the other.
    state: AtomicU64,
    requests: AtomicU32,
    endpoint_requests: AtomicU32,
    pending: AtomicU32,
    queue_timeout: AtomicU64,
    retries: AtomicU32,
    retrying: AtomicU32,
    queue: Mutex<Queue>,
    /// Counters.
    pub metrics: LimitMetrics,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Under way.
    pub in_flight: u32,
    /// Waiting.
    pub waiting: u32,
    /// Retries under way.
    pub retrying: u32,
    /// How many may be under way; `None` for no bound.
    pub most: Option<u32>,
}

impl Limiter {
    /// A limiter with these bounds and nothing under way.
    pub fn new(limits: &Limits, metrics: LimitMetrics) -> Arc<Limiter> {
        let limiter = Limiter {
            state: AtomicU64::new(0),
            requests: AtomicU32::new(NO_BOUND),
            endpoint_requests: AtomicU32::new(NO_BOUND),
            pending: AtomicU32::new(0),
            queue_timeout: AtomicU64::new(0),
            retries: AtomicU32::new(NO_BOUND),
            retrying: AtomicU32::new(0),
            queue: Mutex::default(),
            metrics,
        };
        limiter.resize(limits);
        Arc::new(limiter)
    }

    /// Changes the bounds. What is under way stays: after lowering, nothing enters until enough has ended.
    pub fn resize(&self, limits: &Limits) {
        let bound = |bound: Option<u32>| bound.unwrap_or(NO_BOUND);
        self.requests.store(bound(limits.requests), SeqCst);
        let endpoints = bound(limits.endpoint_requests);
        self.endpoint_requests.store(endpoints, SeqCst);
        self.retries.store(bound(limits.retries), SeqCst);
        self.pending.store(limits.pending, SeqCst);
        let timeout = u64::try_from(limits.queue_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.queue_timeout.store(timeout, SeqCst);
        self.ring();
    }

    /// A place, if one is free and nobody waits for it.
    pub fn try_enter(self: &Arc<Limiter>) -> Option<Permit> {
        let free = |state: u64| waiting(state) == 0 && in_flight(state) < self.most();
        self.take(free)
    }

    fn take(self: &Arc<Limiter>, free: impl Fn(u64) -> bool) -> Option<Permit> {
        let more = |state| free(state).then(|| state + 1);
        let taken = self.state.fetch_update(SeqCst, SeqCst, more);
        taken.ok().map(|_| Permit {
            limiter: self.clone(),
            end: End::Heard,
        })
    }

    /// A place in the queue; `None` when it is full.
    pub fn wait(self: &Arc<Limiter>, priority: Priority, choice: Choosiness) -> Option<Waiting> {
        let most = self.pending.load(Relaxed) as usize;
        let mut queue = self.queue();
        let (key, evicted) = queue.enter(priority, choice, most)?;
        self.state.fetch_add(ONE_WAITING, SeqCst);
        let called = queue.greet(key);
        drop(queue);
        wake(evicted);
        wake(called);
        Some(Waiting {
            limiter: self.clone(),
            key,
        })
    }

    /// Something else that is waited for became free: a place at an endpoint, or an endpoint.
    pub fn ring(&self) {
        // Whoever enters the queue looks for a place after that; whoever frees one looks for the queue after that. The fence
        // here and the one in `Waiting::try_enter` make sure that one of both sees the other.
        fence(SeqCst);
        if waiting(self.state.load(SeqCst)) > 0 {
            let called = self.queue().ring();
            wake(called);
        }
    }

    /// Lets a retry begin, unless too many are under way.
    pub fn try_retry(self: &Arc<Limiter>) -> Option<Retrying> {
        let most = self.retries.load(Relaxed);
        let more = |now| (now < most).then(|| now + 1);
        let begun = self.retrying.fetch_update(SeqCst, Relaxed, more);
        begun.ok().map(|_| Retrying(self.clone()))
    }

    /// How many may be under way at one endpoint; `u32::MAX` for no bound.
    pub fn endpoint_requests(&self) -> u32 {
        self.endpoint_requests.load(Relaxed)
    }

    /// How long one may wait.
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_nanos(self.queue_timeout.load(Relaxed))
    }

    /// How full the pool is.
    pub fn load(&self) -> Load {
        let state = self.state.load(Relaxed);
        let most = self.most();
        Load {
            in_flight: in_flight(state),
            waiting: waiting(state),
            retrying: self.retrying.load(Relaxed),
            most: (most != NO_BOUND).then_some(most),
        }
    }

    fn most(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place of a pool, free again when dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    end: End,
}

/// Whether those who wait hear of it when a place is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Heard,
    Unheard,
}

impl Permit {
    /// Gives back a place that was taken from the queue and not used. Nobody hears of it: only one at a time tries, and it
    /// would hear of itself.
    pub fn unused(mut self) {
        self.end = End::Unheard;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.limiter.state.fetch_sub(1, SeqCst);
        if waiting(before) > 0 && self.end == End::Heard {
            let called = self.limiter.queue().ring();
            wake(called);
        }
    }
}

/// A retry under way, until dropped.
#[derive(Debug)]
pub struct Retrying(Arc<Limiter>);

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, SeqCst);
    }
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub struct Waiting {
    limiter: Arc<Limiter>,
    key: Key,
}

impl Waiting {
    /// Waits to be called. `false` when a higher class took the place in the queue.
    pub async fn called(&self) -> bool {
        poll_fn(|cx| match self.limiter.queue().look(self.key, cx.waker()) {
            Turn::Waits => Poll::Pending,
            Turn::Called => Poll::Ready(true),
            Turn::Evicted => Poll::Ready(false),
        })
        .await
    }

    /// A place of the pool, for one that was called.
    pub fn try_enter(&self) -> Option<Permit> {
        fence(SeqCst);
        let limiter = &self.limiter;
        limiter.take(|state| in_flight(state) < limiter.most())
    }

    /// Says that there was nothing.
    pub fn in_vain(&self) {
        let called = self.limiter.queue().in_vain(self.key);
        wake(called);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queue = self.limiter.queue();
        let called = queue.leave(self.key);
        self.limiter.state.fetch_sub(ONE_WAITING, SeqCst);
        drop(queue);
        wake(called);
    }
}

/// The limiters of the process by pool, so that what is under way is counted on over reloads.
#[derive(Debug, Default)]
pub struct Limiters(Mutex<HashMap<Box<str>, Weak<Limiter>>>);

impl Limiters {
    /// The limiter of a pool; the one in use, if there is one, with its bounds as they are.
    pub fn limiter(&self, pool: &str, new: impl FnOnce() -> Arc<Limiter>) -> Arc<Limiter> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limiter) = known.get(pool).and_then(Weak::upgrade) {
            return limiter;
        }
        known.retain(|_, limiter| limiter.strong_count() > 0);
        let limiter = new();
        known.insert(pool.into(), Arc::downgrade(&limiter));
        limiter
    }

    /// The limiter of a pool, if it is in use.
    pub fn known(&self, pool: &str) -> Option<Arc<Limiter>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(pool).and_then(Weak::upgrade)
    }
}

/// Outside of the lock: the one woken may run at once on another thread and ask for it.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn in_flight(state: u64) -> u32 {
    state as u32
}

fn waiting(state: u64) -> u32 {
    (state >> 32) as u32
}

const ONE_WAITING: u64 = 1 << 32;
const NO_BOUND: u32 = u32::MAX;
