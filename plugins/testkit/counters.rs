//! Counters that remember.
//! They must not know what is counted.
//! Part of the kit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::contract::{Counter, CounterFactory};

/// Counters by instance, event and what they are of.
#[derive(Default)]
pub(super) struct Counters(Mutex<BTreeMap<Key, Arc<AtomicU64>>>);

type Key = (String, &'static str, String);

impl CounterFactory for Counters {
    fn counter(&self, instance: &str, event: &'static str) -> Counter {
        self.counter_of(instance, event, "")
    }

    fn counter_of(&self, instance: &str, event: &'static str, of: &str) -> Counter {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (instance.to_owned(), event, of.to_owned());
        let count = counts.entry(key).or_default().clone();
        Arc::new(move |more| {
            count.fetch_add(more, Ordering::Relaxed);
        })
    }
}

impl Counters {
    /// How much of an event was counted, over all instances; of one thing, or of all.
    pub(super) fn of(&self, event: &str, of: Option<&str>) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |key: &Key| key.1 == event && of.is_none_or(|of| key.2 == of);
        let meant = counts.iter().filter(|(key, _)| is_meant(key));
        meant.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}
