//! Settings of a pool: everything but its endpoints.
//! It must not know what acts on them.
//! Part of a pool; built by `config::compile`.

use std::sync::Arc;
use std::time::Duration;

use super::{Balance, Ejection};
use crate::snapshot::mtls::Outbound;
use crate::snapshot::ssrf::Guard;
use crate::snapshot::tls::PeerTls;

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// What forbids addresses of endpoints; `None` for nothing.
    pub guard: Option<Arc<Guard>>,
    /// Mutual TLS to endpoints.
    pub mtls: Option<Arc<Outbound>>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Passive ejection.
    pub ejection: Ejection,
    /// Active health check.
    pub health: Option<Health>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// How long idle connections are kept.
    pub idle_timeout: Duration,
    /// How old a connection may be to be used for another request; zero for any age.
    pub max_age: Duration,
    /// Requests at a time on an HTTP/2 connection.
    pub h2_streams: u32,
    /// PROXY protocol to send.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Where endpoints come from.
    pub source: Source,
}
