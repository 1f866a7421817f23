//! A metric with labels that cannot grow without bound, and a lock-free list of things made on first use.
//! It must not know what is counted or which labels there are.
//! The handles in this folder are made from it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::core::{Collector, Describer, MetricVec, MetricVecBuilder};
use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// The label value that stands for every series beyond the budget.
pub(super) const OVERFLOW: &str = "_overflow";

/// One metric and its series. Past the budget, new label values are all counted under `_overflow`.
pub(super) struct Family<B: MetricVecBuilder> {
    vec: MetricVec<B>,
    known: Mutex<HashSet<Vec<Box<str>>>>,
    budget: usize,
    overflowed: IntCounter,
}

/// A counter with labels.
pub(super) type Counters = Family<<IntCounterVec as BuilderOf>::Builder>;
/// A counter of fractions (seconds) with labels.
pub(super) type Sums = Family<<CounterVec as BuilderOf>::Builder>;
/// A gauge with labels.
pub(super) type Gauges = Family<<IntGaugeVec as BuilderOf>::Builder>;
/// A histogram with labels.
pub(super) type Histograms = Family<<HistogramVec as BuilderOf>::Builder>;

/// Names the builder behind a vec: the prometheus crate does not export them.
pub(super) trait BuilderOf {
    /// The builder.
    type Builder: MetricVecBuilder;
}

impl<B: MetricVecBuilder> BuilderOf for MetricVec<B> {
    type Builder = B;
}

/// Makes families and registers them. Names and labels are literals of this folder, so a mistake shows in the first test.
pub(super) struct Maker<'a> {
    pub(super) registry: &'a Registry,
    pub(super) budget: usize,
    pub(super) overflow: &'a IntCounterVec,
}

impl Maker<'_> {
    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Counters {
        let vec = IntCounterVec::new(Opts::new(name, help), labels);
        self.family(name, vec.expect(LITERAL))
    }

    pub(super) fn sums(&self, name: &str, help: &str, labels: &[&str]) -> Sums {
        let vec = CounterVec::new(Opts::new(name, help), labels);
        self.family(name, vec.expect(LITERAL))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Gauges {
        let vec = IntGaugeVec::new(Opts::new(name, help), labels);
        self.family(name, vec.expect(LITERAL))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Histograms {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.family(name, HistogramVec::new(opts, labels).expect(LITERAL))
    }

    fn family<B>(&self, name: &str, vec: MetricVec<B>) -> Family<B>
    where
        B: MetricVecBuilder + 'static,
        B::P: Describer + Sync + Send + Clone,
        MetricVec<B>: Collector,
    {
        self.registry
            .register(Box::new(vec.clone()))
            .expect(LITERAL);
        Family {
            vec,
            known: Mutex::default(),
            budget: self.budget,
            overflowed: self.overflow.with_label_values(&[name]),
        }
    }
}

const LITERAL: &str =
    "metric names and labels are distinct literals that the prometheus crate accepts";

impl<B: MetricVecBuilder> Family<B> {
    /// The series with these label values, or the overflow series when the budget is spent.
    pub(super) fn with(&self, values: &[&str]) -> B::M {
        let mut known = lock(&self.known);
        let key: Vec<Box<str>> = values.iter().map(|value| Box::from(*value)).collect();
        if known.contains(&key) || known.len() < self.budget {
            known.insert(key);
            return self.vec.with_label_values(values);
        }
        drop(known);
        self.overflowed.inc();
        self.vec.with_label_values(&vec![OVERFLOW; values.len()])
    }

    /// Drops the series whose label values `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&[Box<str>]) -> bool) {
        let mut known = lock(&self.known);
        known.retain(|values| {
            let kept = keep(values);
            if !kept {
                // An unknown series cannot be removed, which is what removal wants anyway.
                let _ = self.vec.remove_label_values(values);
            }
            kept
        });
    }
}

/// Locks a mutex whose data stays usable even if a holder panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map for few keys, filled on first use, read without a lock: chunks of four that never move.
/// A route sees a handful of statuses and causes, the commonest first, so the scan is short.
pub(in crate::observe) struct FirstUse<K, V> {
    slots: [OnceLock<(K, V)>; 4],
    next: OnceLock<Box<FirstUse<K, V>>>,
}

impl<K, V> Default for FirstUse<K, V> {
    fn default() -> Self {
        FirstUse {
            slots: [const { OnceLock::new() }; 4],
            next: OnceLock::new(),
        }
    }
}

impl<K: Copy + PartialEq, V> FirstUse<K, V> {
    /// The value of the key; `make` runs when the key was never used.
    pub(in crate::observe) fn entry(&self, key: K, make: impl Fn() -> V) -> &V {
        let mut chunk = self;
        loop {
            for slot in &chunk.slots {
                // A thread that lost the race for this slot finds the winner's key and goes on.
                let (taken, value) = slot.get_or_init(|| (key, make()));
                if *taken == key {
                    return value;
                }
            }
            chunk = chunk.next.get_or_init(Box::default);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn family(budget: usize) -> (Registry, Counters) {
        let registry = Registry::new();
        let overflow =
            IntCounterVec::new(Opts::new("over_total", "Over."), &["metric"]).expect("literal");
        let maker = Maker {
            registry: &registry,
            budget,
            overflow: &overflow,
        };
        let counters = maker.counters("things_total", "Things.", &["a", "b"]);
        (registry, counters)
    }

    #[test]
    fn series_beyond_the_budget_share_the_overflow_series() {
        let (_registry, counters) = family(2);

        counters.with(&["1", "x"]).inc();
        counters.with(&["2", "x"]).inc();
        counters.with(&["3", "x"]).inc();
        counters.with(&["4", "x"]).inc();

        assert_eq!(counters.with(&["1", "x"]).get(), 1);
        assert_eq!(counters.with(&["5", "x"]).get(), 2);
    }

    #[test]
    fn removed_series_free_the_budget() {
        let (registry, counters) = family(1);
        counters.with(&["old", "x"]).inc();

        counters.retain(&|values| &*values[0] != "old");
        counters.with(&["new", "x"]).inc();

        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .expect("encodes");
        assert!(text.contains("things_total{a=\"new\",b=\"x\"} 1"), "{text}");
        assert!(!text.contains("old"), "{text}");
    }

    #[test]
    fn first_use_keeps_every_key_apart_under_contention() {
        let map: FirstUse<u16, std::sync::atomic::AtomicUsize> = FirstUse::default();

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..50 {
                        map.entry(key, Default::default)
                            .fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });

        for key in 0..50 {
            assert_eq!(map.entry(key, Default::default).load(Ordering::Relaxed), 4);
        }
    }
}
