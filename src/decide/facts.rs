//! What a request is about once its header was admitted: who asks, for which host and path.
//! It must not know routes, nor the bytes the header came in.
//! The data path fills it from a connection, dry runs from a question.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Version};
use pingora::http::RequestHeader;
use windrose_plugins::contract::{causes, Cause, ClientCertificate, ClientFacts, Trace};

use super::wire::WireText;
use super::{canonical_host, canonical_path};
use crate::snapshot::listener::Listener;

/// What is known of the client and its wish.
#[derive(Debug, Default)]
pub struct Facts {
    /// The client: the peer, or whom a trusted peer names.
    pub client: Option<IpAddr>,
    /// Where its connection was going: the original destination where it was captured.
    pub destination: Option<SocketAddr>,
    /// Whether the peer's forwarded fields are believed.
    pub trusted: bool,
    /// Whether the client's side is TLS.
    pub secure: bool,
    /// Canonical host; empty where HTTP/1.0 sent none.
    pub host: String,
    /// The port of the authority, if it has one.
    pub port: Option<u16>,
    /// Canonical path.
    pub path: String,
    /// Whether a body follows that is not known to be empty.
    pub sends_body: bool,
    /// The authority as it came.
    pub authority: WireText,
    /// The id that is logged and sent on.
    pub request_id: WireText,
    /// The trace that calls of plugins are part of.
    pub trace: Option<Box<Trace>>,
    /// The certificate that the other end of the connection proved itself with.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Facts {
    /// Settles trust: who the client is and whether its side is TLS. `peer` is canonical.
    pub fn of(headers: &HeaderMap, listener: &Listener, peer: IpAddr, tls: bool) -> Facts {
        let trusted = listener.trusted_proxies.contains(peer);
        Facts {
            client: Some(client(peer, trusted, listener, headers)),
            trusted,
            secure: tls || (trusted && forwarded_proto_is_https(headers)),
            ..Facts::default()
        }
    }

    /// Admits a header: host and path in canonical form.
    ///
    /// # Errors
    /// The cause to refuse it with.
    pub fn admit(
        &mut self,
        head: &RequestHeader,
        listener: &Listener,
    ) -> Result<(), &'static Cause> {
        bounds(head, listener)?;
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(&causes::METHOD_NOT_ALLOWED);
        }
        let authority = authority(head)?;
        if !authority.is_empty() {
            let host = canonical_host(&authority).map_err(|_| &causes::BAD_HOST)?;
            self.port = host.port;
            self.host = host.name.into_owned();
        }
        self.authority = authority;
        self.sends_body |= announces_body(&head.headers);
        let path = head.uri.path();
        self.path = match head.method == Method::OPTIONS && path == "*" {
            true => "*".to_owned(),
            false => canonical_path(path)
                .map_err(|_| &causes::BAD_TARGET)?
                .into_owned(),
        };
        Ok(())
    }

    /// What plugins are told about the client.
    pub fn view<'a>(&'a self, listener: &'a Listener, route: &'a str) -> ClientFacts<'a> {
        ClientFacts {
            address: self.client.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            secure: self.secure,
            listener: &listener.name,
            route,
            host: &self.host,
            path: &self.path,
            sends_body: self.sends_body,
            request_id: &self.request_id,
            trusted_peer: self.trusted,
            trace: self.trace.as_deref(),
            certificate: self.certificate.as_deref(),
        }
    }
}

fn bounds(head: &RequestHeader, listener: &Listener) -> Result<(), &'static Cause> {
    let limits = &listener.limits;
    if head.raw_path().len() > limits.target_bytes {
        return Err(&causes::URI_TOO_LONG);
    }
    let bytes: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if head.headers.len() > limits.header_fields || bytes > limits.header_bytes {
        return Err(&causes::HEADER_TOO_LARGE);
    }
    Ok(())
}

/// Whether a head says that a body follows. One of an unknown length may turn out to be empty.
fn announces_body(headers: &HeaderMap) -> bool {
    match headers.get(CONTENT_LENGTH) {
        Some(length) => length.as_bytes() != b"0",
        None => headers.contains_key(TRANSFER_ENCODING),
    }
}

/// What the request is for: the authority of HTTP/2, else Host. The authority of an absolute target (HTTP/1) is not in the URI here;
/// Pingora refuses a request whose Host differs from it.
fn authority(head: &RequestHeader) -> Result<WireText, &'static Cause> {
    if let Some(authority) = head.uri.authority() {
        return WireText::new(authority.as_str()).ok_or(&causes::BAD_HOST);
    }
    let mut hosts = head.headers.get_all(http::header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => WireText::received(host.clone()).ok_or(&causes::BAD_HOST),
        (None, _) if head.version == Version::HTTP_10 => Ok(WireText::default()),
        _ => Err(&causes::BAD_HOST),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_may_carry_ports() {
        assert_eq!(forwarded_address("1.2.3.4:80"), "1.2.3.4".parse().ok());
        assert_eq!(forwarded_address("[::1]:80"), "::1".parse().ok());
        assert_eq!(forwarded_address("unknown"), None);
    }
}
