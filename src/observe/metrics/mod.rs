//! Counters, gauges and histograms, and the page that shows them.
//! It must not know what happens in the proxy; callers tell it, through handles resolved once per snapshot.
//! Everything that has something to count calls it; the admin address shows `render`.

mod edge;
mod endpoint;
mod family;
mod first_use;
mod identity;
mod limits;
mod listener;
mod overload;
mod policy;
mod pool;
mod process;
mod recorder;
mod reload;
mod route;
mod rule;
mod series;
mod store;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use windrose_plugins::contract::{Counter, CounterFactory};

use edge::EdgeFamilies;
pub use edge::{EdgeSample, EdgeSeen, Edges, Kind, Plaintext, Side, Transport, NOBODY};
use endpoint::EndpointHandles;
pub use endpoint::EndpointMetrics;
use family::{lock, Counters, Maker, Registry};
pub(super) use first_use::FirstUse;
pub use identity::IdentityMetrics;
use limits::LimitFamilies;
pub use limits::LimitMetrics;
use listener::ListenerFamilies;
pub use listener::{Detected, ListenerMetrics};
pub use overload::OverloadMetrics;
use policy::PolicyFamilies;
pub use policy::{PolicyDecision, PolicyMetrics};
use pool::{PoolFamilies, PoolHandles};
pub use pool::{PoolMetrics, SessionResult};
pub use recorder::RecorderMetrics;
pub use reload::{ProbationEnd, ReloadMetrics, ReloadOutcome};
use route::RouteFamilies;
pub use route::{Finished, FinishedBy, RequestSample, RouteMetrics};
use rule::RuleFamilies;
pub use rule::{ChosenBy, Compared, FaultMetrics, MirrorMetrics, MirrorResult, ShareMetrics};
pub use series::{IntCounter, IntGauge};
use store::StoreFamilies;
pub use store::StoreMetrics;

/// All metrics of the process. Handles are cheap to use and to keep: counting is a few atomic additions.
pub struct Metrics {
    registry: Registry,
    /// Series of one metric.
    most: Arc<AtomicUsize>,
    listeners: Arc<ListenerFamilies>,
    routes: Arc<RouteFamilies>,
    pools: Arc<PoolFamilies>,
    rules: Arc<RuleFamilies>,
    policies: Arc<PolicyFamilies>,
    edges: Edges,
    limits: Arc<LimitFamilies>,
    overload: OverloadMetrics,
    stores: Arc<StoreFamilies>,
    plugins: Counters,
    plugin_amounts: Counters,
    reload: ReloadMetrics,
    identity: IdentityMetrics,
    recorder: RecorderMetrics,
    held_bodies: IntGauge,
    dropped_log_lines: IntCounter,
    dropped_spans: IntCounter,
    handles: Handles,
}

/// Handles made so far, so that the next snapshot counts on where this one stopped.
#[derive(Default)]
struct Handles {
    listeners: Made<2, ListenerMetrics>,
    routes: Made<3, RouteMetrics>,
    pools: PoolHandles,
    endpoints: EndpointHandles,
    shares: Made<2, ShareMetrics>,
    faults: Made<1, FaultMetrics>,
    mirrors: Made<2, MirrorMetrics>,
    policies: Made<2, PolicyMetrics>,
}

/// Handles by labels.
type Made<const N: usize, T> = Mutex<BTreeMap<[Arc<str>; N], Arc<T>>>;

/// What a group of series is about, for [`Metrics::retain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricFamily {
    /// Series of a listener; asked with its name and an empty second name.
    Listener,
    /// Series of a route; asked with the listener's and the route's name.
    Route,
    /// Series of a route's rules at any listener; asked with the route's name and an empty second name.
    Rule,
    /// Series of a policy; asked with its name and the position of a rule, or an empty one for the policy as a whole.
    Policy,
    /// Series of a pool; asked with its name and an empty second name.
    Pool,
    /// Series of an endpoint; asked with the pool's name and the endpoint's.
    Endpoint,
    /// Expiry of a certificate; asked with the listener's name and the subject.
    Certificate,
}

