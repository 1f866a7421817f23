//! What is looked for, what is kept and for how long, and what is taken out.
//! They must not need a proxy: requests and responses are made here.
//! Part of the unit tests; the clock stands still unless a test moves it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

use super::PLUGIN;
use crate::contract::{
    CacheRequest, CacheWish, ClientFacts, Principal, Purge, ResponseCache, Reuse, Stored, Wanted,
};
use crate::testkit::{fields, Exchange, Kit};

struct Asking {
    head: RequestHeader,
    secure: bool,
    trusted: bool,
    principal: Option<Principal>,
    pool: &'static str,
    streams: bool,
}

fn get(target: &str) -> Asking {
    asking("GET", target)
}

fn asking(method: &str, target: &str) -> Asking {
    let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    head.insert_header("host", "shop.test").unwrap();
    Asking {
        head,
        secure: true,
        trusted: false,
        principal: None,
        pool: "web",
        streams: false,
    }
}

impl Asking {
    fn with(mut self, name: &'static str, value: &str) -> Asking {
        self.head.append_header(name, value).unwrap();
        self
    }

    fn ask(&self, cache: &dyn ResponseCache) -> CacheWish {
        let client = ClientFacts {
            address: [192, 0, 2, 1].into(),
            secure: self.secure,
            listener: "in",
            route: "shop",
            host: "shop.test",
            path: self.head.uri.path(),
            sends_body: self.streams
                || self.head.headers.contains_key("content-length")
                || self.head.headers.contains_key("transfer-encoding"),
            request_id: "id",
            trusted_peer: self.trusted,
            trace: None,
            certificate: None,
        };
        cache.ask(&CacheRequest {
            head: &self.head,
            client: &client,
            principal: self.principal.as_ref(),
            rule: 0,
            pool: self.pool,
            is_elsewhere: false,
            is_stream: false,
        })
    }

    fn wanted(&self, cache: &dyn ResponseCache) -> Wanted {
        match self.ask(cache) {
            CacheWish::Look(wanted) => *wanted,
            other => panic!("is not looked for: {other:?}"),
        }
    }

    fn passes(&self, cache: &dyn ResponseCache) -> &'static str {
        match self.ask(cache) {
            CacheWish::Bypass(why) => why,
            other => panic!("does not pass: {other:?}"),
        }
    }
}

fn cache(kit: &Kit, config: &str) -> Arc<dyn ResponseCache> {
    let cache = kit.instance(&PLUGIN, config).hooks.cache;
    cache.expect("the plugin has a cache")
}

