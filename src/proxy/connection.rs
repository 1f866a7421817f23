//! A downstream connection as Pingora's HTTP layer sees it, guarding the request header.
//! It must not know routes or plugins.
//! Made by `accept`; bounds the header in time and size, and replaces Pingora's own answers to what it cannot parse.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, SslStream, TlsRef, ALPN};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use windrose_plugins::contract::{causes, Cause, Principal};

use super::line::RequestLine;
use super::transport::Transport;
use super::wire::WireText;
use crate::observe::answer;
use crate::snapshot::certs::{Cert, Termination};
use crate::snapshot::lease::Cut;
use crate::snapshot::listener::Listener;

/// What is known of a connection; reachable from every request on it.
pub(super) struct Connection {
    /// The listener as it was when the connection was accepted.
    pub(super) listener: Arc<Listener>,
    /// The client, after the PROXY protocol.
    pub(super) client: SocketAddr,
    /// The client's address without its port, as it is told to endpoints and logged.
    pub(super) address: WireText,
    /// The address the client connected to, after the PROXY protocol.
    pub(super) local: SocketAddr,
    /// What the TLS handshake brought; `None` in the clear.
    pub(super) tls: Option<TlsFacts>,
    /// Whether it speaks HTTP/2.
    pub(super) http2: bool,
    /// Ends the connection's stream when its route goes away (HTTP/1 upgrades).
    pub(super) cut: Arc<Cut>,
    header_seen: AtomicBool,
    fault: OnceLock<&'static Cause>,
}

/// What a TLS handshake brought.
pub(super) struct TlsFacts {
    /// The name asked for, in lower case.
    pub(super) sni: Option<Box<str>>,
    /// The version, such as `TLSv1.3`.
    pub(super) version: &'static str,
    /// The termination it was made with.
    pub(super) termination: Arc<Termination>,
    /// The certificate that was shown.
    pub(super) cert: Option<Arc<Cert>>,
    /// Who the client's certificate names.
    pub(super) principal: Option<Principal>,
}

impl Connection {
    /// A connection about to carry requests.
    pub(super) fn new(
        listener: Arc<Listener>,
        client: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsFacts>,
        http2: bool,
    ) -> Connection {
        Connection {
            listener,
            client,
            address: WireText::new(&client.ip().to_canonical().to_string()).unwrap_or_default(),
            local,
            tls,
            http2,
            cut: Arc::default(),
            header_seen: AtomicBool::new(false),
            fault: OnceLock::new(),
        }
    }

    /// Says that a request's header arrived whole: the guard rests until the next request.
    pub(super) fn header_arrived(&self) {
        self.header_seen.store(true, Relaxed);
    }

    /// Why the connection ended without a request, if the guard saw it.
    pub(super) fn fault(&self) -> Option<&'static Cause> {
        self.fault.get().copied()
    }

    /// Whether a request's header arrived since the guard was armed.
    pub(super) fn has_header(&self) -> bool {
        self.header_seen.load(Relaxed)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let (received, sent) = self.traffic();
        self.connection.listener.metrics.bytes(received, sent);
    }
}

enum Layer {
    Plain(Transport),
    Tls(Box<SslStream<Transport>>),
}

/// The stream handed to Pingora.
pub(super) struct Guarded {
    layer: Layer,
    connection: Arc<Connection>,
    digest: Arc<ProxyDigest>,
    header_bytes: usize,
    line: RequestLine,
    deadline: Option<Pin<Box<Sleep>>>,
    farewell: Vec<u8>,
    farewell_written: usize,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.connection.client)
    }
}

impl Guarded {
    /// Guards a stream in the clear.
    pub(super) fn plain(transport: Transport, connection: Arc<Connection>) -> Guarded {
        Guarded::new(Layer::Plain(transport), connection)
    }

    /// Guards a TLS stream.
    pub(super) fn tls(stream: SslStream<Transport>, connection: Arc<Connection>) -> Guarded {
        Guarded::new(Layer::Tls(Box::new(stream)), connection)
    }

    fn new(layer: Layer, connection: Arc<Connection>) -> Guarded {
        // Pingora hands this digest to every request, over HTTP/1 and HTTP/2 alike; the header in it is never read.
        let unused = ResponseHeader::build_no_case(200, Some(0)).expect("200 is a status");
        let digest = Arc::new(ProxyDigest::new(
            Box::new(unused),
            Some(Box::new(connection.clone())),
        ));
        Guarded {
            layer,
            connection,
            digest,
            header_bytes: 0,
            line: RequestLine::default(),
            deadline: None,
            farewell: Vec::new(),
            farewell_written: 0,
        }
    }

    /// Expects a request's header from now on. The bound on time starts with its first byte.
    pub(super) fn arm(&mut self) {
        self.connection.header_seen.store(false, Relaxed);
        self.header_bytes = 0;
        self.line = RequestLine::default();
        self.deadline = None;
    }

