//! What is counted about an endpoint of a pool: attempts, connections, health and ejection.
//! It must not know how it is chosen or checked.
//! The fast path counts attempts, the health checker health; `Metrics::endpoint` makes it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use super::family::{lock, Budget, Counters, Maker, Sums};
use super::first_use::FirstUse;
use super::pool::{PoolMetrics, Results};
use super::series::{IntCounter, Sum};

/// Every endpoint's handle, by pool and address.
pub(super) type EndpointHandles = Arc<Mutex<BTreeMap<Arc<str>, OfPool>>>;
/// Handles of a pool's endpoints, by address.
pub(super) type OfPool = BTreeMap<Arc<str>, Arc<EndpointMetrics>>;

/// The families that have an endpoint label. Histograms stay with the pool: sixteen series for each pod would be dear.
pub(super) struct EndpointFamilies {
    /// Of the gauges, whose values the handles keep.
    pub(super) gauges: [Budget; 2],
    attempts: Counters,
    seconds: Sums,
    connections: Counters,
    ejections: Counters,
    checks: Counters,
    idle_ends: Counters,
}

impl EndpointFamilies {
    pub(super) fn new(make: &Maker<'_>, endpoints: &EndpointHandles) -> EndpointFamilies {
        let with = |last| ["pool", "endpoint", last];
        EndpointFamilies {
            gauges: gauges(make, endpoints),
            attempts: make.counters(
                "windrose_endpoint_attempts_total",
                "Attempts at the endpoint, by result.",
                &with("result"),
            ),
            seconds: make.sums(
                "windrose_endpoint_attempt_seconds_total",
                "Time spent in attempts at the endpoint; by its attempts it gives the mean.",
                &["pool", "endpoint"],
            ),
            connections: make.counters(
                "windrose_endpoint_connections_total",
                "Connections used for attempts, new or reused.",
                &with("kind"),
            ),
            ejections: make.counters(
                "windrose_endpoint_ejections_total",
                "Times the endpoint was ejected, by what for.",
                &with("reason"),
            ),
            checks: make.counters(
                "windrose_endpoint_checks_total",
                "Health checks of the endpoint, by result.",
                &with("result"),
            ),
            idle_ends: make.counters(
                "windrose_endpoint_idle_ends_total",
                "Kept HTTP/1 connections that the endpoint ended: while they were idle (closed; seen on one in eight until its limit is known), or just as a request went out (raced).",
                &with("when"),
            ),
        }
    }

    /// Drops the series of endpoints that `keep` refuses, asked with pool and endpoint.
    pub(super) fn retain(&self, keep: &dyn Fn(&str, &str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0], labels[1]);
        self.attempts.retain(&by_name);
        self.seconds.retain(&by_name);
        self.connections.retain(&by_name);
        self.ejections.retain(&by_name);
        self.checks.retain(&by_name);
        self.idle_ends.retain(&by_name);
    }
}

/// What is true of each endpoint right now.
fn gauges(make: &Maker<'_>, endpoints: &EndpointHandles) -> [Budget; 2] {
    let drawn = |name, help, read: fn(&EndpointMetrics) -> &AtomicBool| {
        let endpoints = endpoints.clone();
        make.drawn(name, help, &["pool", "endpoint"], move |see| {
            for (pool, all) in lock(&endpoints).iter() {
                let told = all.iter().filter(|(_, one)| one.is_told);
                told.for_each(|(name, one)| see(&[pool, name], read(one).load(Relaxed).into()));
            }
        })
    };
    [
        drawn(
            "windrose_endpoint_healthy",
            "Whether the endpoint passes its health check (1) or not (0).",
            |one| &one.healthy,
        ),
        drawn(
            "windrose_endpoint_ejected",
            "Whether the endpoint is ejected for failing traffic (1) or not (0).",
            |one| &one.ejected,
        ),
    ]
}

