//! Keys of `timeouts` and `retry`: how long a request may take, and what follows a failure.
//! It must not know how attempts are made.
//! Part of a route's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

/// Times of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// From sending the request upstream to the response's header. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header: Option<Time>,
    /// Silence in either direction while a body or stream is under way. Default: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Time>,
    /// The whole request, all attempts included, until the response's header. Default: 0s, no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Time>,
}

/// Attempts after a failure, each on another endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Further attempts. Default: 1; 0 turns retries off; at most 5.
    pub attempts: u8,
    /// Which failures are tried again. Default: [connect_failure, reset].
    pub on: Vec<RetryOn>,
    /// Methods that may be sent again after bytes of the request went upstream. A connection that was never made is safe for all. Default: [GET, HEAD, OPTIONS, PUT, DELETE].
    pub methods: Vec<String>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 1,
            on: vec![RetryOn::ConnectFailure, RetryOn::Reset],
            methods: ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

/// A failure that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// No connection was made; nothing was sent.
    ConnectFailure,
    /// The connection broke before the response's header.
    Reset,
}
