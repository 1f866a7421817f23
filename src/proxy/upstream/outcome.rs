//! What an attempt came to, told to the endpoint's state: latency, success, failure.
//! It must not know whether another attempt follows.
//! Called by the hooks in `proxy`, and for connections passed through as bytes.

use http::StatusCode;
use pingora::http::ResponseHeader;

use super::{close_span, endpoint};
use crate::observe::clock;
use crate::proxy::request::{Ctx, Past};
use crate::snapshot::balance;
use crate::snapshot::endpoint::Endpoint;
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
    let Some(endpoint) = endpoint(ctx) else {
        return;
    };
    let took = clock::between(ctx.attempt.started, now);
    let failed = matches!(response.status.as_u16(), 502..=504);
    if failed {
        failure(ctx, &endpoint, now);
    } else {
        endpoint.state.succeeded();
        balance::observe(&endpoint.state, now, took);
    }
    endpoint.metrics.attempt(!failed, took.as_secs_f64());
}

/// An attempt came to nothing: no connection, or one that broke before its response.
pub(in crate::proxy) fn gave_up(ctx: &mut Ctx, blames_endpoint: bool) {
    let now = clock::now();
    if ctx.attempt.responded.is_none() {
        if let Some(endpoint) = endpoint(ctx) {
            endpoint.metrics.attempt(
                false,
                clock::between(ctx.attempt.started, now).as_secs_f64(),
            );
            if blames_endpoint {
                failure(ctx, &endpoint, now);
            }
        }
    }
    let cause = ctx.cause;
    close_span(ctx, cause);
    if let (true, Some(endpoint)) = (ctx.attempt.in_flight.take().is_some(), endpoint(ctx)) {
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

/// Counts a failure of a real request and ejects the endpoint when there were enough in a row.
fn failure(ctx: &Ctx, endpoint: &Endpoint, now: u64) {
    let (Some(pool), Some(set)) = (&ctx.pool, &ctx.attempt.set) else {
        return;
    };
    record_failure(pool, set, endpoint, now);
}

/// See [`failure`]; also for connections passed through as bytes.
pub(in crate::proxy) fn record_failure(
    pool: &Pool,
    set: &EndpointSet,
    endpoint: &Endpoint,
    now: u64,
) {
    let ejection = &pool.settings.ejection;
    let in_a_row = endpoint.state.failed();
    let enough = ejection.consecutive_failures > 0 && in_a_row >= ejection.consecutive_failures;
    if enough
        && set.members.len() > 1
        && balance::may_eject(&set.members, now, ejection.max_ejected)
    {
        let time = endpoint
            .state
            .eject(now, ejection.base_time, ejection.max_time);
        endpoint.metrics.ejected(true);
        log::warn!(
            "endpoint ejected: pool={} endpoint={} failures={in_a_row} seconds={}",
            pool.name,
            endpoint.label,
            time.as_secs_f64()
        );
    }
}
