//! The socket under every downstream connection: bytes put back after sniffing, a small write buffer, counts.
//! It must not know protocols.
//! TLS and HTTP run on top of it; it replaces Pingora's buffered stream, whose read buffer costs 64 KiB a connection.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::line;
use super::sniff::Look;
use super::tunnel::Tunnel;
use crate::snapshot::incoming::Socket;

/// Writes below this are gathered until a flush, so that a small header and body leave in one packet.
const GATHER: usize = 1460;
/// How often to look whether the other side has closed while bytes of it wait to be read.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

thread_local! {
    /// The buffer that a connection of this thread needed last, at most `GATHER * 2`: the next that writes takes it over.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What bytes come from and go to.
enum Under {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Behind a lock because waiting changes it; nobody waits and reads at a time, so it is always free.
    Tunnel(Box<Mutex<Tunnel>>),
}

impl From<Socket> for Under {
    fn from(socket: Socket) -> Under {
        match socket {
            Socket::Tcp(socket) => Under::Tcp(socket),
            Socket::Unix(socket) => Under::Unix(socket),
        }
    }
}

/// A downstream socket.
pub(super) struct Transport {
    socket: Under,
    prefix: Vec<u8>,
    prefix_read: usize,
    pending: Vec<u8>,
    pending_written: usize,
    digest: Arc<SocketDigest>,
    /// Bytes read from the socket.
    pub(super) received: u64,
    /// Bytes written to the socket.
    pub(super) sent: u64,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport(fd {})", self.id())
    }
}

impl Transport {
    /// Wraps a socket; `peer` is what Pingora reports as the client.
    pub(super) fn new(socket: Socket, peer: SocketAddr, local: SocketAddr) -> Transport {
        Transport::over(socket.into(), peer, local)
    }

    /// Wraps a tunnel: a connection that has no socket of its own.
    pub(super) fn tunnel(tunnel: Tunnel, peer: SocketAddr, local: SocketAddr) -> Transport {
        Transport::over(Under::Tunnel(Box::new(Mutex::new(tunnel))), peer, local)
    }

    fn over(socket: Under, peer: SocketAddr, local: SocketAddr) -> Transport {
        let digest = SocketDigest::from_raw_fd(raw_fd(&socket));
        // The cells are fresh, so setting them cannot fail.
        let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
        let _ = digest.local_addr.set(Some(PingoraAddr::Inet(local)));
        Transport {
            socket,
            prefix: Vec::new(),
            prefix_read: 0,
            pending: Vec::new(),
            pending_written: 0,
            digest: Arc::new(digest),
            received: 0,
            sent: 0,
        }
    }

