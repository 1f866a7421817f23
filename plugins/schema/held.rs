//! Bodies of responses that are looked at whole: held back until their end, or copied while they go on.
//! It must not know what is looked for.
//! Used by plugins that validate responses; what the client gets of a body that is cut is a head and nothing more.

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Deserialize;

/// What becomes of a response that does not fit. Its head goes on before the body is there, so that the client has as a rule seen it
/// by then; only a response that comes in one piece can be answered with another status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMismatch {
    /// It goes on as it comes, and is counted.
    #[default]
    Report,
    /// Its body is held back until it was looked at, and the response is cut where it does not fit: the client has a head and no body,
    /// which it takes for a broken connection.
    Cut,
}

/// The body of one response.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: BytesMut,
    most: usize,
    on_mismatch: OnMismatch,
    is_too_large: bool,
}

/// What there is of a body at its end.
pub(crate) enum Whole {
    /// All of it.
    All(Bytes),
    /// It is larger than may be looked at, and has gone on.
    TooLarge,
}

impl Held {
    /// A body that begins, of which at most this much is looked at.
    pub(crate) fn new(most: usize, on_mismatch: OnMismatch) -> Held {
        Held {
            bytes: BytesMut::new(),
            most,
            on_mismatch,
            is_too_large: false,
        }
    }

    /// Takes a piece. Where the body is held back, an empty one goes on in its place; a body that becomes too large for that goes on
    /// with what was held.
    pub(crate) fn take(&mut self, piece: &mut Option<Bytes>) {
        let Some(taken) = piece.as_ref().filter(|_| !self.is_too_large) else {
            return;
        };
        self.bytes.extend_from_slice(taken);
        let is_held = self.on_mismatch == OnMismatch::Cut;
        if self.bytes.len() > self.most {
            self.is_too_large = true;
            let all = std::mem::take(&mut self.bytes).freeze();
            if is_held {
                *piece = Some(all);
            }
        } else if is_held {
            *piece = Some(Bytes::new());
        }
    }

    /// The body's end.
    pub(crate) fn end(&mut self) -> Whole {
        match self.is_too_large {
            true => Whole::TooLarge,
            false => Whole::All(std::mem::take(&mut self.bytes).freeze()),
        }
    }

    /// Lets go what was held back.
    pub(crate) fn release(&self, piece: &mut Option<Bytes>, body: Bytes) {
        if self.on_mismatch == OnMismatch::Cut && !self.is_too_large {
            *piece = Some(body);
        }
    }

    /// Whether what does not fit is cut.
    pub(crate) fn cuts(&self) -> bool {
        self.on_mismatch == OnMismatch::Cut
    }
}
