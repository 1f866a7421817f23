//! The endpoint of an attempt: chosen, connected, heard from.
//! It must not know why a request was routed to its pool.
//! Called by the hooks in `proxy`; reports load, latency and failures to the endpoint's state.

mod admission;
mod choice;
mod kept;
mod key;
mod mutual;
mod outcome;
mod session;

pub(in crate::proxy) use admission::{
    enter, enter_connection, first_endpoints, leaves, may_retry, Held,
};
pub(in crate::proxy) use choice::{pick, pick_for_copy, Chosen, Outcome};
pub use kept::Kept;
pub(in crate::proxy) use kept::Watched;
pub(in crate::proxy) use key::{hash, hash_of_client};
pub(in crate::proxy) use mutual::{proven, round};
pub(in crate::proxy) use outcome::{
    ended, gave_up, is_of_endpoint, is_telling, of_status, responded, tell, trailers,
};
pub(in crate::proxy) use session::tell as tell_session;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{causes, Cause};

use crate::observe::clock;
use crate::observe::trace::AttemptSpan;
use crate::proxy::dial::Dial;
use crate::proxy::line;
use crate::proxy::proxy_protocol;
use crate::proxy::request::Ctx;
use crate::proxy::tunnel::Through;
use crate::proxy::Shared;
use crate::snapshot::balance;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::pool::{Pool, PoolProtocol, PoolSettings};
use crate::snapshot::route::{Candidate, Retry, Timeouts};

/// Chooses an endpoint for the next attempt and says how to connect to it. Waits first if the attempt before asked for it.
pub(in crate::proxy) async fn peer(
    session: &mut Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
) -> Result<Box<HttpPeer>> {
    let wait = std::mem::take(&mut ctx.attempt.wait);
    if wait > 0 {
        // Rare, and a timer is large.
        let stays = Box::pin(rest(session, Duration::from_nanos(wait))).await;
        if !stays {
            return fail(ctx, &causes::CLIENT_CLOSED);
        }
    }
    let (Some(pool), Some(candidate)) = (ctx.pool.clone(), ctx.candidate.clone()) else {
        return fail(ctx, &causes::INTERNAL);
    };
    let now = clock::now();
    if ctx.is_late(now) {
        return fail(ctx, &causes::DEADLINE_EXCEEDED);
    }
    if ctx.attempt.first_started == 0 {
        pay(&pool, &candidate.rule.retry, now);
    }
    let (chosen, now) = match chosen(session, ctx, &pool, now).await {
        Ok(chosen) => chosen,
        Err(cause) => return fail(ctx, cause),
    };
    let Chosen {
        set,
        at,
        in_flight,
        probe,
    } = chosen;
    let member = &set.members[at];
    let Some(peer) = pool.peer(&set, at) else {
        return fail(ctx, &causes::INTERNAL);
    };
    if ctx.attempt.count > 0 && cannot_finish(ctx, &member.endpoint, now) {
        return fail(ctx, &causes::DEADLINE_EXCEEDED);
    }
    let known = (&mut *ctx, shared, now);
    let peer = match prepared(peer, &candidate, &pool, known, &member.endpoint).await {
        Ok(peer) => peer,
        Err(cause) => return fail(ctx, cause),
    };
    pool.count_zone(&set, at);
    // Each attempt sends the body from its begin.
    ctx.request_bytes = 0;
    let attempt = &mut ctx.attempt;
    attempt.count += 1;
    attempt.tried.push(u16::try_from(at).unwrap_or(u16::MAX));
    attempt.in_flight = Some(in_flight);
    attempt.probe = probe;
    attempt.verdict_due = false;
    attempt.proof = None;
    attempt.sent = session.as_downstream_mut().is_body_empty() || session.is_body_done();
    attempt.member = at;
    attempt.started = now;
    attempt.responded = None;
    if attempt.first_started == 0 {
        attempt.first_started = now;
    }
    attempt.set = Some(set);
    open_span(ctx);
    Ok(peer)
}

