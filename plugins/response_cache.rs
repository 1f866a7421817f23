//! Responses kept and used again, as RFC 9111 lets a shared cache do it: what is fresh is answered without asking an endpoint.
//! It must not know how responses are fetched, collapsed, validated or cut into ranges; the proxy does that.
//! Asked by the proxy after every plugin that may refuse, so it stands anywhere in the chain of a listener or route.

mod cache;
mod directives;
mod disk;
mod key;
mod recent;
mod store;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_name, Blame, Build, Cause, Hooks, Percent, Plugin, PluginDef, Problem, Safety, Side,
    Size, Time, Verdict,
};

use cache::Cache;
use disk::{Counters, Disk};
use key::{Keying, QueryKey};
use store::Store;
use terms::Rules;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Only a stored response was wanted.
pub static NOT_STORED: Cause = Cause {
    name: "response_cache.not_stored",
    blame: Blame::Client,
    status: 504,
    title: "Not stored",
    explanation: "The request says `Cache-Control: only-if-cached`, and the cache holds no response that may answer it (RFC 9111 section 5.2.1.7).",
    next_step: "Ask without `only-if-cached` to have it fetched, or set `request_directives: ignore` to fetch it anyway.",
};

/// Settings of `response_cache`: a shared cache as RFC 9111 describes it.
///
/// It stands behind everything else: all request hooks run before it, also those of plugins named after it, and so do policies. What
/// it answers passes the response hooks like any other response, so `cors`, `headers` and `compress` work on it. A response is
/// kept as the endpoint sent it, before any response hook.
///
/// The key is route, rule, pool and subset, scheme, host, port, canonical path and query, what trusted peers say of scheme and port, and what
/// `headers` and `principal` add. Only `GET` without a body fills the store; `HEAD` and requests for ranges are answered from what is
/// there and else go on as they are, because a range of one byte would else make the endpoint send all of it (RangeAmp). Requests with
/// `If-Match` or `If-Unmodified-Since`, and those with fields by which some frameworks answer for another host, path, scheme or method
/// (`X-Original-URL`, `X-Rewrite-URL`, `X-HTTP-Method-Override`, `X-Forwarded-Prefix`, and `X-Forwarded-Host` and `Forwarded` of a trusted
/// peer where they name another host), go past the cache unless such a field is in `headers`.
///
/// What has `Set-Cookie`, `Cache-Control: private` or `no-store`, or `Vary: *` is never kept, nor what `Vary` says to depend on a field
/// that the proxy or a plugin writes as the request goes to the endpoint, such as `X-Forwarded-For`. What an authenticated request
/// got (`Authorization`, or a caller that a plugin or mutual TLS proved) is kept only where the response says `public`,
/// `s-maxage` or `must-revalidate` (RFC 9111 section 3.5), or where `principal` makes it the caller's own.
///
/// A request that writes (`POST`, `PUT`, `PATCH`, `DELETE` and unknown methods) takes what is stored of its target out once it
/// succeeded, through whichever route it came, as long as both routes use the same named instance; likewise the targets of its
/// response's `Location` and `Content-Location` on the same host (section 4.4).
///
/// In `mode: shadow` it neither answers nor keeps anything; `explain` tells what it would look for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Bytes that all stored responses may take, with their fields and 1 KiB each for keeping them; what was not used for the longest
    /// time goes first. Bodies that are being fetched may take as much again. From `64KiB`. Default: `64MiB`.
    #[serde(default = "memory")]
    pub memory: Size,
    /// A folder in which stored responses are kept as well, so that they outlive a restart; below the configuration's own folder, if it
    /// is not absolute. It takes no more bytes than `memory`, one file for each response, for the owner only. It is written beside the
    /// traffic, once a second, and as much as `memory` again may be held meanwhile. What was kept or purged in the last second before a crash is forgotten, so purge again after one. What
    /// is kept of each caller (`principal`) lies there in the clear. Default: none, memory only.
    #[serde(default)]
    pub folder: Option<String>,
    /// The largest body that is kept, at most a half of `memory`. Larger ones pass through unhindered. Default: `1MiB`, or a half of
    /// `memory` where that is less.
    #[serde(default)]
    pub object: Option<Size>,
    /// Which query parameters make a difference: `all`, `none`, `{only: [NAME]}` or `{except: [NAME]}`. The endpoint gets those in
    /// the key and no others, in the order they came, so that none can change what others are answered. Default: `all`.
    #[serde(default)]
    pub query: Query,
    /// Request fields that make a difference whatever `Vary` says, such as `X-Tenant`; at most 16. Each value has entries of its own,
    /// which strangers can multiply. Default: none.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Whether each proven caller has entries of its own. Responses to authenticated requests are then kept without `public`.
    /// Default: `false`.
    #[serde(default)]
    pub principal: bool,
    /// How long responses of these statuses are fresh where they do not say so themselves, such as `"200": 10s`. Not for requests that
    /// are authenticated, or bring cookies or fields that are named like credentials (`X-Api-Key`, `X-Auth-Token`). Default: none, so
    /// that only what says so is kept.
    #[serde(default)]
    pub lifetimes: BTreeMap<String, Time>,
    /// Guesses how long a response is fresh that says only when it was changed (RFC 9111 section 4.2.2). With the same
    /// exceptions. Default: no guesses.
    #[serde(default)]
    pub heuristic: Option<Heuristic>,
    /// How much longer a stale response answers while it is fetched anew beside the request, where the response does not say so
    /// itself (RFC 5861 section 3). Never what says `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache`. Default: `0s`.
    #[serde(default)]
    pub stale_while_revalidate: Option<Time>,
    /// How much longer a stale response answers where the endpoint cannot be asked or answers 500, 502, 503 or 504, where the response
    /// does not say so itself (RFC 5861 section 4). With the same exceptions. Default: `0s`.
    #[serde(default)]
    pub stale_if_error: Option<Time>,
    /// What becomes of responses with `Set-Cookie`: `refuse` does not keep them, `strip` keeps them without their cookies, which only
    /// the first client gets then. Default: `refuse`.
    #[serde(default)]
    pub set_cookie: SetCookie,
    /// Whether a request's own `Cache-Control` counts (RFC 9111 section 5.2.1): `obey` lets any client have the endpoint asked with
    /// `no-cache`, `ignore` does not. Default: `obey`.
    #[serde(default)]
    pub request_directives: RequestDirectives,
    /// How long a request waits for another one that fetches the same; after that it is fetched for itself and not kept. At most `1m`;
    /// `0s` lets every request fetch. Default: `5s`.
    #[serde(default = "collapse")]
    pub collapse: Time,
    /// Response fields with the tags by which responses are purged, separated by spaces or commas; at most 64 tags for a response, and
    /// one with more is not kept. They are taken out of what clients get. Default: `Surrogate-Key`, `Cache-Tag`.
    #[serde(default = "tags")]
    pub tags: Vec<String>,
    /// The name of this cache in `Cache-Status` (RFC 9211), which says what was done; `""` leaves the field out. Default: `windrose`.
    #[serde(default = "status")]
    pub status: String,
}

