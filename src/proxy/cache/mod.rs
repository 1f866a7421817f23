//! Responses from a store, by what a plugin says of them: the steps between Pingora's cache hooks and the plugin's cache.
//! It must not judge what is kept or until when, nor hold a response longer than a request; the plugin's store does.
//! Called by the hooks in `proxy` for requests of chains with a cache.

mod engine;
mod refresh;
mod told;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, COOKIE, ETAG, HOST, IF_RANGE};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, Result};
use pingora_cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, NoCacheReason,
    RespCacheable,
};
use windrose_plugins::contract::{
    Answer, CacheResult, CacheWish, Cause, ResponseCache, Reuse, Stored, Wanted,
};

use super::request::Ctx;
use super::{fault, upstream, whole, Shared};
use crate::decide;
use crate::observe::clock;

pub(super) use engine::LOCK;
pub(super) use told::response;

/// A request that a cache has to do with.
pub(super) struct Caching {
    cache: Arc<dyn ResponseCache>,
    wish: Wish,
    /// What came of it, as soon as that is known.
    pub(super) result: Option<CacheResult>,
    reuse: Option<Reuse>,
    /// The fields of the 304 that confirmed what is stored.
    confirmed: Option<HeaderMap>,
    /// Why the response is not kept.
    not_kept: Option<&'static str>,
    /// Bytes of the response's body so far.
    filled: u64,
    /// Why the request gets no place in its pool, where a stale response may stand in.
    pub(super) lack: Option<&'static Cause>,
    /// What is sent instead of a stored body: a plugin answered in its place.
    pub(super) instead: Option<Bytes>,
}

enum Wish {
    Bypass(&'static str),
    Write(windrose_plugins::contract::Written),
    Look(Arc<Look>),
}

/// A request that is looked for, as Pingora hands it around in its key.
pub(super) struct Look {
    cache: Arc<dyn ResponseCache>,
    wanted: Wanted,
    /// The request's fields, by which `Vary` chooses.
    fields: HeaderMap,
    /// What was found, if anything.
    found: Mutex<Option<Arc<Stored>>>,
    /// What is kept of the response that comes, but for its body.
    coming: Mutex<Option<Stored>>,
    /// Fields that the endpoint gets otherwise than the client sent them.
    edited: Mutex<Vec<HeaderName>>,
    is_kept: Mutex<bool>,
}

impl Look {
    fn found(&self) -> Option<Arc<Stored>> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_found(&self, found: Option<Arc<Stored>>) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn coming(&self) -> Option<Stored> {
        self.coming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn comes(&self, stored: Stored) {
        *self.coming.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored);
    }

    /// Takes note of what the endpoint gets.
    fn sent(&self, sent: &HeaderMap) {
        let is_edited = |name: &&HeaderName| {
            !IN_THE_KEY.contains(name) && !self.fields.get_all(*name).iter().eq(sent.get_all(*name))
        };
        let names = self.fields.keys().chain(sent.keys());
        let edited = names.filter(is_edited).cloned().collect();
        *self.edited.lock().unwrap_or_else(PoisonError::into_inner) = edited;
    }

    /// A response that was judged, unless it was chosen by a field that the proxy or a plugin wrote: what another client sends does not
    /// tell what the endpoint would get for it.
    fn chosen_by_client(&self, stored: Stored) -> Result<Stored, &'static str> {
        let edited = self.edited.lock().unwrap_or_else(PoisonError::into_inner);
        match stored.vary.iter().any(|(name, _)| edited.contains(name)) {
            true => Err("vary_edited"),
            false => Ok(stored),
        }
    }

