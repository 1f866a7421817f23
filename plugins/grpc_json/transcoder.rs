//! A call on its way: a request into a message, a response's messages and status into JSON.
//! It must not know settings as they are written.
//! Part of `grpc_json`.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use prost_reflect::SerializeOptions;
use serde_json::Value;

use super::binding::{Bindings, Body};
use super::path::Captured;
use super::request::{self, Brought, Strictness};
use super::response::{Frames, Printer, Stream, Wrong};
use super::status::{refusal, Status, GRPC_DETAILS, GRPC_MESSAGE, GRPC_STATUS};
use super::{
    Config, Form, Unknown, Unmatched, NO_BINDING, RESPONSE_MALFORMED, RESPONSE_TOO_LARGE,
    UNSUPPORTED,
};
use crate::contract::{
    Answer, Build, Cause, Counter, Held, Hold, Larger, Problem, Request, Response, Slot, Slots,
    Verdict, WholeBody,
};
use crate::query;

/// What requests and responses go through.
pub(super) struct Transcoder {
    bindings: Bindings,
    strict: Strictness,
    unmatched: Unmatched,
    not_ours: Vec<String>,
    form: Form,
    printer: Printer,
    /// The binding of the call.
    call: Slot<usize>,
    stream: Slot<Stream>,
    calls: Counter,
}

impl Transcoder {
    pub(super) fn of(config: Config, build: &Build<'_>) -> Result<Transcoder, Vec<Problem>> {
        let mut problems = super::bounds(&config);
        let bindings = super::bindings(&config, build);
        let bindings = match (bindings, problems.is_empty()) {
            (Ok(bindings), true) => bindings,
            (bindings, _) => {
                problems.extend(bindings.err().unwrap_or_default());
                return Err(problems);
            }
        };
        let print = &config.print;
        let options = SerializeOptions::new()
            .skip_default_fields(!print.defaults)
            .use_proto_field_name(print.proto_names)
            .use_enum_numbers(print.enums_as_numbers)
            .stringify_64_bit_integers(!print.integers_as_numbers);
        Ok(Transcoder {
            bindings,
            strict: Strictness {
                fields: config.unknown_fields == Unknown::Refuse,
                parameters: config.unknown_parameters == Unknown::Refuse,
            },
            unmatched: config.unmatched,
            not_ours: config.ignored_parameters,
            form: config.stream,
            printer: Printer {
                options,
                proto_names: print.proto_names,
                most: usize::try_from(config.max_response.0).unwrap_or(usize::MAX),
            },
            call: build.slot(),
            stream: build.slot(),
            calls: build.counter("calls"),
        })
    }

    /// Whether a method is bound to the request. Bodies of others are nobody's business here, and gRPC's may never end.
    pub(super) fn is_ours(&self, request: &Request<'_>) -> bool {
        !is_grpc(&request.head.headers) && self.found(request).is_some()
    }

    fn found(&self, request: &Request<'_>) -> Option<(usize, Captured)> {
        self.bindings
            .find(&request.head.method, request.client.path)
    }

    pub(super) fn request(&self, request: &mut Request<'_>) -> Verdict {
        if is_grpc(&request.head.headers) {
            return Verdict::Continue;
        }
        let Some((at, captured)) = self.found(request) else {
            return match self.unmatched {
                Unmatched::Pass => Verdict::Continue,
                Unmatched::Refuse => refused(&NO_BINDING, "no method is bound to this path"),
            };
        };
        let binding = &self.bindings.all[at];
        let body = request.body.as_ref().map(|body| body.bytes().clone());
        let body = body.unwrap_or_default();
        let reads = binding.body != Body::Nothing && !body.is_empty();
        if reads && !request::is_json(&request.head.headers) {
            return refused(&UNSUPPORTED, "the body has to be JSON, without a coding");
        }
        let brought = Brought {
            captured: &captured,
            query: request.head.uri.query().unwrap_or_default(),
            not_ours: &self.not_ours,
            body: &body,
        };
        let message = match request::message(binding, &brought, self.strict) {
            Ok(message) => message,
            Err(why) => return refused(why.cause, &why.said),
        };
        let frame = Bytes::from(request::frame(&message));
        let whole = request
            .body
            .get_or_insert_with(|| Box::new(WholeBody::default()));
        whole.replace(frame);
        request.slots.put(self.call, at);
        if request.effects.is_live() {
            (self.calls)(1);
        }
        Verdict::Continue
    }

    /// For each attempt anew, after the route has had its way with the path.
    pub(super) fn upstream(&self, request: &mut Request<'_>) -> Verdict {
        let Some(at) = request.slots.value(self.call).copied() else {
            return Verdict::Continue;
        };
        let head = &mut *request.head;
        head.set_method(Method::POST);
        query::set_target(head, &self.bindings.all[at].method.path, None);
        let fields = [
            (CONTENT_TYPE, "application/grpc"),
            (TE, "trailers"),
            // Messages come plain, so that they can be read.
            (GRPC_ACCEPT_ENCODING, "identity"),
        ];
        for (name, value) in fields {
            let _ = head.insert_header(name, HeaderValue::from_static(value));
        }
        for name in [&ACCEPT, &ACCEPT_ENCODING, &GRPC_ENCODING] {
            head.remove_header(name);
        }
        Verdict::Continue
    }