/// Which query parameters make a difference.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// The query as it came.
    #[default]
    All,
    /// None.
    None,
    /// Only these.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

/// Guesses at lifetimes.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heuristic {
    /// The share of the time since `Last-Modified` that a response is fresh. Default: `10%`.
    #[serde(default = "share")]
    pub share: Percent,
    /// No guess is longer. Default: `1h`.
    #[serde(default = "longest")]
    pub longest: Time,
}

/// What becomes of responses with `Set-Cookie`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetCookie {
    /// They are not kept.
    #[default]
    Refuse,
    /// They are kept without it.
    Strip,
}

/// Whether a request's `Cache-Control` counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestDirectives {
    /// It does.
    #[default]
    Obey,
    /// It does not.
    Ignore,
}

impl Plugin for Config {
    const KIND: &'static str = "response_cache";
    const ABOUT: &'static str = "answer from stored responses while they are fresh (RFC 9111)";
    const EXAMPLE: &'static str = "memory: 256MiB\nobject: 4MiB\nquery:\n  except: [utm_source, utm_medium]\nheaders: [X-Tenant]\nstale_if_error: 10m";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[&NOT_STORED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        self.bounds(&mut problems);
        let headers = names(Side::Request, "headers", &self.headers, &mut problems);
        let tags = names(Side::Response, "tags", &self.tags, &mut problems);
        let object = self.object().0;
        let query = QueryKey::of(self.query, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let lifetimes = self.lifetimes.iter();
        let lifetimes = lifetimes.filter_map(|(status, time)| Some((kept_status(status)?, time.0)));
        let rules = Rules {
            lifetimes: lifetimes.collect(),
            heuristic: self.heuristic,
            stale_while_revalidate: self
                .stale_while_revalidate
                .map_or(Duration::ZERO, |it| it.0),
            stale_if_error: self.stale_if_error.map_or(Duration::ZERO, |it| it.0),
            set_cookie: self.set_cookie,
            tags: tags.clone(),
        };
        let keying = Keying {
            instance: build.instance.to_owned(),
            query,
            headers,
            principal: self.principal,
            directives: self.request_directives,
            wait: self.collapse.0,
        };
        let store = build.shared("the stored responses", Store::default);
        let disk = self.folder.as_ref().map(|folder| {
            let counters = Counters {
                restored: build.counter("restored"),
                failed: build.counter("disk_failed"),
            };
            let folder = build.path(folder);
            Disk::new(&folder, build.instance, self.memory.0, counters)
        });
        let followed = store.clone();
        let cache = Arc::new(Cache::new(
            (keying, rules),
            (self.memory.0, object),
            self.status,
            store,
            build,
        ));
        let mut hooks = Hooks::new().with_cache(cache);
        if let Some(disk) = disk {
            hooks = hooks.background("disk", move |life| {
                disk.clone().follow(followed.clone(), life)
            });
        }
        Ok(without(hooks, tags))
    }
}

