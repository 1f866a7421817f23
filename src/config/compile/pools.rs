//! Pools: settings in final form, TLS material read, endpoints taken over from the snapshot in force.
//! It must not know routes.
//! Called by `compile`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{balance, retry, Means};
use crate::config::report::Report;
use crate::config::schema::{self, Config};
use crate::observe::clock;
use crate::snapshot::endpoint::Address;
use crate::snapshot::identity::{IdPattern, Identity};
use crate::snapshot::limits::{Adaptive, Limited, Limiter, Limits};
use crate::snapshot::mtls::Outbound;
use crate::snapshot::pool::{
    DnsRecord, DnsSource, EndpointSet, EndpointSpec, Health, HealthKind, Labels, Pool,
    PoolProtocol, PoolSettings, ProxyVersion, Source,
};
use crate::snapshot::tls::{authorities, certificate_and_key, PeerTls, Verify};

/// Builds all pools but those that are broken.
pub(super) fn compile(
    config: &Config,
    identity: Option<&Arc<Identity>>,
    means: &Means<'_>,
    report: &mut Report,
) -> Vec<Arc<Pool>> {
    let subsets = balance::subsets(config);
    let build = |(at, pool): (usize, &schema::Pool)| {
        let path = match pool.service {
            Some(at) => format!("services[{at}]"),
            None => format!("pools[{at}]"),
        };
        let named = subsets.get(pool.name.as_str()).into_iter().flatten();
        let named = named.map(|labels| (*labels).clone()).collect();
        let mtls = outbound(pool, identity).map(Arc::new);
        build(pool, (named, mtls), &path, means, report)
    };
    let sound = config
        .pools
        .iter()
        .enumerate()
        .filter(|(_, pool)| !pool.is_quarantined);
    sound.map(build).collect()
}

/// A pool that endpoints are put into while traffic flows.
pub(super) fn prototype(
    pool: &schema::Pool,
    path: &str,
    means: &Means<'_>,
    report: &mut Report,
) -> Pool {
    build_pool(pool, Default::default(), path, means, report)
}

fn build(
    pool: &schema::Pool,
    of: (Box<[Labels]>, Option<Arc<Outbound>>),
    path: &str,
    means: &Means<'_>,
    report: &mut Report,
) -> Arc<Pool> {
    Arc::new(build_pool(pool, of, path, means, report))
}

fn build_pool(
    pool: &schema::Pool,
    (subsets, mtls): (Box<[Labels]>, Option<Arc<Outbound>>),
    path: &str,
    means: &Means<'_>,
    report: &mut Report,
) -> Pool {
    let mut settings = settings(pool, path, means, report);
    settings.balance.subsets = subsets;
    settings.mtls = mtls;
    let previous = means
        .previous
        .and_then(|previous| previous.pool(&pool.name));
    let specs = match (&settings.source, previous) {
        (Source::Static, _) => specs(&pool.endpoints),
        // What was found before stays until the source says otherwise.
        (source, Some(previous)) if *source == previous.settings.source => {
            previous.set.load().specs()
        }
        (Source::Dns(_) | Source::File(_), _) => Vec::new(),
    };
    let unchanged = previous
        .filter(|previous| previous.settings == settings && previous.set.load().specs() == specs);
    let set = match unchanged {
        Some(previous) => previous.set.clone(),
        None => {
            let set = EndpointSet::new(
                &pool.name,
                &settings,
                &specs,
                means.endpoints,
                &means.metrics,
            );
            if let Some(previous) = previous {
                set.greet(&previous.set.load(), clock::now());
            }
            Arc::new(ArcSwap::from_pointee(set))
        }
    };
    Pool {
        name: pool.name.as_str().into(),
        place: (means.place)(path).into(),
        settings,
        set,
        limits: limited(pool, means),
        retry_budget: retry::budget(
            &pool.retry_budget,
            previous.map(|previous| &previous.retry_budget),
        ),
        gate: previous.map_or_else(Default::default, |previous| previous.gate.clone()),
        calls: previous.map_or_else(Default::default, |previous| previous.calls.clone()),
        metrics: means.metrics.pool(&pool.name),
        subset: None,
    }
}

