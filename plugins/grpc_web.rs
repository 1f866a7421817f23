//! Lets browsers call gRPC services: gRPC-Web on the client's side, gRPC on the service's, both ways as they stream.
//! It must not know messages: their frames are the same in both; only how they travel and how they end differs.
//! Called by the chain of a listener or route that names it; its pool has to speak HTTP/2.

mod ending;
#[cfg(test)]
mod tests;
mod text;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Response,
    Safety, Slot, Slots, Verdict,
};

use text::Decoding;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// A body of the text form that is no base64.
pub static MALFORMED: Cause = Cause {
    name: "grpc_web.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The body of a gRPC-Web call in text form is not base64, or breaks off in the middle of a group.",
    next_step: "Look at what the client library sends; a proxy before this one may have changed the body.",
};

/// A call that is no gRPC-Web.
pub static NOT_GRPC_WEB: Cause = Cause {
    name: "grpc_web.expected",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The route takes gRPC-Web calls only (`only: true` of `grpc_web`), and this is a POST of another media type.",
    next_step: "Send `application/grpc-web` or `application/grpc-web-text`, or set `only: false`.",
};

/// Settings of `grpc_web`. Calls in the binary form (`application/grpc-web`) and in the text form (`application/grpc-web-text`) become
/// gRPC, and what comes back becomes gRPC-Web: trailers are the last frame of the body. Everything else goes on as it is. In the text
/// form a stream needs no more memory than one piece of it.
///
/// Pages of another origin need `cors` before this plugin, with `headers: [content-type, x-grpc-web, x-user-agent, grpc-timeout]` and
/// `expose: [grpc-status, grpc-message, grpc-status-details-bin]`, for calls that are refused at once have their status there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Refuses other POSTs with 415, but for gRPC itself. Default: `false`.
    #[serde(default)]
    pub only: bool,
}

impl Plugin for Config {
    const KIND: &'static str = "grpc_web";
    const ABOUT: &'static str = "let browsers call gRPC services";
    const EXAMPLE: &'static str = "only: true";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&MALFORMED, &NOT_GRPC_WEB];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let bridge = Bridge {
            only: self.only,
            call: build.slot(),
            request: build.slot(),
            response: build.slot(),
            calls: build.counter("calls"),
        };
        let (sent, piece, head, body, end) = (
            bridge.clone(),
            bridge.clone(),
            bridge.clone(),
            bridge.clone(),
            bridge.clone(),
        );
        Ok(Hooks::new()
            .on_request(move |request| bridge.request(request))
            .on_upstream_request(move |request| sent.upstream(request))
            .on_request_body(move |slots, bytes, last| piece.request_piece(slots, bytes, last))
            .on_response(move |response| head.response(response))
            .on_response_body(move |slots, bytes, _| body.response_piece(slots, bytes))
            .on_response_trailers(move |slots, trailers, bytes| end.end(slots, trailers, bytes)))
    }
}

/// How bytes travel on the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Text,
}

/// What a call is, as its header said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    sends: Form,
    takes: Form,
}

#[derive(Clone)]
struct Bridge {
    only: bool,
    call: Slot<Call>,
    request: Slot<Decoding>,
    response: Slot<Form>,
    calls: Counter,
}