impl Metrics {
    /// Metrics of which each may have `series_budget` combinations of label values; more are counted under `_overflow`.
    pub fn new(series_budget: usize) -> Arc<Metrics> {
        let registry = Registry::default();
        let mut make = Maker {
            registry: &registry,
            // One series for each metric there is.
            most: Arc::new(AtomicUsize::new(usize::MAX)),
            overflow: None,
        };
        make.overflow = Some(make.counters(
            "windrose_series_overflow_total",
            "Handles that found a metric's series budget spent and count under _overflow.",
            &["metric"],
        ));
        make.most = Arc::new(AtomicUsize::new(series_budget));
        build_info(&make);
        let handles = Handles::default();
        Arc::new(Metrics {
            most: make.most.clone(),
            listeners: Arc::new(ListenerFamilies::new(&make)),
            routes: Arc::new(RouteFamilies::new(&make)),
            pools: Arc::new(PoolFamilies::new(&make, &handles.pools, &handles.endpoints)),
            rules: Arc::new(RuleFamilies::new(&make)),
            policies: Arc::new(PolicyFamilies::new(&make)),
            edges: Edges::new(EdgeFamilies::new(&make)),
            limits: Arc::new(LimitFamilies::new(&make)),
            overload: OverloadMetrics::new(&make, CLASSES),
            stores: Arc::new(StoreFamilies::new(&make)),
            plugins: make.counters(
                "windrose_plugin_events_total",
                "Events that plugins count, by plugin instance.",
                &["plugin", "event"],
            ),
            plugin_amounts: amounts(&make),
            reload: ReloadMetrics::new(&make),
            identity: IdentityMetrics::new(&make),
            recorder: RecorderMetrics::new(&make),
            held_bodies: make
                .gauges(
                    "windrose_held_body_bytes",
                    "Bytes of bodies that are held because a plugin wants to see them whole.",
                    &[],
                )
                .with(&[]),
            dropped_log_lines: make
                .counters(
                    "windrose_log_lines_dropped_total",
                    "Access log lines that were lost: the queue was full or the target could not be written.",
                    &[],
                )
                .with(&[]),
            dropped_spans: make
                .counters(
                    "windrose_trace_spans_dropped_total",
                    "Spans that were lost: the queue was full or the collector did not take them.",
                    &[],
                )
                .with(&[]),
            handles,
            registry,
        })
    }

    /// The counters of a listener; the same for the same labels.
    pub fn listener(&self, name: &str, role: &str) -> Arc<ListenerMetrics> {
        shared(&self.handles.listeners, [name, role], |_| {
            ListenerMetrics::new(&self.listeners, name, role)
        })
    }

    /// The counters of a route at a listener; the same for the same labels.
    pub fn route(&self, listener: &str, role: &str, route: &str) -> Arc<RouteMetrics> {
        shared(&self.handles.routes, [listener, role, route], |labels| {
            RouteMetrics::new(&self.routes, labels)
        })
    }

    /// The counters of a share of a route's splits; the same for the same labels.
    pub fn share(&self, route: &str, share: &str) -> Arc<ShareMetrics> {
        shared(&self.handles.shares, [route, share], |labels| {
            ShareMetrics::new(&self.rules, labels)
        })
    }

    /// The counters of a route's faults; the same for the same name.
    pub fn fault(&self, route: &str) -> Arc<FaultMetrics> {
        shared(&self.handles.faults, [route], |_| {
            FaultMetrics::new(&self.rules, route)
        })
    }

    /// The counters of a route's copies to a pool; the same for the same labels.
    pub fn mirror(&self, route: &str, pool: &str) -> Arc<MirrorMetrics> {
        shared(&self.handles.mirrors, [route, pool], |labels| {
            MirrorMetrics::new(&self.rules, labels)
        })
    }