    pub(super) fn wish(&self, response: &mut Response<'_>) -> Hold {
        let at = response.slots.value(self.call).copied();
        let Some(at) = at.filter(|_| is_grpc(&response.head.headers)) else {
            // What answers is no gRPC service; its answer is as good as ours.
            return Hold::Nothing;
        };
        match self.bindings.all[at].method.streams {
            true => Hold::Within {
                most: 0,
                larger: Larger::Begin,
            },
            false => Hold::Within {
                most: self.printer.most as u64 + 5,
                larger: Larger::Refuse(&RESPONSE_TOO_LARGE),
            },
        }
    }

    pub(super) fn held(&self, response: &mut Response<'_>, held: &mut Held) -> Verdict {
        let Some(at) = response.slots.value(self.call).copied() else {
            return Verdict::Continue;
        };
        let status = Status::of(&held.trailers).or_else(|| Status::of(&response.head.headers));
        let streams = self.bindings.all[at].method.streams;
        let is_error = status.as_ref().is_some_and(|status| !status.is_ok());
        let outcome = match status.filter(|_| held.is_whole) {
            Some(status) if is_error && (!streams || held.body.bytes().is_empty()) => {
                Ok(self.error(response, &status))
            }
            status if streams => self.begin(response, held, at, status),
            Some(_) => self.single(response, held.body.bytes(), at).inspect(|_| {
                clean(response, "application/json");
            }),
            None => Err(Wrong::Malformed),
        };
        match outcome {
            Ok(body) => {
                held.body.replace(body);
                held.trailers.clear();
                Verdict::Continue
            }
            Err(wrong) => wrong.answer().into(),
        }
    }

    fn error(&self, response: &mut Response<'_>, status: &Status) -> Vec<u8> {
        let body = status.json(&self.bindings.pool, &self.printer.options);
        clean(response, "application/json");
        let http = StatusCode::from_u16(status.http());
        let _ = response
            .head
            .set_status(http.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        body.to_string().into_bytes()
    }

    fn single(&self, response: &Response<'_>, body: &Bytes, at: usize) -> Result<Vec<u8>, Wrong> {
        let mut frames = Frames::of(&response.head.headers);
        frames.push(body);
        let message = frames.next(self.printer.most)?.ok_or(Wrong::Malformed)?;
        match frames.is_empty() {
            true => self.printer.print(&self.bindings.all[at], &message),
            false => Err(Wrong::Malformed),
        }
    }

    /// A stream's begin, or all of it.
    fn begin(
        &self,
        response: &mut Response<'_>,
        held: &Held,
        at: usize,
        status: Option<Status>,
    ) -> Result<Vec<u8>, Wrong> {
        let mut stream = Stream::new(Frames::of(&response.head.headers), self.form, at);
        let binding = &self.bindings.all[at];
        let mut out = stream.piece(held.body.bytes(), binding, &self.printer)?;
        clean(
            response,
            match self.form {
                Form::Lines => "application/x-ndjson",
                Form::Array => "application/json",
            },
        );
        match held.is_whole {
            true => out.extend(self.ending(&mut stream, status)),
            false => response.slots.put(self.stream, stream),
        }
        Ok(out)
    }

    fn ending(&self, stream: &mut Stream, status: Option<Status>) -> Vec<u8> {
        let status = status.filter(|_| stream.is_whole());
        let status = status.unwrap_or_else(Status::missing);
        let error =
            (!status.is_ok()).then(|| status.json(&self.bindings.pool, &self.printer.options));
        stream.end(error)
    }

    pub(super) fn piece(
        &self,
        slots: &mut Slots,
        piece: &mut Option<Bytes>,
        last: bool,
    ) -> Verdict {
        let Some(stream) = slots.value_mut(self.stream) else {
            return Verdict::Continue;
        };
        let taken = piece.take().unwrap_or_default();
        let binding = &self.bindings.all[stream.at];
        match stream.piece(&taken, binding, &self.printer) {
            Ok(mut out) => {
                if last {
                    out.extend(self.ending(stream, None));
                }
                *piece = Some(out.into());
                Verdict::Continue
            }
            Err(wrong) => wrong.answer().into(),
        }
    }

    pub(super) fn end(
        &self,
        slots: &mut Slots,
        trailers: &mut HeaderMap,
        piece: &mut Option<Bytes>,
    ) {
        if let Some(stream) = slots.value_mut(self.stream) {
            let end = self.ending(stream, Status::of(trailers));
            let before = piece.take().unwrap_or_default();
            *piece = Some(Bytes::from([&before[..], &end].concat()));
        }
    }
}

impl Wrong {
    fn answer(self) -> Answer {
        Answer::of(match self {
            Wrong::Malformed => &RESPONSE_MALFORMED,
            Wrong::TooLarge => &RESPONSE_TOO_LARGE,
        })
    }
}

/// A refusal in the form that errors of the service have.
fn refused(cause: &'static Cause, said: &str) -> Verdict {
    let code = match cause.status {
        404 => 5,
        _ => 3,
    };
    let body: Value = refusal(code, said);
    let mut answer = Answer::of(cause);
    answer.body = Some((
        HeaderValue::from_static("application/json"),
        body.to_string().into(),
    ));
    answer.into()
}

/// Takes from a head what is gRPC's.
fn clean(response: &mut Response<'_>, media: &'static str) {
    for name in [
        &GRPC_STATUS,
        &GRPC_MESSAGE,
        &GRPC_DETAILS,
        &GRPC_ENCODING,
        &GRPC_ACCEPT_ENCODING,
        &TRAILER,
    ] {
        response.head.remove_header(name);
    }
    let media = HeaderValue::from_static(media);
    let _ = response.head.insert_header(CONTENT_TYPE, media);
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
