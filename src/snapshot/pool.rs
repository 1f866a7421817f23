//! A pool: how to speak to its endpoints, how to choose, and the set of endpoints right now.
//! It must not know routes, nor how endpoints are found; `control::discovery` stores new sets.
//! Built by `config::compile`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderName;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;

use super::balance::Table;
use super::endpoint::{Address, Endpoint, Endpoints};
use super::tls::PeerTls;
use crate::observe::metrics::{Metrics, PoolMetrics};

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 or HTTP/1.1 by ALPN.
    Auto,
    /// Bytes.
    Tcp,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Peak EWMA, power of two choices.
    Ewma,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest in flight, power of two choices.
    LeastRequest,
    /// Weighted random.
    Random,
    /// Maglev hashing.
    Maglev,
    /// Ketama ring.
    Ketama,
}

/// What is hashed by the consistent algorithms.
#[derive(Debug, Clone, PartialEq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A request field.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// The path.
    Path,
}

/// Passive ejection; zero failures turn it off.
#[derive(Debug, Clone, PartialEq)]
pub struct Ejection {
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// First time out.
    pub base_time: Duration,
    /// Longest time out.
    pub max_time: Duration,
    /// Share of endpoints that may be out at once, 0 to 1; one always may.
    pub max_ejected: f64,
}

/// An active health check.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// How to ask.
    pub kind: HealthKind,
    /// Time between checks.
    pub interval: Duration,
    /// Time for one check.
    pub timeout: Duration,
    /// Successes in a row that bring it back.
    pub rise: u32,
    /// Failures in a row that take it out.
    pub fall: u32,
    /// Port to ask instead.
    pub port: Option<u16>,
}

/// How to ask for health.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthKind {
    /// `GET path`, healthy within the statuses.
    Http {
        /// Path.
        path: String,
        /// Host; `None` for the SNI or the endpoint's address.
        host: Option<String>,
        /// Lowest and highest healthy status.
        statuses: (u16, u16),
    },
    /// A connection, with TLS if the pool has it.
    Tcp,
    /// `grpc.health.v1.Health/Check` for the service.
    Grpc {
        /// Service name; empty for the server.
        service: String,
    },
}

/// Where endpoints come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Written in the configuration.
    Static,
    /// Asked from DNS.
    Dns(DnsSource),
    /// Read from a file that is watched.
    File(std::path::PathBuf),
}

/// A DNS name to follow.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsSource {
    /// Name to look up.
    pub name: String,
    /// Which records.
    pub record: DnsRecord,
    /// Port of the endpoints; unused for SRV.
    pub port: u16,
    /// Shortest time between questions.
    pub min_ttl: Duration,
    /// Longest time between questions.
    pub max_ttl: Duration,
    /// Name servers; empty for the system's.
    pub servers: Vec<std::net::SocketAddr>,
}

/// Which records to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecord {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
    /// Both.
    Both,
    /// Services.
    Srv,
}

/// A version of the PROXY protocol to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Settings of a pool: everything but its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    /// What endpoints speak.
    pub protocol: PoolProtocol,
    /// TLS to endpoints.
    pub tls: Option<Arc<PeerTls>>,
    /// How an endpoint is chosen.
    pub algorithm: Algorithm,
    /// What is hashed.
    pub hash: HashKey,
    /// Passive ejection.
    pub ejection: Ejection,
    /// Active health check.
    pub health: Option<Health>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// How long idle connections are kept.
    pub idle_timeout: Duration,
    /// Requests at a time on an HTTP/2 connection.
    pub h2_streams: u32,
    /// PROXY protocol to send.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Where endpoints come from.
    pub source: Source,
}

/// A pool.
pub struct Pool {
    /// Its name: the key across generations.
    pub name: Arc<str>,
    /// Where it is written, as `file:line`.
    pub place: Box<str>,
    /// Settings.
    pub settings: PoolSettings,
    /// The endpoints right now. Shared with the same pool of the next generation while its settings stay the same.
    pub set: Arc<ArcSwap<EndpointSet>>,
    /// Counters.
    pub metrics: Arc<PoolMetrics>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.name)
    }
}

/// An endpoint as a source names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Where.
    pub address: Address,
    /// Part of the traffic beside others; 0 for none.
    pub weight: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// An endpoint in a set, with what only this set knows of it.
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Part of the traffic beside others.
    pub weight: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Cloned for each request; `None` for pools of bytes.
    pub peer: Option<Box<HttpPeer>>,
}

/// The endpoints of a pool at one moment.
pub struct EndpointSet {
    /// Endpoints, in the order of the source.
    pub members: Box<[Member]>,
    /// What the algorithm needs, built once.
    pub table: Table,
}

impl EndpointSet {
    /// A set of these endpoints for a pool with these settings.
    pub fn new(
        pool: &str,
        settings: &PoolSettings,
        specs: &[EndpointSpec],
        endpoints: &Endpoints,
        metrics: &Metrics,
    ) -> EndpointSet {
        let members: Box<[Member]> = specs
            .iter()
            .map(|spec| {
                let endpoint = endpoints.endpoint(pool, &spec.address, metrics);
                let peer = peer(pool, settings, &spec.address);
                Member {
                    endpoint,
                    weight: spec.weight,
                    labels: spec.labels.clone(),
                    peer,
                }
            })
            .collect();
        let table = Table::new(settings.algorithm, &members);
        EndpointSet { members, table }
    }

    /// What a source would have named to get this set.
    pub fn specs(&self) -> Vec<EndpointSpec> {
        let spec = |member: &Member| EndpointSpec {
            address: member.endpoint.address.clone(),
            weight: member.weight,
            labels: member.labels.clone(),
        };
        self.members.iter().map(spec).collect()
    }
}

/// The template that Pingora connects with. Its group key separates whatever Pingora's own pool key leaves out:
/// pool, trust, own certificate and idle time never share a socket with another pool's.
fn peer(pool: &str, settings: &PoolSettings, address: &Address) -> Option<Box<HttpPeer>> {
    if settings.protocol == PoolProtocol::Tcp {
        return None;
    }
    let sni = settings
        .tls
        .as_ref()
        .map(|tls| tls.sni.clone())
        .unwrap_or_default();
    let mut peer = match address {
        Address::Tcp(address) => HttpPeer::new(address, settings.tls.is_some(), sni),
        Address::Unix(path) => {
            HttpPeer::new_uds(path.to_str()?, settings.tls.is_some(), sni).ok()?
        }
    };
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout * 2);
    options.idle_timeout = Some(settings.idle_timeout);
    options.max_h2_streams = settings.h2_streams as usize;
    options.alpn = match settings.protocol {
        PoolProtocol::Http1 | PoolProtocol::Tcp => ALPN::H1,
        PoolProtocol::Http2 => ALPN::H2,
        PoolProtocol::Auto => ALPN::H2H1,
    };
    if let Some(tls) = &settings.tls {
        tls.apply(&mut peer);
    }
    peer.group_key = group_key(pool, settings);
    Some(Box::new(peer))
}

fn group_key(pool: &str, settings: &PoolSettings) -> u64 {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    pool.hash(&mut hasher);
    settings.idle_timeout.hash(&mut hasher);
    settings.protocol.hash_into(&mut hasher);
    if let Some(tls) = &settings.tls {
        tls.fingerprint.hash(&mut hasher);
    }
    hasher.finish()
}

impl PoolProtocol {
    fn hash_into(self, hasher: &mut impl std::hash::Hasher) {
        hasher.write_u8(self as u8);
    }
}
