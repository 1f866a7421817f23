//! Responses from the store, as clients and services meet them: hits, validation, collapsing, stale answers, purging, attacks.
//! It must not know how the store works; the plugin's own tests do.
//! Part of the test binary.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::wait::until;
use crate::support::{Proxy, Reply, Upstream};

/// A proxy to a service with a cache on the route, and plugins before it.
pub(crate) fn with(service: &Upstream, before: &str, config: &str) -> Proxy {
    Proxy::http(&route(service, before, config))
}

pub(crate) fn route(service: &Upstream, before: &str, config: &str) -> String {
    format!(
        "{}{ALL_TO_APP}  plugins: [{before}{{kind: response_cache, config: {{{config}}}}}]\n",
        pool("app", &[service])
    )
}

pub(crate) fn cached(service: &Upstream) -> Proxy {
    with(service, "", "")
}

/// A service whose answers are numbered and fresh for an hour, with further fields.
pub(crate) fn counting(fields: &'static [(&'static str, &'static str)]) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::with(move |_, stream| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let mut all = fields.to_vec();
        if !fields.iter().any(|(name, _)| *name == "cache-control") {
            all.push(("cache-control", "max-age=3600"));
        }
        answer(stream, 200, &all, format!("answer {number}").as_bytes())
    })
}

pub(crate) fn status(reply: &Reply) -> &str {
    reply.header("cache-status").unwrap_or("")
}

#[test]
fn a_second_request_is_answered_without_the_service() {
    let service = counting(&[("set-x", "1")]);
    let proxy = cached(&service);

    let (first, second) = (proxy.get("/a"), proxy.get("/a"));

    assert_eq!(
        status(&first),
        "windrose; fwd=uri-miss; fwd-status=200; stored"
    );
    assert_eq!(
        (first.text(), second.text()),
        ("answer 1".into(), "answer 1".into())
    );
    assert!(
        status(&second).starts_with("windrose; hit; ttl=3"),
        "{}",
        status(&second)
    );
    assert!(second.header("age").is_some() && second.header("set-x") == Some("1"));
    assert_eq!(service.requests(), 1);
    let line = proxy.logged(|line| line["cache"] == "hit");
    assert_eq!(
        (&line["attempts"], &line["endpoint"]),
        (&0.into(), &serde_json::Value::Null)
    );
    let events = proxy.metric("windrose_plugin_events_total", &["event=\"hit\""]);
    assert_eq!(events, 1.0);
}

#[test]
fn response_hooks_work_on_stored_responses_and_request_hooks_still_refuse() {
    let service = counting(&[]);
    let before = "{kind: headers, config: {response: {set: {x-edge: one}}}}, {kind: ip_filter, config: {deny: [10.0.0.0/8]}}, ";
    let proxy = Proxy::start(&format!(
        "listeners: [{{name: web, bind: '127.0.0.1:0', trusted_proxies: [127.0.0.1/32]}}]\n{}",
        route(&service, before, "")
    ));

    let first = proxy.get("/a");
    let second = proxy.get("/a");
    let refused = proxy.ask("GET", "/a", "x-forwarded-for: 10.1.1.1\r\n");

    assert_eq!(
        (first.header("x-edge"), second.header("x-edge")),
        (Some("one"), Some("one"))
    );
    assert_eq!((refused.status, service.requests()), (403, 1));
}

#[test]
fn conditions_ranges_and_head_are_answered_from_the_store() {
    let service = counting(&[("etag", "\"v1\""), ("content-type", "text/plain")]);
    let proxy = cached(&service);
    assert_eq!(proxy.get("/a").text(), "answer 1");

    let same = proxy.ask("GET", "/a", "if-none-match: W/\"v1\", \"v0\"\r\n");
    let part = proxy.ask("GET", "/a", "range: bytes=2-4\r\n");
    let end = proxy.ask("GET", "/a", "range: bytes=-1\r\n");
    let parts = proxy.ask("GET", "/a", "range: bytes=0-0,7-7\r\n");
    let beyond = proxy.ask("GET", "/a", "range: bytes=99-\r\n");
    let weak = proxy.ask("GET", "/a", "range: bytes=2-4\r\nif-range: W/\"v1\"\r\n");
    let head = proxy.ask("HEAD", "/a", "");

    assert_eq!(
        (same.status, same.header("etag"), same.body.len()),
        (304, Some("\"v1\""), 0)
    );
    assert_eq!((part.status, &*part.text()), (206, "swe"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/8"));
    assert_eq!((end.status, &*end.text()), (206, "1"));
    assert_eq!(parts.status, 206);
    assert!(parts
        .header("content-type")
        .is_some_and(|it| it.starts_with("multipart/byteranges")));
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some("bytes */8"))
    );
    assert_eq!((weak.status, weak.text().len()), (200, 8));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("8"))
    );
    assert_eq!(service.requests(), 1);
}

