//! Responses that are held back: head and body, until a plugin has seen enough of them to change both, or to answer otherwise.
//! It must not know how they are held; the proxy does that once for all plugins that ask, within their bounds and those of the process.
//! Attached with [`Hooks::on_held_response`](super::Hooks::on_held_response).

use http::HeaderMap;

use super::{Cause, Response, Verdict, WholeBody};

/// What a plugin wants of a response whose head it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It goes on as it comes.
    Nothing,
    /// Nothing of it goes on before it is whole, or larger than this.
    Within {
        /// The most bytes.
        most: u64,
        /// What becomes of a larger one.
        larger: Larger,
    },
}

/// What becomes of a response that is larger than may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Larger {
    /// It goes on as it is; the plugin does not hear of it again.
    Pass,
    /// It is refused with this cause: nothing of it was sent, so the client gets a whole answer.
    Refuse(&'static Cause),
    /// The plugin gets what there is by then, and sees the rest in its hooks on pieces and trailers. With `most: 0` a response waits
    /// for its first piece, or for its end.
    Begin,
}

/// What was held back of a response besides its head.
#[derive(Debug, Default)]
pub struct Held {
    /// The body, or its begin. The proxy writes the length of a whole one that was changed; fields that say something about its
    /// bytes (`ETag`, digests, `Content-Encoding`) are the hook's to keep true.
    pub body: WholeBody,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// What came after it; empty for most. What is left here goes on after the body.
    pub trailers: HeaderMap,
}

/// Called with the head of a response from upstream that may have a body, in the plugin's turn, after its hook on the head. It is not
/// called for answers of the proxy, for responses to `HEAD`, and for 1xx, 204 and 304.
pub type HoldHook = Box<dyn Fn(&mut Response<'_>) -> Hold + Send + Sync>;

/// Called with a response that was held. Plugins nearer to the client see its head after that, with what is changed here.
pub type HeldHook = Box<dyn for<'a> Fn(&mut Response<'a>, &mut Held) -> Verdict + Send + Sync>;

/// Both hooks of a plugin that holds responses.
pub struct HeldResponse {
    /// Whether it holds one.
    pub wish: HoldHook,
    /// What it does then.
    pub hook: HeldHook,
}
