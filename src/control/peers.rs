//! Proves who the endpoints of mesh pools are: real handshakes, as each workload of this node makes them, and nothing said after them
//! but HTTP/2's first words. It must not count as traffic, nor change anything; keys stay in the process.
//! Asked by the admin address for `windrose mesh check`.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use pingora::tls::tokio_ssl::SslStream;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use windrose_plugins::contract::{causes, Cause};

use crate::snapshot::endpoint::Address;
use crate::snapshot::identity::{IdPattern, Identity, Svid, Workload};
use crate::snapshot::mtls::{self, Outbound};
use crate::snapshot::own;
use crate::snapshot::pool::{Pool, PoolProtocol};
use crate::snapshot::Snapshot;

/// What came of all handshakes.
#[derive(Serialize)]
pub(super) struct Proofs {
    /// Each of them: the first endpoint of every pool, then the second of every pool.
    proofs: Vec<Proof>,
    /// How many more there would be.
    left_out: usize,
}

/// What came of one handshake.
#[derive(Serialize)]
struct Proof {
    pool: String,
    place: String,
    endpoint: String,
    /// Where the handshake was made: the endpoint, or the port of tunnels on its node.
    address: String,
    /// Who called.
    workload: String,
    /// Who the endpoint may be.
    wanted: Vec<String>,
    /// Who it proved to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<String>,
    /// Whether the endpoint let the workload in: `yes`, or `not_told` where its protocol says nothing first.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<&'static str>,
    took_ms: f64,
}

/// A handshake to be made.
struct Aim {
    pool: Arc<Pool>,
    mtls: Arc<Outbound>,
    endpoint: SocketAddr,
    workload: Arc<Workload>,
}

/// What an endpoint proved.
struct Seen {
    id: String,
    accepted: &'static str,
}

type Failure = (&'static Cause, String);

/// Makes at most 128 handshakes, 16 at a time, each within 2 s.
pub(super) async fn prove(snapshot: &Snapshot) -> Proofs {
    let mut aims = aims(snapshot);
    let left_out = aims.len().saturating_sub(MOST);
    aims.truncate(MOST);
    let proofs = stream::iter(aims).map(|aim| Box::pin(proof(aim)));
    Proofs {
        proofs: proofs.buffered(AT_ONCE).collect().await,
        left_out,
    }
}

/// Every workload that calls, with every endpoint over mutual TLS.
fn aims(snapshot: &Snapshot) -> Vec<Aim> {
    let Some(identity) = &snapshot.identity else {
        return Vec::new();
    };
    let mut aims: Vec<(usize, Aim)> = Vec::new();
    for pool in &snapshot.pools {
        let Some(mtls) = &pool.settings.mtls else {
            continue;
        };
        let set = pool.set.load();
        let addresses = set.members.iter().map(|member| &member.endpoint.address);
        let addresses = addresses.filter_map(|address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        });
        for (at, endpoint) in addresses.enumerate() {
            aims.extend(callers(mtls, identity).map(|workload| {
                let aim = Aim {
                    pool: pool.clone(),
                    mtls: mtls.clone(),
                    endpoint,
                    workload: workload.clone(),
                };
                (at, aim)
            }));
        }
    }
    // Stable, so that each pool has its turn before a large one takes all there are.
    aims.sort_by_key(|(at, _)| *at);
    aims.into_iter().map(|(_, aim)| aim).collect()
}

/// Who calls a pool: its own workload, else all that are not known only by the ports they serve.
fn callers<'a>(
    mtls: &'a Outbound,
    identity: &'a Identity,
) -> impl Iterator<Item = &'a Arc<Workload>> {
    let all = identity.workloads.iter().filter(|workload| {
        let by = &workload.matches;
        let calls = by.is_empty()
            || !(by.listeners.is_empty() && by.users.is_empty() && by.cgroups.is_empty());
        calls || identity.workloads.len() == 1
    });
    let own = mtls.workload.as_ref();
    let others = own.is_none().then_some(all).into_iter().flatten();
    own.into_iter().chain(others)
}

