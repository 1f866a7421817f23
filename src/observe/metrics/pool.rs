//! What is counted about a pool: its endpoints, attempts at them, connects and sessions.
//! It must not know how an endpoint is chosen or checked.
//! The fast path counts attempts, `control` sets what is true right now; `Metrics::pool` makes it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use windrose_plugins::contract::Cause;

use super::endpoint::{EndpointFamilies, EndpointHandles};
use super::family::{lock, Budget, Counters, Histograms, Maker};
use super::first_use::FirstUse;
use super::series::{Histogram, IntCounter};
use super::SECONDS;

/// Every pool's handle, by name.
pub(super) type PoolHandles = Arc<Mutex<BTreeMap<Arc<str>, Arc<PoolMetrics>>>>;

/// The families that pools and endpoints feed.
pub(super) struct PoolFamilies {
    /// Of the gauges, whose values the handles keep.
    pub(super) gauges: [Budget; 4],
    no_endpoint: Counters,
    attempts: Counters,
    zone_attempts: Counters,
    sessions: Counters,
    attempt_seconds: Histograms,
    connect_seconds: Histograms,
    pub(super) endpoint: EndpointFamilies,
}

impl PoolFamilies {
    pub(super) fn new(
        make: &Maker<'_>,
        pools: &PoolHandles,
        endpoints: &EndpointHandles,
    ) -> PoolFamilies {
        PoolFamilies {
            gauges: gauges(make, pools),
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
            endpoint: EndpointFamilies::new(make, endpoints),
        }
    }

    /// Drops the series of pools that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0]);
        self.no_endpoint.retain(&by_name);
        self.attempts.retain(&by_name);
        self.zone_attempts.retain(&by_name);
        self.sessions.retain(&by_name);
        self.attempt_seconds.retain(&by_name);
        self.connect_seconds.retain(&by_name);
    }
}

/// What is true of each pool right now.
fn gauges(make: &Maker<'_>, pools: &PoolHandles) -> [Budget; 4] {
    let drawn = |name, help, read: fn(&PoolMetrics) -> &AtomicI64| {
        let pools = pools.clone();
        make.drawn(name, help, &["pool"], move |see| {
            let pools = lock(&pools);
            let told = pools.iter().filter(|(_, pool)| pool.is_told);
            told.for_each(|(name, pool)| see(&[name], read(pool).load(Relaxed)));
        })
    };
    [
        drawn(
            "windrose_pool_endpoints",
            "Endpoints the pool has.",
            |pool| &pool.endpoints,
        ),
        drawn(
            "windrose_pool_endpoints_available",
            "Endpoints of the pool that are neither failing checks nor ejected.",
            |pool| &pool.available,
        ),
        drawn(
            "windrose_pool_panics",
            "Whether so few endpoints of some level of the pool are available that health is ignored in it (1) or not (0).",
            |pool| &pool.panics,
        ),
        drawn(
            "windrose_pool_retry_budget_available",
            "Further attempts that the pool's retry budget would pay for now.",
            |pool| &pool.retry_budget,
        ),
    ]
}

/// Counters of one pool. Most series appear at the first attempt, so thousands of idle pools cost little.
pub struct PoolMetrics {
    pub(super) name: Arc<str>,
    pub(super) families: Arc<PoolFamilies>,
    /// Whether it is within the budget of gauges.
    is_told: bool,
    endpoints: AtomicI64,
    available: AtomicI64,
    panics: AtomicI64,
    retry_budget: AtomicI64,
    used: OnceLock<Box<Used>>,
}

/// Series of a pool that is used.
#[derive(Default)]
struct Used {
    traffic: OnceLock<Traffic>,
    no_endpoint: FirstUse<&'static str, IntCounter>,
    zones: FirstUse<bool, IntCounter>,
    sessions: FirstUse<SessionResult, IntCounter>,
}

/// Series of a pool at whose endpoints there were attempts.
struct Traffic {
    attempts: Results,
    attempt_seconds: Histogram,
    connect_seconds: Histogram,
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
    /// One more beside those that are known.
    pub(super) fn new(families: &Arc<PoolFamilies>, name: Arc<str>, known: usize) -> PoolMetrics {
        let allowed = families.gauges.each_ref().map(|one| one.allows(known));
        PoolMetrics {
            name,
            families: families.clone(),
            is_told: allowed.iter().all(|allowed| *allowed),
            endpoints: AtomicI64::new(0),
            available: AtomicI64::new(0),
            panics: AtomicI64::new(0),
            retry_budget: AtomicI64::new(0),
            used: OnceLock::new(),
        }
    }

    fn used(&self) -> &Used {
        self.used.get_or_init(Box::default)
    }

    fn traffic(&self) -> &Traffic {
        self.used().traffic.get_or_init(|| {
            let (name, families) = (&*self.name, &self.families);
            Traffic {
                attempts: Results::new(|result| families.attempts.with(&[name, result])),
                attempt_seconds: families.attempt_seconds.with(&[name]),
                connect_seconds: families.connect_seconds.with(&[name]),
            }
        })
    }

    /// An attempt at an endpoint is over.
    pub(super) fn attempt(&self, ok: bool, seconds: f64) {
        let traffic = self.traffic();
        traffic.attempts.count(ok);
        traffic.attempt_seconds.observe(seconds);
    }

    /// A connection was made in so many seconds.
    pub(super) fn connected(&self, seconds: f64) {
        self.traffic().connect_seconds.observe(seconds);
    }

    /// The pool had no endpoint to offer.
    pub fn no_endpoint(&self, cause: &'static Cause) {
        let families = &self.families;
        let make = || families.no_endpoint.with(&[&self.name, cause.name]);
        self.used().no_endpoint.entry(cause.name, make).inc();
    }

    /// How many further attempts the retry budget would pay for.
    pub fn retry_budget(&self, available: u64) {
        let available = i64::try_from(available).unwrap_or(i64::MAX);
        self.retry_budget.store(available, Relaxed);
    }

    /// An attempt goes to the own zone, or to another.
    pub fn zone(&self, is_local: bool) {
        let word = if is_local { "local" } else { "other" };
        let make = || self.families.zone_attempts.with(&[&self.name, word]);
        self.used().zones.entry(is_local, make).inc();
    }

    /// A response goes to a client with a session.
    pub fn session(&self, result: SessionResult) {
        let word = match result {
            SessionResult::Begun => "begun",
            SessionResult::Kept => "kept",
            SessionResult::Moved => "moved",
        };
        let make = || self.families.sessions.with(&[&self.name, word]);
        self.used().sessions.entry(result, make).inc();
    }

    /// Whether health is ignored in some level.
    pub fn panics(&self, panics: bool) {
        self.panics.store(i64::from(panics), Relaxed);
    }

    /// How many endpoints there are, and how many can be used.
    pub fn endpoints(&self, total: usize, available: usize) {
        self.endpoints.store(total as i64, Relaxed);
        self.available.store(available as i64, Relaxed);
    }
}

/// A counter for what went well and one for what did not.
pub(super) struct Results {
    ok: IntCounter,
    failed: IntCounter,
}

impl Results {
    pub(super) fn new(counter: impl Fn(&'static str) -> IntCounter) -> Results {
        Results {
            ok: counter("ok"),
            failed: counter("failed"),
        }
    }

    pub(super) fn count(&self, ok: bool) {
        if ok {
            self.ok.inc();
        } else {
            self.failed.inc();
        }
    }
}
