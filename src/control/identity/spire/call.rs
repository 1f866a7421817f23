//! One call of the Workload API: gRPC over HTTP/2 without TLS, as far as a stream of one kind of message needs it.
//! It must not know what is in a message.
//! Used by `spire`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{Ping, PingPong, RecvStream};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroize;

use super::message::X509SvidResponse;
use crate::control::pools::Task;
use crate::snapshot::identity::SpireSocket;
use crate::snapshot::own;

/// A stream of messages.
pub(super) struct Stream {
    body: RecvStream,
    /// What came of the next message.
    part: BytesMut,
    /// Held, not read: drives the connection.
    _task: Task,
}

/// Why a stream is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Another one may go better.
    Later(String),
    /// Another one would go the same way.
    Never(String),
}

impl Stream {
    /// Calls.
    pub(super) async fn open(socket: &SpireSocket) -> Result<Stream, Ended> {
        let opened = timeout(PATIENCE, async {
            match socket {
                SpireSocket::Unix(path) => over(UnixStream::connect(path).await).await,
                SpireSocket::Tcp(address) => over(own::connect(*address).await).await,
            }
        });
        opened
            .await
            .unwrap_or_else(|_| Err(later("no answer in time")))
    }

    /// The next message; there is none until something changes.
    pub(super) async fn next(&mut self) -> Result<X509SvidResponse, Ended> {
        loop {
            if let Some(message) = taken(&mut self.part)? {
                return Ok(message);
            }
            match self.body.data().await {
                Some(Ok(piece)) => {
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    extend(&mut self.part, &piece);
                }
                Some(Err(error)) => return Err(later(error)),
                None => {
                    let trailers = self.body.trailers().await.map_err(later)?;
                    return Err(status(&trailers.unwrap_or_default()));
                }
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A key may be among what was not decoded.
        self.part.zeroize_all();
    }
}

/// `BytesMut` has no `Zeroize`.
trait ZeroizeAll {
    fn zeroize_all(&mut self);
}

impl ZeroizeAll for BytesMut {
    fn zeroize_all(&mut self) {
        self.as_mut().zeroize();
        self.clear();
    }
}

/// A key may be among the bytes: what is left behind when they move to a larger buffer is cleared.
fn extend(part: &mut BytesMut, piece: &[u8]) {
    let needed = part.len() + piece.len();
    if part.capacity() < needed {
        let mut larger = BytesMut::with_capacity(needed.next_power_of_two());
        larger.extend_from_slice(part);
        part.zeroize_all();
        *part = larger;
    }
    part.extend_from_slice(piece);
}

async fn over<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: std::io::Result<T>,
) -> Result<Stream, Ended> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(LARGEST as u32)
        .max_header_list_size(16 << 10)
        .enable_push(false);
    let (send, mut connection) = builder
        .handshake::<_, Bytes>(stream.map_err(later)?)
        .await
        .map_err(later)?;
    let pings = connection.ping_pong();
    let task = Task::spawn(async move {
        // Whichever ends first drops the connection, and with it the stream.
        tokio::select! {
            _ = connection => {}
            () = answers(pings) => {}
        }
    });
    let mut send = send.ready().await.map_err(later)?;
    let request = Request::post("http://localhost/SpiffeWorkloadAPI/FetchX509SVID")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "windrose")
        .header("workload.spiffe.io", "true")
        .body(())
        .map_err(later)?;
    let (answer, mut body) = send.send_request(request, false).map_err(later)?;
    // The request has no fields: a frame of an empty message.
    body.send_data(Bytes::from_static(&[0; 5]), true)
        .map_err(later)?;
    let (head, body) = answer.await.map_err(later)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(later(format!("HTTP status {}", head.status.as_u16())));
    }
    // A call that fails at once has its status in the only header block.
    match head.headers.contains_key("grpc-status") {
        true => Err(status(&head.headers)),
        false => Ok(Stream {
            body,
            part: BytesMut::new(),
            _task: task,
        }),
    }
}

/// For as long as the other side answers pings: the stream is silent for hours, and an agent may hang.
async fn answers(pings: Option<PingPong>) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(PING).await;
        let answer = timeout(PATIENCE, pings.ping(Ping::opaque())).await;
        if !matches!(answer, Ok(Ok(_))) {
            return;
        }
    }
}

/// A whole message, if it is there: not compressed, length, bytes.
fn taken(part: &mut BytesMut) -> Result<Option<X509SvidResponse>, Ended> {
    let Some(&[compressed, a, b, c, d]) = part.first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err(later("a compressed message"));
    }
    if length > LARGEST {
        return Err(later(format!(
            "a message of {length} bytes; {LARGEST} are the most"
        )));
    }
    if part.len() < 5 + length {
        return Ok(None);
    }
    let mut frame = part.split_to(5 + length);
    let message = X509SvidResponse::decode(&frame[5..]);
    frame.zeroize_all();
    message.map(Some).map_err(later)
}

/// The words of gRPC's status codes that matter here.
fn status(fields: &HeaderMap) -> Ended {
    let code = fields
        .get("grpc-status")
        .and_then(|value| value.to_str().ok());
    let said = fields
        .get("grpc-message")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    match code {
        Some("3") => Ended::Never(format!("InvalidArgument: {said}")),
        Some("12") => Ended::Never(format!("Unimplemented: {said}")),
        Some("7") => later(format!(
            "PermissionDenied: {said} (often: not registered yet)"
        )),
        Some("14") => later(format!("Unavailable: {said}")),
        Some("0") => later("the stream ended"),
        Some(code) => later(format!(
            "gRPC status {}: {said}",
            code.chars().take(8).collect::<String>()
        )),
        None => later("the stream ended without a status"),
    }
}

fn later(problem: impl std::fmt::Display) -> Ended {
    Ended::Later(problem.to_string())
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Servers of gRPC end connections that ping more often than every five minutes.
const PING: Duration = Duration::from_secs(330);
const LARGEST: usize = 4 << 20;
