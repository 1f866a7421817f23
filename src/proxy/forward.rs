//! Messages as they pass: fields corrected, added and edited, bodies counted and shown to plugins.
//! It must not know how endpoints are chosen.
//! Called by the hooks in `proxy` for each attempt, header and piece of body.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr, Result};
use windrose_plugins::contract::{causes, Answer, Effects, Request, Response};

use super::connection::Connection;
use super::fields;
use super::finish::Unfinished;
use super::request::{refuse, Ctx};
use super::{serve, Shared};
use crate::decide;
use crate::observe::trace::TraceContext;
use crate::snapshot::lease::Tenancy;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Fields that are added to most requests, with some room for the route's.
const ADDED: usize = 8;

/// Spellings of managed fields that some servers read as the same name (CGI maps `-` and `_` alike).
const TWINS: [&str; 6] = [
    "x_forwarded_for",
    "x_forwarded_proto",
    "x_forwarded_host",
    "x_forwarded_port",
    "x_request_id",
    "x_real_ip",
];

/// What Connection says besides names of fields, and fields that are Pingora's.
const OPTIONS: [&str; 4] = ["keep-alive", "close", "upgrade", "transfer-encoding"];

/// Said again in W3C form; two parents would contradict each other.
const B3: [&str; 6] = [
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// The request as it goes upstream.
pub(super) async fn request(
    session: &mut Session,
    head: &mut RequestHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let (Some(candidate), Some(connection), Some(listener)) = (
        ctx.candidate.clone(),
        ctx.connection.clone(),
        ctx.listener.clone(),
    ) else {
        return Error::e_explain(ErrorType::InternalError, "a request without a route");
    };
    target(head, ctx, &candidate)?;
    fields::change(head, |headers| {
        correct(headers, ctx.facts.trusted);
        forwarded(headers, ctx, &connection);
    })?;
    decide::edit(head, &candidate.rule.request_headers)?;
    for chain in [&listener.chain, &candidate.rule.chain] {
        if !chain.has_upstream_request() {
            continue;
        }
        let client = Ctx::client_facts(&ctx.facts, &listener, &candidate.rule.route);
        let mut request = Request {
            head,
            client: &client,
            principal: &mut ctx.principal,
            slots: &mut ctx.slots,
            effects: Effects::Live,
        };
        if let Some(answer) = chain.upstream_request(&mut request).await {
            return plan(ctx, answer);
        }
    }
    let _ = session;
    Ok(())
}

/// Ends the exchange with an answer once Pingora gives control back.
fn plan<T>(ctx: &mut Ctx, answer: Box<Answer>) -> Result<T> {
    ctx.cause = Some(answer.cause);
    let mut error = Error::explain(ErrorType::HTTPStatus(answer.status), answer.cause.name);
    error.set_retry(false);
    ctx.planned = Some(answer);
    Err(error)
}

/// The canonical path, rewritten, in origin form; and the Host to send.
fn target(
    head: &mut RequestHeader,
    ctx: &Ctx,
    candidate: &crate::snapshot::route::Candidate,
) -> Result<()> {
    let path = decide::rewritten_path(candidate, &ctx.facts.path);
    // An absolute target keeps its bytes beside a URI that has only the path.
    let in_origin_form = head.raw_path().starts_with(b"/") && head.uri.authority().is_none();
    let unchanged = in_origin_form && head.uri.path() == path;
    if !unchanged {
        let target: Cow<'_, str> = match head.uri.query() {
            Some(query) => Cow::Owned(format!("{path}?{query}")),
            None => path,
        };
        let uri = target
            .parse()
            .or_err(ErrorType::InternalError, "a rewritten path")?;
        head.set_uri(uri);
    }
    match &candidate.rule.rewrite.host {
        Some(host) => head.insert_header(HOST, host)?,
        None if ctx.facts.authority.is_empty() => {}
        None if !unchanged || !head.headers.contains_key(HOST) => {
            head.insert_header(HOST, ctx.facts.authority.value())?
        }
        None => {}
    }
    Ok(())
}

/// Corrects what is there. Few requests have anything to correct, and looking a dozen names up costs more than looking at every
/// name once.
fn correct(headers: &mut HeaderMap, trusted: bool) {
    let (mut repeats, mut claims) = (false, false);
    for name in headers.keys() {
        repeats |= matches!(*name, CONTENT_LENGTH | COOKIE);
        let name = name.as_str();
        claims |= name.starts_with("x-") || name == "forwarded" || name.contains('_');
    }
    if repeats {
        normalise(headers);
    }
    if claims {
        remove_claims(headers, trusted);
    }
}

/// What only a proxy may say, where none that is trusted said it.
fn remove_claims(headers: &mut HeaderMap, trusted: bool) {
    for twin in TWINS {
        headers.remove(twin);
    }
    let managed = [FORWARDED, REAL_IP, PROTO, FORWARDED_HOST, FORWARDED_PORT];
    for name in managed.iter().filter(|_| !trusted) {
        headers.remove(name);
    }
}

/// Repeated equal Content-Length becomes one; cookies split by HTTP/2 become one field (RFC 9113 section 8.2.3).
fn normalise(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next() {
        let comma = first.as_bytes().iter().position(|byte| *byte == b',');
        if comma.is_some() || lengths.next().is_some() {
            let one = first.as_bytes()[..comma.unwrap_or(first.len())].trim_ascii();
            let one = HeaderValue::from_bytes(one);
            headers.insert(CONTENT_LENGTH, one.unwrap_or(HeaderValue::from_static("")));
        }
    }
    let crumbs = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<&[u8]> = crumbs.collect();
    if crumbs.len() > 1 {
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
        // What was made of fields' values is one.
        headers.insert(COOKIE, joined.unwrap_or(HeaderValue::from_static("")));
    }
}

