//! Pools of one endpoint, made while traffic flows: each original destination is one.
//! It must not know why something goes where it was going.
//! Part of the rule for what nothing else is for; asked by `decide` and by connections of bytes.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Pool, PoolProtocol};
use crate::observe::metrics::EndpointMetrics;
use crate::snapshot::endpoint::{Address, Endpoint};

/// What goes on to where it was going.
pub struct Passthrough {
    /// Pools without endpoints: for HTTP/1, for HTTP/2 and for bytes.
    prototypes: [Pool; 3],
    /// Counters of all destinations together: a label for each would have no bound.
    metrics: Arc<EndpointMetrics>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    pools: HashMap<(SocketAddr, PoolProtocol), Arc<Pool>>,
    order: VecDeque<(SocketAddr, PoolProtocol)>,
}

/// Destinations remembered; the oldest goes first. Requests under way keep theirs.
const MOST: usize = 1024;

/// The name of the pool and of the route in logs and metrics.
pub const PASSTHROUGH: &str = "passthrough";

impl Passthrough {
    /// Of pools that have settings and no endpoints.
    pub fn new(prototypes: [Pool; 3], metrics: Arc<EndpointMetrics>) -> Passthrough {
        Passthrough {
            prototypes,
            metrics,
            recent: Mutex::default(),
        }
    }

    /// The pool of a destination.
    pub fn pool(&self, to: SocketAddr, protocol: PoolProtocol) -> Arc<Pool> {
        let key = (to, protocol);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = recent.pools.get(&key) {
            return pool.clone();
        }
        let mut prototypes = self.prototypes.iter();
        let is_asked = |pool: &&Pool| pool.settings.protocol == protocol;
        let prototype = prototypes.find(is_asked).unwrap_or(&self.prototypes[0]);
        let endpoint = Endpoint::alone(Address::Tcp(to), self.metrics.clone());
        let pool = Arc::new(prototype.with_one(Arc::new(endpoint)));
        recent.pools.insert(key, pool.clone());
        recent.order.push_back(key);
        if recent.order.len() > MOST {
            if let Some(oldest) = recent.order.pop_front() {
                recent.pools.remove(&oldest);
            }
        }
        pool
    }

    /// The pool of bytes, as far as it is known without a destination.
    pub fn prototype(&self) -> &Pool {
        &self.prototypes[0]
    }
}