    /// Whether it is a tunnel.
    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.socket, Under::Tunnel(_))
    }

    /// Consumes bytes that were looked at.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.prefix.drain(..bytes.min(self.prefix.len()));
    }

    /// Reports another client and local address from now on.
    pub(super) fn set_addresses(&mut self, peer: SocketAddr, local: SocketAddr) {
        let digest = SocketDigest::from_raw_fd(raw_fd(&self.socket));
        let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
        let _ = digest.local_addr.set(Some(PingoraAddr::Inet(local)));
        self.digest = Arc::new(digest);
    }

    /// Waits until bytes or the end of the stream can be read, holding nothing but the socket.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.prefix_read < self.prefix.len() {
            return Ok(());
        }
        // The socket's one place for a reader, which nobody else uses meanwhile: `readable` would enter a list for each wait.
        poll_fn(|cx| match &self.socket {
            Under::Tcp(socket) => socket.poll_read_ready(cx),
            Under::Unix(socket) => socket.poll_read_ready(cx),
            Under::Tunnel(tunnel) => lock(tunnel).poll_readable(cx),
        })
        .await
    }

    /// Waits until the other side has closed, reading nothing. Bytes that nobody reads yet would wake at once again and
    /// again, so then it looks now and then.
    pub(super) async fn left(&self) {
        loop {
            let ready = match &self.socket {
                Under::Tcp(socket) => socket.ready(Interest::READABLE).await,
                Under::Unix(socket) => socket.ready(Interest::READABLE).await,
                Under::Tunnel(tunnel) => {
                    return poll_fn(|cx| lock(tunnel).poll_left(cx)).await;
                }
            };
            if !ready.is_ok_and(|ready| !ready.is_read_closed()) {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the other side is gone: it reset the connection, or its tunnel ended. That it says no more is not enough.
    pub(super) async fn gone(&self) {
        let broken = match &self.socket {
            Under::Tcp(socket) => socket.ready(Interest::ERROR).await,
            Under::Unix(socket) => socket.ready(Interest::ERROR).await,
            Under::Tunnel(tunnel) => {
                return poll_fn(|cx| lock(tunnel).poll_left(cx)).await;
            }
        };
        // What is wrong with it shows when it is read.
        drop(broken);
    }

    /// Lets the other side see a reset instead of an end. A tunnel that is dropped before its end does so by itself.
    pub(super) fn reset(&self) {
        if let Under::Tcp(socket) = &self.socket {
            line::reset(socket);
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending_written < self.pending.len() {
            let rest = &self.pending[self.pending_written..];
            let written = ready!(poll_socket_write(&mut self.socket, cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending_written += written;
            self.sent += written as u64;
        }
        self.pending_written = 0;
        if self.pending.capacity() > GATHER * 2 {
            self.pending = Vec::new();
        } else {
            self.pending.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// All at once: growing with the header and again with the body costs more.
    fn make_room(&mut self) {
        if self.pending.capacity() == 0 {
            self.pending = SPARE.take();
            self.pending.reserve_exact(GATHER);
        }
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.pending.is_empty() {
            let unused = std::mem::take(&mut self.pending);
            if unused.capacity() >= GATHER {
                SPARE.set(unused);
            }
        }
        if self.prefix_read >= self.prefix.len() {
            self.prefix = Vec::new();
            self.prefix_read = 0;
        }
    }
}

impl Look for Transport {
    async fn look(&mut self, most: usize) -> io::Result<Option<&[u8]>> {
        let have = self.prefix.len();
        if have < most {
            self.prefix.reserve((most - have).min(have.max(1024)));
            let read = match &mut self.socket {
                Under::Tcp(socket) => socket.read_buf(&mut self.prefix).await?,
                Under::Unix(socket) => socket.read_buf(&mut self.prefix).await?,
                Under::Tunnel(tunnel) => bare(tunnel).read_buf(&mut self.prefix).await?,
            };
            self.received += read as u64;
            if read == 0 {
                return Ok(None);
            }
        }
        Ok(Some(&self.prefix))
    }

    fn seen(&self) -> &[u8] {
        &self.prefix[self.prefix_read..]
    }
}

fn bare(tunnel: &mut Mutex<Tunnel>) -> &mut Tunnel {
    tunnel.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn lock(tunnel: &Mutex<Tunnel>) -> MutexGuard<'_, Tunnel> {
    tunnel.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raw_fd(socket: &Under) -> i32 {
    match socket {
        Under::Tcp(socket) => socket.as_raw_fd(),
        Under::Unix(socket) => socket.as_raw_fd(),
        Under::Tunnel(_) => -1,
    }
}

fn poll_socket_write(
    socket: &mut Under,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match socket {
        Under::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
        Under::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        Under::Tunnel(tunnel) => Pin::new(bare(tunnel)).poll_write(cx, bytes),
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = &this.prefix[this.prefix_read..];
        if !left.is_empty() {
            let taken = left.len().min(buf.remaining());
            buf.put_slice(&left[..taken]);
            this.prefix_read += taken;
            if this.prefix_read == this.prefix.len() {
                this.prefix = Vec::new();
                this.prefix_read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match &mut this.socket {
            Under::Tcp(socket) => ready!(Pin::new(socket).poll_read(cx, buf))?,
            Under::Unix(socket) => ready!(Pin::new(socket).poll_read(cx, buf))?,
            Under::Tunnel(tunnel) => ready!(Pin::new(bare(tunnel)).poll_read(cx, buf))?,
        }
        this.received += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.pending.len() + bytes.len() <= GATHER {
            this.make_room();
            this.pending.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(this.poll_drain(cx))?;
        let written = ready!(poll_socket_write(&mut this.socket, cx, bytes))?;
        this.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        match &mut self.socket {
            Under::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Under::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Under::Tunnel(tunnel) => Pin::new(bare(tunnel)).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if this.pending.len() + total <= GATHER {
            this.make_room();
            slices
                .iter()
                .for_each(|slice| this.pending.extend_from_slice(slice));
            return Poll::Ready(Ok(total));
        }
        ready!(this.poll_drain(cx))?;
        let written = match &mut this.socket {
            Under::Tcp(socket) => ready!(Pin::new(socket).poll_write_vectored(cx, slices))?,
            Under::Unix(socket) => ready!(Pin::new(socket).poll_write_vectored(cx, slices))?,
            Under::Tunnel(tunnel) => {
                ready!(Pin::new(bare(tunnel)).poll_write_vectored(cx, slices))?
            }
        };
        this.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Transport {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            log::debug!("socket shutdown: {error}");
        }
    }
}

impl UniqueID for Transport {
    fn id(&self) -> i32 {
        raw_fd(&self.socket)
    }
}

impl Ssl for Transport {}

impl Peek for Transport {}

impl GetTimingDigest for Transport {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Transport {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Transport {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}
