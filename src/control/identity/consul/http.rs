//! Blocking queries to an agent: plain HTTP on loopback or a Unix socket, since a private key comes back.
//! It must not know what is asked for.
//! Used by `consul`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{header, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::ca::read_bounded;
use crate::snapshot::identity::{ConsulAddress, ConsulSettings};
use crate::snapshot::own;

/// Whom to ask.
pub(super) struct Agent {
    address: ConsulAddress,
    token_file: Option<PathBuf>,
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) index: u64,
}

impl Agent {
    pub(super) fn new(settings: &ConsulSettings) -> Agent {
        Agent {
            address: settings.address.clone(),
            token_file: settings.token_file.clone(),
        }
    }

    /// Read for each query, so that it may be replaced.
    async fn token(&self) -> Result<Option<HeaderValue>, String> {
        let Some(path) = self.token_file.clone() else {
            return Ok(None);
        };
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || read_bounded(&path, LARGEST_TOKEN)).await;
        let content = read.map_err(|error| error.to_string())?;
        let content = content
            .map(Zeroizing::new)
            .map_err(|error| format!("the token \"{shown}\" cannot be read: {error}"))?;
        let token = HeaderValue::from_bytes(content.trim_ascii());
        let mut token = token.map_err(|_| format!("\"{shown}\" holds no token"))?;
        token.set_sensitive(true);
        Ok(Some(token))
    }

    /// Waits for something newer than the index; 0 does not wait.
    pub(super) async fn get(&self, path: &str, index: u64) -> Result<Answer, String> {
        let target = match index {
            0 => path.to_owned(),
            index => format!("{path}?index={index}&wait={}s", WAIT.as_secs()),
        };
        // The agent adds up to a sixteenth to what it was asked to wait.
        let patience = if index == 0 {
            PATIENCE
        } else {
            WAIT + WAIT / 16 + PATIENCE
        };
        let asked = async {
            match &self.address {
                ConsulAddress::Tcp(address) => {
                    self.ask(own::connect(*address).await, &target).await
                }
                ConsulAddress::Unix(path) => {
                    self.ask(UnixStream::connect(path).await, &target).await
                }
            }
        };
        timeout(patience, asked)
            .await
            .unwrap_or_else(|_| Err("no answer in time".into()))
    }

    async fn ask<T>(&self, stream: std::io::Result<T>, target: &str) -> Result<Answer, String>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = stream.map_err(|error| error.to_string())?;
        let told = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
        let mut request = Request::get(target)
            .header(header::HOST, "consul")
            .header(header::CONNECTION, "close");
        if let Some(token) = self.token().await? {
            request = request.header("x-consul-token", token);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(told)?;
            let (head, body) = answer.into_parts();
            Ok::<_, String>((head, whole(body).await?))
        };
        let driven = async {
            let _ = connection.await;
        };
        let (exchanged, ()) = tokio::join!(exchange, driven);
        let (head, body) = exchanged?;
        if head.status != StatusCode::OK {
            let said = String::from_utf8_lossy(&body);
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(format!("HTTP status {}: {said}", head.status.as_u16()));
        }
        let index = head
            .headers
            .get("x-consul-index")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let index = index.ok_or("the answer has no X-Consul-Index")?;
        Ok(Answer { body, index })
    }
}

/// A body in one buffer that never moves, since a key may be in it.
async fn whole(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, String> {
    let announced = body.size_hint().exact();
    let announced = announced.map_or(LARGEST, |bytes| usize::try_from(bytes).unwrap_or(LARGEST));
    let mut whole = Zeroizing::new(Vec::with_capacity(announced.min(LARGEST)));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > LARGEST {
            return Err(format!("an answer of more than {LARGEST} bytes"));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// The longest that agents wait.
const WAIT: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_TOKEN: u64 = 4096;
const LARGEST: usize = 1 << 20;