/// The peer of an attempt.
async fn prepared(
    mut peer: Box<HttpPeer>,
    candidate: &Candidate,
    pool: &Pool,
    (ctx, shared, now): (&mut Ctx, &Arc<Shared>, u64),
    endpoint: &Arc<Endpoint>,
) -> Result<Box<HttpPeer>, &'static Cause> {
    let mtls = pool.settings.mtls.as_ref();
    let caller = line::caller(pool, mutual::calls(ctx)).await?;
    if let (Some(mtls), Some((workload, svid))) = (mtls, &caller) {
        if mtls.hbone.is_none() {
            mtls.dress(&mut peer, workload, svid);
            peer.group_key ^= round(endpoint);
        }
    }
    // It may have waited for a certificate.
    let now = if mtls.is_some() { clock::now() } else { now };
    bound(&mut peer, &candidate.rule.timeouts, ctx, now);
    dial(&mut peer, &pool.settings, ctx, endpoint);
    keep(&mut peer, &pool.settings, (ctx, shared, now), endpoint);
    if let (Some(mtls), Some(caller)) = (mtls.filter(|mtls| mtls.hbone.is_some()), caller) {
        let through = Through {
            shared: shared.clone(),
            mtls: mtls.clone(),
            caller,
            pool: pool.name.clone(),
            timeout: pool.settings.connect_timeout,
            upgrade: ctx.is_upgrade,
            proof: OnceLock::new(),
        };
        mutual::tunnel(&mut peer, ctx, through);
    }
    peer.group_key ^= age(pool.settings.max_age, &endpoint.label, now);
    Ok(peer)
}

/// Waits before another attempt. `false` if the client went away meanwhile.
async fn rest(session: &mut Session, wait: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(wait) => true,
        () = admission::leaves(session) => false,
    }
}

/// A request pays for a part of a further attempt, its own or another's.
pub(in crate::proxy) fn pay(pool: &Pool, retry: &Retry, now: u64) {
    pool.retry_budget.deposit(now);
    if let Some(budget) = &retry.budget {
        budget.deposit(now);
    }
}

/// Whether the endpoint's responses take longer than what is left of the request's time. Asked of further attempts only: the
/// first one is what the client came for.
fn cannot_finish(ctx: &Ctx, endpoint: &Endpoint, now: u64) -> bool {
    let usual = balance::estimate(&endpoint.state, now);
    match (&ctx.due, usual) {
        (Some(due), Some(usual)) => due.left(now) < usual,
        _ => false,
    }
}

/// The endpoint of this attempt: the one that came with the place in the pool, or another; and the moment of the choice,
/// which may have waited for an endpoint with room.
async fn chosen(
    session: &mut Session,
    ctx: &mut Ctx,
    pool: &Pool,
    now: u64,
) -> Result<(Chosen, u64), &'static Cause> {
    if let Some(lack) = ctx.caching.as_ref().and_then(|it| it.lack) {
        return Err(lack);
    }
    let first = ctx.held.as_mut().and_then(|held| held.first.take());
    if let Some(chosen) = first {
        return Ok((chosen, now));
    }
    // The failure that called for another attempt says more than that there is none.
    let failure = ctx.cause;
    match choice::choose(session, ctx, pool, now) {
        Outcome::Chosen(chosen) => Ok((chosen, now)),
        Outcome::Nobody(cause) => {
            pool.metrics.no_endpoint(cause);
            Err(failure.unwrap_or(cause))
        }
        Outcome::Full => match Box::pin(admission::endpoint(session, ctx, pool)).await {
            Err(cause) if cause.status == 503 => Err(failure.unwrap_or(cause)),
            waited => waited.map(|chosen| (chosen, clock::now())),
        },
    }
}

