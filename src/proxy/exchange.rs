//! One exchange with an endpoint of a pool, beside the way that requests go: an endpoint, bytes out, bytes in.
//! It must not know what the exchange is for, except whether its outcome tells anything of the endpoint: a call's does, as a
//! request's would; a copy's does not. Called by `mirror` for copies and by `call` for plugins.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Method, Uri, Version};
use pingora::connectors::http::Connector;
use pingora::connectors::ConnectorOptions;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::{timeout_at, Instant};
use windrose_plugins::contract::causes;

use super::upstream::{self, pick, pick_for_copy, Chosen, Outcome};
use super::{line, random};
use crate::observe::clock;
use crate::snapshot::balance::{self, Choice};
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::identity::Workload;
use crate::snapshot::mtls::Outbound;
use crate::snapshot::outlier::Verdict;
use crate::snapshot::pool::Pool;

/// Connections for copies and calls, apart from those of requests. Pingora's connector reads the system's authorities into memory
/// twice, which those without either need not pay for.
pub struct Connections {
    idle: usize,
    connector: OnceLock<Connector>,
}

impl Connections {
    /// With so many idle connections kept for reuse.
    pub fn new(idle: usize) -> Connections {
        Connections {
            idle,
            connector: OnceLock::new(),
        }
    }

    /// Makes what the first exchange would have to wait for, some milliseconds long.
    pub fn prepare(&self) {
        self.connector();
    }

    fn connector(&self) -> &Connector {
        let options = || ConnectorOptions::new(self.idle);
        self.connector
            .get_or_init(|| Connector::new(Some(options())))
    }
}

/// What is to be exchanged.
pub(super) struct Order<'a> {
    pub(super) connections: &'a Connections,
    pub(super) pool: &'a Pool,
    pub(super) purpose: Purpose<'a>,
    pub(super) head: &'a RequestHeader,
    pub(super) body: &'a Bytes,
    /// For consistent hashing.
    pub(super) hash: Option<u64>,
    /// Endpoints not to be chosen, by position.
    pub(super) tried: &'a [u16],
    /// So many bytes of the response's body are kept.
    pub(super) keep: usize,
    /// So many are read, if only to use the connection again.
    pub(super) read: usize,
    /// Time for each read and write.
    pub(super) timeout: Duration,
    /// When all of it is given up.
    pub(super) until: Instant,
}

/// What it is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A copy of a request of this workload's.
    Copy(Option<&'a Arc<Workload>>),
    /// A call of a plugin's, which is nobody's but the node's own.
    Call,
}

/// The response.
pub(super) struct Answer {
    pub(super) head: Box<ResponseHeader>,
    /// As much as is kept.
    pub(super) body: Vec<u8>,
    /// Of a call over HTTP/2.
    pub(super) trailers: HeaderMap,
    /// Whether there was more than is kept.
    pub(super) is_cut: bool,
    /// From the begin to the header.
    pub(super) took: Duration,
    pub(super) endpoint: Arc<str>,
}

/// There is no response.
pub(super) struct Failed {
    pub(super) why: Failure,
    /// The endpoint, by position in the set.
    pub(super) at: Option<u16>,
    pub(super) repeat: Repeat,
}

pub(super) enum Failure {
    NoEndpoint,
    /// All addresses are forbidden.
    Forbidden,
    Full,
    TimedOut,
    /// In words for a log.
    Broken(String),
}

/// Whether it may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing was sent.
    Always,
    /// It was sent over a kept connection, which its other end may have closed at that moment.
    IfHarmless,
    Never,
}

impl From<Box<Error>> for Failure {
    fn from(error: Box<Error>) -> Failure {
        log::debug!("an exchange came to nothing: {error}");
        Failure::Broken(error.etype().as_str().to_owned())
    }
}

/// How far it came.
#[derive(Clone, Copy)]
enum Stage {
    /// Nothing was tried at the endpoint.
    Idle,
    /// A connection is being made, or was and did not prove itself.
    Connecting,
    /// Bytes may have been sent.
    Sent { reused: bool },
    /// The response's header came.
    Answered { status: u16, at: u64 },
}

