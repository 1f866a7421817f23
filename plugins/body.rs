//! Changes bodies: a merge patch (RFC 7396) and a patch of single operations (RFC 6902) of JSON, or a new body from a template.
//! It must not know how bodies are read, held or sent; it sees each whole and puts another in its place.
//! Called by the chain of a listener or route; name it after plugins that authenticate, as bodies are held in memory.

mod causes;
mod change;
mod facts;
mod response;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::codec::whole::{self, NotPlain};
use crate::codec::{coding, Coded};
use crate::contract::{
    Answer, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety, Size, Texts,
    Verdict,
};
use crate::statuses::Statuses;
pub use causes::{
    MALFORMED, RESPONSE_MALFORMED, RESPONSE_TOO_LARGE, RESPONSE_UNFIT, RESPONSE_UNSUPPORTED,
    TEMPLATE, TOO_LARGE, UNFIT, UNSUPPORTED,
};
use change::{Block, Change, Unchanged};
use response::Responses;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `body`. Numbers of more digits than a 64-bit integer or floating point number holds, and all but the last of keys that
/// are there twice, are lost in bodies that are changed. Members keep no order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How the bodies of requests are changed. Default: not.
    #[serde(default)]
    pub request: Option<Changes>,
    /// How the bodies of responses are changed. They are held back until they are whole, and only then is anything sent, so what cannot
    /// be changed is refused with a whole answer. Services are asked for all of a response, uncoded: `Range` and `Accept-Encoding` do
    /// not go to them. Event streams and other endless responses do not belong on such a route. Default: not.
    #[serde(default)]
    pub response: Option<ResponseChanges>,
    /// The most bytes of a body, before and after; larger requests are refused with the cause `body.too_large`. Bodies are held
    /// in memory until they are sent on, and count for `limits.held_bodies`. Default: 1MiB, at most 64MiB.
    #[serde(default = "one_mib")]
    pub max: Size,
    /// What becomes of bodies that are not JSON (`application/json` or `…+json`); of requests that are compressed; of responses in
    /// a coding that is not known here, parts (206) and those marked `no-transform`: `pass` leaves them as they are, `refuse` refuses
    /// them with the cause `body.unsupported` or `body.response_unsupported`. `decompress` in the same chain does not help with
    /// requests, as it works on the way upstream, after this; `decode` does. A template that does not ask for the body replaces any. Default: `pass`.
    #[serde(default)]
    pub others: Others,
    /// Whether bodies of requests in gzip, br or zstd are changed as well: they go on without their coding, whose result `max` bounds.
    /// Those of responses always are. Default: `false`.
    #[serde(default)]
    pub decode: bool,
}

/// Changes of a JSON document: `merge` first, then `patch`; or a new one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// A merge patch (RFC 7396): members that are given replace those there are, or are added; `null` removes; objects are
    /// merged member by member. Default: none.
    pub merge: Option<Map<String, Value>>,
    /// Operations (RFC 6902), such as `[{op: add, path: /tags/-, value: new}]`, at most 100; if one cannot be carried out
    /// the request is refused with the cause `body.unfit`. Default: none.
    pub patch: Vec<Value>,
    /// A new body in place of the old one, and its media type in `Content-Type`. POST, PUT and PATCH without a
    /// body get one. Default: none.
    pub template: Option<template::Settings>,
}

/// Changes of a response's document, and of which responses.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseChanges {
    /// As of requests. Default: none.
    pub merge: Option<Map<String, Value>>,
    /// As of requests; if one cannot be carried out the response is refused with the cause `body.response_unfit`. Default: none.
    pub patch: Vec<Value>,
    /// A new body in place of the old one. `request.body` is not known here. Default: none.
    pub template: Option<template::Settings>,
    /// Only changes responses with these statuses: codes, classes or ranges, such as `[200, 4xx]`. Those without a body (204, 205, 304)
    /// are never changed, nor are answers of the proxy's own. Default: every 2xx.
    pub statuses: Texts,
    /// What becomes of a response that is larger than `max`: `refuse` refuses it with the cause `body.response_too_large`; `pass`
    /// sends it on unchanged, from its first byte. Default: `refuse`.
    pub larger: Larger,
}

/// What becomes of a response that is too large to be changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Larger {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on.
    Pass,
}

/// What becomes of bodies that cannot be changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// They go on.
    #[default]
    Pass,
    /// They are refused.
    Refuse,
}

