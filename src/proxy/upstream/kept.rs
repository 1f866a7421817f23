//! Connections that are kept between requests: since when each is idle, and when its endpoint closes it.
//! It must not know what a connection carries, nor keep connections; Pingora does.
//! Called by `upstream` around each attempt. Only HTTP/1: a closing HTTP/2 connection says which streams it did not serve.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingora::upstreams::peer::{Tracer, Tracing};

use crate::observe::clock;
use crate::proxy::random;
use crate::snapshot::endpoint::Endpoint;

/// Descriptors watched; connections with higher ones are only not learned from.
const MOST: usize = 1 << 16;
const CHUNK: usize = 1 << 10;
/// Of connections to endpoints whose limit is not known, one in so many is watched: the first few closes tell enough.
const ONE_IN: u64 = 8;

/// Since when connections are idle, by descriptor: nanoseconds of `observe::clock`, 0 while in use. Half a MiB at most.
#[derive(Default)]
pub struct Kept(OnceLock<Box<[Chunk]>>);

/// Made when its first descriptor comes.
type Chunk = OnceLock<Box<[AtomicU64]>>;

impl Kept {
    fn since(&self, fd: i32) -> Option<&AtomicU64> {
        let at = usize::try_from(fd).ok().filter(|at| *at < MOST)?;
        let chunks = self
            .0
            .get_or_init(|| (0..MOST / CHUNK).map(|_| OnceLock::new()).collect());
        let chunk =
            chunks[at / CHUNK].get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
        Some(&chunk[at % CHUNK])
    }

    /// A connection is in use from now on; how long it had been idle.
    pub(in crate::proxy) fn take(&self, fd: i32, reused: bool, now: u64) -> Option<Duration> {
        let since = self.since(fd)?.swap(0, Relaxed);
        (reused && since != 0).then(|| clock::between(since, now))
    }

    /// A connection is idle from now on.
    pub(in crate::proxy) fn leave(&self, fd: i32, now: u64) {
        if let Some(since) = self.since(fd) {
            since.store(now, Relaxed);
        }
    }
}

/// A connection that is watched until it closes.
pub(in crate::proxy) struct Watched {
    kept: Arc<Kept>,
    endpoint: Arc<Endpoint>,
    /// How long the proxy itself would have kept it.
    own: Duration,
    /// -1 until there is a connection.
    fd: AtomicI32,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watched({})", self.endpoint.label)
    }
}

#[derive(Debug)]
struct Watch(Arc<Watched>);

impl Tracing for Watch {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        let watched = &self.0;
        let Some(since) = watched.kept.since(watched.fd.load(Relaxed)) else {
            return;
        };
        let (since, now) = (since.load(Relaxed), clock::now());
        let idle = clock::between(since, now);
        // Near its end it may have been the proxy that closed it.
        if since != 0 && idle < watched.own.mul_f64(0.95) {
            watched.endpoint.state.idle.closed(idle, now);
            watched.endpoint.metrics.ended_idle("closed");
        }
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Watch(self.0.clone()))
    }
}

impl Watched {
    /// Watches the connection that this attempt may make, if the endpoint's limit is not known and chance wants it.
    pub(in crate::proxy) fn new(
        kept: &Arc<Kept>,
        endpoint: &Arc<Endpoint>,
        own: Duration,
        now: u64,
    ) -> Option<Arc<Watched>> {
        let is_due =
            endpoint.state.idle.limit(now).is_none() && random::bits().is_multiple_of(ONE_IN);
        is_due.then(|| {
            Arc::new(Watched {
                kept: kept.clone(),
                endpoint: endpoint.clone(),
                own,
                fd: AtomicI32::new(-1),
            })
        })
    }

    /// What tells it of the end.
    pub(in crate::proxy) fn tracer(self: &Arc<Watched>) -> Tracer {
        Tracer(Box::new(Watch(self.clone())))
    }

    /// The connection was made.
    pub(in crate::proxy) fn is(&self, fd: i32) {
        self.fd.store(fd, Relaxed);
    }
}
