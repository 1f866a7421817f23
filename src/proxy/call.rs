//! Calls of plugins: a turn at the pool's gate, a place within its limits, an exchange, and a second one where that does no harm.
//! It must not know plugins or what they ask.
//! Made by `app` and handed to the compiler, which knows it as `snapshot::call::Exchange` only.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use pingora::http::RequestHeader;
use tokio::time::{timeout_at, Instant};
use windrose_plugins::contract::{Call, CallFailure, CallFuture, Reply};

use super::exchange::{exchange, Answer, Connections, Failed, Failure, Order, Purpose, Repeat};
use crate::observe::clock;
use crate::snapshot::call::Exchange;
use crate::snapshot::gate::{Bounds, Entry, Pass};
use crate::snapshot::limits::{Choosiness, Permit, Priority};
use crate::snapshot::pool::Pool;

/// Carries the calls of plugins.
pub struct Calls {
    connections: Arc<Connections>,
}

impl Calls {
    /// Over these connections.
    pub fn new(connections: Arc<Connections>) -> Calls {
        Calls { connections }
    }
}

impl Exchange for Calls {
    fn exchange(&self, pool: Arc<Pool>, call: Call) -> CallFuture {
        let connections = self.connections.clone();
        Box::pin(async move { carry(&connections, &pool, call).await })
    }
}

async fn carry(connections: &Connections, pool: &Pool, call: Call) -> Result<Reply, CallFailure> {
    let until = Instant::now() + call.timeout;
    let _pass = pass(pool, until).await?;
    let _permit = place(pool, until).await?;
    let head = head(&call)?;
    let order = |tried| Order {
        connections,
        pool,
        purpose: Purpose::Call,
        head: &head,
        body: &call.body,
        hash: None,
        tried,
        keep: call.limit,
        read: call.limit,
        timeout: call.timeout,
        until,
    };
    pool.retry_budget.deposit(clock::now());
    let failed = match exchange(&order(&[])).await {
        Ok(answer) => return reply(answer),
        Err(failed) => failed,
    };
    if !repeats(&failed, &call, pool) {
        return Err(failed.why.into());
    }
    // A kept connection says nothing of its endpoint, one that cannot be made does.
    let tried = failed.at.filter(|_| failed.repeat == Repeat::Always);
    let again = match exchange(&order(tried.as_slice())).await {
        Err(none) if tried.is_some() && matches!(none.why, Failure::NoEndpoint) => {
            return Err(failed.why.into());
        }
        again => again,
    };
    again.map_err(|failed| failed.why.into()).and_then(reply)
}

/// Whether there is a second attempt, for which the pool has a budget.
fn repeats(failed: &Failed, call: &Call, pool: &Pool) -> bool {
    let may = match (&failed.why, failed.repeat) {
        (Failure::Broken(_), Repeat::Always) => true,
        (Failure::Broken(_), Repeat::IfHarmless) => call.is_repeatable,
        (Failure::Broken(_), Repeat::Never) => false,
        (Failure::NoEndpoint | Failure::Forbidden | Failure::Full | Failure::TimedOut, _) => false,
    };
    may && pool.retry_budget.withdraw(clock::now())
}

/// A turn at the gate, waiting for it as long as there is time.
async fn pass(pool: &Pool, until: Instant) -> Result<Pass, CallFailure> {
    match pool.calls.enter(BOUNDS) {
        Entry::Now(pass) => Ok(pass),
        Entry::Later(turn) => match timeout_at(until, turn).await {
            Ok(Ok(pass)) => Ok(pass),
            Ok(Err(_)) | Err(_) => Err(CallFailure::Full),
        },
        Entry::Full => Err(CallFailure::Full),
    }
}

/// A place within the pool's limits, if it has some: a call is one of the requests they count.
async fn place(pool: &Pool, until: Instant) -> Result<Option<Permit>, CallFailure> {
    let Some(limited) = &pool.limits else {
        return Ok(None);
    };
    let limiter = &limited.state;
    if let Some(permit) = limiter.try_enter() {
        return Ok(Some(permit));
    }
    let waiting = limiter.wait(Priority::Normal, Choosiness::Any);
    let waiting = waiting.ok_or(CallFailure::Full)?;
    let until = until.min(Instant::now() + limiter.queue_timeout());
    loop {
        match timeout_at(until, waiting.called()).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(CallFailure::Full),
        }
        if let Some(permit) = waiting.try_enter() {
            return Ok(Some(permit));
        }
        waiting.in_vain(crate::snapshot::limits::Lack::Place);
    }
}

fn head(call: &Call) -> Result<RequestHeader, CallFailure> {
    let broken = |_| CallFailure::Broken("the call cannot be written".to_owned());
    let is_path = call.path.starts_with('/') && call.path.parse::<http::Uri>().is_ok();
    if !is_path {
        return Err(CallFailure::Broken("the call's path is none".to_owned()));
    }
    let head = RequestHeader::build(call.method.clone(), call.path.as_bytes(), None);
    let mut head = head.map_err(broken)?;
    for (name, value) in &call.headers {
        head.append_header(name.clone(), value.clone())
            .map_err(broken)?;
    }
    // Framing is the exchange's own.
    for name in [
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        head.remove_header(&name);
    }
    if head
        .headers
        .get(TE)
        .is_some_and(|value| value != "trailers")
    {
        head.remove_header(&TE);
    }
    Ok(head)
}

fn reply(answer: Answer) -> Result<Reply, CallFailure> {
    match answer.is_cut {
        true => Err(CallFailure::TooLarge),
        false => Ok(Reply {
            status: answer.head.status.as_u16(),
            headers: answer.head.headers.clone(),
            body: answer.body.into(),
            trailers: answer.trailers,
        }),
    }
}

impl From<Failure> for CallFailure {
    fn from(failure: Failure) -> CallFailure {
        match failure {
            Failure::NoEndpoint => CallFailure::NoEndpoint,
            Failure::Forbidden => CallFailure::Forbidden,
            Failure::Full => CallFailure::Full,
            Failure::TimedOut => CallFailure::TimedOut,
            Failure::Broken(why) => CallFailure::Broken(why),
        }
    }
}

/// Calls of all plugins through one pool.
const BOUNDS: Bounds = Bounds {
    inside: 1000,
    waiting: 1000,
};
