//! Takes the coding off request bodies, and off responses where asked, for services and plugins that want them plain.
//! It must not know routes; what may become of a body is bounded by size and ratio.
//! Called by the chain of a listener or route that names it; put it before plugins that read pieces of request bodies, and
//! after those that read responses. Plugins that want a body whole, such as `body`, see it coded wherever they stand: they run before
//! a request goes upstream, and this works while it does. They take the coding off themselves (`codec::whole`), within their bounds.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::codec::accept::takes;
use crate::codec::decode::{Bound, Decoder, Wrong};
use crate::codec::{coding, is_not_to_change, recoded, vary, Coded, Coding};
use crate::contract::{
    causes, Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Response, Safety, Size, Slot, Slots, Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// A request body whose coding is not known here.
pub static UNSUPPORTED: Cause = Cause {
    name: "decompress.unsupported",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The request body is in a content coding that `decompress` does not know, or in several on top of each other, and its `refuse_unknown` is set.",
    next_step: "Send the body plain, or in one of the codings that the answer's Accept-Encoding lists.",
};

/// A request body that is not in its coding.
pub static MALFORMED: Cause = Cause {
    name: "decompress.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request body is not in the coding that its Content-Encoding names, breaks off in the middle, or goes on after its end.",
    next_step: "Look at how the client compresses; a proxy before this one may have changed the body or its fields.",
};

/// A request body that becomes too large.
pub static TOO_LARGE: Cause = Cause {
    name: "decompress.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request body grows past `max_size`, or to more than `max_ratio` times what was sent, once its coding is taken off.",
    next_step: "Raise the bounds of `decompress` if such bodies are wanted. Bodies that grow beyond measure are an attack (a zip bomb).",
};

/// A response that is not in its coding.
pub static RESPONSE_MALFORMED: Cause = Cause {
    name: "decompress.response_malformed",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response is not in the coding that its Content-Encoding names, or breaks off in the middle; it was cut.",
    next_step: "Ask the service directly and decode what it sends.",
};

/// A response that becomes too large.
pub static RESPONSE_TOO_LARGE: Cause = Cause {
    name: "decompress.response_too_large",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response grows past `max_response_size`, or to more than `max_ratio` times what it sent, once its coding is taken off; it was cut.",
    next_step: "Raise the bounds of `decompress` if such responses are wanted.",
};

/// Settings of `decompress`. Known codings are gzip, br and zstd, one at a time. What is decoded loses `Content-Encoding` and
/// `Content-Length`, and goes on in chunks. Memory of a stream: 0.1 MiB (gzip), 9 MiB (zstd) or 17 MiB (br, whose window the sender
/// chooses), besides what one piece of at most 64 KiB becomes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether request bodies are decoded. Default: `true`.
    #[serde(default = "yes")]
    pub requests: bool,
    /// Which responses are decoded: `never`, `unless_accepted` (for clients that do not take the coding), or `always`.
    /// Default: `never`.
    #[serde(default)]
    pub responses: Responses,
    /// Codings that are taken off; others stay. Default: `[zstd, br, gzip]`.
    #[serde(default = "all")]
    pub algorithms: Vec<Coding>,
    /// Refuses request bodies in other codings, with 415, instead of sending them on as they are. Default: `false`.
    #[serde(default)]
    pub refuse_unknown: bool,
    /// The most that a request body may become. Default: `10MiB`.
    #[serde(default = "largest")]
    pub max_size: Size,
    /// The most that a response may become. Default: `1GiB`.
    #[serde(default = "largest_response")]
    pub max_response_size: Size,
    /// How many bytes one byte may become, on the whole; the first 64 KiB are free. Default: `100`.
    #[serde(default = "hundred")]
    pub max_ratio: u64,
}

/// Which responses are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Responses {
    /// None.
    #[default]
    Never,
    /// Those whose coding the client does not take.
    UnlessAccepted,
    /// All.
    Always,
}

