//! Keys of `routes`: which requests, and what becomes of them.
//! It must not know how matching is done; `decide` does that.
//! Read by `config::compile`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Size, Time};

use super::{ConfigTest, HeaderEdits, PluginUse};

/// A route: hosts, and rules for requests to them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name, unique among routes: lower case letters, digits, `-`, `_` and `.`. Used in metrics and logs.
    pub name: String,
    /// `http` for requests, `tcp` for connections passed through as bytes. Default: http.
    #[serde(default)]
    pub protocol: RouteProtocol,
    /// Names of the listeners that serve it. Default: every listener with role `ingress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<String>>,
    /// Hosts, exact or `*.example.com` (one or more labels). For `tcp`: the SNI. Default: any host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Rules; the most specific one that matches is used: exact path, longer prefix, regex, then method, more headers, more query conditions, then the order written.
    pub rules: Vec<Rule>,
    /// Plugins for every rule, before the rule's own.
    #[serde(default)]
    pub plugins: Vec<PluginUse>,
    /// Times for every rule; a rule's own win.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
    /// Largest request body. Default: 64MiB. Upgraded connections, and gRPC to pools that speak HTTP/2, are not bound by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Size>,
    /// Requests that should meet this route, beside those under the top-level `tests`. Without `expect.route` they expect this route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<ConfigTest>,
    /// Whether it is broken and only its place is kept; set by `config::quarantine`, never written.
    #[serde(skip)]
    pub is_quarantined: bool,
}

/// How much of a broken alternative is understood. What is not is taken to hold, so that nothing it was to take reaches a
/// less specific route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Widened {
    /// All of it.
    #[default]
    No,
    /// The path; some other condition is not.
    Conditions,
    /// Not even the path.
    Path,
}

/// What a route carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteProtocol {
    /// Requests.
    #[default]
    Http,
    /// Bytes.
    Tcp,
}

/// Conditions and one action: `pool`, `split`, `redirect` or `respond`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Alternatives; one must hold. Default: everything matches.
    #[serde(rename = "match")]
    pub matches: Vec<Match>,
    /// Send to this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Divide between pools by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<SplitTarget>,
    /// Answer with a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answer from the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Change host or path before sending upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Edits of the request's fields before sending upstream.
    pub request_headers: HeaderEdits,
    /// Edits of the response's fields.
    pub response_headers: HeaderEdits,
    /// Times for this rule.
    pub timeouts: RouteTimeouts,
    /// Attempts after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Largest request body of this rule. Default: the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Size>,
    /// Plugins of this rule, after the route's.
    pub plugins: Vec<PluginUse>,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Condition on the canonical path. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// The method, such as `GET`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Fields: a text for an exact value, or `{regex: …}`, or `{present: true}`. Repeated fields are joined with `,`.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameters, in the same forms; the first of a repeated parameter counts.
    pub query: BTreeMap<String, ValueMatch>,
    /// Networks of the client's address. Default: any.
    pub clients: Vec<IpNet>,
    /// Server names asked for in TLS, exact or `*.example.com`. Default: any.
    pub sni: Vec<String>,
    /// Principals: SPIFFE IDs or `consumer:NAME`, with `*` at the end for a prefix. Default: any, also none.
    pub principals: Vec<String>,
    /// Set by `config::quarantine`, never written.
    #[serde(skip)]
    pub widened: Widened,
}

/// Condition on a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(String),
    /// This path and everything below it, by whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// The whole path matches this regular expression (RE2 syntax).
    Regex(String),
}

/// Condition on a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ValueMatch {
    /// Exactly this value.
    Exact(String),
    /// By a rule.
    By(ValueRule),
}

/// Condition on a value other than equality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ValueRule {
    /// The whole value matches this regular expression.
    Regex(String),
    /// Whether it is there at all.
    Present(bool),
}

/// A share of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitTarget {
    /// The pool.
    pub pool: String,
    /// Its part of the sum of all weights; 0 gets nothing.
    pub weight: u32,
}

/// A redirect. What is not given is kept from the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port. Default: the scheme's own when `scheme` is given, else the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Replaces the matched prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// 301, 302, 303, 307 or 308. Default: 302.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            path_prefix: None,
            status: 302,
        }
    }
}

/// A fixed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// Status, 200 to 599.
    pub status: u16,
    /// Body. Default: empty.
    #[serde(default)]
    pub body: String,
    /// Media type of the body. Default: `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// What changes in the request line and host before sending upstream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// The Host (HTTP/2: authority) to send. Default: the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Replaces the prefix that the rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// Replaces what a regular expression finds in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<PathRegex>,
}

/// A replacement by regular expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathRegex {
    /// What to find (RE2 syntax).
    pub pattern: String,
    /// What to put there; `$1` or `${name}` for groups.
    pub replace: String,
}

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
