//! Faults that are injected on purpose, carried out: the wait, and the answer after it.
//! It must not decide on them; `decide` did.
//! Called on the way from a header to a pool, before an endpoint is chosen.

use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{causes, Answer};

use super::request::{refuse, Ctx};
use crate::decide::Injected;

/// Waits, and answers if that is what was decided.
pub(super) async fn carry_out(
    session: &mut Session,
    injected: Box<Injected>,
) -> Result<(), Box<Answer>> {
    if let Some(delay) = injected.delay {
        wait(session, delay).await?;
    }
    injected.abort.map_or(Ok(()), Err)
}

/// Waits until the time is over or the client leaves. Of HTTP/1 that shows only where the request is whole: what else could
/// be read belongs to the endpoint.
async fn wait(session: &mut Session, delay: Duration) -> Result<(), Box<Answer>> {
    let over = tokio::time::sleep(delay);
    let downstream = session.as_downstream_mut();
    if !downstream.is_http2() && !downstream.is_body_done() {
        over.await;
        return Ok(());
    }
    tokio::select! {
        () = over => Ok(()),
        _ = downstream.read_body_or_idle(true) => Err(refuse(&causes::CLIENT_CLOSED)),
    }
}

/// Ends a request whose client left: nobody is there to answer.
pub(super) fn left<T>(ctx: &mut Ctx) -> Result<T> {
    ctx.cause = Some(&causes::CLIENT_CLOSED);
    Err(Error::explain(ErrorType::ConnectionClosed, causes::CLIENT_CLOSED.name).into_down())
}
