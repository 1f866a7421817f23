//! The API of the authority: HTTPS with TLS 1.3, a client certificate where a node is meant, JSON, and bounds on everything.
//! It must not decide who gets what; `Authority` does.
//! Run by `windrose ca serve`.

mod limits;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{header, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, error, info, warn};
use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode};
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::authority::{Authority, Refusal};
use super::disk;
use super::unix_now;
use super::wire::{self, Ask, Join, Sync};
use crate::snapshot::identity::{verify, SpiffeId, Trust};
use limits::Limits;

/// An authority that listens.
pub struct Serving {
    listener: TcpListener,
    api: Arc<Api>,
    _lock: disk::Lock,
}

/// Takes the folder and the address.
///
/// # Errors
/// Why it cannot.
pub async fn serve(folder: &Path, address: SocketAddr) -> Result<Serving, String> {
    let (authority, lock) = Authority::open_to_serve(folder)?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let api = Arc::new(Api {
        authority,
        own: Mutex::default(),
        limits: Limits::default(),
    });
    api.own(folder.join("ca.json"))?;
    Ok(Serving {
        listener,
        api,
        _lock: lock,
    })
}

struct Api {
    authority: Authority,
    own: Mutex<Option<Own>>,
    limits: Limits,
}

/// What connections are served with, until the state on disk changes or it gets old.
#[derive(Clone)]
struct Own {
    acceptor: SslAcceptor,
    trust: Arc<Trust>,
    made: Instant,
    changed: Option<SystemTime>,
}

