//! One copy and its response: a turn at the pool's gate, an exchange, and what the comparison finds.
//! It must not try again; nothing that requests learn of endpoints changes with it.
//! Runs on a task of its own.

use std::time::{Duration, SystemTime};

use tokio::time::{timeout_at, Instant};

use super::{compare, Job, Response};
use crate::observe::metrics::{Compared, MirrorResult};
use crate::observe::mirror::Difference;
use crate::proxy::exchange::{self, Answer, Failure, Order, Purpose};
use crate::snapshot::gate::{Entry, Pass};
use crate::snapshot::route::{Compare, CompareBody, Mirror};

/// Lets a copy go on its way, if the pool's gate is not full.
pub(super) fn dispatch(job: Job) {
    let Some(mirror) = job.mirror() else {
        return;
    };
    let Some(pool) = &mirror.pool else {
        mirror.metrics.finished(MirrorResult::NoEndpoint);
        return;
    };
    let until = Instant::now() + mirror.timeout;
    match pool.gate.enter(mirror.bounds) {
        Entry::Full => mirror.metrics.finished(MirrorResult::QueueFull),
        Entry::Now(pass) => drop(tokio::spawn(run(job, pass, until))),
        Entry::Later(turn) => drop(tokio::spawn(async move {
            match timeout_at(until, turn).await {
                Ok(Ok(pass)) => run(job, pass, until).await,
                Ok(Err(_)) | Err(_) => {
                    if let Some(mirror) = job.mirror() {
                        mirror.metrics.finished(MirrorResult::QueueTimeout);
                    }
                }
            }
        })),
    }
}

async fn run(mut job: Job, pass: Pass, until: Instant) {
    let waiting = job.response.take();
    let Some(mirror) = job.mirror() else {
        return;
    };
    let outcome = exchange(&job, mirror, until).await;
    // Waiting for the request's own response takes no place.
    drop(pass);
    match &outcome {
        Ok(answer) => mirror.metrics.answered(answer.took.as_secs_f64()),
        Err(result) => mirror.metrics.finished(*result),
    }
    let (Some(compare), Some(waiting)) = (&mirror.compare, waiting) else {
        return;
    };
    let Ok(mirrored) = outcome else {
        mirror.metrics.compared(Compared::MirrorFailed);
        return;
    };
    // A stream may go on for long; nobody needs to wait for its end.
    let Ok(Ok(own)) = timeout_at(until.max(Instant::now() + LEAST_WAIT), waiting).await else {
        mirror.metrics.compared(Compared::PrimaryFailed);
        return;
    };
    let endpoint = mirrored.endpoint.to_string();
    report(&job, mirror, compare, &own, &mirrored.into(), endpoint);
}

/// Counts what came of a comparison, and keeps an example of a difference.
fn report(
    job: &Job,
    mirror: &Mirror,
    compare: &Compare,
    own: &Response,
    mirrored: &Response,
    endpoint: String,
) {
    if compare.latency {
        let difference = mirrored.took.as_secs_f64() - own.took.as_secs_f64();
        mirror.metrics.latency(difference);
    }
    let (compared, what) = compare::compare(compare, own, mirrored);
    mirror.metrics.compared(compared);
    if !what.is_empty() {
        mirror.metrics.differences.add(Difference {
            at: SystemTime::now(),
            request_id: job.request_id.clone(),
            method: job.head.method.to_string(),
            path: job.head.uri.path().to_owned(),
            endpoint,
            what,
            took: own.took,
            mirror_took: mirrored.took,
        });
    }
}

async fn exchange(job: &Job, mirror: &Mirror, until: Instant) -> Result<Answer, MirrorResult> {
    let pool = mirror.pool.as_ref().ok_or(MirrorResult::NoEndpoint)?;
    let keep = match &mirror.compare {
        Some(compare) if compare.body != CompareBody::None => compare.body_limit,
        _ => 0,
    };
    let order = Order {
        connections: &job.shared.exchanges,
        pool,
        purpose: Purpose::Copy(job.caller.as_ref()),
        head: &job.head,
        body: &job.body,
        hash: job.hash,
        tried: &[],
        keep,
        read: keep.max(MOST_DISCARDED),
        timeout: mirror.timeout,
        until,
    };
    let answered = exchange::exchange(&order).await;
    answered.map_err(|failed| match failed.why {
        Failure::TimedOut => MirrorResult::TimedOut,
        Failure::NoEndpoint | Failure::Forbidden => MirrorResult::NoEndpoint,
        Failure::Full => MirrorResult::EndpointsFull,
        Failure::Broken(_) => MirrorResult::Failed,
    })
}

/// Bytes of a response that are read only to use the connection again.
const MOST_DISCARDED: usize = 1 << 20;
/// How long the request's own response may take at least after the copy's.
const LEAST_WAIT: Duration = Duration::from_secs(60);