impl Bridge {
    fn request(&self, request: &mut Request<'_>) -> Verdict {
        let head = &mut *request.head;
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let Some((sends, rest)) = kind.and_then(web).filter(|_| head.method == Method::POST) else {
            let is_grpc = kind.is_some_and(|kind| suffix(kind, "application/grpc").is_some());
            return match self.only && head.method == Method::POST && !is_grpc {
                true => Answer::of(&NOT_GRPC_WEB).into(),
                false => Verdict::Continue,
            };
        };
        let Ok(plain) = HeaderValue::from_str(&format!("application/grpc{rest}")) else {
            return Verdict::Continue;
        };
        let accepts = head
            .headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok());
        let takes_text = accepts.is_some_and(|accepts| accepts.contains(TEXT));
        let takes = if takes_text { Form::Text } else { sends };
        // From here on it is a gRPC call to everybody, so that refusals are in its form too.
        let _ = head.insert_header(CONTENT_TYPE, plain);
        request.slots.put(self.call, Call { sends, takes });
        if request.effects.is_live() {
            (self.calls)(1);
        }
        Verdict::Continue
    }

    /// For each attempt anew: a further one sends the body from its beginning.
    fn upstream(&self, request: &mut Request<'_>) -> Verdict {
        let Some(call) = request.slots.value(self.call).copied() else {
            return Verdict::Continue;
        };
        let head = &mut *request.head;
        // What says that trailers are understood; services refuse calls without it.
        let _ = head.insert_header(TE, HeaderValue::from_static("trailers"));
        head.remove_header(&X_GRPC_WEB);
        head.remove_header(&ACCEPT);
        if call.sends == Form::Text {
            head.remove_header(&CONTENT_LENGTH);
            request.slots.put(self.request, Decoding::default());
        }
        Verdict::Continue
    }

    fn request_piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        let Some(decoding) = slots.value_mut(self.request) else {
            return Verdict::Continue;
        };
        let taken = piece.take().unwrap_or_default();
        match decoding.piece(&taken, last) {
            Some(bytes) => {
                *piece = Some(bytes);
                Verdict::Continue
            }
            None => Answer::of(&MALFORMED).into(),
        }
    }

    fn response(&self, response: &mut Response<'_>) -> Verdict {
        let Some(call) = response.slots.value(self.call).copied() else {
            return Verdict::Continue;
        };
        let head = &mut *response.head;
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        // A service that answers in another way is passed on as it is: the client's library makes a status of it.
        let Some(rest) = kind.and_then(|kind| suffix(kind, "application/grpc")) else {
            return Verdict::Continue;
        };
        let name = match call.takes {
            Form::Binary => "application/grpc-web",
            Form::Text => TEXT,
        };
        if let Ok(kind) = HeaderValue::from_str(&format!("{name}{rest}")) {
            let _ = head.insert_header(CONTENT_TYPE, kind);
        }
        head.remove_header(&TRAILER);
        if response.cause.is_none() {
            head.remove_header(&CONTENT_LENGTH);
            response.slots.put(self.response, call.takes);
        }
        Verdict::Continue
    }

    fn response_piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>) -> Verdict {
        if slots.value(self.response) == Some(&Form::Text) {
            // Each piece for itself, so that none waits for the next: the form allows padding in the middle.
            *piece = piece.take().map(|bytes| text::encoded(&bytes));
        }
        Verdict::Continue
    }

    fn end(&self, slots: &mut Slots, trailers: &mut HeaderMap, piece: &mut Option<Bytes>) {
        let Some(form) = slots.value(self.response).copied() else {
            return;
        };
        let before = piece.take().unwrap_or_default();
        let all = Bytes::from([&before[..], &ending::frame(trailers)].concat());
        *piece = Some(match form {
            Form::Binary => all,
            Form::Text => text::encoded(&all),
        });
    }
}

/// The form that a media type names, with what follows its name, such as `+proto`.
fn web(kind: &str) -> Option<(Form, &str)> {
    let text = suffix(kind, TEXT).map(|rest| (Form::Text, rest));
    text.or_else(|| suffix(kind, "application/grpc-web").map(|rest| (Form::Binary, rest)))
}

/// What follows a media type's name, if it is this one: nothing, `+format` or parameters.
fn suffix<'k>(kind: &'k str, name: &str) -> Option<&'k str> {
    let begins = kind.get(..name.len())?.eq_ignore_ascii_case(name);
    let rest = &kind[name.len()..];
    let is_end = rest.is_empty() || rest.starts_with(['+', ';', ' ']);
    (begins && is_end).then_some(rest)
}

const TEXT: &str = "application/grpc-web-text";
const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");