impl Serving {
    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop; then what has begun is answered.
    pub async fn until(self, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut stop = std::pin::pin!(stop);
        let mut chores = tokio::time::interval(CHORES);
        loop {
            let place = tokio::select! {
                () = &mut stop => break,
                _ = chores.tick() => { self.api.clone().look_after(); continue }
                place = places.clone().acquire_owned() => place,
            };
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(seat) = self.api.limits.seat(peer.ip()) else {
                        debug!("{peer}: has too many connections");
                        continue;
                    };
                    let api = self.api.clone();
                    tokio::spawn(async move {
                        let _places = (place, seat);
                        let served =
                            timeout(LONGEST_CONNECTION, api.connection(stream, peer.ip())).await;
                        if let Ok(Err(problem)) = served {
                            debug!("{peer}: {problem}");
                        }
                    });
                }
                Err(error) => {
                    warn!("no connection could be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = timeout(DRAIN, places.acquire_many(all)).await;
    }
}

impl Api {
    /// Says long before the end that the issuer cannot be renewed here.
    fn look_after(self: Arc<Self>) {
        tokio::task::spawn_blocking(move || {
            let ends = self
                .authority
                .state()
                .and_then(|state| self.authority.issuer_ends(&state));
            match ends {
                Ok((ends, false)) if ends < unix_now() + WARN_BEFORE => {
                    let days = ends.saturating_sub(unix_now()) / 86_400;
                    error!("the issuer's certificate ends in {days} days and the root's key is not here; run `windrose ca rotate issuer --root-key FILE`");
                }
                Ok(_) => {}
                Err(problem) => error!("{problem}"),
            }
        });
    }

    /// The acceptor in force; a change of roots shows at the next connection.
    fn own(&self, state: PathBuf) -> Result<Own, String> {
        let changed = std::fs::metadata(state)
            .and_then(|meta| meta.modified())
            .ok();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = own
            .as_ref()
            .filter(|own| own.changed == changed && own.made.elapsed() < OWN_AGE)
        {
            return Ok(own.clone());
        }
        let (chain, key, trust) = self.authority.own_identity()?;
        let acceptor = acceptor(&chain, &key).map_err(|error| error.to_string())?;
        let fresh = Own {
            acceptor,
            trust: Arc::new(trust),
            made: Instant::now(),
            changed,
        };
        *own = Some(fresh.clone());
        Ok(fresh)
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: IpAddr) -> Result<(), String> {
        let _ = stream.set_nodelay(true);
        let api = self.clone();
        let own =
            tokio::task::spawn_blocking(move || api.own(api.authority.folder.join("ca.json")));
        let own = own
            .await
            .map_err(|error| error.to_string())?
            .inspect_err(|problem| error!("{problem}"))?;
        let ssl = Ssl::new(own.acceptor.context()).map_err(|error| error.to_string())?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
        let shaken = timeout(HANDSHAKE, Pin::new(&mut stream).accept()).await;
        shaken
            .map_err(|_| "no handshake in time")?
            .map_err(|error| error.to_string())?;
        let caller = Caller {
            node: node(&stream, &own.trust),
            address: peer,
        };
        let service = service_fn(move |request| {
            let (api, caller) = (self.clone(), caller.clone());
            async move { Ok::<_, Infallible>(api.answer(request, caller).await) }
        });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .max_buf_size(LARGEST_HEAD)
            .half_close(false);
        server
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(|error| error.to_string())
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let outcome = self.clone().act(request, caller.clone()).await;
        let who = caller
            .node
            .as_ref()
            .map_or_else(|_| caller.address.to_string(), SpiffeId::to_string);
        match outcome {
            Ok(answer) => {
                debug!("{who}: {path}: done");
                answer
            }
            Err(refusal) => {
                match refusal.status {
                    500.. => error!("{who}: {path}: {}: {}", refusal.cause, refusal.detail),
                    _ => warn!("{who}: {path}: {}: {}", refusal.cause, refusal.detail),
                }
                refused(&refusal)
            }
        }
    }

    async fn act(self: Arc<Self>, request: Request<Incoming>, caller: Caller) -> Outcome {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        match (&method, path.as_str()) {
            (&Method::GET, wire::HEALTH | wire::BUNDLE_PEM | wire::BUNDLE_JWKS) => {
                self.blocking(move |authority| public(authority, &path))
                    .await
            }
            (&Method::POST, wire::JOIN) => {
                self.limits.join(caller.address)?;
                let join: Join = body(request).await?;
                let joins = move |authority: &Authority| {
                    let joined = authority.join(&join)?;
                    info!("{}: joined as {}", caller.address, joined.node);
                    json(&joined)
                };
                self.blocking(joins).await
            }
            (&Method::POST, wire::CERTIFICATE) => {
                let node = caller.node?;
                self.limits.sign()?;
                let ask: Ask = body(request).await?;
                self.blocking(move |authority| json(&authority.certificate(&node, &ask)?))
                    .await
            }
            (&Method::POST, wire::SYNC) => {
                let node = caller.node?;
                self.limits.sync()?;
                let sync: Sync = body(request).await?;
                self.blocking(move |authority| json(&authority.sync(&node, &sync.trusts)?))
                    .await
            }
            _ => {
                let detail = format!("there is no {method} {}", shown(&path));
                Err(Refusal::new(404, "ca.no_such_call", detail))
            }
        }
    }

    /// Disks are waited for, so acts run beside the connections.
    async fn blocking(
        self: Arc<Self>,
        act: impl FnOnce(&Authority) -> Outcome + Send + 'static,
    ) -> Outcome {
        let done = tokio::task::spawn_blocking(move || act(&self.authority)).await;
        done.unwrap_or_else(|error| Err(Refusal::from(error.to_string())))
    }
}

/// What anyone may ask.
fn public(authority: &Authority, path: &str) -> Outcome {
    let state = authority.state()?;
    match path {
        wire::BUNDLE_PEM => {
            let roots = authority.trusted(&state)?.roots.concat();
            Ok(reply(StatusCode::OK, "application/x-pem-file", roots))
        }
        wire::BUNDLE_JWKS => Ok(reply(StatusCode::OK, "application/json", authority.jwks()?)),
        _ => match authority.issuer_ends(&state)?.0 > unix_now() {
            true => Ok(reply(StatusCode::OK, "text/plain", "ok\n")),
            false => Err(Refusal::new(
                503,
                "ca.issuer_expired",
                "the issuer's certificate ended",
            )),
        },
    }
}

type Outcome = Result<Response<Full<Bytes>>, Refusal>;

/// Who calls: a node, or why the certificate shown proves none.
#[derive(Clone)]
struct Caller {
    node: Result<SpiffeId, Unproven>,
    address: IpAddr,
}

/// Why a caller is no node.
#[derive(Clone)]
struct Unproven(String);

impl From<Unproven> for Refusal {
    fn from(Unproven(detail): Unproven) -> Refusal {
        Refusal::new(401, "ca.no_certificate", detail)
    }
}

fn node(stream: &SslStream<TcpStream>, trust: &Trust) -> Result<SpiffeId, Unproven> {
    let Some(leaf) = stream.ssl().peer_certificate() else {
        return Err(Unproven("this call needs the node's certificate".into()));
    };
    verify(&leaf, stream.ssl().peer_cert_chain(), trust)
        .map_err(|rejection| Unproven(format!("{}: {}", rejection.cause.name, rejection.detail)))
}

fn acceptor(
    chain: &[openssl::x509::X509],
    key: &openssl::pkey::PKeyRef<openssl::pkey::Private>,
) -> Result<SslAcceptor, openssl::error::ErrorStack> {
    // TLS 1.3 only.
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server())?;
    builder.set_certificate(&chain[0])?;
    for link in &chain[1..] {
        builder.add_extra_chain_cert(link.clone())?;
    }
    builder.set_private_key(key)?;
    // A resumed session would skip the certificate.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)?;
    // Any chain passes here: who needs one is judged after the handshake, by the same rules as everywhere in the mesh.
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    Ok(builder.build())
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let collected = timeout(
        BODY,
        Limited::new(request.into_body(), wire::LARGEST_BODY).collect(),
    )
    .await;
    let bad = |detail: String| Refusal::new(400, "ca.bad_request", detail);
    let content = collected
        .map_err(|_| Refusal::new(408, "ca.bad_request", "the body did not come in time"))?;
    let content = content
        .map_err(|error| bad(format!("the body cannot be read: {error}")))?
        .to_bytes();
    // Where it is wrong, not what stands there: it may hold a token.
    serde_json::from_slice(&content).map_err(|error| {
        bad(format!(
            "not the JSON of this call, at column {}",
            error.column()
        ))
    })
}

fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_vec(value).map_err(|error| Refusal::from(error.to_string()))?;
    Ok(reply(StatusCode::OK, "application/json", text))
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let detail = match refusal.status {
        500 => "the authority's log says more".to_owned(),
        _ => refusal.detail.clone(),
    };
    let told = wire::Refused {
        cause: refusal.cause.to_owned(),
        detail,
    };
    let mut answer = reply(
        status,
        "application/json",
        serde_json::to_vec(&told).unwrap_or_default(),
    );
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn reply(
    status: StatusCode,
    kind: &'static str,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(content.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn shown(path: &str) -> String {
    path.chars()
        .take(80)
        .flat_map(char::escape_default)
        .collect()
}

const MOST_CONNECTIONS: usize = 256;
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEADER: Duration = Duration::from_secs(5);
const BODY: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(5);
const CHORES: Duration = Duration::from_secs(3600);
/// Its own certificate lives a day.
const OWN_AGE: Duration = Duration::from_secs(3600);
const WARN_BEFORE: u64 = 30 * 86_400;
const LARGEST_HEAD: usize = 16 << 10;
