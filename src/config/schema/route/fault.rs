//! Keys of `fault`: delays and aborts that are injected on purpose.
//! It must not know how they are carried out; `decide` chooses, the proxy waits.
//! Part of a route's keys.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

use super::ValueMatch;

/// Delays and aborts to see how clients bear them. Both may meet one request: it is delayed, then aborted. Faults come after the
/// plugins and before an endpoint is chosen, so they count against none, and are not mirrored. A fault that nothing guards must
/// say `everyone: true`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Requests wait before they go on. Default: none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Requests are answered instead of going on, with cause `fault_injected`. Default: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
    /// Only for requests that have all of this. Default: for all.
    pub when: FaultWhen,
    /// Only for these principals, with `*` at the end for a prefix. Default: for all.
    pub principals: Vec<String>,
    /// Only for clients in these networks. Default: for all.
    pub clients: Vec<IpNet>,
    /// Says that a fault without `when`, `principals` and `clients` is meant for everybody.
    pub everyone: bool,
    /// Whether those whom the fault is for may ask for one themselves, in place of `delay` and `abort`: with the fields
    /// `x-windrose-fault-delay: 200ms`, `x-windrose-fault-abort: 503` and `x-windrose-fault-abort-grpc: 14`, which do not go on
    /// upstream; from peers outside of the listener's `trusted_proxies` they never do, so that no proxy behind this one believes them. Needs `principals` or `clients`. Values that cannot be understood are ignored, longer delays cut to 5m.
    pub by_header: bool,
}

/// A delay. It ends early when the client leaves; over HTTP/1 that is noticed within a tenth of a second where something of the request is unread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultDelay {
    /// How long, at most 5m. It is part of the request's own time: when `timeouts.request` ends first, the answer is 504 with `deadline_exceeded`.
    pub time: Time,
    /// Share of the requests, `0.01%` to `100%`.
    pub percent: Percent,
}

/// An abort. Give `status` or `grpc_status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultAbort {
    /// Status to answer with, 400 to 599. gRPC calls get the status of their own that stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `grpc-status` to answer with, 1 to 16, in a response of status 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// Share of the requests, `0.01%` to `100%`.
    pub percent: Percent,
}

/// What a request must have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultWhen {
    /// Fields, in the same forms as in `match`.
    pub headers: BTreeMap<String, ValueMatch>,
}
