//! One copy and its response: a turn at the pool's gate, an endpoint, bytes out, bytes in.
//! It must not try again, nor touch what requests learn of endpoints: a copy only counts as load while it is under way.
//! Runs on a task of its own.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Uri, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::{timeout_at, Instant};

use super::{compare, Job, Response};
use crate::observe::clock;
use crate::observe::metrics::{Compared, MirrorResult};
use crate::observe::mirror::Difference;
use crate::proxy::line;
use crate::proxy::random;
use crate::proxy::upstream::{self, pick_for_copy, Outcome};
use crate::snapshot::balance::Choice;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::gate::{Entry, Pass};
use crate::snapshot::mtls::Outbound;
use crate::snapshot::route::{Compare, CompareBody, Mirror};

/// Lets a copy go on its way, if the pool's gate is not full.
pub(super) fn dispatch(job: Job) {
    let Some(mirror) = job.mirror() else {
        return;
    };
    let Some(pool) = &mirror.pool else {
        mirror.metrics.finished(MirrorResult::NoEndpoint);
        return;
    };
    let until = Instant::now() + mirror.timeout;
    match pool.gate.enter(mirror.bounds) {
        Entry::Full => mirror.metrics.finished(MirrorResult::QueueFull),
        Entry::Now(pass) => drop(tokio::spawn(run(job, pass, until))),
        Entry::Later(turn) => drop(tokio::spawn(async move {
            match timeout_at(until, turn).await {
                Ok(Ok(pass)) => run(job, pass, until).await,
                Ok(Err(_)) | Err(_) => {
                    if let Some(mirror) = job.mirror() {
                        mirror.metrics.finished(MirrorResult::QueueTimeout);
                    }
                }
            }
        })),
    }
}

async fn run(mut job: Job, pass: Pass, until: Instant) {
    let waiting = job.response.take();
    let Some(mirror) = job.mirror() else {
        return;
    };
    let mut endpoint = String::new();
    let outcome = match timeout_at(until, exchange(&job, mirror, &mut endpoint)).await {
        Err(_) => Err(MirrorResult::TimedOut),
        Ok(Err(Failure::NoEndpoint)) => Err(MirrorResult::NoEndpoint),
        Ok(Err(Failure::Full)) => Err(MirrorResult::EndpointsFull),
        Ok(Err(Failure::Broken)) => Err(MirrorResult::Failed),
        Ok(Ok(response)) => Ok(response),
    };
    // Waiting for the request's own response takes no place.
    drop(pass);
    match &outcome {
        Ok(response) => mirror.metrics.answered(response.took.as_secs_f64()),
        Err(result) => mirror.metrics.finished(*result),
    }
    let (Some(compare), Some(waiting)) = (&mirror.compare, waiting) else {
        return;
    };
    let Ok(mirrored) = outcome else {
        mirror.metrics.compared(Compared::MirrorFailed);
        return;
    };
    // A stream may go on for long; nobody needs to wait for its end.
    let Ok(Ok(own)) = timeout_at(until.max(Instant::now() + LEAST_WAIT), waiting).await else {
        mirror.metrics.compared(Compared::PrimaryFailed);
        return;
    };
    report(&job, mirror, compare, &own, &mirrored, endpoint);
}

/// Counts what came of a comparison, and keeps an example of a difference.
fn report(
    job: &Job,
    mirror: &Mirror,
    compare: &Compare,
    own: &Response,
    mirrored: &Response,
    endpoint: String,
) {
    if compare.latency {
        let difference = mirrored.took.as_secs_f64() - own.took.as_secs_f64();
        mirror.metrics.latency(difference);
    }
    let (compared, what) = compare::compare(compare, own, mirrored);
    mirror.metrics.compared(compared);
    if !what.is_empty() {
        mirror.metrics.differences.add(Difference {
            at: SystemTime::now(),
            request_id: job.request_id.clone(),
            method: job.head.method.to_string(),
            path: job.head.uri.path().to_owned(),
            endpoint,
            what,
            took: own.took,
            mirror_took: mirrored.took,
        });
    }
}

enum Failure {
    NoEndpoint,
    Full,
    Broken,
}

impl From<Box<Error>> for Failure {
    fn from(error: Box<Error>) -> Failure {
        log::debug!("a copy was not answered: {error}");
        Failure::Broken
    }
}

