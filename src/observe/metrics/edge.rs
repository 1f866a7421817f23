//! Golden signals of edges, who calls what, as either side sees it: requests, success, latency, bytes, and how much of it is mutual
//! TLS. It must not know how a caller is proven or which names are configured.
//! The fast path tells it of requests and connections of the mesh; `/mesh` on the admin address shows it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::family::{lock, Counters, Histograms, Maker, OVERFLOW};
use super::series::{Histogram, IntCounter};
use super::SECONDS;

/// The families that edges feed.
pub(super) struct EdgeFamilies {
    requests: Counters,
    seconds: Histograms,
    bytes: Counters,
    secured: Counters,
}

impl EdgeFamilies {
    pub(super) fn new(make: &Maker<'_>) -> EdgeFamilies {
        let edge = ["side", "source", "destination"];
        let with = |last| [edge[0], edge[1], edge[2], last];
        EdgeFamilies {
            requests: make.counters(
                "windrose_edge_requests_total",
                "Requests and connections between a caller and a pool of the mesh, by side (inbound: seen where they came in; outbound: where they went out) and result: success or failure. The source is a name of the configuration, _other for any other that is proven, _none where nothing is.",
                &with("result"),
            ),
            seconds: make.histograms(
                "windrose_edge_request_duration_seconds",
                "Time of requests between a caller and a pool of the mesh, by side.",
                &edge,
                SECONDS,
            ),
            bytes: make.counters(
                "windrose_edge_bytes_total",
                "Bytes of bodies and connections between a caller and a pool of the mesh, by side and direction: request or response.",
                &with("direction"),
            ),
            secured: make.counters(
                "windrose_edge_transport_total",
                "Requests and connections between a caller and a pool of the mesh, by side and transport: mtls, tls where nobody is proven, or plain.",
                &with("transport"),
            ),
        }
    }
}

/// Which side of an edge saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It came in, for a workload of this node.
    Inbound,
    /// It went out, from a workload of this node.
    Outbound,
}

impl Side {
    /// The word in views and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Inbound => "inbound",
            Side::Outbound => "outbound",
        }
    }
}

/// What is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request,
    /// A connection passed through as bytes.
    Connection,
}

/// How a request came in, or went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS, and the caller is proven by it.
    Mutual,
    /// TLS.
    Tls,
    /// In the clear.
    Plain,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Transport::Mutual => "mtls",
            Transport::Tls => "tls",
            Transport::Plain => "plain",
        }
    }
}

/// A request or connection that is over.
#[derive(Debug, Clone, Copy)]
pub struct EdgeSample<'a> {
    /// Which side saw it.
    pub side: Side,
    /// What it is.
    pub kind: Kind,
    /// Who called; empty where nothing is proven.
    pub source: &'a str,
    /// The name of the configuration that stands for the caller in metrics.
    pub label: &'a str,
    /// The pool.
    pub destination: &'a str,
    /// How it came in, or went out.
    pub transport: Transport,
    /// Whether it went well.
    pub success: bool,
    /// Its time; `None` for connections.
    pub seconds: Option<f64>,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
}

/// By pool, then by caller.
type Known = HashMap<String, HashMap<String, Arc<Edge>>>;

/// Every edge seen, at most 1000 for each side; further callers share one for each pool.
pub struct Edges {
    families: EdgeFamilies,
    /// By side. Copied when an edge is new, which ends at the bound.
    all: [ArcSwap<Known>; 2],
    adding: Mutex<()>,
    /// By side, whether no further caller gets an edge of its own: then nobody waits for the lock any more.
    full: [AtomicBool; 2],
    /// What came in the clear, by listener.
    plain: Mutex<HashMap<String, Plaintext>>,
}

/// One edge.
pub(super) struct Edge {
    series: Series,
    success: AtomicU64,
    failure: AtomicU64,
    transports: [AtomicU64; 3],
    bytes: [AtomicU64; 2],
    connections: AtomicU64,
    connection_bytes: AtomicU64,
    /// When the last one was over, in seconds since 1970.
    last: AtomicU64,
    /// Requests by time, in the order of the buckets, with one more for what is longer.
    times: Vec<AtomicU64>,
}

struct Series {
    success: IntCounter,
    failure: IntCounter,
    seconds: Histogram,
    bytes: [IntCounter; 2],
    transports: [IntCounter; 3],
}

/// What is known of an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSeen {
    /// Which side saw it.
    pub side: Side,
    /// Who calls; `_none` where nothing is proven, `_overflow` for all beyond the bound.
    pub source: String,
    /// The pool.
    pub destination: String,
    /// Requests and connections that went well.
    pub success: u64,
    /// Those that did not.
    pub failure: u64,
    /// By mutual TLS, by TLS, in the clear.
    pub transports: [u64; 3],
    /// Of requests and of responses.
    pub bytes: [u64; 2],
    /// How many were connections passed through as bytes.
    pub connections: u64,
    /// Their bytes, in both directions.
    pub connection_bytes: u64,
    /// When the last one was over, in seconds since 1970.
    pub last: u64,
    /// Upper bounds of the median, the 95th and the 99th percentile in seconds; `None` without requests.
    pub percentiles: Option<[f64; 3]>,
}

