//! What a request is looked for by: its key, and why some are not looked for at all.
//! It must not know what is stored.
//! Asked for every request of a chain with the plugin, also in dry runs.

use std::time::Duration;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, FORWARDED, HOST, IF_MATCH, IF_UNMODIFIED_SINCE, PRAGMA,
    RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};

use super::directives::Directives;
use super::{Query, RequestDirectives};
use crate::contract::{
    canonical_host, CacheAsks, CacheName, CacheRequest, CacheWish, Principal, Problem, Wanted,
    Written,
};
use crate::query::{decoded, pairs};

/// How requests are told apart.
#[derive(Debug)]
pub(super) struct Keying {
    pub(super) instance: String,
    pub(super) query: QueryKey,
    pub(super) headers: Vec<HeaderName>,
    pub(super) principal: bool,
    pub(super) directives: RequestDirectives,
    pub(super) wait: Duration,
}

/// Which query parameters are in the key.
#[derive(Debug)]
pub(super) enum QueryKey {
    All,
    None,
    Only(Vec<Vec<u8>>),
    Except(Vec<Vec<u8>>),
}

impl QueryKey {
    pub(super) fn of(query: Query, problems: &mut Vec<Problem>) -> QueryKey {
        let mut listed = |key: &str, names: Vec<String>| {
            if names.is_empty() {
                let remedy = "name parameters, or write `all` or `none`";
                let fact = "names no parameter";
                problems.push(Problem::at(format!("query.{key}"), fact).help(remedy));
            }
            names.into_iter().map(String::into_bytes).collect()
        };
        match query {
            Query::All => QueryKey::All,
            Query::None => QueryKey::None,
            Query::Only(names) => QueryKey::Only(listed("only", names)),
            Query::Except(names) => QueryKey::Except(listed("except", names)),
        }
    }

    /// The part of a query that counts.
    pub(super) fn part(&self, query: &str) -> String {
        let kept = |keep: &dyn Fn(&[u8]) -> bool| {
            let parts = query.split('&').filter(|pair| !pair.is_empty());
            let named = |pair: &&str| {
                let name = pairs(pair).next().map_or("", |(name, _)| name);
                keep(&decoded(name))
            };
            parts.filter(named).collect::<Vec<_>>().join("&")
        };
        let is_in = |names: &[Vec<u8>], name: &[u8]| names.iter().any(|one| one == name);
        match self {
            QueryKey::All => query.to_owned(),
            QueryKey::None => String::new(),
            QueryKey::Only(names) => kept(&|name| is_in(names, name)),
            QueryKey::Except(names) => kept(&|name| !is_in(names, name)),
        }
    }
}

/// A target, told apart from others by what is in the key.
pub(super) struct Target<'a> {
    pub(super) scheme: &'static str,
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl Target<'_> {
    fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_owned(),
        }
    }

    /// Whether a text names its host and port.
    fn is_of(&self, text: &str) -> bool {
        canonical_host(text)
            .is_ok_and(|host| host.name == self.host && port(host.port, self.scheme) == self.port)
    }

    /// Whether each hop in a `Forwarded` field (RFC 7239) says this host and scheme, or nothing of them.
    fn is_forwarded_so(&self, text: &str) -> bool {
        let pairs = text.split([',', ';']).map(str::trim);
        pairs.filter(|pair| !pair.is_empty()).all(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "host" => self.is_of(value),
                "proto" => value.eq_ignore_ascii_case(self.scheme),
                "for" | "by" => true,
                _ => false,
            }
        })
    }

    /// The name of the place, with the part of the query that counts.
    pub(super) fn place(&self, keying: &Keying) -> CacheName {
        let query = keying.query.part(self.query);
        let authority = self.authority();
        let parts = [self.scheme, &authority, self.path, &query];
        name(parts.into_iter().map(str::as_bytes))
    }
}

