//! How endpoints are asked over TCP, TLS and HTTP.
//! It must not know when to ask, nor what an answer means.
//! Called by `health`; `grpc` shares the way to connect.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use pingora::connectors::http::Connector as HttpConnector;
use pingora::connectors::{L4Connect, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{Stream, ALPN};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::health_check::HealthCheck;
use pingora_load_balancing::Backend;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::grpc::GrpcCheck;
use super::Check;
use crate::snapshot::mtls::Outbound;
use crate::snapshot::own;
use crate::snapshot::pool::{Health, HealthKind, PoolProtocol, PoolSettings, ProxyVersion};

/// Pingora's connectors, shared by all pools because each reads the system's authorities into memory once more.
#[derive(Default)]
pub(super) struct Connectors {
    transport: OnceLock<TransportConnector>,
    http: OnceLock<HttpConnector>,
}

impl Connectors {
    fn transport(&self) -> &TransportConnector {
        self.transport.get_or_init(|| TransportConnector::new(None))
    }

    fn http(&self) -> &HttpConnector {
        self.http.get_or_init(|| HttpConnector::new(None))
    }
}

/// The check of a pool.
pub(super) fn check(
    connectors: &Arc<Connectors>,
    settings: &PoolSettings,
    health: &Health,
) -> Check {
    let line = Line {
        connectors: connectors.clone(),
        template: template(settings, alpn(&health.kind, settings.protocol)),
        sni: sni(settings).cloned(),
        mtls: settings.mtls.clone(),
        rise: health.rise as usize,
        fall: health.fall as usize,
    };
    match &health.kind {
        HealthKind::Tcp => Box::new(ConnectCheck(line)),
        HealthKind::Http {
            path,
            host,
            statuses,
        } => Box::new(HttpCheck {
            line,
            path: path.clone(),
            host: host.clone(),
            statuses: *statuses,
        }),
        HealthKind::Grpc { service } => Box::new(GrpcCheck::new(line, service)),
    }
}

/// What to offer in the TLS handshake, or to speak without asking in the clear.
pub(super) fn alpn(kind: &HealthKind, protocol: PoolProtocol) -> ALPN {
    match (kind, protocol) {
        (HealthKind::Grpc { .. }, _) | (_, PoolProtocol::Http2) => ALPN::H2,
        (_, PoolProtocol::Auto) => ALPN::H2H1,
        (_, PoolProtocol::Http1 | PoolProtocol::Tcp) => ALPN::H1,
    }
}

/// The name to ask for; none in the clear.
fn sni(settings: &PoolSettings) -> Option<&String> {
    let tls = settings.tls.as_ref().map(|tls| &tls.sni);
    tls.or_else(|| settings.mtls.as_ref().map(|mtls| &mtls.sni))
}

/// A peer that only lacks an address.
fn template(settings: &PoolSettings, alpn: ALPN) -> HttpPeer {
    let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 1));
    let sni = sni(settings).cloned();
    let mut peer = HttpPeer::new(nowhere, sni.is_some(), sni.unwrap_or_default());
    peer.options.alpn = alpn;
    // Two checks on one connection would not notice that new connections fail.
    peer.options.max_h2_streams = 1;
    if let Some(tls) = &settings.tls {
        tls.apply(&mut peer);
    }
    if let Some(version) = settings.proxy_protocol {
        peer.options.custom_l4 = Some(Arc::new(WithProxyHeader(version)));
    }
    peer
}

/// The way to the endpoints of a pool.
pub(super) struct Line {
    connectors: Arc<Connectors>,
    template: HttpPeer,
    sni: Option<String>,
    mtls: Option<Arc<Outbound>>,
    rise: usize,
    fall: usize,
}

impl Line {
    /// A new connection to an endpoint, with TLS if the pool has it.
    pub(super) async fn connect(&self, target: &Backend) -> Result<Stream> {
        let connector = self.connectors.transport();
        let stream = connector.new_stream(&self.peer(target).await?).await?;
        self.prove(stream.get_ssl_digest().as_deref())?;
        Ok(stream)
    }

    /// Whether an endpoint is who it should be.
    fn prove(&self, digest: Option<&SslDigest>) -> Result<()> {
        let Some(mtls) = &self.mtls else {
            return Ok(());
        };
        match mtls.check(digest) {
            Ok(_) => Ok(()),
            Err((cause, detail)) => unhealthy(format!("{cause}: {detail}")),
        }
    }

    /// The host to ask for when none is configured: the SNI, else the address.
    pub(super) fn host(&self, target: &Backend) -> String {
        match (&self.sni, &target.addr) {
            (Some(sni), _) => sni.clone(),
            (None, SocketAddr::Inet(address)) => address.to_string(),
            (None, SocketAddr::Unix(_)) => "localhost".into(),
        }
    }