#[test]
fn ranges_and_head_take_only_what_is_there() {
    let service = Upstream::with(|seen, stream| match seen.header("range") {
        Some(_) => answer(
            stream,
            206,
            &[
                ("content-range", "bytes 0-0/9"),
                ("cache-control", "max-age=9"),
            ],
            b"x",
        ),
        None if seen.method == "HEAD" => stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ncache-control: max-age=9\r\n\r\n")
            .map(|()| true),
        None => answer(stream, 200, &[("cache-control", "max-age=9")], b"all of it"),
    });
    let proxy = cached(&service);

    let part = proxy.ask("GET", "/a", "range: bytes=0-0\r\n");
    let head = proxy.ask("HEAD", "/a", "");
    let all = proxy.get("/a");

    assert_eq!((part.status, &*part.text()), (206, "x"));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("9"))
    );
    assert_eq!((all.status, &*all.text()), (200, "all of it"));
    let methods: Vec<String> = service.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["GET", "HEAD", "GET"]);
}

#[test]
fn a_stale_response_is_confirmed_by_the_service() {
    let service = Upstream::with(|seen, stream| {
        match seen.header("if-none-match") {
        Some(_) => stream
            .write_all(b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\ncache-control: max-age=3600\r\nx-new: 1\r\n\r\n")
            .map(|()| true),
        None => answer(stream, 200, &[("etag", "\"v1\""), ("cache-control", "max-age=0"), ("x-new", "0")], b"kept"),
    }
    });
    let proxy = cached(&service);

    let replies = [proxy.get("/a"), proxy.get("/a"), proxy.get("/a")];

    let bodies: Vec<String> = replies.iter().map(Reply::text).collect();
    assert_eq!(bodies, ["kept", "kept", "kept"]);
    assert!(
        status(&replies[1]).contains("; fwd=stale; fwd-status=304; stored"),
        "{}",
        status(&replies[1])
    );
    assert!(
        status(&replies[2]).contains("; hit"),
        "{}",
        status(&replies[2])
    );
    assert_eq!(replies[2].header("x-new"), Some("1"));
    assert_eq!(service.requests(), 2);
    proxy.logged(|line| line["cache"] == "revalidated");
}

#[test]
fn what_is_one_clients_own_is_fetched_for_each() {
    for fields in [
        &[("set-cookie", "a=b")][..],
        &[("cache-control", "private, max-age=60")],
        &[("cache-control", "no-store")],
        &[("vary", "*")],
    ] {
        let service = counting(fields);
        let proxy = cached(&service);

        let (first, second) = (proxy.get("/a"), proxy.get("/a"));

        assert_eq!(
            (first.text(), second.text()),
            ("answer 1".into(), "answer 2".into()),
            "{fields:?}"
        );
    }
}

#[test]
fn authenticated_responses_are_shared_only_where_they_say_so() {
    let service = counting(&[]);
    let public = counting(&[("cache-control", "public, max-age=60")]);
    let ask = |proxy: &Proxy| proxy.ask("GET", "/a", "authorization: Bearer x\r\n").text();

    let own = cached(&service);
    assert_eq!(
        (ask(&own), ask(&own), own.get("/a").text()),
        ("answer 1".into(), "answer 2".into(), "answer 3".into())
    );
    let shared = cached(&public);
    assert_eq!(
        (ask(&shared), shared.get("/a").text()),
        ("answer 1".into(), "answer 1".into())
    );
}

#[test]
fn vary_gives_each_kind_of_request_its_own() {
    let count = AtomicUsize::new(0);
    let service = Upstream::with(move |seen, stream| {
        count.fetch_add(1, SeqCst);
        let language = seen.header("accept-language").unwrap_or("none").to_owned();
        let fields = [("vary", "Accept-Language"), ("cache-control", "max-age=60")];
        answer(stream, 200, &fields, language.as_bytes())
    });
    let proxy = cached(&service);
    let ask = |language: &str| proxy.ask("GET", "/a", &format!("accept-language: {language}\r\n"));

    for language in ["fr", "de", "fr", "de"] {
        assert_eq!(ask(language).text(), language);
    }

    assert_eq!(service.requests(), 2);
    assert!(status(&ask("en")).contains("fwd=vary-miss"));
}

/// Holds requests back until it is opened.
#[derive(Default)]
pub(crate) struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub(crate) fn wait(&self) {
        let mut open = self.0.lock().unwrap();
        while !*open {
            open = self.1.wait(open).unwrap();
        }
    }

    pub(crate) fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// A service that answers once the gate is open.
fn gated(gate: &Arc<Gate>, fields: &'static [(&'static str, &'static str)]) -> Upstream {
    let gate = gate.clone();
    Upstream::with(move |_, stream| {
        gate.wait();
        answer(stream, 200, fields, b"slow")
    })
}

#[test]
fn one_request_fetches_and_the_others_wait_for_it() {
    let gate = Arc::<Gate>::default();
    let service = gated(&gate, &[("cache-control", "max-age=60")]);
    let proxy = with(&service, "", "collapse: 1m");
    let address = proxy.address("web");
    let ask = || crate::support::Conn::open(address).ask("GET /a HTTP/1.1\r\nhost: test\r\n\r\n");

    std::thread::scope(|scope| {
        let first = scope.spawn(ask);
        until("the first arrives", || {
            (service.requests() == 1).then_some(())
        });
        let others: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        let waiting = "windrose_requests_in_flight";
        until("all are under way", || {
            (proxy.metric(waiting, &[]) >= 21.0).then_some(())
        });
        gate.open();
        assert_eq!(first.join().unwrap().text(), "slow");
        for other in others {
            let reply = other.join().unwrap();
            assert_eq!(reply.text(), "slow");
            assert!(status(&reply).contains("hit"), "{}", status(&reply));
        }
    });

    assert_eq!(service.requests(), 1);
}

#[test]
fn who_waited_long_enough_fetches_for_himself() {
    let gate = Arc::<Gate>::default();
    let service = gated(&gate, &[("cache-control", "max-age=60")]);
    let proxy = with(&service, "", "collapse: 50ms");
    let address = proxy.address("web");
    let ask = || crate::support::Conn::open(address).ask("GET /a HTTP/1.1\r\nhost: test\r\n\r\n");

    std::thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        until("all arrive", || (service.requests() == 3).then_some(()));
        gate.open();
        for one in all {
            assert_eq!(one.join().unwrap().text(), "slow");
        }
    });
}

