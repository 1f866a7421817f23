//! Whether a response is kept, and until when it may be used: RFC 9111 sections 3 and 4.2, RFC 5861.
//! It must not know what is stored, nor ask what time it is.
//! Asked for every response to a request that was looked for.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora_http::ResponseHeader;

use super::directives::{seconds, Directives};
use super::key::value;
use super::{Heuristic, SetCookie};
use crate::contract::{CacheAsks, Reuse, Stored, Terms, Wanted};
use crate::logged::entry::is_credential;
use bytes::Bytes;

/// What is kept, as settings say.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) lifetimes: Vec<(u16, Duration)>,
    pub(super) heuristic: Option<Heuristic>,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) set_cookie: SetCookie,
    pub(super) tags: Vec<HeaderName>,
}

/// A response that came at a moment, after some time.
pub(super) struct Came<'a> {
    pub(super) response: &'a ResponseHeader,
    /// The fields of its request.
    pub(super) fields: &'a HeaderMap,
    pub(super) now: Duration,
    pub(super) took: Duration,
}

/// Whether responses of a status may be kept at all: what is a part of something, or nothing of its own, is not.
pub(super) fn may_be_kept(status: StatusCode) -> bool {
    (200..600).contains(&status.as_u16())
        && !matches!(
            status,
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
}

impl Rules {
    /// What is kept of a response, without its body.
    ///
    /// # Errors
    /// Why nothing is, in a word.
    pub(super) fn judge(&self, wanted: &Wanted, came: &Came<'_>) -> Result<Stored, &'static str> {
        let fields = &came.response.headers;
        let says = Directives::of(fields, &CACHE_CONTROL);
        let status = came.response.status;
        if !may_be_kept(status) {
            return Err("status");
        }
        // RFC 9111 section 5.2.2.3: who understands the status goes by the other directives.
        let is_understood = says.has("must-understand") && is_understood(status);
        if says.has("no-store") && !is_understood {
            return Err("no_store");
        }
        if says.has_whole("private") {
            return Err("private");
        }
        if self.set_cookie == SetCookie::Refuse && fields.contains_key(SET_COOKIE) {
            let is_named = |name: &str| says.names(name).any(|field| field == SET_COOKIE);
            if !is_named("private") && !is_named("no-cache") {
                return Err("set_cookie");
            }
        }
        let allows = ["public", "must-revalidate", "s-maxage"];
        if wanted.is_personal && !allows.iter().any(|name| says.has(name)) {
            return Err("authorization");
        }
        let vary = vary(came)?;
        let terms = self.terms(wanted, came, &says)?;
        let tags = self.tags(fields)?;
        Ok(Stored {
            head: kept(came.response, &says),
            body: Bytes::new(),
            key: wanted.key,
            place: wanted.place,
            vary,
            tags,
            terms,
        })
    }

    fn terms(
        &self,
        wanted: &Wanted,
        came: &Came<'_>,
        says: &Directives,
    ) -> Result<Terms, &'static str> {
        let fields = &came.response.headers;
        let can_confirm = fields.contains_key(ETAG) || fields.contains_key(LAST_MODIFIED);
        let is_confirmed_each_time = says.has_whole("no-cache");
        let lifetime = match self.lifetime(wanted, came, says) {
            Some(lifetime) => lifetime,
            None if is_confirmed_each_time && is_heuristic(came.response.status) => Duration::ZERO,
            None => return Err("no_lifetime"),
        };
        let is_strict =
            is_confirmed_each_time || says.has("must-revalidate") || says.has("proxy-revalidate");
        // `s-maxage` means `proxy-revalidate` (section 5.2.2.10), unless the response itself says how long it may be stale.
        let unsaid = |default: Duration| match says.has("s-maxage") {
            true => Duration::ZERO,
            false => default,
        };
        let stale = |name: &str, default: Duration| match is_strict {
            true => Duration::ZERO,
            false => says.time(name).unwrap_or_else(|| unsaid(default)),
        };
        let terms = Terms {
            born: came.now.saturating_sub(initial_age(came)),
            lifetime,
            stale_while_revalidate: stale("stale-while-revalidate", self.stale_while_revalidate),
            stale_if_error: stale("stale-if-error", self.stale_if_error),
            is_strict: is_strict || says.has("s-maxage"),
            is_confirmed_each_time,
        };
        let is_fresh = terms.age(came.now) < lifetime && !is_confirmed_each_time;
        let may_be_stale =
            !terms.stale_while_revalidate.is_zero() || !terms.stale_if_error.is_zero();
        match is_fresh || can_confirm || may_be_stale {
            true => Ok(terms),
            false => Err("expired"),
        }
    }

    /// How long a response is fresh (RFC 9111 section 4.2.1).
    fn lifetime(&self, wanted: &Wanted, came: &Came<'_>, says: &Directives) -> Option<Duration> {
        let fields = &came.response.headers;
        let said = says.time("s-maxage").or_else(|| says.time("max-age"));
        if let Some(said) = said.or_else(|| expires(came)) {
            return Some(said);
        }
        let is_own = wanted.is_personal
            || wanted.has_cookies
            // Such as a key that a plugin asked a service about, so that nobody is proven here.
            || came.fields.keys().any(is_credential);
        if is_own || says.has_whole("no-cache") {
            return None;
        }
        let status = came.response.status;
        let set = self
            .lifetimes
            .iter()
            .find(|(one, _)| *one == status.as_u16());
        if let Some((_, lifetime)) = set {
            return Some(*lifetime);
        }
        let heuristic = self.heuristic.filter(|_| is_heuristic(status))?;
        let since =
            date(came.fields_date(), came.now).saturating_sub(moment(fields.get(LAST_MODIFIED)?)?);
        Some(
            since
                .mul_f64(heuristic.share.fraction())
                .min(heuristic.longest.0),
        )
    }

    fn tags(&self, fields: &HeaderMap) -> Result<Vec<Box<str>>, &'static str> {
        let mut tags: Vec<Box<str>> = Vec::new();
        for line in self.tags.iter().flat_map(|name| fields.get_all(name)) {
            let line = line.to_str().map_err(|_| "tags")?;
            let words = line.split([' ', ',', '\t']).filter(|word| !word.is_empty());
            tags.extend(words.map(Box::from));
        }
        tags.sort_unstable();
        tags.dedup();
        match tags.len() <= MOST_TAGS {
            true => Ok(tags),
            false => Err("tags"),
        }
    }

    /// A stored response that the endpoint confirmed: with the fields of the 304, but for those that belong to the body that is
    /// there (RFC 9111 section 3.2).
    ///
    /// # Errors
    /// Why it is kept no longer, in a word.
    pub(super) fn refreshed(
        &self,
        wanted: &Wanted,
        stored: &Stored,
        confirmed: &HeaderMap,
        came: &Came<'_>,
    ) -> Result<Stored, &'static str> {
        let mut head = stored.head.clone();
        head.remove_header(&AGE);
        for name in confirmed.keys().filter(|name| !OF_THE_BODY.contains(name)) {
            let _ = head.remove_header(name);
            // Setting a cookie concerns this client; what is kept has none.
            for value in confirmed
                .get_all(name)
                .iter()
                .filter(|_| *name != SET_COOKIE)
            {
                // Cannot fail: name and value are parsed already.
                let _ = head.append_header(name.clone(), value.clone());
            }
        }
        let came = Came {
            response: &head,
            ..*came
        };
        // A 304 need not repeat `Vary`; what the response was chosen by stays.
        let judged = self.judge(wanted, &came)?;
        let vary = match confirmed.contains_key(VARY) {
            true => judged.vary,
            false => stored.vary.clone(),
        };
        let tagged = self.tags.iter().any(|name| confirmed.contains_key(name));
        let tags = if tagged {
            judged.tags
        } else {
            stored.tags.clone()
        };
        Ok(Stored {
            body: stored.body.clone(),
            vary,
            tags,
            ..judged
        })
    }
}

