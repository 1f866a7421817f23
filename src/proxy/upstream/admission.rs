//! A request's place in a pool with limits: taken at once if there is one, else waited for in line.
//! It must not know how places are counted or whose turn it is; `snapshot::limits` does.
//! Called when a request is about to go upstream, and again when a retry finds every endpoint full.

use std::future::Future;
use std::time::Duration;

use pingora::proxy::Session;
use tokio::time::{sleep_until, Instant};
use windrose_plugins::contract::{causes, Cause};

use super::choice::{choose, Chosen, Outcome};
use crate::observe::clock;
use crate::proxy::guard::Guarded;
use crate::proxy::request::Ctx;
use crate::snapshot::limits::{Choosiness, Lack, Limited, Permit, Priority, Retrying};
use crate::snapshot::pool::Pool;
use crate::snapshot::Snapshot;

/// What a request holds of its pool; every part is given back when this is dropped.
#[derive(Default)]
pub(in crate::proxy) struct Held {
    permit: Option<Permit>,
    retrying: Option<Retrying>,
    /// The endpoint of the first attempt, chosen together with the place.
    pub(in crate::proxy) first: Option<Chosen>,
}

/// Takes a place in the request's pool, waiting for it if the pool lets it wait.
///
/// # Errors
/// Why there is none.
pub(in crate::proxy) async fn enter(
    session: &mut Session,
    ctx: &mut Ctx,
) -> Result<(), &'static Cause> {
    let unborn = ctx.pool.as_ref().filter(|pool| pool.is_unborn());
    if let Some(pool) = unborn.cloned() {
        // Rare, and a timer is large.
        Box::pin(born(session, ctx, &pool)).await?;
    }
    let limited = ctx.pool.as_ref().filter(|pool| pool.limits.is_some());
    // Looked at before it is cloned: most pools have none.
    let Some(pool) = limited.cloned() else {
        return Ok(());
    };
    let Some(limited) = &pool.limits else {
        return Ok(());
    };
    let mut held = Box::<Held>::default();
    if let Some(permit) = limited.state.try_enter() {
        held.permit = Some(permit);
        if holds_endpoint(session, ctx, &pool, &mut held) {
            ctx.held = Some(held);
            return Ok(());
        }
        // Whoever waits for an endpoint is not under way.
        held.permit = None;
    }
    // Rare, and holds timers.
    Box::pin(wait(session, ctx, &pool, limited, &mut held)).await?;
    ctx.held = Some(held);
    Ok(())
}

/// Waits for the first endpoints of a pool. That there are none afterwards is said where one is chosen.
async fn born(session: &mut Session, ctx: &Ctx, pool: &Pool) -> Result<(), &'static Cause> {
    let hold = hold(&ctx.snapshot);
    let (patience, _) = patience(ctx, hold);
    tokio::select! {
        biased;
        _ = tokio::time::timeout(patience, pool.born(hold)) => {}
        () = leaves(session) => return Err(&causes::CLIENT_CLOSED),
    }
    match ctx.is_late(clock::now()) {
        true => Err(&causes::DEADLINE_EXCEEDED),
        false => Ok(()),
    }
}

/// How long the first requests and connections of a pool wait for endpoints: nodes of a mesh hold those of workloads at birth.
fn hold(snapshot: &Snapshot) -> Duration {
    let identity = snapshot.identity.as_ref();
    identity.map_or(Duration::ZERO, |identity| identity.hold)
}

/// An endpoint for a retry, waiting for one if the pool lets it wait; the request keeps its place in the pool.
///
/// # Errors
/// Why there is none.
pub(super) async fn endpoint(
    session: &mut Session,
    ctx: &mut Ctx,
    pool: &Pool,
) -> Result<Chosen, &'static Cause> {
    let Some(limited) = &pool.limits else {
        return Err(&causes::INTERNAL);
    };
    let mut held = ctx.held.take().unwrap_or_default();
    let waited = wait(session, ctx, pool, limited, &mut held).await;
    let chosen = held.first.take();
    ctx.held = Some(held);
    waited?;
    chosen.ok_or(&causes::NO_HEALTHY_ENDPOINT)
}

/// Lets a retry begin. `false` if too many are under way in the pool.
pub(in crate::proxy) fn may_retry(ctx: &mut Ctx, pool: &Pool) -> bool {
    let (Some(limited), Some(held)) = (&pool.limits, &mut ctx.held) else {
        return true;
    };
    if held.retrying.is_none() {
        held.retrying = limited.state.try_retry();
    }
    if held.retrying.is_none() {
        limited.state.metrics.retry_rejected();
    }
    held.retrying.is_some()
}

/// Whether an endpoint has room. Where there is none that could, the attempt itself finds out and says why.
fn holds_endpoint(session: &Session, ctx: &mut Ctx, pool: &Pool, held: &mut Held) -> bool {
    match choose(session, ctx, pool, clock::now()) {
        Outcome::Chosen(chosen) => {
            held.first = Some(chosen);
            true
        }
        Outcome::Nobody(_) => true,
        Outcome::Full => false,
    }
}

async fn wait(
    session: &mut Session,
    ctx: &mut Ctx,
    pool: &Pool,
    limited: &Limited,
    held: &mut Held,
) -> Result<(), &'static Cause> {
    let began = clock::now();
    let waited = in_line(session, ctx, pool, limited, held).await;
    let metrics = &limited.state.metrics;
    if let Err(cause) = waited {
        metrics.rejected(cause);
    }
    if waited != Err(&causes::POOL_OVERLOADED) {
        let seconds = clock::between(began, clock::now()).as_secs_f64();
        metrics.waited(seconds);
    }
    waited
}

