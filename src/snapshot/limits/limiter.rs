//! The places of one pool: taken without a lock while there are some, waited for in turn when there are none.
//! It must not know what a request is, nor when it gives up waiting; whoever waits brings its own deadline.
//! One for each pool with `limits`, kept by name so that a reload changes its bounds and not its counts.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::queue::{Key, Queue, Turn};
use super::{Adaptive, Choosiness, Gradient, Lack, Limits, Priority};
use crate::observe::clock;
use crate::observe::metrics::LimitMetrics;

/// The places of a pool.
#[derive(Debug)]
pub struct Limiter {
    /// Those who wait in the upper half, those under way in the lower: one word, so that neither is seen without the other.
    state: AtomicU64,
    /// What may be under way: the lower one of the next two.
    most: AtomicU32,
    requests: AtomicU32,
    adaptive: ArcSwapOption<Mutex<Gradient>>,
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

/// What an adaptive bound comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The bound.
    pub limit: u32,
    /// Latency without queueing.
    pub reference: Option<Duration>,
    /// The median of the last window.
    pub median: Option<Duration>,
}

impl Limiter {
    /// A limiter with these bounds and nothing under way.
    pub fn new(limits: &Limits, metrics: LimitMetrics) -> Arc<Limiter> {
        let limiter = Limiter {
            state: AtomicU64::new(0),
            most: AtomicU32::new(NO_BOUND),
            requests: AtomicU32::new(NO_BOUND),
            adaptive: ArcSwapOption::empty(),
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
        self.adapt(limits.adaptive.as_ref());
        self.settle();
        let endpoints = bound(limits.endpoint_requests);
        self.endpoint_requests.store(endpoints, SeqCst);
        self.retries.store(bound(limits.retries), SeqCst);
        self.pending.store(limits.pending, SeqCst);
        let timeout = u64::try_from(limits.queue_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.queue_timeout.store(timeout, SeqCst);
        self.ring();
    }

    /// What was learned stays while the settings do.
    fn adapt(&self, settings: Option<&Adaptive>) {
        let now = self.adaptive.load();
        let same = match (&*now, settings) {
            (Some(gradient), Some(settings)) => lock(gradient).settings() == settings,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            let seed = RandomState::new().hash_one(0);
            let gradient = |settings: &Adaptive| {
                let gradient = Gradient::new(settings.clone(), clock::now(), seed);
                Arc::new(Mutex::new(gradient))
            };
            self.adaptive.store(settings.map(gradient));
        }
    }

    fn settle(&self) {
        let adaptive = self.adaptive.load();
        let adaptive = adaptive.as_ref().map(|gradient| lock(gradient).limit());
        let requests = self.requests.load(SeqCst);
        let most = requests.min(adaptive.unwrap_or(NO_BOUND));
        self.most.store(most, SeqCst);
    }

    /// An endpoint answered a request that was sent to it at a moment. While another thread takes note of an answer, this one
    /// is left out: which ones are is chance, so the rest is as good.
    pub fn answered(&self, began: u64, now: u64) {
        let adaptive = self.adaptive.load();
        let Some(gradient) = &*adaptive else {
            return;
        };
        let Ok(mut gradient) = gradient.try_lock() else {
            return;
        };
        let before = gradient.limit();
        gradient.answered(began, now);
        let after = gradient.limit();
        drop(gradient);
        if before != after {
            self.settle();
            if after > before {
                self.ring();
            }
        }
    }

    /// What the adaptive bound comes from, if there is one.
    pub fn reading(&self) -> Option<Reading> {
        let adaptive = self.adaptive.load();
        let gradient = lock(adaptive.as_ref()?);
        Some(Reading {
            limit: gradient.limit(),
            reference: gradient.reference().map(Duration::from_nanos),
            median: gradient.median().map(Duration::from_nanos),
        })
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
        self.most.load(Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub fn in_vain(&self, lack: Lack) {
        let called = self.limiter.queue().in_vain(self.key, lack);
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
