//! The authority that a request asks for, as the client wrote it.
//! It must not judge it: the proxy has refused what is none before any plugin runs.
//! Called by plugins that compare it or tell it to somebody.

use http::header::HOST;
use pingora_http::RequestHeader;

/// Host and port: of HTTP/2 those of `:authority`, which alone decides there, else those of `Host`.
pub(crate) fn asked(head: &RequestHeader) -> Option<&str> {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| head.headers.get(HOST)?.to_str().ok())
}
