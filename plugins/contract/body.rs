//! The whole body of a message, for hooks that ask to see it before they decide.
//! It must not know how it was read; the proxy reads it once for all hooks that ask, within their bounds.
//! Given to request hooks in [`Request::body`](super::Request) and to those on responses in [`Held`](super::Held); what a hook puts in
//! its place is what goes on.

use bytes::Bytes;

use super::Cause;

/// A whole body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WholeBody {
    bytes: Bytes,
    is_changed: bool,
    is_cut: bool,
}

impl WholeBody {
    /// A body as it came.
    pub fn new(bytes: Bytes) -> WholeBody {
        WholeBody {
            bytes,
            is_changed: false,
            is_cut: false,
        }
    }

    /// The begin of a body that is larger than the hook wants to see.
    pub fn cut(bytes: Bytes) -> WholeBody {
        WholeBody {
            is_cut: true,
            ..WholeBody::new(bytes)
        }
    }

    /// What it holds; still encoded where the message says so in `Content-Encoding`.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether there is more of it, which goes on unseen.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Puts another body in its place, which of one that is cut nobody can. The proxy writes its length; `Content-Type` and `Content-Encoding` are the hook's to keep true.
    pub fn replace(&mut self, bytes: impl Into<Bytes>) {
        debug_assert!(
            !self.is_cut,
            "a body of which only a part is known is not replaced"
        );
        if self.is_cut {
            return;
        }
        self.bytes = bytes.into();
        self.is_changed = true;
    }

    /// Whether a hook has put another body in its place.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }
}

/// That a request hook sees the whole body, and how large that may be.
#[derive(Debug, Clone, Copy)]
pub struct BodyWish {
    /// The most bytes.
    pub most: u64,
    /// What becomes of a larger one.
    pub larger: TooLarge,
}

/// What becomes of a body that is larger than a hook wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLarge {
    /// The request is refused with this cause: a 413 of the plugin's own.
    Refused(&'static Cause),
    /// The hook sees its begin.
    Cut,
}
