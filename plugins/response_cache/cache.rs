//! What the proxy asks of the cache, answered by its parts.
//! It must not know when it is asked.
//! Built with the plugin; the store it works on outlives it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Uri};
use pingora_http::ResponseHeader;

use super::key::{port, Keying, Target};
use super::store::Store;
use super::terms::{self, Came, Rules};
use super::NOT_STORED;
use crate::contract::{
    canonical_host, canonical_path, Answer, Build, CacheFill, CacheName, CacheRequest, CacheResult,
    CacheWish, Clock, Counter, Effects, Purge, ResponseCache, Reuse, Shared, Stored, Wanted,
    Written,
};

/// The cache of an instance.
pub(super) struct Cache {
    keying: Keying,
    rules: Rules,
    memory: u64,
    object: u64,
    status: Option<String>,
    store: Shared<Store>,
    clock: Clock,
    counters: [Counter; RESULTS.len()],
}

const RESULTS: [CacheResult; 6] = [
    CacheResult::Hit,
    CacheResult::Stale,
    CacheResult::StaleError,
    CacheResult::Revalidated,
    CacheResult::Miss,
    CacheResult::Bypass,
];

impl Cache {
    pub(super) fn new(
        (keying, rules): (Keying, Rules),
        (memory, object): (u64, u64),
        status: String,
        store: Shared<Store>,
        build: &Build<'_>,
    ) -> Cache {
        Cache {
            keying,
            rules,
            memory,
            object,
            status: Some(status).filter(|status| !status.is_empty()),
            store,
            clock: build.clock.clone(),
            counters: RESULTS.map(|result| build.counter(result.as_str())),
        }
    }

    /// The store. Dry runs ask only `ask`, which changes nothing; all else is called for traffic, or by an operator.
    fn store<T: Default>(&self, act: impl FnOnce(&Store) -> T) -> T {
        self.store.with(Effects::Live, act).unwrap_or_default()
    }

    fn came<'a>(
        &self,
        fields: &'a HeaderMap,
        response: &'a ResponseHeader,
        took: Duration,
    ) -> Came<'a> {
        Came {
            response,
            fields,
            now: self.clock.unix(),
            took,
        }
    }

    /// The place that a reference in a response names, if it is on the same host.
    fn referred(&self, written: &Written, reference: &str) -> Option<CacheName> {
        let reference = reference.split('#').next()?;
        let uri: Uri = match reference {
            whole if whole.contains("://") => whole.parse().ok()?,
            whole if whole.starts_with("//") => {
                format!("{}:{whole}", written.scheme).parse().ok()?
            }
            path if path.starts_with('/') => path.parse().ok()?,
            beside => {
                let folder = written.path.rsplit_once('/');
                let folder = folder.map_or("", |(folder, _)| folder);
                format!("{folder}/{beside}").parse().ok()?
            }
        };
        if let Some(authority) = uri.authority() {
            let host = canonical_host(authority.as_str()).ok()?;
            let scheme = uri.scheme_str().unwrap_or(written.scheme);
            let is_same = scheme == written.scheme
                && host.name == *written.host
                && port(host.port, scheme) == written.port;
            if !is_same {
                return None;
            }
        }
        let path = canonical_path(uri.path()).ok()?;
        let target = Target {
            scheme: written.scheme,
            host: &written.host,
            port: written.port,
            path: &path,
            query: uri.query().unwrap_or(""),
        };
        Some(target.place(&self.keying))
    }

    /// The place of a URL.
    fn place(&self, url: &str) -> Result<CacheName, String> {
        let uri: Uri = url.parse().map_err(|_| format!("\"{url}\" is no URL"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(format!("\"{url}\" does not begin with http:// or https://")),
        };
        let authority = uri.authority().map_or("", |it| it.as_str());
        let host = canonical_host(authority);
        let host = host.map_err(|_| format!("\"{authority}\" is no host"))?;
        let path = canonical_path(uri.path());
        let path = path.map_err(|_| format!("\"{}\" is no path", uri.path()))?;
        let target = Target {
            scheme,
            host: &host.name,
            port: port(host.port, scheme),
            path: &path,
            query: uri.query().unwrap_or(""),
        };
        Ok(target.place(&self.keying))
    }
}

