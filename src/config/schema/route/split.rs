//! Keys beside `split`: what keeps a user in one share, and who may choose a share by name.
//! It must not know how shares are chosen; `decide` does that.
//! Part of a route's keys.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A share of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitTarget {
    /// The pool.
    pub pool: String,
    /// Only endpoints of the pool with all these labels. Default: every endpoint. A pool may have several shares with different subsets; give each a `name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
    /// Its part of the sum of all weights; 0 gets nothing, except by `override`.
    pub weight: u32,
    /// Name of the share, for `override`, metrics and views, and what `sticky` hashes beside the key: whoever changes it deals
    /// its users anew. Lower case letters, digits, `-`, `_` and `.`. Default: the pool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What decides on the share of a request instead of chance. A request without it is dealt by chance. The same key and the
/// same names of shares give the same share in every rule and process. A user moves from one share to another only when the
/// weight of the other grew in relation to the own: from 5 to 10 percent, everybody who was in stays in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sticky {
    /// The client's address, after trust was settled. The only one for routes with protocol `tcp`.
    ClientIp,
    /// The principal that was proven.
    Principal,
    /// A request field; of a repeated one the first.
    Header(String),
    /// A cookie. The proxy sets none: use one that the application sets.
    Cookie(String),
    /// A query parameter, decoded; of a repeated one the first.
    Query(String),
}

/// Lets a request name its share, before `sticky` and chance. What names no share is ignored. The field or cookie goes on upstream. Give `principals` or `clients`, or say `everyone: true`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// The request field that holds the name; of a repeated one the first. Give this or `cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The cookie that holds the name. Give this or `header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Principals that may choose, with `*` at the end for a prefix. With `clients`, both must hold. Default: any.
    pub principals: Vec<String>,
    /// Networks of clients that may choose. Default: any.
    pub clients: Vec<IpNet>,
    /// Says that everybody may choose, also a share that has no weight yet; not beside `principals` and `clients`. Default: false.
    pub everyone: bool,
}
