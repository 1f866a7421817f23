//! What an attempt came to, told to the endpoint's state: latency, success, failure.
//! It must not know whether another attempt follows.
//! Called by the hooks in `proxy`, and for connections passed through as bytes.

use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::Error;
use windrose_plugins::contract::{causes, Cause};

use super::{close_span, endpoint};
use crate::observe::clock;
use crate::proxy::request::{grpc_status, Ctx, Past};
use crate::proxy::{random, retry};
use crate::snapshot::balance;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::outlier::{self, Probe, Told, Verdict};
use crate::snapshot::pool::{EndpointSet, Pool};

/// A response header arrived: the endpoint's latency and health learn from it.
pub(in crate::proxy) fn responded(response: &ResponseHeader, ctx: &mut Ctx) {
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let now = clock::now();
    ctx.attempt.responded = Some(now);
    ctx.attempt.status = response.status.as_u16();
    ctx.cause = None;
    ctx.note_grpc_status(&response.headers);
    let verdict = match of_status(response.status.as_u16()) {
        Verdict::Ok if ctx.is_grpc => grpc_status(&response.headers).map(of_grpc),
        verdict => Some(verdict),
    };
    let Some(endpoint) = endpoint(ctx) else {
        return;
    };
    let took = clock::between(ctx.attempt.started, now);
    let verdict = verdict.map(|verdict| fair(verdict, ctx));
    let failed = matches!(verdict, Some(Verdict::Gateway | Verdict::Silent));
    if !failed {
        balance::observe(&endpoint.state, now, took);
    }
    endpoint.metrics.attempt(!failed, took.as_secs_f64());
    if response.status.as_u16() < 400 {
        teach_limit(ctx, now);
    }
    match verdict {
        Some(verdict) => settle(ctx, verdict, now),
        None => await_trailers(ctx, now),
    }
}

/// An adaptive limit learns from the time to an answer, also to one that never came; failures and refusals may be quick for any reason.
fn teach_limit(ctx: &Ctx, now: u64) {
    if let Some(limited) = ctx.pool.as_ref().and_then(|pool| pool.limits.as_ref()) {
        limited.state.answered(ctx.attempt.started, now);
    }
}

/// A gRPC response began; what it came to is in its trailers.
fn await_trailers(ctx: &mut Ctx, now: u64) {
    ctx.attempt.verdict_due = true;
    if let (Some(probe), Some(pool), Some(set)) =
        (&mut ctx.attempt.probe, &ctx.pool, &ctx.attempt.set)
    {
        probe.answered(&Told {
            rules: &pool.settings.ejection,
            members: &set.members,
            now,
            random: 0,
        });
    }
}

/// Trailers arrived: the end of a gRPC response.
pub(in crate::proxy) fn trailers(trailers: &HeaderMap, ctx: &mut Ctx) {
    ctx.note_grpc_status(trailers);
    if ctx.attempt.verdict_due {
        let verdict = grpc_status(trailers).map_or(Verdict::Ok, of_grpc);
        let verdict = fair(verdict, ctx);
        settle(ctx, verdict, clock::now());
    }
}

/// The request is over. A gRPC response that ended without a status, and without breaking, was an answer all the same.
pub(in crate::proxy) fn ended(ctx: &mut Ctx) {
    if ctx.attempt.verdict_due && ctx.cause.is_none() {
        settle(ctx, Verdict::Ok, clock::now());
    }
    ctx.attempt.verdict_due = false;
    ctx.attempt.probe = None;
}

/// An attempt came to nothing: no connection, or one that broke. `blames_endpoint` says whether that tells anything of the
/// endpoint.
pub(in crate::proxy) fn gave_up(ctx: &mut Ctx, blames_endpoint: bool) {
    let now = clock::now();
    if ctx.attempt.responded.is_none() {
        if let Some(endpoint) = endpoint(ctx) {
            endpoint.metrics.attempt(
                false,
                clock::between(ctx.attempt.started, now).as_secs_f64(),
            );
        }
    }
    if blames_endpoint {
        let is_counted = ctx.attempt.responded.is_some() && !ctx.attempt.verdict_due;
        let verdict = match is_counted {
            true => Verdict::Broke,
            false if is_silence(ctx.cause) => Verdict::Silent,
            false => Verdict::Gateway,
        };
        settle(ctx, verdict, now);
    }
    ctx.attempt.verdict_due = false;
    ctx.attempt.probe = None;
    let cause = ctx.cause;
    if ctx.attempt.responded.is_none() && cause == Some(&causes::RESPONSE_TIMEOUT) {
        teach_limit(ctx, now);
    }
    close_span(ctx, cause);
    let endpoint = endpoint(ctx).cloned();
    if let (true, Some(endpoint)) = (ctx.attempt.in_flight.take().is_some(), endpoint) {
        let attempt = &mut ctx.attempt;
        attempt.past.push(Past {
            endpoint,
            cause,
            status: attempt.responded.map(|_| attempt.status),
            reused: attempt.reused,
            duration: clock::between(attempt.started, now),
        });
    }
}