    fn is_kept(&self) -> bool {
        *self.is_kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) {
        *self.is_kept.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Caching {
    /// What a cache wants to do with this request.
    pub(super) fn new(caching: decide::Caching, head: &RequestHeader) -> Box<Caching> {
        let decide::Caching { cache, wish } = caching;
        let wish = match wish {
            CacheWish::Bypass(why) => Wish::Bypass(why),
            CacheWish::Write(written) => Wish::Write(written),
            CacheWish::Look(wanted) => Wish::Look(Arc::new(Look {
                cache: cache.clone(),
                wanted: *wanted,
                fields: head.headers.clone(),
                found: Mutex::new(None),
                coming: Mutex::new(None),
                edited: Mutex::new(Vec::new()),
                is_kept: Mutex::new(false),
            })),
        };
        Box::new(Caching {
            cache,
            wish,
            result: None,
            reuse: None,
            confirmed: None,
            not_kept: None,
            filled: 0,
            lack: None,
            instead: None,
        })
    }

    fn look(&self) -> Option<&Arc<Look>> {
        match &self.wish {
            Wish::Look(look) => Some(look),
            Wish::Bypass(_) | Wish::Write(_) => None,
        }
    }

    /// Takes note of the request that an endpoint gets.
    pub(super) fn sent(&self, head: &RequestHeader) {
        if let Some(look) = self.look() {
            look.sent(&head.headers);
        }
    }

    /// The query to fetch with, where it is not the request's own.
    pub(super) fn query(&self) -> Option<&str> {
        self.look()?.wanted.query.as_deref()
    }
}

/// Whether a request may be answered without its pool, so that it enters it later.
pub(super) fn looks(ctx: &Ctx) -> bool {
    ctx.caching.as_ref().is_some_and(|it| it.look().is_some())
}

/// Turns Pingora's cache on for a request that is looked for.
pub(super) fn enable(session: &mut Session, ctx: &Ctx) {
    let Some(look) = ctx.caching.as_ref().and_then(|it| it.look()) else {
        return;
    };
    let left = ctx.due.as_ref().map(|due| due.left(clock::now()));
    let wait = left.map_or(look.wanted.wait, |left| left.min(look.wanted.wait));
    let mut bounds = CacheOptionOverrides::default();
    bounds.wait_timeout = Some(wait);
    let lock = (!look.wanted.wait.is_zero()).then(|| &**LOCK);
    let memory: &'static engine::Engine = &engine::ENGINE;
    session
        .cache
        .enable(memory, None, Some(memory), lock, Some(bounds));
}

/// What Pingora looks for, and whom it lets wait for whom.
pub(super) fn key(ctx: &Ctx) -> Result<CacheKey> {
    let Some(look) = ctx.caching.as_ref().and_then(|it| it.look()) else {
        return Err(Error::explain(
            pingora::ErrorType::InternalError,
            "a request that is not looked for",
        ));
    };
    let mut primary = look.wanted.key.to_vec();
    if let Some(variant) = look.cache.variant(&look.wanted, &look.fields) {
        primary.extend_from_slice(&variant);
    }
    let mut key = CacheKey::new(primary, "");
    key.extensions.insert(look.clone());
    Ok(key)
}

/// What is done with a stored response that was found.
pub(super) async fn found(
    session: &Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
) -> Option<ForcedFreshness> {
    let caching = ctx.caching.as_mut()?;
    let look = caching.look()?.clone();
    let stored = look.found()?;
    let reuse = look.cache.reuse(&look.wanted, &stored);
    caching.reuse = Some(reuse);
    match reuse {
        Reuse::Fresh => Some(ForcedFreshness::ForceFresh),
        Reuse::WhileRevalidating => {
            // Rare, and it runs plugins.
            Box::pin(refresh::begin(session, ctx, shared, look, stored)).await;
            Some(ForcedFreshness::ForceFresh)
        }
        Reuse::Stale { .. } => Some(ForcedFreshness::ForceExpiredServeStale { expired_at: None }),
        Reuse::Unwanted => Some(ForcedFreshness::ForceExpired),
    }
}

/// Nothing is there. What does not fill the store goes on as it is, and leaves the fetching to whoever waits for it.
pub(super) fn missed(session: &mut Session, ctx: &Ctx) {
    let look = ctx.caching.as_ref().and_then(|it| it.look());
    let fills = look.is_some_and(|look| look.wanted.fills && !look.wanted.asks.only_if_cached);
    match fills || session.cache.bypassing() {
        true => session.cache.cache_miss(),
        false => session.cache.disable(NoCacheReason::Deferred),
    }
}

/// A request that was not answered from the store takes its place in the pool. `false` if it was answered here.
pub(super) async fn goes_on(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let look = ctx.caching.as_ref().and_then(|it| it.look()).cloned();
    let Some(look) = look else {
        return Ok(true);
    };
    if look.wanted.asks.only_if_cached {
        let answer = look.cache.not_stored();
        Box::pin(fault::answer(session, ctx, answer)).await?;
        return Ok(false);
    }
    match upstream::enter(session, ctx).await {
        Ok(()) => {
            whole::begin(session, ctx);
            Ok(true)
        }
        Err(cause) if session.cache.can_serve_stale_error() && cause.status == 503 => {
            if let Some(caching) = &mut ctx.caching {
                caching.lack = Some(cause);
            }
            Ok(true)
        }
        Err(cause) => {
            let answered = Box::pin(fault::refused(session, ctx, cause)).await?;
            Ok(!answered)
        }
    }
}

/// A response's header came from the endpoint: remembers the fields of one that confirms what is stored.
pub(super) fn responded(session: &Session, response: &ResponseHeader, ctx: &mut Ctx) {
    let Some(caching) = &mut ctx.caching else {
        return;
    };
    let confirms =
        response.status == StatusCode::NOT_MODIFIED && session.cache.phase() == CachePhase::Stale;
    caching.confirmed = confirms.then(|| response.headers.clone());
}

/// Whether a response is kept.
pub(super) fn judge(response: &ResponseHeader, ctx: &mut Ctx) -> RespCacheable {
    let took = clock::between(ctx.attempt.started, clock::now());
    let none = RespCacheable::Uncacheable(NoCacheReason::OriginNotCache);
    let Some(caching) = &mut ctx.caching else {
        return none;
    };
    let Some(look) = caching.look().cloned() else {
        return none;
    };
    let found = look.found();
    let judged = match (&caching.confirmed, &found) {
        (Some(confirmed), Some(stored)) => {
            let fields = (&look.fields, confirmed);
            look.cache.refreshed(&look.wanted, stored, fields, took)
        }
        _ => look.cache.judge(&look.wanted, &look.fields, response, took),
    };
    let judged = judged.and_then(|stored| look.chosen_by_client(stored));
    let length = response.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_too_large = length.is_some_and(|length| length > look.cache.most_object());
    let judged = judged.and_then(|stored| match is_too_large {
        true => Err("too_large"),
        false => Ok(stored),
    });
    match judged {
        Ok(stored) => {
            look.cache.remember(&look.wanted.key, true);
            let meta = meta(&stored, stored.head.clone());
            look.comes(stored);
            RespCacheable::Cacheable(meta)
        }
        Err(why) => {
            caching.not_kept = Some(why);
            let is_answer = !response.status.is_server_error();
            match found.filter(|_| is_answer) {
                // The endpoint said something else by now, which nobody else may see.
                Some(stored) => look.cache.drop_stored(&stored),
                None if is_answer => look.cache.remember(&look.wanted.key, false),
                None => {}
            }
            none
        }
    }
}

/// What Pingora knows of a stored response. Whether it is fresh is not its to say; how long it may stand in after an error is.
fn meta(stored: &Stored, head: ResponseHeader) -> CacheMeta {
    let terms = &stored.terms;
    let created = UNIX_EPOCH + terms.born;
    let fresh_until = created + terms.lifetime;
    let if_error = u32::try_from(terms.stale_if_error.as_secs()).unwrap_or(u32::MAX);
    CacheMeta::new(fresh_until, created, 0, if_error, head)
}

/// A piece of a response's body on its way from the endpoint: one that is larger than what is kept passes on, and is kept no longer.
pub(super) fn piece(session: &mut Session, body: Option<&Bytes>, ctx: &mut Ctx) {
    let Some(caching) = ctx.caching.as_mut().filter(|it| it.look().is_some()) else {
        return;
    };
    caching.filled += body.map_or(0, |piece| piece.len() as u64);
    if caching.filled > caching.cache.most_object() && session.cache.enabled() {
        caching.not_kept = Some("too_large");
        if let Some(look) = caching.look() {
            look.cache.remember(&look.wanted.key, false);
        }
        session.cache.disable(NoCacheReason::ResponseTooLarge);
    }
}

/// Whether a stale response stands in for a failure.
pub(super) fn stands_in(ctx: &mut Ctx, error: Option<&Error>) -> bool {
    let Some(error) = error.filter(|error| *error.esource() != ErrorSource::Downstream) else {
        return false;
    };
    let status = match error.etype() {
        pingora::ErrorType::HTTPStatus(status) => *status,
        _ => 502,
    };
    let is_failure = matches!(status, 500 | 502 | 503 | 504);
    let is_refusal = ctx.planned.is_some();
    let Some(caching) = &mut ctx.caching else {
        return false;
    };
    let may = matches!(caching.reuse, Some(Reuse::Stale { if_error: true }));
    let stands_in = may && is_failure && !is_refusal;
    if stands_in {
        // The endpoint's failure is counted where it happened; the request itself is answered.
        ctx.cause = None;
    }
    stands_in
}

/// Whether `If-Range` names a weak validator, with which no range may be taken (RFC 9110 section 13.1.5).
pub(super) fn is_weak_range(request: &RequestHeader, response: &ResponseHeader) -> bool {
    let condition = request.headers.get(IF_RANGE);
    let is_weak = |value: &http::HeaderValue| value.as_bytes().starts_with(b"W/");
    let has_weak = || response.headers.get(ETAG).is_some_and(is_weak);
    let names_tag = |value: &http::HeaderValue| value.as_bytes().ends_with(b"\"");
    condition.is_some_and(|it| is_weak(it) || (names_tag(it) && has_weak()))
}

/// A plugin answers in the place of a stored response.
pub(super) fn answers_instead(
    session: &Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    answer: Answer,
) -> Result<()> {
    ctx.cause = Some(answer.cause);
    let has_body = session.req_header().method != Method::HEAD
        && !matches!(head.status.as_u16(), 204 | 304 | 416);
    let (mut rendered, body) = fault::rendered(session, ctx, answer)?;
    if !has_body && session.req_header().method != Method::HEAD {
        rendered.insert_header(CONTENT_LENGTH, 0)?;
    }
    *head = rendered;
    if let Some(caching) = &mut ctx.caching {
        caching.instead = Some(if has_body { body } else { Bytes::new() });
    }
    Ok(())
}

/// Whether the response that is sent is one that was stored.
pub(super) fn is_stored(session: &Session) -> bool {
    matches!(
        session.cache.phase(),
        CachePhase::Hit
            | CachePhase::Stale
            | CachePhase::StaleUpdating
            | CachePhase::Revalidated
            | CachePhase::RevalidatedNoCache(_)
    )
}

/// Fields that may be written anew without harm: what they say is in the key, or comes of what the client sent in them and nothing else.
const IN_THE_KEY: [HeaderName; 6] = [
    ACCEPT_ENCODING,
    COOKIE,
    HOST,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// So long a fetch may hold up those that wait for it, before another one begins.
const OLDEST_FETCH: Duration = Duration::from_secs(30);
