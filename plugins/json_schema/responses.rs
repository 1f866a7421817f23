//! The check of responses.
//! It must not answer: the head of a response has been sent when its body is there, so all it can do is count or cut.
//! Attached by the plugin where its settings ask for it.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::settings::OfResponses;
use super::{is_of, RESPONSE};
use crate::codec::whole::plain;
use crate::contract::{Answer, Build, Counter, Hooks, Response, Slot, Slots, Verdict};
use crate::json::bounded;
use crate::media::Kind;
use crate::schema::held::{Held, Whole};
use crate::schema::{Said, Schema};

/// Attaches what looks at responses.
pub(super) fn attach(
    hooks: Hooks,
    schema: Schema,
    settings: &OfResponses,
    types: Vec<Kind>,
    build: &Build<'_>,
) -> Hooks {
    let (most, on_mismatch) = (settings.max.0, settings.on_mismatch);
    let watch = Arc::new(Watch {
        schema,
        types,
        most,
        slot: build.slot(),
        mismatch: build.counter("response_mismatch"),
        unchecked: build.counter("response_unchecked"),
    });
    let (pieces, trailers) = (watch.clone(), watch.clone());
    hooks
        .on_response(move |response| {
            if watch.looks_at(response) {
                let held = Held::new(usize::try_from(most).unwrap_or(usize::MAX), on_mismatch);
                let body = Body {
                    held,
                    headers: response.head.headers.clone(),
                };
                response.slots.put(watch.slot, body);
            }
            Verdict::Continue
        })
        .on_response_body(move |slots, piece, last| pieces.piece(slots, piece, last))
        .on_response_trailers(move |slots, _, piece| {
            // Nothing can be cut any more: what does not fit is left out.
            let mut rest = None;
            if let Verdict::Continue = trailers.piece(slots, &mut rest, true) {
                if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
                    *piece = Some(rest);
                }
            }
        })
}

struct Body {
    held: Held,
    headers: http::HeaderMap,
}

struct Watch {
    schema: Schema,
    types: Vec<Kind>,
    most: u64,
    slot: Slot<Body>,
    mismatch: Counter,
    unchecked: Counter,
}

impl Watch {
    fn looks_at(&self, response: &Response<'_>) -> bool {
        response.cause.is_none()
            && response.effects.is_live()
            && response.head.status.is_success()
            && !matches!(response.head.status.as_u16(), 204..=206)
            && response.request.method != Method::HEAD
            && is_of(&self.types, &response.head.headers)
    }

    fn piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        let Some(body) = slots.value_mut(self.slot) else {
            return Verdict::Continue;
        };
        body.held.take(piece);
        if !last {
            return Verdict::Continue;
        }
        let all = match body.held.end() {
            Whole::All(all) => all,
            Whole::TooLarge => {
                (self.unchecked)(1);
                return Verdict::Continue;
            }
        };
        if self.fits(&body.headers, &all) {
            body.held.release(piece, all);
            return Verdict::Continue;
        }
        (self.mismatch)(1);
        match body.held.cuts() {
            true => {
                *piece = None;
                Answer::of(&RESPONSE).into()
            }
            false => Verdict::Continue,
        }
    }

    fn fits(&self, headers: &http::HeaderMap, body: &Bytes) -> bool {
        let Ok(body) = plain(headers, body, self.most) else {
            return false;
        };
        let value = bounded(&body, 127);
        value.is_ok_and(|value| self.schema.check(&value, body.len(), 0) == Said::Fits)
    }
}
