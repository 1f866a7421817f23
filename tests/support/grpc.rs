//! HTTP/2 peers: a gRPC-like service and a client, with trailers and streams in both directions.
//! It must not know the proxy, nor protobuf: messages are text.
//! Used by tests of gRPC and of HTTP/2 downstream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A service over HTTP/2 in the clear. The path's last part says what it does: `unary`, `server`, `client`, `bidi`, `missing`,
/// `held`, which holds the response's header back until the call has ended.
pub(crate) struct Grpc {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicU16>,
    calls: Arc<AtomicUsize>,
}

impl Grpc {
    pub(crate) fn start() -> Grpc {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (status, calls) = State::default();
        let of_service = (status.clone(), calls.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(accept(listener, of_service));
        });
        Grpc {
            address,
            status,
            calls,
        }
    }

    /// The status in the trailers of every call from now on.
    pub(crate) fn set_status(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    /// How many calls it saw.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

type State = (Arc<AtomicU16>, Arc<AtomicUsize>);

async fn accept(listener: std::net::TcpListener, state: State) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                state.1.fetch_add(1, SeqCst);
                tokio::spawn(serve(request, respond, state.0.clone()));
            }
        });
    }
}

async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    status: Arc<AtomicU16>,
) {
    let method = request.uri().path().rsplit('/').next().map(str::to_owned);
    let cookies = request.headers().get_all("cookie").iter().count();
    let mut body = request.into_body();
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("x-cookies", cookies);
    if method.as_deref() == Some("missing") {
        let head = head.header("grpc-status", "12").body(()).unwrap();
        let _ = respond.send_response(head, true);
        return;
    }
    if method.as_deref() == Some("held") && all(&mut body).await.is_none() {
        return;
    }
    let Ok(mut sending) = respond.send_response(head.body(()).unwrap(), false) else {
        return;
    };
    let sent = match method.as_deref() {
        Some("bidi") => echo(&mut body, &mut sending).await,
        Some("server") => repeat(&mut body, &mut sending).await,
        _ => collect(&mut body, &mut sending).await,
    };
    if sent.is_some() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.load(SeqCst).into());
        trailers.insert("x-checked", HeaderValue::from_static("yes"));
        let _ = sending.send_trailers(trailers);
    }
}

/// Each piece back as it comes.
async fn echo(body: &mut RecvStream, sending: &mut SendStream<Bytes>) -> Option<()> {
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        let _ = body.flow_control().release_capacity(piece.len());
        sending.send_data(piece, false).ok()?;
    }
    Some(())
}

/// The message three times, as three messages.
async fn repeat(body: &mut RecvStream, sending: &mut SendStream<Bytes>) -> Option<()> {
    let message = all(body).await?;
    for _ in 0..3 {
        sending.send_data(message.clone(), false).ok()?;
        tokio::task::yield_now().await;
    }
    Some(())
}

/// Everything back at once.
async fn collect(body: &mut RecvStream, sending: &mut SendStream<Bytes>) -> Option<()> {
    let message = all(body).await?;
    sending.send_data(message, false).ok()
}

/// Reads a body to its end.
pub(crate) async fn all(body: &mut RecvStream) -> Option<Bytes> {
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        let _ = body.flow_control().release_capacity(piece.len());
        whole.extend_from_slice(&piece);
    }
    Some(whole.into())
}

/// A message with its prefix.
pub(crate) fn frame(text: &str) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend(text.bytes());
    frame.into()
}

/// A client on one connection.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("connects");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Client { sender }
    }

    /// Sends a header whose body is still to come.
    pub(crate) async fn open(
        &self,
        request: Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        sender.send_request(request, false)
    }

    /// Sends a whole request and reads the whole reply, with its trailers.
    pub(crate) async fn ask(&self, request: Request<()>, body: Bytes) -> Result<Whole, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (reply, mut sending) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(body, true)?;
        }
        let (head, mut body) = reply.await?.into_parts();
        let mut whole = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            whole.extend_from_slice(&piece);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok(Whole {
            head,
            body: whole,
            trailers,
        })
    }
}

/// A reply read to its end.
pub(crate) struct Whole {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Whole {
    /// A field of the trailers, else of the header.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let value = self.trailers.get(name).or(self.head.headers.get(name));
        value.and_then(|value| value.to_str().ok())
    }
}

/// The header of a gRPC call.
pub(crate) fn call(method: &str) -> Request<()> {
    Request::post(format!("http://test/demo.Echo/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}
