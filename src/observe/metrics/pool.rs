//! What is counted about a pool and its endpoints: attempts, connects, health and ejection.
//! It must not know how an endpoint is chosen or checked.
//! The fast path counts attempts, the health checker health; `Metrics::pool` and `Metrics::endpoint` make them.

use std::sync::Arc;

use prometheus::{Counter, Histogram, IntCounter, IntGauge};
use windrose_plugins::contract::Cause;

use super::family::{Counters, FirstUse, Gauges, Histograms, Maker, Sums};
use super::SECONDS;

/// The families that pools and endpoints feed.
pub(super) struct PoolFamilies {
    pub(super) endpoints: Gauges,
    pub(super) available: Gauges,
    pub(super) no_endpoint: Counters,
    pub(super) panics: Gauges,
    pub(super) retry_budget: Gauges,
    pub(super) attempts: Counters,
    pub(super) zone_attempts: Counters,
    pub(super) sessions: Counters,
    pub(super) attempt_seconds: Histograms,
    pub(super) connect_seconds: Histograms,
    pub(super) endpoint: EndpointFamilies,
}

/// The part of the families that has an endpoint label. Histograms stay with the pool: sixteen series for each pod would be dear.
pub(super) struct EndpointFamilies {
    pub(super) attempts: Counters,
    pub(super) seconds: Sums,
    pub(super) connections: Counters,
    pub(super) healthy: Gauges,
    pub(super) ejected: Gauges,
    pub(super) ejections: Counters,
    pub(super) checks: Counters,
    pub(super) idle_ends: Counters,
}

impl PoolFamilies {
    pub(super) fn new(make: &Maker<'_>) -> PoolFamilies {
        PoolFamilies {
            endpoints: make.gauges(
                "windrose_pool_endpoints",
                "Endpoints the pool has.",
                &["pool"],
            ),
            available: make.gauges(
                "windrose_pool_endpoints_available",
                "Endpoints of the pool that are neither failing checks nor ejected.",
                &["pool"],
            ),
            panics: make.gauges(
                "windrose_pool_panics",
                "Whether so few endpoints of some level of the pool are available that health is ignored in it (1) or not (0).",
                &["pool"],
            ),
            retry_budget: make.gauges(
                "windrose_pool_retry_budget_available",
                "Further attempts that the pool's retry budget would pay for now.",
                &["pool"],
            ),
            no_endpoint: make.counters(
                "windrose_pool_no_endpoint_total",
                "Attempts for which the pool had no endpoint to offer, by cause.",
                &["pool", "cause"],
            ),
            attempts: make.counters(
                "windrose_pool_attempts_total",
                "Attempts at endpoints of the pool; kept when endpoints come and go.",
                &["pool", "result"],
            ),
            zone_attempts: make.counters(
                "windrose_pool_zone_attempts_total",
                "Attempts at endpoints of the own zone (local) and of others (other), for pools that prefer a zone.",
                &["pool", "zone"],
            ),
            sessions: make.counters(
                "windrose_pool_sessions_total",
                "Responses of pools that keep sessions by cookie: the session began, was kept at its endpoint, or moved to another.",
                &["pool", "result"],
            ),
            attempt_seconds: make.histograms(
                "windrose_pool_attempt_duration_seconds",
                "Time of attempts, from the endpoint's choice to the response's header or the failure.",
                &["pool"],
                SECONDS,
            ),
            connect_seconds: make.histograms(
                "windrose_pool_connect_duration_seconds",
                "Time that new connections to endpoints took, TLS included.",
                &["pool"],
                SECONDS,
            ),
            endpoint: EndpointFamilies::new(make),
        }
    }
}