async fn proof(aim: Aim) -> Proof {
    let (mtls, started) = (&aim.mtls, Instant::now());
    let address = SocketAddr::new(aim.endpoint.ip(), mtls.hbone.unwrap_or(aim.endpoint.port()));
    let mut proof = Proof {
        pool: aim.pool.name.to_string(),
        place: aim.pool.place.to_string(),
        endpoint: aim.endpoint.to_string(),
        address: address.to_string(),
        workload: aim.workload.name.to_string(),
        wanted: mtls
            .peers
            .iter()
            .map(|peer| IdPattern::as_str(peer).to_owned())
            .collect(),
        proven: None,
        accepted: None,
        cause: None,
        detail: None,
        next_step: None,
        took_ms: 0.0,
    };
    match timeout(PATIENCE, shake(&aim, address)).await {
        Ok(Ok(seen)) => {
            proof.proven = Some(seen.id);
            proof.accepted = Some(seen.accepted);
        }
        Ok(Err((cause, detail))) => proof.fail(cause, detail),
        Err(_) => {
            let detail = format!("nothing within {} s", PATIENCE.as_secs());
            proof.fail(&causes::CONNECT_TIMEOUT, detail);
        }
    }
    proof.took_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    proof
}

impl Proof {
    fn fail(&mut self, cause: &'static Cause, detail: String) {
        self.cause = Some(cause.name);
        self.next_step = Some(cause.next_step);
        self.detail = Some(detail);
    }
}

/// The handshake that the data path makes, with the same judgement of what the endpoint shows.
async fn shake(aim: &Aim, address: SocketAddr) -> Result<Seen, Failure> {
    let mtls = &aim.mtls;
    let svid = mtls::current(&aim.workload, Duration::ZERO).await;
    let svid = svid.map_err(|detail| (&causes::MTLS_NO_IDENTITY, detail))?;
    let socket = own::connect(address).await.map_err(|error| {
        let cause = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => &causes::CONNECT_REFUSED,
            _ => &causes::CONNECT_FAILED,
        };
        (cause, error.to_string())
    })?;
    let alpn = offered(aim);
    let mut stream = secured(socket, mtls, &svid, alpn).await?;
    let proof = mtls::prove(stream.ssl(), &mtls.identity)
        .map_err(|rejection| (rejection.cause, rejection.detail))?;
    mtls.wants(&proof.id)?;
    let is_http2 = stream.ssl().selected_alpn_protocol() == Some(b"h2");
    let accepted = heard(&mut stream, is_http2).await?;
    Ok(Seen {
        id: proof.id.as_str().to_owned(),
        accepted,
    })
}

/// What is offered to speak inside.
fn offered(aim: &Aim) -> Option<&'static [u8]> {
    match (aim.mtls.hbone, aim.pool.settings.protocol) {
        (Some(_), _) | (None, PoolProtocol::Http2) => Some(b"\x02h2"),
        (None, PoolProtocol::Auto) => Some(b"\x02h2\x08http/1.1"),
        (None, PoolProtocol::Http1) => Some(b"\x08http/1.1"),
        (None, PoolProtocol::Tcp) => None,
    }
}

async fn secured(
    socket: TcpStream,
    mtls: &Outbound,
    svid: &Svid,
    alpn: Option<&[u8]>,
) -> Result<SslStream<TcpStream>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        (mtls::failed(&text, &causes::UPSTREAM_TLS), text)
    };
    let mut ssl = mtls.handshake(svid).map_err(|error| failed(&error))?;
    if let Some(alpn) = alpn {
        ssl.set_alpn_protos(alpn).map_err(|error| failed(&error))?;
    }
    let mut stream = SslStream::new(ssl, socket).map_err(|error| failed(&error))?;
    let shaken = Pin::new(&mut stream).connect().await;
    shaken.map_err(|error| failed(&error))?;
    Ok(stream)
}

/// Whether the endpoint lets us in. In TLS 1.3 it judges our certificate after our side of the handshake is done, so only what it does
/// next tells: it speaks, or it closes. HTTP/2 has it speak first; other protocols are given a moment to close.
async fn heard(stream: &mut SslStream<TcpStream>, is_http2: bool) -> Result<&'static str, Failure> {
    if is_http2 {
        // If this fails, so does reading, with a better reason.
        let _ = stream.write_all(FIRST_WORDS).await;
    }
    let most = if is_http2 { PATIENCE } else { SILENCE };
    let mut byte = [0];
    match timeout(most, stream.read(&mut byte)).await {
        Ok(Ok(0)) => {
            let detail = "it closed the connection when it had seen the certificate";
            Err((&causes::MTLS_REFUSED, detail.to_owned()))
        }
        Ok(Ok(_)) => Ok("yes"),
        Ok(Err(error)) => Err((&causes::MTLS_REFUSED, error.to_string())),
        Err(_) => Ok("not_told"),
    }
}

/// Handshakes for one question; the rest is counted.
const MOST: usize = 128;
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(2);
/// How long who says nothing may take to close.
const SILENCE: Duration = Duration::from_millis(300);
/// The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5).
const FIRST_WORDS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
