//! Counters, gauges and histograms, and the page that shows them.
//! It must not know what happens in the proxy; callers tell it, through handles resolved once per snapshot.
//! Everything that has something to count calls it; the admin address shows `render`.

mod edge;
mod family;
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

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use windrose_plugins::contract::{Counter, CounterFactory};

use edge::EdgeFamilies;
pub use edge::{EdgeSample, EdgeSeen, Edges, Kind, Plaintext, Side, Transport, NOBODY};
pub(super) use family::FirstUse;
use family::{lock, Counters, Maker};
pub use identity::IdentityMetrics;
use limits::LimitFamilies;
pub use limits::LimitMetrics;
use listener::ListenerFamilies;
pub use listener::{Detected, ListenerMetrics};
pub use overload::OverloadMetrics;
use policy::PolicyFamilies;
pub use policy::{PolicyDecision, PolicyMetrics};
use pool::PoolFamilies;
pub use pool::{EndpointMetrics, PoolMetrics, SessionResult};
pub use recorder::RecorderMetrics;
pub use reload::{ProbationEnd, ReloadMetrics, ReloadOutcome};
use route::RouteFamilies;
pub use route::{Finished, FinishedBy, RequestSample, RouteMetrics};
use rule::RuleFamilies;
pub use rule::{ChosenBy, Compared, FaultMetrics, MirrorMetrics, MirrorResult, ShareMetrics};

/// All metrics of the process. Handles are cheap to use and to keep: counting is a few atomic additions.
pub struct Metrics {
    registry: Registry,
    listeners: Arc<ListenerFamilies>,
    routes: Arc<RouteFamilies>,
    pools: Arc<PoolFamilies>,
    rules: Arc<RuleFamilies>,
    policies: Arc<PolicyFamilies>,
    edges: Edges,
    limits: Arc<LimitFamilies>,
    overload: OverloadMetrics,
    plugins: Counters,
    reload: ReloadMetrics,
    identity: IdentityMetrics,
    recorder: RecorderMetrics,
    dropped_log_lines: IntCounter,
    dropped_spans: IntCounter,
    handles: Handles,
}

