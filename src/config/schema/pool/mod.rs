//! Keys of `pools`: endpoints, how to find them, choose between them and speak to them.
//! It must not know routes.
//! Read by `config::compile`.

mod balance;
mod discovery;
mod ejection;
mod health;
mod limits;

pub use balance::*;
pub use discovery::*;
pub use ejection::*;
pub use health::*;
pub use limits::*;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

use super::{PoolMtls, RetryBudget};

/// Endpoints that serve the same thing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Mutual TLS to the endpoints, by the identities of `identity`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<PoolMtls>,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// Active health check. Default: none; endpoints count as healthy until they are ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Taking endpoints out that fail real requests.
    #[serde(default)]
    pub ejection: Ejection,
    /// Bounds on what the pool takes at a time. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PoolLimits>,
    /// Times and sizes of connections.
    #[serde(default)]
    pub connections: PoolConnections,
    /// How many further attempts its requests may make together.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// Send the client's address in a PROXY protocol header. Connections are then not shared between clients. Default: not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// Whether the top-level `ssrf_guard` judges its endpoints; such as it forbids are left out, and where all of them are, requests are refused with the cause `address_forbidden`. Only with that section. Default: `true` with `discovery: dns` if the section's `for` has `dns`, else `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrf_guard: Option<bool>,
    /// Whether it is broken and only its name is kept; set by `config::decode` and `config::quarantine`, never written.
    #[serde(skip)]
    pub is_quarantined: bool,
    /// The position of the service it was generated for, never written.
    #[serde(skip)]
    pub service: Option<usize>,
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
    /// Labels for zones, subsets and views, such as `zone: a`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Endpoints of priority 0 have all traffic while 72 % of them are available; what they cannot carry goes to those of the next higher number. Default: 0, at most 7.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
}

fn one() -> u32 {
    1
}

fn is_zero(number: &u8) -> bool {
    *number == 0
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

/// Connections to endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConnections {
    /// Time for TCP, and again for TLS. Default: 5s.
    pub connect_timeout: Time,
    /// How long an idle connection is kept. Default: 60s; 0s closes it after each request. To an HTTP/1 endpoint that closes idle connections earlier it is kept for less, a tenth and at least 100 ms below what three such closes in a row have shown; that is forgotten after 10 minutes and learned anew.
    pub idle_timeout: Time,
    /// Requests at a time on one HTTP/2 connection. Default: 100. HTTP/2 connections are pinged every 10s, and end when no answer comes within 5s.
    pub h2_streams: u32,
    /// How old a connection may be to take another request, so that long-lived HTTP/2 connections behind a layer-4 balancer spread anew. Requests under way finish on it; afterwards it is idle until `idle_timeout` closes it. Ages differ between endpoints, half of it is the mean. Default: 0s, any age; from 10s to 24h.
    pub max_age: Time,
}

impl Default for PoolConnections {
    fn default() -> PoolConnections {
        PoolConnections {
            connect_timeout: Time::secs(5),
            idle_timeout: Time::secs(60),
            h2_streams: 100,
            max_age: Time::secs(0),
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