    /// Waits until the next request begins, or the end of the stream. Gives back memory first.
    pub(super) async fn idle(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain(transport) => {
                transport.shrink();
                transport.readable().await
            }
            Layer::Tls(stream) if stream.ssl().pending() > 0 => Ok(()),
            Layer::Tls(stream) => {
                stream.get_mut().shrink();
                stream.get_ref().readable().await
            }
        }
    }

    /// Bytes read from and written to the socket.
    fn traffic(&self) -> (u64, u64) {
        let transport = match &self.layer {
            Layer::Plain(transport) => transport,
            Layer::Tls(stream) => stream.get_ref(),
        };
        (transport.received, transport.sent)
    }

    fn guards(&self) -> bool {
        !self.connection.http2 && !self.connection.header_seen.load(Relaxed)
    }

    /// The bound on time; the timer is made only when a header does not arrive at once.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.connection.listener.limits.header_timeout;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        deadline.as_mut().poll(cx)
    }

    /// Ends the connection with an answer of our own.
    fn fail(&mut self, cause: &'static Cause) {
        let _ = self.connection.fault.set(cause);
        if self.farewell.is_empty() {
            self.farewell = farewell(cause);
        }
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.farewell_written < self.farewell.len() {
            let rest = &self.farewell[self.farewell_written..];
            let written = match &mut self.layer {
                Layer::Plain(transport) => ready!(Pin::new(transport).poll_write(cx, rest))?,
                Layer::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, rest))?,
            };
            self.farewell_written += written;
        }
        match &mut self.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

/// An answer to a client whose request never became one.
fn farewell(cause: &'static Cause) -> Vec<u8> {
    let rendered = answer::render(cause, cause.status, answer::Preference::Problem, "", None);
    let reason = http::StatusCode::from_u16(rendered.status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\n",
        rendered.status,
        reason.unwrap_or("Error")
    )
    .into_bytes();
    for (name, value) in &rendered.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"connection: close\r\n\r\n");
    bytes.extend_from_slice(&rendered.body);
    bytes
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.connection.cut.is_revoked() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match &mut this.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if !this.guards() {
            return polled;
        }
        match polled {
            Poll::Ready(Ok(())) => {
                this.header_bytes += buf.filled().len() - before;
                if !this.line.take(&buf.filled()[before..]) {
                    this.fail(&causes::BAD_TARGET);
                    let _ = this.poll_farewell(cx);
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                // One read may carry the start of a body; Pingora reads headers 4 KiB at a time.
                let most = this.connection.listener.limits.header_bytes + 4096;
                if this.header_bytes > most {
                    this.fail(&causes::HEADER_TOO_LARGE);
                    let _ = this.poll_farewell(cx);
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                ready!(this.poll_deadline(cx));
                let cause = if this.header_bytes > 0 {
                    &causes::HEADER_TIMEOUT
                } else {
                    &causes::CONNECTION_TIMEOUT
                };
                let _ = this.connection.fault.set(cause);
                if this.header_bytes > 0 {
                    this.fail(cause);
                    let _ = this.poll_farewell(cx);
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            error => error,
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.guards() {
            // Pingora answers what it could not parse, or CONNECT; our own answer with its cause goes out instead.
            let cause = if bytes.starts_with(b"HTTP/1.1 405") {
                &causes::METHOD_NOT_ALLOWED
            } else {
                &causes::BAD_REQUEST
            };
            this.fail(cause);
            ready!(this.poll_farewell(cx))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        match &mut this.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_write(cx, bytes),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.guards() {
            let first = slices
                .iter()
                .find(|slice| !slice.is_empty())
                .map_or(&[][..], |slice| slice);
            return self.poll_write(cx, first);
        }
        match &mut self.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_write_vectored(cx, slices),
            Layer::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        match &mut self.layer {
            Layer::Plain(transport) => transport.shutdown().await,
            Layer::Tls(stream) => {
                // A client that went away is no reason for a log line; Pingora's own shutdown would write one.
                let shutdown = tokio::io::AsyncWriteExt::shutdown(stream);
                let _ = tokio::time::timeout(Duration::from_secs(1), shutdown).await;
            }
        }
    }
}

impl UniqueID for Guarded {
    fn id(&self) -> i32 {
        match &self.layer {
            Layer::Plain(transport) => transport.id(),
            Layer::Tls(stream) => stream.id(),
        }
    }
}

impl Ssl for Guarded {
    fn get_ssl(&self) -> Option<&TlsRef> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(stream) => stream.get_ssl(),
        }
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(stream) => stream.ssl_digest(),
        }
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.connection.http2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for Guarded {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Guarded {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for Guarded {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        match &self.layer {
            Layer::Plain(transport) => transport.get_socket_digest(),
            Layer::Tls(stream) => stream.get_ref().get_socket_digest(),
        }
    }
}

impl Peek for Guarded {}
