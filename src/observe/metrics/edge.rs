//! Golden signals of edges, who calls what: requests, success, latency, bytes, and how much of it is mutual TLS.
//! It must not know how a caller is proven or which names are configured.
//! The fast path tells it of requests and connections of mesh-inbound listeners; `/mesh` on the admin address shows it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use prometheus::{Histogram, IntCounter};

use super::family::{lock, Counters, Histograms, Maker, OVERFLOW};
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
        let edge = ["source", "destination"];
        let with = |last| [edge[0], edge[1], last];
        EdgeFamilies {
            requests: make.counters(
                "windrose_edge_requests_total",
                "Requests and connections between a caller and a pool at mesh-inbound listeners, by result: success or failure. The source is a name of the configuration, _other for any other that is proven, _none where nothing is.",
                &with("result"),
            ),
            seconds: make.histograms(
                "windrose_edge_request_duration_seconds",
                "Time of requests between a caller and a pool at mesh-inbound listeners.",
                &edge,
                SECONDS,
            ),
            bytes: make.counters(
                "windrose_edge_bytes_total",
                "Bytes of bodies and connections between a caller and a pool at mesh-inbound listeners, by direction: request or response.",
                &with("direction"),
            ),
            secured: make.counters(
                "windrose_edge_transport_total",
                "Requests and connections between a caller and a pool at mesh-inbound listeners, by transport: mtls, tls without a proven caller, or plain.",
                &with("transport"),
            ),
        }
    }
}

/// How a request came in.
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
    /// The listener.
    pub listener: &'a str,
    /// Who called; empty where nothing is proven.
    pub source: &'a str,
    /// The name of the configuration that stands for the caller in metrics.
    pub label: &'a str,
    /// The pool.
    pub destination: &'a str,
    /// How it came in.
    pub transport: Transport,
    /// Where from.
    pub client: IpAddr,
    /// Whether it went well.
    pub success: bool,
    /// Its time; `None` for connections.
    pub seconds: Option<f64>,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
}

/// Every edge seen, at most so many; further callers share one for each pool.
pub struct Edges {
    families: EdgeFamilies,
    /// By pool, then by caller. Copied when an edge is new, which ends at the bound.
    all: ArcSwap<HashMap<String, HashMap<String, Arc<Edge>>>>,
    adding: Mutex<()>,
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
    /// Upper bounds of the median, the 95th and the 99th percentile in seconds; `None` without requests.
    pub percentiles: Option<[f64; 3]>,
}

/// What came in the clear at a listener.
#[derive(Debug, Clone, Default)]
pub struct Plaintext {
    /// Requests and connections.
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
            all: ArcSwap::default(),
            adding: Mutex::default(),
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
        self.edge(source, sample).count(sample);
        if sample.transport == Transport::Plain {
            lock(&self.plain)
                .entry(sample.listener.to_owned())
                .or_default()
                .saw(sample.client, SystemTime::now());
        }
    }

    fn edge(&self, source: &str, sample: &EdgeSample<'_>) -> Arc<Edge> {
        let known = |source: &str| {
            let all = self.all.load();
            all.get(sample.destination)?.get(source).cloned()
        };
        if let Some(edge) = known(source) {
            return edge;
        }
        let _adding = lock(&self.adding);
        let count: usize = self.all.load().values().map(HashMap::len).sum();
        let source = if count < MOST_EDGES { source } else { OVERFLOW };
        if let Some(edge) = known(source) {
            return edge;
        }
        let edge = Arc::new(Edge::new(
            &self.families,
            [sample.label, sample.destination],
        ));
        let mut all = HashMap::clone(&self.all.load());
        let callers = all.entry(sample.destination.to_owned()).or_default();
        callers.insert(source.to_owned(), edge.clone());
        self.all.store(Arc::new(all));
        edge
    }

    /// Every edge, by pool and caller.
    pub fn seen(&self) -> Vec<EdgeSeen> {
        let all = self.all.load();
        let edges = all.iter().flat_map(|(destination, callers)| {
            let callers = callers.iter();
            callers.map(move |(source, edge)| edge.seen(source, destination))
        });
        let mut edges: Vec<EdgeSeen> = edges.collect();
        edges.sort_by(|a, b| (&a.destination, &a.source).cmp(&(&b.destination, &b.source)));
        edges
    }

    /// What came in the clear at a listener.
    pub fn plaintext(&self, listener: &str) -> Plaintext {
        let plain = lock(&self.plain);
        plain.get(listener).cloned().unwrap_or_default()
    }
}

impl Edge {
    fn new(families: &EdgeFamilies, [source, destination]: [&str; 2]) -> Edge {
        let with = |family: &Counters, last: &str| family.with(&[source, destination, last]);
        Edge {
            series: Series {
                success: with(&families.requests, "success"),
                failure: with(&families.requests, "failure"),
                seconds: families.seconds.with(&[source, destination]),
                bytes: ["request", "response"].map(|it| with(&families.bytes, it)),
                transports: ALL.map(|it| with(&families.secured, it.as_str())),
            },
            success: AtomicU64::new(0),
            failure: AtomicU64::new(0),
            transports: Default::default(),
            bytes: Default::default(),
            times: (0..=SECONDS.len()).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn count(&self, sample: &EdgeSample<'_>) {
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

    fn seen(&self, source: &str, destination: &str) -> EdgeSeen {
        let times: Vec<u64> = self.times.iter().map(|it| it.load(Relaxed)).collect();
        EdgeSeen {
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

    fn sample<'a>(source: &'a str, client: [u8; 4]) -> EdgeSample<'a> {
        EdgeSample {
            listener: "in",
            source,
            label: "_other",
            destination: "app",
            transport: if source.is_empty() {
                Transport::Plain
            } else {
                Transport::Mutual
            },
            client: client.into(),
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
            edges.finished(&sample(&format!("spiffe://a/{number}"), [10, 0, 0, 1]));
        }

        let seen = edges.seen();
        assert_eq!(seen.len(), 1001);
        let rest = seen.iter().find(|edge| edge.source == "_overflow").unwrap();
        assert_eq!((rest.success, rest.transports), (100, [100, 0, 0]));
        assert_eq!(rest.percentiles, Some([0.025; 3]));
    }

    #[test]
    fn whoever_still_speaks_in_the_clear_is_remembered() {
        let metrics = Metrics::new(10);
        let edges = metrics.edges();

        for number in 0..50 {
            edges.finished(&sample("", [10, 0, 0, number]));
        }
        edges.finished(&sample("", [10, 0, 0, 30]));

        let plain = edges.plaintext("in");
        assert_eq!((plain.count, plain.clients.len()), (51, 32));
        assert_eq!(
            (plain.clients[0].0, plain.clients[0].1),
            ([10, 0, 0, 30].into(), 2)
        );
        assert_eq!(edges.plaintext("out").count, 0);
    }
}
