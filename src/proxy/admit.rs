//! Whether a header is fit to be routed, and what it says once trust is settled: host, path, client, request id.
//! It must not know routes.
//! Called first for every request; stricter than Pingora's parser where leniency is how requests are smuggled.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use windrose_plugins::contract::{causes, Cause};

use super::connection::Connection;
use super::fields;
use super::random;
use super::request::Ctx;
use super::wire::WireText;
use crate::decide::{canonical_host, canonical_path};
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
    let trusted = listener.trusted_proxies.contains(peer);
    let request = session.req_header();
    ctx.facts.trusted = trusted;
    ctx.facts.client = Some(client(peer, trusted, listener, &request.headers));
    ctx.facts.secure =
        connection.tls.is_some() || (trusted && forwarded_proto_is_https(&request.headers));
    ctx.facts.request_id = request_id(trusted, &request.headers);
    ctx.trace = Some(TraceContext::from_headers(
        &request.headers,
        &ctx.snapshot.sampler,
    ));
    if ctx.principal.is_none() {
        ctx.principal = connection
            .tls
            .as_ref()
            .and_then(|tls| tls.principal.clone());
    }
    bounds(request, listener)?;
    if !connection.http2 {
        strict(&session.as_downstream().to_h1_raw())?;
    }
    if session.req_header().has_case() {
        fields::change(session.req_header_mut(), |_| {}).map_err(|_| &causes::BAD_TARGET)?;
    }
    let request = session.req_header();
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(&causes::METHOD_NOT_ALLOWED);
    }
    let authority = authority(request)?;
    if !authority.is_empty() {
        let host = canonical_host(&authority).map_err(|_| &causes::BAD_HOST)?;
        ctx.facts.port = host.port;
        ctx.facts.host = host.name.into_owned();
    }
    ctx.facts.authority = authority;
    let path = request.uri.path();
    ctx.facts.path = match request.method == Method::OPTIONS && path == "*" {
        true => "*".to_owned(),
        false => canonical_path(path)
            .map_err(|_| &causes::BAD_TARGET)?
            .into_owned(),
    };
    Ok(())
}

fn bounds(request: &RequestHeader, listener: &Listener) -> Result<(), &'static Cause> {
    let limits = &listener.limits;
    if request.raw_path().len() > limits.target_bytes {
        return Err(&causes::URI_TOO_LONG);
    }
    let bytes: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if request.headers.len() > limits.header_fields || bytes > limits.header_bytes {
        return Err(&causes::HEADER_TOO_LARGE);
    }
    Ok(())
}

/// What the request is for: the authority of HTTP/2 and absolute targets, else Host.
fn authority(request: &RequestHeader) -> Result<WireText, &'static Cause> {
    if let Some(authority) = request.uri.authority() {
        return WireText::new(authority.as_str()).ok_or(&causes::BAD_HOST);
    }
    let mut hosts = request.headers.get_all(http::header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => WireText::received(host.clone()).ok_or(&causes::BAD_HOST),
        (None, _) if request.version == Version::HTTP_10 => Ok(WireText::default()),
        _ => Err(&causes::BAD_HOST),
    }
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
            None if line.is_empty() => continue,
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

/// The client's address: the peer's, or walking `X-Forwarded-For` from the right past proxies that are trusted.
fn client(peer: IpAddr, trusted: bool, listener: &Listener, headers: &HeaderMap) -> IpAddr {
    if !trusted {
        return peer;
    }
    let mut client = peer;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for entry in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(address) = forwarded_address(entry.trim()) else {
                return client;
            };
            client = address;
            if !listener.trusted_proxies.contains(address) {
                return client;
            }
        }
    }
    client
}

fn forwarded_address(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().ok();
    let with_port = || {
        entry
            .parse::<std::net::SocketAddr>()
            .ok()
            .map(|address| address.ip())
    };
    address
        .or_else(with_port)
        .map(|address: IpAddr| address.to_canonical())
}

fn forwarded_proto_is_https(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
            refused("POST / HTTP/1.1\r\nContent-Length: 4\r\ntransfer-encoding: chunked\r\n\r\n"),
            Some("bad_request.framing")
        );
    }

    #[test]
    fn forwarded_addresses_may_carry_ports() {
        assert_eq!(forwarded_address("1.2.3.4:80"), "1.2.3.4".parse().ok());
        assert_eq!(forwarded_address("[::1]:80"), "::1".parse().ok());
        assert_eq!(forwarded_address("unknown"), None);
    }
}
