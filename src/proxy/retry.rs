//! What a failed attempt means: its cause, and whether another one is made.
//! It must not know how endpoints are chosen.
//! Called by the hooks for failures to connect, connections that broke, and responses that a rule tries again.

use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result, RetryType};
use windrose_plugins::contract::{builtin_causes, causes, Cause};

use super::hold;
use super::random;
use super::request::{grpc_status, Ctx};
use super::upstream;
use crate::decide::attempts;
use crate::decide::{self, Failure, No, SetBy};
use crate::observe::{clock, event};
use crate::snapshot::{balance, mtls};

/// No connection was made; nothing was sent, so any method may be tried again.
pub(super) fn not_connected(session: &Session, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    let cause = match connect_cause(&error) {
        cause if *cause == causes::CONNECT_TIMEOUT && ctx.is_late(clock::now()) => {
            &causes::DEADLINE_EXCEEDED
        }
        cause if *cause == causes::UPSTREAM_TLS && is_mutual(ctx) => mutual_cause(&error),
        cause => cause,
    };
    ctx.cause = Some(cause);
    tell(ctx, cause, &error);
    upstream::gave_up(ctx, is_to_blame(ctx, cause));
    // A node that says no has answered; asking it again would be no better.
    let is_answer = *cause == causes::TUNNEL_REFUSED;
    error.set_retry(!is_answer && again(session, ctx, Failure::Connect, cause.name));
    error
}

/// In TLS 1.3 the other side judges a certificate when ours is done: it then goes away before HTTP/2 begins, and its alert may be lost.
fn mutual_cause(error: &Error) -> &'static Cause {
    match error.etype() {
        ErrorType::HandshakeError => &causes::MTLS_REFUSED,
        _ => mtls::failed(&error.to_string(), &causes::UPSTREAM_TLS),
    }
}

fn is_mutual(ctx: &Ctx) -> bool {
    ctx.pool
        .as_ref()
        .is_some_and(|pool| pool.settings.mtls.is_some())
}

/// Only the system knows why a connection could not be made, so the log repeats it.
fn tell(ctx: &Ctx, cause: &'static Cause, error: &Error) {
    let only_here = [
        &causes::CONNECT_FAILED,
        &causes::UPSTREAM_TLS,
        &causes::MTLS_REFUSED,
    ];
    if !only_here.contains(&cause) {
        return;
    }
    let pool = ctx.pool.as_ref().map_or("", |pool| &*pool.name);
    event::warn("connection to endpoint failed", pool, || {
        format!("no connection to an endpoint: pool={pool} cause={cause} reason={error}")
    });
}

/// A connection broke, on either side; or a response that came is dropped for another attempt.
pub(super) fn broken(
    session: &Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    if std::mem::take(&mut ctx.attempt.again) {
        error.set_retry(true);
        return error;
    }
    if hold::is_end(&error) {
        // Nothing broke: the response is finished where answers are written.
        error.set_retry(false);
        return error;
    }
    let upstream_broke = *error.esource() == ErrorSource::Upstream;
    if ctx.cause.is_none() {
        ctx.cause = Some(broken_cause(ctx, &error, upstream_broke));
    }
    let failure = failure(ctx, &error);
    if upstream_broke && reused && failure == Failure::Reset {
        upstream::raced(ctx);
    }
    let is_telling = upstream_broke
        && upstream::is_telling(&error, ctx, reused)
        && ctx.cause.is_some_and(|cause| is_to_blame(ctx, cause));
    upstream::gave_up(ctx, is_telling);
    let name = ctx.cause.map_or("", |cause| cause.name);
    let again = upstream_broke
        && session.response_written().is_none()
        && !ctx.has_held()
        && (is_free(session, ctx, failure, reused) || again(session, ctx, failure, name));
    // Always decided here: an undecided `ReusedOnly` would panic in Pingora.
    error.set_retry(again);
    error
}