impl Plugin for Config {
    const KIND: &'static str = "body";
    const ABOUT: &'static str = "change bodies of requests and responses (JSON patches, templates)";
    const EXAMPLE: &'static str = "request:
  merge: {source: gateway, debug: null}
  patch: [{op: add, path: /version, value: 2}]
response:
  template: {text: '{\"status\": {{ response.status }}, \"order\": {{ response.body.id }}}'}
  statuses: [200, 201]
max: 256KiB
others: refuse";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &TOO_LARGE,
        &MALFORMED,
        &UNFIT,
        &UNSUPPORTED,
        &TEMPLATE,
        &RESPONSE_TOO_LARGE,
        &RESPONSE_MALFORMED,
        &RESPONSE_UNFIT,
        &RESPONSE_UNSUPPORTED,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.request.is_none() && self.response.is_none() {
            problems.push(
                Problem::at("", "changes nothing").help("give `request`, `response` or both"),
            );
        }
        let requests = self.requests(build, &mut problems);
        let responses = self.responses(build, &mut problems);
        if !(1..=MOST).contains(&self.max.0) {
            problems.push(
                Problem::at(
                    "max",
                    format!("must be from 1B to 64MiB, found {}", self.max),
                )
                .help("leave it out for 1MiB"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut hooks = Hooks::new();
        if let Some(requests) = requests {
            hooks = hooks
                .on_request(move |request| requests.change(request))
                .with_whole_body(self.max.0, &TOO_LARGE);
        }
        if let Some(responses) = responses {
            let responses = Arc::new(responses);
            let (ask, head, wish) = (responses.clone(), responses.clone(), responses.clone());
            hooks = hooks
                .on_upstream_request(move |request| ask.ask(request))
                .on_response(move |response| head.head(response))
                .on_held_response(
                    move |response| wish.wish(response),
                    move |response, held| responses.change(response, held),
                );
        }
        Ok(hooks)
    }
}

impl Config {
    fn requests(&self, build: &Build<'_>, problems: &mut Vec<Problem>) -> Option<Requests> {
        let changes = self.request.as_ref()?;
        let block = Block {
            path: "request",
            merge: changes.merge.as_ref(),
            patch: &changes.patch,
            template: changes.template.as_ref(),
            most: self.max.0,
        };
        let change = Change::of(&block, build, problems)?;
        if changes.template.is_some() && change.asks("response") {
            let fact = "asks for `response`, which is not there yet";
            problems.push(Problem::at("request.template", fact));
        }
        Some(Requests {
            change,
            most: self.max.0,
            others: self.others,
            decodes: self.decode,
            changed: build.counter("changed"),
        })
    }

    fn responses(&self, build: &Build<'_>, problems: &mut Vec<Problem>) -> Option<Responses> {
        let changes = self.response.as_ref()?;
        let statuses = Statuses::of("response.statuses", &changes.statuses, problems);
        let block = Block {
            path: "response",
            merge: changes.merge.as_ref(),
            patch: &changes.patch,
            template: changes.template.as_ref(),
            most: self.max.0,
        };
        let change = Change::of(&block, build, problems)?;
        if changes.template.is_some() && change.asks_for_exactly("request.body") {
            let fact = "asks for `request.body`, which is not kept until the response";
            problems.push(Problem::at("response.template", fact));
        }
        Some(Responses {
            change,
            statuses,
            larger: changes.larger,
            others: self.others,
            most: self.max.0,
            caller: build.slot(),
            changed: build.counter("response_changed"),
        })
    }
}

fn one_mib() -> Size {
    Size(1 << 20)
}

const MOST: u64 = 64 << 20;

/// Changes requests.
struct Requests {
    change: Change,
    most: u64,
    others: Others,
    decodes: bool,
    changed: Counter,
}

impl Requests {
    fn change(&self, request: &mut Request<'_>) -> Verdict {
        let Some(body) = request.body.as_ref().map(|body| body.bytes().clone()) else {
            return Verdict::Continue;
        };
        let reads = self.change.reads_body("request.body");
        let mut document = None;
        if reads && !body.is_empty() {
            let plain = match self.plain(&request.head.headers, &body) {
                Ok(plain) => plain,
                Err(verdict) => return verdict,
            };
            match serde_json::from_slice(&plain) {
                Ok(read) => document = Some(read),
                Err(_) => return Answer::of(&MALFORMED).into(),
            }
        } else if body.is_empty() && !self.makes_of_nothing(&request.head.method) {
            return Verdict::Continue;
        }
        let (head, client, principal) = (&*request.head, request.client, &*request.principal);
        let facts = |document| facts::of(head, client, principal.as_ref(), document);
        match self.change.apply(document, self.most, facts) {
            Ok((changed, media)) => {
                self.put(request, changed, media);
                Verdict::Continue
            }
            Err(Unchanged::Malformed) => Answer::of(&MALFORMED).into(),
            Err(Unchanged::Unfit) => Answer::of(&UNFIT).into(),
            Err(Unchanged::TooLarge) => Answer::of(&TOO_LARGE).into(),
            Err(Unchanged::Failed(reason)) => Verdict::Failed {
                cause: &TEMPLATE,
                reason,
            },
        }
    }

    /// The body without its coding, or what becomes of the request instead.
    fn plain(&self, headers: &HeaderMap, body: &Bytes) -> Result<Bytes, Verdict> {
        let plain = match (is_json(headers), coding(headers)) {
            (true, Coded::Plain) => Ok(body.clone()),
            (true, Coded::As(_)) if self.decodes => whole::plain(headers, body, self.most),
            _ => Err(NotPlain::Unknown),
        };
        plain.map_err(|why| match why {
            NotPlain::Malformed => Answer::of(&MALFORMED).into(),
            NotPlain::TooLarge => Answer::of(&TOO_LARGE).into(),
            NotPlain::Unknown if self.others == Others::Pass => Verdict::Continue,
            NotPlain::Unknown => Answer::of(&UNSUPPORTED).into(),
        })
    }

    /// Whether a request without a body gets one.
    fn makes_of_nothing(&self, method: &Method) -> bool {
        matches!(self.change, Change::Template(_))
            && [Method::POST, Method::PUT, Method::PATCH].contains(method)
    }

    fn put(&self, request: &mut Request<'_>, changed: Bytes, media: Option<http::HeaderValue>) {
        if let Some(media) = media {
            let _ = request.head.insert_header(CONTENT_TYPE, media);
        }
        request.head.remove_header(&CONTENT_ENCODING);
        for name in &DIGESTS {
            request.head.remove_header(name);
        }
        if let Some(body) = &mut request.body {
            body.replace(changed);
        }
        if request.effects.is_live() {
            (self.changed)(1);
        }
    }
}

/// Whether the fields say JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next(), types.next()) else {
        return false;
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

/// What does not hold any more for a body that was changed.
static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];