/// What came in the clear at a listener.
#[derive(Debug, Clone, Default)]
pub struct Plaintext {
    /// Connections.
    pub count: u64,
    /// The last one.
    pub last: Option<SystemTime>,
    /// From whom, the latest first; at most 32.
    pub clients: VecDeque<(IpAddr, u64, SystemTime)>,
}

impl Edges {
    pub(super) fn new(families: EdgeFamilies) -> Edges {
        Edges {
            families,
            all: Default::default(),
            adding: Mutex::default(),
            full: Default::default(),
            plain: Mutex::default(),
        }
    }

    /// A request or connection is over.
    pub fn finished(&self, sample: &EdgeSample<'_>) {
        let source = if sample.source.is_empty() {
            NOBODY
        } else {
            sample.source
        };
        let now = SystemTime::now();
        self.edge(source, sample).count(sample, now);
    }

    /// A connection came in without mutual TLS: what a strict port would refuse. Told when it comes, for it may stay for days.
    pub fn in_the_clear(&self, listener: &str, client: IpAddr) {
        let now = SystemTime::now();
        let mut plain = lock(&self.plain);
        if let Some(seen) = plain.get_mut(listener) {
            return seen.saw(client, now);
        }
        let mut first = Plaintext::default();
        first.saw(client, now);
        plain.insert(listener.to_owned(), first);
    }

    fn edge(&self, source: &str, sample: &EdgeSample<'_>) -> Arc<Edge> {
        let side = &self.all[sample.side as usize];
        let known = |source: &str| {
            let all = side.load();
            all.get(sample.destination)?.get(source).cloned()
        };
        if let Some(edge) = known(source) {
            return edge;
        }
        let full = &self.full[sample.side as usize];
        if full.load(Relaxed) {
            if let Some(edge) = known(OVERFLOW) {
                return edge;
            }
        }
        let _adding = lock(&self.adding);
        let count: usize = side.load().values().map(HashMap::len).sum();
        let source = if count < MOST_EDGES { source } else { OVERFLOW };
        full.store(count >= MOST_EDGES, Relaxed);
        if let Some(edge) = known(source) {
            return edge;
        }
        let edge = Arc::new(Edge::new(
            &self.families,
            [sample.side.as_str(), sample.label, sample.destination],
        ));
        let mut all = HashMap::clone(&side.load());
        let callers = all.entry(sample.destination.to_owned()).or_default();
        callers.insert(source.to_owned(), edge.clone());
        side.store(Arc::new(all));
        edge
    }

    /// Every edge, by side, pool and caller.
    pub fn seen(&self) -> Vec<EdgeSeen> {
        let mut edges = Vec::new();
        for side in [Side::Inbound, Side::Outbound] {
            let all = self.all[side as usize].load();
            for (destination, callers) in all.iter() {
                let callers = callers.iter();
                edges.extend(callers.map(|(source, edge)| edge.seen(side, source, destination)));
            }
        }
        let key = |edge: &EdgeSeen| (edge.side, edge.destination.clone(), edge.source.clone());
        edges.sort_by_cached_key(key);
        edges
    }

    /// What came in the clear at a listener.
    pub fn plaintext(&self, listener: &str) -> Plaintext {
        let plain = lock(&self.plain);
        plain.get(listener).cloned().unwrap_or_default()
    }
}