fn yes() -> bool {
    true
}

fn all() -> Vec<Coding> {
    vec![Coding::Zstd, Coding::Br, Coding::Gzip]
}

fn largest() -> Size {
    Size(10 << 20)
}

fn largest_response() -> Size {
    Size(1 << 30)
}

fn hundred() -> u64 {
    100
}

impl Plugin for Config {
    const KIND: &'static str = "decompress";
    const ABOUT: &'static str = "take the coding off request bodies and responses";
    const EXAMPLE: &'static str =
        "responses: unless_accepted\nrefuse_unknown: true\nmax_size: 20MiB\nmax_ratio: 50";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &UNSUPPORTED,
        &MALFORMED,
        &TOO_LARGE,
        &RESPONSE_MALFORMED,
        &RESPONSE_TOO_LARGE,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (requests, responses) = (self.requests, self.responses);
        let plain = Plain {
            requests: build.slot(),
            responses: build.slot(),
            refused: build.counter("refused"),
            config: std::sync::Arc::new(self),
        };
        let mut hooks = Hooks::new();
        if requests {
            let (head, body) = (plain.clone(), plain.clone());
            if plain.config.refuse_unknown {
                let known = plain.clone();
                hooks = hooks.on_request(move |request| known.known(request));
            }
            hooks = hooks
                .on_upstream_request(move |request| head.request(request))
                .on_request_body(move |slots, piece, last| body.request_piece(slots, piece, last));
        }
        if responses != Responses::Never {
            let (head, body, end) = (plain.clone(), plain.clone(), plain);
            hooks = hooks
                .on_response(move |response| head.response(response))
                .on_response_body(move |slots, piece, last| body.response_piece(slots, piece, last))
                .on_response_trailers(move |slots, _, piece| end.trailers(slots, piece));
        }
        Ok(hooks)
    }
}

impl Config {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.requests && self.responses == Responses::Never {
            problems.push(
                Problem::at("", "decodes neither requests nor responses")
                    .help("set `requests` or `responses`"),
            );
        }
        if !self.requests && self.refuse_unknown {
            problems.push(
                Problem::at("refuse_unknown", "is for requests, which are not decoded")
                    .help("remove it, or set `requests: true`"),
            );
        }
        if self.algorithms.is_empty() {
            problems.push(Problem::at("algorithms", "names none").help("leave it out for all"));
        }
        if self.max_ratio == 0 {
            problems.push(Problem::at("max_ratio", "must be at least 1, found 0"));
        }
        problems
    }
}

#[derive(Clone)]
struct Plain {
    config: std::sync::Arc<Config>,
    requests: Slot<Decoder>,
    responses: Slot<Decoder>,
    refused: Counter,
}

impl Plain {
    /// Whether a request's coding is known.
    fn known(&self, request: &mut Request<'_>) -> Verdict {
        let is_known = match coding(&request.head.headers) {
            Coded::Plain => true,
            Coded::As(coding) => self.config.algorithms.contains(&coding),
            Coded::Otherwise => false,
        };
        if is_known {
            return Verdict::Continue;
        }
        if request.effects.is_live() {
            (self.refused)(1);
        }
        let names: Vec<&str> = self
            .config
            .algorithms
            .iter()
            .map(|one| one.name())
            .collect();
        let answer = Answer::of(&UNSUPPORTED);
        // RFC 7694: what would have been taken.
        match HeaderValue::from_str(&names.join(", ")) {
            Ok(names) => answer.with(ACCEPT_ENCODING, names).into(),
            Err(_) => answer.into(),
        }
    }

