//! Keys of `match`: which requests a rule is for.
//! It must not know how matching is done; `decide` does that.
//! Part of a route's keys.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Widened;

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
    /// Where the connection was going: the original destination on listeners that `capture`, elsewhere the address it came in at. One must fit. Default: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationMatch>,
    /// Set by `config::quarantine`, never written.
    #[serde(skip)]
    pub widened: Widened,
}

/// Addresses and ports that a connection may be going to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DestinationMatch {
    /// The network, such as `10.96.0.0/12`. Default: any address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<IpNet>,
    /// The ports. Default: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
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