    /// The counters of a policy's rule; the same for the same labels. The rule is its position, empty for none of them.
    pub fn policy(&self, policy: &str, rule: &str) -> Arc<PolicyMetrics> {
        shared(&self.handles.policies, [policy, rule], |labels| {
            PolicyMetrics::new(&self.policies, labels)
        })
    }

    /// The counters of a pool; the same for the same name.
    pub fn pool(&self, pool: &str) -> Arc<PoolMetrics> {
        let mut made = lock(&self.handles.pools);
        if let Some(known) = made.get(pool) {
            return known.clone();
        }
        let name: Arc<str> = pool.into();
        let handle = PoolMetrics::new(&self.pools, name.clone(), made.len());
        made.entry(name).or_insert(Arc::new(handle)).clone()
    }

    /// Counters of a pool's limits. Their series stay while the pool does.
    pub fn limits(&self, pool: &str) -> LimitMetrics {
        LimitMetrics::new(&self.limits, pool)
    }

    /// The counters of an endpoint of a pool; the same for the same labels.
    pub fn endpoint(&self, pool: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        let of = self.pool(pool);
        let mut made = lock(&self.handles.endpoints);
        if let Some(known) = made.get(pool).and_then(|all| all.get(endpoint)) {
            return known.clone();
        }
        let known = made.values().map(BTreeMap::len).sum();
        let all = made.entry(of.name.clone()).or_default();
        // Addresses come and go with pods: of those that nobody holds any more only so many are remembered.
        if all.len() >= MOST_GONE && all.len().is_power_of_two() {
            all.retain(|_, handle| Arc::strong_count(handle) > 1);
            let stays = |pool: &str, name: &str| *pool != *of.name || all.contains_key(name);
            self.pools.endpoint.retain(&stays);
        }
        let name: Arc<str> = endpoint.into();
        let handle = EndpointMetrics::new(of, name.clone(), known);
        all.entry(name).or_insert(Arc::new(handle)).clone()
    }

    /// The counter of an event of a plugin instance.
    pub fn plugin_event(&self, instance: &str, event: &str) -> IntCounter {
        self.plugins.with(&[instance, event])
    }

    /// Who calls what.
    pub fn edges(&self) -> &Edges {
        &self.edges
    }

    /// The counters of a store. Their series stay while the store does.
    pub fn store(&self, store: &str) -> StoreMetrics {
        StoreMetrics::new(&self.stores, store)
    }

    /// Drops the series of stores that went away.
    pub fn retain_stores(&self, keep: &dyn Fn(&str) -> bool) {
        self.stores.retain(keep);
    }

    /// The counters of overload.
    pub fn overload(&self) -> &OverloadMetrics {
        &self.overload
    }

    /// The counters of the configuration.
    pub fn reload(&self) -> &ReloadMetrics {
        &self.reload
    }

    /// The counters of identities.
    pub fn identity(&self) -> &IdentityMetrics {
        &self.identity
    }

