//! Keys of `routes`: which requests, and what becomes of them.
//! It must not know how matching is done; `decide` does that.
//! Read by `config::compile`.

mod actions;
mod fault;
mod matches;
mod mirror;
mod retry;
mod split;

pub use actions::*;
pub use fault::*;
pub use matches::*;
pub use mirror::*;
pub use retry::*;
pub use split::*;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Size;

use super::{ConfigTest, HeaderEdits, OfService, PluginUse, Priority};

/// A route: hosts, and rules for requests to them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Attempts after a failure, for every rule that has no `retry` of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Largest request body. Default: 64MiB. Upgraded connections, and gRPC to pools that speak HTTP/2, are not bound by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Size>,
    /// The class of its requests: `critical`, `high`, `normal` or `low`. Higher ones go first where requests wait for a pool (`limits.pending`), and are refused last when the process is overloaded (`overload`). A full pool without `pending` refuses every class alike. Default: normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Requests that should meet this route, beside those under the top-level `tests`. Without `expect.route` they expect this route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<ConfigTest>,
    /// Whether it is broken and only its place is kept; set by `config::decode` and `config::quarantine`, never written.
    #[serde(skip)]
    pub is_quarantined: bool,
    /// Whether nothing but its rules, their plugins and its own could be decoded, never written.
    #[serde(skip)]
    pub is_gap: bool,
    /// The service it was generated for, never written.
    #[serde(skip)]
    pub service: Option<OfService>,
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
    /// Only endpoints of the pool with all these labels, such as `version: v2`. Default: every endpoint. At most 64 different subsets for each pool; with `split` each share names its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
    /// Divide between pools by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<SplitTarget>,
    /// What keeps a user in one share of the split. Default: each request is dealt by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Lets requests name their share of the split. Default: none can.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overriding: Option<Override>,
    /// Copies of requests to further pools, at most 8. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirror: Vec<Mirror>,
    /// Delays and aborts that are injected on purpose. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
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
    /// Attempts after a failure; replaces the route's as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Largest request body of this rule. Default: the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Size>,
    /// The class of this rule's requests. In a full pool it means something only with `limits.pending`. Default: the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Plugins of this rule, after the route's.
    pub plugins: Vec<PluginUse>,
    /// Whether nothing but its plugins could be decoded, never written.
    #[serde(skip)]
    pub is_gap: bool,
}

impl Rule {
    /// Every pool it may send to, with the labels asked of endpoints.
    pub fn destinations(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        let one = self.pool.iter().map(|pool| (pool.as_str(), &self.subset));
        let many = self
            .split
            .iter()
            .map(|target| (target.pool.as_str(), &target.subset));
        one.chain(many)
    }
}
