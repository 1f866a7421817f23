//! Refuses bodies above a size: by `Content-Length` before anything is sent, by counting while they stream.
//! It must not know the route's own `body_limit`; whichever is smaller ends the request first.
//! Called by the chain of a listener or route that names it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    causes, Answer, Blame, Build, Cause, Counter, Effects, Hooks, Plugin, PluginDef, Problem,
    Request, Response, Safety, Size, Slot, Slots, Verdict,
};
use crate::media::{self, Kind};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// A request body whose length is not stated.
pub static NO_LENGTH: Cause = Cause {
    name: "body_limit.no_length",
    blame: Blame::Client,
    status: 411,
    title: "Length required",
    explanation:
        "The request body does not state its length, and `require_length` of `body_limit` is set.",
    next_step: "Send `Content-Length`, or set `require_length: false`.",
};

/// A response above its size.
pub static RESPONSE: Cause = Cause {
    name: "body_limit.response",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response is larger than `max_response` of `body_limit`; it was refused, or cut where its length was not stated.",
    next_step: "Ask the service for less, by pages or ranges, or raise the limit.",
};

/// Settings of `body_limit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The largest request body that is let through, such as `10MiB`; `0B` refuses every body. A body that states
    /// its length is refused before anything reaches the service; one that does not is cut once it grows past the
    /// limit, when the service has already seen its beginning. Default: no limit but those of `types`.
    #[serde(default)]
    pub max: Option<Size>,
    /// Limits by media type, in place of `max`: of these, the first whose type fits. Clients say what they like; a
    /// larger limit for a type is one for everybody. Default: none.
    #[serde(default)]
    pub types: Vec<TypeLimit>,
    /// Refuses request bodies that do not state their length, with 411. Clients over HTTP/2 need not state it.
    /// Default: `false`.
    #[serde(default)]
    pub require_length: bool,
    /// The largest response that is let through, with the same two ways of ending. Default: no limit.
    #[serde(default)]
    pub max_response: Option<Size>,
}

/// The limit of a media type.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypeLimit {
    /// A media type with at most one `*`, such as `image/*`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The largest request body of this type.
    pub max: Size,
}

impl Plugin for Config {
    const KIND: &'static str = "body_limit";
    const ABOUT: &'static str = "refuse bodies above a size";
    const EXAMPLE: &'static str =
        "max: 1MiB\ntypes: [{type: image/*, max: 20MiB}]\nmax_response: 100MiB";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&NO_LENGTH, &RESPONSE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let limit = Arc::new(Limit::of(&self, build)?);
        let mut hooks = Hooks::new();
        if self.max.is_some() || !self.types.is_empty() || self.require_length {
            let (stated, attempt, streamed) = (limit.clone(), limit.clone(), limit.clone());
            hooks = hooks
                .on_request(move |request| stated.request(request))
                .on_upstream_request(move |request| {
                    attempt.begin(request.slots);
                    Verdict::Continue
                })
                .on_request_body(move |slots, piece, _| streamed.request_piece(slots, piece));
        }
        if let Some(max) = self.max_response {
            let streamed = limit.clone();
            hooks = hooks
                .on_response(move |response| limit.response(response, max.0))
                .on_response_body(move |slots, piece, _| streamed.response_piece(slots, piece));
        }
        Ok(hooks)
    }
}

/// How much of a body has come, and how much may.
#[derive(Debug, Clone, Copy)]
struct Count {
    seen: u64,
    max: u64,
    /// Whether it is traffic, which is counted.
    is_live: bool,
}

impl Count {
    fn up_to(max: u64, effects: Effects) -> Count {
        Count {
            seen: 0,
            max,
            is_live: effects.is_live(),
        }
    }

    /// Whether a further piece still fits.
    fn takes(&mut self, piece: Option<&Bytes>) -> bool {
        self.seen += piece.map_or(0, |piece| piece.len() as u64);
        self.seen <= self.max
    }
}

struct Limit {
    max: Option<u64>,
    types: Vec<(Kind, u64)>,
    requires_length: bool,
    request: Slot<Count>,
    response: Slot<Count>,
    refused: Counter,
    refused_responses: Counter,
}

