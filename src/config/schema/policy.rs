//! Keys of `policies` and `authorization`: who may call what.
//! It must not know how a caller is judged; `decide::policy` does that.
//! Read by `config::compile`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PathMatch, ValueMatch};

/// What holds where no policy decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// What becomes of a request or connection for which no policy with `action: allow` is: `allow` lets it through, `deny` refuses it. With `deny` every route needs a policy before anybody can use it. Default: allow.
    pub default: PolicyAction,
}

/// Who may call what. Of the policies for a request those that deny are asked first: one rule that matches refuses. Then those that allow: one rule that matches lets it through, and where there are such policies and none matches, it is refused. Without any that allow, `authorization.default` decides. Policies come after the plugins of listener and route, so that a consumer who was proven counts; for requests that meet no route they are not asked, nor for copies that mirrors make.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name, unique among policies: lower case letters, digits, `-`, `_` and `.`. Told in answers to trusted callers, in logs and metrics.
    pub name: String,
    /// `allow` or `deny` what a rule matches.
    pub action: PolicyAction,
    /// `enforce` decides, `audit` never does: what it would have changed is counted, logged and shown at `/policies` on the admin address. Default: enforce.
    #[serde(default)]
    pub mode: PolicyMode,
    /// What it guards. Default: everything.
    #[serde(default)]
    pub to: PolicyTarget,
    /// Alternatives; one must match. `[{}]` matches everything, and without any the policy matches nothing: `allow` then refuses everyone. At most 512.
    #[serde(default)]
    pub rules: Vec<PolicyRule>,
}

/// What is done with what a rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyAction {
    /// It may pass.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// Whether a policy decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyMode {
    /// It decides.
    #[default]
    Enforce,
    /// It only says what it would decide.
    Audit,
}

/// What a policy guards; every key that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyTarget {
    /// Names of listeners. Default: every listener.
    pub listeners: Vec<String>,
    /// Names of routes, also those that redirect or respond. Default: every route.
    pub routes: Vec<String>,
    /// Names of services: what goes by a route of the service, whatever its port, or to a pool of its own. A pool that it shares with services not named here, such as a gateway's, does not count. On the caller's node the workload that calls is known at a mesh-outbound listener, by its listener, control group or user; on the service's own node write `pools` or `routes`. Default: every service, and what is none.
    pub services: Vec<String>,
    /// Names of pools that a request goes to; with a split, the one that was chosen for it. What goes to no pool, such as a redirect, is not meant. Default: every pool, and none.
    pub pools: Vec<String>,
}

/// Conditions that must all hold. In a rule of a `deny` policy a condition that cannot be judged (one on HTTP for a connection passed through as bytes, a `not_` one on callers of whom nothing is proven) holds, in one of an `allow` policy it does not: what is not known counts against the caller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRule {
    /// Who calls. Default: anyone, also callers of whom nothing is proven.
    pub from: PolicyFrom,
    /// What is called, and how. Default: anything.
    pub when: PolicyWhen,
}

/// Conditions on the caller: every key that is given must hold, by one value of its list, and no value of a `not_` list may. Names may end in `*` for all that begin alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFrom {
    /// Principals: SPIFFE IDs, `consumer:NAME` or `certificate:NAME`; `*` for anyone who is proven. The identity of the connection and that which a plugin proved both count; at `mesh-outbound` listeners, the workload of this node that calls. Default: any, also none.
    pub principals: Vec<String>,
    /// Principals that are not meant; `*` for callers of whom nothing is proven, which only a `deny` policy can mean.
    pub not_principals: Vec<String>,
    /// Trust domains of SPIFFE IDs, such as `mesh.example`, in full.
    pub trust_domains: Vec<String>,
    /// Trust domains that are not meant.
    pub not_trust_domains: Vec<String>,
    /// Namespaces: the word after `/ns/` in a SPIFFE ID of the form `/ns/NAMESPACE/sa/ACCOUNT` or Consul's.
    pub namespaces: Vec<String>,
    /// Namespaces that are not meant.
    pub not_namespaces: Vec<String>,
    /// Service accounts: the word after `/sa/` in a SPIFFE ID, or `NAMESPACE/ACCOUNT`; of a Consul ID, the word after `/svc/`.
    pub service_accounts: Vec<String>,
    /// Consumers that a plugin proved, by name without `consumer:`. Connections passed through as bytes have none.
    pub consumers: Vec<String>,
    /// Networks of the client's address, after trust in forwarded fields was settled.
    pub clients: Vec<IpNet>,
    /// Networks that are not meant.
    pub not_clients: Vec<IpNet>,
}

/// Conditions on what is called. All but `ports`, and `hosts` where TLS names one, are on HTTP: connections passed through as bytes have none of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyWhen {
    /// Methods, such as `GET`.
    pub methods: Vec<String>,
    /// Methods that are not meant.
    pub not_methods: Vec<String>,
    /// Canonical paths, before any rewrite: `{exact: …}`, `{prefix: …}` by whole segments, or `{regex: …}` for the whole path. Services may take `/a` and `/a/` for the same, so prefer `prefix` in a `deny` policy.
    pub paths: Vec<PathMatch>,
    /// Paths that are not meant.
    pub not_paths: Vec<PathMatch>,
    /// Hosts, exact or `*.example.com`; for connections passed through as bytes the name asked for in TLS. That is what the caller writes: what `unknown: passthrough` sends on goes to the address it was going to, whatever it is named, so an `allow` by `hosts` proves nothing there.
    pub hosts: Vec<String>,
    /// Hosts that are not meant.
    pub not_hosts: Vec<String>,
    /// Fields, all of them: a text for an exact value, or `{regex: …}`, or `{present: true}`. Callers write fields as they like, so they narrow a rule but prove nothing.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Ports that the caller connected to; for captured traffic the original ones. In tunnels (HBONE) the port is the caller's own word: it counts only where the route's `destinations` name it, and is unknown elsewhere; then a policy that denies matches, and one that allows does not.
    pub ports: Vec<u16>,
    /// Ports that are not meant.
    pub not_ports: Vec<u16>,
    /// An expression in CEL that must be true. Variables: `request.method`, `request.host`, `request.path`, `request.query` (texts), `request.headers` (map by lower-case name), `source.principal`, `source.trust_domain`, `source.namespace`, `source.service_account`, `source.consumer`, `source.address` (texts, empty where nothing is proven), `destination.listener`, `destination.route`, `destination.pool` (texts), `destination.port` (number; where it is not known the rule is taken as one with `ports` is). Functions: `contains`, `startsWith`, `endsWith`, `size`, `has`, `int`, `string`. It is compiled when the configuration is read; at most 2 KiB and 200 parts, without loops (`all`, `exists`, `map`, `filter`) and regular expressions, so its cost is bounded. One that cannot be evaluated, such as by reading a field that is not there, refuses with the cause `policy_unevaluable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cel: Option<String>,
}
