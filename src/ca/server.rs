//! The API of the authority: HTTPS with TLS 1.3, a client certificate where a node is meant, JSON, and bounds on everything.
//! It must not decide who gets what; `Authority` does.
//! Run by `windrose ca serve`.

mod limits;
mod own;
mod public;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{header, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, error, info, warn};
use openssl::ssl::Ssl;
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use zeroize::{Zeroize, Zeroizing};

use super::authority::{Authority, Refusal};
use super::disk;
use super::unix_now;
use super::wire::{self, Ask, Join, Sync};
use crate::snapshot::identity::{verify, SpiffeId, Trust};
use limits::Limits;
use own::Owns;
use public::{Public, View};

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
        own: Owns::default(),
        public: Public::default(),
        limits: Limits::default(),
    });
    api.own.get(&api.authority)?;
    Ok(Serving {
        listener,
        api,
        _lock: lock,
    })
}

struct Api {
    authority: Authority,
    own: Owns,
    public: Public,
    limits: Limits,
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
                        if let Err(problem) = api.connection(stream, peer.ip()).await {
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

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: IpAddr) -> Result<(), String> {
        let _ = stream.set_nodelay(true);
        let api = self.clone();
        let own = tokio::task::spawn_blocking(move || api.own.get(&api.authority));
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
        let is_node = caller.node.is_ok();
        let service = service_fn(move |request| {
            let (api, caller) = (self.clone(), caller.clone());
            async move { Ok::<_, Infallible>(api.answer(request, caller).await) }
        });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .max_buf_size(LARGEST_HEAD)
            .half_close(false)
            // Strangers get one answer, so that a few of them do not hold all places.
            .keep_alive(is_node);
        let served = server.serve_connection(TokioIo::new(stream), service);
        let longest = if is_node {
            LONGEST_CONNECTION
        } else {
            STRANGERS_CONNECTION
        };
        let served = timeout(longest, served).await;
        served
            .map_err(|_| "it took too long")?
            .map_err(|error| error.to_string())
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Response<Full<Bytes>> {
        let path = shown(request.uri().path());
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
                self.tell(&format!("{who}: {path}"), &refusal);
                refused(&refusal)
            }
        }
    }

    /// Logs a refusal, but not as many as anyone likes to cause.
    fn tell(&self, what: &str, refusal: &Refusal) {
        let Some(left_out) = self.limits.tell() else {
            return;
        };
        if left_out > 0 {
            warn!("{left_out} refusals before this one are not logged");
        }
        match refusal.status {
            500.. => error!("{what}: {}: {}", refusal.cause, refusal.detail),
            _ => warn!("{what}: {}: {}", refusal.cause, refusal.detail),
        }
    }

    async fn act(self: Arc<Self>, request: Request<Incoming>, caller: Caller) -> Outcome {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        match (&method, path.as_str()) {
            (&Method::GET, wire::HEALTH | wire::BUNDLE_PEM | wire::BUNDLE_JWKS) => {
                let api = self.clone();
                self.blocking(move |authority| public(&api.public.view(authority)?, &path))
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
                let node = self.clone().joined(caller.node?).await?;
                self.limits.sign(node.as_str())?;
                let ask: Ask = body(request).await?;
                self.blocking(move |authority| json(&authority.certificate(&node, &ask)?))
                    .await
            }
            (&Method::POST, wire::SYNC) => {
                let node = self.clone().joined(caller.node?).await?;
                self.limits.sync(node.as_str())?;
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

    /// A caller who joined: those who did not, or were forgotten, take nothing of what the others share.
    async fn joined(self: Arc<Self>, node: SpiffeId) -> Result<SpiffeId, Refusal> {
        self.blocking(move |authority| authority.is_node(&node).map(|()| node))
            .await
    }

    /// Disks are waited for, so acts run beside the connections.
    async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        act: impl FnOnce(&Authority) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let done = tokio::task::spawn_blocking(move || act(&self.authority)).await;
        done.unwrap_or_else(|error| Err(Refusal::from(error.to_string())))
    }
}

/// What anyone may ask.
fn public(view: &View, path: &str) -> Outcome {
    match path {
        wire::BUNDLE_PEM => Ok(reply(
            StatusCode::OK,
            "application/x-pem-file",
            view.pem.clone(),
        )),
        wire::BUNDLE_JWKS => Ok(reply(StatusCode::OK, "application/json", view.jwks.clone())),
        _ => Ok(reply(StatusCode::OK, "text/plain", view.health()?)),
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
        .map(|verified| verified.id)
        .map_err(|rejection| Unproven(format!("{}: {}", rejection.cause.name, rejection.detail)))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let collected = timeout(BODY, whole(request.into_body())).await;
    let content = collected
        .map_err(|_| Refusal::new(408, "ca.bad_request", "the body did not come in time"))?;
    let bad = |error| {
        let detail = format!("the body cannot be read: {error}");
        Refusal::new(400, "ca.bad_request", detail)
    };
    wire::read(&content.map_err(bad)?).map_err(|detail| Refusal::new(400, "ca.bad_request", detail))
}

type Unread = Box<dyn Error + Send + std::marker::Sync>;

/// A whole body, in one place that clears itself: it may hold a token.
async fn whole(body: Incoming) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let mut body = Limited::new(body, wire::LARGEST_BODY);
    let mut content = Zeroizing::new(Vec::with_capacity(wire::LARGEST_BODY));
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        content.extend_from_slice(&piece);
        // Only where nobody else has it any more.
        if let Ok(mut piece) = piece.try_into_mut() {
            piece.as_mut().zeroize();
        }
    }
    Ok(content)
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
/// Without a certificate.
const STRANGERS_CONNECTION: Duration = Duration::from_secs(10);
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEADER: Duration = Duration::from_secs(5);
const BODY: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(5);
const CHORES: Duration = Duration::from_secs(3600);
const WARN_BEFORE: u64 = 30 * 86_400;
const LARGEST_HEAD: usize = 16 << 10;