/// Mutual TLS; what `rules` have refused is none.
fn outbound(pool: &schema::Pool, identity: Option<&Arc<Identity>>) -> Option<Outbound> {
    let (mtls, identity) = (pool.mtls.as_ref()?, identity?);
    let peers = mtls
        .peers
        .iter()
        .filter_map(|peer| IdPattern::parse(peer).ok());
    let workload = mtls
        .workload
        .as_ref()
        .and_then(|name| identity.workload(name).cloned());
    let sni = mtls.sni.as_ref().unwrap_or(&pool.name).clone();
    let outbound = Outbound::new(identity.clone(), peers.collect(), workload, sni);
    Some(outbound.through(mtls.hbone.as_ref().map(|hbone| hbone.port)))
}

/// A limiter that runs keeps its bounds until the snapshot is in force; `control::pools` changes them then.
fn limited(pool: &schema::Pool, means: &Means<'_>) -> Option<Limited> {
    let settings = limits(pool.limits.as_ref()?);
    let new = || Limiter::new(&settings, means.metrics.limits(&pool.name));
    let state = means.endpoints.limiters.limiter(&pool.name, new);
    Some(Limited { settings, state })
}

fn limits(limits: &schema::PoolLimits) -> Limits {
    Limits {
        // On HTTP/1 a request is a connection in use, and rules allow one of both.
        requests: limits.requests.or(limits.connections),
        endpoint_requests: limits.endpoint_requests,
        retries: limits.retries,
        pending: limits.pending.unwrap_or(0),
        queue_timeout: limits.queue_timeout.map_or(QUEUE_TIMEOUT, |time| time.0),
        adaptive: limits.adaptive.as_ref().map(|adaptive| Adaptive {
            least: adaptive.min,
            most: adaptive.max,
            window: adaptive.window.0,
            buffer: adaptive.buffer.fraction(),
            measure_every: adaptive.measure_every.0,
            measure_requests: adaptive.measure_requests,
            jitter: adaptive.jitter.fraction(),
        }),
    }
}

/// Longer waits help nobody: the client has given up, or comes again beside its first request.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

fn specs(endpoints: &[schema::Endpoint]) -> Vec<EndpointSpec> {
    let spec = |endpoint: &schema::Endpoint| match endpoint {
        schema::Endpoint::Address(text) => Some(EndpointSpec {
            address: address(text)?,
            weight: 1,
            labels: Default::default(),
            priority: 0,
        }),
        schema::Endpoint::Full(full) => Some(EndpointSpec {
            address: address(&full.address)?,
            weight: full.weight,
            labels: full.labels.clone(),
            priority: full.priority,
        }),
    };
    endpoints.iter().filter_map(spec).collect()
}

/// An endpoint's address; `None` for text that `rules` has refused.
fn address(text: &str) -> Option<Address> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(Address::Unix(PathBuf::from(path))),
        None => text.parse::<SocketAddr>().ok().map(Address::Tcp),
    }
}

fn settings(
    pool: &schema::Pool,
    path: &str,
    means: &Means<'_>,
    report: &mut Report,
) -> PoolSettings {
    PoolSettings {
        protocol: match pool.protocol {
            schema::PoolProtocol::Http1 => PoolProtocol::Http1,
            schema::PoolProtocol::Http2 => PoolProtocol::Http2,
            schema::PoolProtocol::Auto => PoolProtocol::Auto,
            schema::PoolProtocol::Tcp => PoolProtocol::Tcp,
        },
        tls: pool
            .tls
            .as_ref()
            .and_then(|settings| tls(settings, &format!("{path}.tls"), means, report))
            .map(Arc::new),
        guard: means.guard.of_pool(pool),
        mtls: None,
        balance: balance::balance(&pool.balance, &pool.name),
        ejection: super::ejection::ejection(&pool.ejection),
        health: pool.health.as_ref().map(health),
        connect_timeout: pool.connections.connect_timeout.0,
        idle_timeout: pool.connections.idle_timeout.0,
        max_age: pool.connections.max_age.0,
        h2_streams: pool.connections.h2_streams,
        proxy_protocol: pool.proxy_protocol.map(|version| match version {
            schema::ProxyVersion::V1 => ProxyVersion::V1,
            schema::ProxyVersion::V2 => ProxyVersion::V2,
        }),
        source: source(pool, means),
    }
}