/// Begins the attempt's span, if the request is traced.
fn open_span(ctx: &mut Ctx) {
    let Some(trace) = ctx.trace.as_mut() else {
        return;
    };
    let span_id = trace.begin_attempt();
    if trace.sampled {
        let label = endpoint(ctx).map(|endpoint| endpoint.label.to_string());
        ctx.spans.push(AttemptSpan {
            span_id,
            start: std::time::SystemTime::now(),
            duration: Duration::ZERO,
            endpoint: label.unwrap_or_default(),
            status: None,
            cause: None,
            reused: false,
        });
    }
}

/// Ends the attempt's span.
pub(in crate::proxy) fn close_span(ctx: &mut Ctx, cause: Option<&'static Cause>) {
    let status = Some(ctx.attempt.status).filter(|_| ctx.attempt.responded.is_some());
    let reused = ctx.attempt.reused;
    if let Some(span) = ctx.spans.last_mut().filter(|span| span.duration.is_zero()) {
        span.duration = span
            .start
            .elapsed()
            .unwrap_or_default()
            .max(Duration::from_nanos(1));
        (span.status, span.cause, span.reused) = (status, cause, reused);
    }
}

fn fail<T>(ctx: &mut Ctx, cause: &'static Cause) -> Result<T> {
    ctx.cause = Some(cause);
    let mut error = Error::explain(ErrorType::HTTPStatus(cause.status), cause.name);
    error.set_retry(false);
    Err(error)
}

/// The bounds of an attempt. Pingora has one time for every read, header or body. Ordinary requests get the response-header time;
/// streams, which may be silent on purpose, get the idle time. Nothing is longer than an attempt may take, nor than what is left of
/// the whole request's time; but what is meant to go on after its header has no such bound for its reads, and the timer of its
/// deadline rests then.
fn bound(peer: &mut HttpPeer, timeouts: &Timeouts, ctx: &Ctx, now: u64) {
    let left = ctx.due.as_ref().map(|due| due.left(now));
    let shortest = |times: [Option<Duration>; 3]| times.into_iter().flatten().min();
    let one = if ctx.is_stream {
        timeouts.idle
    } else {
        timeouts.response_header
    };
    let options = &mut peer.options;
    options.read_timeout = match ctx.is_endless {
        true => one,
        false => shortest([one, timeouts.per_try, left]),
    };
    options.write_timeout = timeouts.idle;
    if timeouts.per_try.is_some() || left.is_some() {
        options.connection_timeout = shortest([options.connection_timeout, timeouts.per_try, left]);
        options.total_connection_timeout =
            shortest([options.total_connection_timeout, timeouts.per_try, left]);
    }
}

/// What keeps requests off connections that are too old: a number that changes once in the age, at each endpoint at a
/// moment of its own. Pingora then no longer finds those made before; they end by being idle.
pub(in crate::proxy) fn age(age: Duration, endpoint: &str, now: u64) -> u64 {
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    if age == 0 {
        return 0;
    }
    let offset = balance::hash_bytes(endpoint.as_bytes()) % age;
    balance::mix(now.saturating_add(offset) / age + 1)
}

/// Connections that begin with a PROXY header belong to that client alone; those for upgrades to one request.
fn dial(peer: &mut HttpPeer, settings: &PoolSettings, ctx: &Ctx, endpoint: &Endpoint) {
    let upgrade = ctx.is_upgrade;
    let header = match (settings.proxy_protocol, &ctx.connection) {
        (Some(version), Some(connection)) => {
            let address = ctx.facts.client.unwrap_or(connection.client.ip());
            let client = SocketAddr::new(address, connection.client.port());
            proxy_protocol::write(version, client, connection.local)
        }
        _ if !upgrade => return,
        _ => Vec::new(),
    };
    let mut key = header.clone();
    key.extend_from_slice(endpoint.label.as_bytes());
    key.push(u8::from(upgrade));
    peer.group_key ^= balance::hash_bytes(&key).rotate_left(17);
    peer.options.custom_l4 = Some(Arc::new(Dial {
        header,
        timeout: settings.connect_timeout,
        upgrade,
    }));
}

