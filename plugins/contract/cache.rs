//! What a plugin that caches responses declares: which requests it answers from a store, what it keeps, and until when.
//! It must not know how responses are fetched, collapsed, validated or cut into ranges; the proxy does that, by what is said here.
//! Attached in `build` with `Hooks::with_cache`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use pingora_http::{RequestHeader, ResponseHeader};

use super::{Answer, ClientFacts, Principal};

/// Names one thing in a store: a key, or a place (see [`Wanted`]).
pub type CacheName = [u8; 32];

/// A request that may be answered from a store. It has passed every plugin and policy, and is about to go to the pool.
pub struct CacheRequest<'a> {
    /// Request line and fields, with what plugins changed.
    pub head: &'a RequestHeader,
    /// Who sent it and where it goes.
    pub client: &'a ClientFacts<'a>,
    /// The caller, if proven.
    pub principal: Option<&'a Principal>,
    /// The index of the route's rule.
    pub rule: usize,
    /// The pool it goes to, and where it goes to a subset of it, which.
    pub pool: &'a str,
    /// Whether the client named the address it goes to, so that nothing proves that the host is the one it says.
    pub is_elsewhere: bool,
    /// Whether it is a stream, an upgrade or a gRPC call.
    pub is_stream: bool,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum CacheWish {
    /// It goes on as if there were no cache; the word says why.
    Bypass(&'static str),
    /// It writes: once it succeeded, what is stored of these places is out of date (RFC 9111 section 4.4).
    Write(Written),
    /// It is looked for.
    Look(Box<Wanted>),
}

/// The target of a request that writes.
#[derive(Debug)]
pub struct Written {
    /// Its place.
    pub place: CacheName,
    /// `https` or `http`.
    pub scheme: &'static str,
    /// The canonical host.
    pub host: String,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
    /// The canonical path, which references in the response are relative to.
    pub path: String,
}

/// A request that is looked for.
#[derive(Debug)]
pub struct Wanted {
    /// Names everything that one response may answer, but for what `Vary` tells apart.
    pub key: CacheName,
    /// Names the target alone, whoever asks and whichever route it takes: what is invalidated and purged together.
    pub place: CacheName,
    /// The parts of the key in words, for explanations; never secrets.
    pub told: String,
    /// The query to fetch with, if it is not the request's own: what is not in the key is not sent.
    pub query: Option<String>,
    /// Whether what is fetched for it may be kept. Ranges and HEAD only take what is there.
    pub fills: bool,
    /// What the client says of how it wants to be answered.
    pub asks: CacheAsks,
    /// Whether the response may be meant for its caller alone.
    pub is_personal: bool,
    /// Whether it brought cookies.
    pub has_cookies: bool,
    /// So long it waits for another request that fetches the same.
    pub wait: Duration,
    /// How much had been invalidated when it began: what it fetches is not kept if its place was invalidated since.
    pub since: u64,
}

/// The directives of a request that matter (RFC 9111 section 5.2.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CacheAsks {
    /// `no-cache`: only what the endpoint has confirmed.
    pub no_cache: bool,
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `min-fresh`.
    pub min_fresh: Option<Duration>,
    /// `max-stale`, with [`Duration::MAX`] for any.
    pub max_stale: Option<Duration>,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

/// A response that is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Status line and the fields that are kept.
    pub head: ResponseHeader,
    /// All of its body.
    pub body: Bytes,
    /// See [`Wanted::key`].
    pub key: CacheName,
    /// See [`Wanted::place`].
    pub place: CacheName,
    /// The fields that `Vary` names, with what the request had in them.
    pub vary: Vec<(HeaderName, Vec<u8>)>,
    /// Words to purge it by.
    pub tags: Vec<Box<str>>,
    /// Until when it may be used.
    pub terms: Terms,
}

/// Until when a response may be used, in wall time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When it was made, as far as its age tells (RFC 9111 section 4.2.3).
    pub born: Duration,
    /// How long it is fresh after that.
    pub lifetime: Duration,
    /// How much longer it may be used while it is fetched anew (RFC 5861 section 3).
    pub stale_while_revalidate: Duration,
    /// How much longer it may be used where fetching it fails (RFC 5861 section 4).
    pub stale_if_error: Duration,
    /// Whether it may never be used stale, whatever a client accepts.
    pub is_strict: bool,
    /// Whether each use wants the endpoint's confirmation (`no-cache`).
    pub is_confirmed_each_time: bool,
}

impl Terms {
    /// Its age at a moment.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.born)
    }
}