fn source(pool: &schema::Pool, means: &Means<'_>) -> Source {
    match &pool.discovery {
        None => Source::Static,
        Some(schema::Discovery::File(file)) => Source::File(means.path(&file.path)),
        Some(schema::Discovery::Dns(dns)) => Source::Dns(DnsSource {
            name: dns.name.clone(),
            record: match dns.record {
                schema::DnsRecord::A => DnsRecord::A,
                schema::DnsRecord::Aaaa => DnsRecord::Aaaa,
                schema::DnsRecord::Both => DnsRecord::Both,
                schema::DnsRecord::Srv => DnsRecord::Srv,
            },
            port: dns.port.unwrap_or(0),
            min_ttl: dns.min_ttl.0,
            max_ttl: dns.max_ttl.0,
            servers: dns
                .servers
                .iter()
                .filter_map(|server| server.parse().ok())
                .collect(),
        }),
    }
}

fn health(health: &schema::Health) -> Health {
    let kind = match (&health.http, &health.grpc) {
        (Some(http), _) => HealthKind::Http {
            path: http.path.clone(),
            host: http.host.clone(),
            statuses: (http.statuses[0], http.statuses[1]),
        },
        (None, Some(grpc)) => HealthKind::Grpc {
            service: grpc.service.clone(),
        },
        (None, None) => HealthKind::Tcp,
    };
    Health {
        kind,
        interval: health.interval.0,
        timeout: health.timeout.0,
        rise: health.rise,
        fall: health.fall,
        port: health.port,
    }
}

fn tls(
    settings: &schema::PoolTls,
    path: &str,
    means: &Means<'_>,
    report: &mut Report,
) -> Option<PeerTls> {
    let mut fingerprint = openssl::sha::Sha256::new();
    fingerprint.update(format!("{settings:?}").as_bytes());
    let mut read = |key: &str, file: &str, report: &mut Report| match means.read(file) {
        Ok(bytes) => {
            fingerprint.update(&bytes);
            Some(bytes)
        }
        Err(fact) => {
            report.error(
                format!("{path}.{key}"),
                fact,
                "paths are relative to the configuration file",
            );
            None
        }
    };
    let ca = match &settings.ca {
        None => None,
        Some(file) => {
            let found = read("ca", file, report).map(|pem| authorities(&pem))?;
            Some(Arc::new(
                found
                    .map_err(|fact| {
                        report.error(format!("{path}.ca"), format!("\"{file}\": {fact}"), "")
                    })
                    .ok()?,
            ))
        }
    };
    let own = match &settings.client_certificate {
        None => None,
        Some(files) => {
            let cert = read("client_certificate.cert", &files.cert, report)?;
            let key = read("client_certificate.key", &files.key, report)?;
            let pair = certificate_and_key(&cert, &key);
            let at = format!("{path}.client_certificate");
            Some(Arc::new(
                pair.map_err(|fact| report.error(at, format!("\"{}\": {fact}", files.cert), ""))
                    .ok()?,
            ))
        }
    };
    let verify = match settings.verify {
        schema::Verify::Full => Verify::Full,
        schema::Verify::Issuer => Verify::Issuer,
        schema::Verify::None => Verify::None,
    };
    let fingerprint = fingerprint
        .finish()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(PeerTls {
        sni: settings.sni.clone(),
        verify,
        ca,
        own,
        fingerprint,
    })
}

/// Pools by name, and as seen through each of their subsets: rules that name the same one share it.
pub(super) struct ByName<'a>(HashMap<&'a str, Views<'a>>);

struct Views<'a> {
    whole: &'a Arc<Pool>,
    subsets: HashMap<&'a Labels, Arc<Pool>>,
}

impl<'a> ByName<'a> {
    pub(super) fn of(pools: &'a [Arc<Pool>]) -> ByName<'a> {
        let views = |whole: &'a Arc<Pool>| {
            let subsets = (0..).zip(&whole.settings.balance.subsets);
            let subsets = subsets.map(|(at, labels)| (labels, Arc::new(whole.through(at))));
            let subsets = subsets.collect();
            (&*whole.name, Views { whole, subsets })
        };
        ByName(pools.iter().map(views).collect())
    }

    /// `None` for a pool that is broken: rules have seen that each name is one.
    pub(super) fn get(&self, name: &str, subset: &Labels) -> Option<Arc<Pool>> {
        let views = self.0.get(name)?;
        match subset.is_empty() {
            true => Some(views.whole.clone()),
            false => views.subsets.get(subset).cloned(),
        }
    }
}
