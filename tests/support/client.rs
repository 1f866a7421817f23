//! HTTP/1.1 by hand: bytes out exactly as written, replies parsed without kindness.
//! It must not know the proxy.
//! Used over plain sockets, TLS and Unix sockets alike.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::wait::DEADLINE;

/// A reply.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first field of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every field of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter();
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("not JSON ({error}): {} {}", self.status, self.text());
        })
    }

    /// The cause: from the field loopback clients see, else from the problem in the body.
    pub(crate) fn why(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let field = self.header("x-windrose-why").or(problem["why"].as_str());
        field.unwrap_or("").to_owned()
    }
}

/// A connection with what was read too far.
pub(crate) struct Conn<S = TcpStream> {
    pub(crate) stream: S,
    ahead: Vec<u8>,
}

impl Conn {
    /// A plain connection.
    pub(crate) fn open(address: SocketAddr) -> Conn {
        Conn::new(dial(address))
    }
}

/// A socket that gives up after the deadline.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl<S: Read + Write> Conn<S> {
    pub(crate) fn new(stream: S) -> Conn<S> {
        Conn {
            stream,
            ahead: Vec::new(),
        }
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Conn<S> {
        self.stream.write_all(bytes.as_ref()).expect("sends");
        self.stream.flush().expect("sends");
        self
    }

    /// Sends a request and reads its reply.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        let is_head = request.as_ref().starts_with(b"HEAD ");
        self.send(request);
        match is_head {
            true => self.head().expect("a reply"),
            false => self.reply().expect("a reply"),
        }
    }

    /// Reads the status line and fields, informational ones skipped.
    pub(crate) fn head(&mut self) -> io::Result<Reply> {
        loop {
            let head = self.any_head()?;
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
        }
    }

    /// Reads the next status line and fields, whatever they are.
    pub(crate) fn any_head(&mut self) -> io::Result<Reply> {
        let text = self.through(b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap_or_default();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let pair = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Reply {
            status: status.ok_or_else(|| io::Error::other(format!("no status: {text:?}")))?,
            headers: lines.filter_map(pair).collect(),
            body: Vec::new(),
        })
    }

    /// Reads a reply with its body.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head()?;
        reply.body = self.body_of(&reply)?;
        Ok(reply)
    }

    /// Reads the body that follows a head.
    pub(crate) fn body_of(&mut self, head: &Reply) -> io::Result<Vec<u8>> {
        let chunked = head.header("transfer-encoding") == Some("chunked");
        match head.header("content-length") {
            _ if matches!(head.status, 101 | 204 | 304) => Ok(Vec::new()),
            _ if chunked => self.chunks(),
            Some(length) => self.exactly(length.parse().map_err(io::Error::other)?),
            None => self.rest(),
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.through(b"\r\n")?;
            let size = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Reads up to and with a mark.
    pub(crate) fn through(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(mark.len()).position(|part| part == mark) {
                return Ok(self.ahead.drain(..at + mark.len()).collect());
            }
            self.more()?;
        }
    }

    /// Reads this many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.more()?;
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// Reads to the end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.ahead)?;
        Ok(std::mem::take(&mut self.ahead))
    }

    fn more(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.ahead.extend_from_slice(&piece[..read]);
                Ok(())
            }
        }
    }

    /// Whether the other side has ended the connection, or does within the deadline.
    pub(crate) fn ends(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
