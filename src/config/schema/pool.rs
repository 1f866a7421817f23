//! Keys of `pools`: endpoints, how to find them, choose between them and speak to them.
//! It must not know routes.
//! Read by `config::compile`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

/// Endpoints that serve the same thing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Name, unique among pools: lower case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Endpoints by address. Give these or `discovery`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Finds endpoints and follows their changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// What the endpoints speak. Default: http1.
    #[serde(default)]
    pub protocol: PoolProtocol,
    /// TLS to the endpoints. Default: in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTls>,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// Active health check. Default: none; endpoints count as healthy until they are ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Taking endpoints out that fail real requests.
    #[serde(default)]
    pub ejection: Ejection,
    /// Times and sizes of connections.
    #[serde(default)]
    pub connections: PoolConnections,
    /// Send the client's address in a PROXY protocol header. Connections are then not shared between clients. Default: not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// Whether it is broken and only its name is kept; set by `config::quarantine`, never written.
    #[serde(skip)]
    pub is_quarantined: bool,
}

/// An endpoint: `host:port`, or with its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Endpoint {
    /// `10.0.0.1:8080`, `[::1]:80` or `unix:/path`.
    Address(String),
    /// With settings.
    Full(EndpointSettings),
}

/// An endpoint with settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// `10.0.0.1:8080`, `[::1]:80` or `unix:/path`. Names belong in `discovery`.
    pub address: String,
    /// Its part of the traffic beside the others. Default: 1, at most 1000; 0 drains it: no new requests.
    #[serde(default = "one")]
    pub weight: u32,
    /// Labels for later choices and for views, such as `zone: a`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// A source of endpoints: one of `dns` and `file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Discovery {
    /// A DNS name.
    Dns(DnsDiscovery),
    /// A file, read again when it changes.
    File(FileDiscovery),
}

/// Endpoints from DNS. The answer's time to live says when to ask again; the last good answer stays when DNS fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsDiscovery {
    /// The name to look up.
    pub name: String,
    /// `a`, `aaaa`, `both` or `srv`. Default: both.
    #[serde(default)]
    pub record: DnsRecord,
    /// Port of the endpoints; needed unless `srv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Shortest time between questions, whatever the time to live. Default: 1s.
    #[serde(default = "one_second")]
    pub min_ttl: Time,
    /// Longest time between questions. Default: 5m.
    #[serde(default = "five_minutes")]
    pub max_ttl: Time,
    /// Name servers as `ip:port`. Default: those of the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

fn one_second() -> Time {
    Time::secs(1)
}

fn five_minutes() -> Time {
    Time::secs(300)
}

/// Which records to ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsRecord {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// Hosts, ports and weights (RFC 2782); the lowest priority value is used.
    Srv,
}

/// Endpoints from a YAML or JSON file with a list like `endpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDiscovery {
    /// The file, relative to the configuration.
    pub path: String,
}

/// What endpoints speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: with TLS by ALPN, in the clear with prior knowledge. gRPC needs it.
    Http2,
    /// HTTP/2 if the endpoint agrees during the TLS handshake, else HTTP/1.1. Needs `tls`.
    Auto,
    /// Bytes, for `tcp` routes.
    Tcp,
}

/// TLS to endpoints. Certificates are always verified unless `verify` says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolTls {
    /// The name to ask for and to find in the certificate.
    pub sni: String,
    /// PEM file with the authorities that are believed. Default: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Certificate and key to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateFiles>,
    /// `full` checks issuer and name, `issuer` only the issuer, `none` nothing. Default: full.
    #[serde(default)]
    pub verify: Verify,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM file with the certificate and its chain, leaf first.
    pub cert: String,
    /// PEM file with the private key.
    pub key: String,
}