/// Counters of one endpoint of a pool. Attempts count for the pool too. Series appear at first use: of ten thousand endpoints
/// a node calls few.
pub struct EndpointMetrics {
    name: Arc<str>,
    pool: Arc<PoolMetrics>,
    used: OnceLock<Box<Used>>,
    /// Whether it is within the budget of gauges.
    is_told: bool,
    healthy: AtomicBool,
    ejected: AtomicBool,
}

/// Series of an endpoint that is used.
#[derive(Default)]
struct Used {
    traffic: OnceLock<Traffic>,
    checks: OnceLock<Results>,
    ejections: FirstUse<&'static str, IntCounter>,
    idle_ends: FirstUse<&'static str, IntCounter>,
}

/// Series of an endpoint at which there were attempts.
struct Traffic {
    attempts: Results,
    seconds: Sum,
    fresh: IntCounter,
    reused: IntCounter,
}

impl EndpointMetrics {
    /// One more beside those that are known.
    pub(super) fn new(pool: Arc<PoolMetrics>, name: Arc<str>, known: usize) -> EndpointMetrics {
        let gauges = &pool.families.endpoint.gauges;
        let allowed = gauges.each_ref().map(|one| one.allows(known));
        EndpointMetrics {
            name,
            used: OnceLock::new(),
            is_told: allowed.iter().all(|allowed| *allowed),
            healthy: AtomicBool::new(true),
            ejected: AtomicBool::new(false),
            pool,
        }
    }

    /// The endpoint's name in labels.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn used(&self) -> &Used {
        self.used.get_or_init(Box::default)
    }

    fn with(&self, family: &Counters, last: &str) -> IntCounter {
        family.with(&[&self.pool.name, &self.name, last])
    }

    fn families(&self) -> &EndpointFamilies {
        &self.pool.families.endpoint
    }

    fn traffic(&self) -> &Traffic {
        self.used().traffic.get_or_init(|| {
            let families = self.families();
            Traffic {
                attempts: Results::new(|result| self.with(&families.attempts, result)),
                seconds: families.seconds.with(&[&self.pool.name, &self.name]),
                fresh: self.with(&families.connections, "new"),
                reused: self.with(&families.connections, "reused"),
            }
        })
    }

    /// An attempt is over: its response header came, or it failed.
    pub fn attempt(&self, ok: bool, seconds: f64) {
        let traffic = self.traffic();
        traffic.attempts.count(ok);
        traffic.seconds.inc_by(seconds.max(0.0));
        self.pool.attempt(ok, seconds);
    }

    /// A connection is used for an attempt: a kept one, or one made in so many seconds.
    pub fn connect(&self, made_in: Option<f64>) {
        match made_in {
            None => self.traffic().reused.inc(),
            Some(seconds) => {
                self.traffic().fresh.inc();
                self.pool.connected(seconds);
            }
        }
    }

    /// The endpoint ended a kept connection: `closed` or `raced`.
    pub fn ended_idle(&self, when: &'static str) {
        let make = || self.with(&self.families().idle_ends, when);
        self.used().idle_ends.entry(when, make).inc();
    }

    /// What the health checker thinks now.
    pub fn healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Relaxed);
    }

    /// The endpoint was ejected, for this reason.
    pub fn ejected(&self, reason: &'static str) {
        let make = || self.with(&self.families().ejections, reason);
        self.used().ejections.entry(reason, make).inc();
        self.ejected.store(true, Relaxed);
    }

    /// The endpoint is not ejected, or no longer.
    pub fn not_ejected(&self) {
        self.ejected.store(false, Relaxed);
    }

    /// A health check is over.
    pub fn check(&self, ok: bool) {
        let results = || Results::new(|result| self.with(&self.families().checks, result));
        self.used().checks.get_or_init(results).count(ok);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node knows thousands of endpoints that nobody calls: what each takes is part of the price of a mesh.
    #[test]
    fn an_endpoint_that_nobody_calls_takes_few_bytes() {
        assert!(size_of::<EndpointMetrics>() <= 48);
        assert!(size_of::<PoolMetrics>() <= 80);
    }
}
