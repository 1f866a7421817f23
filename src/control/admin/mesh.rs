//! The view of the mesh: who calls what with which success, seen from both sides, and whether each mesh-inbound listener may refuse
//! plaintext. It must not know how edges are counted.
//! Called by `admin`; `windrose mesh status` draws it.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::page;
use super::state::rfc3339;
use crate::observe::metrics::{EdgeSeen, Metrics, Plaintext, Side};
use crate::snapshot::identity::IdPattern;
use crate::snapshot::listener::Role;
use crate::snapshot::Snapshot;

#[derive(Serialize)]
pub(super) struct Mesh {
    listeners: Vec<ListenerView>,
    edges: Vec<EdgeView>,
}

#[derive(Serialize)]
struct ListenerView {
    name: String,
    place: String,
    /// `strict` or `permissive`; absent without mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// Whether plaintext can be refused without refusing anybody who came since the process started.
    safe_to_go_strict: bool,
    /// Why, or why not.
    because: String,
    /// Requests and connections in the clear.
    plaintext: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    /// From whom, the latest first; at most 32.
    from: Vec<ClientView>,
}

#[derive(Serialize)]
struct ClientView {
    client: String,
    count: u64,
    last: String,
}

#[derive(Serialize)]
struct EdgeView {
    /// Which side this node is: `inbound`, where it came in, or `outbound`, where it went out.
    seen: &'static str,
    source: String,
    destination: String,
    /// Who endpoints have to prove to be, of what went out over mutual TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<String>,
    /// Requests, and connections passed through as bytes.
    requests: u64,
    /// How many of them were such connections.
    connections: u64,
    success_percent: f64,
    mtls_percent: f64,
    /// How many were in the clear.
    plaintext: u64,
    request_bytes: u64,
    response_bytes: u64,
    /// Bytes of connections, in both directions; part of the two above.
    connection_bytes: u64,
    last: String,
    /// Upper bounds of the percentiles, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
}

/// Everything since the process started.
pub(super) fn view(snapshot: &Snapshot, metrics: &Metrics) -> Mesh {
    let edges = metrics.edges();
    let seen = edges.seen();
    let inbound = snapshot.listeners.iter();
    let inbound = inbound.filter(|listener| listener.role == Role::MeshInbound);
    let listeners = inbound.map(|it| {
        let mode = it.mtls.as_ref().map(|mtls| mtls.mode.as_str());
        listener(
            (&it.name, &it.place),
            mode,
            &edges.plaintext(&it.name),
            it.metrics.connections_total.get() > 0,
        )
    });
    Mesh {
        listeners: listeners.collect(),
        edges: seen.into_iter().map(|it| edge(it, snapshot)).collect(),
    }
}

fn listener(
    (name, place): (&str, &str),
    mode: Option<&'static str>,
    plain: &Plaintext,
    is_used: bool,
) -> ListenerView {
    let because = match plain.clients.front() {
        Some((client, ..)) => {
            let (count, clients) = (plain.count, plain.clients.len());
            let last = plain.last.map_or(String::new(), rfc3339);
            format!(
                "{count} in the clear from {clients} addresses, the last one {client} at {last}"
            )
        }
        None if is_used => "nothing came in the clear since the process started".to_owned(),
        None => "nothing came at all since the process started, so nothing is known".to_owned(),
    };
    ListenerView {
        name: name.to_owned(),
        place: place.to_owned(),
        mode,
        safe_to_go_strict: is_used && plain.count == 0,
        because,
        plaintext: plain.count,
        last: plain.last.map(rfc3339),
        from: plain
            .clients
            .iter()
            .map(|(client, count, last)| ClientView {
                client: client.to_string(),
                count: *count,
                last: rfc3339(*last),
            })
            .collect(),
    }
}

fn edge(seen: EdgeSeen, snapshot: &Snapshot) -> EdgeView {
    let requests = seen.success + seen.failure;
    let percent = |part: u64| (part as f64 * 10_000.0 / requests.max(1) as f64).round() / 100.0;
    let at = |at: usize| seen.percentiles.map(|all| all[at] * 1000.0);
    let pool = snapshot.pool(&seen.destination);
    let mtls = pool.and_then(|pool| pool.settings.mtls.as_ref());
    let mtls = mtls.filter(|_| seen.side == Side::Outbound);
    let peers = mtls.map_or(&[][..], |mtls| &mtls.peers);
    EdgeView {
        seen: seen.side.as_str(),
        peers: peers
            .iter()
            .map(|peer| IdPattern::as_str(peer).to_owned())
            .collect(),
        requests,
        connections: seen.connections,
        success_percent: percent(seen.success),
        mtls_percent: percent(seen.transports[0]),
        plaintext: seen.transports[2],
        request_bytes: seen.bytes[0],
        response_bytes: seen.bytes[1],
        connection_bytes: seen.connection_bytes,
        last: rfc3339(UNIX_EPOCH + Duration::from_secs(seen.last)),
        p50_ms: at(0),
        p95_ms: at(1),
        p99_ms: at(2),
        source: seen.source,
        destination: seen.destination,
    }
}

/// The same as a page.
pub(super) fn html(mesh: &Mesh) -> String {
    let mut body = String::from("<h2>May plaintext be refused?</h2>\n<table>\n");
    for it in &mesh.listeners {
        let verdict = if it.safe_to_go_strict { "yes" } else { "no" };
        let (name, because) = (page::escape(&it.name), page::escape(&it.because));
        let _ = writeln!(
            body,
            "<tr><th>{name}</th><td>{verdict}: {because}</td></tr>"
        );
    }
    body.push_str("</table>\n<h2>Who calls what</h2>\n<table>\n<tr><th>seen</th><th>from</th><th>to</th><th>requests</th><th>success</th><th>mTLS</th><th>p50, p95, p99 in ms</th></tr>\n");
    for it in &mesh.edges {
        let (source, to) = (page::escape(&it.source), page::escape(&it.destination));
        let time = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| ms.to_string());
        let times = [it.p50_ms, it.p95_ms, it.p99_ms].map(time).join(", ");
        let (requests, success, mtls) = (it.requests, it.success_percent, it.mtls_percent);
        let seen = it.seen;
        let _ = writeln!(
            body,
            "<tr><td>{seen}</td><td>{source}</td><td>{to}</td><td>{requests}</td><td>{success} %</td><td>{mtls} %</td><td>{times}</td></tr>"
        );
    }
    body.push_str("</table>\n");
    page::whole(&body)
}
