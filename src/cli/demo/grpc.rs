//! A gRPC service that sends every message of a call back and says that it is well, and a client's call for checking it.
//! It must not know what messages say.
//! Started by `services`; `check` calls it through the proxy.

use std::io;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{client, server, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::net::TcpStream;

/// Serves one connection; calls run beside each other.
pub(super) async fn serve(stream: TcpStream) -> io::Result<()> {
    let mut connection = server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(call) = connection.accept().await {
        let (request, answer) = call.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // A call that its client gave up concerns nobody else.
            let _ = respond(request, answer).await;
        });
    }
    Ok(())
}

async fn respond(
    request: Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let is_health = request.uri().path() == "/grpc.health.v1.Health/Check";
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", GRPC);
    let mut send = answer.send_response(head, false)?;
    let mut body = request.into_body();
    let mut first = true;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        match is_health {
            true if first => send.send_data(Bytes::from_static(SERVING), false)?,
            true => {}
            false => send.send_data(piece, false)?,
        }
        first = false;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers)
}

/// Calls through the port and returns the text that came back, and the status in the trailers.
pub(super) async fn call(port: u16, text: &str) -> io::Result<(String, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (client, connection) = client::handshake(stream).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    exchange(client, port, text).await.map_err(io::Error::other)
}

async fn exchange(
    client: client::SendRequest<Bytes>,
    port: u16,
    text: &str,
) -> Result<(String, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = client.ready().await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://grpc.localhost:{port}/demo.Echo/Say"))
        .header("content-type", GRPC)
        .header("te", "trailers")
        .body(())?;
    let (answer, mut send) = client.send_request(request, false)?;
    let mut message = vec![0];
    message.extend(u32::try_from(text.len())?.to_be_bytes());
    message.extend(text.as_bytes());
    send.send_data(message.into(), true)?;
    let mut body = answer.await?.into_body();
    let mut echo = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        echo.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = trailers.get("grpc-status").map(HeaderValue::to_str);
    let status = status.transpose()?.unwrap_or_default().to_owned();
    let echo = echo.get(PREFIX..).unwrap_or_default();
    Ok((String::from_utf8_lossy(echo).into_owned(), status))
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// A flag and the length before each message.
const PREFIX: usize = 5;
/// `HealthCheckResponse { status: SERVING }`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_comes_back_with_its_status() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });

        let (echo, status) = call(port, "hello").await.unwrap();

        assert_eq!((&*echo, &*status), ("hello", "0"));
    }
}
