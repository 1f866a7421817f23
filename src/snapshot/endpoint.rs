//! An endpoint and everything that changes about it while traffic flows: load, latency, health, ejection.
//! It must not know which pool settings act on it, nor choose: `balance` reads, the proxy and health checks write.
//! Endpoints outlive generations: `Endpoints` hands out the same one for the same pool and address.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::idle::IdleLimit;
use super::limits::{Limiter, Limiters};
use super::outlier::Outlier;
use crate::observe::metrics::{EndpointMetrics, Metrics};

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An endpoint of a pool.
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// The address as text, for logs and labels.
    pub label: Arc<str>,
    /// What changes.
    pub state: EndpointState,
    /// Counters.
    pub metrics: Arc<EndpointMetrics>,
}

impl Endpoint {
    /// One that no pool names: it is forgotten with whoever holds it.
    pub fn alone(address: Address, metrics: Arc<EndpointMetrics>) -> Endpoint {
        Endpoint {
            label: address.to_string().into(),
            address,
            state: EndpointState::new(),
            metrics,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.label)
    }
}

/// What changes about an endpoint. Every field is an atomic; readers may see them a moment apart, which only shifts a choice.
#[derive(Debug)]
pub struct EndpointState {
    /// Requests and connections under way.
    pub in_flight: AtomicU32,
    /// Peak EWMA of the time to the response header, in nanoseconds, as the bits of an f64.
    pub latency: AtomicU64,
    /// When `latency` was last updated, in nanoseconds of `observe::clock`.
    pub latency_at: AtomicU64,
    /// Whether the active health check lets it take traffic. True until checked.
    pub healthy: AtomicBool,
    /// Active checks in a row: successes above zero, failures below.
    pub checks: AtomicI64,
    /// When it came into traffic, in nanoseconds of `observe::clock`; 0 for with the process. An ejection that is over
    /// counts by its end.
    pub came_at: AtomicU64,
    /// How long it keeps idle connections.
    pub idle: IdleLimit,
    /// Passive health: what real requests say about it.
    pub outlier: Outlier,
    /// When kept connections to it end with the certificates it showed.
    pub kept: Kept,
}

impl EndpointState {
    fn new() -> EndpointState {
        EndpointState {
            in_flight: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            latency_at: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            checks: AtomicI64::new(0),
            came_at: AtomicU64::new(0),
            idle: IdleLimit::default(),
            outlier: Outlier::default(),
            kept: Kept::default(),
        }
    }

    /// It comes into traffic now, or comes back: slow start begins.
    pub fn came(&self, now: u64) {
        self.came_at.store(now, Relaxed);
    }

    /// Since when it takes traffic, at most `now`; 0 for with the process.
    pub fn since(&self, now: u64) -> u64 {
        let came = self.came_at.load(Relaxed);
        came.max(self.outlier.open_since(now))
    }

    /// Whether it may take a request now. An ejected endpoint that waits for a request to try it may: whoever sends one
    /// claims that place with `outlier::Probe::claim`, which of several only one gets.
    pub fn is_available(&self, now: u64) -> bool {
        self.healthy.load(Relaxed) && self.outlier.admits(now)
    }

    /// Whether passive ejection keeps it out now, but for one request that may try it.
    pub fn is_ejected(&self, now: u64) -> bool {
        self.outlier.is_ejected(now)
    }
}

/// The connections that are kept to an endpoint: once a certificate that one of them was made with has ended, none is used again.
#[derive(Debug)]
pub struct Kept {
    /// When the first of them ends, in milliseconds since 1970.
    until: AtomicI64,
    round: AtomicU32,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            until: AtomicI64::new(i64::MAX),
            round: AtomicU32::new(0),
        }
    }
}

impl Kept {
    /// A connection was made, good until then.
    pub fn made(&self, until: i64) {
        self.until.fetch_min(until, Relaxed);
    }

