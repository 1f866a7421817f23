//! Where the whole body of a request comes from, for hooks that ask to see it.
//! It must not know how it is read: the proxy reads it from the client, a dry run is told it.
//! Asked by the chain when it is such a hook's turn.

use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;

use windrose_plugins::contract::{causes, Cause, Hooks, Request, Unknown, WholeBody};

/// Where the whole body of a request comes from, for hooks that want it.
pub trait BodySource: Send {
    /// The body, read whole if that is not done yet and it may be this large.
    fn whole(&mut self, most: u64) -> BodyFuture<'_>;

    /// The same, but of a larger one its first bytes, cut there.
    fn begin(&mut self, most: u64) -> BodyFuture<'_>;

    /// Takes what a hook has put in its place.
    fn replace(&mut self, body: Box<WholeBody>);
}

/// The future of a whole body.
pub type BodyFuture<'a> = Pin<Box<dyn Future<Output = Result<Box<WholeBody>, Unread>> + Send + 'a>>;

/// Why there is no whole body.
#[derive(Debug)]
pub enum Unread {
    /// It is larger than it may be.
    TooLarge,
    /// The request cannot go on because of this, whatever the hook would have said.
    Over(&'static Cause),
    /// Only in a dry run: nobody told what it is.
    Unknown(Unknown),
}

/// Whether a hook wants to see this request's body. A question that panics has not been answered with no.
pub(super) fn is_wanted(hooks: &Hooks, request: &Request<'_>) -> bool {
    let Some(wanted) = &hooks.body_wanted else {
        return true;
    };
    catch_unwind(AssertUnwindSafe(|| wanted(request))).unwrap_or(true)
}

/// The source for chains in which nobody wants a body.
pub struct NoBody;

impl BodySource for NoBody {
    fn whole(&mut self, _: u64) -> BodyFuture<'_> {
        Box::pin(std::future::ready(Err(Unread::Over(&causes::INTERNAL))))
    }

    fn begin(&mut self, most: u64) -> BodyFuture<'_> {
        self.whole(most)
    }

    fn replace(&mut self, _: Box<WholeBody>) {}
}
