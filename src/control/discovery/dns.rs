//! Endpoints from DNS: addresses of a name, or the hosts, ports and weights of a service (RFC 2782).
//! It must not know pools beyond their slot.
//! Called by `Finder`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;
use tokio::task::JoinSet;

use crate::control::pools::slot::Slot;
use crate::control::pools::spread;
use crate::snapshot::endpoint::Address;
use crate::snapshot::pool::{DnsRecord, DnsSource, EndpointSpec, MAX_PRIORITY};

/// Endpoints by address with priority and weight: equal answers are equal whatever the order of their records.
type Weights = BTreeMap<Address, (u8, u32)>;

/// A good answer.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) specs: Vec<EndpointSpec>,
    ttl: Duration,
}

/// Asks again and again. Whatever goes wrong, also a name that is gone or has no addresses, leaves the last good
/// answer in place: an empty answer is far more often a mistake in DNS than the wish to serve nothing.
pub(super) async fn follow(slot: Arc<Slot>, source: DnsSource) {
    let mut failures = 0;
    loop {
        let known = slot.specs();
        let wait = match ask(&source, &known).await {
            Ok(found) => {
                failures = 0;
                take(&slot, &source, found)
            }
            Err(problem) => {
                failures += 1;
                complain(&slot, &source, &problem, failures);
                back_off(&source, failures)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Publishes the answer; the time until the next question.
fn take(slot: &Slot, source: &DnsSource, found: Found) -> Duration {
    let count = found.specs.len();
    let was_failing = slot.problem().is_some();
    if slot.publish(found.specs) || was_failing {
        let pool = slot.pool().name.clone();
        log::info!(
            "endpoints found in DNS: pool={pool} name={} endpoints={count}",
            source.name
        );
    }
    bounded(source, spread::after(bounded(source, found.ttl)))
}

/// Says so when the problem is another one, and at the 10th, 100th and so on in a row.
fn complain(slot: &Slot, source: &DnsSource, problem: &str, failures: u32) {
    let is_news = slot.trouble(problem.to_owned());
    if is_news || (failures >= 10 && 10_u32.pow(failures.ilog10()) == failures) {
        let pool = slot.pool().name.clone();
        log::warn!("endpoints stay as they are, DNS has no answer: pool={pool} name={} cause={problem} failures={failures}", source.name);
    }
}

fn back_off(source: &DnsSource, failures: u32) -> Duration {
    let wait = source.min_ttl.max(SHORTEST) * (1 << failures.min(20));
    spread::around(wait.min(source.max_ttl))
        .min(source.max_ttl)
        .max(SHORTEST)
}

fn bounded(source: &DnsSource, ttl: Duration) -> Duration {
    ttl.min(source.max_ttl).max(source.min_ttl).max(SHORTEST)
}

/// One answer. `known` is what the last one was, so that half an answer does not replace it.
pub(super) async fn ask(source: &DnsSource, known: &[EndpointSpec]) -> Result<Found, String> {
    let asking = async {
        match (source.name.parse::<IpAddr>(), source.record) {
            (Ok(_), DnsRecord::Srv) => Err("`srv` needs a name, found an address".into()),
            (Ok(ip), DnsRecord::A | DnsRecord::Aaaa | DnsRecord::Both) => {
                let address = Address::Tcp(SocketAddr::new(ip, source.port));
                Ok((Weights::from([(address, (0, 1))]), source.max_ttl))
            }
            (Err(_), DnsRecord::Srv) => services(source, known).await,
            (Err(_), DnsRecord::A | DnsRecord::Aaaa | DnsRecord::Both) => {
                addresses(source, known).await
            }
        }
    };
    let (weights, ttl) = tokio::time::timeout(LONGEST_QUESTION, asking)
        .await
        .unwrap_or_else(|_| Err("no answer in time".into()))?;
    if weights.is_empty() {
        return Err("the answer holds no addresses".into());
    }
    let specs = bounded_specs(&source.name, weights);
    Ok(Found { specs, ttl })
}

fn bounded_specs(name: &str, weights: Weights) -> Vec<EndpointSpec> {
    let count = weights.len();
    if count > MAX_ENDPOINTS {
        log::warn!("DNS answer is cut: name={name} endpoints={count} limit={MAX_ENDPOINTS}");
    }
    let spec = |(address, (priority, weight))| EndpointSpec {
        address,
        weight,
        labels: BTreeMap::new(),
        priority,
    };
    weights.into_iter().take(MAX_ENDPOINTS).map(spec).collect()
}

async fn addresses(
    source: &DnsSource,
    known: &[EndpointSpec],
) -> Result<(Weights, Duration), String> {
    let resolver = resolver(source)?;
    let (ips, ttl) = ips(&resolver, &source.name, source.record, known).await?;
    let weights = ips.into_iter().map(|ip| {
        let address = SocketAddr::new(ip, source.port);
        (Address::Tcp(address), (0, 1))
    });
    Ok((weights.collect(), ttl))
}

/// Addresses of a name. With both families a broken one counts as empty, since some name servers cannot answer AAAA,
/// unless addresses of it were known: then losing them would be half an answer.
async fn ips(
    resolver: &TokioResolver,
    name: &str,
    record: DnsRecord,
    known: &[EndpointSpec],
) -> Result<(Vec<IpAddr>, Duration), String> {
    let four = async {
        match record {
            DnsRecord::Aaaa => Ok(NOTHING),
            DnsRecord::A | DnsRecord::Both | DnsRecord::Srv => {
                family(resolver, name, RecordType::A).await
            }
        }
    };
    let six = async {
        match record {
            DnsRecord::A => Ok(NOTHING),
            DnsRecord::Aaaa | DnsRecord::Both | DnsRecord::Srv => {
                family(resolver, name, RecordType::AAAA).await
            }
        }
    };
    let is_known = |is_family: fn(&SocketAddr) -> bool| {
        let mut known = known.iter().map(|spec| &spec.address);
        known.any(|address| matches!(address, Address::Tcp(address) if is_family(address)))
    };
    let (four, six) = tokio::join!(four, six);
    let ((mut ips, ttl), (more, other)) = match (four, six) {
        (Ok(four), Ok(six)) => (four, six),
        (Ok(four), Err(_)) if !four.0.is_empty() && !is_known(SocketAddr::is_ipv6) => {
            (four, NOTHING)
        }
        (Err(_), Ok(six)) if !six.0.is_empty() && !is_known(SocketAddr::is_ipv4) => (NOTHING, six),
        (Err(problem), _) | (_, Err(problem)) => return Err(problem),
    };
    ips.extend(more);
    Ok((ips, ttl.min(other)))
}

/// Addresses of one family; none when the name has none.
async fn family(
    resolver: &TokioResolver,
    name: &str,
    record: RecordType,
) -> Result<(Vec<IpAddr>, Duration), String> {
    let lookup = match resolver.lookup(name, record).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => return Ok(NOTHING),
        Err(error) => return Err(reason(&error)),
    };
    let ips = lookup
        .answers()
        .iter()
        .filter_map(|record| match record.data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        });
    let ttls = lookup.answers().iter().map(|record| record.ttl);
    let ttl = ttls.min().map_or(Duration::MAX, seconds);
    Ok((ips.collect(), ttl))
}

/// Endpoints of a service: its records with their targets resolved, priorities counted from 0.
async fn services(
    source: &DnsSource,
    known: &[EndpointSpec],
) -> Result<(Weights, Duration), String> {
    let resolver = resolver(source)?;
    let lookup = resolver
        .lookup(&*source.name, RecordType::SRV)
        .await
        .map_err(|error| reason(&error))?;
    let records = lookup.answers().iter();
    let mut records: Vec<(&SRV, u32)> = records
        .filter_map(|record| match &record.data {
            // A target of "." says that the service is not offered here (RFC 2782).
            RData::SRV(service) if !service.target.is_root() => Some((service, record.ttl)),
            _ => None,
        })
        .collect();
    records.sort_by_key(|(service, _)| service.priority);
    records.truncate(MAX_ENDPOINTS);
    let mut priorities: Vec<u16> = records.iter().map(|(one, _)| one.priority).collect();
    priorities.dedup();
    let heaviest = records.iter().map(|(service, _)| service.weight).max();

    let mut ttl = records
        .iter()
        .map(|(_, ttl)| seconds(*ttl))
        .min()
        .unwrap_or(Duration::MAX);
    let mut weights = Weights::new();
    for some in records.chunks(TARGETS_AT_ONCE) {
        let mut asking = JoinSet::new();
        for (service, _) in some {
            let (resolver, target) = (resolver.clone(), service.target.to_string());
            let (port, weight) = (service.port, scaled(service.weight, heaviest));
            let priority = place(&priorities, service.priority);
            asking.spawn(async move {
                let ips = ips(&resolver, &target, DnsRecord::Both, &[]).await;
                (
                    port,
                    (priority, weight),
                    ips.map_err(|problem| format!("target {target}: {problem}")),
                )
            });
        }
        while let Some(Ok((port, weight, answer))) = asking.join_next().await {
            let (ips, target_ttl) = match answer {
                Ok(answer) => answer,
                Err(_) if known.is_empty() => continue,
                Err(problem) => return Err(problem),
            };
            ttl = ttl.min(target_ttl);
            for ip in ips {
                let address = Address::Tcp(SocketAddr::new(ip, port));
                add(&mut weights, address, weight);
            }
        }
    }
    Ok((weights, ttl))
}

/// Where a priority stands among those of the answer; the last ones share a place.
fn place(priorities: &[u16], priority: u16) -> u8 {
    let at = priorities.iter().position(|one| *one == priority);
    at.map_or(MAX_PRIORITY, |at| {
        u8::try_from(at).unwrap_or(MAX_PRIORITY).min(MAX_PRIORITY)
    })
}

/// An address that several records lead to has the first of their priorities, and its weights there together.
fn add(weights: &mut Weights, address: Address, (priority, weight): (u8, u32)) {
    let known = weights.entry(address).or_insert((priority, 0));
    if known.0 > priority {
        *known = (priority, 0);
    }
    if known.0 == priority {
        known.1 = known.1.saturating_add(weight).min(MAX_WEIGHT);
    }
}

/// The weight in the range a pool allows; 0 becomes 1, since RFC 2782 gives such a record little traffic, not none.
fn scaled(weight: u16, heaviest: Option<u16>) -> u32 {
    let weight = u32::from(weight);
    let heaviest = heaviest.map_or(0, u32::from);
    let scaled = if heaviest > MAX_WEIGHT {
        weight * MAX_WEIGHT / heaviest
    } else {
        weight
    };
    scaled.max(1)
}

/// Made anew for every question: changes of resolv.conf and hosts are seen then, and no cache stands before the answer.
fn resolver(source: &DnsSource) -> Result<TokioResolver, String> {
    let builder = if source.servers.is_empty() {
        TokioResolver::builder_tokio()
            .map_err(|error| format!("the system's resolver settings: {}", reason(&error)))?
    } else {
        let servers = source.servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        // Whoever names servers wants their answer, not that of /etc/hosts.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder.options_mut().timeout = Duration::from_secs(2);
        builder
    };
    builder.build().map_err(|error| reason(&error))
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut udp = ConnectionConfig::udp();
    let mut tcp = ConnectionConfig::tcp();
    (udp.port, tcp.port) = (address.port(), address.port());
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

fn reason(error: &NetError) -> String {
    if error.is_nx_domain() {
        "the name does not exist".into()
    } else if error.is_no_records_found() {
        "the name has no records of this kind".into()
    } else {
        error.to_string()
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

const NOTHING: (Vec<IpAddr>, Duration) = (Vec::new(), Duration::MAX);
const MAX_ENDPOINTS: usize = 1024;
const MAX_WEIGHT: u32 = 1000;
const TARGETS_AT_ONCE: usize = 16;
const LONGEST_QUESTION: Duration = Duration::from_secs(15);
/// A guard against a busy loop, below anything the configuration allows.
const SHORTEST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
