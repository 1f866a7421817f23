//! Byte services and WebSocket peers, for streams that outlive a request.
//! It must not know the proxy.
//! Used by tests of tunnels, upgrades and reloads.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use super::client::Conn;
use super::upstream::Upstream;
use super::wait::pause;

/// A TCP service that sends back what it gets, and ends its half only when the client has ended the other.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Echo {
        Echo::greeting(b"")
    }

    /// Speaks first.
    pub(crate) fn greeting(words: &'static [u8]) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || echo(stream, words));
            }
        });
        Echo { address }
    }

    /// An HTTP service on a Unix socket, answering one request per connection.
    pub(crate) fn unix_http(path: &Path, text: &'static str) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let length = text.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
                );
            }
        });
    }
}

fn echo(mut stream: TcpStream, words: &[u8]) {
    if stream.write_all(words).is_err() {
        return;
    }
    let mut piece = [0; 16 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                if stream.write_all(&piece[..read]).is_err() {
                    return;
                }
            }
        }
    }
    let _ = stream.write_all(b"<end>");
    let _ = stream.shutdown(Shutdown::Write);
}

/// A WebSocket client, and the service it speaks to.
pub(crate) struct WebSocket(Conn);

impl WebSocket {
    /// A service that accepts every handshake and sends frames back as they came, unmasked.
    pub(crate) fn service() -> Upstream {
        // Long enough for the proxy to look at the request's end first; see `streams` for what happens otherwise.
        WebSocket::service_after(Duration::from_millis(20))
    }

    /// The same, answering the handshake after this time.
    pub(crate) fn service_after(wait: Duration) -> Upstream {
        Upstream::with(move |seen, stream| {
            pause(wait);
            assert_eq!(seen.header("sec-websocket-key"), Some(KEY));
            write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
            )?;
            let mut conn = Conn::new(stream.try_clone()?);
            loop {
                let head = conn.exactly(6)?;
                let length = usize::from(head[1] & 0x7f);
                let mask = &head[2..6];
                let body = conn.exactly(length)?;
                let plain = body.iter().zip(mask.iter().cycle());
                let mut frame = vec![head[0], head[1] & 0x7f];
                frame.extend(plain.map(|(byte, mask)| byte ^ mask));
                stream.write_all(&frame)?;
            }
        })
    }

    /// Shakes hands through the proxy.
    pub(crate) fn open(address: SocketAddr, target: &str) -> WebSocket {
        let mut conn = Conn::open(address);
        let reply = conn.ask(format!(
            "GET {target} HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
        ));
        assert_eq!(reply.status, 101, "{}", reply.text());
        assert_eq!(reply.header("sec-websocket-accept"), Some(ACCEPT));
        WebSocket(conn)
    }

    /// Sends a text frame and reads one back; `None` when the stream was cut.
    pub(crate) fn talk(&mut self, text: &str) -> Option<String> {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 1, 2, 3, 4];
        let masked = text.bytes().zip([1, 2, 3, 4].into_iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.0.stream.write_all(&frame).ok()?;
        let head = self.0.exactly(2).ok()?;
        let body = self.0.exactly(usize::from(head[1])).ok()?;
        String::from_utf8(body).ok()
    }

    /// Whether the stream is ended by the other side within the deadline.
    pub(crate) fn ends(&mut self) -> bool {
        self.0.ends()
    }
}

/// RFC 6455's own example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
