//! How an endpoint of a pool is chosen: everything written under `balance`, in final form.
//! It must not know how choices are made.
//! Part of a pool's settings; built by `config::compile`, read by `snapshot::balance` and the fast path.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;

/// Labels that an endpoint has, or must have.
pub type Labels = BTreeMap<String, String>;

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// How many are compared by the algorithms that compare.
    pub choices: Choices,
    /// What is hashed by the consistent algorithms: the first that a request has.
    pub hash: Vec<HashKey>,
    /// How many times the mean load an endpoint takes under a consistent algorithm; 0 for any load.
    pub load_bound: f64,
    /// How long a newcomer's weight grows; zero for not.
    pub slow_start: Duration,
    /// Below this share of available endpoints health is ignored, 0 to 1; 0 for never.
    pub panic_threshold: f64,
    /// Zones in order of preference.
    pub zone: Option<ZonePreference>,
    /// What keeps a session at its endpoint.
    pub affinity: Option<Affinity>,
    /// The subsets that rules name; a rule names one by position.
    pub subsets: Box<[Labels]>,
    /// What becomes of requests for a subset that has nobody.
    pub subset_fallback: SubsetFallback,
}

impl Balance {
    /// This algorithm with every other setting at its default.
    pub fn of(algorithm: Algorithm) -> Balance {
        Balance {
            algorithm,
            choices: Choices::Of(2),
            hash: vec![HashKey::ClientIp],
            load_bound: 0.0,
            slow_start: Duration::ZERO,
            panic_threshold: 0.5,
            zone: None,
            affinity: None,
            subsets: Box::default(),
            subset_fallback: SubsetFallback::None,
        }
    }
}

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Peak EWMA, power of two choices.
    Ewma,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest in flight, power of two choices.
    LeastRequest,
    /// Weighted random.
    Random,
    /// Maglev hashing.
    Maglev,
    /// Ketama ring.
    Ketama,
}

impl Algorithm {
    /// Whether it sends a key to the same endpoint every time.
    pub fn is_consistent(self) -> bool {
        match self {
            Algorithm::Maglev | Algorithm::Ketama => true,
            Algorithm::Ewma
            | Algorithm::RoundRobin
            | Algorithm::LeastRequest
            | Algorithm::Random => false,
        }
    }
}

/// How many endpoints are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choices {
    /// So many at random, two at least.
    Of(u8),
    /// All.
    All,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A request field.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
    /// The path.
    Path,
}

/// Zones in order of preference.
#[derive(Debug, Clone, PartialEq)]
pub struct ZonePreference {
    /// The zone of this process.
    pub own: Box<str>,
    /// The label that names an endpoint's zone.
    pub label: Box<str>,
    /// Zones after the own one.
    pub failover: Box<[Box<str>]>,
    /// With fewer endpoints in the own zone, those of the next zones join it.
    pub min_endpoints: usize,
}

impl ZonePreference {
    /// How far an endpoint with these labels is: 0 for the own zone, then the zones of `failover`, then all others.
    pub fn distance(&self, labels: &Labels) -> u8 {
        let zone = labels.get(&*self.label).map_or("", String::as_str);
        if zone == &*self.own {
            return 0;
        }
        let at = self.failover.iter().position(|one| **one == *zone);
        let at = at.unwrap_or(self.failover.len());
        u8::try_from(at + 1).unwrap_or(u8::MAX)
    }
}

/// What becomes of requests for a subset that has nobody to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubsetFallback {
    /// They are refused.
    None,
    /// They go to any endpoint.
    Any,
}

/// What keeps a session at its endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Affinity {
    /// A cookie that names the endpoint.
    Cookie(AffinityCookie),
    /// The value of a field.
    Header(HeaderName),
    /// The client's address.
    Address,
}

impl Affinity {
    /// Whether a session is told by a hash instead of a name for its endpoint.
    pub fn is_hashed(&self) -> bool {
        match self {
            Affinity::Cookie(_) => false,
            Affinity::Header(_) | Affinity::Address => true,
        }
    }
}

/// A cookie that names the endpoint.
#[derive(Clone, PartialEq)]
pub struct AffinityCookie {
    /// Its name.
    pub name: Box<str>,
    /// What stands after its value, but for `Secure`.
    pub attributes: Box<str>,
    /// The key that addresses are hashed with.
    pub key: Box<[u8]>,
    /// Whether it is Secure on every connection: browsers want that of `SameSite=None`.
    pub always_secure: bool,
}

impl std::fmt::Debug for AffinityCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AffinityCookie({})", self.name)
    }
}