    /// A number that only connections have that may be used now.
    pub fn round(&self, now: i64) -> u32 {
        let until = self.until.load(Relaxed);
        if now < until {
            return self.round.load(Relaxed);
        }
        let is_first = self
            .until
            .compare_exchange(until, i64::MAX, SeqCst, SeqCst)
            .is_ok();
        self.round.fetch_add(u32::from(is_first), SeqCst) + u32::from(is_first)
    }
}

/// Counts one request or connection as under way until dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    /// Whose queue hears of it when it ends.
    limiter: Option<Arc<Limiter>>,
}

impl InFlight {
    /// Starts counting.
    pub fn start(endpoint: &Arc<Endpoint>) -> InFlight {
        endpoint.state.in_flight.fetch_add(1, Relaxed);
        InFlight {
            endpoint: endpoint.clone(),
            limiter: None,
        }
    }

    /// Starts counting, unless the endpoint has as many as its pool's limiter allows.
    pub fn within(endpoint: &Arc<Endpoint>, limiter: &Arc<Limiter>) -> Option<InFlight> {
        let most = limiter.endpoint_requests();
        let more = |now| (now < most).then(|| now + 1);
        let counted = endpoint.state.in_flight.fetch_update(SeqCst, SeqCst, more);
        counted.ok().map(|_| InFlight {
            endpoint: endpoint.clone(),
            limiter: Some(limiter.clone()),
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.state.in_flight.fetch_sub(1, Relaxed);
        if let Some(limiter) = &self.limiter {
            limiter.ring();
        }
    }
}

/// All endpoints of the process by pool and address, and the limiters of pools by name, so that state outlives reloads.
#[derive(Default)]
pub struct Endpoints {
    known: Mutex<Known>,
    /// Limiters.
    pub limiters: Limiters,
}

/// By pool, then by address: a pool's name stands once for all its endpoints.
type Known = HashMap<Box<str>, HashMap<Address, Weak<Endpoint>>>;

impl Endpoints {
    /// The endpoint of a pool at an address; the one in use, if there is one.
    pub fn endpoint(&self, pool: &str, address: &Address, metrics: &Metrics) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > 64 && known.len() == known.capacity() {
            known.retain(|_, of_pool| of_pool.values().any(|one| one.strong_count() > 0));
        }
        let of_pool = known.entry(pool.into()).or_default();
        if let Some(endpoint) = of_pool.get(address).and_then(Weak::upgrade) {
            return endpoint;
        }
        if of_pool.len() > 64 && of_pool.len() == of_pool.capacity() {
            of_pool.retain(|_, endpoint| endpoint.strong_count() > 0);
        }
        let metrics = metrics.endpoint(pool, &address.to_string());
        let endpoint = Arc::new(Endpoint {
            address: address.clone(),
            label: metrics.name().clone(),
            state: EndpointState::new(),
            metrics,
        });
        of_pool.insert(address.clone(), Arc::downgrade(&endpoint));
        endpoint
    }

    /// Endpoints of a pool that still have requests, whether or not they are in its set.
    pub fn busy(&self, pool: &str) -> Vec<Arc<Endpoint>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pool = known.get(pool).into_iter().flatten();
        let mut busy: Vec<Arc<Endpoint>> = of_pool
            .filter_map(|(_, endpoint)| endpoint.upgrade())
            .filter(|endpoint| endpoint.state.in_flight.load(Relaxed) > 0)
            .collect();
        busy.sort_by(|one, other| one.address.cmp(&other.address));
        busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_parts_what_was_kept_from_what_comes() {
        let kept = Kept::default();
        assert_eq!(kept.round(i64::MAX - 1), 0, "nothing is known to end");

        kept.made(100);
        kept.made(300);
        assert_eq!((kept.round(99), kept.round(100)), (0, 1));
        assert_eq!(kept.round(400), 1, "what ended later is left as well");
        kept.made(500);

        assert_eq!((kept.round(499), kept.round(500)), (1, 2));
    }
}
