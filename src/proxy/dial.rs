//! Connections to endpoints that Pingora's own connector cannot make: those that begin with a PROXY header, and those for
//! upgrades.
//! It must not know which endpoint was chosen or why.
//! `upstream` puts a [`Dial`] into the peer of such an attempt.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;

use crate::snapshot::incoming::Socket;
use crate::snapshot::own;

/// How to connect.
#[derive(Debug)]
pub(super) struct Dial {
    /// Bytes to send first.
    pub(super) header: Vec<u8>,
    /// Time for the connection and those bytes.
    pub(super) timeout: Duration,
    /// Whether the connection is for an upgrade; see [`Unhurried`].
    pub(super) upgrade: bool,
}

#[async_trait]
impl Connect for Dial {
    async fn connect(&self, address: &PingoraAddr) -> Result<Stream> {
        match tokio::time::timeout(self.timeout, self.socket(address)).await {
            Err(_) => Error::e_explain(ErrorType::ConnectTimedout, "while dialling"),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Error::e_because(ErrorType::ConnectRefused, "while dialling", error)
            }
            Ok(socket) => {
                let socket = socket.or_err(ErrorType::ConnectError, "while dialling")?;
                Ok(match (self.upgrade, socket) {
                    (true, socket) => VirtualSocketStream::new(Box::new(Unhurried {
                        socket,
                        wrote: false,
                    }))
                    .into(),
                    (false, Socket::Tcp(socket)) => socket.into(),
                    (false, Socket::Unix(socket)) => socket.into(),
                })
            }
        }
    }
}

impl Dial {
    async fn socket(&self, address: &PingoraAddr) -> io::Result<Socket> {
        match address {
            PingoraAddr::Inet(address) => {
                let mut socket = own::connect(*address).await?;
                socket.set_nodelay(true)?;
                socket.write_all(&self.header).await?;
                Ok(Socket::Tcp(socket))
            }
            PingoraAddr::Unix(path) => {
                let path = path.as_pathname().ok_or(io::ErrorKind::InvalidInput)?;
                let mut socket = UnixStream::connect(path).await?;
                socket.write_all(&self.header).await?;
                Ok(Socket::Unix(socket))
            }
        }
    }
}

/// A socket whose first read after a write always waits one turn.
///
/// Pingora 0.9.1 passes the end of an upgrade request's empty body to the upstream side through a channel. If the 101 is
/// read before that end is taken from the channel, the end is mistaken for that of the upgraded stream, and the stream is
/// cut at once. An endpoint on the same host is fast enough for that. One turn is all the channel needs: when the socket
/// is first asked, the end is already in it.
struct Unhurried {
    socket: Socket,
    wrote: bool,
}

impl std::fmt::Debug for Unhurried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unhurried")
    }
}

impl VirtualSocket for Unhurried {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match (option, &self.socket) {
            (VirtualSockOpt::NoDelay, Socket::Tcp(socket)) => socket.set_nodelay(true),
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Unhurried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Unhurried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wrote = true;
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
