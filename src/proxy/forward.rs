//! Messages as they pass: fields corrected, added and edited, bodies counted and shown to plugins.
//! It must not know how endpoints are chosen.
//! Called by the hooks in `proxy` for each attempt, header and piece of body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{causes, change_response, Answer, Effects, Response, Upstream};

use super::hold::{self, Ending};
use super::request::{refuse, walk, Attempt, Ctx};
use super::{cache, fair, finish, upstream, Shared};
use crate::decide::{self, attempts, fields, Hop, Silent, REQUEST_ID};
use crate::observe::clock;
use crate::observe::trace::TraceContext;
use crate::snapshot::chain::Chain;
use crate::snapshot::pool::Pool;

/// What Connection says besides names of fields, and fields that are Pingora's.
const OPTIONS: [&str; 4] = ["keep-alive", "close", "upgrade", "transfer-encoding"];

/// Fields that plugins add to a response that has a chain of them, with room for a few more.
const ADDED: usize = 16;

/// The request as it goes upstream.
pub(super) async fn request(head: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
    if let Some(query) = ctx.caching.as_ref().and_then(|it| it.query()) {
        fields::set_query(head, query)?;
    }
    let (Some(candidate), Some(connection), Some(listener)) =
        (&ctx.candidate, &ctx.connection, &ctx.listener)
    else {
        return Error::e_explain(ErrorType::InternalError, "a request without a route");
    };
    let (principal, ruled, slots) = (&mut ctx.principal, &mut ctx.ruled, &mut ctx.slots);
    let mut walk = walk(connection, listener, &ctx.facts, principal, ruled, slots);
    let hop = Hop {
        peer: &connection.address,
        certificate: connection.tls.as_ref().and_then(|tls| tls.told.as_ref()),
        traceparent: ctx.trace.as_ref().and_then(TraceContext::traceparent),
        left: ctx
            .due
            .as_ref()
            .map(|due| (due.left(clock::now()), ctx.is_grpc)),
        attempt: ctx.attempt.before.saturating_add(ctx.attempt.count),
        upstream: upstream_of(
            &ctx.attempt,
            ctx.pool.as_deref(),
            [&listener.chain, &candidate.rule.chain],
        ),
    };
    match walk.send(candidate, head, &hop, &mut Silent).await? {
        Some(answer) => plan(ctx, answer),
        None => {
            if let Some(caching) = &ctx.caching {
                caching.sent(head);
            }
            Ok(())
        }
    }
}

/// The endpoint of an attempt, as plugins see it; nothing where none does.
fn upstream_of<'a>(
    attempt: &'a Attempt,
    pool: Option<&'a Pool>,
    chains: [&Chain; 2],
) -> Option<Box<Upstream<'a>>> {
    if !chains.into_iter().any(Chain::has_upstream_request) {
        return None;
    }
    let member = attempt.set.as_ref()?.members.get(attempt.member)?;
    Some(Box::new(Upstream {
        pool: &pool?.name,
        endpoint: &member.endpoint.label,
        labels: &member.labels,
    }))
}

/// Ends the exchange with an answer once Pingora gives control back.
pub(super) fn plan<T>(ctx: &mut Ctx, answer: Box<Answer>) -> Result<T> {
    ctx.cause = Some(answer.cause);
    let mut error = Error::explain(ErrorType::HTTPStatus(answer.status), answer.cause.name);
    error.set_retry(false);
    ctx.planned = Some(answer);
    Err(error)
}

/// Whether the request was refused while its body streamed: a response that was on its way by then is not its answer.
fn refused(ctx: &Ctx) -> Result<()> {
    match &ctx.planned {
        None => Ok(()),
        Some(answer) => {
            let status = ErrorType::HTTPStatus(answer.status);
            let mut error = Error::explain(status, answer.cause.name);
            error.set_retry(false);
            Err(error)
        }
    }
}

