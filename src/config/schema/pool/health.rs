//! Keys of `pools[].health`: asking endpoints whether they are well.
//! It must not know what follows from an answer.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

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
