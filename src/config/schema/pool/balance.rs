//! Keys of `pools[].balance`: how an endpoint is chosen.
//! It must not know how the algorithms work.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// Default: ewma.
    pub algorithm: Algorithm,
    /// How many endpoints `ewma` and `least_request` draw and compare: 2 to 10, or `all`. More find the least loaded one more often, and let all proxies run to the same one more often. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<Choices>,
    /// What `maglev` and `ketama` hash: one key, or a list of which the first that a request has is used; what is empty counts as absent, and requests with none are spread. Default: the client's address. At most 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashKeys>,
    /// How much of the mean load an endpoint takes under `maglev` and `ketama`, 101 to 1000 (percent of its part of all requests in flight); above it a key goes on to the next endpoint. 120 to 200 is usual. Default: 0, any load.
    pub hash_balance_factor: u16,
    /// How long an endpoint's weight grows from a tenth to the whole after it came into a running pool, passed its health check again, or ended its ejection. Not with `maglev` and `ketama`, whose keys would move. Default: 0s, off; at most 1h.
    pub slow_start: Time,
    /// With a smaller share of endpoints available, health and ejection are ignored: the few could not carry the load of all. `0%` never does. With several priorities or zones it applies to each of them, and only when all together cannot carry the traffic. A pool with no available endpoint at all answers 503 either way. Default: 50%.
    pub panic_threshold: Percent,
    /// Prefer endpoints of the own zone. Default: zones do not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Keep a client at its endpoint. Default: each request is chosen anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// What becomes of requests for a `subset` of which no endpoint can be used: `none` refuses them, `any` sends them to any endpoint of the pool. Default: none.
    pub subset_fallback: SubsetFallback,
}

impl Default for Balance {
    fn default() -> Balance {
        Balance {
            algorithm: Algorithm::default(),
            choices: None,
            hash: None,
            hash_balance_factor: 0,
            slow_start: Time::secs(0),
            panic_threshold: HALF,
            zone: None,
            affinity: None,
            subset_fallback: SubsetFallback::default(),
        }
    }
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

/// How many endpoints are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Choices {
    /// So many, drawn at random by weight.
    Of(u8),
    /// Every endpoint of the level.
    All(AllChoices),
}

/// The word for all endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllChoices {
    /// Every endpoint of the level; each choice looks at all of them.
    All,
}

/// What is hashed: one key, or several tried in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HashKeys {
    /// One key.
    One(HashKey),
    /// The first that a request has.
    FirstOf(Vec<HashKey>),
}

impl HashKeys {
    /// The keys in order.
    pub fn all(&self) -> &[HashKey] {
        match self {
            HashKeys::One(key) => std::slice::from_ref(key),
            HashKeys::FirstOf(keys) => keys,
        }
    }
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A request field.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query, decoded; of a repeated one the first.
    Query(String),
    /// The path.
    Path,
}

/// Prefer endpoints of the own zone. Each priority is divided into levels: the own zone, the zones of `failover` in their order, then all others. A level keeps all traffic while 72 % of its endpoints are available; below that the rest goes to the next levels (of Envoy, over-provisioning 1.4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// The zone of this proxy, often `${env:ZONE}`.
    pub own: String,
    /// The endpoints' label with their zone. Default: zone. Endpoints without it count as in another zone.
    #[serde(default = "zone_label")]
    pub label: String,
    /// Zones to go to after the own one, nearest first; all others come last. Default: none, all others are alike. At most 6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<String>,
    /// Endpoints that the own zone needs to be alone in its level; with fewer, those of the next zones join it, so that one endpoint does not get the traffic of a whole zone. Default: 1.
    #[serde(default = "one_endpoint")]
    pub min_endpoints: u32,
}

fn zone_label() -> String {
    "zone".into()
}

fn one_endpoint() -> u32 {
    1
}

/// Keep a client at its endpoint: one of `cookie`, `header` and `address`. A client whose endpoint is not available goes to another one; so do attempts after a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Affinity {
    /// A cookie that names the endpoint, set with the first response and again when the endpoint changes. An endpoint that drains (weight 0) keeps the clients it has and gets no others.
    Cookie(AffinityCookie),
    /// A request field: equal values go to the same endpoint (Maglev hashing by address). `algorithm`, `choices` and `slow_start` act on requests alone that lack it or have it empty. Clients of an endpoint that drains go elsewhere.
    Header(String),
    /// The client's address, `true`: as `header`, by address. Every client has one, so `algorithm`, `choices` and `slow_start` cannot stand beside it.
    Address(bool),
}

/// A cookie that names an endpoint: HttpOnly, and Secure when the client's connection is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffinityCookie {
    /// Name of the cookie.
    pub name: String,
    /// How long the browser keeps it. Default: 0s, until it is closed. At most 400d, browsers keep none longer.
    #[serde(default = "session")]
    pub ttl: Time,
    /// Path it is sent for. Default: /.
    #[serde(default = "root")]
    pub path: String,
    /// `strict`, `lax` or `none` (which browsers accept only when Secure, so it is then always Secure). Default: lax.
    #[serde(default)]
    pub same_site: SameSite,
    /// What endpoints' addresses are hashed with (HMAC-SHA-256, 64 bits of it), often `${file:…}`; the same on all proxies that share clients. Default: the pool's name, which needs no agreement between proxies and restarts, and which someone who tries all addresses can undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

fn session() -> Time {
    Time::secs(0)
}

fn root() -> String {
    "/".into()
}

/// With which requests from other sites a cookie is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// With none.
    Strict,
    /// When a user follows a link.
    #[default]
    Lax,
    /// With all.
    None,
}

/// What becomes of requests for a subset without an endpoint that can be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubsetFallback {
    /// They are refused.
    #[default]
    None,
    /// They go to any endpoint of the pool.
    Any,
}

const HALF: Percent = match Percent::new(50) {
    Some(half) => half,
    None => unreachable!(),
};
