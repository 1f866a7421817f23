//! Generations of pools under a keeper, and the pools that other tests of the slow path start from.
//! It must not know how endpoints are found or checked.
//! Run by `cargo test`.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::TcpListener;

use super::*;
use crate::snapshot::budget::{Allowance, Budget};
use crate::snapshot::net::NetSet;
use crate::snapshot::pool::{
    Algorithm, Balance, DnsRecord, DnsSource, Ejection, EndpointSpec, HealthKind, PoolSettings,
};

/// Waits for a state, and says which when it does not come.
pub(in crate::control) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !is_so() {
            looks.tick().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

pub(in crate::control) fn settings(source: Source, health: Option<Health>) -> PoolSettings {
    PoolSettings {
        guard: None,
        mtls: None,
        protocol: PoolProtocol::Http1,
        tls: None,
        balance: Balance::of(Algorithm::RoundRobin),
        ejection: Ejection {
            consecutive_failures: 5,
            consecutive_5xx: 0,
            success_rate: None,
            failure_percentage: None,
            success_below: None,
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            jitter: 0.0,
            max_ejected: 0.5,
            probation: true,
            ended_by_health: true,
        },
        health,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        max_age: Duration::ZERO,
        h2_streams: 100,
        proxy_protocol: None,
        source,
    }
}

/// A pool, as the compiler makes it.
pub(in crate::control) fn pool(
    name: &str,
    source: Source,
    health: Option<Health>,
    addresses: &[Address],
) -> Arc<Pool> {
    pool_of(
        name,
        settings(source, health),
        addresses,
        &Arc::default(),
        &Metrics::new(8),
    )
}

pub(in crate::control) fn pool_of(
    name: &str,
    settings: PoolSettings,
    addresses: &[Address],
    endpoints: &Arc<Endpoints>,
    metrics: &Arc<Metrics>,
) -> Arc<Pool> {
    let spec = |address: &Address| EndpointSpec {
        address: address.clone(),
        weight: 1,
        labels: Default::default(),
        priority: 0,
    };
    let specs: Vec<EndpointSpec> = addresses.iter().map(spec).collect();
    let set = EndpointSet::new(name, &settings, &specs, endpoints, metrics);
    Arc::new(Pool {
        retry_budget: Budget::new(Allowance::default(), None),
        name: name.into(),
        place: "".into(),
        settings,
        set: Arc::new(arc_swap::ArcSwap::from_pointee(set)),
        limits: None,
        gate: Default::default(),
        calls: Default::default(),
        metrics: metrics.pool(name),
        subset: None,
    })
}

/// A snapshot of nothing but pools.
pub(in crate::control) fn snapshot(pools: Vec<Arc<Pool>>) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        admin: None,
        overload: None,
        pressure: Arc::default(),
        generation: 1,
        digest: "d1".into(),
        built: std::time::SystemTime::UNIX_EPOCH,
        listeners: Vec::new(),
        rules: Vec::new(),
        pools,
        stores: Default::default(),
        bodies: crate::snapshot::BodyBounds {
            most: 0,
            time: std::time::Duration::ZERO,
        },
        policies: Default::default(),
        show_cause_to: NetSet::default(),
        sampler: crate::observe::trace::Sampler::passive(),
        by_name: Default::default(),
        effective: "pools: []\n".into(),
        secrets: Default::default(),
        quarantined: Vec::new(),
        warnings: Vec::new(),
        identity: None,
    })
}

pub(in crate::control) fn addresses(pool: &Pool) -> Vec<String> {
    let set = pool.set.load();
    let members = set.members.iter();
    members
        .map(|member| member.endpoint.label.to_string())
        .collect()
}

fn connecting() -> Health {
    Health {
        kind: HealthKind::Tcp,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 2,
        port: None,
    }
}

/// An address that refuses connections: it was bound a moment ago.
pub(in crate::control) async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