/// Handles made so far, so that the next snapshot counts on where this one stopped.
#[derive(Default)]
struct Handles {
    listeners: Mutex<HashMap<[String; 2], Arc<ListenerMetrics>>>,
    routes: Mutex<HashMap<[String; 3], Arc<RouteMetrics>>>,
    pools: Mutex<HashMap<[String; 1], Arc<PoolMetrics>>>,
    endpoints: Mutex<HashMap<[String; 2], Arc<EndpointMetrics>>>,
    shares: Mutex<HashMap<[String; 2], Arc<ShareMetrics>>>,
    faults: Mutex<HashMap<[String; 1], Arc<FaultMetrics>>>,
    mirrors: Mutex<HashMap<[String; 2], Arc<MirrorMetrics>>>,
    policies: Mutex<HashMap<[String; 2], Arc<PolicyMetrics>>>,
}

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
        let registry = Registry::new();
        let overflow = registered(
            &registry,
            IntCounterVec::new(
                Opts::new(
                    "windrose_series_overflow_total",
                    "Handles that found a metric's series budget spent and count under _overflow.",
                ),
                &["metric"],
            ),
        );
        let make = Maker {
            registry: &registry,
            budget: series_budget,
            overflow: &overflow,
        };
        build_info(&registry);
        Arc::new(Metrics {
            listeners: Arc::new(ListenerFamilies::new(&make)),
            routes: Arc::new(RouteFamilies::new(&make)),
            pools: Arc::new(PoolFamilies::new(&make)),
            rules: Arc::new(RuleFamilies::new(&make)),
            policies: Arc::new(PolicyFamilies::new(&make)),
            edges: Edges::new(EdgeFamilies::new(&make)),
            limits: Arc::new(LimitFamilies::new(&make)),
            overload: OverloadMetrics::new(&make, CLASSES),
            plugins: make.counters(
                "windrose_plugin_events_total",
                "Events that plugins count, by plugin instance.",
                &["plugin", "event"],
            ),
            reload: ReloadMetrics::new(&make),
            identity: IdentityMetrics::new(&make),
            recorder: RecorderMetrics::new(&make),
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
            handles: Handles::default(),
            registry,
        })
    }

    /// The counters of a listener; the same for the same labels.
    pub fn listener(&self, name: &str, role: &str) -> Arc<ListenerMetrics> {
        shared(&self.handles.listeners, [name, role], || {
            ListenerMetrics::new(&self.listeners, name, role)
        })
    }

    /// The counters of a route at a listener; the same for the same labels.
    pub fn route(&self, listener: &str, role: &str, route: &str) -> Arc<RouteMetrics> {
        let labels = [listener, role, route];
        shared(&self.handles.routes, labels, || {
            RouteMetrics::new(&self.routes, labels)
        })
    }

    /// The counters of a share of a route's splits; the same for the same labels.
    pub fn share(&self, route: &str, share: &str) -> Arc<ShareMetrics> {
        shared(&self.handles.shares, [route, share], || {
            ShareMetrics::new(&self.rules, [route, share])
        })
    }

    /// The counters of a route's faults; the same for the same name.
    pub fn fault(&self, route: &str) -> Arc<FaultMetrics> {
        shared(&self.handles.faults, [route], || {
            FaultMetrics::new(&self.rules, route)
        })
    }

    /// The counters of a route's copies to a pool; the same for the same labels.
    pub fn mirror(&self, route: &str, pool: &str) -> Arc<MirrorMetrics> {
        shared(&self.handles.mirrors, [route, pool], || {
            MirrorMetrics::new(&self.rules, [route, pool])
        })
    }

    /// The counters of a policy's rule; the same for the same labels. The rule is its position, empty for none of them.
    pub fn policy(&self, policy: &str, rule: &str) -> Arc<PolicyMetrics> {
        shared(&self.handles.policies, [policy, rule], || {
            PolicyMetrics::new(&self.policies, [policy, rule])
        })
    }

    /// The counters of a pool; the same for the same name.
    pub fn pool(&self, pool: &str) -> Arc<PoolMetrics> {
        shared(&self.handles.pools, [pool], || {
            PoolMetrics::new(&self.pools, pool)
        })
    }

    /// Counters of a pool's limits. Their series stay while the pool does.
    pub fn limits(&self, pool: &str) -> LimitMetrics {
        LimitMetrics::new(&self.limits, pool)
    }

    /// The counters of an endpoint of a pool; the same for the same labels.
    pub fn endpoint(&self, pool: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        shared(&self.handles.endpoints, [pool, endpoint], || {
            EndpointMetrics::new(self.pool(pool), endpoint)
        })
    }

    /// The counter of an event of a plugin instance.
    pub fn plugin_event(&self, instance: &str, event: &str) -> IntCounter {
        self.plugins.with(&[instance, event])
    }

    /// Who calls what.
    pub fn edges(&self) -> &Edges {
        &self.edges
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

    /// Counts access log lines that were lost.
    pub fn dropped_log_lines(&self) -> IntCounter {
        self.dropped_log_lines.clone()
    }

    /// Counts spans that were lost.
    pub fn dropped_spans(&self) -> IntCounter {
        self.dropped_spans.clone()
    }

    /// Drops the series of what went away. `keep` is asked with the names that [`MetricFamily`] tells.
    /// Handles still held count on unseen; a handle asked for again starts at zero.
    pub fn retain(&self, keep: &dyn Fn(MetricFamily, &str, &str) -> bool) {
        use MetricFamily::{Certificate, Endpoint, Listener, Policy, Pool, Route, Rule};
        let handles = &self.handles;
        lock(&handles.listeners).retain(|[name, _], _| keep(Listener, name, ""));
        lock(&handles.routes).retain(|[listener, _, route], _| keep(Route, listener, route));
        lock(&handles.endpoints)
            .retain(|[pool, endpoint], _| keep(Pool, pool, "") && keep(Endpoint, pool, endpoint));
        lock(&handles.pools).retain(|[pool], _| keep(Pool, pool, ""));
        lock(&handles.shares).retain(|[route, _], _| keep(Rule, route, ""));
        lock(&handles.faults).retain(|[route], _| keep(Rule, route, ""));
        lock(&handles.mirrors).retain(|[route, _], _| keep(Rule, route, ""));
        lock(&handles.policies).retain(|[policy, rule], _| keep(Policy, policy, rule));

        self.listeners.retain(&|name| keep(Listener, name, ""));
        let certificates = &self.listeners.certificates;
        certificates.retain(&|label| keep(Certificate, &label[0], &label[1]));
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
        let mut out = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default();
        process::render(&mut out);
        out
    }
}

impl CounterFactory for Metrics {
    fn counter(&self, instance: &str, event: &'static str) -> Counter {
        let counter = self.plugin_event(instance, event);
        Arc::new(move |by| counter.inc_by(by))
    }
}

fn shared<const N: usize, T>(
    made: &Mutex<HashMap<[String; N], Arc<T>>>,
    labels: [&str; N],
    make: impl FnOnce() -> T,
) -> Arc<T>
where
    [String; N]: Eq + Hash,
{
    let mut made = lock(made);
    let handle = made
        .entry(labels.map(String::from))
        .or_insert_with(|| Arc::new(make()));
    handle.clone()
}

fn build_info(registry: &Registry) {
    let info = IntGaugeVec::new(
        Opts::new("windrose_build_info", "The version that runs; always 1."),
        &["version"],
    );
    registered(registry, info)
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names and labels are literals");
    registry
        .register(Box::new(metric.clone()))
        .expect("names are distinct");
    metric
}

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