impl Limit {
    fn of(config: &Config, build: &Build<'_>) -> Result<Limit, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut types = Vec::new();
        for (index, limit) in config.types.iter().enumerate() {
            match Kind::of(&limit.kind) {
                Some(kind) => types.push((kind, limit.max.0)),
                None => problems.push(
                    Problem::at(
                        format!("types[{index}].type"),
                        format!("\"{}\" is not a media type", limit.kind),
                    )
                    .help(media::HELP),
                ),
            }
        }
        let is_idle = config.max.is_none()
            && config.types.is_empty()
            && !config.require_length
            && config.max_response.is_none();
        if is_idle {
            problems.push(
                Problem::at("", "limits nothing")
                    .help("give `max`, `types`, `require_length` or `max_response`"),
            );
        }
        match problems.is_empty() {
            true => Ok(Limit {
                max: config.max.map(|max| max.0),
                types,
                requires_length: config.require_length,
                request: build.slot(),
                response: build.slot(),
                refused: build.counter("refused"),
                refused_responses: build.counter("refused_responses"),
            }),
            false => Err(problems),
        }
    }

    fn request(&self, request: &mut Request<'_>) -> Verdict {
        let headers = &request.head.headers;
        // Ambiguous lengths never get here: the proxy refuses them before plugins run.
        let stated = length(headers);
        let max = self.max_of(headers);
        let cause = match (stated, max) {
            (Some(length), Some(max)) if length > max => &causes::BODY_TOO_LARGE,
            (None, _) if self.requires_length && headers.contains_key(TRANSFER_ENCODING) => {
                &NO_LENGTH
            }
            (_, Some(max)) => {
                let count = Count::up_to(max, request.effects);
                request.slots.put(self.request, count);
                return Verdict::Continue;
            }
            (_, None) => return Verdict::Continue,
        };
        if request.effects.is_live() {
            (self.refused)(1);
        }
        Answer::of(cause).into()
    }

    fn max_of(&self, headers: &HeaderMap) -> Option<u64> {
        if self.types.is_empty() {
            return self.max;
        }
        let kind = media::of(headers).unwrap_or_default();
        let found = self.types.iter().find(|(pattern, _)| pattern.is(&kind));
        found.map(|(_, max)| *max).or(self.max)
    }

    /// A further attempt sends the body from its beginning.
    fn begin(&self, slots: &mut Slots) {
        if let Some(count) = slots.value_mut(self.request) {
            count.seen = 0;
        }
    }

    fn request_piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>) -> Verdict {
        let Some(count) = slots.value_mut(self.request) else {
            return Verdict::Continue;
        };
        if count.takes(piece.as_ref()) {
            return Verdict::Continue;
        }
        if count.is_live {
            (self.refused)(1);
        }
        *piece = None;
        Answer::of(&causes::BODY_TOO_LARGE).into()
    }

    fn response(&self, response: &mut Response<'_>, max: u64) -> Verdict {
        let has_body = response.request.method != Method::HEAD
            && response.head.status != StatusCode::NOT_MODIFIED
            && response.head.status != StatusCode::SWITCHING_PROTOCOLS;
        if !has_body || response.cause.is_some() {
            return Verdict::Continue;
        }
        if length(&response.head.headers).is_some_and(|length| length > max) {
            if response.effects.is_live() {
                (self.refused_responses)(1);
            }
            return Answer::of(&RESPONSE).into();
        }
        let count = Count::up_to(max, response.effects);
        response.slots.put(self.response, count);
        Verdict::Continue
    }

    fn response_piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>) -> Verdict {
        let Some(count) = slots.value_mut(self.response) else {
            return Verdict::Continue;
        };
        if count.takes(piece.as_ref()) {
            return Verdict::Continue;
        }
        if count.is_live {
            (self.refused_responses)(1);
        }
        *piece = None;
        Answer::of(&RESPONSE).into()
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    let field = headers.get(CONTENT_LENGTH)?;
    field.to_str().ok()?.trim().parse().ok()
}