/// Carries it out.
///
/// # Errors
/// Why there is no response.
pub(super) async fn exchange(order: &Order<'_>) -> Result<Answer, Failed> {
    let started = clock::now();
    let choice = Choice {
        hash: order.hash,
        tried: order.tried,
        now: started,
        random: random::bits(),
        subset: order.pool.subset,
    };
    let set = order.pool.set.load_full();
    let nobody = set.members.is_empty().then(|| set.nobody());
    let outcome = match order.purpose {
        Purpose::Copy(_) => pick_for_copy(order.pool, set, &choice),
        Purpose::Call => pick(order.pool, set, &choice),
    };
    let failed = |why| Failed {
        why,
        at: None,
        repeat: Repeat::Never,
    };
    let mut chosen = match outcome {
        Outcome::Chosen(chosen) => chosen,
        // Requests wait for a place; what is carried here is not worth one of theirs.
        Outcome::Full => return Err(failed(Failure::Full)),
        Outcome::Nobody(cause) => {
            let cause = nobody.unwrap_or(cause);
            if matches!(order.purpose, Purpose::Call) {
                order.pool.metrics.no_endpoint(cause);
            }
            return Err(failed(match *cause == causes::ADDRESS_FORBIDDEN {
                true => Failure::Forbidden,
                false => Failure::NoEndpoint,
            }));
        }
    };
    let mut stage = Stage::Idle;
    let carried = timeout_at(order.until, carry(order, &chosen, started, &mut stage)).await;
    let result = carried.unwrap_or(Err(Failure::TimedOut));
    if let Purpose::Call = order.purpose {
        tell(
            order.pool,
            &mut chosen,
            started,
            stage,
            result.as_ref().err(),
        );
    }
    result.map_err(|why| Failed {
        why,
        at: u16::try_from(chosen.at).ok(),
        repeat: match stage {
            Stage::Idle | Stage::Connecting => Repeat::Always,
            Stage::Sent { reused: true } => Repeat::IfHarmless,
            Stage::Sent { reused: false } | Stage::Answered { .. } => Repeat::Never,
        },
    })
}

/// Tells the endpoint what came of a call, by the same measure as of a request.
fn tell(pool: &Pool, chosen: &mut Chosen, started: u64, stage: Stage, failure: Option<&Failure>) {
    let now = clock::now();
    let endpoint = &chosen.set.members[chosen.at].endpoint;
    let is_silence = matches!(failure, Some(Failure::TimedOut));
    let verdict = match (stage, failure) {
        (Stage::Answered { status, .. }, _) => upstream::of_status(status),
        (Stage::Idle, _) | (_, None) => return,
        (Stage::Sent { reused: true }, Some(_)) if !is_silence => return,
        (Stage::Sent { .. }, Some(_)) if is_silence => Verdict::Silent,
        (Stage::Connecting | Stage::Sent { .. }, Some(_)) => Verdict::Gateway,
    };
    let at = match stage {
        Stage::Answered { at, .. } => at,
        Stage::Idle | Stage::Connecting | Stage::Sent { .. } => now,
    };
    let took = clock::between(started, at);
    let ok = !matches!(verdict, Verdict::Gateway | Verdict::Silent);
    if ok {
        balance::observe(&endpoint.state, at, took);
    }
    endpoint.metrics.attempt(ok, took.as_secs_f64());
    let probe = chosen.probe.take();
    let of = (pool, &*chosen.set);
    upstream::tell(of, endpoint, verdict, probe, at);
    let broke = matches!(stage, Stage::Answered { .. }) && failure.is_some() && !is_silence;
    if broke {
        upstream::tell(of, endpoint, Verdict::Broke, None, now);
    }
}

async fn carry(
    order: &Order<'_>,
    chosen: &Chosen,
    started: u64,
    stage: &mut Stage,
) -> Result<Answer, Failure> {
    let pool = order.pool;
    let endpoint = &chosen.set.members[chosen.at].endpoint;
    let peer = prepared(order, chosen).await?;
    *stage = Stage::Connecting;
    let connector = order.connections.connector();
    let (mut session, reused) = connector.get_http_session(&*peer).await?;
    if let Some(mtls) = &pool.settings.mtls {
        if let Err(is_of_endpoint) = prove(pool, mtls, &session, endpoint, reused) {
            if !is_of_endpoint {
                *stage = Stage::Idle;
            }
            return Err(Failure::Broken(
                "the endpoint is not who it should be".to_owned(),
            ));
        }
    }
    *stage = Stage::Sent { reused };
    send(&mut session, order, &peer).await?;
    let head = received(&mut session).await?;
    let at = clock::now();
    *stage = Stage::Answered {
        status: head.status.as_u16(),
        at,
    };
    let mut answer = Answer {
        head,
        body: Vec::new(),
        trailers: HeaderMap::new(),
        is_cut: false,
        took: clock::between(started, at),
        endpoint: endpoint.label.clone(),
    };
    match read(&mut session, order, &mut answer).await? {
        true => {
            match (&mut session, order.purpose) {
                (HttpSession::H1(session), _) => session.respect_keepalive(),
                (HttpSession::H2(session), Purpose::Call) => {
                    answer.trailers = session.read_trailers().await?.unwrap_or_default();
                }
                (HttpSession::H2(_) | HttpSession::Custom(()), _) => {}
            }
            let own = pool.settings.idle_timeout;
            let safe = endpoint.state.idle.safe(at);
            let idle = safe.map_or(own, |safe| own.min(safe));
            connector
                .release_http_session(session, &*peer, Some(idle))
                .await;
        }
        false => session.shutdown().await,
    }
    Ok(answer)
}

