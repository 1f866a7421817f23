//! Whether a header is fit to be routed: the checks that need its bytes or its connection, before `decide` admits the rest.
//! It must not know routes.
//! Called first for every request; stricter than Pingora's parser where leniency is how requests are smuggled.

use http::{HeaderMap, HeaderValue};
use pingora::proxy::Session;
use windrose_plugins::contract::{causes, change_request, Cause};

use super::connection::Connection;
use super::random;
use super::request::Ctx;
use crate::decide::{Facts, WireText, REQUEST_ID};
use crate::observe::trace::TraceContext;
use crate::snapshot::listener::Listener;

/// Checks a header and fills in the facts of the request.
pub(super) fn admit(
    session: &mut Session,
    ctx: &mut Ctx,
    connection: &Connection,
    listener: &Listener,
) -> Result<(), &'static Cause> {
    let peer = connection.client.ip().to_canonical();
    let headers = &session.req_header().headers;
    ctx.facts = Facts::of(headers, listener, peer, connection.tls.is_some());
    ctx.facts.destination = Some(connection.local).filter(|local| local.port() != 0);
    ctx.facts.request_id = request_id(ctx.facts.trusted, headers);
    let trace = TraceContext::from_headers(headers, &ctx.snapshot.sampler);
    ctx.facts.trace = trace.beside().map(Box::new);
    ctx.trace = Some(trace);
    ctx.facts.certificate = connection.certificate();
    if ctx.principal.is_none() {
        ctx.principal = connection.peer().cloned();
    }
    match connection.http2 {
        // Its head need not say anything of a body (RFC 9113 section 8.1.1).
        true => ctx.facts.sends_body = !session.as_downstream_mut().is_body_empty(),
        false => strict(&session.as_downstream().to_h1_raw())?,
    }
    if session.req_header().has_case() {
        change_request(session.req_header_mut(), |_| {});
    }
    ctx.facts.admit(session.req_header(), listener)
}

/// Checks on the bytes of an HTTP/1 header that are gone after parsing (RFC 9112 sections 2.2, 3, 6.1).
fn strict(raw: &[u8]) -> Result<(), &'static Cause> {
    let (mut length, mut coding) = (false, false);
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', raw).chain([raw.len()]) {
        let line = &raw[begin..end];
        begin = end + 1;
        let line = match line.strip_suffix(b"\r") {
            Some(line) => line,
            None if line.is_empty() && end == raw.len() => continue,
            None => return Err(&causes::BAD_FRAMING),
        };
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => length |= is_named(line, b"content-length"),
            Some(b't') => coding |= is_named(line, b"transfer-encoding"),
            _ => {}
        }
    }
    match length && coding {
        true => Err(&causes::BAD_FRAMING),
        false => Ok(()),
    }
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len()
        && line[name.len()] == b':'
        && line[..name.len()].eq_ignore_ascii_case(name)
}

/// The request's id: a trusted peer's, if it is short and plain, else 128 random bits.
fn request_id(trusted: bool, headers: &HeaderMap) -> WireText {
    let given = trusted.then(|| headers.get(&REQUEST_ID)).flatten();
    let plain = |id: &&HeaderValue| {
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let given = given.filter(plain).cloned().and_then(WireText::received);
    given.unwrap_or_else(|| WireText::hex(random::bits(), random::bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_framing_is_refused() {
        let refused = |raw: &str| strict(raw.as_bytes()).err().map(|cause| cause.name);

        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(
            refused("GET / HTTP/1.1\r\nHost: a\n\r\n"),
            Some("bad_request.framing")
        );
        assert_eq!(
            refused("GET / HTTP/1.1\r\nHost: a\r\n\n"),
            Some("bad_request.framing")
        );
        assert_eq!(
            refused("POST / HTTP/1.1\r\nContent-Length: 4\r\ntransfer-encoding: chunked\r\n\r\n"),
            Some("bad_request.framing")
        );
    }
}
