//! Responses that are looked at whole: copied while they go on and counted, or held back until they were found right.
//! It must not know what is looked for; that is a [`Judge`]'s.
//! Attached by plugins that validate responses.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Build, Cause, Counter, Effects, Held, Hold, Hooks, Larger, Response, Slot, Slots,
    Verdict,
};

/// What becomes of a response that does not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMismatch {
    /// It goes on as it comes, and is counted. At most 64 MiB of responses are copied for this at a time; others go on, counted as
    /// `response_unchecked`.
    #[default]
    Report,
    /// It is held back until it was looked at, and refused where it does not fit. It counts for `limits.held_bodies`, and goes past
    /// caches.
    Refuse,
}

/// What a plugin looks for.
pub(crate) trait Judge: Send + Sync + 'static {
    /// What is kept of a response's head until its body is there.
    type Kept: Send + Sync + 'static;

    /// What the head says. Asked about responses of services in live traffic.
    fn head(&self, response: &Response<'_>) -> Head<Self::Kept>;

    /// Whether a body fits, which may still have its coding.
    fn fits(&self, kept: &Self::Kept, headers: &HeaderMap, body: &Bytes) -> bool;
}

/// What the head of a response says.
pub(crate) enum Head<K> {
    /// Nothing more is looked at.
    Passes,
    /// The head alone does not fit.
    Unfit,
    /// The body is looked at.
    Body(K),
}

/// What becomes of responses.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) on_mismatch: OnMismatch,
    /// The most bytes of a body that are looked at; larger ones go on, counted.
    pub(crate) most: u64,
    /// Of those that are refused.
    pub(crate) cause: &'static Cause,
}

/// Attaches what looks at responses.
pub(crate) fn attach<J: Judge>(hooks: Hooks, judge: J, terms: Terms, build: &Build<'_>) -> Hooks {
    let watch = Arc::new(Watch {
        judge,
        terms,
        kept: build.slot(),
        copied: build.slot(),
        copying: Arc::default(),
        mismatch: build.counter("response_mismatch"),
        unchecked: build.counter("response_unchecked"),
    });
    let (heads, ends) = (watch.clone(), watch.clone());
    let hooks = hooks.on_response(move |response| heads.head(response));
    match terms.on_mismatch {
        OnMismatch::Report => hooks
            .on_response_body(move |slots, piece, last| {
                watch.copy(slots, piece.as_ref(), last);
                Verdict::Continue
            })
            .on_response_trailers(move |slots, _, piece| ends.copy(slots, piece.as_ref(), true)),
        OnMismatch::Refuse => hooks.on_held_response(
            move |response| watch.wish(response.slots),
            move |response, held| ends.held(response, held),
        ),
    }
}

struct Watch<J: Judge> {
    judge: J,
    terms: Terms,
    kept: Slot<J::Kept>,
    copied: Slot<Copied>,
    /// Bytes of all copies.
    copying: Arc<AtomicU64>,
    mismatch: Counter,
    unchecked: Counter,
}

/// The body of a response that goes on meanwhile.
struct Copied {
    headers: HeaderMap,
    bytes: BytesMut,
    is_too_large: bool,
    room: Room,
}

/// What a copy takes of the bytes that all of them may take.
struct Room {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// Takes more, unless that would be too much.
    fn take(&mut self, bytes: u64) -> bool {
        let before = self.all.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        before.saturating_add(bytes) <= MOST_COPIED
    }

    fn give_back(&mut self) {
        self.all.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<J: Judge> Watch<J> {
    fn head(&self, response: &mut Response<'_>) -> Verdict {
        if response.cause.is_some() || response.effects != Effects::Live {
            return Verdict::Continue;
        }
        match self.judge.head(response) {
            Head::Passes => Verdict::Continue,
            Head::Unfit => self.unfit(),
            Head::Body(kept) => {
                response.slots.put(self.kept, kept);
                if self.terms.on_mismatch == OnMismatch::Report {
                    let copied = Copied {
                        headers: response.head.headers.clone(),
                        bytes: BytesMut::new(),
                        is_too_large: false,
                        room: Room {
                            all: self.copying.clone(),
                            bytes: 0,
                        },
                    };
                    response.slots.put(self.copied, copied);
                }
                Verdict::Continue
            }
        }
    }

    fn unfit(&self) -> Verdict {
        (self.mismatch)(1);
        match self.terms.on_mismatch {
            OnMismatch::Report => Verdict::Continue,
            OnMismatch::Refuse => Answer::of(self.terms.cause).into(),
        }
    }

    fn copy(&self, slots: &mut Slots, piece: Option<&Bytes>, last: bool) {
        let Some(copied) = slots.value_mut(self.copied) else {
            return;
        };
        if let Some(piece) = piece.filter(|_| !copied.is_too_large) {
            let all = copied.bytes.len().saturating_add(piece.len());
            copied.is_too_large =
                all as u64 > self.terms.most || !copied.room.take(piece.len() as u64);
            match copied.is_too_large {
                true => {
                    copied.bytes = BytesMut::new();
                    copied.room.give_back();
                }
                false => copied.bytes.extend_from_slice(piece),
            }
        }
        if !last {
            return;
        }
        let body = std::mem::take(&mut copied.bytes).freeze();
        copied.room.give_back();
        let headers = std::mem::take(&mut copied.headers);
        if copied.is_too_large {
            (self.unchecked)(1);
        } else if let Some(kept) = slots.value(self.kept) {
            if !self.judge.fits(kept, &headers, &body) {
                (self.mismatch)(1);
            }
        }
    }

    fn wish(&self, slots: &Slots) -> Hold {
        match slots.value(self.kept) {
            None => Hold::Nothing,
            Some(_) => Hold::Within {
                most: self.terms.most,
                larger: Larger::Begin,
            },
        }
    }

    fn held(&self, response: &mut Response<'_>, held: &mut Held) -> Verdict {
        let Some(kept) = response.slots.value(self.kept) else {
            return Verdict::Continue;
        };
        if !held.is_whole {
            (self.unchecked)(1);
            return Verdict::Continue;
        }
        match self
            .judge
            .fits(kept, &response.head.headers, held.body.bytes())
        {
            true => Verdict::Continue,
            false => self.unfit(),
        }
    }
}

/// Whether a response has a body of its own that is all of it, as far as its head says.
pub(crate) fn has_whole_body(response: &Response<'_>) -> bool {
    response.request.method != Method::HEAD
        && !matches!(response.head.status.as_u16(), 204..=206 | 304)
}

/// Bytes that an instance copies at a time, of all responses that it looks at while they go on.
const MOST_COPIED: u64 = 64 << 20;