#[test]
fn requests_for_what_is_not_kept_do_not_wait_for_each_other() {
    let gate = Arc::<Gate>::default();
    let service = gated(&gate, &[("cache-control", "no-store")]);
    let proxy = cached(&service);
    gate.open();
    proxy.get("/a");
    *gate.0.lock().unwrap() = false;
    let address = proxy.address("web");
    let ask = || crate::support::Conn::open(address).ask("GET /a HTTP/1.1\r\nhost: test\r\n\r\n");

    std::thread::scope(|scope| {
        let all: Vec<_> = (0..5).map(|_| scope.spawn(ask)).collect();
        until("all arrive at once", || {
            (service.requests() == 6).then_some(())
        });
        gate.open();
        for one in all {
            assert_eq!(one.join().unwrap().status, 200);
        }
    });
}

#[test]
fn a_fetch_whose_client_left_is_taken_over_by_who_waits() {
    let gate = Arc::<Gate>::default();
    let service = gated(&gate, &[("cache-control", "max-age=60")]);
    let proxy = with(&service, "", "collapse: 1m");
    let address = proxy.address("web");
    let mut first = proxy.connect();
    first.send("GET /a HTTP/1.1\r\nhost: test\r\n\r\n");
    until("the first arrives", || {
        (service.requests() == 1).then_some(())
    });

    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            crate::support::Conn::open(address).ask("GET /a HTTP/1.1\r\nhost: test\r\n\r\n")
        });
        drop(first);
        until("the second arrives", || {
            (service.requests() == 2).then_some(())
        });
        gate.open();
        assert_eq!(second.join().unwrap().text(), "slow");
    });

    assert!(status(&proxy.get("/a")).contains("hit"));
}

/// A service that can be told to fail.
pub(crate) fn failing(
    failure: Failure,
    fields: &'static [(&'static str, &'static str)],
) -> (Upstream, Arc<AtomicBool>) {
    let fails = Arc::<AtomicBool>::default();
    let told = fails.clone();
    let service = Upstream::with(move |_, stream| match (told.load(SeqCst), failure) {
        (false, _) => answer(stream, 200, fields, b"good"),
        (true, Failure::Closes) => Ok(false),
        (true, Failure::Answers(status)) => answer(stream, status, &[], b"bad"),
    });
    (service, fails)
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Closes,
    Answers(u16),
}