    /// Whether connections have TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.sni.is_some()
    }

    /// Checks in a row that turn an endpoint.
    pub(super) fn threshold(&self, passed: bool) -> usize {
        match passed {
            true => self.rise,
            false => self.fall,
        }
    }

    async fn peer(&self, target: &Backend) -> Result<HttpPeer> {
        let mut peer = self.template.clone();
        peer._address = target.addr.clone();
        if let Some(mtls) = &self.mtls {
            match mtls.prober().await {
                Ok((workload, svid)) => mtls.dress(&mut peer, &workload, &svid),
                Err(detail) => return unhealthy(format!("mtls.no_identity: {detail}")),
            }
        }
        Ok(peer)
    }
}

/// Connects. `TcpHealthCheck` of Pingora does the same, but cannot show a client certificate.
struct ConnectCheck(Line);

#[async_trait]
impl HealthCheck for ConnectCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        self.0.connect(target).await.map(drop)
    }

    fn health_threshold(&self, passed: bool) -> usize {
        self.0.threshold(passed)
    }
}

/// Asks over HTTP. `HttpHealthCheck` of Pingora sends the same Host to every endpoint and waits for the end of the body.
struct HttpCheck {
    line: Line,
    path: String,
    host: Option<String>,
    statuses: (u16, u16),
}

#[async_trait]
impl HealthCheck for HttpCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => self.line.host(target),
        };
        let mut request = RequestHeader::build("GET", self.path.as_bytes(), Some(3))?;
        request.insert_header("Host", host)?;
        request.insert_header("User-Agent", AGENT)?;
        request.insert_header("Accept", "*/*")?;
        let connector = self.line.connectors.http();
        let peer = self.line.peer(target).await?;
        let (mut session, _) = connector.get_http_session(&peer).await?;
        let digest = session.digest();
        self.line
            .prove(digest.and_then(|digest| digest.ssl_digest.as_deref()))?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session
            .response_header()
            .map(|answer| answer.status.as_u16());
        session.shutdown().await;
        let (lowest, highest) = self.statuses;
        match status {
            Some(status) if (lowest..=highest).contains(&status) => Ok(()),
            Some(status) => unhealthy(format!("status {status}, not {lowest} to {highest}")),
            None => unhealthy("no status".into()),
        }
    }

    fn health_threshold(&self, passed: bool) -> usize {
        self.line.threshold(passed)
    }
}

/// Connects and says first, in the pool's version of the PROXY protocol, that this is not on behalf of a client.
#[derive(Debug)]
struct WithProxyHeader(ProxyVersion);

#[async_trait]
impl L4Connect for WithProxyHeader {
    async fn connect(&self, address: &SocketAddr) -> Result<L4Stream> {
        let header: &[u8] = match self.0 {
            ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
            // Signature, version 2 with command LOCAL, no addresses.
            ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        };
        match address {
            SocketAddr::Inet(address) => {
                let mut stream = own::connect(*address).await.map_err(connecting)?;
                stream.write_all(header).await.map_err(connecting)?;
                Ok(stream.into())
            }
            SocketAddr::Unix(address) => {
                // Targets are made from paths; the empty one gets the system's own "no such file".
                let path = address.as_pathname().unwrap_or(Path::new(""));
                let mut stream = UnixStream::connect(path).await.map_err(connecting)?;
                stream.write_all(header).await.map_err(connecting)?;
                Ok(stream.into())
            }
        }
    }
}

fn connecting(error: std::io::Error) -> Box<Error> {
    let kind = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, "", error)
}

/// A check that got an answer, but not the right one.
pub(super) fn unhealthy<T>(fact: String) -> Result<T> {
    Error::e_explain(UNHEALTHY, fact)
}

/// The fact in one line, without Pingora's words around it.
pub(super) fn reason(error: &Error) -> String {
    let context = error
        .context
        .as_ref()
        .map_or("", |context| context.as_str());
    if error.etype == UNHEALTHY {
        return context.to_owned();
    }
    let what = match &error.etype {
        ErrorType::ConnectTimedout => "connecting took too long",
        ErrorType::ConnectRefused => return "connection refused".into(),
        ErrorType::ConnectNoRoute => return "no route to it".into(),
        ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout => "TLS handshake failed",
        ErrorType::InvalidCert => "its certificate is not accepted",
        ErrorType::ConnectError | ErrorType::SocketError => "connecting failed",
        ErrorType::ConnectionClosed => "it closed the connection",
        ErrorType::ReadError => "reading failed",
        ErrorType::WriteError => "writing failed",
        ErrorType::H1Error | ErrorType::H2Error | ErrorType::InvalidH2 => "its answer is not HTTP",
        other => other.as_str(),
    };
    let cause = match &error.cause {
        Some(_) => error.root_cause().to_string(),
        None => context.to_owned(),
    };
    let cause = cause.lines().next().unwrap_or("").trim();
    match cause.is_empty() {
        true => what.to_owned(),
        false => format!("{what}: {cause}"),
    }
}

pub(super) const AGENT: &str = concat!("windrose/", env!("CARGO_PKG_VERSION"), " health check");
const UNHEALTHY: ErrorType = ErrorType::Custom("unhealthy");
