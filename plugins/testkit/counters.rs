//! Counters that remember.
//! They must not know what is counted.
//! Part of the kit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::contract::{Counter, CounterFactory};

/// Counters by instance and event.
#[derive(Default)]
pub(super) struct Counters(pub(super) Mutex<BTreeMap<(String, &'static str), Arc<AtomicU64>>>);

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
