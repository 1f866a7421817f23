//! How endpoints are asked with the gRPC health protocol: `grpc.health.v1.Health/Check`, only SERVING is healthy.
//! It must not know gRPC beyond that one call; its two messages are small enough to write by hand.
//! Called by `health`.

use async_trait::async_trait;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use pingora::protocols::ALPN;
use pingora::{ErrorType, OrErr, Result};
use pingora_load_balancing::health_check::HealthCheck;
use pingora_load_balancing::Backend;

use super::probe::{unhealthy, Line, AGENT};

/// Asks with the gRPC health protocol.
pub(super) struct GrpcCheck {
    line: Line,
    message: Bytes,
}

impl GrpcCheck {
    pub(super) fn new(line: Line, service: &str) -> GrpcCheck {
        GrpcCheck {
            line,
            message: encode(service),
        }
    }

    fn request(&self, target: &Backend) -> Result<Request<()>> {
        let scheme = if self.line.is_tls() { "https" } else { "http" };
        let host = self.line.host(target);
        Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", AGENT)
            .body(())
            .or_err(ErrorType::InvalidHTTPHeader, "the request")
    }
}

#[async_trait]
impl HealthCheck for GrpcCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let request = self.request(target)?;
        let stream = self.line.connect(target).await?;
        if self.line.is_tls() && stream.selected_alpn_proto() != Some(ALPN::H2) {
            return unhealthy("it does not agree to HTTP/2".into());
        }
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(MAX_ANSWER as u32)
            .max_header_list_size(MAX_HEADER)
            .enable_push(false)
            .handshake::<_, Bytes>(stream)
            .await
            .or_err(ErrorType::H2Error, "")?;
        let exchange = exchange(send, request, self.message.clone());
        tokio::pin!(exchange);
        // The connection must be driven, but its end may come in the same moment as the answer, which then counts.
        let answer = tokio::select! {
            biased;
            answer = &mut exchange => answer?,
            _ = connection => exchange.await?,
        };
        match answer.as_deref().map(decode) {
            Ok(Ok(SERVING)) => Ok(()),
            Ok(Ok(status)) => unhealthy(format!("status {}", word(status))),
            Ok(Err(problem)) => unhealthy(format!("its answer is malformed: {problem}")),
            Err(problem) => unhealthy(problem.clone()),
        }
    }

    fn health_threshold(&self, passed: bool) -> usize {
        self.line.threshold(passed)
    }
}

/// The body of a call that succeeded, or why it did not.
async fn exchange(
    send: SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<Result<Vec<u8>, String>> {
    let broken = |error: h2::Error| pingora::Error::because(ErrorType::H2Error, "", error);
    let mut send = send.ready().await.map_err(broken)?;
    let (answer, mut body) = send.send_request(request, false).map_err(broken)?;
    body.send_data(message, true).map_err(broken)?;
    let (head, mut body) = answer.await.map_err(broken)?.into_parts();
    if head.status != http::StatusCode::OK {
        return Ok(Err(format!("HTTP status {}", head.status.as_u16())));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(broken)?;
        if bytes.len() + piece.len() > MAX_ANSWER {
            return Ok(Err("its answer is too long".into()));
        }
        body.flow_control()
            .release_capacity(piece.len())
            .map_err(broken)?;
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.map_err(broken)?;
    // A call that fails at once has its status in the only header block.
    let trailers = trailers.as_ref().unwrap_or(&head.headers);
    Ok(grpc_status(trailers).map(|()| bytes))
}

fn grpc_status(fields: &HeaderMap) -> Result<(), String> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some("5") => Err("gRPC status 5: the service is unknown to it".into()),
        Some("12") => Err("gRPC status 12: it does not implement health checks".into()),
        Some(status) => {
            let status: String = status.chars().take(8).collect();
            Err(format!("gRPC status {status}"))
        }
        None => Err("no gRPC status".into()),
    }
}

/// A `HealthCheckRequest`, with gRPC's frame around it: not compressed, length, message.
fn encode(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE_KEY);
        varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// The status in a framed `HealthCheckResponse`.
fn decode(body: &[u8]) -> Result<u64, &'static str> {
    let (head, message) = body.split_at_checked(5).ok_or("no message")?;
    if head[0] != 0 {
        return Err("a compressed message");
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if message.len() as u64 != u64::from(length) {
        return Err("a length that is not the message's");
    }
    status(message)
}

/// The field `status` of a `HealthCheckResponse`; other fields are skipped, of several the last counts, none means 0.
fn status(message: &[u8]) -> Result<u64, &'static str> {
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let skipped = match key & 7 {
            0 => {
                let value = take_varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => take_varint(&mut rest)?,
            5 => 4,
            _ => return Err("a field of unknown type"),
        };
        let skipped = usize::try_from(skipped).map_err(|_| "a field that is too long")?;
        rest = rest.get(skipped..).ok_or("a field that ends too early")?;
    }
    Ok(status)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for at in 0..10 {
        let (byte, after) = rest.split_first().ok_or("a number that ends too early")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number that is too long")
}

fn word(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "of no known meaning",
    }
}

const SERVING: u64 = 1;
/// Field 1, of type bytes.
const SERVICE_KEY: u8 = 1 << 3 | 2;
const MAX_ANSWER: usize = 64 << 10;
const MAX_HEADER: u32 = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_framed_protobuf() {
        assert_eq!(&*encode(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*encode("web"), b"\0\0\0\0\x05\x0a\x03web");
        assert_eq!(&encode(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn the_status_is_found_among_other_fields() {
        assert_eq!(decode(b"\0\0\0\0\x02\x08\x01"), Ok(SERVING));
        assert_eq!(decode(b"\0\0\0\0\0"), Ok(0));
        assert_eq!(
            status(b"\x12\x02ab\x08\x02\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0"),
            Ok(2)
        );
        assert_eq!(status(b"\x08\x01\x08\x02"), Ok(2));
    }

    #[test]
    fn malformed_answers_are_refused() {
        assert!(decode(b"").is_err());
        assert!(decode(b"\x01\0\0\0\0").is_err());
        assert!(decode(b"\0\0\0\0\x09\x08\x01").is_err());
        assert!(status(b"\x08").is_err());
        assert!(status(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_err());
        assert!(status(&[0xff; 11]).is_err());
        assert!(status(b"\x0b").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
            let _ = status(&bytes);
        }

        #[test]
        fn every_status_survives_the_wire(value in any::<u64>()) {
            let mut message = vec![0x08];
            varint(value, &mut message);
            prop_assert_eq!(status(&message), Ok(value));
        }
    }
}