/// What endpoints are told about the client. Fields of peers that are not trusted are replaced.
fn forwarded(headers: &mut HeaderMap, ctx: &Ctx, connection: &Connection) {
    let facts = &ctx.facts;
    headers.reserve(ADDED);
    let before = headers.get_all(FOR).iter().filter(|_| facts.trusted);
    let chain = chain(before, &connection.address.value());
    headers.insert(FOR, chain);
    headers
        .entry(PROTO)
        .or_insert_with(|| HeaderValue::from_static(if facts.secure { "https" } else { "http" }));
    headers
        .entry(FORWARDED_HOST)
        .or_insert_with(|| facts.authority.value());
    headers
        .entry(FORWARDED_PORT)
        .or_insert_with(|| port(facts.port, facts.secure));
    headers.insert(REQUEST_ID, facts.request_id.value());
    if let Some(parent) = ctx.trace.as_ref().and_then(TraceContext::traceparent) {
        headers.insert(TRACEPARENT, parent);
        for name in B3 {
            headers.remove(name);
        }
    }
}

/// The proxies a request came through, and its peer at the end.
fn chain<'h>(before: impl Iterator<Item = &'h HeaderValue>, peer: &HeaderValue) -> HeaderValue {
    let mut chain = Vec::new();
    for value in before.filter(|value| !value.is_empty()) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    if chain.is_empty() {
        return peer.clone();
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(chain)).unwrap_or_else(|_| peer.clone())
}

fn port(given: Option<u16>, secure: bool) -> HeaderValue {
    match (given, secure) {
        (None | Some(443), true) => HeaderValue::from_static("443"),
        (None | Some(80), false) => HeaderValue::from_static("80"),
        (Some(port), _) => HeaderValue::from(port),
    }
}

/// A piece of the request body.
pub(super) fn request_body(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    ctx.request_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
    let Some(candidate) = ctx.candidate.clone() else {
        return Ok(());
    };
    let upgraded = ctx.attempt.status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
    if ctx.request_bytes > candidate.rule.body_limit && !upgraded && !ctx.is_grpc {
        return plan(ctx, refuse(&causes::BODY_TOO_LARGE));
    }
    cut(ctx)?;
    if let Some(listener) = ctx.listener.clone() {
        for chain in [&listener.chain, &candidate.rule.chain] {
            if let Some(answer) = chain.request_body(&mut ctx.slots, body, end) {
                return plan(ctx, answer);
            }
        }
    }
    Ok(())
}

/// Ends a stream whose route or pool went away with a reload.
fn cut(ctx: &mut Ctx) -> Result<()> {
    match &ctx.lease {
        Some(lease) if lease.cut.is_revoked() => {
            ctx.cause = Some(&causes::DRAINED);
            Error::e_explain(ErrorType::ConnectionClosed, causes::DRAINED.name)
        }
        _ => Ok(()),
    }
}

/// The response's header on its way to the client.
pub(super) fn response(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
) -> Result<()> {
    let (Some(candidate), Some(listener)) = (ctx.candidate.clone(), ctx.listener.clone()) else {
        return Ok(());
    };
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
    strip_nominated(head);
    if session.req_header().version == Version::HTTP_10 {
        // HTTP/1.0 knows no chunks (RFC 9112 section 6.1); without the coding Pingora ends the body with the connection.
        head.remove_header(&TRANSFER_ENCODING);
    }
    decide::edit(head, &candidate.rule.response_headers)?;
    for chain in [&candidate.rule.chain, &listener.chain] {
        if !chain.has_response() {
            continue;
        }
        let client = Ctx::client_facts(&ctx.facts, &listener, &candidate.rule.route);
        let mut response = Response {
            head,
            request: session.req_header(),
            client: &client,
            cause: None,
            slots: &mut ctx.slots,
            effects: Effects::Live,
        };
        if let Some(answer) = chain.response(&mut response) {
            return plan(ctx, answer);
        }
    }
    fields::change_response(head, |headers| {
        headers.insert(REQUEST_ID, ctx.facts.request_id.value());
    })?;
    if ctx.is_stream {
        lease(session, head, ctx, shared);
    }
    Ok(())
}

/// Fields the upstream's Connection names are for this hop only (RFC 9110 section 7.6.1). Framing fields are Pingora's.
fn strip_nominated(head: &mut ResponseHeader) {
    let nominated: Vec<HeaderName> = head
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| {
            !OPTIONS
                .iter()
                .any(|option| name.eq_ignore_ascii_case(option))
        })
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in nominated {
        head.remove_header(&name);
    }
}

/// Enters a stream that outlives its header, so that a reload that takes its route away can end it.
fn lease(session: &Session, head: &ResponseHeader, ctx: &mut Ctx, shared: &Arc<Shared>) {
    let (Some(candidate), Some(pool), Some(listener), Some(connection)) =
        (&ctx.candidate, &ctx.pool, &ctx.listener, &ctx.connection)
    else {
        return;
    };
    let tenancy = Tenancy {
        listener: listener.name.clone(),
        route: candidate.rule.route.clone(),
        pool: pool.name.clone(),
    };
    // A connection of HTTP/1 carries this one stream, and its socket ends with it; a stream of HTTP/2 ends alone.
    let cut = if connection.http2 {
        ctx.unfinished = Some(Box::new(Unfinished {
            head: session.req_header().clone(),
            status: head.status.as_u16(),
            shared: shared.clone(),
        }));
        serve::stream_cut()
    } else {
        connection.cut.clone()
    };
    candidate.metrics.stream_opened();
    ctx.lease = Some(shared.leases.take(tenancy, cut));
}

/// A piece of the response body.
pub(super) fn response_body(
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<Option<Duration>> {
    ctx.response_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
    cut(ctx)?;
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
