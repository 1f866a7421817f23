//! Keys of `pools[].balance`: how an endpoint is chosen.
//! It must not know how the algorithms work.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// Default: ewma.
    pub algorithm: Algorithm,
    /// What `maglev` and `ketama` hash. Default: the client's address.
    pub hash: Option<HashKey>,
}

/// A way to choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Two random endpoints, the one with the lower latency times load wins (peak EWMA, as Finagle and Linkerd do).
    #[default]
    Ewma,
    /// In turn by weight, smoothly as nginx does.
    RoundRobin,
    /// Two random endpoints, the one with fewer requests in flight wins.
    LeastRequest,
    /// At random by weight.
    Random,
    /// Consistent hashing with a Maglev table of 65537 places (Eisenbud et al., NSDI 2016).
    Maglev,
    /// Consistent hashing on a ring, as nginx does with `hash … consistent`.
    Ketama,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A request field; requests without it are spread.
    Header(String),
    /// A cookie; requests without it are spread.
    Cookie(String),
    /// The path.
    Path,
}