impl Came<'_> {
    fn fields_date(&self) -> Option<&HeaderValue> {
        self.response.headers.get(DATE)
    }
}

/// Whether a stored response answers a request (RFC 9111 section 4.2).
pub(super) fn reuse(asks: &CacheAsks, terms: &Terms, now: Duration) -> Reuse {
    let age = terms.age(now);
    let is_too_old = asks.max_age.is_some_and(|most| age > most);
    if asks.no_cache || (is_too_old && asks.max_stale.is_none()) {
        return Reuse::Unwanted;
    }
    let over = age.saturating_sub(terms.lifetime);
    let is_fresh = age < terms.lifetime && !terms.is_confirmed_each_time;
    let left = terms.lifetime.saturating_sub(age);
    if is_fresh {
        return match asks.min_fresh.is_some_and(|least| left < least) {
            true => Reuse::Unwanted,
            false => Reuse::Fresh,
        };
    }
    let if_error = !terms.is_confirmed_each_time && over < terms.stale_if_error;
    if terms.is_confirmed_each_time || asks.min_fresh.is_some() {
        return Reuse::Stale { if_error };
    }
    if over < terms.stale_while_revalidate {
        return Reuse::WhileRevalidating;
    }
    let is_accepted = asks.max_stale.is_some_and(|most| over <= most) && !terms.is_strict;
    match is_accepted {
        true => Reuse::Fresh,
        false => Reuse::Stale { if_error },
    }
}

