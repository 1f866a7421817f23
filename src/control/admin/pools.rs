//! The view of pools: settings that matter for choosing, and every endpoint with why it is out.
//! It must not know how endpoints are found, checked or chosen.
//! Called by `admin`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::balance;
use super::budget::{budget, BudgetView};
use super::limits::{self, LimitsView, OverloadView};
use super::outlier::{self, DrainingView, EjectionView, OutlierView};
use super::state::{millis, quarantined, QuarantinedView};
use crate::control::pools::PoolKeeper;
use crate::explain::mutual::{self, OutboundSeen};
use crate::explain::words;
use crate::observe::clock;
use crate::snapshot::pool::{DnsRecord, HealthKind, Member, Pool, PoolProtocol, Source};
use crate::snapshot::quarantine::Kind;
use crate::snapshot::tls::Verify;
use crate::snapshot::Snapshot;

#[derive(Serialize)]
pub(super) struct Pools {
    #[serde(skip_serializing_if = "Option::is_none")]
    overload: Option<OverloadView>,
    pools: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Sound(Box<PoolView>),
    Broken(QuarantinedView),
}

#[derive(Serialize)]
pub(super) struct PoolView {
    pub(super) name: String,
    protocol: &'static str,
    algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    balance: balance::BalanceView,
    /// In the order they are asked.
    levels: Vec<balance::LevelView>,
    source: SourceView,
    /// What is wrong with the source right now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtls: Option<OutboundSeen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
    ejection: EjectionView,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsView>,
    retry_budget: BudgetView,
    connect_timeout_ms: f64,
    idle_timeout_ms: f64,
    /// How old connections may be to take another request.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_ms: Option<f64>,
    pub(super) total: usize,
    pub(super) available: usize,
    pub(super) endpoints: Vec<EndpointView>,
    /// Endpoints that `ssrf_guard` forbids, with why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    forbidden: BTreeMap<String, &'static str>,
    /// Endpoints that left the pool and still have requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    draining: Vec<DrainingView>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum SourceView {
    Static,
    Dns { name: String, record: &'static str },
    File(String),
}

#[derive(Serialize)]
struct TlsView {
    sni: String,
    verify: &'static str,
    shows_certificate: bool,
}

#[derive(Serialize)]
struct HealthView {
    kind: &'static str,
    interval_ms: f64,
    timeout_ms: f64,
    rise: u32,
    fall: u32,
}

#[derive(Serialize)]
pub(super) struct EndpointView {
    pub(super) address: String,
    pub(super) weight: u32,
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// The part of its weight that it has, in percent, while its slow start lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_percent: Option<u8>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    available: bool,
    /// Why it takes no new traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    healthy: bool,
    #[serde(flatten)]
    outlier: OutlierView,
    in_flight: u32,
    latency_ms: f64,
    /// After how long it closes idle connections, where it was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_limit_ms: Option<f64>,
}

impl Pools {
    /// Those that are not quarantined.
    pub(super) fn sound(self) -> Vec<PoolView> {
        let sound = |entry| match entry {
            Entry::Sound(pool) => Some(*pool),
            Entry::Broken(_) => None,
        };
        self.pools.into_iter().filter_map(sound).collect()
    }
}

/// Every pool of the snapshot as it is now.
pub(super) fn view(snapshot: &Snapshot, keeper: &PoolKeeper) -> Pools {
    let pools = snapshot.pools.iter();
    let sound = pools.map(|pool| Entry::Sound(Box::new(pool_view(pool, keeper))));
    let broken = quarantined(snapshot, &[Kind::Pool]).into_iter();
    Pools {
        overload: limits::overload(snapshot),
        pools: sound.chain(broken.map(Entry::Broken)).collect(),
    }
}

fn pool_view(pool: &Pool, keeper: &PoolKeeper) -> PoolView {
    let settings = &pool.settings;
    let set = pool.set.load();
    let now = clock::now();
    let members = set.members.iter();
    let endpoints: Vec<EndpointView> = members
        .map(|member| endpoint(pool, member, keeper, now))
        .collect();
    let is_available = |endpoint: &&EndpointView| endpoint.available;
    PoolView {
        name: pool.name.to_string(),
        protocol: protocol(settings.protocol),
        algorithm: words::algorithm(settings.balance.algorithm),
        hash: words::hash(settings),
        balance: balance::settings(&settings.balance, &set),
        levels: balance::levels(&settings.balance, &set, now),
        source: source(&settings.source),
        source_problem: keeper.problem(&pool.name),
        tls: settings.tls.as_ref().map(|tls| TlsView {
            sni: tls.sni.clone(),
            verify: verify(tls.verify),
            shows_certificate: tls.own.is_some(),
        }),
        mtls: settings.mtls.as_ref().map(|mtls| mutual::outbound(mtls)),
        health: settings.health.as_ref().map(|health| HealthView {
            kind: kind(&health.kind),
            interval_ms: millis(health.interval),
            timeout_ms: millis(health.timeout),
            rise: health.rise,
            fall: health.fall,
        }),
        ejection: outlier::rules(&settings.ejection),
        limits: pool.limits.as_ref().map(limits::view),
        retry_budget: budget(&pool.retry_budget),
        connect_timeout_ms: millis(settings.connect_timeout),
        idle_timeout_ms: millis(settings.idle_timeout),
        max_age_ms: Some(millis(settings.max_age)).filter(|age| *age > 0.0),
        total: endpoints.len(),
        available: endpoints.iter().filter(is_available).count(),
        endpoints,
        forbidden: set
            .forbidden
            .iter()
            .filter_map(|(_, spec)| {
                let why = settings.forbids(&spec.address)?;
                Some((spec.address.to_string(), why))
            })
            .collect(),
        draining: outlier::draining(pool, keeper),
    }
}

fn endpoint(pool: &Pool, member: &Member, keeper: &PoolKeeper, now: u64) -> EndpointView {
    let endpoint = &member.endpoint;
    let state = &endpoint.state;
    let healthy = state.healthy.load(Relaxed);
    let seen = state.outlier.seen(&pool.settings.ejection, now);
    let why = if member.weight == 0 {
        Some("draining: its weight is 0".into())
    } else if !healthy {
        let reason = keeper.reason(&pool.name, &endpoint.address);
        let reason = reason.unwrap_or_else(|| "not yet often enough well again".into());
        Some(format!("health check: {reason}"))
    } else {
        words::ejection(&seen)
    };
    let latency = f64::from_bits(state.latency.load(Relaxed)) / 1e6;
    EndpointView {
        address: endpoint.label.to_string(),
        weight: member.weight,
        priority: member.priority,
        zone: words::zone(&pool.settings.balance, member),
        slow_start_percent: words::slow_start(&pool.settings.balance, member, now),
        labels: member.labels.clone(),
        available: why.is_none(),
        why,
        healthy,
        outlier: outlier::view(&seen, member, healthy),
        in_flight: state.in_flight.load(Relaxed),
        latency_ms: (latency * 1e3).round() / 1e3,
        idle_limit_ms: state.idle.limit(now).map(millis),
    }
}

fn protocol(protocol: PoolProtocol) -> &'static str {
    match protocol {
        PoolProtocol::Http1 => "http1",
        PoolProtocol::Http2 => "http2",
        PoolProtocol::Auto => "auto",
        PoolProtocol::Tcp => "tcp",
    }
}

fn source(source: &Source) -> SourceView {
    match source {
        Source::Static => SourceView::Static,
        Source::Dns(dns) => SourceView::Dns {
            name: dns.name.clone(),
            record: match dns.record {
                DnsRecord::A => "a",
                DnsRecord::Aaaa => "aaaa",
                DnsRecord::Both => "both",
                DnsRecord::Srv => "srv",
            },
        },
        Source::File(path) => SourceView::File(path.display().to_string()),
    }
}

fn verify(verify: Verify) -> &'static str {
    match verify {
        Verify::Full => "full",
        Verify::Issuer => "issuer",
        Verify::None => "none",
    }
}

fn kind(kind: &HealthKind) -> &'static str {
    match kind {
        HealthKind::Http { .. } => "http",
        HealthKind::Tcp => "tcp",
        HealthKind::Grpc { .. } => "grpc",
    }
}