fn broken_cause(ctx: &Ctx, error: &Error, upstream_broke: bool) -> &'static Cause {
    let late = ctx.is_late(clock::now());
    match upstream_broke {
        true if late && is_timeout(error) => &causes::DEADLINE_EXCEEDED,
        // An endpoint may say so only when the request was written already: its verdict comes after our side of the handshake.
        true if is_mutual(ctx) => mtls::failed(&error.to_string(), cause(error)),
        true => cause(error),
        false if late => &causes::DEADLINE_EXCEEDED,
        false => downstream_cause(error),
    }
}

fn is_timeout(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout
    )
}

/// How an attempt failed upstream. Pingora decides for another attempt by itself exactly where HTTP/2 says that nothing was done: a
/// refused stream, a GOAWAY before its turn, or the wish for HTTP/1.1.
fn failure(ctx: &Ctx, error: &Error) -> Failure {
    let timeouts = ctx.candidate.as_ref().map(|one| &one.rule.timeouts);
    let by_try = timeouts.is_some_and(|times| match (times.per_try, times.response_header) {
        (Some(one), Some(header)) => ctx.is_stream || one <= header,
        (one, _) => one.is_some(),
    });
    match (error.etype(), &error.retry) {
        (ErrorType::H2Error | ErrorType::H2Downgrade, RetryType::Decided(true)) => Failure::Refused,
        (ErrorType::ReadTimedout, _) if by_try => Failure::PerTry,
        (ErrorType::ReadTimedout, _) => Failure::Timeout,
        _ => Failure::Reset,
    }
}

/// Whether a failure says something about the endpoint: what is the caller's own does not. A deadline that the client set says so only if the endpoint had three times
/// what it usually needs, or a second if that is not known: nobody can have endpoints ejected by asking for too little time.
pub(super) fn is_to_blame(ctx: &Ctx, cause: &'static Cause) -> bool {
    if !upstream::is_of_endpoint(cause) {
        return false;
    }
    let set_by_client = ctx.due.as_ref().is_some_and(|due| due.by != SetBy::Route);
    if *cause != causes::DEADLINE_EXCEEDED || !set_by_client {
        return true;
    }
    let now = clock::now();
    let usual = upstream::endpoint(ctx).and_then(|it| balance::estimate(&it.state, now));
    let fair = usual.map_or(Duration::from_secs(1), |usual| usual * 3);
    clock::between(ctx.attempt.started, now) >= fair
}

/// A kept connection that the endpoint closed just then says nothing about the endpoint: one attempt is free.
fn is_free(session: &Session, ctx: &mut Ctx, failure: Failure, reused: bool) -> bool {
    let Some(candidate) = &ctx.candidate else {
        return false;
    };
    if !reused || failure != Failure::Reset || ctx.attempt.free_retry_used {
        return false;
    }
    let retry = &candidate.rule.retry;
    let method = &session.req_header().method;
    if decide::again(retry, failure, method, 0, is_replayable(session)).is_err()
        || retry.attempts == 0
    {
        return false;
    }
    candidate.metrics.retried(causes::UPSTREAM_RESET.name);
    ctx.attempt.free_retry_used = true;
    ctx.attempt.count -= 1;
    ctx.attempt.tried.pop();
    true
}

fn is_replayable(session: &Session) -> bool {
    !session.as_downstream().retry_buffer_truncated()
}

/// A response came: whether its rule tries it again. An error drops it.
pub(super) fn responded(session: &Session, head: &ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(candidate) = &ctx.candidate else {
        return Ok(());
    };
    let retry = &candidate.rule.retry;
    if !retry.reads_responses() || head.status.is_informational() {
        return Ok(());
    }
    let status = head.status.as_u16();
    let (failure, what) = match grpc_status(&head.headers).filter(|_| ctx.is_grpc) {
        Some(code) if retry.on_grpc(code) => (Failure::Grpc(code), "grpc_status"),
        _ if retry.on_status(status) => (Failure::Status(status), "status"),
        _ => return Ok(()),
    };
    if attempts::declines(&head.headers) {
        candidate.metrics.not_retried(No::Behind.as_str());
        return Ok(());
    }
    if !again(session, ctx, failure, what) {
        // The endpoint's own answer is better than one of ours.
        ctx.cause = None;
        return Ok(());
    }
    upstream::gave_up(ctx, false);
    ctx.attempt.again = true;
    let mut error = Error::explain(ErrorType::HTTPStatus(status), "tried again");
    error.set_retry(true);
    Err(error)
}

