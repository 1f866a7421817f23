//! The endpoint of an attempt: chosen, connected, heard from.
//! It must not know why a request was routed to its pool.
//! Called by the hooks in `proxy`; reports load, latency and failures to the endpoint's state.

mod key;
mod outcome;

pub(in crate::proxy) use outcome::{gave_up, record_failure, responded};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{causes, Cause};

use crate::observe::clock;
use crate::observe::trace::AttemptSpan;
use crate::proxy::dial::Dial;
use crate::proxy::proxy_protocol;
use crate::proxy::random;
use crate::proxy::request::Ctx;
use crate::snapshot::balance::{self, Choice};
use crate::snapshot::endpoint::{Endpoint, InFlight};
use crate::snapshot::pool::PoolSettings;
use crate::snapshot::route::Timeouts;

/// Chooses an endpoint for the next attempt and says how to connect to it.
pub(in crate::proxy) fn peer(session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let (Some(pool), Some(candidate)) = (ctx.pool.clone(), ctx.candidate.clone()) else {
        return fail(ctx, &causes::INTERNAL);
    };
    let now = clock::now();
    let timeouts = &candidate.rule.timeouts;
    if is_late(ctx, timeouts, now) {
        return fail(ctx, &causes::DEADLINE_EXCEEDED);
    }
    let set = pool.set.load_full();
    if set.members.is_empty() {
        pool.metrics.no_endpoint(&causes::NO_ENDPOINT);
        return fail(ctx, &causes::NO_ENDPOINT);
    }
    let same_set = ctx
        .attempt
        .set
        .as_ref()
        .is_some_and(|before| Arc::ptr_eq(before, &set));
    if !same_set {
        ctx.attempt.tried.clear();
    }
    let hash = key::hash(&pool, session.req_header(), &ctx.facts);
    let choice = Choice {
        hash,
        tried: &ctx.attempt.tried,
        now,
        random: random::bits(),
    };
    let Some(at) = set.table.pick(&set.members, &choice) else {
        pool.metrics.no_endpoint(&causes::NO_HEALTHY_ENDPOINT);
        // The failure that used up the endpoints says more than that none is left.
        let cause = ctx.cause.unwrap_or(&causes::NO_HEALTHY_ENDPOINT);
        return fail(ctx, cause);
    };
    let member = &set.members[at];
    let Some(template) = &member.peer else {
        return fail(ctx, &causes::INTERNAL);
    };
    let mut peer = template.clone();
    peer.options.read_timeout = read_timeout(timeouts, ctx, now);
    peer.options.write_timeout = timeouts.idle;
    dial(&mut peer, &pool.settings, ctx, &member.endpoint);
    // Each attempt sends the body from its begin.
    ctx.request_bytes = 0;
    let attempt = &mut ctx.attempt;
    attempt.count += 1;
    attempt.tried.push(u16::try_from(at).unwrap_or(u16::MAX));
    attempt.in_flight = Some(InFlight::start(&member.endpoint));
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

/// Begins the attempt's span, if the request is traced.
fn open_span(ctx: &mut Ctx) {
    let label = endpoint(ctx).map(|endpoint| endpoint.label.to_string());
    let Some(trace) = ctx.trace.as_mut() else {
        return;
    };
    let span_id = trace.begin_attempt();
    if trace.sampled {
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

fn is_late(ctx: &Ctx, timeouts: &Timeouts, now: u64) -> bool {
    timeouts
        .request
        .is_some_and(|whole| clock::between(ctx.started, now) >= whole)
}

/// Pingora has one time for every read, header or body. Ordinary requests get the response-header time; streams, which may
/// be silent on purpose, get the idle time. Neither is longer than what is left of the whole request's time.
fn read_timeout(timeouts: &Timeouts, ctx: &Ctx, now: u64) -> Option<Duration> {
    let one = if ctx.is_stream {
        timeouts.idle
    } else {
        timeouts.response_header
    };
    let left = timeouts
        .request
        .map(|whole| whole.saturating_sub(clock::between(ctx.started, now)));
    match (one, left) {
        (Some(one), Some(left)) => Some(one.min(left)),
        (one, left) => one.or(left),
    }
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

/// A connection is there, new or kept.
pub(in crate::proxy) fn connected(ctx: &mut Ctx, reused: bool) {
    ctx.attempt.reused = reused;
    if let Some(endpoint) = endpoint(ctx) {
        let seconds = clock::between(ctx.attempt.started, clock::now()).as_secs_f64();
        endpoint.metrics.connect(reused, seconds);
    }
}

/// The endpoint of the last attempt.
pub(in crate::proxy) fn endpoint(ctx: &Ctx) -> Option<Arc<Endpoint>> {
    let set = ctx.attempt.set.as_ref()?;
    set.members
        .get(ctx.attempt.member)
        .map(|member| member.endpoint.clone())
}
