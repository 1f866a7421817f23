//! Counters that remember.
//! They must not know what is counted.
//! Part of the kit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::contract::{Counter, CounterFactory};

/// Counters by instance and event.
#[derive(Default)]
pub(super) struct Counters(Mutex<BTreeMap<(String, &'static str), Arc<AtomicU64>>>);

impl CounterFactory for Counters {
    fn counter(&self, instance: &str, event: &'static str) -> Counter {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((instance.to_owned(), event)).or_default();
        let count = count.clone();
        Arc::new(move |more| {
            count.fetch_add(more, Ordering::Relaxed);
        })
    }
}

impl Counters {
    /// How often an event was counted, over all instances.
    pub(super) fn of(&self, event: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_event = counts.iter().filter(|((_, name), _)| *name == event);
        of_event
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum()
    }
}
