//! A split: shares by weight, and how a share is found by chance, by a key or by name.
//! It must not know requests; `decide` brings the key, the name or the random number.
//! The action of a rule; built by `config::compile`.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

use super::PrincipalPattern;
use crate::observe::metrics::ShareMetrics;
use crate::snapshot::balance::{hash_bytes, mix};
use crate::snapshot::net::NetSet;
use crate::snapshot::pool::Pool;

/// Pools by weight.
pub struct Split {
    /// Shares in the order written; some weight is above zero.
    pub shares: Box<[Share]>,
    /// Sum of all weights; above zero.
    pub total: u64,
    /// What decides instead of chance.
    pub sticky: Option<StickyKey>,
    /// How a request may name its share.
    pub overriding: Option<Override>,
}

/// A share of a split.
pub struct Share {
    /// Its name.
    pub name: Arc<str>,
    /// Its part of the sum.
    pub weight: u32,
    /// Where its requests go.
    pub target: Target,
    /// Counts how it was chosen.
    pub metrics: Arc<ShareMetrics>,
    /// The running sum of weights up to and including its own.
    upto: u64,
    seed: u64,
}

/// Where a share of a split goes.
pub enum Target {
    /// To this pool.
    Pool(Arc<Pool>),
    /// Nowhere: the pool of this name is broken. Its share is refused, not moved to the others.
    Quarantined(Arc<str>),
}

/// What keeps a user in one share.
#[derive(Debug, Clone, PartialEq)]
pub enum StickyKey {
    /// The client's address.
    ClientIp,
    /// The principal.
    Principal,
    /// A request field.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A query parameter.
    Query(Box<str>),
}

/// How a request may name its share.
#[derive(Debug, Clone)]
pub struct Override {
    /// Where the name is.
    pub by: OverrideBy,
    /// Who may.
    pub guard: Guard,
}

/// Where a request names its share.
#[derive(Debug, Clone)]
pub enum OverrideBy {
    /// In a field.
    Header(HeaderName),
    /// In a cookie.
    Cookie(Box<str>),
}

/// Whom something is for; each list that is not empty must hold.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Principals; one must be the caller's.
    pub principals: Box<[PrincipalPattern]>,
    /// Networks; one must be the client's.
    pub clients: NetSet,
}

impl Split {
    /// A split of these shares. `None` when nothing has a weight.
    pub fn new(
        mut shares: Vec<Share>,
        sticky: Option<StickyKey>,
        overriding: Option<Override>,
    ) -> Option<Split> {
        let mut total = 0;
        for share in &mut shares {
            total += u64::from(share.weight);
            share.upto = total;
        }
        (total > 0).then(|| Split {
            shares: shares.into(),
            total,
            sticky,
            overriding,
        })
    }

    /// The share for a random number.
    pub fn by_chance(&self, random: u64) -> &Share {
        let point = random % self.total;
        let at = self.shares.partition_point(|share| share.upto <= point);
        &self.shares[at.min(self.shares.len() - 1)]
    }

    /// The share for the hash of a key: rendezvous hashing with weights. Each share draws a number from the key and its own
    /// name, exponentially distributed with its weight as the rate, and the smallest wins. So each gets its weight's part of
    /// the keys, and a key moves from one share to another only when the weight of the other grew in relation to the own.
    pub fn by_key(&self, hash: u64) -> &Share {
        let draw = |share: &Share| {
            // 53 bits and a half: above 0 and below 1.
            let bits = mix(hash ^ share.seed) >> 11;
            let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
            -uniform.ln() / f64::from(share.weight)
        };
        let weighted = self.shares.iter().filter(|share| share.weight > 0);
        let drawn = weighted.map(|share| (draw(share), share));
        let first = drawn.min_by(|(one, _), (other, _)| one.total_cmp(other));
        first.map_or(&self.shares[0], |(_, share)| share)
    }

    /// The share of this name, also one without weight.
    pub fn by_name(&self, name: &[u8]) -> Option<&Share> {
        let mut shares = self.shares.iter();
        shares.find(|share| share.name.as_bytes() == name)
    }
}

impl Share {
    /// A share. What it draws for a key depends on its name alone, so that order and other shares do not matter.
    pub fn new(name: &str, weight: u32, target: Target, metrics: Arc<ShareMetrics>) -> Share {
        Share {
            name: name.into(),
            weight,
            target,
            metrics,
            upto: 0,
            seed: hash_bytes(name.as_bytes()),
        }
    }
}

impl Target {
    /// The pool, unless it is broken.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match self {
            Target::Pool(pool) => Some(pool),
            Target::Quarantined(_) => None,
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        match self {
            Target::Pool(pool) => &pool.name,
            Target::Quarantined(name) => name,
        }
    }
}

impl Guard {
    /// Whether it lets everybody through.
    pub fn is_open(&self) -> bool {
        self.principals.is_empty() && self.clients.is_empty()
    }

    /// Whether it lets this caller through. `principal` is asked for only where it matters.
    pub fn admits(
        &self,
        client: Option<IpAddr>,
        principal: impl FnOnce() -> Option<String>,
    ) -> bool {
        let is_client = |address| self.clients.contains(address);
        let is_principal = |id: String| self.principals.iter().any(|one| one.matches(&id));
        (self.clients.is_empty() || client.is_some_and(is_client))
            && (self.principals.is_empty() || principal().is_some_and(is_principal))
    }
}

#[cfg(test)]
mod tests;
