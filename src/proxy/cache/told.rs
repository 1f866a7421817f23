//! What clients and logs are told of a cache: `Cache-Status`, `Age`, one word, and what a request that writes takes out.
//! It must not decide anything.
//! Called once for each response, before response hooks.

use std::time::Duration;

use http::header::{AGE, SET_COOKIE};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::Result;
use pingora_cache::CachePhase;
use windrose_plugins::contract::{CacheResult, Reuse, Stored};

use super::super::request::Ctx;
use super::{Caching, Wish};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Tells of a response on its way to the client.
pub(in crate::proxy) fn response(
    session: &Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let status = ctx.attempt.status;
    let Some(caching) = &mut ctx.caching else {
        return Ok(());
    };
    if let Wish::Write(written) = &caching.wish {
        if head.status.is_success() || head.status.is_redirection() {
            caching.cache.written(written, &head.headers);
        }
    }
    let result = result(session, caching);
    caching.result = Some(result);
    caching.cache.count(result);
    let stored = caching.look().and_then(|look| look.found());
    let stored = stored.filter(|_| super::is_stored(session));
    if let Some(stored) = &stored {
        let age = stored.terms.age(caching.cache.now()).as_secs();
        head.insert_header(AGE, age)?;
        let cookies = caching.confirmed.as_ref();
        for cookie in cookies.iter().flat_map(|it| it.get_all(SET_COOKIE)) {
            head.append_header(SET_COOKIE, cookie.clone())?;
        }
    }
    if let Some(name) = caching.cache.status_name() {
        let told = told(session, caching, result, stored.as_deref(), status);
        if let Ok(value) = HeaderValue::from_str(&format!("{name}{told}")) {
            head.append_header(CACHE_STATUS.clone(), value)?;
        }
    }
    Ok(())
}

fn result(session: &Session, caching: &Caching) -> CacheResult {
    match session.cache.phase() {
        CachePhase::Hit if is_stale(caching) => CacheResult::Stale,
        CachePhase::Hit => CacheResult::Hit,
        CachePhase::Stale | CachePhase::StaleUpdating => CacheResult::StaleError,
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => CacheResult::Revalidated,
        _ if caching.look().is_some() => CacheResult::Miss,
        _ => CacheResult::Bypass,
    }
}

fn is_stale(caching: &Caching) -> bool {
    let stored = caching.look().and_then(|look| look.found());
    let now = caching.cache.now();
    let is_over = |it: &Stored| it.terms.age(now) >= it.terms.lifetime;
    caching.reuse == Some(Reuse::WhileRevalidating) || stored.is_some_and(|it| is_over(&it))
}

/// The parameters of `Cache-Status` (RFC 9211 section 2).
fn told(
    session: &Session,
    caching: &Caching,
    result: CacheResult,
    stored: Option<&Stored>,
    status: u16,
) -> String {
    let ttl = stored.map_or(String::new(), |stored| {
        let left = seconds(stored.terms.lifetime) - seconds(stored.terms.age(caching.cache.now()));
        format!("; ttl={left}")
    });
    let waited = session.cache.lock_duration().is_some();
    match (&caching.wish, result) {
        (Wish::Bypass(why), _) => format!("; fwd=bypass; detail={why}"),
        (Wish::Write(_), _) => "; fwd=method".to_owned(),
        (_, CacheResult::Hit | CacheResult::Stale) if waited => {
            format!("; hit{ttl}; detail=collapsed")
        }
        (_, CacheResult::Hit | CacheResult::Stale) => format!("; hit{ttl}"),
        (_, CacheResult::StaleError) => format!("; hit{ttl}; detail=stale_if_error"),
        (_, CacheResult::Revalidated) => {
            let why = why(caching);
            let code = StatusCode::NOT_MODIFIED.as_u16();
            let kept = match caching.look().is_some_and(|look| look.is_kept()) {
                true => "; stored",
                false => "",
            };
            format!("; fwd={why}; fwd-status={code}{kept}{ttl}")
        }
        (_, CacheResult::Miss | CacheResult::Bypass) => {
            let why = why(caching);
            let kept = match (session.cache.phase(), caching.not_kept) {
                (CachePhase::Miss | CachePhase::Expired, None) => "; stored".to_owned(),
                (_, Some(why)) => format!("; detail={why}"),
                (_, None) => String::new(),
            };
            format!("; fwd={why}; fwd-status={status}{kept}")
        }
    }
}

/// Why a request that was looked for went on.
fn why(caching: &Caching) -> &'static str {
    match caching.reuse {
        Some(Reuse::Unwanted) => "request",
        Some(Reuse::Stale { .. }) => "stale",
        Some(Reuse::Fresh | Reuse::WhileRevalidating) | None => {
            let has_others = caching.look().is_some_and(|look| {
                look.cache.variant(&look.wanted, &look.fields).is_some() && look.found().is_none()
            });
            if has_others {
                "vary-miss"
            } else {
                "uri-miss"
            }
        }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
