//! What the authorization service is asked: a call that tells of the request.
//! It must not know what comes of it.
//! Part of `forward_auth`.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue};

use super::AskWith;
use crate::authorization::{body, PARTIAL};
use crate::contract::{field_name, Call, Caller, Request, Side};
use crate::granted::Names;
use crate::host;

pub(super) struct Question {
    pub(super) send: Names,
    pub(super) method: AskWith,
    pub(super) append_path: bool,
    pub(super) timeout: Duration,
}

impl Question {
    pub(super) fn of(&self, caller: &Caller, request: &Request<'_>) -> Call {
        let mut call = caller.get().within(self.timeout).repeatable();
        if self.method == AskWith::Original {
            call.method = request.head.method.clone();
        }
        let target = target(request);
        if self.append_path {
            call.path = appended(caller.path(), &target);
        }
        for (name, value) in &request.head.headers {
            // Framing and the connection's own fields are nobody else's, whatever a wildcard says.
            let may = *name != HOST && field_name(Side::Request, "", name.as_str()).is_ok();
            if may && self.send.has(name) && !OWN.contains(name) {
                call.headers.append(name.clone(), value.clone());
            }
        }
        call.headers.remove(CONTENT_LENGTH);
        call.headers.remove(PARTIAL);
        if let Some((body, is_cut)) = body(request) {
            for name in [CONTENT_TYPE, CONTENT_ENCODING] {
                call.headers.remove(&name);
                for value in request.head.headers.get_all(&name) {
                    call.headers.append(name.clone(), value.clone());
                }
            }
            call.headers.insert(PARTIAL, is_cut);
            call.body = body;
        }
        let scheme = if request.client.secure {
            "https"
        } else {
            "http"
        };
        let host = written(request);
        let said = [
            (METHOD, request.head.method.as_str().to_owned()),
            (PROTO, scheme.to_owned()),
            (FOR, request.client.address.to_string()),
            (ORIGINAL_METHOD, request.head.method.as_str().to_owned()),
            (ORIGINAL_URL, format!("{scheme}://{host}{target}")),
            (FORWARDED_HOST, host),
            (URI, target),
        ];
        for (name, value) in said {
            // Canonical hosts and paths hold nothing that a field cannot.
            if let Ok(value) = HeaderValue::from_str(&value) {
                call.headers.insert(name, value);
            }
        }
        call.of(request)
    }
}

/// Path and query as the service behind the proxy will see them, before a route rewrites them: a decision about another spelling
/// would be one about another request.
fn target(request: &Request<'_>) -> String {
    match request.head.uri.query() {
        Some(query) => format!("{}?{query}", request.client.path),
        None => request.client.path.to_owned(),
    }
}

/// The host as the client wrote it, with its port.
fn written(request: &Request<'_>) -> String {
    host::asked(request.head)
        .unwrap_or(request.client.host)
        .to_owned()
}

/// The request's target behind the path of the URL; the latter's query is left out.
fn appended(path: &str, target: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.trim_end_matches('/');
    match target.starts_with('/') {
        true => format!("{path}{target}"),
        // `OPTIONS *`.
        false => format!("{path}/"),
    }
}

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");

/// Fields that are told of the request whatever it says itself.
const OWN: [HeaderName; 7] = [
    METHOD,
    PROTO,
    FORWARDED_HOST,
    URI,
    FOR,
    ORIGINAL_METHOD,
    ORIGINAL_URL,
];
