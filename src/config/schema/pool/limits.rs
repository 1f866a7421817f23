//! Keys of `pools[].limits`: how much a pool takes at a time, and who waits for a place in it.
//! It must not know how places are given away.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

/// Bounds on what a pool takes at a time. What is over them waits, if `pending` lets it, or is refused with 503 and `pool_overloaded`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolLimits {
    /// Connections in use at a time, at most 1000000, for pools with protocol `http1` or `tcp`. With `http1` each request uses one, so it bounds requests; idle connections kept for reuse are not counted (`server.upstream_idle_connections` bounds those). Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Requests under way at a time in the whole pool, at most 1000000. A request counts from the choice of its endpoint to the end of its response, over all its attempts; streams (WebSocket, gRPC) as long as they last. Requests that were under way before a reload first set limits are not counted. Default: no bound, because a bound that nobody chose refuses good traffic one day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// Requests under way at a time at one endpoint (connections, for protocol `tcp`), at most 1000000. Full endpoints are passed over while others have room. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_requests: Option<u32>,
    /// Retries under way at a time in the pool, at most 1000000; 0 makes none. A retry over it is not made and the failure before it is answered. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Requests that may wait for a place when the pool, or every endpoint that may be chosen, is at its bound, at most 100000. Higher classes (`priority`) go first, within a class the first to come; when the queue is full, a higher class takes the place of a lower one. Default: 0, nobody waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    /// How long one may wait; then it is refused with 503 and `queue_timeout`. The route's `timeouts.request` ends it earlier. Default: 1s; at most 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Time>,
}