/// A port, where it is not the one that goes without saying.
pub(super) fn port(given: Option<u16>, scheme: &str) -> Option<u16> {
    let usual = if scheme == "https" { 443 } else { 80 };
    given.filter(|port| *port != usual)
}

/// Names parts, each with its length, so that no two lists of parts look the same.
pub(super) fn name<'a>(parts: impl Iterator<Item = &'a [u8]>) -> CacheName {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Keying {
    /// What is to be done with a request.
    pub(super) fn ask(&self, request: &CacheRequest<'_>, since: u64) -> CacheWish {
        let scheme = if request.client.secure {
            "https"
        } else {
            "http"
        };
        let fields = &request.head.headers;
        let target = Target {
            scheme,
            host: request.client.host,
            port: port(asked_port(request), scheme),
            path: request.client.path,
            query: request.head.uri.query().unwrap_or(""),
        };
        if request.is_elsewhere {
            // Whoever chooses the address chooses the answer.
            return CacheWish::Bypass("destination");
        }
        if request.is_stream {
            return CacheWish::Bypass("stream");
        }
        match request.head.method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return CacheWish::Bypass("method"),
            _ => {
                return CacheWish::Write(Written {
                    place: target.place(self),
                    scheme,
                    host: target.host.to_owned(),
                    port: target.port,
                    path: target.path.to_owned(),
                })
            }
        }
        if let Some(why) = self.passes(request, &target) {
            return CacheWish::Bypass(why);
        }
        let directives = match self.directives {
            RequestDirectives::Obey => Directives::of(fields, &CACHE_CONTROL),
            RequestDirectives::Ignore => Directives::default(),
        };
        if directives.has("no-store") {
            return CacheWish::Bypass("no_store");
        }
        CacheWish::Look(Box::new(self.wanted(request, &target, &directives, since)))
    }

    fn wanted(
        &self,
        request: &CacheRequest<'_>,
        target: &Target<'_>,
        directives: &Directives,
        since: u64,
    ) -> Wanted {
        let fields = &request.head.headers;
        let query = self.query.part(target.query);
        let caller = request.principal.map(Principal::id);
        let own = caller.as_deref().filter(|_| self.principal);
        let mut told = format!("{}://{}{}", target.scheme, target.authority(), target.path);
        if !query.is_empty() {
            told.push_str("?…");
        }
        let rule = request.rule.to_string();
        let authority = target.authority();
        let mut parts: Vec<Vec<u8>> = [
            &self.instance,
            request.client.route,
            &rule,
            request.pool,
            target.scheme,
            &authority,
            target.path,
            &query,
        ]
        .map(|part| part.as_bytes().to_vec())
        .to_vec();
        // One part, so that which part is which depends on settings alone.
        let said = said(request, target).join(&b"\n"[..]);
        if !said.is_empty() {
            told.push_str(", what is said of the target besides");
        }
        parts.push(said);
        for field in &self.headers {
            told.push_str(&format!(", {field}"));
            parts.push(value(fields, field).unwrap_or_default());
        }
        if let Some(own) = own {
            told.push_str(", principal");
            parts.push(own.as_bytes().to_vec());
        }
        let is_whole = request.head.method == Method::GET && !fields.contains_key(RANGE);
        Wanted {
            key: name(parts.iter().map(Vec::as_slice)),
            place: target.place(self),
            told,
            query: (query != target.query).then_some(query),
            fills: is_whole,
            asks: self.asks(fields, directives),
            is_personal: own.is_none() && (caller.is_some() || fields.contains_key(AUTHORIZATION)),
            has_cookies: fields.contains_key(COOKIE),
            wait: self.wait,
            since,
        }
    }

    fn asks(&self, fields: &HeaderMap, directives: &Directives) -> CacheAsks {
        let is_pragma = || {
            let pragma = fields.get(PRAGMA);
            self.directives == RequestDirectives::Obey
                && directives.is_empty()
                && pragma.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"no-cache"))
        };
        let max_stale = match directives.has_whole("max-stale") {
            true => Some(Duration::MAX),
            false => directives.time("max-stale"),
        };
        CacheAsks {
            no_cache: directives.has("no-cache") || is_pragma(),
            max_age: directives.time("max-age"),
            min_fresh: directives.time("min-fresh"),
            max_stale,
            only_if_cached: directives.has("only-if-cached"),
        }
    }

    /// Why a request is not looked for, if it is not.
    fn passes(&self, request: &CacheRequest<'_>, target: &Target<'_>) -> Option<&'static str> {
        let fields = &request.head.headers;
        if !request.head.raw_path_is_utf8() {
            // The endpoint gets bytes that are not in the URI, and so not in the key.
            return Some("target");
        }
        if request.client.sends_body {
            return Some("body");
        }
        if fields.contains_key(IF_MATCH) || fields.contains_key(IF_UNMODIFIED_SINCE) {
            return Some("precondition");
        }
        let is_keyed = |name: &str| self.headers.iter().any(|one| one == name);
        let is_steering =
            |name: &HeaderName| STEERING.contains(&name.as_str()) && !is_keyed(name.as_str());
        if fields.keys().any(is_steering) {
            return Some("unkeyed_field");
        }
        // What strangers say of it the proxy replaces.
        let said = |name: &'static str, is_own: &dyn Fn(&str) -> bool| {
            let mut values = fields.get_all(name).iter();
            request.client.trusted_peer
                && !is_keyed(name)
                && !values.all(|value| value.to_str().is_ok_and(is_own))
        };
        let says_otherwise = said(FORWARDED_HOST, &|text| target.is_of(text))
            || said(FORWARDED.as_str(), &|text| target.is_forwarded_so(text));
        says_otherwise.then_some("unkeyed_field")
    }
}

