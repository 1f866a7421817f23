//! Pools of one endpoint, made while traffic flows: each original destination is one.
//! It must not know why something goes where it was going.
//! Part of the rule for what nothing else is for; asked by `decide` and by connections of bytes.

use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::{AHashMap, RandomState};

use super::{Pool, PoolProtocol};
use crate::observe::metrics::EndpointMetrics;
use crate::snapshot::endpoint::{Address, Endpoint};

/// What goes on to where it was going.
pub struct Passthrough {
    /// Pools without endpoints: for HTTP/1, for HTTP/2 and for bytes.
    prototypes: [Pool; 3],
    /// Counters of all destinations together: a label for each would have no bound.
    metrics: Arc<EndpointMetrics>,
    recent: Arc<Recent>,
}

type Key = (SocketAddr, PoolProtocol);

/// The pools of destinations, in parts that do not wait for each other.
#[derive(Default)]
struct Recent {
    hasher: RandomState,
    shards: [Mutex<Shard<Key, Arc<Pool>>>; SHARDS],
}

struct Shard<K, P> {
    pools: AHashMap<K, (P, u64)>,
    /// Counts uses: what was used least lately goes first.
    uses: u64,
}

impl<K, P> Default for Shard<K, P> {
    fn default() -> Shard<K, P> {
        Shard {
            pools: AHashMap::default(),
            uses: 0,
        }
    }
}

const SHARDS: usize = 16;
/// Destinations remembered in each shard, 1,024 in all. Requests under way keep theirs.
const MOST: usize = 64;

/// The name of the pool and of the route in logs and metrics.
pub const PASSTHROUGH: &str = "passthrough";

impl Passthrough {
    /// Of pools that have settings and no endpoints. The destinations that were known before stay known.
    pub fn new(
        prototypes: [Pool; 3],
        metrics: Arc<EndpointMetrics>,
        before: Option<&Passthrough>,
    ) -> Passthrough {
        Passthrough {
            prototypes,
            metrics,
            recent: before.map_or_else(Arc::default, |before| before.recent.clone()),
        }
    }

    /// The pool of a destination.
    pub fn pool(&self, to: SocketAddr, protocol: PoolProtocol) -> Arc<Pool> {
        self.recent.pool((to, protocol), || {
            let mut prototypes = self.prototypes.iter();
            let is_asked = |pool: &&Pool| pool.settings.protocol == protocol;
            let prototype = prototypes.find(is_asked).unwrap_or(&self.prototypes[0]);
            let endpoint = Endpoint::alone(Address::Tcp(to), self.metrics.clone());
            Arc::new(prototype.with_one(Arc::new(endpoint)))
        })
    }

    /// The pool of bytes, as far as it is known without a destination.
    pub fn prototype(&self) -> &Pool {
        &self.prototypes[0]
    }
}

impl Recent {
    fn pool(&self, key: Key, make: impl FnOnce() -> Arc<Pool>) -> Arc<Pool> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        let mut shard = self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shard.pool(key, make)
    }
}

impl<K: Copy + Eq + Hash, P: Clone> Shard<K, P> {
    fn pool(&mut self, key: K, make: impl FnOnce() -> P) -> P {
        self.uses += 1;
        let now = self.uses;
        if let Some((pool, used)) = self.pools.get_mut(&key) {
            *used = now;
            return pool.clone();
        }
        if self.pools.len() >= MOST {
            let oldest = self.pools.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.pools.remove(&oldest);
            }
        }
        let pool = make();
        self.pools.insert(key, (pool.clone(), now));
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_was_used_least_lately_goes() {
        let mut shard = Shard::default();
        for key in 0..MOST {
            shard.pool(key, || key);
        }
        shard.pool(0, || unreachable!());

        shard.pool(MOST, || MOST);

        assert_eq!(shard.pools.len(), MOST);
        assert_eq!(shard.pool(0, || unreachable!()), 0);
        assert_eq!(shard.pool(1, || 1000), 1000, "it is still there");
    }
}