/// How long the connection is kept after the request: no longer than the endpoint is known to keep it.
fn keep(
    peer: &mut HttpPeer,
    settings: &PoolSettings,
    (ctx, shared, now): (&mut Ctx, &Shared, u64),
    endpoint: &Arc<Endpoint>,
) {
    ctx.attempt.watched = None;
    if settings.protocol != PoolProtocol::Http1 {
        return;
    }
    let own = settings.idle_timeout;
    match endpoint.state.idle.safe(now) {
        Some(safe) => peer.options.idle_timeout = Some(own.min(safe)),
        None => ctx.attempt.watched = Watched::new(&shared.kept, endpoint, own, now),
    }
    peer.options.tracer = ctx.attempt.watched.as_ref().map(Watched::tracer);
}

/// A kept connection broke before it brought a response: it tells how long the endpoint keeps idle ones.
pub(in crate::proxy) fn raced(ctx: &Ctx) {
    let idle = Duration::from_millis(ctx.attempt.idle_ms.into());
    let endpoint = endpoint(ctx).filter(|_| !idle.is_zero() && ctx.attempt.responded.is_none());
    if let Some(endpoint) = endpoint {
        endpoint.state.idle.closed(idle, clock::now());
        endpoint.metrics.ended_idle("raced");
    }
}

/// A connection is there, new or kept.
pub(in crate::proxy) fn connected(ctx: &mut Ctx, kept: &Kept, fd: i32, reused: bool) {
    ctx.attempt.reused = reused;
    let pool = ctx.pool.as_ref();
    ctx.attempt.fd = 0;
    ctx.attempt.idle_ms = 0;
    if pool.is_some_and(|pool| pool.settings.protocol == PoolProtocol::Http1) {
        ctx.attempt.fd = fd;
        // One that is kept is there at once.
        let idle = kept.take(fd, reused, ctx.attempt.started);
        let idle = idle.map_or(0, |idle| idle.as_millis());
        ctx.attempt.idle_ms = u32::try_from(idle).unwrap_or(u32::MAX);
        if let Some(watched) = ctx.attempt.watched.take().filter(|_| !reused) {
            watched.is(fd);
        }
    }
    if let (false, Some(due)) = (reused, &mut ctx.due) {
        // The wait for the header has what was left before.
        due.put_off(clock::between(ctx.attempt.started, clock::now()));
    }
    if let Some(endpoint) = endpoint(ctx) {
        let took = || clock::between(ctx.attempt.started, clock::now()).as_secs_f64();
        endpoint.metrics.connect((!reused).then(took));
    }
}

/// The endpoint of the last attempt.
pub(in crate::proxy) fn endpoint(ctx: &Ctx) -> Option<&Arc<Endpoint>> {
    let set = ctx.attempt.set.as_ref()?;
    let member = set.members.get(ctx.attempt.member)?;
    Some(&member.endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_connections_changes_once_in_their_age_and_elsewhere_at_another_moment() {
        let minute = Duration::from_secs(60);
        let second = |at: u64| at * 1_000_000_000;
        let changes = |endpoint: &str| -> Vec<u64> {
            let is_new = |at: &u64| {
                age(minute, endpoint, second(*at)) != age(minute, endpoint, second(*at - 1))
            };
            (1..=240).filter(is_new).collect()
        };

        let (one, other) = (changes("10.0.0.1:80"), changes("10.0.0.2:80"));

        assert_eq!(one.len(), 4);
        assert!(one.windows(2).all(|two| two[1] - two[0] == 60), "{one:?}");
        assert_ne!(one, other);
        assert_eq!(age(Duration::ZERO, "10.0.0.1:80", second(1)), 0);
    }
}
