//! Tunnels to endpoints: the connection to the endpoint's node, mutual TLS on it, and a stream for what is carried.
//! It must not know what is carried.
//! `tcp` opens one for each connection, Pingora's connector one for each request through [`Through`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::VirtualSocketStream;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{causes, Cause};

use super::trunk::{Between, Closed, Connected};
use super::Tunnel;
use crate::proxy::{line, Shared};
use crate::snapshot::identity::Proof;
use crate::snapshot::incoming::Socket;
use crate::snapshot::mtls::{self, Caller, Outbound};
use crate::snapshot::own;

/// How a tunnel to an endpoint is opened.
pub(in crate::proxy) struct Through {
    /// Where the connections that carry tunnels are.
    pub(in crate::proxy) shared: Arc<Shared>,
    /// Mutual TLS with the node.
    pub(in crate::proxy) mtls: Arc<Outbound>,
    /// Who calls, and with which certificate.
    pub(in crate::proxy) caller: Caller,
    /// The pool, for the log.
    pub(in crate::proxy) pool: Arc<str>,
    /// Time for all of it.
    pub(in crate::proxy) timeout: Duration,
    /// Whether it is for an upgrade.
    pub(in crate::proxy) upgrade: bool,
    /// What the node proved itself with, once there is a tunnel.
    pub(in crate::proxy) proof: OnceLock<Arc<Proof>>,
}

impl fmt::Debug for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Through({})", self.pool)
    }
}

/// Opens a tunnel to an endpoint.
///
/// # Errors
/// The cause.
pub(in crate::proxy) async fn through(
    way: &Through,
    endpoint: SocketAddr,
) -> std::result::Result<Tunnel, &'static Cause> {
    let opened = tokio::time::timeout(way.timeout, Box::pin(way.open(endpoint))).await;
    opened.unwrap_or(Err(&causes::CONNECT_TIMEOUT))
}

impl Through {
    async fn open(&self, endpoint: SocketAddr) -> std::result::Result<Tunnel, &'static Cause> {
        let mtls = &self.mtls;
        let Some(port) = mtls.hbone else {
            return Err(&causes::INTERNAL);
        };
        let (workload, svid) = &self.caller;
        let between = Between {
            group: mtls.group(workload, svid),
            address: SocketAddr::new(endpoint.ip(), port),
        };
        let connect = || async {
            let socket = own::connect(between.address).await.map_err(failed)?;
            socket.set_nodelay(true).map_err(failed)?;
            let made = line::tls(Socket::Tcp(socket), mtls, svid, ALPN).await;
            let (stream, proof) = made.map_err(|(cause, detail)| {
                line::tell(&self.pool, cause, &detail);
                cause
            })?;
            Ok(Connected {
                stream,
                proof: Some(proof),
            })
        };
        let target = endpoint.to_string();
        let opened = self
            .shared
            .trunks
            .open(between, &target, HeaderMap::new(), connect);
        opened.await.map_err(|closed| self.cause(closed, &target))
    }

    fn cause(&self, closed: Closed, target: &str) -> &'static Cause {
        let (cause, detail) = match closed {
            Closed::Connect(cause) => return cause,
            // The node's verdict on our certificate comes after our side of the handshake.
            Closed::Broke(error) => {
                let text = error.to_string();
                (mtls::failed(&text, &causes::UPSTREAM_RESET), text)
            }
            // It may have come as an alert that was lost.
            Closed::Silent(error) => (&causes::MTLS_REFUSED, error.to_string()),
            Closed::Reset(reason) => {
                let detail = format!("CONNECT {target} was reset: {reason}");
                (&causes::TUNNEL_FAILED, detail)
            }
            Closed::Refused(status) => {
                let detail = format!("CONNECT {target} was answered with {status}");
                (answered(status), detail)
            }
        };
        line::tell(&self.pool, cause, &detail);
        cause
    }
}

/// What a node means. Another endpoint's would say the same of the caller, but not of its own application.
fn answered(status: StatusCode) -> &'static Cause {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            &causes::TUNNEL_REFUSED
        }
        _ => &causes::TUNNEL_FAILED,
    }
}

/// The node must agree to HTTP/2.
const ALPN: Option<&[u8]> = Some(b"\x02h2");

fn failed(error: std::io::Error) -> &'static Cause {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => &causes::CONNECT_REFUSED,
        _ => &causes::CONNECT_FAILED,
    }
}

#[async_trait]
impl Connect for Through {
    async fn connect(&self, address: &PingoraAddr) -> Result<Stream> {
        let PingoraAddr::Inet(endpoint) = address else {
            return Error::e_explain(ErrorType::InternalError, "a tunnel to a socket file");
        };
        match through(self, *endpoint).await {
            Ok(tunnel) => {
                if let Some(proof) = tunnel.proof() {
                    let _ = self.proof.set(proof.clone());
                }
                let tunnel = Box::new(tunnel.unhurried(self.upgrade));
                Ok(VirtualSocketStream::new(tunnel).into())
            }
            // The name comes back in `retry`, which knows causes by it.
            Err(cause) => Error::e_explain(ErrorType::Custom(cause.name), "opening a tunnel"),
        }
    }
}
