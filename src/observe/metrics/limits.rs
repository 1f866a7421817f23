//! What is counted about a pool's limits: how full it is, who waited and how long, who was refused.
//! It must not know how places are given away.
//! Made for each pool with limits by `Metrics::limits`; gauges are set as `control` looks, the rest as it happens.

use std::sync::Arc;

use windrose_plugins::contract::Cause;

use super::family::{Counters, Gauges, Histograms, Maker};
use super::first_use::FirstUse;
use super::series::{Histogram, IntCounter, IntGauge};
use super::SECONDS;

/// The families that limits feed.
pub(super) struct LimitFamilies {
    in_flight: Gauges,
    waiting: Gauges,
    limit: Gauges,
    rejected: Counters,
    queue_seconds: Histograms,
}

impl LimitFamilies {
    pub(super) fn new(make: &Maker<'_>) -> LimitFamilies {
        LimitFamilies {
            in_flight: make.gauges(
                "windrose_pool_limited_requests",
                "Requests or connections under way in a pool with limits.",
                &["pool"],
            ),
            waiting: make.gauges(
                "windrose_pool_pending_requests",
                "Requests or connections that wait for a place in the pool.",
                &["pool"],
            ),
            limit: make.gauges(
                "windrose_pool_limit_requests",
                "How many requests or connections may be under way in the pool; -1 for no bound.",
                &["pool"],
            ),
            rejected: make.counters(
                "windrose_pool_rejected_total",
                "Requests, connections and retries that the pool's limits refused, by cause.",
                &["pool", "cause"],
            ),
            queue_seconds: make.histograms(
                "windrose_pool_queue_duration_seconds",
                "Time that requests and connections waited for a place in the pool, however that ended.",
                &["pool"],
                SECONDS,
            ),
        }
    }

    /// Drops the series of pools that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0]);
        self.in_flight.retain(&by_name);
        self.waiting.retain(&by_name);
        self.limit.retain(&by_name);
        self.rejected.retain(&by_name);
        self.queue_seconds.retain(&by_name);
    }
}

/// Counters of one pool's limits.
pub struct LimitMetrics {
    pool: String,
    families: Arc<LimitFamilies>,
    in_flight: IntGauge,
    waiting: IntGauge,
    limit: IntGauge,
    rejected: FirstUse<&'static str, IntCounter>,
    queue_seconds: Histogram,
}

impl std::fmt::Debug for LimitMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LimitMetrics({})", self.pool)
    }
}

/// Nothing bounds the pool any more: values of before must not stay.
impl Drop for LimitMetrics {
    fn drop(&mut self) {
        self.load(0, 0, None);
    }
}

impl LimitMetrics {
    pub(super) fn new(families: &Arc<LimitFamilies>, pool: &str) -> LimitMetrics {
        LimitMetrics {
            pool: pool.into(),
            in_flight: families.in_flight.with(&[pool]),
            waiting: families.waiting.with(&[pool]),
            limit: families.limit.with(&[pool]),
            rejected: FirstUse::default(),
            queue_seconds: families.queue_seconds.with(&[pool]),
            families: families.clone(),
        }
    }

    /// How full the pool is.
    pub fn load(&self, in_flight: u32, waiting: u32, limit: Option<u32>) {
        self.in_flight.set(i64::from(in_flight));
        self.waiting.set(i64::from(waiting));
        self.limit.set(limit.map_or(-1, i64::from));
    }

    /// One was refused.
    pub fn rejected(&self, cause: &'static Cause) {
        self.count(cause.name);
    }

    /// A retry was not made.
    pub fn retry_rejected(&self) {
        self.count("retries");
    }

    fn count(&self, cause: &'static str) {
        let counter = || self.families.rejected.with(&[&self.pool, cause]);
        self.rejected.entry(cause, counter).inc();
    }

    /// One waited so long.
    pub fn waited(&self, seconds: f64) {
        self.queue_seconds.observe(seconds);
    }
}
