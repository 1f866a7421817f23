//! The check of responses: their status, media type and JSON.
//! It must not answer once a head was sent: then it can count or cut.
//! Attached by the plugin where its settings ask for it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use super::content::{Content, Looks};
use super::operation::Operation;
use super::RESPONSE;
use crate::codec::whole::plain;
use crate::contract::{Answer, Build, Counter, Hooks, Response, Slot, Slots, Verdict};
use crate::json::bounded;
use crate::media;
use crate::schema::held::{Held, OnMismatch, Whole};
use crate::schema::Said;

/// Attaches what looks at responses.
pub(super) fn attach(
    hooks: Hooks,
    found: Slot<Arc<Operation>>,
    on_mismatch: OnMismatch,
    most: u64,
    build: &Build<'_>,
) -> Hooks {
    let watch = Arc::new(Watch {
        found,
        body: build.slot(),
        on_mismatch,
        most,
        mismatch: build.counter("response_mismatch"),
        unchecked: build.counter("response_unchecked"),
    });
    let (pieces, trailers) = (watch.clone(), watch.clone());
    hooks
        .on_response(move |response| watch.head(response))
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

struct Watch {
    found: Slot<Arc<Operation>>,
    body: Slot<Body>,
    on_mismatch: OnMismatch,
    most: u64,
    mismatch: Counter,
    unchecked: Counter,
}

/// A body that is looked at.
struct Body {
    held: Held,
    headers: HeaderMap,
    status: u16,
    kind: String,
}

impl Watch {
    fn head(&self, response: &mut Response<'_>) -> Verdict {
        if response.cause.is_some() || !response.effects.is_live() {
            return Verdict::Continue;
        }
        let Some(operation) = response.slots.value(self.found).cloned() else {
            return Verdict::Continue;
        };
        let status = response.head.status.as_u16();
        let has_body =
            response.request.method != Method::HEAD && !matches!(status, 204 | 205 | 304);
        let kind = media::of(&response.head.headers);
        let kind = kind.filter(|_| has_body);
        let declared = operation
            .responses
            .as_ref()
            .and_then(|all| all.of_status(status));
        let is_declared = match (declared, &kind) {
            (None, _) => false,
            (Some(_), None) | (Some(None), Some(_)) => true,
            (Some(Some(content)), Some(kind)) => content.media(kind).is_some(),
        };
        if !is_declared {
            (self.mismatch)(1);
            return match self.on_mismatch {
                OnMismatch::Report => Verdict::Continue,
                OnMismatch::Cut => Answer::of(&RESPONSE).into(),
            };
        }
        let is_json = |content: &Content, kind: &str| matches!(content.media(kind), Some(media) if matches!(media.looks, Looks::Json(Some(_))));
        if let (Some(Some(content)), Some(kind)) = (declared, kind) {
            if is_json(content, &kind) && status != 206 {
                let most = usize::try_from(self.most).unwrap_or(usize::MAX);
                let mut headers = response.head.headers.clone();
                headers.remove(CONTENT_TYPE);
                let body = Body {
                    held: Held::new(most, self.on_mismatch),
                    headers,
                    status,
                    kind,
                };
                response.slots.put(self.body, body);
            }
        }
        Verdict::Continue
    }

    fn piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        let operation = slots.value(self.found).cloned();
        let (Some(operation), Some(body)) = (operation, slots.value_mut(self.body)) else {
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
        if self.fits(&operation, body, &all) {
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

    fn fits(&self, operation: &Operation, body: &Body, all: &Bytes) -> bool {
        let declared = operation.responses.as_ref();
        let content = declared
            .and_then(|declared| declared.of_status(body.status))
            .flatten();
        let media = content.and_then(|content| content.media(&body.kind));
        let Some(Looks::Json(Some(schema))) = media.map(|media| &media.looks) else {
            return true;
        };
        let Ok(plain) = plain(&body.headers, all, self.most) else {
            return false;
        };
        let value = bounded(&plain, 127);
        value.is_ok_and(|value| schema.check(&value, plain.len(), 0) == Said::Fits)
    }
}