/// An endpoint that is told of a deadline says itself when it has passed. One that the client made too short says nothing of it.
fn fair(verdict: Verdict, ctx: &Ctx) -> Verdict {
    match verdict {
        Verdict::Silent if !retry::is_to_blame(ctx, &causes::DEADLINE_EXCEEDED) => Verdict::Ok,
        verdict => verdict,
    }
}

/// Whether a failure is about the endpoint, rather than about who calls: a caller without an identity, or one that its node or the
/// endpoint turns away, must not take the endpoint from all others.
pub(in crate::proxy) fn is_of_endpoint(cause: &'static Cause) -> bool {
    let about_callers = [
        &causes::MTLS_NO_IDENTITY,
        &causes::MTLS_REFUSED,
        &causes::TUNNEL_REFUSED,
        &causes::INTERNAL,
    ];
    !about_callers.contains(&cause)
}

fn is_silence(cause: Option<&'static Cause>) -> bool {
    let silences = [&causes::RESPONSE_TIMEOUT, &causes::DEADLINE_EXCEEDED];
    cause.is_some_and(|cause| silences.contains(&cause))
}

/// Whether a connection that broke upstream tells anything of the endpoint.
///
/// Silence in a response that began is often meant: streams wait for events. While the request is still coming it is the client
/// that is slow. A kept connection may just have been closed for its
/// age, and a stream refused because there are many; but silence, nonsense, and a stream that the endpoint resets do tell.
pub(in crate::proxy) fn is_telling(error: &Error, ctx: &Ctx, reused: bool) -> bool {
    let is_silence = is_silence(ctx.cause);
    let is_upgraded = ctx.attempt.status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
    match ctx.attempt.responded {
        Some(_) => !is_silence && !is_upgraded,
        None if is_silence => ctx.attempt.sent,
        None if !reused => true,
        None => {
            let is_nonsense = ctx
                .cause
                .is_some_and(|cause| *cause == causes::UPSTREAM_PROTOCOL);
            is_nonsense || is_reset_stream(error)
        }
    }
}

fn is_reset_stream(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<h2::Error>();
    cause.is_some_and(|error| {
        let is_harmless = matches!(
            error.reason(),
            Some(h2::Reason::REFUSED_STREAM | h2::Reason::NO_ERROR)
        );
        error.is_reset() && error.is_remote() && !is_harmless
    })
}

/// The verdict on the attempt is known.
fn settle(ctx: &mut Ctx, verdict: Verdict, now: u64) {
    ctx.attempt.verdict_due = false;
    let probe = ctx.attempt.probe.take();
    if let (Some(pool), Some(set), Some(endpoint)) = (&ctx.pool, &ctx.attempt.set, endpoint(ctx)) {
        tell((pool, set), endpoint, verdict, probe, now);
    }
}

/// Tells an endpoint what an attempt came to; also for connections passed through as bytes.
pub(in crate::proxy) fn tell(
    (pool, set): (&Pool, &EndpointSet),
    endpoint: &Endpoint,
    verdict: Verdict,
    probe: Option<Box<Probe>>,
    now: u64,
) {
    let told = Told {
        rules: &pool.settings.ejection,
        members: &set.members,
        now,
        random: random::bits(),
    };
    if let Some(change) = outlier::tell(endpoint, verdict, probe, &told) {
        change.report(&pool.name, endpoint);
    }
}

/// What a status says of its endpoint.
pub(in crate::proxy) fn of_status(status: u16) -> Verdict {
    match status {
        429 => Verdict::Limited,
        502 | 503 => Verdict::Gateway,
        504 => Verdict::Silent,
        500..=599 => Verdict::Error,
        _ => Verdict::Ok,
    }
}

/// As the HTTP status that a gRPC status stands for. PERMISSION_DENIED is no failure of the endpoint, though Linkerd counts it:
/// a caller without rights could take endpoints out. Neither is UNKNOWN, which services answer for errors of their own.
fn of_grpc(status: u16) -> Verdict {
    match status {
        UNAVAILABLE => Verdict::Gateway,
        DEADLINE_EXCEEDED => Verdict::Silent,
        INTERNAL | DATA_LOSS => Verdict::Error,
        RESOURCE_EXHAUSTED => Verdict::Limited,
        _ => Verdict::Ok,
    }
}

const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const DATA_LOSS: u16 = 15;
