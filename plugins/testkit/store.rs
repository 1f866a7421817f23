//! Stores for tests: in memory, on the kit's clock, with failures on request.
//! It must not know what plugins count; it does what the operations say, so that plugins can be held to it.
//! Part of the kit.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Kit;
use crate::contract::{
    Clock, Granted, Store, StoreClient, StoreFailure, StoreFuture, Stores, TokenLaw, WindowLaw,
    Wish,
};

impl Kit {
    /// Adds an empty store.
    pub fn with_store(mut self, name: &str) -> Kit {
        let store = Arc::new(FakeStore {
            clock: self.clock(),
            kept: Mutex::default(),
            failure: Mutex::default(),
            asked: AtomicU64::new(0),
        });
        self.stores.0.insert(name.to_owned(), store);
        self
    }

    /// A store that was added.
    ///
    /// # Panics
    /// When none was added under this name.
    pub fn store(&self, name: &str) -> &FakeStore {
        let store = self.stores.0.get(name);
        store.expect("the store was added with `with_store`")
    }
}

/// The kit's stores, by name.
#[derive(Default)]
pub(super) struct FakeStores(BTreeMap<String, Arc<FakeStore>>);

impl Stores for FakeStores {
    fn store(&self, name: &str) -> Option<Store> {
        let client = self.0.get(name)?.clone();
        Some(Store::new(name, client))
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// A store in memory. Two kits that should share it are one kit: build the plugin twice with `build_as`.
pub struct FakeStore {
    clock: Clock,
    kept: Mutex<BTreeMap<String, Kept>>,
    failure: Mutex<Option<StoreFailure>>,
    asked: AtomicU64,
}

/// What is kept under a key, and until when.
struct Kept {
    what: What,
    until: Duration,
}

#[derive(Clone)]
enum What {
    Bucket { level: f64, at: Duration },
    Window { index: u64, count: u64, before: u64 },
    Count(u64),
    Value(Bytes),
}

impl FakeStore {
    /// Fails every operation from now on, or none any more.
    pub fn fail(&self, failure: Option<StoreFailure>) {
        *lock(&self.failure) = failure;
    }

    /// How many operations were asked of it, failures included.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Forgets everything, as a server without persistence does when it starts anew.
    pub fn forget(&self) {
        lock(&self.kept).clear();
    }

    /// The keys it knows, in order.
    pub fn keys(&self) -> Vec<String> {
        let now = self.clock.elapsed();
        let kept = lock(&self.kept);
        let live = kept.iter().filter(|(_, kept)| kept.until > now);
        live.map(|(key, _)| key.clone()).collect()
    }

    /// Runs an operation on what is under a key, unless it is to fail. It returns what to keep, until when, and its answer.
    fn run<T: Send + 'static>(
        &self,
        key: &str,
        act: impl FnOnce(Option<What>, Duration) -> (Option<(What, Duration)>, T),
    ) -> StoreFuture<'_, T> {
        assert!(
            key.len() <= 512 && !key.chars().any(char::is_control),
            "{key:?} is no key"
        );
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = lock(&self.failure).clone() {
            return Box::pin(ready(Err(failure)));
        }
        let now = self.clock.elapsed();
        let mut all = lock(&self.kept);
        let before = all.remove(key).filter(|kept| kept.until > now);
        let (keep, answer) = act(before.map(|kept| kept.what), now);
        if let Some((what, until)) = keep {
            all.insert(key.to_owned(), Kept { what, until });
        }
        Box::pin(ready(Ok(answer)))
    }
}

