//! A small HTTP client that asks one question on one connection.
//! It must not know what answers mean.
//! Used by `demo` to wait for the proxies and by `check` to ask what the page's commands ask.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::Head;

/// A request to a port of this machine.
pub(super) struct Ask<'a> {
    pub(super) port: u16,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// Further fields.
    pub(super) fields: &'a [(&'a str, &'a str)],
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: Head,
    pub(super) body: String,
}

impl Ask<'_> {
    /// A request without further fields.
    pub(super) fn new<'a>(port: u16, host: &'a str, path: &'a str) -> Ask<'a> {
        Ask {
            port,
            host,
            path,
            fields: &[],
        }
    }

    /// Sends it and reads the answer.
    pub(super) async fn send(&self) -> Result<Reply, String> {
        match timeout(PATIENCE, self.exchange()).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(format!("port {}: {error}", self.port)),
            Err(_) => Err(format!("port {}: no answer in {PATIENCE:?}", self.port)),
        }
    }

    async fn exchange(&self) -> std::io::Result<Reply> {
        let (head, mut stream) = self.open("Connection: close\r\n").await?;
        let body = head.body(&mut stream).await?;
        Ok(Reply {
            status: head.second().parse().unwrap_or_default(),
            body: String::from_utf8_lossy(&body).into_owned(),
            head,
        })
    }

    /// Sends it with these lines added, reads the head of the answer and leaves the rest to the caller.
    pub(super) async fn open(&self, lines: &str) -> std::io::Result<(Head, BufReader<TcpStream>)> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}:{}\r\n",
            self.path, self.host, self.port
        );
        for (name, value) in self.fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(lines);
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let head = Head::read(&mut stream).await?;
        let head = head.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok((head, stream))
    }
}

impl Reply {
    /// The body as JSON; null if it is not.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
