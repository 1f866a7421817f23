//! Keys of `services`: who can be called in the mesh, by which names and addresses, and where they are.
//! It must not know pools and routes, which `config::services` makes of them.
//! Read by `config::load`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Balance, Discovery, Endpoint, Health, PoolMtls};

/// A service that workloads of this node call through its `mesh-outbound` listeners. Each port becomes a pool and a route of the service's name; a route that is written wins over one of a service where both are equally specific.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name, unique among services, and among routes and pools too: lower case letters, digits, `-`, `_` and `.`. The first port's pool and route are named so, those of further ports `NAME.PORT`.
    pub name: String,
    /// Hosts it is called by, exact or `*.example.com`; for TLS that is passed through, the SNI. Default: its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Addresses it is called at, for listeners that `capture`: virtual ones, or those of machines. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The ports it is called at, at most 64.
    pub ports: Vec<ServicePort>,
    /// Endpoints, as in `pools`; without a port (`10.0.0.1`, `fd00::1`) they serve at each port's `target`. Give these, `discovery` or `pool`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Finds endpoints and follows their changes, as in `pools`. With `dns` each port's `target` is the port unless one is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// A pool that is written and has all settings a pool can have; also a gateway on another node through which services outside are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Mutual TLS to the endpoints, as in `pools`. Not beside `pool`. Default: in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<PoolMtls>,
    /// How an endpoint is chosen. Not beside `pool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// Active health check. Not beside `pool`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether it is broken and only its place is kept; set by `config::decode` and `config::quarantine`, never written.
    #[serde(skip)]
    pub is_quarantined: bool,
}

/// A port of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// The port it is called at.
    pub port: u16,
    /// What is spoken. It also says what is not looked for: connections to the service's addresses at a `tcp` port are passed on at once. Default: http.
    #[serde(default)]
    pub protocol: ServiceProtocol,
    /// The port endpoints serve at. Default: `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u16>,
    /// A written pool for this port alone. Default: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// What is spoken at a port of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceProtocol {
    /// HTTP; endpoints get HTTP/1.1.
    #[default]
    Http,
    /// HTTP; endpoints get HTTP/2.
    Http2,
    /// gRPC: HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
}

/// Where further services are read from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServicesFrom {
    /// Files that hold a list like `services`, as a path or pattern with `*` in the file name, relative to this file. They are watched: a change is a reload.
    pub file: String,
}

/// What a generated route knows of its service; never written.
#[derive(Debug, Clone, PartialEq)]
pub struct OfService {
    /// The service's position.
    pub at: usize,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// Whether the port must be asked for, because the service has others.
    pub is_one_of_several: bool,
}