/// Takes the fields that name tags from what clients get.
fn without(hooks: Hooks, tags: Vec<HeaderName>) -> Hooks {
    if tags.is_empty() {
        return hooks;
    }
    hooks.on_response(move |response| {
        for name in &tags {
            response.head.remove_header(name);
        }
        Verdict::Continue
    })
}

impl Config {
    fn object(&self) -> Size {
        self.object.unwrap_or(Size(OBJECT.min(self.memory.0 / 2)))
    }

    fn bounds(&self, problems: &mut Vec<Problem>) {
        if self.memory.0 < LEAST_MEMORY {
            let fact = format!("must be at least 64KiB, found {}", self.memory);
            problems.push(Problem::at("memory", fact).help("to keep nothing remove this plugin"));
        } else if !(1..=self.memory.0 / 2).contains(&self.object().0) {
            let fact = format!(
                "must be from 1B to a half of `memory`, found {}",
                self.object()
            );
            problems.push(Problem::at("object", fact).help("raise `memory`, or lower `object`"));
        }
        if self.headers.len() > MOST_HEADERS {
            let fact = format!("may name 16 fields, found {}", self.headers.len());
            let remedy = "let the service say `Vary` for fields that matter to few responses";
            problems.push(Problem::at("headers", fact).help(remedy));
        }
        if self.collapse.0 > LONGEST_COLLAPSE {
            let fact = "must be at most 1m, because clients wait for as long";
            problems.push(Problem::at("collapse", fact).help("write `5s`"));
        }
        if self.folder.as_deref() == Some("") {
            let problem = Problem::at("folder", "names no folder");
            problems.push(problem.help("write its path, or remove the line"));
        }
        for status in self.lifetimes.keys() {
            if kept_status(status).is_none() {
                let fact = format!("no response of the status \"{status}\" is kept");
                let remedy = "name statuses from 200 to 599 other than 206 and 304";
                problems.push(Problem::at(format!("lifetimes.{status}"), fact).help(remedy));
            }
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*:/".contains(&byte);
        let begins = self
            .status
            .starts_with(|first: char| first.is_ascii_alphabetic());
        if !self.status.is_empty() && (!begins || !self.status.bytes().all(is_token)) {
            let fact = format!("\"{}\" is no token of a structured field", self.status);
            let remedy = "begin with a letter and use letters, digits, `-`, `_` and `.`";
            problems.push(Problem::at("status", fact).help(remedy));
        }
    }
}

/// A status whose responses may be kept.
fn kept_status(text: &str) -> Option<u16> {
    let status: StatusCode = text.parse().ok()?;
    terms::may_be_kept(status).then_some(status.as_u16())
}

fn names(side: Side, list: &str, names: &[String], problems: &mut Vec<Problem>) -> Vec<HeaderName> {
    let mut found = Vec::new();
    for (at, name) in names.iter().enumerate() {
        match field_name(side, &format!("{list}[{at}]"), name) {
            Ok(name) => found.push(name),
            Err(problem) => problems.push(problem),
        }
    }
    found
}

const fn memory() -> Size {
    Size(64 << 20)
}

const fn collapse() -> Time {
    Time::secs(5)
}

fn tags() -> Vec<String> {
    ["Surrogate-Key", "Cache-Tag"].map(str::to_owned).to_vec()
}

fn status() -> String {
    "windrose".to_owned()
}

const fn share() -> Percent {
    match Percent::new(10) {
        Some(share) => share,
        None => panic!("a tenth is a share"),
    }
}

const fn longest() -> Time {
    Time::secs(3600)
}

const LEAST_MEMORY: u64 = 64 << 10;
const MOST_HEADERS: usize = 16;
const OBJECT: u64 = 1 << 20;
const LONGEST_COLLAPSE: Duration = Duration::from_secs(60);