/// The age a response had when it came (RFC 9111 section 4.2.3).
fn initial_age(came: &Came<'_>) -> Duration {
    let said = came.response.headers.get(AGE);
    let said = said.and_then(|age| seconds(age.to_str().ok()?.split(',').next()?.trim()));
    let corrected = said.unwrap_or(Duration::ZERO) + came.took;
    let made = came.fields_date().and_then(moment);
    let apparent = made.map_or(Duration::ZERO, |made| came.now.saturating_sub(made));
    // Dates have whole seconds: what was made in this second has no age yet.
    let apparent = Duration::from_secs(apparent.as_secs());
    apparent.max(corrected)
}

/// What `Expires` says; a date that is none is in the past, and so are two of them.
fn expires(came: &Came<'_>) -> Option<Duration> {
    let mut all = came.response.headers.get_all(EXPIRES).iter();
    let first = all.next()?;
    let at = moment(first).filter(|_| all.next().is_none());
    let made = date(came.fields_date(), came.now);
    Some(at.map_or(Duration::ZERO, |at| at.saturating_sub(made)))
}

fn date(field: Option<&HeaderValue>, now: Duration) -> Duration {
    field.and_then(moment).unwrap_or(now)
}

fn moment(value: &HeaderValue) -> Option<Duration> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}

/// What tells requests for it apart (RFC 9111 section 4.1).
fn vary(came: &Came<'_>) -> Result<Vec<(HeaderName, Vec<u8>)>, &'static str> {
    let mut names = Vec::new();
    for line in came.response.headers.get_all(VARY) {
        let line = line.to_str().map_err(|_| "vary")?;
        for name in line
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if name == "*" {
                return Err("vary");
            }
            names.push(name.parse::<HeaderName>().map_err(|_| "vary")?);
        }
    }
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    if names.len() > MOST_VARY {
        return Err("vary");
    }
    let with_value = |name: HeaderName| {
        let value = value(came.fields, &name).unwrap_or_default();
        (name, value)
    };
    Ok(names.into_iter().map(with_value).collect())
}

/// The fields that are kept: without those of the connection, and those that are not for everybody (RFC 9111 section 3.1).
fn kept(response: &ResponseHeader, says: &Directives) -> ResponseHeader {
    let mut head = response.clone();
    head.set_version(Version::HTTP_11);
    let nominated = response.headers.get_all(CONNECTION).iter();
    let nominated = nominated.filter_map(|value| value.to_str().ok());
    let nominated = nominated.flat_map(|value| value.split(','));
    let nominated = nominated.filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let private = says.names("private").chain(says.names("no-cache"));
    let own = NOT_KEPT.into_iter();
    for name in nominated.chain(private).chain(own) {
        head.remove_header(&name);
    }
    head
}

/// Whether a lifetime may be guessed for a status (RFC 9110 section 15.1).
fn is_heuristic(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Whether everything that a status means for caches is known here.
fn is_understood(status: StatusCode) -> bool {
    status.canonical_reason().is_some()
}

/// Fields that belong to the body that is there.
const OF_THE_BODY: [HeaderName; 4] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
];

/// Fields of a connection, of the way here, or of one client.
const NOT_KEPT: [HeaderName; 12] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    AGE,
    SET_COOKIE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("cache-status"),
];

const MOST_TAGS: usize = 64;
const MOST_VARY: usize = 32;
