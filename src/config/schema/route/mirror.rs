//! Keys of `mirror`: copies of requests to further pools, and the comparison of their responses.
//! It must not know how copies are sent; the proxy does that.
//! Part of a route's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Size, Time};

/// Sends copies of requests to another pool; responses are thrown away, or compared. A copy is what the endpoint got, body and
/// plugins' changes included, with the field `x-windrose-mirror: ROUTE` added. It is sent once the body is whole, on a task of
/// its own, and never again: nothing that becomes of it reaches the client. Requests that were refused before an endpoint was
/// chosen, upgrades (WebSocket) and requests that are copies themselves are not mirrored. Copies count as load of the endpoints
/// they go to, but neither for ejection nor for latency. Of the pool's `limits` only `endpoint_requests` holds for them: where no
/// endpoint has room a copy is dropped and counted; `requests` and the others count no copies (`concurrency` bounds those). While
/// the process is overloaded (`overload`) none are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The pool, which must not have `proxy_protocol`.
    pub pool: String,
    /// Share of the requests that are copied, `0.01%` to `100%`.
    pub percent: Percent,
    /// Longest body that is copied, at most 1MiB; requests with longer ones, also of a stream of gRPC, are not. Each request that
    /// is to be mirrored holds so much memory until its body is whole. Default: 64KiB.
    #[serde(default = "body_limit")]
    pub body_limit: Size,
    /// Time for a copy, waiting and response included, at most 5m. Default: 10s.
    #[serde(default = "timeout")]
    pub timeout: Time,
    /// Copies under way at a time, counted for all rules that mirror to the pool, 1 to 10000. Default: 64.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// Copies that may wait for their turn, counted likewise, at most 10000; more are dropped and counted. Default: 64.
    #[serde(default = "queue")]
    pub queue: u32,
    /// Compares the copy's response with the one that the client's request got. Default: not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
}

/// What is compared: the responses as the endpoints sent them, before the route's own edits and plugins. Counted in
/// `windrose_mirror_compared_total`; `/mirrors` on the admin address shows examples of differences, without values of bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// The status. Default: true.
    pub status: bool,
    /// Fields whose values must be the same, also in being absent. Default: none.
    pub headers: Vec<String>,
    /// The body. Bodies in a content coding such as gzip are compared as bytes. Default: none.
    pub body: CompareBody,
    /// JSON pointers (RFC 6901) of values that may differ, such as `/meta/id`; the segment `*` stands for any one. Default: none.
    pub ignore: Vec<String>,
    /// Whether the difference of the times to the response's header is observed. Default: true.
    pub latency: bool,
    /// Longest body that is compared, at most 1MiB; responses with longer ones count as `too_large`. Default: 64KiB.
    pub body_limit: Size,
}

/// How bodies are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompareBody {
    /// Not at all.
    #[default]
    None,
    /// Byte by byte.
    Bytes,
    /// As JSON: the same members and values, whatever the order of members. Bodies that are not JSON are compared as bytes.
    Json,
    /// As JSON: the same members with values of the same types; arrays as far as both go.
    JsonShape,
}

impl Default for Compare {
    fn default() -> Compare {
        Compare {
            status: true,
            headers: Vec::new(),
            body: CompareBody::None,
            ignore: Vec::new(),
            latency: true,
            body_limit: body_limit(),
        }
    }
}

fn body_limit() -> Size {
    Size(64 << 10)
}

fn timeout() -> Time {
    Time::secs(10)
}

fn concurrency() -> u32 {
    64
}

fn queue() -> u32 {
    64
}
