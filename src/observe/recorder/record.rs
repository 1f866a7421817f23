//! What a record says: a request as it came in, what was decided about it and what came of it, without its secrets.
//! It must not know where records are kept or who asks for them.
//! The recorder makes them; the admin address, `windrose why` and bundles show them.

use serde::{Deserialize, Serialize};

use super::Reason;

/// A finished request. Absent members are unknown or do not apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When the request's header had arrived, in RFC 3339.
    pub time: String,
    /// Why it is kept.
    pub kept: Reason,
    /// The request id.
    pub request_id: String,
    /// The trace id, in hex.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// Who asked, and through which listener.
    pub caller: Caller,
    /// What was asked.
    pub request: Asked,
    /// What was decided.
    pub decision: Decision,
    /// Attempts at endpoints, in order.
    pub attempts: Vec<Attempt>,
    /// What the client got.
    pub answer: Given,
    /// How long it took.
    pub durations: Durations,
}

/// Who asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// The listener's name.
    pub listener: String,
    /// The listener's role.
    pub role: String,
    /// The client's address, after trust in forwarded fields was settled.
    pub client: String,
    /// The address and port the connection came from, after the PROXY protocol.
    pub peer: String,
    /// Where a captured connection was going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The server name the client's TLS asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Who the client's certificate names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Who called in the end, as plugins proved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// What was asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host in canonical form; empty when it was refused before.
    pub host: String,
    /// The host as asked for, with its port.
    pub authority: String,
    /// The path as received.
    pub path: String,
    /// The query's pairs in order; values are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<Pair>,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: String,
    /// The fields in order, repeated ones included.
    pub fields: Vec<Pair>,
    /// Whether path, query and fields are what was received or what plugins made of it.
    pub seen: Seen,
    /// Pairs of the query and fields beyond the bound of a record.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Whether the path is shortened.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
    /// Bytes of the body.
    pub bytes: u64,
}

/// A field, or a pair of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pair {
    /// Its name as received.
    pub name: String,
    /// Its value, `***` where it is or may be secret.
    pub value: String,
    /// Whether a part of the value is replaced by `***`: a decision on it cannot be made again.
    #[serde(skip_serializing_if = "is_false")]
    pub redacted: bool,
    /// Whether the value is shortened, or bytes that are no harmless text are replaced.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// At which point the request's head was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// As its bytes came in.
    #[default]
    Received,
    /// HTTP/2: after plugins that edit requests.
    AfterPlugins,
}

/// What was decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// The generation of the configuration that decided.
    pub generation: u64,
    /// The route's name; absent when none matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Index of the route's rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Where the rule stands, as `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The pool's name; absent when none was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The policy and rule that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What policies in audit mode would have changed, as `would_deny NAME[RULE]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_audit: Option<String>,
}

/// An attempt at an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// The endpoint.
    pub endpoint: String,
    /// The status it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Whether it used a connection that was there.
    pub reused: bool,
    /// Time to the response header or to the failure.
    pub ms: f64,
}

/// What the client got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    /// The status; 0 when nothing was sent.
    pub status: u16,
    /// Set when the proxy answered or cut the response itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// `grpc-status` of a gRPC call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// Bytes of the body.
    pub bytes: u64,
    /// What a cache did, in the word of the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

/// How long it took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// From the request's header to the end.
    pub total_ms: f64,
    /// From the request's header to the first attempt: plugins and the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_upstream_ms: Option<f64>,
    /// From the first attempt to the response header of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