struct Bench {
    endpoints: Arc<Endpoints>,
    metrics: Arc<Metrics>,
    keeper: Arc<PoolKeeper>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let endpoints = Arc::<Endpoints>::default();
        let metrics = Metrics::new(8);
        Bench {
            keeper: PoolKeeper::new(endpoints.clone(), metrics.clone()),
            endpoints,
            metrics,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn pool(&self, settings: PoolSettings, addresses: &[Address]) -> Arc<Pool> {
        pool_of("web", settings, addresses, &self.endpoints, &self.metrics)
    }

    /// Replaced by renaming, as editors do.
    fn write(&self, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.path().join("endpoints.yaml")).unwrap();
    }

    fn file(&self) -> Source {
        Source::File(self.folder.path().join("endpoints.yaml"))
    }

    fn task(&self) -> Option<tokio::task::Id> {
        let state = self.keeper.state();
        let task = state.pools["web"]._discovery.as_ref();
        task.map(|task| task.0.id())
    }
}

#[tokio::test]
async fn what_is_found_goes_into_the_pool_of_the_newest_generation() {
    let bench = Bench::new();
    bench.write("- 10.0.0.1:80");
    let first = bench.pool(settings(bench.file(), None), &[]);
    let mut other = settings(bench.file(), None);
    other.balance.algorithm = Algorithm::Random;
    let second = bench.pool(other, &[]);

    bench.keeper.follow(&snapshot(vec![first.clone()]));
    until("the first answer", || addresses(&first) == ["10.0.0.1:80"]).await;
    let task = bench.task();
    bench.keeper.follow(&snapshot(vec![second.clone()]));

    assert_eq!(addresses(&second), ["10.0.0.1:80"]);
    assert_eq!(bench.task(), task);
    bench.write("- 10.0.0.2:80");
    until("the second answer", || {
        addresses(&second) == ["10.0.0.2:80"]
    })
    .await;
    assert_eq!(addresses(&first), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn another_source_is_another_task_and_a_removed_pool_has_none() {
    let bench = Bench::new();
    bench.write("- 10.0.0.1:80");
    let from_file = bench.pool(settings(bench.file(), None), &[]);
    let elsewhere = Source::File("/nowhere/endpoints.yaml".into());
    let from_nowhere = bench.pool(settings(elsewhere, None), &[]);
    bench.keeper.follow(&snapshot(vec![from_file.clone()]));
    until("an answer", || !addresses(&from_file).is_empty()).await;
    let slot = Arc::downgrade(&bench.keeper.state().pools["web"].slot);

    bench.keeper.follow(&snapshot(vec![from_nowhere.clone()]));

    until("the end of the task", || slot.strong_count() == 0).await;
    until("a problem", || bench.keeper.problem("web").is_some()).await;
    assert!(addresses(&from_nowhere).is_empty());
    bench.keeper.follow(&snapshot(Vec::new()));
    assert_eq!(bench.keeper.problem("web"), None);
}

#[tokio::test]
async fn preparing_fills_empty_pools_and_gives_up_in_time() {
    let bench = Bench::new();
    bench.write("- 10.0.0.1:80");
    let from_file = bench.pool(settings(bench.file(), None), &[]);
    // Bound and silent: questions get no answer.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dns = Source::Dns(DnsSource {
        name: "web.test.".into(),
        record: DnsRecord::A,
        port: 80,
        min_ttl: Duration::from_secs(1),
        max_ttl: Duration::from_secs(300),
        servers: vec![silent.local_addr().unwrap()],
    });
    let from_dns = bench.pool(settings(dns, None), &[]);
    let kept: Address = Address::Tcp(([10, 0, 0, 9], 80).into());
    let filled = bench.pool(settings(bench.file(), None), &[kept]);
    let pools = vec![from_file.clone(), from_dns.clone(), filled.clone()];

    let started = std::time::Instant::now();
    let patience = Duration::from_millis(500);
    bench.keeper.prepare(&snapshot(pools), patience).await;

    assert!(started.elapsed() >= patience && started.elapsed() < Duration::from_secs(10));
    assert_eq!(addresses(&from_file), ["10.0.0.1:80"]);
    assert!(addresses(&from_dns).is_empty());
    assert_eq!(addresses(&filled), ["10.0.0.9:80"]);
}

