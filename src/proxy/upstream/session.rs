//! Sessions by cookie: the endpoint that a request's cookie names, and the cookie that names the endpoint it got.
//! It must not know how endpoints are chosen otherwise.
//! Asked for each attempt, and when a response goes to the client.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;

use crate::decide::fields;
use crate::observe::metrics::SessionResult;
use crate::proxy::request::Ctx;
use crate::snapshot::pool::{Affinity, AffinityCookie, EndpointSet, Pool};

/// The member that the request's cookie names, if it may have this attempt: also one that drains, but none that is out,
/// was tried, or is not in the subset that the rule asks for.
pub(super) fn member(
    pool: &Pool,
    set: &EndpointSet,
    request: &RequestHeader,
    tried: &[u16],
    now: u64,
) -> Option<usize> {
    let sessions = set.sessions.as_ref()?;
    let at = sessions.find(name(cookie(pool)?, request)?)?;
    let member = set.members.get(usize::from(at))?;
    let may = !tried.contains(&at)
        && member.endpoint.state.is_available(now)
        && pool.subset_labels().is_none_or(|wanted| member.has(wanted));
    may.then_some(usize::from(at))
}

/// Names the endpoint that answered in the response, unless the client named it already.
pub(in crate::proxy) fn tell(request: &RequestHeader, response: &mut HeaderMap, ctx: &Ctx) {
    let (Some(pool), Some(set)) = (&ctx.pool, &ctx.attempt.set) else {
        return;
    };
    let (Some(sessions), Some(cookie)) = (&set.sessions, cookie(pool)) else {
        return;
    };
    let Some(own) = sessions.name(ctx.attempt.member) else {
        return;
    };
    let named = name(cookie, request);
    if named == Some(own.as_bytes()) {
        pool.metrics.session(SessionResult::Kept);
        return;
    }
    pool.metrics.session(match named {
        None => SessionResult::Begun,
        Some(_) => SessionResult::Moved,
    });
    let secure = match ctx.facts.secure || cookie.always_secure {
        true => "; Secure",
        false => "",
    };
    let text = format!("{}={own}{}{secure}", cookie.name, cookie.attributes);
    // Rules have refused what cannot stand in a field.
    if let Ok(value) = HeaderValue::try_from(text) {
        response.append(SET_COOKIE, value);
    }
}

fn cookie(pool: &Pool) -> Option<&AffinityCookie> {
    match &pool.settings.balance.affinity {
        Some(Affinity::Cookie(cookie)) => Some(cookie),
        Some(Affinity::Header(_) | Affinity::Address) | None => None,
    }
}

fn name<'r>(cookie: &AffinityCookie, request: &'r RequestHeader) -> Option<&'r [u8]> {
    fields::cookie(&request.headers, &cookie.name)
}
