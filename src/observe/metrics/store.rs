//! What is counted about stores that are shared with other proxies: whether they are there, how often and how long they are asked.
//! It must not know what they are asked for; that is counted by plugins.
//! `Metrics::store` makes the handle of a store; `control::stores` drops the series of those that went away.

use std::sync::Arc;
use std::time::Duration;

use windrose_plugins::contract::StoreFailure;

use super::family::{Counters, Gauges, Histograms, Maker};
use super::first_use::FirstUse;
use super::series::{Histogram, IntCounter, IntGauge};

/// The families that stores feed.
pub(super) struct StoreFamilies {
    up: Gauges,
    commands: Counters,
    failures: Counters,
    seconds: Histograms,
}

impl StoreFamilies {
    pub(super) fn new(make: &Maker<'_>) -> StoreFamilies {
        StoreFamilies {
            up: make.gauges(
                "windrose_store_up",
                "Whether a shared store is connected (1) or not (0).",
                &["store"],
            ),
            commands: make.counters(
                "windrose_store_commands_total",
                "Operations that plugins asked of a shared store, however they ended.",
                &["store"],
            ),
            failures: make.counters(
                "windrose_store_failures_total",
                "Operations that a shared store did not do: unavailable (not connected), timed_out, busy (too many under way) or refused (it answered with an error).",
                &["store", "reason"],
            ),
            seconds: make.histograms(
                "windrose_store_duration_seconds",
                "Time that operations of a shared store took, of those that were sent.",
                &["store"],
                SECONDS,
            ),
        }
    }

    /// Drops the series of stores that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0]);
        self.up.retain(&by_name);
        self.commands.retain(&by_name);
        self.failures.retain(&by_name);
        self.seconds.retain(&by_name);
    }
}

/// From a store on the same machine to the longest time it may be given.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0,
];

/// Counters of one store.
pub struct StoreMetrics {
    name: String,
    families: Arc<StoreFamilies>,
    up: IntGauge,
    commands: IntCounter,
    failures: FirstUse<&'static str, IntCounter>,
    seconds: Histogram,
}

impl StoreMetrics {
    pub(super) fn new(families: &Arc<StoreFamilies>, store: &str) -> StoreMetrics {
        StoreMetrics {
            name: store.into(),
            up: families.up.with(&[store]),
            commands: families.commands.with(&[store]),
            failures: FirstUse::default(),
            seconds: families.seconds.with(&[store]),
            families: families.clone(),
        }
    }

    /// Whether it is connected.
    pub fn up(&self, is_up: bool) {
        self.up.set(is_up.into());
    }

    /// An operation was sent, and took so long.
    pub fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }

    /// An operation was done.
    pub fn answered(&self) {
        self.commands.inc();
    }

    /// An operation was not done.
    pub fn failed(&self, failure: &StoreFailure) {
        self.commands.inc();
        let reason = failure.as_str();
        let counter = || self.families.failures.with(&[&self.name, reason]);
        self.failures.entry(reason, counter).inc();
    }
}