#[tokio::test]
async fn health_survives_a_reload_and_ends_with_its_check() {
    let bench = Bench::new();
    let dead = Address::Tcp(refusing().await);
    let checked = || {
        bench.pool(
            settings(Source::Static, Some(connecting())),
            std::slice::from_ref(&dead),
        )
    };
    let unchecked = bench.pool(settings(Source::Static, None), std::slice::from_ref(&dead));
    let first = checked();
    let state = |pool: &Arc<Pool>| pool.set.load().members[0].endpoint.clone();
    let is_healthy = |pool: &Arc<Pool>| state(pool).state.healthy.load(Relaxed);

    bench.keeper.follow(&snapshot(vec![first.clone()]));
    until("the first check", || !is_healthy(&first)).await;
    let reason = bench.keeper.reason("web", &dead).unwrap();
    let checks = state(&first).state.checks.load(Relaxed);
    bench.keeper.follow(&snapshot(vec![checked()]));

    assert_eq!(reason, "connection refused");
    assert!(!is_healthy(&first));
    until("further checks", || {
        state(&first).state.checks.load(Relaxed) < checks
    })
    .await;
    bench.keeper.follow(&snapshot(vec![unchecked.clone()]));
    assert!(is_healthy(&unchecked));
    assert_eq!(bench.keeper.reason("web", &dead), None);
}

#[tokio::test]
async fn endpoints_that_come_later_are_checked_too() {
    let bench = Bench::new();
    let dead = refusing().await;
    bench.write("[]");
    let pool = bench.pool(settings(bench.file(), Some(connecting())), &[]);

    bench.keeper.follow(&snapshot(vec![pool.clone()]));
    bench.write(&format!("- {dead}"));

    until("a failed check", || {
        let set = pool.set.load();
        let mut members = set.members.iter();
        members.any(|member| !member.endpoint.state.healthy.load(Relaxed))
    })
    .await;
}

#[tokio::test]
async fn an_ejection_ends_when_it_is_turned_off_or_nobody_else_is_left() {
    let bench = Bench::new();
    let address = |last: u8| Address::Tcp(([10, 0, 0, last], 80).into());
    let plain = || settings(Source::Static, None);
    let mut off = plain();
    off.ejection.consecutive_failures = 0;
    let endings = [
        ("turned off", bench.pool(off, &[address(1), address(2)])),
        ("alone", bench.pool(plain(), &[address(1)])),
    ];
    let first = bench.pool(plain(), &[address(1), address(2)]);
    let set = first.set.load_full();
    let state = &set.members[0].endpoint.state;
    let now = crate::observe::clock::now();
    bench.keeper.follow(&snapshot(vec![first.clone()]));

    for (what, pool) in endings {
        state.outlier.shut(now, Duration::from_secs(600));
        bench.keeper.follow(&snapshot(vec![first.clone()]));
        assert!(state.is_ejected(now), "{what}: another reload");
        bench.keeper.follow(&snapshot(vec![pool]));

        assert!(!state.is_ejected(now), "{what}");
    }
}

#[tokio::test]
async fn endpoints_that_come_later_or_back_start_slowly_and_the_first_do_not() {
    let bench = Bench::new();
    bench.write("['10.0.0.1:80', {address: '10.0.0.2:80', weight: 0}]");
    let pool = bench.pool(settings(bench.file(), None), &[]);
    let since = |label: &str| {
        let set = pool.set.load();
        let mut members = set.members.iter();
        let found = members.find(|member| *member.endpoint.label == *label);
        found.map(|member| member.endpoint.state.since(u64::MAX - 1))
    };

    bench.keeper.follow(&snapshot(vec![pool.clone()]));
    until("the first answer", || !addresses(&pool).is_empty()).await;
    let first = [since("10.0.0.1:80"), since("10.0.0.2:80")];
    bench.write("['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']");
    until("the second answer", || addresses(&pool).len() == 3).await;

    assert_eq!(first, [Some(0), Some(0)]);
    assert_eq!(since("10.0.0.1:80"), Some(0));
    assert!(since("10.0.0.2:80") > Some(0));
    assert!(since("10.0.0.3:80") > Some(0));
}
