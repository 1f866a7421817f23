//! What is counted about a listener: connections, bytes, TLS handshakes and refusals.
//! It must not know how connections are made or served.
//! The listener's accept path calls it; `Metrics::listener` makes it.

use std::sync::Arc;

use windrose_plugins::contract::Cause;

use super::family::{Counters, Gauges, Histograms, Maker};
use super::first_use::FirstUse;
use super::series::{Histogram, IntCounter, IntGauge};
use super::SECONDS;

/// The families that listeners feed.
pub(super) struct ListenerFamilies {
    pub(super) connections: Counters,
    pub(super) open: Gauges,
    pub(super) failures: Counters,
    pub(super) received: Counters,
    pub(super) sent: Counters,
    pub(super) handshakes: Counters,
    pub(super) handshake_seconds: Histograms,
    pub(super) certificates: Gauges,
    pub(super) detections: Counters,
}

/// How it became known what a captured connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detected {
    /// The client began with TLS.
    Tls,
    /// The client began with an HTTP/1 request.
    Http1,
    /// The client began with the preface of HTTP/2.
    Http2,
    /// The client began with something else.
    Opaque,
    /// The server spoke first.
    ServerFirst,
    /// Neither spoke.
    Timeout,
    /// The configuration says it.
    Written,
}

impl Detected {
    fn as_str(self) -> &'static str {
        match self {
            Detected::Tls => "tls",
            Detected::Http1 => "http1",
            Detected::Http2 => "http2",
            Detected::Opaque => "opaque",
            Detected::ServerFirst => "server_first",
            Detected::Timeout => "timeout",
            Detected::Written => "written",
        }
    }
}

impl ListenerFamilies {
    pub(super) fn new(make: &Maker<'_>) -> ListenerFamilies {
        let labels = ["listener", "role"];
        ListenerFamilies {
            connections: make.counters(
                "windrose_connections_total",
                "Connections accepted from clients.",
                &labels,
            ),
            open: make.gauges(
                "windrose_connections_open",
                "Connections of clients that are open now.",
                &labels,
            ),
            failures: make.counters(
                "windrose_connection_failures_total",
                "Connections refused or cut before a request could be read, by cause.",
                &["listener", "cause"],
            ),
            received: make.counters(
                "windrose_connection_received_bytes_total",
                "Bytes received from clients.",
                &labels,
            ),
            sent: make.counters(
                "windrose_connection_sent_bytes_total",
                "Bytes sent to clients.",
                &labels,
            ),
            handshakes: make.counters(
                "windrose_tls_handshakes_total",
                "TLS handshakes completed with clients, by version and whether a session was resumed.",
                &["listener", "version", "resumed"],
            ),
            handshake_seconds: make.histograms(
                "windrose_tls_handshake_duration_seconds",
                "Time that TLS handshakes with clients took.",
                &["listener"],
                SECONDS,
            ),
            certificates: make.gauges(
                "windrose_tls_certificate_expiry_timestamp_seconds",
                "Unix time at which the certificate in use expires.",
                &["listener", "subject"],
            ),
            detections: make.counters(
                "windrose_protocol_detections_total",
                "Captured connections by how it became known what they speak.",
                &["listener", "outcome"],
            ),
        }
    }
}

impl ListenerFamilies {
    /// Drops the series of listeners that `keep` refuses; certificates are asked about on their own.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0]);
        self.connections.retain(&by_name);
        self.open.retain(&by_name);
        self.failures.retain(&by_name);
        self.detections.retain(&by_name);
        self.received.retain(&by_name);
        self.sent.retain(&by_name);
        self.handshakes.retain(&by_name);
        self.handshake_seconds.retain(&by_name);
    }
}

/// Counters of one listener.
pub struct ListenerMetrics {
    /// Connections accepted.
    pub connections_total: IntCounter,
    /// Connections open now.
    pub connections_open: IntGauge,
    name: String,
    families: Arc<ListenerFamilies>,
    received: IntCounter,
    sent: IntCounter,
    handshake_seconds: Histogram,
    handshakes: FirstUse<(&'static str, bool), IntCounter>,
    failures: FirstUse<&'static str, IntCounter>,
    detections: FirstUse<Detected, IntCounter>,
}

impl ListenerMetrics {
    pub(super) fn new(families: &Arc<ListenerFamilies>, name: &str, role: &str) -> ListenerMetrics {
        let labels = [name, role];
        ListenerMetrics {
            connections_total: families.connections.with(&labels),
            connections_open: families.open.with(&labels),
            name: name.into(),
            received: families.received.with(&labels),
            sent: families.sent.with(&labels),
            handshake_seconds: families.handshake_seconds.with(&[name]),
            handshakes: FirstUse::default(),
            failures: FirstUse::default(),
            detections: FirstUse::default(),
            families: families.clone(),
        }
    }

    /// A connection was accepted. Exactly one `closed` follows.
    pub fn accepted(&self) {
        self.connections_total.inc();
        self.connections_open.inc();
    }

    /// An accepted connection ended.
    pub fn closed(&self) {
        self.connections_open.dec();
    }

    /// A connection was refused or cut before a request could be read.
    pub fn refused(&self, cause: &'static Cause) {
        self.failures
            .entry(cause.name, || {
                self.families.failures.with(&[&self.name, cause.name])
            })
            .inc();
    }

    /// It became known what a captured connection speaks.
    pub fn detected(&self, outcome: Detected) {
        self.detections
            .entry(outcome, || {
                let labels = [&*self.name, outcome.as_str()];
                self.families.detections.with(&labels)
            })
            .inc();
    }

    /// A TLS handshake was completed. The version may be written as OpenSSL does (`TLSv1.3`).
    pub fn tls_handshake(&self, version: &str, resumed: bool, seconds: f64) {
        let version = known_version(version);
        self.handshakes
            .entry((version, resumed), || {
                let resumed = if resumed { "true" } else { "false" };
                self.families
                    .handshakes
                    .with(&[&self.name, version, resumed])
            })
            .inc();
        self.handshake_seconds.observe(seconds);
    }

    /// Bytes went through a connection of this listener.
    pub fn bytes(&self, received: u64, sent: u64) {
        self.received.inc_by(received);
        self.sent.inc_by(sent);
    }
}

/// The label of a TLS version: the text may come from the wire, a label may not.
fn known_version(version: &str) -> &'static str {
    const KNOWN: [&str; 4] = ["TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1"];
    KNOWN
        .into_iter()
        .find(|known| *known == version)
        .unwrap_or("other")
}
