//! What the authorization service is asked: a `CheckRequest` that tells of the request.
//! It must not know what comes of it.
//! Part of `ext_authz`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TE};
use http::{HeaderValue, Version};

use super::message::{
    framed, Address, Asked, Attributes, CheckRequest, HttpRequest, Peer, SocketAddress, Timestamp,
};
use crate::authorization::{body, PARTIAL};
use crate::contract::{Call, Caller, Clock, Request};
use crate::granted::Names;
use crate::host;

pub(super) struct Question {
    pub(super) send: Names,
    pub(super) context: BTreeMap<String, String>,
    pub(super) timeout: Duration,
    pub(super) limit: usize,
    pub(super) as_bytes: bool,
}

impl Question {
    pub(super) fn of(&self, caller: &Caller, clock: &Clock, request: &Request<'_>) -> Call {
        let now = clock.unix();
        let time = Timestamp {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(now.subsec_nanos()).unwrap_or(0),
        };
        let source = Peer {
            address: Some(Address {
                socket: Some(SocketAddress {
                    address: request.client.address.to_string(),
                }),
            }),
            principal: request
                .principal
                .as_ref()
                .map_or(String::new(), |one| one.id()),
        };
        let message = CheckRequest {
            attributes: Some(Attributes {
                source: Some(source),
                request: Some(Asked {
                    time: Some(time),
                    http: Some(self.http(request)),
                }),
                context: self.context.clone(),
            }),
        };
        let call = caller.post("application/grpc", framed(&message));
        call.at(METHOD)
            .with(TE, HeaderValue::from_static("trailers"))
            .within(self.timeout)
            .at_most(self.limit)
            .repeatable()
            .of(request)
    }

    fn http(&self, request: &Request<'_>) -> HttpRequest {
        let (head, client) = (&request.head, request.client);
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in head.headers.iter().filter(|(name, _)| self.send.has(name)) {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|all| {
                    all.push_str(if name == http::header::COOKIE {
                        "; "
                    } else {
                        ","
                    });
                    all.push_str(&value);
                })
                .or_insert_with(|| value.clone().into_owned());
        }
        let mut sent = Sent::default();
        if let Some((body, is_cut)) = body(request) {
            let is_cut = is_cut.to_str().unwrap_or_default();
            headers.insert(PARTIAL.as_str().to_owned(), is_cut.to_owned());
            sent = Sent::of(body, self.as_bytes);
        }
        let size = head
            .headers
            .get(CONTENT_LENGTH)
            .map(|value| value.to_str().ok()?.parse().ok());
        HttpRequest {
            id: client.request_id.to_owned(),
            method: head.method.as_str().to_owned(),
            headers,
            // As the service behind the proxy will see it, before a route rewrites it.
            path: match head.uri.query() {
                Some(query) => format!("{}?{query}", client.path),
                None => client.path.to_owned(),
            },
            host: host::asked(head).unwrap_or(client.host).to_owned(),
            scheme: if client.secure { "https" } else { "http" }.to_owned(),
            size: size.flatten().unwrap_or(-1),
            protocol: match head.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            }
            .to_owned(),
            body: sent.text,
            raw_body: sent.bytes,
        }
    }
}

/// A body, as text or as bytes.
#[derive(Default)]
struct Sent {
    text: String,
    bytes: Bytes,
}

impl Sent {
    fn of(body: Bytes, as_bytes: bool) -> Sent {
        match std::str::from_utf8(&body) {
            Ok(text) if !as_bytes => Sent {
                text: text.to_owned(),
                bytes: Bytes::new(),
            },
            _ => Sent {
                text: String::new(),
                bytes: body,
            },
        }
    }
}

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
