//! A stale response fetched anew beside the request that it answers (RFC 5861 section 3).
//! It must not hold the request up, nor answer anybody; what comes goes to the store.
//! Begun by a hit; runs on a task of its own, one for each stored response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora_cache::filters::upstream::request_filter;
use tokio::time::Instant;
use windrose_plugins::contract::{CacheName, ResponseCache, Stored};

use super::super::exchange::{exchange, Order, Purpose};
use super::super::forward;
use super::super::request::Ctx;
use super::super::upstream;
use super::super::Shared;
use super::{engine, meta, Look};
use crate::snapshot::identity::Workload;
use crate::snapshot::pool::Pool;

struct Job {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    caller: Option<Arc<Workload>>,
    look: Arc<Look>,
    stored: Arc<Stored>,
    head: RequestHeader,
    hash: Option<u64>,
    timeout: Duration,
    _turn: Turn,
}

/// The right to fetch a response beside a request.
struct Turn {
    cache: Arc<dyn ResponseCache>,
    key: CacheName,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.cache.revalidated(&self.key);
    }
}

/// Lets it be fetched, unless somebody does already, or the process has enough to do.
pub(super) async fn begin(
    session: &Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
    look: Arc<Look>,
    stored: Arc<Stored>,
) {
    let (Some(pool), Some(candidate)) = (ctx.pool.clone(), ctx.candidate.clone()) else {
        return;
    };
    if ctx.snapshot.pressure.level() > 0.0 || !look.cache.revalidates(&stored) {
        return;
    }
    let turn = Turn {
        cache: look.cache.clone(),
        key: stored.key,
    };
    let mut head = session.req_header().clone();
    head.set_method(Method::GET);
    request_filter(&mut head, Some(&meta(&stored, stored.head.clone())));
    head.remove_header(&EXPECT);
    head.remove_header(&CONTENT_LENGTH);
    let cause = ctx.cause;
    if forward::request(&mut head, ctx).await.is_err() {
        // A plugin that refuses here refuses the fetch; the request itself has its response.
        (ctx.cause, ctx.planned) = (cause, None);
        return;
    }
    let hash = upstream::hash(&pool.settings.balance, &head, &ctx.facts);
    let timeouts = &candidate.rule.timeouts;
    let job = Job {
        shared: shared.clone(),
        caller: ctx.connection.as_ref().and_then(|it| it.caller.clone()),
        pool,
        look,
        stored,
        head,
        hash,
        timeout: timeouts.response_header.unwrap_or(LONGEST).min(LONGEST),
        _turn: turn,
    };
    tokio::spawn(fetch(job));
}

async fn fetch(job: Job) {
    let (cache, wanted) = (&job.look.cache, &job.look.wanted);
    let most = usize::try_from(cache.most_object()).unwrap_or(usize::MAX);
    if !cache.fills(most as u64) {
        return;
    }
    let order = Order {
        connections: &job.shared.exchanges,
        pool: &job.pool,
        purpose: Purpose::Copy(job.caller.as_ref()),
        head: &job.head,
        body: &Bytes::new(),
        hash: job.hash,
        tried: &[],
        keep: most,
        read: most,
        timeout: job.timeout,
        until: Instant::now() + LONGEST,
    };
    let answered = exchange(&order).await;
    cache.unfill(most as u64);
    let Ok(answer) = answered else {
        // It stays as stale as it is; whoever comes next tries again.
        return;
    };
    if answer.head.status.is_server_error() {
        return;
    }
    let fields = &job.look.fields;
    let kept = if answer.head.status == StatusCode::NOT_MODIFIED {
        let both = (fields, &answer.head.headers);
        let refreshed = cache.refreshed(wanted, &job.stored, both, answer.took);
        refreshed
            .and_then(|stored| job.look.chosen_by_client(stored))
            .ok()
    } else if answer.is_cut {
        None
    } else {
        let judged = cache.judge(wanted, fields, &answer.head, answer.took);
        let judged = judged.and_then(|stored| job.look.chosen_by_client(stored));
        let judged = judged.ok();
        judged.and_then(|stored| engine::whole(stored, answer.body.into()))
    };
    let is_same = |stored: &Stored| stored.vary == job.stored.vary;
    if !kept.as_ref().is_some_and(is_same) {
        cache.drop_stored(&job.stored);
    }
    if let Some(stored) = kept {
        cache.keep(wanted.since, stored);
    }
}

/// No fetch beside a request takes longer.
const LONGEST: Duration = Duration::from_secs(30);