/// How to connect to the endpoint, and as whom.
async fn prepared(order: &Order<'_>, chosen: &Chosen) -> Result<Box<HttpPeer>, Failure> {
    let pool = order.pool;
    let peer = pool.peer(&chosen.set, chosen.at);
    let mut peer = peer.ok_or(Failure::NoEndpoint)?;
    peer.options.read_timeout = Some(order.timeout);
    peer.options.write_timeout = Some(order.timeout);
    let endpoint = &chosen.set.members[chosen.at].endpoint;
    if let Some(mtls) = &pool.settings.mtls {
        let caller = match order.purpose {
            Purpose::Copy(workload) => mtls.caller(workload).await,
            Purpose::Call => mtls.prober().await,
        };
        let (workload, svid) = caller.map_err(Failure::Broken)?;
        mtls.dress(&mut peer, &workload, &svid);
        peer.group_key ^= upstream::round(endpoint);
    }
    let age = pool.settings.max_age;
    peer.group_key ^= upstream::age(age, &endpoint.label, clock::now());
    Ok(peer)
}

/// Whether the endpoint is who it should be; else whether that is its own fault.
fn prove(
    pool: &Pool,
    mtls: &Outbound,
    session: &HttpSession,
    endpoint: &Endpoint,
    reused: bool,
) -> Result<(), bool> {
    let digest = session.digest();
    let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
    match mtls.check(tls) {
        Ok(proof) if !reused => endpoint.state.kept.made(proof.retires()),
        Ok(_) => {}
        Err((cause, detail)) => {
            line::tell(&pool.name, cause, &detail);
            return Err(upstream::is_of_endpoint(cause));
        }
    }
    Ok(())
}

async fn send(session: &mut HttpSession, order: &Order<'_>, peer: &HttpPeer) -> Result<()> {
    let mut head = Box::new(order.head.clone());
    let may_be_empty = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !order.body.is_empty() || !may_be_empty {
        head.insert_header(CONTENT_LENGTH, order.body.len())?;
    }
    match session {
        HttpSession::H2(_) => authority(&mut head, peer)?,
        HttpSession::H1(_) | HttpSession::Custom(()) => head.set_version(Version::HTTP_11),
    }
    session.write_request_header(head).await?;
    if !order.body.is_empty() {
        session.write_request_body(order.body.clone(), true).await?;
    }
    session.finish_request_body().await
}

/// HTTP/2 names the host in its target (RFC 9113 section 8.3.1).
fn authority(head: &mut RequestHeader, peer: &HttpPeer) -> Result<()> {
    let host = head.remove_header(&HOST);
    let host = host.as_ref().map_or(&b""[..], |host| host.as_bytes());
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let uri = Uri::builder()
        .scheme(if peer.tls() { "https" } else { "http" })
        .authority(host)
        .path_and_query(target)
        .build();
    head.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "the authority of an exchange")?);
    Ok(())
}

/// The header of the response itself.
async fn received(session: &mut HttpSession) -> Result<Box<ResponseHeader>> {
    loop {
        session.read_response_header().await?;
        let Some(head) = session.response_header() else {
            return Error::e_explain(
                ErrorType::InvalidHTTPHeader,
                "an exchange without a response",
            );
        };
        if !head.status.is_informational() {
            return Ok(Box::new(head.clone()));
        }
    }
}

/// Reads the body. Whether it came to its end.
async fn read(session: &mut HttpSession, order: &Order<'_>, answer: &mut Answer) -> Result<bool> {
    let mut read = 0;
    while let Some(piece) = session.read_response_body().await? {
        read += piece.len();
        let room = order.keep.saturating_sub(answer.body.len());
        answer.is_cut |= piece.len() > room;
        answer
            .body
            .extend_from_slice(&piece[..piece.len().min(room)]);
        if read > order.read {
            return Ok(false);
        }
    }
    Ok(true)
}