    /// Shows every series of requests that are over. It walks all of them, so it is for the control side, now and then.
    pub fn finished(&self, see: &mut dyn FnMut(Finished<'_>)) {
        self.routes.finished(see);
    }

    /// The counters of the flight recorder.
    pub fn recorder(&self) -> RecorderMetrics {
        self.recorder.clone()
    }

    /// When a certificate in use expires.
    pub fn certificate(&self, listener: &str, subject: &str, not_after_unix: i64) {
        let gauge = self.listeners.certificates.with(&[listener, subject]);
        gauge.set(not_after_unix);
    }

    /// Bytes of bodies that are held for plugins. Whoever holds some adds them, and takes them away again.
    pub fn held_bodies(&self) -> &IntGauge {
        &self.held_bodies
    }

    /// Counts access log lines that were lost.
    pub fn dropped_log_lines(&self) -> IntCounter {
        self.dropped_log_lines.clone()
    }

    /// Counts spans that were lost.
    pub fn dropped_spans(&self) -> IntCounter {
        self.dropped_spans.clone()
    }

    /// How many series one metric may have from now on. Those there are stay.
    pub fn bound(&self, series: usize) {
        self.most.store(series, Relaxed);
    }

    /// Drops the series of what went away. `keep` is asked with the names that [`MetricFamily`] tells.
    /// Handles still held count on unseen; a handle asked for again starts at zero.
    pub fn retain(&self, keep: &dyn Fn(MetricFamily, &str, &str) -> bool) {
        use MetricFamily::{Certificate, Endpoint, Listener, Policy, Pool, Route, Rule};
        let handles = &self.handles;
        lock(&handles.listeners).retain(|[name, _], _| keep(Listener, name, ""));
        lock(&handles.routes).retain(|[listener, _, route], _| keep(Route, listener, route));
        lock(&handles.endpoints).retain(|pool, all| {
            all.retain(|endpoint, _| keep(Pool, pool, "") && keep(Endpoint, pool, endpoint));
            !all.is_empty()
        });
        lock(&handles.pools).retain(|pool, _| keep(Pool, pool, ""));
        lock(&handles.shares).retain(|[route, _], _| keep(Rule, route, ""));
        lock(&handles.faults).retain(|[route], _| keep(Rule, route, ""));
        lock(&handles.mirrors).retain(|[route, _], _| keep(Rule, route, ""));
        lock(&handles.policies).retain(|[policy, rule], _| keep(Policy, policy, rule));

        self.listeners.retain(&|name| keep(Listener, name, ""));
        let certificates = &self.listeners.certificates;
        certificates.retain(&|label| keep(Certificate, label[0], label[1]));
        self.routes
            .retain(&|listener, route| keep(Route, listener, route));
        self.rules.retain(&|route| keep(Rule, route, ""));
        self.policies.retain(&|policy| keep(Policy, policy, ""));
        self.pools.retain(&|pool| keep(Pool, pool, ""));
        self.limits.retain(&|pool| keep(Pool, pool, ""));
        self.pools
            .endpoint
            .retain(&|pool, endpoint| keep(Pool, pool, "") && keep(Endpoint, pool, endpoint));
    }

    /// Everything in Prometheus' text form, the process included.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.registry.show(&mut out);
        process::render(&mut out);
        out
    }
}

impl CounterFactory for Metrics {
    fn counter(&self, instance: &str, event: &'static str) -> Counter {
        let counter = self.plugin_event(instance, event);
        Arc::new(move |by| counter.inc_by(by))
    }

    fn counter_of(&self, instance: &str, event: &'static str, of: &str) -> Counter {
        let counter = self.plugin_amounts.with(&[instance, event, of]);
        Arc::new(move |by| counter.inc_by(by))
    }
}

fn amounts(make: &Maker<'_>) -> Counters {
    make.counters(
        "windrose_plugin_amounts_total",
        "How much of something plugins count, such as tokens, by what it is of in their settings.",
        &["plugin", "event", "of"],
    )
}

fn shared<const N: usize, T>(
    made: &Made<N, T>,
    labels: [&str; N],
    make: impl FnOnce([Arc<str>; N]) -> T,
) -> Arc<T> {
    let labels = labels.map(Arc::from);
    let mut made = lock(made);
    let handle = made
        .entry(labels.clone())
        .or_insert_with(|| Arc::new(make(labels)));
    handle.clone()
}

fn build_info(make: &Maker<'_>) {
    let info = make.gauges(
        "windrose_build_info",
        "The version that runs; always 1.",
        &["version"],
    );
    info.with(&[env!("CARGO_PKG_VERSION")]).set(1);
}

/// From so many endpoints of a pool on, those that went away are looked for each time their number has doubled.
const MOST_GONE: usize = 64;

/// Classes of requests, the highest first.
const CLASSES: [&str; 4] = ["critical", "high", "normal", "low"];

/// Buckets of durations: from a local cache hit to the longest sensible wait.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Buckets of sizes: powers of four from 256 B to 256 MiB.
const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
];

#[cfg(test)]
mod tests;
