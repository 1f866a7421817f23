//! A pool: how to speak to its endpoints, how to choose, and the set of endpoints right now.
//! It must not know routes, nor how endpoints are found; `control::discovery` stores new sets.
//! Built by `config::compile`.

mod peer;
mod settings;

pub use settings::*;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;

use super::balance::Table;
use super::endpoint::{Address, Endpoint, Endpoints};
use super::limits::Limited;
use crate::observe::metrics::{Metrics, PoolMetrics};

/// A pool.
pub struct Pool {
    /// Its name: the key across generations.
    pub name: Arc<str>,
    /// Where it is written, as `file:line`.
    pub place: Box<str>,
    /// Settings.
    pub settings: PoolSettings,
    /// The endpoints right now. Shared with the same pool of the next generation while its settings stay the same.
    pub set: Arc<ArcSwap<EndpointSet>>,
    /// Bounds on what it takes at a time; `None` for none.
    pub limits: Option<Limited>,
    /// Counters.
    pub metrics: Arc<PoolMetrics>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.name)
    }
}

/// An endpoint as a source names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Where.
    pub address: Address,
    /// Part of the traffic beside others; 0 for none.
    pub weight: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// An endpoint in a set, with what only this set knows of it.
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Part of the traffic beside others.
    pub weight: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Cloned for each request; `None` for pools of bytes.
    pub peer: Option<Box<HttpPeer>>,
}

/// The endpoints of a pool at one moment.
pub struct EndpointSet {
    /// Endpoints, in the order of the source.
    pub members: Box<[Member]>,
    /// What the algorithm needs, built once.
    pub table: Table,
}

impl EndpointSet {
    /// A set of these endpoints for a pool with these settings.
    pub fn new(
        pool: &str,
        settings: &PoolSettings,
        specs: &[EndpointSpec],
        endpoints: &Endpoints,
        metrics: &Metrics,
    ) -> EndpointSet {
        let members: Box<[Member]> = specs
            .iter()
            .map(|spec| {
                let endpoint = endpoints.endpoint(pool, &spec.address, metrics);
                let peer = peer::peer(pool, settings, &spec.address);
                Member {
                    endpoint,
                    weight: spec.weight,
                    labels: spec.labels.clone(),
                    peer,
                }
            })
            .collect();
        let table = Table::new(settings.algorithm, &members);
        EndpointSet { members, table }
    }

    /// What a source would have named to get this set.
    pub fn specs(&self) -> Vec<EndpointSpec> {
        let spec = |member: &Member| EndpointSpec {
            address: member.endpoint.address.clone(),
            weight: member.weight,
            labels: member.labels.clone(),
        };
        self.members.iter().map(spec).collect()
    }
}
