//! Faults that are injected on purpose, carried out: the wait, and the answer after it.
//! It must not decide on them; `decide` did.
//! Called on the way from a header to a pool, before an endpoint is chosen.

use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{causes, Answer};

use super::request::{refuse, Ctx};
use super::upstream::leaves;
use crate::decide::Injected;
use crate::observe::clock;

/// Waits, and answers if that is what was decided.
pub(super) async fn carry_out(
    session: &mut Session,
    ctx: &Ctx,
    injected: Box<Injected>,
) -> Result<(), Box<Answer>> {
    if let Some(delay) = injected.delay {
        wait(session, ctx, delay).await?;
    }
    injected.abort.map_or(Ok(()), Err)
}

/// Waits until the delay or the request's own time is over, or the client leaves.
async fn wait(session: &mut Session, ctx: &Ctx, delay: Duration) -> Result<(), Box<Answer>> {
    let left = ctx.due.as_ref().map(|due| due.left(clock::now()));
    let (time, cause) = match left {
        Some(left) if left < delay => (left, Some(&causes::DEADLINE_EXCEEDED)),
        Some(_) | None => (delay, None),
    };
    tokio::select! {
        () = tokio::time::sleep(time) => cause.map_or(Ok(()), |cause| Err(refuse(cause))),
        () = leaves(session) => Err(refuse(&causes::CLIENT_CLOSED)),
    }
}

/// Ends a request whose client left: nobody is there to answer.
pub(super) fn left<T>(ctx: &mut Ctx) -> Result<T> {
    ctx.cause = Some(&causes::CLIENT_CLOSED);
    Err(Error::explain(ErrorType::ConnectionClosed, causes::CLIENT_CLOSED.name).into_down())
}