/// Whether a stored response answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// At once.
    Fresh,
    /// At once, and it is fetched anew beside the request.
    WhileRevalidating,
    /// Once the endpoint confirms it, or cannot be asked.
    Stale {
        /// Whether it may be used where fetching fails.
        if_error: bool,
    },
    /// Only once the endpoint confirms it, because the client wants that.
    Unwanted,
}

/// What came of a request, in one word for logs and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// Answered from the store.
    Hit,
    /// Answered from the store although stale, because it is fetched anew, or the client accepts that.
    Stale,
    /// Answered from the store although stale, because fetching failed.
    StaleError,
    /// Answered from the store after the endpoint confirmed it.
    Revalidated,
    /// The endpoint's response to a request that was looked for.
    Miss,
    /// The endpoint's response to a request that was not.
    Bypass,
}

impl CacheResult {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Stale => "stale",
            CacheResult::StaleError => "stale_error",
            CacheResult::Revalidated => "revalidated",
            CacheResult::Miss => "miss",
            CacheResult::Bypass => "bypass",
        }
    }
}

/// What is taken out of a store by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Everything stored of a URL.
    Url(String),
    /// Everything that carries this tag.
    Tag(String),
    /// Everything.
    All,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFill {
    /// Responses.
    pub objects: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub most: u64,
}

/// A cache of responses, as the proxy uses it. Methods do not wait; only `ask` is called where nothing may change.
pub trait ResponseCache: Send + Sync {
    /// What is to be done with a request.
    fn ask(&self, request: &CacheRequest<'_>) -> CacheWish;

    /// The stored response for a request with these fields.
    fn find(&self, wanted: &Wanted, fields: &HeaderMap) -> Option<Arc<Stored>>;

    /// What tells requests with these fields apart, as far as it is known: who differs in it does not wait for each other.
    fn variant(&self, wanted: &Wanted, fields: &HeaderMap) -> Option<CacheName>;

    /// Whether a stored response answers a request.
    fn reuse(&self, wanted: &Wanted, stored: &Stored) -> Reuse;

    /// What is kept of a response that took so long, without its body.
    ///
    /// # Errors
    /// Why nothing is, in a word.
    fn judge(
        &self,
        wanted: &Wanted,
        fields: &HeaderMap,
        response: &ResponseHeader,
        took: Duration,
    ) -> Result<Stored, &'static str>;

    /// A stored response that the endpoint confirmed with a 304 (RFC 9111 section 4.3.4), by the fields of the request and of the 304.
    ///
    /// # Errors
    /// Why it is kept no longer, in a word.
    fn refreshed(
        &self,
        wanted: &Wanted,
        stored: &Stored,
        fields: (&HeaderMap, &HeaderMap),
        took: Duration,
    ) -> Result<Stored, &'static str>;

    /// Keeps a response. `false` if it came too late, or is too large.
    fn keep(&self, since: u64, stored: Stored) -> bool;

    /// Takes a stored response out.
    fn drop_stored(&self, stored: &Stored);

    /// Takes out what a request that writes made out of date; `fields` are its response's.
    fn written(&self, written: &Written, fields: &HeaderMap);

    /// Takes out what is named. How much it was.
    ///
    /// # Errors
    /// What is wrong with the name.
    fn purge(&self, purge: &Purge) -> Result<u64, String>;

    /// What it holds.
    fn fill(&self) -> CacheFill;

    /// The largest body that is kept.
    fn most_object(&self) -> u64;

    /// Takes room for so many bytes of a body that is being fetched; `false` if there is none. Given back with [`Self::unfill`].
    fn fills(&self, bytes: u64) -> bool;

    /// Gives room back.
    fn unfill(&self, bytes: u64);

    /// Lets one request fetch a stored response anew beside itself; over with [`Self::revalidated`].
    fn revalidates(&self, stored: &Stored) -> bool;

    /// The fetch beside a request is over.
    fn revalidated(&self, key: &CacheName);

    /// Whether the last response for it was not kept. Such requests do not wait for each other.
    fn is_remembered(&self, key: &CacheName) -> bool;

    /// Remembers whether a response was kept.
    fn remember(&self, key: &CacheName, is_kept: bool);

    /// The answer where only a stored response is wanted, and there is none.
    fn not_stored(&self) -> Answer;

    /// The name that `Cache-Status` gives it (RFC 9211); `None` leaves the field out.
    fn status_name(&self) -> Option<&str>;

    /// Wall time since 1970.
    fn now(&self) -> Duration;

    /// Counts what came of a request.
    fn count(&self, result: CacheResult);
}
