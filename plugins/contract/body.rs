//! The whole body of a request, for hooks that ask to see it before they decide.
//! It must not know how it was read; the proxy reads it once for all hooks that ask, within their bounds.
//! Given to request hooks in [`Request::body`](super::Request); what a hook puts in its place is what goes upstream.

use bytes::Bytes;

use super::Cause;

/// A whole body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WholeBody {
    bytes: Bytes,
    is_changed: bool,
}

impl WholeBody {
    /// A body as it came.
    pub fn new(bytes: Bytes) -> WholeBody {
        WholeBody {
            bytes,
            is_changed: false,
        }
    }

    /// What it holds; still encoded where the request says so in `Content-Encoding`.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Puts another body in its place. The proxy writes its length; `Content-Type` and `Content-Encoding` are the hook's to keep true.
    pub fn replace(&mut self, bytes: impl Into<Bytes>) {
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
    /// The cause of requests whose body is larger: a 413 of the plugin's own.
    pub too_large: &'static Cause,
}