/// Whether another attempt is made: the rule wants it, there is time for it, and the budgets pay.
fn again(session: &Session, ctx: &mut Ctx, failure: Failure, what: &'static str) -> bool {
    let Some(candidate) = ctx.candidate.clone() else {
        return false;
    };
    let retry = &candidate.rule.retry;
    let made = ctx.attempt.before.saturating_add(ctx.attempt.count);
    let now = clock::now();
    let method = &session.req_header().method;
    let verdict = decide::again(retry, failure, method, made, is_replayable(session))
        .and_then(|()| wait(ctx, failure, now))
        .and_then(|wait| place(ctx).map(|()| wait))
        .and_then(|wait| withdraw(ctx, now).map(|()| wait));
    match verdict {
        Ok(wait) => {
            ctx.attempt.wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            candidate.metrics.retried(what);
            true
        }
        Err(no) => {
            ctx.attempt.declined |= matches!(no, No::Budget | No::Limit);
            if no == No::Budget {
                ctx.cause = Some(&causes::RETRY_BUDGET_SPENT);
            }
            if no != No::Unwanted {
                candidate.metrics.not_retried(no.as_str());
            }
            false
        }
    }
}

/// The wait before the next attempt. After a failed connection it goes at once to an endpoint that was not tried yet, which it
/// does not burden more than any other request does; everything else is a sign of trouble that time may heal.
///
/// # Errors
/// When the deadline comes first.
fn wait(ctx: &Ctx, failure: Failure, now: u64) -> std::result::Result<Duration, No> {
    let Some(candidate) = &ctx.candidate else {
        return Err(No::Unwanted);
    };
    let attempt = &ctx.attempt;
    let others = attempt.set.as_ref().map_or(0, |set| set.members.len());
    let is_elsewhere = others > attempt.tried.len();
    let broken = matches!(
        failure,
        Failure::Connect | Failure::Refused | Failure::Reset
    );
    let wait = match is_elsewhere && broken {
        true => Duration::ZERO,
        false => {
            let backoff = &candidate.rule.retry.backoff;
            backoff.wait(attempt.count, random::fraction())
        }
    };
    let enough = ctx.due.as_ref().is_none_or(|due| due.left(now) > wait);
    enough.then_some(wait).ok_or(No::Deadline)
}

/// Takes a place among the retries that the pool lets be under way. Asked here, where a response that came can still be passed on.
///
/// # Errors
/// When there is none.
fn place(ctx: &mut Ctx) -> std::result::Result<(), No> {
    let pool = ctx.pool.clone().ok_or(No::Unwanted)?;
    upstream::may_retry(ctx, &pool)
        .then_some(())
        .ok_or(No::Limit)
}

/// Takes an attempt from the pool's budget and the rule's.
///
/// # Errors
/// When one of them is spent.
fn withdraw(ctx: &Ctx, now: u64) -> std::result::Result<(), No> {
    let (Some(pool), Some(candidate)) = (&ctx.pool, &ctx.candidate) else {
        return Err(No::Unwanted);
    };
    let own = candidate.rule.retry.budget.as_ref();
    if !pool.retry_budget.withdraw(now) {
        return Err(No::Budget);
    }
    if own.is_some_and(|own| !own.withdraw(now)) {
        pool.retry_budget.refund(now);
        return Err(No::Budget);
    }
    Ok(())
}

/// The cause of a failure to connect. Pingora calls several of the system's reasons internal: no permission, no local port.
fn connect_cause(error: &Error) -> &'static Cause {
    match error.etype() {
        ErrorType::InternalError => &causes::CONNECT_FAILED,
        ErrorType::Custom(name) => {
            let named = builtin_causes().iter().find(|cause| cause.name == *name);
            named.copied().unwrap_or(&causes::CONNECT_FAILED)
        }
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
