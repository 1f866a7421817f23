//! The two ends of a connection carried as bytes: in the clear, or in mutual TLS.
//! It must not know routes or how endpoints are chosen.
//! `accept` makes the one end, `tcp` the other.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pingora::tls::tokio_ssl;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use windrose_plugins::contract::{causes, Cause};

use super::fair;
use super::inside::Inside;
use super::transport::Transport;
use super::tunnel::{Knock, Tunnel};
use crate::observe::event;
use crate::snapshot::identity::{Proof, Svid, Workload};
use crate::snapshot::incoming::Socket;
use crate::snapshot::mtls::{self, Caller, Outbound};
use crate::snapshot::pool::Pool;

/// The client's end, which may still have to be answered.
pub(super) enum Arriving {
    /// There.
    There(Carrier),
    /// A tunnel that is asked for.
    Knock(Box<Knock>),
}

impl From<Carrier> for Arriving {
    fn from(carrier: Carrier) -> Arriving {
        Arriving::There(carrier)
    }
}

impl Arriving {
    /// What can be carried from now on; `None` where the client has left.
    pub(super) fn open(self) -> Option<Carrier> {
        match self {
            Arriving::There(carrier) => Some(carrier),
            Arriving::Knock(knock) => knock.open().map(Carrier::Plain),
        }
    }

    /// Says why it ends before anything was carried, to those who can be told.
    pub(super) fn refuse(self, cause: &Cause) {
        if let Arriving::Knock(knock) = self {
            knock.refuse(cause);
        }
    }

    /// How it comes.
    pub(super) fn way(&self) -> fair::Way {
        match self {
            Arriving::There(Carrier::Plain(transport)) if transport.is_tunnel() => {
                fair::Way::Tunnel
            }
            Arriving::There(_) => fair::Way::Line,
            Arriving::Knock(_) => fair::Way::Tunnel,
        }
    }

    /// Waits until the other side is gone.
    pub(super) async fn gone(&mut self) {
        match self {
            Arriving::There(carrier) => carrier.gone().await,
            Arriving::Knock(knock) => knock.gone().await,
        }
    }
}

/// The client's end.
pub(super) enum Carrier {
    /// In the clear.
    Plain(Transport),
    /// In mutual TLS.
    Tls(Box<Inside>),
}

impl From<Transport> for Carrier {
    fn from(transport: Transport) -> Carrier {
        Carrier::Plain(transport)
    }
}

impl From<Inside> for Carrier {
    fn from(inside: Inside) -> Carrier {
        Carrier::Tls(Box::new(inside))
    }
}

impl Carrier {
    /// Waits until the other side is gone. One that only has nothing more to say still waits for what it gets.
    async fn gone(&self) {
        match self {
            Carrier::Plain(transport) => transport.gone().await,
            Carrier::Tls(inside) => inside.transport().gone().await,
        }
    }

    /// Lets the other side see a reset instead of an end. In TLS an end without its message says as much.
    pub(super) fn reset(&self) {
        if let Carrier::Plain(transport) = self {
            transport.reset();
        }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Bytes for T {}

type Any = Box<dyn Bytes>;

/// The endpoint's end.
pub(super) enum Line {
    /// In the clear.
    Plain(Socket),
    /// In mutual TLS, with what the endpoint proved.
    Tls(Box<tokio_ssl::SslStream<Wire>>, Arc<Proof>),
    /// Carried in a connection to the endpoint's node.
    Tunnel(Box<Tunnel>),
}

impl Line {
    /// As for [`Carrier::reset`]. A tunnel that is dropped before its end resets its stream.
    pub(super) fn reset(&self) {
        if let Line::Plain(Socket::Tcp(socket)) = self {
            reset(socket);
        }
    }

    /// What the endpoint, or its node, proved itself with.
    pub(super) fn proof(&self) -> Option<Arc<Proof>> {
        match self {
            Line::Plain(_) => None,
            Line::Tls(_, proof) => Some(proof.clone()),
            Line::Tunnel(tunnel) => tunnel.proof().cloned(),
        }
    }
}

/// Makes the kernel send a reset when the socket is closed.
pub(super) fn reset(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        log::debug!("a connection ends in order that should be reset: {error}");
    }
}

/// Either kind of socket.
pub(super) struct Wire(Any);

/// Who calls the endpoints of a pool that wants mutual TLS. Asked before there is a connection: the wait for a workload's first
/// certificate is no time to connect, and one that does not come says nothing of an endpoint.
///
/// # Errors
/// When it is not known who calls, or they have no certificate.
pub(super) async fn caller(
    pool: &Pool,
    given: Option<&Arc<Workload>>,
) -> Result<Option<Caller>, &'static Cause> {
    let Some(mtls) = &pool.settings.mtls else {
        return Ok(None);
    };
    let caller = mtls.caller(given).await.map_err(|detail| {
        tell(&pool.name, &causes::MTLS_NO_IDENTITY, &detail);
        &causes::MTLS_NO_IDENTITY
    });
    caller.map(Some)
}

/// Makes mutual TLS of a connection to an endpoint, if its pool wants that.
pub(super) async fn secure(
    socket: Socket,
    pool: &Pool,
    caller: Option<&Caller>,
) -> Result<Line, &'static Cause> {
    let Some(mtls) = &pool.settings.mtls else {
        return Ok(Line::Plain(socket));
    };
    let (_, svid) = caller.ok_or(&causes::INTERNAL)?;
    let handshake = Box::pin(tls(socket, mtls, svid, None));
    let made = tokio::time::timeout(pool.settings.connect_timeout, handshake).await;
    let made =
        made.unwrap_or_else(|_| Err((&causes::CONNECT_TIMEOUT, "during the TLS handshake".into())));
    let (stream, proof) = made.map_err(|(cause, detail)| {
        tell(&pool.name, cause, &detail);
        cause
    })?;
    Ok(Line::Tls(Box::new(stream), proof))
}

/// Says why an endpoint was not spoken to; the log alone has the names.
pub(super) fn tell(pool: &str, cause: &'static Cause, detail: &str) {
    event::warn("endpoint refused", pool, || {
        format!("mutual TLS with an endpoint failed: pool={pool} cause={cause} detail=\"{detail}\"")
    });
}

/// Mutual TLS with an endpoint or its node, which has proven who it is.
///
/// # Errors
/// The cause, and more for the log.
pub(super) async fn tls(
    socket: Socket,
    mtls: &Outbound,
    svid: &Svid,
    alpn: Option<&[u8]>,
) -> Result<(tokio_ssl::SslStream<Wire>, Arc<Proof>), (&'static Cause, String)> {
    let failed = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        (mtls::failed(&text, &causes::UPSTREAM_TLS), text)
    };
    let mut ssl = mtls.handshake(svid).map_err(|error| failed(&error))?;
    if let Some(alpn) = alpn {
        ssl.set_alpn_protos(alpn).map_err(|error| failed(&error))?;
    }
    let wire = match socket {
        Socket::Tcp(socket) => Wire(Box::new(socket)),
        Socket::Unix(socket) => Wire(Box::new(socket)),
    };
    let mut stream = tokio_ssl::SslStream::new(ssl, wire).map_err(|error| failed(&error))?;
    Pin::new(&mut stream)
        .connect()
        .await
        .map_err(|error| failed(&error))?;
    let proof = mtls::prove(stream.ssl(), &mtls.identity)
        .map_err(|rejection| (rejection.cause, rejection.detail))?;
    mtls.wants(&proof.id)?;
    Ok((stream, proof))
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
