//! The request as it goes on: its target, what is corrected, what endpoints are told about the client, and the rule's edits.
//! It must not know connections or attempts; a dry run shows the same request that an endpoint gets.
//! Called through [`Walk`](super::Walk) for each attempt.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};
use windrose_plugins::contract::{change_request, Upstream};

use super::attempts::{self, ATTEMPT};
use super::wire::WireText;
use super::{deadline, edit, fault, rewritten_path, Facts};
use crate::snapshot::route::Candidate;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The field of the request id, for endpoints and clients alike.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What an application is told of the certificate that its caller showed to a mesh-inbound listener, as Envoy writes it.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The mark of a copy that a mirror gets: the route it was made for.
pub const MIRROR: HeaderName = HeaderName::from_static("x-windrose-mirror");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Fields that are added to most requests, with some room for the route's.
const ADDED: usize = 8;

/// Fields that only a proxy may say, or somebody it trusts.
const MANAGED: [HeaderName; 12] = [
    ATTEMPT,
    CLIENT_CERT,
    FOR,
    PROTO,
    FORWARDED_HOST,
    FORWARDED_PORT,
    REQUEST_ID,
    REAL_IP,
    MIRROR,
    fault::DELAY,
    fault::ABORT,
    fault::ABORT_GRPC,
];

/// Said again in W3C form; two parents would contradict each other.
const B3: [&str; 6] = [
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// What a hop adds of itself.
#[derive(Debug)]
pub struct Hop<'a> {
    /// The address the request came from.
    pub peer: &'a WireText,
    /// What the endpoint is told of the caller's certificate.
    pub certificate: Option<&'a HeaderValue>,
    /// The span the endpoint is told.
    pub traceparent: Option<HeaderValue>,
    /// What is left of the request's time, and whether it is told in gRPC's way.
    pub left: Option<(Duration, bool)>,
    /// Which attempt this is, with those of hops before.
    pub attempt: u8,
    /// The endpoint that it goes to; `None` in dry runs, and where no plugin asks.
    pub upstream: Option<Box<Upstream<'a>>>,
}

/// Makes a request that came in the one that goes on, but for what plugins do to it.
///
/// # Errors
/// When a rewritten path is none.
pub(super) fn onward(
    head: &mut RequestHeader,
    facts: &Facts,
    candidate: &Candidate,
    hop: &Hop<'_>,
) -> Result<()> {
    target(head, facts, candidate)?;
    change_request(head, |headers| {
        correct(headers, facts.trusted);
        forwarded(headers, facts, hop);
        edit(headers, &candidate.rule.request_headers);
    });
    Ok(())
}

/// The canonical path, rewritten, in origin form; and the Host to send.
fn target(head: &mut RequestHeader, facts: &Facts, candidate: &Candidate) -> Result<()> {
    let path = rewritten_path(candidate, &facts.path);
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
        None if facts.authority.is_empty() => {}
        None if !unchanged || !head.headers.contains_key(HOST) => {
            head.insert_header(HOST, facts.authority.value())?
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
        claims |= name.starts_with("x-")
            || name == "forwarded"
            || memchr::memchr(b'_', name.as_bytes()).is_some();
    }
    if repeats {
        normalise(headers);
    }
    if claims {
        remove_claims(headers, trusted);
    }
}

/// What only a proxy may say, where none that is trusted said it; and spellings of it with `_`, which some servers read as the same
/// name (CGI maps `-` and `_` alike), whoever said it.
fn remove_claims(headers: &mut HeaderMap, trusted: bool) {
    let is_twin = |name: &&HeaderName| {
        let name = name.as_str();
        let dashed = name.replace('_', "-");
        name.contains('_') && MANAGED.iter().any(|managed| managed.as_str() == dashed)
    };
    let twins: Vec<HeaderName> = headers.keys().filter(is_twin).cloned().collect();
    for twin in twins {
        headers.remove(twin);
    }
    // Only our own handshake proves a certificate: nobody is trusted to repeat another's.
    headers.remove(CLIENT_CERT);
    if !trusted {
        for name in MANAGED.into_iter().chain([FORWARDED]) {
            headers.remove(name);
        }
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
fn forwarded(headers: &mut HeaderMap, facts: &Facts, hop: &Hop<'_>) {
    headers.reserve(ADDED);
    let before = headers.get_all(FOR).iter().filter(|_| facts.trusted);
    let chain = chain(before, &hop.peer.value());
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
    attempts::tell(headers, hop.attempt);
    if let Some(certificate) = hop.certificate {
        headers.insert(CLIENT_CERT, certificate.clone());
    }
    if let Some((left, is_grpc)) = hop.left {
        deadline::tell(headers, left, is_grpc);
    }
    if let Some(parent) = &hop.traceparent {
        headers.insert(TRACEPARENT, parent.clone());
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
