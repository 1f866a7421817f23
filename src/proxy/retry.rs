//! What a failed attempt means: its cause, and whether another one is made.
//! It must not know how endpoints are chosen.
//! Called by the hooks for failures to connect and for connections that broke.

use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};
use windrose_plugins::contract::{causes, Cause};

use super::request::Ctx;
use super::upstream;
use crate::observe::event;

/// No connection was made; nothing was sent, so any method may be tried again.
pub(super) fn not_connected(_: &Session, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    let cause = connect_cause(&error);
    ctx.cause = Some(cause);
    tell(ctx, cause, &error);
    upstream::gave_up(ctx, true);
    let again = wants(ctx, |retry| retry.on_connect_failure);
    if again {
        count(ctx, cause);
    }
    error.set_retry(again);
    error
}

/// Only the system knows why a connection could not be made, so the log repeats it.
fn tell(ctx: &Ctx, cause: &'static Cause, error: &Error) {
    if *cause != causes::CONNECT_FAILED {
        return;
    }
    let pool = ctx.pool.as_ref().map_or("", |pool| &*pool.name);
    event::warn("connection to endpoint failed", pool, || {
        format!("no connection to an endpoint: pool={pool} cause={cause} reason={error}")
    });
}

/// A connection broke, on either side.
pub(super) fn broken(
    session: &Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let upstream_broke = *error.esource() == ErrorSource::Upstream;
    if ctx.cause.is_none() {
        ctx.cause = Some(if upstream_broke {
            cause(&error)
        } else {
            downstream_cause(&error)
        });
    }
    let is_telling = upstream_broke && upstream::is_telling(&error, ctx, reused);
    upstream::gave_up(ctx, is_telling);
    let again = upstream_broke
        && session.response_written().is_none()
        && may_send_again(session, ctx, reused);
    if let (true, Some(cause)) = (again, ctx.cause.take()) {
        count(ctx, cause);
        ctx.cause = Some(cause);
    }
    // Always decided here: an undecided `ReusedOnly` would panic in Pingora.
    error.set_retry(again);
    error
}

fn may_send_again(session: &Session, ctx: &mut Ctx, reused: bool) -> bool {
    let Some(candidate) = &ctx.candidate else {
        return false;
    };
    let retry = &candidate.rule.retry;
    let safe = retry.methods.contains(&session.req_header().method);
    let replayable = !session.as_downstream().retry_buffer_truncated();
    if !safe || !replayable {
        return false;
    }
    // A kept connection that the endpoint closed just then says nothing about the endpoint: one attempt is free.
    if reused && retry.attempts > 0 && retry.on_reset && !ctx.attempt.free_retry_used {
        ctx.attempt.free_retry_used = true;
        ctx.attempt.count -= 1;
        ctx.attempt.tried.pop();
        return true;
    }
    wants(ctx, |retry| retry.on_reset)
}

fn wants(ctx: &Ctx, on: impl Fn(&crate::snapshot::route::Retry) -> bool) -> bool {
    let retry = ctx
        .candidate
        .as_ref()
        .map(|candidate| &candidate.rule.retry);
    retry.is_some_and(|retry| on(retry) && ctx.attempt.count <= retry.attempts)
}

fn count(ctx: &Ctx, cause: &'static Cause) {
    if let Some(candidate) = &ctx.candidate {
        candidate.metrics.retried(cause);
    }
}

/// The cause of a failure to connect. Pingora calls several of the system's reasons internal: no permission, no local port.
fn connect_cause(error: &Error) -> &'static Cause {
    match error.etype() {
        ErrorType::InternalError => &causes::CONNECT_FAILED,
        _ => cause(error),
    }
}

/// The cause of a failure upstream.
pub(super) fn cause(error: &Error) -> &'static Cause {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => &causes::CONNECT_TIMEOUT,
        ErrorType::ConnectRefused => &causes::CONNECT_REFUSED,
        ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError
        | ErrorType::ConnectProxyFailure => &causes::CONNECT_FAILED,
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            &causes::UPSTREAM_TLS
        }
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::InvalidH2
        | ErrorType::H2Downgrade => &causes::UPSTREAM_PROTOCOL,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => &causes::RESPONSE_TIMEOUT,
        ErrorType::InternalError => &causes::INTERNAL,
        _ => &causes::UPSTREAM_RESET,
    }
}

/// The cause of a failure on the client's side.
pub(super) fn downstream_cause(error: &Error) -> &'static Cause {
    match error.etype() {
        ErrorType::ReadTimedout => &causes::BODY_TIMEOUT,
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => &causes::BAD_FRAMING,
        // Only its name tells a broken chunk; Pingora keeps the constant to itself.
        kind if kind.as_str() == "InvalidChunk" => &causes::BAD_FRAMING,
        _ if *error.esource() == ErrorSource::Downstream => &causes::CLIENT_CLOSED,
        _ => &causes::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refused_is_a_failed_connection_and_no_bug() {
        let of = |kind| connect_cause(&Error::new(kind)).name;

        assert_eq!(of(ErrorType::InternalError), "connect_failed");
        assert_eq!(of(ErrorType::ConnectNoRoute), "connect_failed");
        assert_eq!(of(ErrorType::ConnectRefused), "connect_refused");
        assert_eq!(of(ErrorType::ConnectTimedout), "connect_timeout");
    }
}