impl ResponseCache for Cache {
    fn ask(&self, request: &CacheRequest<'_>) -> CacheWish {
        self.keying.ask(request, self.store(Store::invalidations))
    }

    fn find(&self, wanted: &Wanted, fields: &HeaderMap) -> Option<Arc<Stored>> {
        self.store(|store| store.find(&wanted.key, fields))
    }

    fn variant(&self, wanted: &Wanted, fields: &HeaderMap) -> Option<CacheName> {
        self.store(|store| store.variant(&wanted.key, fields))
    }

    fn reuse(&self, wanted: &Wanted, stored: &Stored) -> Reuse {
        terms::reuse(&wanted.asks, &stored.terms, self.clock.unix())
    }

    fn judge(
        &self,
        wanted: &Wanted,
        fields: &HeaderMap,
        response: &ResponseHeader,
        took: Duration,
    ) -> Result<Stored, &'static str> {
        self.rules.judge(wanted, &self.came(fields, response, took))
    }

    fn refreshed(
        &self,
        wanted: &Wanted,
        stored: &Stored,
        (fields, confirmed): (&HeaderMap, &HeaderMap),
        took: Duration,
    ) -> Result<Stored, &'static str> {
        let came = self.came(fields, &stored.head, took);
        self.rules.refreshed(wanted, stored, confirmed, &came)
    }

    fn keep(&self, since: u64, stored: Stored) -> bool {
        self.store(|store| store.keep(self.memory, since, stored))
    }

    fn drop_stored(&self, stored: &Stored) {
        self.store(|store| store.drop_stored(stored));
    }

    fn written(&self, written: &Written, fields: &HeaderMap) {
        let mut places = vec![written.place];
        for name in [LOCATION, CONTENT_LOCATION] {
            let reference = fields.get(name).and_then(|value| value.to_str().ok());
            places.extend(reference.and_then(|it| self.referred(written, it)));
        }
        for place in places {
            self.store(|store| store.purge_place(place));
        }
    }

    fn purge(&self, purge: &Purge) -> Result<u64, String> {
        Ok(match purge {
            Purge::Url(url) => {
                let place = self.place(url)?;
                self.store(|store| store.purge_place(place))
            }
            Purge::Tag(tag) => self.store(|store| store.purge_tag(tag)),
            Purge::All => self.store(Store::purge_all),
        })
    }

    fn fill(&self) -> CacheFill {
        self.store(|store| store.fill(self.memory))
    }

    fn most_object(&self) -> u64 {
        self.object
    }

    fn fills(&self, bytes: u64) -> bool {
        self.store(|store| store.fills(self.memory, bytes))
    }

    fn unfill(&self, bytes: u64) {
        self.store(|store| store.unfill(bytes));
    }

    fn revalidates(&self, stored: &Stored) -> bool {
        self.store(|store| store.revalidates(&stored.key))
    }

    fn revalidated(&self, key: &CacheName) {
        self.store(|store| store.revalidated(key));
    }

    fn is_remembered(&self, key: &CacheName) -> bool {
        self.store(|store| store.unkept.has(key))
    }

    fn remember(&self, key: &CacheName, is_kept: bool) {
        self.store(|store| store.unkept.set(key, !is_kept));
    }

    fn not_stored(&self) -> Answer {
        Answer::of(&NOT_STORED)
    }

    fn status_name(&self) -> Option<&str> {
        self.status.as_deref()
    }

    fn now(&self) -> Duration {
        self.clock.unix()
    }

    fn count(&self, result: CacheResult) {
        let at = RESULTS.iter().position(|one| *one == result);
        if let Some(counter) = at.and_then(|at| self.counters.get(at)) {
            counter(1);
        }
    }
}
