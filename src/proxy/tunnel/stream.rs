//! A tunnel: the bytes of one HTTP/2 CONNECT stream, as a socket is read and written.
//! It must not know who opened it or what it carries.
//! Made by both ends of HBONE, `client` and `server`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::trunk::Place;
use crate::snapshot::identity::Proof;

/// Bytes given to HTTP/2 in one piece: one frame of the size both ends of HBONE usually allow.
const PIECE: usize = 16 * 1024;

/// One CONNECT stream.
pub(in crate::proxy) struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Received, and not read yet: no more than one frame.
    rest: Bytes,
    read_ended: bool,
    write_ended: bool,
    /// Whether the first read after a write waits one turn; see `dial::Unhurried`.
    is_unhurried: bool,
    wrote: bool,
    /// On a shared connection, the place this stream takes until it is dropped.
    _place: Option<Place>,
    /// What the node at the other end of that connection proved itself with.
    proof: Option<Arc<Proof>>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({:?})", self.receive.stream_id())
    }
}

impl Tunnel {
    /// The two halves of a stream whose CONNECT was accepted.
    pub(in crate::proxy) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Tunnel {
        Tunnel {
            send,
            receive,
            rest: Bytes::new(),
            read_ended: false,
            write_ended: false,
            is_unhurried: false,
            wrote: false,
            _place: None,
            proof: None,
        }
    }

    /// For an upgrade: the first read after a write waits one turn.
    pub(super) fn unhurried(self, is_unhurried: bool) -> Tunnel {
        Tunnel {
            is_unhurried,
            ..self
        }
    }

    /// Keeps a place on a shared connection, whose node proved itself with this, until it is dropped.
    pub(super) fn holding(self, place: Place, proof: Option<Arc<Proof>>) -> Tunnel {
        Tunnel {
            _place: Some(place),
            proof,
            ..self
        }
    }

    /// What the node at the other end proved itself with.
    pub(in crate::proxy) fn proof(&self) -> Option<&Arc<Proof>> {
        self.proof.as_ref()
    }

    /// Waits until bytes, or the end, can be read without waiting.
    pub(in crate::proxy) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.read_ended {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(piece)) => self.rest = piece,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => self.read_ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the other end has closed or reset the stream; bytes it sent before stay to be read.
    pub(in crate::proxy) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_ended {
            return Poll::Pending;
        }
        match ready!(self.send.poll_reset(cx)) {
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    fn write_piece(&mut self, bytes: &[u8], most: usize) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(most).min(PIECE)];
        self.send
            .send_data(Bytes::copy_from_slice(piece), false)
            .map_err(broken)?;
        Ok(piece.len())
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_unhurried && std::mem::take(&mut self.wrote) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_readable(cx))?;
        let taken = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..taken]);
        self.rest.advance(taken);
        // Only what was read makes room for more, so a reader that is slow bounds what its peer may send.
        match taken {
            0 => Poll::Ready(Ok(())),
            taken => {
                let released = self.receive.flow_control().release_capacity(taken);
                Poll::Ready(released.map_err(broken))
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(bytes.len().min(PIECE));
        let mut most = self.send.capacity();
        while most == 0 {
            most = match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(capacity)) => capacity,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        self.wrote = true;
        Poll::Ready(self.write_piece(bytes, most))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes what was handed to it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.write_ended, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

/// As Pingora takes a stream that has no socket of its own.
impl VirtualSocket for Tunnel {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

/// What an error of the stream is for who reads and writes it.
fn broken(error: h2::Error) -> io::Error {
    let kind = match error.reason() {
        Some(Reason::NO_ERROR | Reason::CANCEL) => io::ErrorKind::ConnectionAborted,
        Some(_) => io::ErrorKind::ConnectionReset,
        None => match error.get_io() {
            Some(inner) => inner.kind(),
            None => io::ErrorKind::BrokenPipe,
        },
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Both ends of one tunnel over a connection in memory.
    async fn pair() -> (Tunnel, Tunnel) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accepted = tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let (request, mut respond) = server.accept().await.unwrap().unwrap();
            let send = respond.send_response(Response::new(()), false).unwrap();
            tokio::spawn(async move { while server.accept().await.is_some() {} });
            Tunnel::new(send, request.into_body())
        });
        let (mut client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("10.0.0.1:80")
            .body(())
            .unwrap();
        let (answer, send) = client.send_request(request, false).unwrap();
        let receive = answer.await.unwrap().into_body();
        (Tunnel::new(send, receive), accepted.await.unwrap())
    }

    #[tokio::test]
    async fn more_than_a_window_goes_through_and_each_side_ends_by_itself() {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            answer
        });

        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        far.write_all(b"heard").await.unwrap();
        far.shutdown().await.unwrap();

        assert_eq!(received, expected);
        assert_eq!(writing.await.unwrap(), b"heard");
    }

    #[tokio::test]
    async fn a_tunnel_that_is_dropped_is_an_error_at_the_other_end() {
        let (near, mut far) = pair().await;

        drop(near);

        let error = far.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