    /// For each attempt anew: a further one sends the body from its beginning.
    fn request(&self, request: &mut Request<'_>) -> Verdict {
        let Some(coding) = self.coding(&request.head.headers) else {
            return Verdict::Continue;
        };
        if request.effects.is_live() {
            let decoder = match self.decoder(coding, self.config.max_size) {
                Ok(decoder) => decoder,
                Err(verdict) => return verdict,
            };
            request.slots.put(self.requests, decoder);
        }
        for name in [&CONTENT_ENCODING, &CONTENT_LENGTH, &CONTENT_DIGEST] {
            request.head.remove_header(name);
        }
        Verdict::Continue
    }

    fn response(&self, response: &mut Response<'_>) -> Verdict {
        let has_body = !response.head.status.is_informational()
            && !matches!(response.head.status.as_u16(), 204 | 205 | 206 | 304)
            && !response.head.headers.contains_key(CONTENT_RANGE);
        if !has_body || response.cause.is_some() || is_not_to_change(&response.head.headers) {
            return Verdict::Continue;
        }
        let Some(coding) = self.coding(&response.head.headers) else {
            return Verdict::Continue;
        };
        if self.config.responses == Responses::UnlessAccepted {
            vary(response.head);
            if takes(&response.request.headers, coding) {
                return Verdict::Continue;
            }
        }
        // A response to HEAD has the head of the one to GET.
        if response.request.method != Method::HEAD {
            match self.decoder(coding, self.config.max_response_size) {
                Ok(decoder) => response.slots.put(self.responses, decoder),
                Err(verdict) => return verdict,
            }
        }
        recoded(response.head);
        response.head.remove_header(&CONTENT_ENCODING);
        Verdict::Continue
    }

    fn coding(&self, headers: &http::HeaderMap) -> Option<Coding> {
        match coding(headers) {
            Coded::As(coding) => self.config.algorithms.contains(&coding).then_some(coding),
            Coded::Plain | Coded::Otherwise => None,
        }
    }

    fn decoder(&self, coding: Coding, size: Size) -> Result<Decoder, Verdict> {
        let bound = Bound {
            size: size.0,
            ratio: self.config.max_ratio,
        };
        Decoder::new(coding, bound).map_err(|error| Verdict::Failed {
            cause: &causes::PLUGIN_FAILED,
            reason: format!("no {} stream: {error}", coding.name()),
        })
    }

    fn request_piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        let wrong = match slots.value_mut(self.requests) {
            Some(decoder) => decoded(decoder, piece, last).err(),
            None => None,
        };
        self.verdict(wrong, &MALFORMED, &TOO_LARGE)
    }

    fn response_piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        let wrong = match slots.value_mut(self.responses) {
            Some(decoder) => decoded(decoder, piece, last).err(),
            None => None,
        };
        self.verdict(wrong, &RESPONSE_MALFORMED, &RESPONSE_TOO_LARGE)
    }

    /// Decoded bytes that came late go before the trailers are dropped for them; as a rule there are none, and trailers go on.
    fn trailers(&self, slots: &mut Slots, piece: &mut Option<Bytes>) {
        if slots.value(self.responses).is_some() {
            let _ = self.response_piece(slots, piece, true);
            *piece = piece.take().filter(|rest| !rest.is_empty());
        }
    }

    fn verdict(
        &self,
        wrong: Option<Wrong>,
        malformed: &'static Cause,
        too_large: &'static Cause,
    ) -> Verdict {
        let cause = match wrong {
            None => return Verdict::Continue,
            Some(Wrong::Malformed) => malformed,
            Some(Wrong::TooLarge) => too_large,
        };
        (self.refused)(1);
        Answer::of(cause).into()
    }
}

/// Puts in place of a piece what it becomes.
fn decoded(decoder: &mut Decoder, piece: &mut Option<Bytes>, last: bool) -> Result<(), Wrong> {
    let taken = piece.take().unwrap_or_default();
    let mut out = decoder.piece(&taken)?;
    if last {
        let rest = decoder.end()?;
        if !rest.is_empty() {
            out = Bytes::from([out, rest].concat());
        }
    }
    *piece = Some(out);
    Ok(())
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