#[test]
fn a_stale_response_stands_in_for_a_failure() {
    for failure in [
        Failure::Closes,
        Failure::Answers(503),
        Failure::Answers(500),
    ] {
        let says = &[("cache-control", "max-age=0, stale-if-error=600")];
        let (service, fails) = failing(failure, says);
        let proxy = cached(&service);
        assert_eq!(proxy.get("/a").text(), "good");
        fails.store(true, SeqCst);

        let reply = proxy.get("/a");

        assert_eq!((reply.status, &*reply.text()), (200, "good"), "{failure:?}");
        assert!(
            status(&reply).contains("; hit; ttl=")
                && status(&reply).ends_with("detail=stale_if_error"),
            "{}",
            status(&reply)
        );
        let line = proxy.logged(|line| line["cache"] == "stale_error");
        assert_eq!(line["why"], serde_json::Value::Null);
        let strange = proxy.get("/b");
        assert!(strange.status >= 500, "{}", strange.status);
    }
}

#[test]
fn nothing_stands_in_where_the_response_forbids_it_or_the_client_errs() {
    let says = &[
        (
            "cache-control",
            "max-age=0, must-revalidate, stale-if-error=600",
        ),
        ("etag", "\"a\""),
    ];
    let (strict, fails) = failing(Failure::Answers(503), says);
    let proxy = cached(&strict);
    proxy.get("/a");
    fails.store(true, SeqCst);
    assert_eq!(proxy.get("/a").status, 503);

    let says = &[("cache-control", "max-age=0, stale-if-error=600")];
    let (gone, fails) = failing(Failure::Answers(404), says);
    let proxy = cached(&gone);
    proxy.get("/a");
    fails.store(true, SeqCst);
    assert_eq!(proxy.get("/a").status, 404);
}

#[test]
fn a_stale_response_answers_while_it_is_fetched_anew() {
    let count = AtomicUsize::new(0);
    let service = Upstream::with(move |_, stream| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let life = if number == 1 { 0 } else { 3600 };
        let says = format!("max-age={life}, stale-while-revalidate=600");
        answer(
            stream,
            200,
            &[("cache-control", &says)],
            format!("answer {number}").as_bytes(),
        )
    });
    let proxy = cached(&service);
    assert_eq!(proxy.get("/a").text(), "answer 1");

    let stale = proxy.get("/a");
    until("the fetch beside it", || {
        (service.requests() == 2).then_some(())
    });
    let fresh = until("the new one is stored", || {
        let reply = proxy.get("/a");
        (reply.text() == "answer 2").then_some(reply)
    });

    assert_eq!(stale.text(), "answer 1");
    assert!(status(&stale).contains("; hit; ttl="), "{}", status(&stale));
    assert!(
        status(&fresh).contains("; hit; ttl=3"),
        "{}",
        status(&fresh)
    );
    assert_eq!(service.requests(), 2);
    proxy.logged(|line| line["cache"] == "stale");
}

#[test]
fn a_request_that_writes_takes_its_target_out() {
    let service = counting(&[("location", "/b")]);
    let proxy = cached(&service);
    let stored = |target: &str| status(&proxy.get(target)).contains("hit");
    for target in ["/a", "/b", "/c"] {
        assert!(!stored(target) && stored(target));
    }

    let written = proxy.ask("POST", "/a", "content-length: 0\r\n");

    assert_eq!(status(&written), "windrose; fwd=method");
    assert!(!stored("/a") && !stored("/b") && stored("/c"));
}

#[test]
fn a_failed_write_takes_nothing_out() {
    let service = Upstream::with(|seen, stream| match &*seen.method {
        "POST" => answer(stream, 500, &[], b""),
        _ => answer(stream, 200, &[("cache-control", "max-age=60")], b"kept"),
    });
    let proxy = cached(&service);
    proxy.get("/a");

    assert_eq!(proxy.ask("POST", "/a", "content-length: 0\r\n").status, 500);

    assert!(status(&proxy.get("/a")).contains("hit"));
}

