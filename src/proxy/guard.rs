//! A downstream connection as Pingora's HTTP layer sees it: reads that end with the request, headers within bounds.
//! It must not know routes or plugins.
//! Made by `accept`; replaces Pingora's own answers to what it cannot parse, and keeps what came before its turn.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, SslStream, TlsRef, ALPN};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use windrose_plugins::contract::{causes, Cause};

use super::connection::Connection;
use super::fault::farewell;
use super::inside::Inside;
use super::scan::{announced, HeaderScan};
use super::transport::Transport;

enum Layer {
    Plain(Transport),
    Tls(Box<SslStream<Transport>>),
}

/// How far the current request has been read.
enum Stage {
    Header,
    Body,
    /// Whole; what comes now is the next request's.
    Over,
    /// HTTP/2, chunks, or another protocol after a 101: where it ends is not known here.
    Unbounded,
}

/// The stream handed to Pingora.
pub(super) struct Guarded {
    layer: Layer,
    connection: Arc<Connection>,
    digest: Arc<ProxyDigest>,
    header_bytes: usize,
    scan: HeaderScan,
    /// Bytes of the body handed on so far.
    body_bytes: u64,
    /// Bytes of further requests, read before their turn: no more than one read brought.
    early: Bytes,
    deadline: Option<Pin<Box<Sleep>>>,
    farewell: Vec<u8>,
    farewell_written: usize,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.connection.client)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let (received, sent) = self.traffic();
        self.connection.listener.metrics.bytes(received, sent);
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

    /// Guards a TLS stream of which something was looked at.
    pub(super) fn inside(inside: Inside, connection: Arc<Connection>) -> Guarded {
        let (stream, early) = inside.into_parts();
        let mut guarded = Guarded::tls(stream, connection);
        guarded.early = early;
        guarded
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
            scan: HeaderScan::default(),
            body_bytes: 0,
            early: Bytes::new(),
            deadline: None,
            farewell: Vec::new(),
            farewell_written: 0,
        }
    }

    /// Expects a request's header from now on. The bound on time starts with its first byte.
    pub(super) fn arm(&mut self) {
        self.connection.expect_header();
        self.header_bytes = 0;
        self.scan = HeaderScan::default();
        self.body_bytes = 0;
        self.deadline = None;
    }

    /// Waits until the next request begins, or the end of the stream. Gives back memory first.
    pub(super) async fn idle(&mut self) -> io::Result<()> {
        if self.has_early() {
            return Ok(());
        }
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

    /// Waits until the client has closed its side, whatever it sent before.
    pub(super) async fn left(&self) {
        match &self.layer {
            Layer::Plain(transport) => transport.left().await,
            Layer::Tls(stream) => stream.get_ref().left().await,
        }
    }

    /// Whether bytes of a further request have arrived.
    pub(super) fn has_early(&self) -> bool {
        !self.early.is_empty()
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
        !self.connection.http2 && !self.connection.has_header()
    }

    fn stage(&self) -> Stage {
        if self.connection.http2 {
            return Stage::Unbounded;
        }
        if !self.connection.has_header() {
            return Stage::Header;
        }
        match self.connection.body() {
            None => Stage::Unbounded,
            Some(whole) if self.body_bytes < whole => Stage::Body,
            Some(_) => Stage::Over,
        }
    }

    fn poll_layer(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(transport) => Pin::new(transport).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    /// Reads of a header end with it, so that Pingora does not read into the next request.
    fn poll_header(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let admitted = if self.has_early() {
            self.header_of_early(buf)
        } else {
            let before = buf.filled().len();
            match self.poll_layer(cx, buf) {
                Poll::Ready(Ok(())) => self.header_of_read(buf, before),
                Poll::Pending => return self.poll_late(cx),
                error => return error,
            }
        };
        let Err(cause) = admitted else {
            return Poll::Ready(Ok(()));
        };
        self.fail(cause);
        let _ = self.poll_farewell(cx);
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }

    fn header_of_early(&mut self, buf: &mut ReadBuf<'_>) -> Result<(), &'static Cause> {
        let early = self.early.slice(..buf.remaining().min(self.early.len()));
        let taken = self.admit(&early)?;
        buf.put_slice(&self.early.split_to(taken));
        Ok(())
    }

    /// Takes back what was read too far. Few reads are; the others are not copied.
    fn header_of_read(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
    ) -> Result<(), &'static Cause> {
        let read = &buf.filled()[before..];
        let taken = self.admit(read)?;
        if taken < read.len() {
            self.early = Bytes::copy_from_slice(&read[taken..]);
            buf.set_filled(before + taken);
        }
        Ok(())
    }

    /// How many of these bytes are the header's, with what came with it of the body it announces.
    fn admit(&mut self, bytes: &[u8]) -> Result<usize, &'static Cause> {
        let is_first = self.header_bytes == 0;
        let end = self.scan.take(bytes)?;
        let header = end.unwrap_or(bytes.len());
        self.header_bytes += header;
        // The request line counts, too.
        if self.header_bytes > self.connection.listener.limits.header_bytes + 4096 {
            return Err(&causes::HEADER_TOO_LARGE);
        }
        let rest = bytes.len() - header;
        if rest == 0 || !is_first {
            return Ok(header);
        }
        let body = announced(&bytes[..header]).min(rest);
        self.body_bytes = body as u64;
        Ok(header + body)
    }

    /// Nothing to read: the header may take only so long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_deadline(cx));
        let cause = if self.header_bytes > 0 {
            &causes::HEADER_TIMEOUT
        } else {
            &causes::CONNECTION_TIMEOUT
        };
        self.connection.fail(cause);
        if self.header_bytes > 0 {
            self.fail(cause);
            let _ = self.poll_farewell(cx);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.has_early() {
            let taken = buf.remaining().min(self.early.len());
            // With the last of them the memory goes, too.
            buf.put_slice(&self.early.split_to(taken));
        } else {
            ready!(self.poll_layer(cx, buf))?;
        }
        self.body_bytes += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }

    /// The request is read. Pingora asks on only to hear of the client's leaving; bytes belong to the next request, and once
    /// there are any, whether the client leaves is found out when the answer is written.
    fn poll_over(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.has_early() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(self.poll_layer(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.early = Bytes::copy_from_slice(read);
        buf.set_filled(before);
        Poll::Pending
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
        self.connection.fail(cause);
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
        match this.stage() {
            Stage::Header => this.poll_header(cx, buf),
            Stage::Unbounded if !this.has_early() => this.poll_layer(cx, buf),
            Stage::Body | Stage::Unbounded => this.poll_body(cx, buf),
            Stage::Over => this.poll_over(cx, buf),
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