/// What is checked of an endpoint's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Issuer and name.
    #[default]
    Full,
    /// The issuer.
    Issuer,
    /// Nothing: anyone on the path can read and change the traffic.
    None,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// Default: ewma.
    pub algorithm: Algorithm,
    /// What `maglev` and `ketama` hash. Default: the client's address.
    pub hash: Option<HashKey>,
}

/// A way to choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Two random endpoints, the one with the lower latency times load wins (peak EWMA, as Finagle and Linkerd do).
    #[default]
    Ewma,
    /// In turn by weight, smoothly as nginx does.
    RoundRobin,
    /// Two random endpoints, the one with fewer requests in flight wins.
    LeastRequest,
    /// At random by weight.
    Random,
    /// Consistent hashing with a Maglev table of 65537 places (Eisenbud et al., NSDI 2016).
    Maglev,
    /// Consistent hashing on a ring, as nginx does with `hash … consistent`.
    Ketama,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A request field; requests without it are spread.
    Header(String),
    /// A cookie; requests without it are spread.
    Cookie(String),
    /// The path.
    Path,
}

/// Active health check: exactly one of `http`, `tcp` and `grpc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Asks over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHealth>,
    /// Connects, and makes the TLS handshake if the pool has `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpHealth>,
    /// Asks with the gRPC health protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcHealth>,
    /// Time between checks, spread by 10 % either way. Default: 10s.
    #[serde(default = "ten_seconds")]
    pub interval: Time,
    /// Time for one check. Default: 2s.
    #[serde(default = "two_seconds")]
    pub timeout: Time,
    /// Checks in a row that bring an endpoint back. Default: 2.
    #[serde(default = "two")]
    pub rise: u32,
    /// Failed checks in a row that take it out. Default: 3.
    #[serde(default = "three")]
    pub fall: u32,
    /// Port to ask instead of the endpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

fn ten_seconds() -> Time {
    Time::secs(10)
}

fn two_seconds() -> Time {
    Time::secs(2)
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

/// Health over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpHealth {
    /// Path to ask. Default: `/`.
    pub path: String,
    /// Host to send. Default: the pool's SNI, else the endpoint's address.
    pub host: Option<String>,
    /// Lowest and highest status that count as healthy. Default: [200, 299].
    pub statuses: [u16; 2],
}

impl Default for HttpHealth {
    fn default() -> HttpHealth {
        HttpHealth {
            path: "/".into(),
            host: None,
            statuses: [200, 299],
        }
    }
}

/// Health by connecting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpHealth {}

/// Health by `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcHealth {
    /// Service to ask about. Default: empty, the server as a whole.
    pub service: String,
}

/// Taking an endpoint out for a while after failures of real requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Failures in a row (502, 503, 504, and connections that fail) that eject. Default: 5; 0 turns ejection off.
    pub consecutive_failures: u32,
    /// How long the first time; doubles each time. Default: 10s.
    pub base_time: Time,
    /// Longest time. Default: 300s.
    pub max_time: Time,
    /// Share of the endpoints that may be out at once by ejection; one may always be. Default: 50%.
    pub max_ejected: Percent,
}

impl Default for Ejection {
    fn default() -> Ejection {
        Ejection {
            consecutive_failures: 5,
            base_time: Time::secs(10),
            max_time: Time::secs(300),
            max_ejected: HALF,
        }
    }
}

const HALF: Percent = match Percent::new(50) {
    Some(half) => half,
    None => unreachable!(),
};

/// Connections to endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConnections {
    /// Time for TCP, and again for TLS. Default: 5s.
    pub connect_timeout: Time,
    /// How long an idle connection is kept. Default: 60s; 0s closes it after each request.
    pub idle_timeout: Time,
    /// Requests at a time on one HTTP/2 connection. Default: 100.
    pub h2_streams: u32,
}

impl Default for PoolConnections {
    fn default() -> PoolConnections {
        PoolConnections {
            connect_timeout: Time::secs(5),
            idle_timeout: Time::secs(60),
            h2_streams: 100,
        }
    }
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}
