//! Keys of `pools[].limits`: how much a pool takes at a time, and who waits for a place in it.
//! It must not know how places are given away.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

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
    /// Requests that may wait for a place when the pool, or every endpoint that may be chosen, is at its bound, at most 100000. Higher classes (`priority`) go first, within a class the first to come; when the queue is full, a higher class takes the place of a lower one. A client that closes its side of the connection while it waits, a half-close included, counts as gone. Default: 0, nobody waits, and classes mean nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    /// How long one may wait; then it is refused with 503 and `queue_timeout`. The route's `timeouts.request` ends it earlier. Default: 1s; at most 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Time>,
    /// A bound on requests under way that follows latency, beside `requests`. Default: none. Not for pools with protocol `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveLimit>,
}

/// A bound on requests under way that follows latency: it rises while answers are as quick as without queueing and falls while they are slower. The time of an answer runs from the choice of the endpoint to the response's header; answers with 4xx and 5xx statuses, which may be quick for any reason, are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveLimit {
    /// Lowest bound. Default: 3, at most 1000000.
    pub min: u32,
    /// Highest bound. Default: 1000, at most 1000000.
    pub max: u32,
    /// How often the bound is computed, from the median of the answers since; a window with fewer than 10 answers goes on. Default: 100ms, at least 10ms.
    pub window: Time,
    /// How much slower than without queueing answers may be. Default: 25%.
    pub buffer: Percent,
    /// How often the latency without queueing is measured anew; the bound is halved meanwhile. Default: 60s, at least 1s.
    pub measure_every: Time,
    /// Answers for one measurement. Default: 50, at most 500.
    pub measure_requests: u32,
    /// How much sooner or later a measurement may begin, so that many proxies do not measure together. Default: 15%.
    pub jitter: Percent,
}

impl Default for AdaptiveLimit {
    fn default() -> AdaptiveLimit {
        AdaptiveLimit {
            min: 3,
            max: 1000,
            window: Time::millis(100),
            buffer: percent(25),
            measure_every: Time::secs(60),
            measure_requests: 50,
            jitter: percent(15),
        }
    }
}

const fn percent(whole: u8) -> Percent {
    match Percent::new(whole) {
        Some(percent) => percent,
        None => unreachable!(),
    }
}