async fn in_line(
    session: &mut Session,
    ctx: &mut Ctx,
    pool: &Pool,
    limited: &Limited,
    held: &mut Held,
) -> Result<(), &'static Cause> {
    let choice = choosiness(pool, &ctx.attempt.tried);
    let limiter = &limited.state;
    let Some(waiting) = limiter.wait(ctx.priority, choice) else {
        return Err(&causes::POOL_OVERLOADED);
    };
    let (patience, late) = patience(ctx, limiter.queue_timeout());
    let late_at = sleep_until(Instant::now() + patience);
    tokio::pin!(late_at);
    loop {
        let called = tokio::select! {
            biased;
            called = waiting.called() => called,
            () = leaves(session) => return Err(&causes::CLIENT_CLOSED),
            () = &mut late_at => return Err(late),
        };
        if !called {
            return Err(&causes::POOL_OVERLOADED);
        }
        let keeps = held.permit.is_some();
        if !keeps {
            held.permit = waiting.try_enter();
        }
        if held.permit.is_some() && holds_endpoint(session, ctx, pool, held) {
            return Ok(());
        }
        let lack = lack(&held.permit);
        if !keeps {
            give_back(held.permit.take());
        }
        waiting.in_vain(lack);
    }
}

/// Waits for the first endpoints of a pool, for a connection passed through as bytes. `left` ends when its client gives up.
///
/// # Errors
/// That the client did.
pub(in crate::proxy) async fn first_endpoints(
    pool: &Pool,
    snapshot: &Snapshot,
    left: impl Future<Output = ()>,
) -> Result<(), &'static Cause> {
    if !pool.is_unborn() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = Box::pin(pool.born(hold(snapshot))) => Ok(()),
        () = left => Err(&causes::CLIENT_CLOSED),
    }
}

/// As [`enter`], for a connection passed through as bytes. `left` ends when its client gives up.
///
/// # Errors
/// Why there is none.
pub(in crate::proxy) async fn enter_connection(
    pool: &Pool,
    priority: Priority,
    left: impl Future<Output = ()>,
    mut choose: impl FnMut() -> Outcome,
) -> Result<Held, &'static Cause> {
    let mut held = Held::default();
    let Some(limited) = &pool.limits else {
        return Ok(held);
    };
    let limiter = &limited.state;
    let mut enters = |held: &mut Held, permit: Option<Permit>| {
        let Some(permit) = permit else {
            return Err(None);
        };
        held.first = match choose() {
            Outcome::Chosen(chosen) => Some(chosen),
            Outcome::Nobody(_) => None,
            Outcome::Full => return Err(Some(permit)),
        };
        held.permit = Some(permit);
        Ok(())
    };
    if enters(&mut held, limiter.try_enter()).is_ok() {
        return Ok(held);
    }
    let Some(waiting) = limiter.wait(priority, choosiness(pool, &[])) else {
        limiter.metrics.rejected(&causes::POOL_OVERLOADED);
        return Err(&causes::POOL_OVERLOADED);
    };
    let began = clock::now();
    let in_line = async {
        while waiting.called().await {
            let Err(permit) = enters(&mut held, waiting.try_enter()) else {
                return Ok(());
            };
            let lack = lack(&permit);
            give_back(permit);
            waiting.in_vain(lack);
        }
        Err(&causes::POOL_OVERLOADED)
    };
    let waited = tokio::select! {
        biased;
        waited = in_line => waited,
        () = left => Err(&causes::CLIENT_CLOSED),
        () = tokio::time::sleep(limiter.queue_timeout()) => Err(&causes::QUEUE_TIMEOUT),
    };
    let seconds = clock::between(began, clock::now()).as_secs_f64();
    limiter.metrics.waited(seconds);
    if let Err(cause) = waited {
        limiter.metrics.rejected(cause);
    }
    waited.map(|()| held)
}

/// Whether an endpoint that others may use may be none for this request.
fn choosiness(pool: &Pool, tried: &[u16]) -> Choosiness {
    match tried.is_empty() && pool.subset.is_none() {
        true => Choosiness::Any,
        false => Choosiness::Particular,
    }
}

/// What one did not find who went away with this.
fn lack(permit: &Option<Permit>) -> Lack {
    match permit {
        Some(_) => Lack::Endpoint,
        None => Lack::Place,
    }
}

fn give_back(permit: Option<Permit>) {
    if let Some(permit) = permit {
        permit.unused();
    }
}

/// How long a request may wait, and what it is when it has waited that long.
fn patience(ctx: &Ctx, queue: Duration) -> (Duration, &'static Cause) {
    match ctx.due.as_ref().map(|due| due.left(clock::now())) {
        Some(left) if left < queue => (left, &causes::DEADLINE_EXCEEDED),
        _ => (queue, &causes::QUEUE_TIMEOUT),
    }
}

/// Waits until the client gives up: its stream is reset, or its connection closed.
pub(in crate::proxy) async fn leaves(session: &mut Session) {
    let session = session.as_downstream_mut();
    if let Some(closed) = session.watch_h2_stream_close() {
        let _ = closed.await;
        return;
    }
    let stream = session.stream();
    match stream.and_then(|stream| stream.as_any().downcast_ref::<Guarded>()) {
        Some(stream) => stream.left().await,
        None => std::future::pending().await,
    }
}