impl Edge {
    fn new(families: &EdgeFamilies, [side, source, destination]: [&str; 3]) -> Edge {
        let with = |family: &Counters, last: &str| family.with(&[side, source, destination, last]);
        Edge {
            series: Series {
                success: with(&families.requests, "success"),
                failure: with(&families.requests, "failure"),
                seconds: families.seconds.with(&[side, source, destination]),
                bytes: ["request", "response"].map(|it| with(&families.bytes, it)),
                transports: ALL.map(|it| with(&families.secured, it.as_str())),
            },
            success: AtomicU64::new(0),
            failure: AtomicU64::new(0),
            transports: Default::default(),
            bytes: Default::default(),
            connections: AtomicU64::new(0),
            connection_bytes: AtomicU64::new(0),
            last: AtomicU64::new(0),
            times: (0..=SECONDS.len()).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn count(&self, sample: &EdgeSample<'_>, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        self.last
            .store(since.map_or(0, |since| since.as_secs()), Relaxed);
        if sample.kind == Kind::Connection {
            self.connections.fetch_add(1, Relaxed);
            let bytes = sample.request_bytes + sample.response_bytes;
            self.connection_bytes.fetch_add(bytes, Relaxed);
        }
        let (own, series) = match sample.success {
            true => (&self.success, &self.series.success),
            false => (&self.failure, &self.series.failure),
        };
        own.fetch_add(1, Relaxed);
        series.inc();
        let at = sample.transport as usize;
        self.transports[at].fetch_add(1, Relaxed);
        self.series.transports[at].inc();
        let bytes = [sample.request_bytes, sample.response_bytes];
        for (at, bytes) in bytes.into_iter().enumerate() {
            self.bytes[at].fetch_add(bytes, Relaxed);
            self.series.bytes[at].inc_by(bytes);
        }
        if let Some(seconds) = sample.seconds {
            let bucket = SECONDS.partition_point(|bound| *bound < seconds);
            self.times[bucket].fetch_add(1, Relaxed);
            self.series.seconds.observe(seconds);
        }
    }

    fn seen(&self, side: Side, source: &str, destination: &str) -> EdgeSeen {
        let times: Vec<u64> = self.times.iter().map(|it| it.load(Relaxed)).collect();
        EdgeSeen {
            side,
            connections: self.connections.load(Relaxed),
            connection_bytes: self.connection_bytes.load(Relaxed),
            last: self.last.load(Relaxed),
            source: source.to_owned(),
            destination: destination.to_owned(),
            success: self.success.load(Relaxed),
            failure: self.failure.load(Relaxed),
            transports: self.transports.each_ref().map(|it| it.load(Relaxed)),
            bytes: self.bytes.each_ref().map(|it| it.load(Relaxed)),
            percentiles: percentiles(&times),
        }
    }
}

/// The upper bounds of the buckets that the percentiles fall into.
fn percentiles(times: &[u64]) -> Option<[f64; 3]> {
    let total: u64 = times.iter().sum();
    if total == 0 {
        return None;
    }
    let bound = |share: f64| {
        let wanted = (total as f64 * share).ceil() as u64;
        let mut before = 0;
        let at = times.iter().position(|count| {
            before += count;
            before >= wanted
        });
        let last = SECONDS.len() - 1;
        SECONDS[at.unwrap_or(last).min(last)]
    };
    Some([bound(0.5), bound(0.95), bound(0.99)])
}

impl Plaintext {
    fn saw(&mut self, client: IpAddr, now: SystemTime) {
        self.count += 1;
        self.last = Some(now);
        let before = self.clients.iter().position(|(it, ..)| *it == client);
        let before = before.and_then(|at| self.clients.remove(at));
        let count = before.map_or(0, |(_, count, _)| count);
        self.clients.truncate(MOST_CLIENTS - 1);
        self.clients.push_front((client, count + 1, now));
    }
}

/// Who a caller is of whom nothing is proven.
pub const NOBODY: &str = "_none";
const ALL: [Transport; 3] = [Transport::Mutual, Transport::Tls, Transport::Plain];
const MOST_EDGES: usize = 1000;
const MOST_CLIENTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    fn sample(source: &str) -> EdgeSample<'_> {
        EdgeSample {
            side: Side::Inbound,
            kind: Kind::Request,
            source,
            label: "_other",
            destination: "app",
            transport: if source.is_empty() {
                Transport::Plain
            } else {
                Transport::Mutual
            },
            success: true,
            seconds: Some(0.02),
            request_bytes: 1,
            response_bytes: 2,
        }
    }

    #[test]
    fn edges_are_told_apart_up_to_a_bound() {
        let metrics = Metrics::new(10);
        let edges = metrics.edges();

        for number in 0..1100 {
            edges.finished(&sample(&format!("spiffe://a/{number}")));
        }

        let seen = edges.seen();
        assert_eq!(seen.len(), 1001);
        let rest = seen.iter().find(|edge| edge.source == "_overflow").unwrap();
        assert_eq!((rest.success, rest.transports), (100, [100, 0, 0]));
        assert_eq!(rest.percentiles, Some([0.025; 3]));
    }

    #[test]
    fn the_two_sides_do_not_mix_and_connections_are_told_apart() {
        let metrics = Metrics::new(10);
        let edges = metrics.edges();
        let out = EdgeSample {
            side: Side::Outbound,
            kind: Kind::Connection,
            transport: Transport::Plain,
            seconds: None,
            ..sample("spiffe://a/web")
        };

        edges.finished(&sample("spiffe://a/web"));
        edges.finished(&out);

        let seen = edges.seen();
        let told: Vec<_> = seen
            .iter()
            .map(|it| (it.side, it.connections, it.connection_bytes, it.transports))
            .collect();
        assert_eq!(
            told,
            [
                (Side::Inbound, 0, 0, [1, 0, 0]),
                (Side::Outbound, 1, 3, [0, 0, 1])
            ]
        );
        assert_eq!(edges.plaintext("in").count, 0);
    }

    #[test]
    fn whoever_still_speaks_in_the_clear_is_remembered() {
        let metrics = Metrics::new(10);
        let edges = metrics.edges();

        for number in 0..50 {
            edges.in_the_clear("in", [10, 0, 0, number].into());
        }
        edges.in_the_clear("in", [10, 0, 0, 30].into());

        let plain = edges.plaintext("in");
        assert_eq!((plain.count, plain.clients.len()), (51, 32));
        assert_eq!(
            (plain.clients[0].0, plain.clients[0].1),
            ([10, 0, 0, 30].into(), 2)
        );
        assert_eq!(edges.plaintext("out").count, 0);
    }
}