fn response(status: u16, all: &[(&'static str, &str)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in all {
        head.append_header(*name, *value).unwrap();
    }
    head
}

/// Judges a response to a plain request.
fn judged(config: &str, all: &[(&'static str, &str)]) -> Result<Stored, &'static str> {
    judged_for(config, &get("/"), &response(200, all))
}

fn judged_for(
    config: &str,
    asking: &Asking,
    response: &ResponseHeader,
) -> Result<Stored, &'static str> {
    let kit = Kit::new();
    kit.advance(Duration::from_secs(1_000_000));
    let cache = cache(&kit, config);
    let wanted = asking.wanted(&*cache);
    cache.judge(&wanted, &asking.head.headers, response, Duration::ZERO)
}

/// Fetches and keeps a response for a request.
fn keep(cache: &dyn ResponseCache, asking: &Asking, all: &[(&'static str, &str)]) -> bool {
    let wanted = asking.wanted(cache);
    let response = response(200, all);
    let stored = cache.judge(&wanted, &asking.head.headers, &response, Duration::ZERO);
    let mut stored = stored.expect("it may be kept");
    stored.body = b"body".to_vec().into();
    cache.keep(wanted.since, stored)
}

fn is_found(cache: &dyn ResponseCache, asking: &Asking) -> bool {
    let wanted = asking.wanted(cache);
    cache.find(&wanted, &asking.head.headers).is_some()
}

const HOUR: (&str, &str) = ("cache-control", "max-age=3600");

#[test]
fn settings_that_cannot_be_meant_are_refused_with_their_place() {
    let refused = |config: &str| {
        let problems = Kit::new().problems(&PLUGIN, config);
        let paths: Vec<String> = problems.into_iter().map(|problem| problem.path).collect();
        paths.join(" ")
    };

    assert_eq!(refused("memory: 1KiB"), "memory");
    assert_eq!(refused("memory: 1MiB"), "");
    assert_eq!(refused("memory: 1MiB\nobject: 600KiB"), "object");
    assert_eq!(refused("query: {only: []}"), "query.only");
    assert_eq!(refused("headers: [\"a b\"]"), "headers[0]");
    assert_eq!(
        refused("lifetimes: {206: 1s, 304: 1s}"),
        "lifetimes.206 lifetimes.304"
    );
    assert_eq!(refused("collapse: 2m"), "collapse");
    assert_eq!(refused("folder: ''"), "folder");
    assert_eq!(refused("status: \"a b\""), "status");
    assert_eq!(refused("tags: [Transfer-Encoding]"), "tags[0]");
}

#[test]
fn a_key_has_everything_that_makes_a_difference() {
    let cache = cache(&Kit::new(), "headers: [X-Tenant]");
    let key = |asking: &Asking| asking.wanted(&*cache).key;
    let plain = key(&get("/a?b=1"));
    let mut http = get("/a?b=1");
    http.secure = false;
    let mut elsewhere = get("/a?b=1");
    elsewhere.pool = "canary";
    let mut port = get("/a?b=1");
    port.head.insert_header("host", "shop.test:8443").unwrap();
    let mut usual = get("/a?b=1");
    usual.head.insert_header("host", "SHOP.test:443").unwrap();

    assert_eq!(key(&asking("HEAD", "/a?b=1")), plain);
    assert_eq!(key(&usual), plain);
    for other in [http, elsewhere, port, get("/a?b=2"), get("/A?b=1")] {
        assert_ne!(key(&other), plain);
    }
    assert_ne!(key(&get("/a?b=1").with("x-tenant", "t")), plain);
}

#[test]
fn what_is_not_in_the_key_is_not_sent() {
    let cache = cache(&Kit::new(), "query: {except: [utm_source]}");
    let plain = get("/a?b=1").wanted(&*cache);
    let tagged = get("/a?utm%5Fsource=x&b=1&utm_source=y").wanted(&*cache);

    assert_eq!(tagged.key, plain.key);
    assert_eq!((tagged.query.as_deref(), plain.query), (Some("b=1"), None));
}

#[test]
fn only_names_are_in_the_key_in_the_order_they_came() {
    let cache = cache(&Kit::new(), "query: {only: [a, b]}");

    let wanted = get("/?b=2&c=3&a=1&b=4").wanted(&*cache);

    assert_eq!(wanted.query.as_deref(), Some("b=2&a=1&b=4"));
}

#[test]
fn requests_that_could_poison_the_store_pass_by() {
    let cache = cache(&Kit::new(), "{}");
    let mut trusted = get("/").with("x-forwarded-host", "evil.test");
    trusted.trusted = true;
    let mut same = get("/").with("x-forwarded-host", "shop.test");
    same.trusted = true;

    assert_eq!(get("/").with("content-length", "3").passes(&*cache), "body");
    assert_eq!(
        get("/")
            .with("transfer-encoding", "chunked")
            .passes(&*cache),
        "body"
    );
    // Over HTTP/2 no field says so.
    let mut streams = get("/");
    streams.streams = true;
    assert_eq!(streams.passes(&*cache), "body");
    assert_eq!(
        get("/").with("if-match", "\"a\"").passes(&*cache),
        "precondition"
    );
    assert_eq!(
        get("/").with("x-original-url", "/admin").passes(&*cache),
        "unkeyed_field"
    );
    assert_eq!(
        get("/")
            .with("x-http-method-override", "PUT")
            .passes(&*cache),
        "unkeyed_field"
    );
    assert_eq!(trusted.passes(&*cache), "unkeyed_field");
    assert_eq!(
        get("/").with("cache-control", "no-store").passes(&*cache),
        "no_store"
    );
    assert_eq!(asking("OPTIONS", "/").passes(&*cache), "method");
    // The proxy itself replaces what strangers say of the host.
    let stranger = get("/")
        .with("x-forwarded-host", "evil.test")
        .wanted(&*cache);
    assert_eq!(stranger.key, same.wanted(&*cache).key);
    assert!(matches!(
        asking("PURGE", "/").ask(&*cache),
        CacheWish::Write(_)
    ));
}

#[test]
fn what_services_are_told_of_the_target_is_in_the_key_or_passes_by() {
    let cache = cache(&Kit::new(), "{}");
    let by_trusted = |name: &'static str, value: &str| Asking {
        trusted: true,
        ..get("/").with(name, value)
    };
    for name in ["x-forwarded-prefix", "x-forwarded-ssl", "front-end-https"] {
        let passes = get("/").with(name, "on").passes(&*cache);
        assert_eq!(passes, "unkeyed_field", "{name}");
    }
    for forwarded in [
        "host=evil.test",
        "for=192.0.2.7;host=shop.test, Host=\"evil.test\"",
        "for=192.0.2.7;proto=http",
        "for=192.0.2.7;\"host\"=evil.test",
    ] {
        let passes = by_trusted("forwarded", forwarded).passes(&*cache);
        assert_eq!(passes, "unkeyed_field", "{forwarded}");
    }
    let plain = get("/").wanted(&*cache);
    let same = by_trusted(
        "forwarded",
        "for=\"[2001:db8::7]:80\";by=lb;host=shop.test:443;proto=HTTPS",
    );
    assert_eq!(same.wanted(&*cache).key, plain.key);
    assert_eq!(
        get("/")
            .with("forwarded", "host=evil.test")
            .wanted(&*cache)
            .key,
        plain.key
    );
    let port = by_trusted("x-forwarded-port", "4443").wanted(&*cache);
    let proto = by_trusted("x-forwarded-proto", "https, http").wanted(&*cache);
    assert!(port.key != plain.key && proto.key != plain.key && port.key != proto.key);
}

#[test]
fn a_host_in_another_form_has_entries_of_its_own_and_the_same_place() {
    let cache = cache(&Kit::new(), "{}");
    let of = |host: &str| {
        let mut asking = get("/");
        asking.head.insert_header("host", host).unwrap();
        asking.wanted(&*cache)
    };

    let plain = of("shop.test");
    for same in ["SHOP.test", "shop.test:443"] {
        assert_eq!(of(same).key, plain.key, "{same}");
    }
    for other in ["shop.test.", "shop.test:0443", "shop.test:"] {
        assert!(of(other).key != plain.key, "{other}");
        assert_eq!(of(other).place, plain.place, "{other}");
    }
}

#[test]
fn a_field_in_the_key_may_steer() {
    let cache = cache(&Kit::new(), "headers: [X-Original-URL]");

    let one = get("/").with("x-original-url", "/a").wanted(&*cache);
    let other = get("/").with("x-original-url", "/b").wanted(&*cache);

    assert_ne!(one.key, other.key);
}

#[test]
fn what_is_for_one_client_is_not_kept() {
    let why = |all: &[(&'static str, &str)]| judged("{}", all).err();

    assert_eq!(why(&[HOUR]), None);
    assert_eq!(why(&[HOUR, ("set-cookie", "a=b")]), Some("set_cookie"));
    assert_eq!(
        why(&[HOUR, ("vary", "accept"), ("vary", "*")]),
        Some("vary")
    );
    assert_eq!(
        why(&[("cache-control", "private, max-age=9")]),
        Some("private")
    );
    assert_eq!(
        why(&[("cache-control", "no-store, max-age=9")]),
        Some("no_store")
    );
    assert_eq!(why(&[("cache-control", "max-age=0")]), Some("expired"));
    assert_eq!(why(&[("etag", "\"a\"")]), Some("no_lifetime"));
    let all = [HOUR, ("age", "4000")];
    assert_eq!(judged("{}", &all).err(), Some("expired"));
}

#[test]
fn fields_that_are_not_for_everybody_are_left_out() {
    let all = [
        (
            "cache-control",
            "max-age=60, private=\"x-user\", no-cache=\"x-own\"",
        ),
        ("x-user", "u"),
        ("x-own", "o"),
        ("connection", "x-hop"),
        ("x-hop", "h"),
        ("keep-alive", "timeout=5"),
        ("set-cookie", "a=b"),
        ("cache-status", "inner; hit"),
        ("content-type", "text/plain"),
    ];

    let stored = judged("set_cookie: strip", &all).unwrap();

    let mut names: Vec<&str> = stored.head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-type"]);
}

#[test]
fn authenticated_responses_are_kept_only_where_they_say_so() {
    let config = "lifetimes: {200: 1m}";
    let with = |value: &str, asking: Asking| {
        judged_for(config, &asking, &response(200, &[("cache-control", value)])).err()
    };
    let authorized = || get("/").with("authorization", "Bearer x");
    let mut proven = get("/");
    proven.principal = Some(Principal::consumer("ann"));

    assert_eq!(with("max-age=9", authorized()), Some("authorization"));
    assert_eq!(with("max-age=9", proven), Some("authorization"));
    assert_eq!(with("max-age=9, public", authorized()), None);
    assert_eq!(with("s-maxage=9", authorized()), None);
    assert_eq!(with("max-age=9, must-revalidate", authorized()), None);
    // No lifetime of ours for what may be somebody's own.
    assert_eq!(with("public", authorized()), Some("no_lifetime"));
    assert_eq!(
        with("public", get("/").with("cookie", "a=b")),
        Some("no_lifetime")
    );
    assert_eq!(
        with("public", get("/").with("x-api-key", "k")),
        Some("no_lifetime")
    );
    assert_eq!(with("public", get("/").with("x-shop", "k")), None);
}

#[test]
fn each_principal_may_have_entries_of_its_own() {
    let cache = cache(&Kit::new(), "principal: true");
    let mut ann = get("/");
    ann.principal = Some(Principal::consumer("ann"));
    let mut bob = get("/");
    bob.principal = Some(Principal::consumer("bob"));

    assert!(keep(&*cache, &ann, &[HOUR]));
    assert!(is_found(&*cache, &ann) && !is_found(&*cache, &bob) && !is_found(&*cache, &get("/")));
}

#[test]
fn lifetimes_come_from_the_response_before_the_settings() {
    let kit = Kit::new();
    kit.advance(Duration::from_secs(1_000_000));
    let date = |at: u64| {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(at);
        httpdate::fmt_http_date(at)
    };
    let now = date(1_000_000);
    let life = |config: &str, all: &[(&'static str, &str)]| {
        let cache = cache(&kit, config);
        let asking = get("/");
        let wanted = asking.wanted(&*cache);
        let response = response(200, all);
        let stored = cache.judge(&wanted, &asking.head.headers, &response, Duration::ZERO);
        stored.map(|stored| stored.terms.lifetime.as_secs())
    };

    assert_eq!(
        life("{}", &[("cache-control", "max-age=5, s-maxage=9")]),
        Ok(9)
    );
    let expires = date(1_000_060);
    assert_eq!(life("{}", &[("date", &now), ("expires", &expires)]), Ok(60));
    assert_eq!(
        life("{}", &[("date", &now), ("expires", "0"), ("etag", "\"a\"")]),
        Ok(0)
    );
    assert_eq!(life("lifetimes: {200: 7s}", &[]), Ok(7));
    let changed = date(999_000);
    assert_eq!(
        life(
            "heuristic: {}",
            &[("date", &now), ("last-modified", &changed)]
        ),
        Ok(100)
    );
    let guess = "heuristic: {share: 50%, longest: 1m}";
    assert_eq!(
        life(guess, &[("date", &now), ("last-modified", &changed)]),
        Ok(60)
    );
    assert_eq!(
        life("{}", &[("cache-control", "no-cache"), ("etag", "\"a\"")]),
        Ok(0)
    );
}

#[test]
fn age_counts_what_went_before() {
    let kit = Kit::new();
    kit.advance(Duration::from_secs(1000));
    let cache = cache(&kit, "{}");
    let asking = get("/");
    let wanted = asking.wanted(&*cache);
    let all = [HOUR, ("age", "30")];
    let response = response(200, &all);
    let took = Duration::from_secs(2);

    let stored = cache
        .judge(&wanted, &asking.head.headers, &response, took)
        .unwrap();
    kit.advance(Duration::from_secs(5));

    assert_eq!(stored.terms.age(cache.now()), Duration::from_secs(37));
}

/// What becomes of a stored response after some seconds.
fn reuse(says: &str, asks: &str, seconds: u64) -> Reuse {
    let kit = Kit::new();
    let cache = cache(&kit, "{}");
    let asking = get("/").with("cache-control", asks);
    let all = [("cache-control", says), ("etag", "\"a\"")];
    assert!(keep(&*cache, &asking, &all));
    kit.advance(Duration::from_secs(seconds));
    let wanted = asking.wanted(&*cache);
    let stored = cache.find(&wanted, &asking.head.headers).unwrap();
    cache.reuse(&wanted, &stored)
}

const STALE: Reuse = Reuse::Stale { if_error: false };

#[test]
fn stale_responses_answer_only_as_long_as_they_may() {
    let swr = "max-age=10, stale-while-revalidate=5, stale-if-error=20";

    assert_eq!(reuse("max-age=10", "", 9), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "", 10), STALE);
    assert_eq!(reuse(swr, "", 14), Reuse::WhileRevalidating);
    assert_eq!(reuse(swr, "", 15), Reuse::Stale { if_error: true });
    assert_eq!(reuse(swr, "", 30), STALE);
    let strict = "max-age=10, stale-while-revalidate=5, stale-if-error=20, must-revalidate";
    assert_eq!(reuse(strict, "", 11), STALE);
    let confirmed = "no-cache, max-age=10, stale-while-revalidate=5";
    assert_eq!(reuse(confirmed, "", 1), STALE);
    assert_eq!(
        reuse("s-maxage=10, stale-while-revalidate=5", "", 11),
        Reuse::WhileRevalidating
    );
}

#[test]
fn clients_may_ask_for_less_and_for_more() {
    assert_eq!(reuse("max-age=10", "no-cache", 1), Reuse::Unwanted);
    assert_eq!(reuse("max-age=10", "max-age=0", 1), Reuse::Unwanted);
    assert_eq!(reuse("max-age=10", "min-fresh=5", 6), Reuse::Unwanted);
    assert_eq!(reuse("max-age=10", "min-fresh=5", 5), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "max-stale=5", 15), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "max-stale=5", 16), STALE);
    assert_eq!(reuse("max-age=10", "max-stale", 5000), Reuse::Fresh);
    assert_eq!(reuse("max-age=10, must-revalidate", "max-stale", 11), STALE);
}

#[test]
fn what_clients_ask_may_be_ignored() {
    let cache = cache(&Kit::new(), "request_directives: ignore");

    let wanted = get("/")
        .with("cache-control", "no-cache, no-store")
        .with("pragma", "no-cache");

    assert_eq!(wanted.wanted(&*cache).asks, Default::default());
}

#[test]
fn vary_tells_requests_apart_however_their_lines_are_cut() {
    let cache = cache(&Kit::new(), "{}");
    let french = || get("/").with("accept-language", "fr, de");
    assert!(keep(
        &*cache,
        &french(),
        &[HOUR, ("vary", "Accept-Language, X-A")]
    ));
    assert!(keep(
        &*cache,
        &get("/").with("accept-language", "en"),
        &[HOUR, ("vary", "X-A,accept-language")]
    ));

    let split = get("/")
        .with("accept-language", "fr")
        .with("accept-language", "de");
    assert!(is_found(&*cache, &split));
    assert!(is_found(&*cache, &get("/").with("accept-language", "en")));
    assert!(!is_found(
        &*cache,
        &get("/").with("accept-language", "de, fr")
    ));
    assert!(!is_found(&*cache, &french().with("x-a", "1")));
    assert_eq!(cache.fill().objects, 2);
}

#[test]
fn a_response_that_is_told_apart_by_other_fields_takes_all_places() {
    let cache = cache(&Kit::new(), "{}");
    assert!(keep(&*cache, &get("/"), &[HOUR]));

    let french = || get("/").with("accept-language", "fr");
    assert!(keep(
        &*cache,
        &french(),
        &[HOUR, ("vary", "accept-language")]
    ));

    assert!(is_found(&*cache, &french()) && !is_found(&*cache, &get("/")));
}

#[test]
fn variants_of_a_key_are_bounded() {
    let cache = cache(&Kit::new(), "{}");
    for number in 0..500 {
        let asking = get("/").with("x-a", &number.to_string());
        assert!(keep(&*cache, &asking, &[HOUR, ("vary", "x-a")]));
    }

    assert_eq!(cache.fill().objects, 64);
    assert!(is_found(&*cache, &get("/").with("x-a", "499")));
}

#[test]
fn bytes_are_bounded_and_what_was_used_last_stays() {
    let cache = cache(&Kit::new(), "memory: 64KiB\nobject: 1KiB");
    let first = get("/first");
    assert!(keep(&*cache, &first, &[HOUR]));
    for number in 0..100_000 {
        assert!(keep(&*cache, &get(&format!("/{number}")), &[HOUR]));
        if number % 10 == 0 {
            assert!(is_found(&*cache, &first));
        }
    }

    let fill = cache.fill();
    assert!(fill.bytes <= 64 << 10 && fill.objects > 20, "{fill:?}");
    assert!(is_found(&*cache, &first));
}

#[test]
fn bodies_that_are_being_fetched_have_a_bound_as_well() {
    let cache = cache(&Kit::new(), "memory: 64KiB\nobject: 1KiB");

    assert!(cache.fills(60 << 10));
    assert!(!cache.fills(5 << 10));
    cache.unfill(60 << 10);
    assert!(cache.fills(64 << 10));
}

#[test]
fn a_request_that_writes_takes_its_target_out() {
    let cache = cache(&Kit::new(), "{}");
    for path in ["/a", "/a?b=1", "/c/d", "/e"] {
        assert!(keep(&*cache, &get(path), &[HOUR]));
    }
    let written = match asking("POST", "/a").ask(&*cache) {
        CacheWish::Write(written) => written,
        other => panic!("{other:?}"),
    };
    let mut said = HeaderMap::new();
    said.insert("location", HeaderValue::from_static("c/d"));
    said.insert(
        "content-location",
        HeaderValue::from_static("https://other.test/e"),
    );

    cache.written(&written, &said);

    assert!(!is_found(&*cache, &get("/a")) && !is_found(&*cache, &get("/c/d")));
    assert!(is_found(&*cache, &get("/a?b=1")) && is_found(&*cache, &get("/e")));
}

#[test]
fn what_was_fetched_before_an_invalidation_is_not_kept_after() {
    let cache = cache(&Kit::new(), "{}");
    let asking = get("/a");
    let wanted = asking.wanted(&*cache);
    let stored = cache
        .judge(
            &wanted,
            &asking.head.headers,
            &response(200, &[HOUR]),
            Duration::ZERO,
        )
        .unwrap();

    assert_eq!(
        cache.purge(&Purge::Url("https://shop.test/a".into())),
        Ok(0)
    );

    assert!(!cache.keep(wanted.since, stored.clone()));
    assert!(cache.keep(get("/a").wanted(&*cache).since, stored));
}

#[test]
fn responses_are_purged_by_url_and_by_tag() {
    let cache = cache(&Kit::new(), "{}");
    let tagged = ("surrogate-key", "all  product-1");
    assert!(keep(&*cache, &get("/1"), &[HOUR, tagged]));
    assert!(keep(
        &*cache,
        &get("/2"),
        &[HOUR, ("cache-tag", "all, product-2")]
    ));
    assert!(keep(&*cache, &get("/3"), &[HOUR]));

    assert_eq!(cache.purge(&Purge::Tag("product-1".into())), Ok(1));
    assert_eq!(
        cache.purge(&Purge::Url("https://SHOP.test:443/./3".into())),
        Ok(1)
    );
    assert_eq!(cache.purge(&Purge::Tag("all".into())), Ok(1));
    assert_eq!(cache.fill().bytes, 0);
    assert!(cache.purge(&Purge::Url("shop.test/3".into())).is_err());
    assert!(cache
        .purge(&Purge::Url("https://shop.test/%zz".into()))
        .is_err());
    let many: Vec<String> = (0..65).map(|at| at.to_string()).collect();
    let many = judged("{}", &[HOUR, ("cache-tag", &many.join(","))]);
    assert_eq!(many.err(), Some("tags"));
}

#[test]
fn tags_are_not_shown_to_clients() {
    let plugin = Kit::new().instance(&PLUGIN, "{}");
    let mut exchange = Exchange::get("https://shop.test/").with_response("surrogate-key", "a");

    let _ = plugin.response(&mut exchange);

    assert!(fields(&exchange.response.headers, "surrogate-key").is_empty());
}

#[test]
fn a_304_changes_all_fields_but_those_of_the_body() {
    let kit = Kit::new();
    let cache = cache(&kit, "{}");
    let asking = get("/");
    let all = [
        HOUR,
        ("content-type", "a/b"),
        ("x-old", "1"),
        ("etag", "\"a\""),
        ("x-two", "1"),
        ("vary", "x-v"),
    ];
    assert!(keep(&*cache, &asking, &all));
    let wanted = asking.wanted(&*cache);
    let stored = cache.find(&wanted, &asking.head.headers).unwrap();
    let confirmed = response(
        304,
        &[
            ("cache-control", "max-age=5"),
            ("content-type", "c/d"),
            ("x-two", "2"),
            ("x-two", "3"),
            ("set-cookie", "a=b"),
        ],
    );

    let both = (&asking.head.headers, &confirmed.headers);
    let stored = cache
        .refreshed(&wanted, &stored, both, Duration::ZERO)
        .unwrap();

    let field = |name: &str| {
        let all = stored.head.headers.get_all(name).iter();
        all.map(|value| value.to_str().unwrap())
            .collect::<Vec<_>>()
            .join("|")
    };
    assert_eq!(
        (field("content-type"), field("x-old"), field("x-two")),
        ("a/b".into(), "1".into(), "2|3".into())
    );
    assert_eq!(
        (stored.terms.lifetime.as_secs(), &stored.body[..]),
        (5, &b"body"[..])
    );
    assert_eq!(field("set-cookie"), "");
    assert_eq!(stored.vary.len(), 1);
}

#[test]
fn the_store_outlives_a_reload_and_takes_its_new_bound() {
    let kit = Kit::new();
    let before = cache(&kit, "memory: 1MiB\nobject: 1KiB");
    for number in 0..200 {
        assert!(keep(&*before, &get(&format!("/{number}")), &[HOUR]));
    }

    let after = cache(&kit, "memory: 64KiB\nobject: 1KiB");

    assert!(is_found(&*after, &get("/7")));
    assert!(keep(&*after, &get("/200"), &[HOUR]));
    assert!(after.fill().bytes <= 64 << 10);
}

#[test]
fn a_dry_run_asks_and_changes_nothing() {
    let cache = cache(&Kit::new(), "{}");

    let wanted = get("/a?token=secret").wanted(&*cache);

    assert!(!wanted.told.contains("secret"), "{}", wanted.told);
    assert_eq!(cache.fill().objects, 0);
}

proptest! {
    #[test]
    fn any_response_is_judged_without_a_panic(
        cache_control in "[ -~]{0,60}",
        vary in "[ -~]{0,30}",
        age in "[ -~]{0,20}",
        expires in "[ -~]{0,40}",
        status in 100_u16..600,
    ) {
        let all = [("cache-control", &*cache_control), ("vary", &*vary), ("age", &*age), ("expires", &*expires)];
        let response = response(status, &all);

        if let Ok(stored) = judged_for("{}", &get("/"), &response) {
            prop_assert!(!matches!(status, 100..=199 | 206 | 304));
            prop_assert!(stored.head.headers.get("age").is_none());
        }
    }

    #[test]
    fn no_two_queries_share_a_key(one in "[a-z&=%+]{0,12}", other in "[a-z&=%+]{0,12}") {
        let cache = cache(&Kit::new(), "{}");
        let key = |query: &str| get(&format!("/?{query}")).wanted(&*cache).key;

        prop_assert_eq!(one == other, key(&one) == key(&other));
    }
}