impl StoreClient for FakeStore {
    fn take_tokens<'a>(
        &'a self,
        key: &'a str,
        law: TokenLaw,
        wish: Wish,
    ) -> StoreFuture<'a, Granted> {
        self.run(key, |before, now| {
            let burst = law.burst as f64;
            let per_second = law.rate as f64 / law.per.as_secs_f64();
            let (level, at) = match before {
                Some(What::Bucket { level, at }) => (level, at),
                _ => (burst, now),
            };
            let grown = now.saturating_sub(at).as_secs_f64() * per_second;
            let level = (level + grown).min(burst);
            let (change, need) = wished(wish, level.max(0.0) as u64);
            let level = (level - change as f64).min(burst);
            let answer = Granted {
                granted: change.max(0) as u64,
                remaining: level.max(0.0) as u64,
                next: Duration::from_secs_f64((need as f64 - level).max(0.0) / per_second),
                full: Duration::from_secs_f64((burst - level) / per_second),
            };
            let until = now + answer.full + Duration::from_secs(1);
            (Some((What::Bucket { level, at: now }, until)), answer)
        })
    }

    fn add_in_window<'a>(
        &'a self,
        key: &'a str,
        law: WindowLaw,
        wish: Wish,
    ) -> StoreFuture<'a, Granted> {
        self.run(key, |kept, now| {
            let per = law.per.as_nanos() as f64;
            let now_ns = now.as_nanos() as f64;
            let index = (now_ns / per) as u64;
            let gone = now_ns - index as f64 * per;
            let (mut count, before) = match kept {
                Some(What::Window {
                    index: at,
                    count,
                    before,
                }) if at == index => (count, before),
                Some(What::Window {
                    index: at, count, ..
                }) if at + 1 == index => (0, count),
                _ => (0, 0),
            };
            let limit = law.limit as f64;
            let faded = before as f64 * (per - gone) / per;
            let free = (limit - count as f64 - faded).max(0.0) as u64;
            let (change, need) = wished(wish, free);
            let need = need as f64;
            count = count.saturating_add_signed(change);
            let used = count as f64 + faded;
            let next = match (used + need <= limit, count as f64 + need <= limit) {
                (true, _) => 0.0,
                (false, true) => per - (limit - need - count as f64) * per / before as f64 - gone,
                (false, false) => 2.0 * per - gone - (limit - need) * per / count as f64,
            };
            let answer = Granted {
                granted: change.max(0) as u64,
                remaining: (limit - used).max(0.0) as u64,
                next: Duration::from_nanos(next.max(0.0).ceil() as u64),
                full: Duration::from_nanos(match (count, before) {
                    (0, 0) => 0,
                    (0, _) => (per - gone) as u64,
                    _ => (2.0 * per - gone) as u64,
                }),
            };
            let what = What::Window {
                index,
                count,
                before,
            };
            (Some((what, now + law.per * 2)), answer)
        })
    }

    fn add_until<'a>(
        &'a self,
        key: &'a str,
        limit: u64,
        wish: Wish,
        until: Duration,
    ) -> StoreFuture<'a, Granted> {
        self.run(key, |kept, _| {
            let used = match kept {
                Some(What::Count(used)) => used,
                _ => 0,
            };
            let (change, _) = wished(wish, limit.saturating_sub(used));
            let used = used.saturating_add_signed(change);
            let answer = Granted {
                granted: change.max(0) as u64,
                remaining: limit.saturating_sub(used),
                ..Granted::default()
            };
            (Some((What::Count(used), until)), answer)
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Bytes>> {
        let until = lock(&self.kept).get(key).map(|kept| kept.until);
        self.run(key, |kept, _| match kept {
            Some(What::Value(value)) => {
                let keep = until.map(|until| (What::Value(value.clone()), until));
                (keep, Some(value))
            }
            other => (other.zip(until), None),
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, lives: Duration) -> StoreFuture<'a, ()> {
        self.run(key, |_, now| (Some((What::Value(value), now + lives)), ()))
    }

    fn delete<'a>(&'a self, key: &'a str) -> StoreFuture<'a, ()> {
        self.run(key, |_, _| (None, ()))
    }
}

/// How many are taken of so many that are free, less than zero where some are given back; and how many it waits for.
fn wished(wish: Wish, free: u64) -> (i64, u64) {
    match wish {
        Wish::Take { least, most } if free >= least => (most.min(free) as i64, 1),
        Wish::Take { least, .. } => (0, least),
        Wish::Owe(uses) => (uses as i64, 1),
        Wish::Return(uses) => (-(uses as i64), 1),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
