//! A WebSocket service (RFC 6455) that sends every message back, and the client's half for checking it.
//! It must not know what messages say.
//! Started by `services`; `check` speaks to it through the proxy.

use std::io::{Error, ErrorKind, Result};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::wire::Head;

/// A piece of a message, or a control message.
pub(super) struct Frame {
    /// The first byte: whether it is the last piece, and the opcode.
    first: u8,
    payload: Vec<u8>,
}

/// Serves one connection.
pub(super) async fn serve(stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(head) = Head::read(&mut stream).await? else {
        return Ok(());
    };
    let Some(key) = head.field("sec-websocket-key") else {
        let body = "this service speaks WebSocket only\n";
        let answer = format!(
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        return stream.write_all(answer.as_bytes()).await;
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    );
    stream.write_all(answer.as_bytes()).await?;
    loop {
        let mut frame = Frame::read(&mut stream).await?;
        let opcode = frame.first & OPCODE;
        match opcode {
            PONG => continue,
            PING => frame.first = LAST | PONG,
            _ => {}
        }
        stream.write_all(&frame.bytes(None)).await?;
        stream.flush().await?;
        if opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
}

/// What the server must answer to a client's key (section 4.2.2).
pub(super) fn accept(key: &str) -> String {
    let digest =
        openssl::sha::sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    STANDARD.encode(digest)
}

impl Frame {
    /// A whole text message.
    pub(super) fn text(text: &str) -> Frame {
        Frame {
            first: LAST | TEXT,
            payload: text.into(),
        }
    }

    /// The payload as text.
    pub(super) fn as_text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Reads a frame, masked or not.
    pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Frame> {
        let first = reader.read_u8().await?;
        let second = reader.read_u8().await?;
        let length = match second & LENGTH {
            126 => u64::from(reader.read_u16().await?),
            127 => reader.read_u64().await?,
            short => u64::from(short),
        };
        if length > LONGEST {
            return Err(Error::new(ErrorKind::InvalidData, "a frame is too long"));
        }
        let mut mask = [0; 4];
        if second & MASKED != 0 {
            reader.read_exact(&mut mask).await?;
        }
        let mut payload = vec![0; length as usize];
        reader.read_exact(&mut payload).await?;
        apply(mask, &mut payload);
        Ok(Frame { first, payload })
    }

    /// The frame as sent: servers send without a mask, clients with one (section 5.3).
    pub(super) fn bytes(&self, mask: Option<[u8; 4]>) -> Vec<u8> {
        let masked = if mask.is_some() { MASKED } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            short @ 0..=125 => bytes.push(masked | short as u8),
            middle @ 126..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend((middle as u16).to_be_bytes());
            }
            long => {
                bytes.push(masked | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        let mut payload = self.payload.clone();
        if let Some(mask) = mask {
            bytes.extend(mask);
            apply(mask, &mut payload);
        }
        bytes.extend(payload);
        bytes
    }
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

const LAST: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LONGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[tokio::test]
    async fn frames_of_every_length_survive_masking() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let sent = Frame::text(&"x".repeat(length)).bytes(Some([1, 2, 3, 4]));

            let read = Frame::read(&mut &sent[..]).await.unwrap();

            assert_eq!(read.as_text().len(), length);
            assert!(read.payload.iter().all(|byte| *byte == b'x'));
        }
    }
}
