//! Calls to the built-in authority: the server is proven before a byte is sent, by pinned hash or by roots known already.
//! It must not keep state or decide when to call; `control::identity` does.
//! One connection for each call: they are minutes apart.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{header, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use zeroize::Zeroizing;

use super::keys;
use super::wire::{self, Ask, Issued, Join, Joined, Sync, Trusted, CA_PATH};
use crate::snapshot::identity::{verify, Bundle, Identities, Trust, TrustDomain};
use crate::snapshot::own;

/// How the server is known.
#[derive(Debug, Clone)]
pub enum Anchor {
    /// By the SHA-256 of one of its roots, in hex.
    Pinned(String),
    /// By roots from an earlier answer.
    Roots(Arc<Bundle>),
}

/// Whom to call and how.
#[derive(Clone)]
pub struct Client {
    /// `host:port`.
    pub address: String,
    /// Its trust domain.
    pub domain: TrustDomain,
    /// How it is known.
    pub anchor: Anchor,
    /// The node's own chain and key, once it has them.
    pub own: Option<(Vec<X509>, PKey<Private>)>,
    /// Who hears what time it is at the authority.
    pub clock: Option<Arc<Identities>>,
}

/// Why a call brought nothing. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The authority said no.
    Refused {
        /// Its word.
        cause: String,
        /// Its sentence.
        detail: String,
    },
    /// It did not answer, or somebody else did.
    Unreachable(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused { cause, detail } => write!(f, "refused: {cause}: {detail}"),
            Failure::Unreachable(problem) => f.write_str(problem),
        }
    }
}

impl From<ErrorStack> for Failure {
    fn from(error: ErrorStack) -> Failure {
        Failure::Unreachable(error.to_string())
    }
}

impl Client {
    /// Spends a token.
    ///
    /// # Errors
    /// Why the node is not let in.
    pub async fn join(&self, join: &Join) -> Result<Joined, Failure> {
        self.post(wire::JOIN, join).await
    }

    /// Asks for a certificate.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn certificate(&self, ask: &Ask) -> Result<Issued, Failure> {
        self.post(wire::CERTIFICATE, ask).await
    }

    /// Tells which roots are trusted and hears which should be.
    ///
    /// # Errors
    /// Why it is not heard.
    pub async fn sync(&self, sync: &Sync) -> Result<Trusted, Failure> {
        self.post(wire::SYNC, sync).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = written(body)?;
        let called = timeout(PATIENCE, self.call(path, body)).await;
        let (status, content) = called
            .map_err(|_| unreachable(format!("no answer within {} s", PATIENCE.as_secs())))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&content)
                .map_err(|_| unreachable("its answer is not understood"));
        }
        match serde_json::from_slice::<wire::Refused>(&content) {
            Ok(refused) => Err(Failure::Refused {
                cause: bounded(&refused.cause),
                detail: bounded(&refused.detail),
            }),
            Err(_) => Err(unreachable(format!("it answers {}", status.as_u16()))),
        }
    }

    async fn call(
        &self,
        path: &str,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let stream = self.connect().await?;
        // Else the body would be copied behind the header, where nobody clears it.
        let mut http = http1::Builder::new();
        let (mut sender, connection) = http
            .writev(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from_owner(body)))
            .map_err(|error| unreachable(error.to_string()))?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            self.hear_time(answer.headers());
            Ok::<_, hyper::Error>((
                status,
                Limited::new(answer.into_body(), wire::LARGEST_BODY)
                    .collect()
                    .await,
            ))
        };
        let driven = async {
            let _ = connection.await;
        };
        let (answer, ()) = tokio::join!(exchange, driven);
        let (status, content) = answer.map_err(|error| unreachable(error.to_string()))?;
        let content =
            content.map_err(|error| unreachable(format!("its answer cannot be read: {error}")))?;
        Ok((status, content.to_bytes()))
    }

    /// The `Date` of an answer. Only the authority is heard: it is proven before anything is asked.
    fn hear_time(&self, headers: &http::HeaderMap) {
        let date = headers.get(header::DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        if let (Some(clock), Some(date)) = (&self.clock, date) {
            clock.heard_time(date);
        }
    }

    async fn connect(&self) -> Result<SslStream<TcpStream>, Failure> {
        let stream = own::connect_to(&self.address, None).await;
        let stream = stream.map_err(|error| unreachable(format!("{}: {error}", self.address)))?;
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        // Judged after the handshake, before anything is sent.
        builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        if let Some((chain, key)) = &self.own {
            builder.set_certificate(&chain[0])?;
            for link in &chain[1..] {
                builder.add_extra_chain_cert(link.clone())?;
            }
            builder.set_private_key(key)?;
        }
        let mut config = builder.build().configure()?;
        config.set_verify_hostname(false);
        config.set_use_server_name_indication(false);
        let ssl = config.into_ssl("windrose-ca")?;
        let mut stream = SslStream::new(ssl, stream)?;
        let shaken = Pin::new(&mut stream).connect().await;
        shaken.map_err(|error| {
            unreachable(format!("{}: the handshake failed: {error}", self.address))
        })?;
        self.prove(&stream)?;
        Ok(stream)
    }

    /// Whether the other side is this trust domain's authority.
    fn prove(&self, stream: &SslStream<TcpStream>) -> Result<(), Failure> {
        let Some(leaf) = stream.ssl().peer_certificate() else {
            return Err(unreachable("it shows no certificate"));
        };
        let chain = stream.ssl().peer_cert_chain();
        let bundle = match &self.anchor {
            Anchor::Roots(bundle) => bundle.clone(),
            Anchor::Pinned(hash) => {
                let shown = chain.into_iter().flatten();
                let is_pinned = |cert: &&openssl::x509::X509Ref| {
                    keys::cert_hash(cert).is_ok_and(|found| found == *hash)
                };
                let Some(root) = shown.into_iter().find(is_pinned) else {
                    return Err(unreachable("no root of this server has the pinned hash: another authority answers, or `root_hash` is wrong"));
                };
                let bundle = Bundle::new(vec![root.to_owned()]);
                Arc::new(bundle.map_err(|fact| {
                    unreachable(format!(
                        "the pinned certificate cannot be believed: it {fact}"
                    ))
                })?)
            }
        };
        let mut trust = Trust::default();
        trust.bundles.insert(self.domain.clone(), bundle);
        let verified = verify(&leaf, chain, &trust).map_err(|rejection| {
            unreachable(format!(
                "its certificate is refused: {}: {}",
                rejection.cause.name, rejection.detail
            ))
        })?;
        let id = &verified.id;
        match id.path() == CA_PATH {
            true => Ok(()),
            false => Err(unreachable(format!(
                "{id} answers, which is not the authority"
            ))),
        }
    }
}

/// A message that clears itself, as it may hold a token. It never grows: what a growing one leaves behind would stay.
fn written(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut body = Zeroizing::new(Vec::with_capacity(wire::LARGEST_BODY));
    let wrote = serde_json::to_writer(&mut *body, message);
    wrote.map_err(|error| unreachable(error.to_string()))?;
    Ok(body)
}

fn unreachable(problem: impl Into<String>) -> Failure {
    Failure::Unreachable(problem.into())
}

/// Text of the other side's, for logs.
fn bounded(text: &str) -> String {
    let is_plain = |c: &char| !c.is_control();
    text.chars().filter(is_plain).take(300).collect()
}

const PATIENCE: Duration = Duration::from_secs(10);