/// Shows the endpoint who calls.
async fn dress(
    peer: &mut HttpPeer,
    mtls: &Outbound,
    job: &Job,
    endpoint: &Endpoint,
) -> Result<(), Failure> {
    let caller = mtls.caller(job.caller.as_ref()).await;
    let (workload, svid) = caller.map_err(|_| Failure::Broken)?;
    mtls.dress(peer, &workload, &svid);
    peer.group_key ^= upstream::round(endpoint);
    Ok(())
}

async fn exchange(job: &Job, mirror: &Mirror, endpoint: &mut String) -> Result<Response, Failure> {
    let pool = mirror.pool.as_ref().ok_or(Failure::NoEndpoint)?;
    let set = pool.set.load_full();
    let started = clock::now();
    let choice = Choice {
        hash: job.hash,
        tried: &[],
        now: started,
        random: random::bits(),
        subset: None,
    };
    let chosen = match pick_for_copy(pool, set, &choice) {
        Outcome::Chosen(chosen) => chosen,
        // Requests wait for a place; a copy is not worth one of theirs.
        Outcome::Full => return Err(Failure::Full),
        Outcome::Nobody(_) => return Err(Failure::NoEndpoint),
    };
    let member = &chosen.set.members[chosen.at];
    let peer = pool.peer(&chosen.set, chosen.at);
    let mut peer = peer.ok_or(Failure::NoEndpoint)?;
    endpoint.push_str(&member.endpoint.label);
    peer.options.read_timeout = Some(mirror.timeout);
    peer.options.write_timeout = Some(mirror.timeout);
    let mtls = pool.settings.mtls.as_ref();
    if let Some(mtls) = mtls {
        dress(&mut peer, mtls, job, &member.endpoint).await?;
    }
    let connector = job.shared.mirrors.connector();
    let (mut session, reused) = connector.get_http_session(&*peer).await?;
    let tls = session
        .digest()
        .and_then(|digest| digest.ssl_digest.as_deref());
    match mtls.map(|mtls| mtls.check(tls)) {
        Some(Err((cause, detail))) => {
            line::tell(&pool.name, cause, &detail);
            return Err(Failure::Broken);
        }
        Some(Ok(proof)) if !reused => member.endpoint.state.kept.made(proof.retires()),
        Some(Ok(_)) | None => {}
    }
    send(&mut session, job, &peer).await?;
    let most = match &mirror.compare {
        Some(compare) if compare.body != CompareBody::None => compare.body_limit,
        _ => 0,
    };
    let (response, is_whole) = receive(&mut session, started, most).await?;
    match is_whole {
        true => {
            if let HttpSession::H1(session) = &mut session {
                session.respect_keepalive();
            }
            let idle = pool.settings.idle_timeout;
            connector
                .release_http_session(session, &*peer, Some(idle))
                .await;
        }
        false => session.shutdown().await,
    }
    Ok(response)
}

async fn send(session: &mut HttpSession, job: &Job, peer: &HttpPeer) -> Result<()> {
    let mut head = Box::new(job.head.clone());
    let may_be_empty = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !job.body.is_empty() || !may_be_empty {
        head.insert_header(CONTENT_LENGTH, job.body.len())?;
    }
    match session {
        HttpSession::H2(_) => authority(&mut head, peer)?,
        HttpSession::H1(_) | HttpSession::Custom(()) => head.set_version(Version::HTTP_11),
    }
    session.write_request_header(head).await?;
    if !job.body.is_empty() {
        session.write_request_body(job.body.clone(), true).await?;
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
    head.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "the authority of a copy")?);
    Ok(())
}

/// The response, of whose body so much is kept, and whether it was read to its end.
async fn receive(session: &mut HttpSession, started: u64, most: usize) -> Result<(Response, bool)> {
    let mut response = loop {
        session.read_response_header().await?;
        let Some(head) = session.response_header() else {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "a copy without a response");
        };
        if !head.status.is_informational() {
            break Response::of(head, clock::between(started, clock::now()));
        }
    };
    let mut read = 0;
    while let Some(piece) = session.read_response_body().await? {
        read += piece.len();
        response.add(&piece, most);
        if read > most.max(MOST_DISCARDED) {
            return Ok((response, false));
        }
    }
    Ok((response, true))
}

/// Bytes of a response that are read only to use the connection again.
const MOST_DISCARDED: usize = 1 << 20;
/// How long the request's own response may take at least after the copy's.
const LEAST_WAIT: Duration = Duration::from_secs(60);