/// A piece of the request body. What is wrong with it is the client's side: an error of another kind Pingora takes for the
/// endpoint's where that speaks HTTP/2, and waits for its response.
pub(super) fn request_body(
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<()> {
    request_piece(body, end, ctx, shared).map_err(|error| error.into_down())
}

fn request_piece(
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<()> {
    ctx.request_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
    ctx.attempt.sent |= end;
    let Some(candidate) = &ctx.candidate else {
        return Ok(());
    };
    let limit = candidate.rule.body_limit;
    let upgraded = ctx.attempt.status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
    if let (true, false, Some(connection)) = (end, upgraded, &ctx.connection) {
        connection.body_ended();
    }
    if ctx.request_bytes > limit && !upgraded && !ctx.is_grpc {
        return plan(ctx, refuse(&causes::BODY_TOO_LARGE));
    }
    if let Err(cause) = fair::holds(ctx, shared, || 0) {
        return plan(ctx, refuse(cause));
    }
    cut(ctx)?;
    let (Some(candidate), Some(listener)) = (&ctx.candidate, &ctx.listener) else {
        return Ok(());
    };
    let slots = &mut ctx.slots;
    let answer = [&listener.chain, &candidate.rule.chain]
        .into_iter()
        .find_map(|chain| chain.request_body(slots, body, end, Effects::Live, &mut |_, _| {}));
    match answer {
        Some(answer) => plan(ctx, answer),
        None => Ok(()),
    }
}

/// Ends a stream whose route or pool went away with a reload, whose time is over, or whose other side is not believed any more.
fn cut(ctx: &mut Ctx) -> Result<()> {
    if ctx.due.is_some() && ctx.is_late(clock::now()) {
        ctx.cause = Some(&causes::DEADLINE_EXCEEDED);
        let status = ErrorType::HTTPStatus(causes::DEADLINE_EXCEEDED.status);
        let mut error = Error::explain(status, causes::DEADLINE_EXCEEDED.name);
        error.set_retry(false);
        return Err(error);
    }
    match &ctx.lease {
        Some(lease) if lease.cut.is_revoked() => {
            let cause = finish::cut_short(ctx).unwrap_or(&causes::DRAINED);
            ctx.cause = Some(cause);
            Error::e_explain(ErrorType::ConnectionClosed, cause.name)
        }
        _ => Ok(()),
    }
}

/// The response's header on its way to the client.
pub(super) fn response(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<()> {
    if ctx.candidate.is_none() || ctx.listener.is_none() {
        return Ok(());
    }
    refused(ctx)?;
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req() {
        // The client would read the bytes that follow as HTTP.
        return plan(ctx, refuse(&causes::UPSTREAM_PROTOCOL));
    }
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(connection)) = (head.status, &ctx.connection) {
        connection.switched();
    }
    if let Err(cause) = fair::holds(ctx, shared, || length(session, head)) {
        return plan(ctx, refuse(cause));
    }
    cache::response(session, head, ctx)?;
    let is_seen = correct(session.req_header(), head, ctx);
    if ctx.loan.is_some() && ctx.may_hold() {
        return hold::head(session.req_header(), head, ctx, shared);
    }
    if is_seen {
        shown(session, head, ctx)?;
    }
    sent(session.req_header(), head, ctx)
}

/// Shows a response's header to plugins.
fn shown(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let (Some(candidate), Some(listener)) = (ctx.candidate.clone(), ctx.listener.clone()) else {
        return Ok(());
    };
    for chain in [&candidate.rule.chain, &listener.chain] {
        if !chain.has_response() {
            continue;
        }
        let client = ctx.facts.view(&listener, &candidate.rule.route);
        let mut response = Response {
            head,
            request: session.req_header(),
            client: &client,
            cause: None,
            slots: &mut ctx.slots,
            effects: Effects::Live,
        };
        let Some(answer) = chain.response(&mut response) else {
            continue;
        };
        if ctx.caching.is_none() || !cache::is_stored(session) {
            return plan(ctx, answer);
        }
        // Pingora would answer a bare 500.
        return cache::answers_instead(session, head, ctx, *answer);
    }
    Ok(())
}

/// What is written into a head that all plugins have seen, and taken note of as it goes to the client.
pub(super) fn sent(
    request: &RequestHeader,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    frame(request, head)?;
    let status = head.status;
    let told = ctx.told(None);
    change_response(head, |headers| {
        headers.insert(REQUEST_ID, ctx.facts.request_id.value());
        attempts::ask(headers, status, told);
    });
    begun(head, ctx);
    Ok(())
}

/// Takes note of a response that begins.
fn begun(head: &ResponseHeader, ctx: &mut Ctx) {
    if ctx.is_endless && goes_on(head) {
        ctx.due = None;
    }
    if let (true, false, Some(candidate)) = (ctx.is_stream, ctx.is_open, &ctx.candidate) {
        candidate.metrics.stream_opened();
        ctx.is_open = true;
    }
    if let Some(unfinished) = &mut ctx.unfinished {
        unfinished.status = head.status.as_u16();
    }
}

/// Corrects what came from the endpoint, and adds what is the proxy's and the rule's. Returns whether plugins want to see it.
fn correct(request: &RequestHeader, head: &mut ResponseHeader, ctx: &Ctx) -> bool {
    let (Some(candidate), Some(listener)) = (&ctx.candidate, &ctx.listener) else {
        return false;
    };
    let rule = &candidate.rule;
    let is_seen = rule.chain.has_response() || listener.chain.has_response();
    change_response(head, |fields| {
        // Plugins that tell of limits or of security add a dozen fields; growing twice costs more than the room.
        fields.reserve(if is_seen { ADDED } else { 0 });
        strip_nominated(fields);
        if request.version == Version::HTTP_10 {
            // HTTP/1.0 knows no chunks (RFC 9112 section 6.1); without the coding Pingora ends the body with the connection.
            fields.remove(TRANSFER_ENCODING);
        }
        upstream::tell_session(request, fields, ctx);
        decide::edit(fields, &rule.response_headers);
    });
    if head.version == Version::HTTP_10 {
        // Who forwards a message says his own version (RFC 9112 section 2.3): the framing is ours, and so is the connection.
        head.set_version(Version::HTTP_11);
    }
    is_seen
}

/// How long a body a response says to have; 0 where it does not, or has none.
fn length(session: &Session, head: &ResponseHeader) -> u64 {
    if session.req_header().method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
        return 0;
    }
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    length.unwrap_or(0)
}

/// Says how a body is framed whose length a plugin took away. Over HTTP/1.1 it would else end with the connection; over HTTP/2 it
/// goes without saying.
fn frame(request: &RequestHeader, head: &mut ResponseHeader) -> Result<()> {
    let has_body = request.method != Method::HEAD
        && !head.status.is_informational()
        && !matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let is_framed = head.headers.contains_key(CONTENT_LENGTH)
        || head.headers.contains_key(TRANSFER_ENCODING)
        || request.version != Version::HTTP_11;
    if has_body && !is_framed {
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Whether a response is over only when somebody ends it. What was asked for does not decide that alone.
fn goes_on(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(CONTENT_TYPE);
    head.status == StatusCode::SWITCHING_PROTOCOLS
        || kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Fields the upstream's Connection names are for this hop only (RFC 9110 section 7.6.1). Framing fields are Pingora's.
fn strip_nominated(fields: &mut HeaderMap) {
    let is_option = |name: &str| {
        OPTIONS
            .iter()
            .any(|option| name.eq_ignore_ascii_case(option))
    };
    let mut said = fields.get_all(CONNECTION).iter();
    // Nearly all say one option or nothing.
    if said.all(|value| value.to_str().is_ok_and(is_option)) {
        return;
    }
    let nominated: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !is_option(name))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in nominated {
        fields.remove(&name);
    }
}

/// A piece of the response body.
pub(super) fn response_body(
    request: &RequestHeader,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<Option<Duration>> {
    let instead = ctx.caching.as_mut().and_then(|it| it.instead.as_mut());
    if let Some(instead) = instead {
        *body = Some(std::mem::take(instead));
        ctx.response_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        return Ok(None);
    }
    ctx.response_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
    refused(ctx)?;
    cut(ctx)?;
    if let Err(cause) = fair::holds(ctx, shared, || 0) {
        ctx.cause = Some(cause);
        return Error::e_explain(ErrorType::HTTPStatus(cause.status), cause.name);
    }
    if ctx.is_holding() {
        return hold::piece(request, body, end, ctx).map(|()| None);
    }
    let (Some(candidate), Some(listener)) = (&ctx.candidate, &ctx.listener) else {
        return Ok(None);
    };
    for chain in [&candidate.rule.chain, &listener.chain] {
        if !chain.has_response_body() {
            continue;
        }
        if let Some(answer) = chain.response_body(&mut ctx.slots, body, end) {
            ctx.cause = Some(answer.cause);
            return Error::e_explain(ErrorType::HTTPStatus(answer.status), answer.cause.name);
        }
    }
    Ok(None)
}

/// The response's trailers; what plugins make of them ends the body in their place.
pub(super) fn response_trailers(
    request: &RequestHeader,
    trailers: &mut HeaderMap,
    ctx: &mut Ctx,
) -> Option<Bytes> {
    let mut piece = match hold::trailers(request, trailers, ctx) {
        Ending::Free => None,
        Ending::Trailers => return None,
        Ending::Piece(bytes) => return Some(bytes),
    };
    let (Some(candidate), Some(listener)) = (&ctx.candidate, &ctx.listener) else {
        return None;
    };
    for chain in [&candidate.rule.chain, &listener.chain] {
        chain.response_trailers(&mut ctx.slots, trailers, &mut piece);
    }
    ctx.response_bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
    piece
}