/// The authority as it came, and as services get it where no rule writes another.
fn asked_authority<'r>(request: &CacheRequest<'r>) -> Option<&'r str> {
    let head = request.head;
    let host = || head.headers.get(HOST)?.to_str().ok();
    head.uri.authority().map(|it| it.as_str()).or_else(host)
}

/// The port of the authority, which services may repeat in what they answer.
fn asked_port(request: &CacheRequest<'_>) -> Option<u16> {
    canonical_host(asked_authority(request)?).ok()?.port
}

/// What services are told of the target in a form that is not the canonical one, so that they may answer otherwise: a host such as
/// `shop.test.`, and what a trusted peer says of port and scheme.
fn said(request: &CacheRequest<'_>, target: &Target<'_>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(asked) = asked_authority(request) {
        let asked = asked.to_ascii_lowercase();
        let usual = if target.scheme == "https" { 443 } else { 80 };
        let is_usual = asked == target.authority()
            || (target.port.is_none() && asked == format!("{}:{usual}", target.host));
        if !is_usual {
            all.push(["host=", &asked].concat().into_bytes());
        }
    }
    for name in FORWARDED_OTHERWISE {
        let said = value(&request.head.headers, &HeaderName::from_static(name));
        if let Some(said) = said.filter(|_| request.client.trusted_peer) {
            all.push([name.as_bytes(), b"=", &said].concat());
        }
    }
    all
}

/// What a request has in a field, its lines joined and the space around commas taken out; `None` without the field.
pub(super) fn value(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = fields
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let all = lines.join(&b","[..]);
    let is_there = !lines.is_empty();
    let members = all.split(|byte| *byte == b',');
    let members: Vec<&[u8]> = members.map(<[u8]>::trim_ascii).collect();
    is_there.then(|| members.join(&b","[..]))
}

const FORWARDED_HOST: &str = "x-forwarded-host";

/// What trusted peers say of the target besides.
const FORWARDED_OTHERWISE: [&str; 2] = ["x-forwarded-port", "x-forwarded-proto"];

/// Fields by which frameworks answer for another host, path, scheme or method than the one asked for, and which the proxy passes on.
const STEERING: [&str; 20] = [
    "front-end-https",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
];