#[test]
fn responses_larger_than_the_bound_pass_through_whole() {
    let service = Upstream::with(|seen, stream| {
        let body = vec![b'x'; 3 << 20];
        if seen.target == "/length" {
            return answer(stream, 200, &[("cache-control", "max-age=60")], &body);
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        for piece in body.chunks(64 << 10) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n").map(|()| true)
    });
    let proxy = with(&service, "", "object: 1MiB");

    for target in ["/length", "/chunks"] {
        let (first, second) = (proxy.get(target), proxy.get(target));
        assert_eq!((first.body.len(), second.body.len()), (3 << 20, 3 << 20));
        assert!(!status(&second).contains("hit"), "{}", status(&second));
    }
    assert_eq!(service.requests(), 4);
}

#[test]
fn a_response_that_breaks_off_is_not_kept() {
    let service = Upstream::raw(
        b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 100\r\n\r\npart",
    );
    let proxy = cached(&service);

    for _ in 0..2 {
        let mut conn = proxy.connect();
        conn.send("GET /a HTTP/1.1\r\nhost: test\r\n\r\n");
        assert!(conn.reply().is_err());
    }

    assert_eq!(service.requests(), 2);
}

#[test]
fn only_if_cached_has_a_cause_of_its_own() {
    let service = counting(&[]);
    let proxy = cached(&service);
    let only = "cache-control: only-if-cached\r\n";

    let missing = proxy.ask("GET", "/a", only);
    proxy.get("/a");
    let there = proxy.ask("GET", "/a", only);

    assert_eq!(
        (missing.status, &*missing.why()),
        (504, "response_cache.not_stored")
    );
    assert_eq!((there.status, service.requests()), (200, 1));
}

#[test]
fn what_is_not_in_the_key_poisons_nobody() {
    let service = Upstream::with(|seen, stream| {
        let body = format!("{}{}", seen.raw, String::from_utf8_lossy(&seen.body));
        answer(
            stream,
            200,
            &[("cache-control", "max-age=60")],
            body.as_bytes(),
        )
    });
    let proxy = with(&service, "", "query: {except: [utm]}");
    let clean = |reply: &Reply| !reply.text().contains("evil");

    // Each of these would be answered with `evil` in it, were it let through into the shared answer.
    for (target, fields) in [
        ("/a", "x-forwarded-host: evil.test\r\n"),
        ("/a", "x-forwarded-for: evil\r\n"),
        ("/a", "x-original-url: /evil\r\n"),
        ("/a", "x-rewrite-url: /evil\r\n"),
        ("/a", "x-http-method-override: evil\r\n"),
        ("/a", "x_forwarded_host: evil.test\r\n"),
        ("/a?utm=evil", ""),
        ("/a?%75tm=evil", ""),
        ("/a", "x-host: evil.test\r\n"),
        ("/a", "content-length: 4\r\n\r\nevil"),
    ] {
        proxy.ask("GET", target, fields);
        let after = proxy.get("/a");
        assert!(clean(&after), "{target} {fields}: {}", after.text());
    }
    // Other hosts, ports and spellings of paths have entries of their own, or meet the same one.
    let other = proxy.ask("GET", "/a", "host: evil.test\r\n");
    let port = proxy.ask("GET", "/a", "host: test:6666\r\n");
    assert!(!clean(&other) && clean(&proxy.get("/a")));
    assert!(port.text().contains("6666") && !proxy.get("/a").text().contains("6666"));
    let before = service.requests();
    for same in ["/x/../a", "/%61", "//a", "/./a"] {
        assert!(status(&proxy.get(same)).contains("hit"), "{same}");
    }
    assert_eq!(service.requests(), before);
}

#[test]
fn a_place_in_the_pool_is_taken_only_by_who_needs_it() {
    let gate = Arc::<Gate>::default();
    let waits = gate.clone();
    let service = Upstream::with(move |seen, stream| {
        if seen.target == "/slow" {
            waits.wait();
        }
        answer(stream, 200, &[("cache-control", "max-age=60")], b"ok")
    });
    let yaml =
        route(&service, "", "").replace("- name: app\n", "- name: app\n  limits: {requests: 1}\n");
    let proxy = Proxy::http(&yaml);
    assert_eq!(proxy.get("/a").status, 200);
    let mut slow = proxy.connect();
    slow.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    until("it holds the place", || {
        (service.requests() == 2).then_some(())
    });

    let (stored, other) = (proxy.get("/a"), proxy.get("/b"));

    assert_eq!(stored.status, 200);
    assert_eq!((other.status, &*other.why()), (503, "pool_overloaded"));
    gate.open();
    assert_eq!(slow.reply().unwrap().status, 200);
}
