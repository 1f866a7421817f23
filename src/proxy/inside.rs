//! What is carried inside mutual TLS, where it has to be looked at before it is known what it is.
//! It must not know what follows from it.
//! Made by `accept` of a connection whose caller is proven; read by `sniff`, then by whoever carries it on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use pingora::protocols::tls::SslStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::sniff::Look;
use super::transport::Transport;

/// A TLS stream with what was looked at put back before the rest.
pub(super) struct Inside {
    stream: SslStream<Transport>,
    seen: Vec<u8>,
    read: usize,
}

impl From<SslStream<Transport>> for Inside {
    fn from(stream: SslStream<Transport>) -> Inside {
        Inside {
            stream,
            seen: Vec::new(),
            read: 0,
        }
    }
}

impl Inside {
    /// The stream, and what was looked at of it.
    pub(super) fn into_parts(self) -> (SslStream<Transport>, Bytes) {
        (self.stream, self.seen.into())
    }

    /// The socket below.
    pub(super) fn transport(&self) -> &Transport {
        self.stream.get_ref()
    }
}

impl Look for Inside {
    async fn look(&mut self, most: usize) -> io::Result<Option<&[u8]>> {
        let have = self.seen.len();
        if have < most {
            self.seen.reserve((most - have).min(have.max(1024)));
            if self.stream.read_buf(&mut self.seen).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(&self.seen))
    }

    fn seen(&self) -> &[u8] {
        &self.seen
    }
}

impl AsyncRead for Inside {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = &this.seen[this.read..];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        this.read += taken;
        if this.read == this.seen.len() {
            this.seen = Vec::new();
            this.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Inside {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