impl EndpointFamilies {
    fn new(make: &Maker<'_>) -> EndpointFamilies {
        let labels = ["pool", "endpoint"];
        let with = |last| ["pool", "endpoint", last];
        EndpointFamilies {
            attempts: make.counters(
                "windrose_endpoint_attempts_total",
                "Attempts at the endpoint, by result.",
                &with("result"),
            ),
            seconds: make.sums(
                "windrose_endpoint_attempt_seconds_total",
                "Time spent in attempts at the endpoint; by its attempts it gives the mean.",
                &labels,
            ),
            connections: make.counters(
                "windrose_endpoint_connections_total",
                "Connections used for attempts, new or reused.",
                &with("kind"),
            ),
            healthy: make.gauges(
                "windrose_endpoint_healthy",
                "Whether the endpoint passes its health check (1) or not (0).",
                &labels,
            ),
            ejected: make.gauges(
                "windrose_endpoint_ejected",
                "Whether the endpoint is ejected for failing traffic (1) or not (0).",
                &labels,
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
}

impl PoolFamilies {
    /// Drops the series of pools that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[Box<str>]| keep(&labels[0]);
        self.endpoints.retain(&by_name);
        self.available.retain(&by_name);
        self.panics.retain(&by_name);
        self.no_endpoint.retain(&by_name);
        self.retry_budget.retain(&by_name);
        self.attempts.retain(&by_name);
        self.zone_attempts.retain(&by_name);
        self.sessions.retain(&by_name);
        self.attempt_seconds.retain(&by_name);
        self.connect_seconds.retain(&by_name);
    }
}

impl EndpointFamilies {
    /// Drops the series of endpoints that `keep` refuses, asked with pool and endpoint.
    pub(super) fn retain(&self, keep: &dyn Fn(&str, &str) -> bool) {
        let by_name = |labels: &[Box<str>]| keep(&labels[0], &labels[1]);
        self.attempts.retain(&by_name);
        self.seconds.retain(&by_name);
        self.connections.retain(&by_name);
        self.healthy.retain(&by_name);
        self.ejected.retain(&by_name);
        self.ejections.retain(&by_name);
        self.checks.retain(&by_name);
        self.idle_ends.retain(&by_name);
    }
}

/// Counters of one pool.
pub struct PoolMetrics {
    name: String,
    families: Arc<PoolFamilies>,
    endpoints: IntGauge,
    available: IntGauge,
    panics: IntGauge,
    retry_budget: IntGauge,
    attempts: Results,
    attempt_seconds: Histogram,
    connect_seconds: Histogram,
    no_endpoint: FirstUse<&'static str, IntCounter>,
    zones: FirstUse<bool, IntCounter>,
    sessions: FirstUse<SessionResult, IntCounter>,
}

/// What became of a session that a cookie keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionResult {
    /// The client named no endpoint.
    Begun,
    /// It stayed.
    Kept,
    /// The client named another endpoint, or one that is none.
    Moved,
}

impl PoolMetrics {
    pub(super) fn new(families: &Arc<PoolFamilies>, name: &str) -> PoolMetrics {
        PoolMetrics {
            name: name.into(),
            endpoints: families.endpoints.with(&[name]),
            available: families.available.with(&[name]),
            panics: families.panics.with(&[name]),
            retry_budget: families.retry_budget.with(&[name]),
            attempts: Results::new(|result| families.attempts.with(&[name, result])),
            attempt_seconds: families.attempt_seconds.with(&[name]),
            connect_seconds: families.connect_seconds.with(&[name]),
            no_endpoint: FirstUse::default(),
            zones: FirstUse::default(),
            sessions: FirstUse::default(),
            families: families.clone(),
        }
    }

    /// The pool had no endpoint to offer.
    pub fn no_endpoint(&self, cause: &'static Cause) {
        self.no_endpoint
            .entry(cause.name, || {
                self.families.no_endpoint.with(&[&self.name, cause.name])
            })
            .inc();
    }

    /// How many further attempts the retry budget would pay for.
    pub fn retry_budget(&self, available: u64) {
        self.retry_budget
            .set(i64::try_from(available).unwrap_or(i64::MAX));
    }

    /// An attempt goes to the own zone, or to another.
    pub fn zone(&self, is_local: bool) {
        let word = if is_local { "local" } else { "other" };
        let make = || self.families.zone_attempts.with(&[&self.name, word]);
        self.zones.entry(is_local, make).inc();
    }

    /// A response goes to a client with a session.
    pub fn session(&self, result: SessionResult) {
        let word = match result {
            SessionResult::Begun => "begun",
            SessionResult::Kept => "kept",
            SessionResult::Moved => "moved",
        };
        let make = || self.families.sessions.with(&[&self.name, word]);
        self.sessions.entry(result, make).inc();
    }

    /// Whether health is ignored in some level.
    pub fn panics(&self, panics: bool) {
        self.panics.set(i64::from(panics));
    }

    /// How many endpoints there are, and how many can be used.
    pub fn endpoints(&self, total: usize, available: usize) {
        self.endpoints.set(total as i64);
        self.available.set(available as i64);
    }
}

/// Counters of one endpoint of a pool. Attempts count for the pool too.
pub struct EndpointMetrics {
    name: Box<str>,
    pool: Arc<PoolMetrics>,
    attempts: Results,
    seconds: Counter,
    fresh: IntCounter,
    reused: IntCounter,
    healthy: IntGauge,
    ejected: IntGauge,
    ejections: FirstUse<&'static str, IntCounter>,
    idle_ends: FirstUse<&'static str, IntCounter>,
    checks: Results,
}

impl EndpointMetrics {
    pub(super) fn new(pool: Arc<PoolMetrics>, name: &str) -> EndpointMetrics {
        let families = &pool.families.endpoint;
        let labels = [pool.name.as_str(), name];
        let with = |last| [pool.name.as_str(), name, last];
        EndpointMetrics {
            name: name.into(),
            attempts: Results::new(|result| families.attempts.with(&with(result))),
            seconds: families.seconds.with(&labels),
            fresh: families.connections.with(&with("new")),
            reused: families.connections.with(&with("reused")),
            healthy: families.healthy.with(&labels),
            ejected: families.ejected.with(&labels),
            ejections: FirstUse::default(),
            checks: Results::new(|result| families.checks.with(&with(result))),
            idle_ends: FirstUse::default(),
            pool,
        }
    }

    /// An attempt is over: its response header came, or it failed.
    pub fn attempt(&self, ok: bool, seconds: f64) {
        self.attempts.count(ok);
        self.seconds.inc_by(seconds.max(0.0));
        self.pool.attempts.count(ok);
        self.pool.attempt_seconds.observe(seconds);
    }

    /// A connection is used for an attempt: a kept one, or one made in so many seconds.
    pub fn connect(&self, made_in: Option<f64>) {
        match made_in {
            None => self.reused.inc(),
            Some(seconds) => {
                self.fresh.inc();
                self.pool.connect_seconds.observe(seconds);
            }
        }
    }

    /// The endpoint ended a kept connection: `closed` or `raced`.
    pub fn ended_idle(&self, when: &'static str) {
        let count = self.idle_ends.entry(when, || {
            let labels = [&self.pool.name, &*self.name, when];
            self.pool.families.endpoint.idle_ends.with(&labels)
        });
        count.inc();
    }

    /// What the health checker thinks now.
    pub fn healthy(&self, healthy: bool) {
        self.healthy.set(i64::from(healthy));
    }

    /// The endpoint was ejected, for this reason.
    pub fn ejected(&self, reason: &'static str) {
        let count = self.ejections.entry(reason, || {
            let labels = [&self.pool.name, &*self.name, reason];
            self.pool.families.endpoint.ejections.with(&labels)
        });
        count.inc();
        self.ejected.set(1);
    }

    /// The endpoint is not ejected, or no longer.
    pub fn not_ejected(&self) {
        self.ejected.set(0);
    }

    /// A health check is over.
    pub fn check(&self, ok: bool) {
        self.checks.count(ok);
    }
}

/// A counter for what went well and one for what did not.
struct Results {
    ok: IntCounter,
    failed: IntCounter,
}

impl Results {
    fn new(counter: impl Fn(&'static str) -> IntCounter) -> Results {
        Results {
            ok: counter("ok"),
            failed: counter("failed"),
        }
    }

    fn count(&self, ok: bool) {
        if ok {
            self.ok.inc();
        } else {
            self.failed.inc();
        }
    }
}
