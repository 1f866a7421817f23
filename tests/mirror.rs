//! Copies of requests to another pool: what they carry, what is compared, and that the request itself never suffers.
//! It must not know how copies are gathered; only what both services and the client see.
//! Part of the test binary.

use serde_json::Value;

use crate::support::grpc::{call, Client};
use crate::support::upstream::answer;
use crate::support::{frame, run, until, Grpc, Proxy, Upstream, WebSocket};

/// A proxy that sends to one service and mirrors to another.
struct Scene {
    proxy: Proxy,
    primary: Upstream,
    mirror: Upstream,
}

impl Scene {
    fn new(primary: Upstream, mirror: Upstream, settings: &str) -> Scene {
        let proxy = Proxy::http(&format!(
            "pools:\n- {{name: app, endpoints: ['{}']}}\n- {{name: next, endpoints: ['{}']}}\n{}",
            primary.address,
            mirror.address,
            routes(settings)
        ));
        Scene {
            proxy,
            primary,
            mirror,
        }
    }

    fn came_to(&self, result: &str) -> f64 {
        came_to(&self.proxy, result)
    }

    fn until_came_to(&self, result: &str, count: f64) {
        until(result, || (self.came_to(result) == count).then_some(()));
    }

    fn compared(&self, result: &str) -> f64 {
        let result = format!("result=\"{result}\"");
        let marks = ["route=\"all\"", "pool=\"next\"", &*result];
        self.proxy.metric("windrose_mirror_compared_total", &marks)
    }

    fn view(&self) -> Value {
        self.proxy.admin("/mirrors")["mirrors"][0].clone()
    }
}

fn routes(settings: &str) -> String {
    format!(
        "routes:\n- name: all\n  rules:\n  - pool: app\n    mirror: [{{pool: next, {settings}}}]\n"
    )
}

fn came_to(proxy: &Proxy, result: &str) -> f64 {
    let result = format!("result=\"{result}\"");
    proxy.metric("windrose_mirror_requests_total", &[&result])
}

fn ok(text: &str) -> Upstream {
    Upstream::answering(text)
}

#[test]
fn a_copy_is_what_the_endpoint_got_and_a_mark() {
    let scene = Scene::new(ok("own"), ok("copy"), "percent: 100%");

    let mut conn = scene.proxy.connect();
    let fields = "host: shop.test\r\nx-a: 1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let long = conn.ask(format!(
        "POST /a?b=1 HTTP/1.1\r\n{fields}content-length: 3\r\n\r\nabc"
    ));
    scene.until_came_to("answered", 1.0);
    let (own, copy) = (scene.primary.last(), scene.mirror.last());
    conn.ask("PUT / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n");
    scene.until_came_to("answered", 2.0);
    let chunked = scene.mirror.last();

    assert_eq!((long.status, &*long.text()), (200, "own"));
    assert_eq!(copy.header("x-windrose-mirror"), Some("all"));
    assert_eq!(own.header("x-windrose-mirror"), None);
    for name in [
        "host",
        "x-a",
        "x-request-id",
        "x-forwarded-for",
        "traceparent",
    ] {
        assert_eq!(copy.header(name), own.header(name), "{name}");
    }
    assert_eq!(
        (&*copy.method, &*copy.target, &*copy.body),
        ("POST", "/a?b=1", &b"abc"[..])
    );
    assert_eq!((&*chunked.method, &*chunked.body), ("PUT", &b"xyz"[..]));
    let attempts = scene
        .proxy
        .metric("windrose_pool_attempts_total", &["pool=\"next\""]);
    assert_eq!(attempts, 0.0, "copies are counted under their own metric");
}

#[test]
fn a_mirror_that_hangs_holds_nobody_up_and_what_waits_is_bounded() {
    let settings = "percent: 100%, timeout: 5m, concurrency: 1, queue: 1";
    let scene = Scene::new(ok("own"), Upstream::silent(), settings);

    let replies: Vec<u16> = (0..6).map(|_| scene.proxy.get("/").status).collect();

    assert_eq!(replies, [200; 6]);
    scene.until_came_to("queue_full", 4.0);
    let view = scene.view();
    assert_eq!(
        (&view["under_way"], &view["waiting"]),
        (&1.into(), &1.into())
    );
    assert_eq!(view["requests"]["queue_full"], 4);
    until("the first copy has come", || {
        (scene.mirror.requests() == 1).then_some(())
    });
    scene.mirror.drop_connections();
    until("the one that waited has its turn", || {
        (scene.mirror.requests() == 2).then_some(())
    });
    scene.until_came_to("failed", 1.0);
}

#[test]
fn a_copy_has_only_its_time() {
    let scene = Scene::new(
        ok("own"),
        Upstream::silent(),
        "percent: 100%, timeout: 50ms",
    );

    let reply = scene.proxy.get("/");

    assert_eq!(reply.text(), "own");
    scene.until_came_to("timed_out", 1.0);
    until("its place is free again", || {
        (scene.view()["under_way"] == 0).then_some(())
    });
}

#[test]
fn a_mirror_that_is_down_is_counted_and_not_ejected() {
    let scene = Scene::new(ok("own"), Upstream::refusing(), "percent: 100%");
    let mut conn = scene.proxy.connect();

    for _ in 0..10 {
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n").status, 200);
    }

    scene.until_came_to("failed", 10.0);
    let ejections = scene.proxy.metric("windrose_endpoint_ejections_total", &[]);
    assert_eq!(ejections.abs(), 0.0);
    assert!(scene.proxy.logged(|line| line["status"] == 200)["why"].is_null());
}

#[test]
fn a_long_body_reaches_the_endpoint_and_not_the_mirror() {
    let scene = Scene::new(
        Upstream::echo(),
        ok("copy"),
        "percent: 100%, body_limit: 10B",
    );
    let mut conn = scene.proxy.connect();
    let long = "x".repeat(3 << 20);

    let declared = conn.ask(format!(
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{long}",
        long.len()
    ));
    let mut other = scene.proxy.connect();
    let chunked = other.ask("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n");
    let mut third = scene.proxy.connect();
    let fits = third.ask("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n0123456789");

    assert_eq!(declared.json()["length"], long.len());
    assert_eq!(chunked.json()["length"], 11);
    assert_eq!(fits.json()["length"], 10);
    scene.until_came_to("answered", 1.0);
    assert_eq!(scene.came_to("body_too_large"), 2.0);
    assert_eq!(scene.mirror.requests(), 1);
}

#[test]
fn a_retried_request_is_copied_once() {
    let settings = "percent: 100%";
    let (bad, good) = (Upstream::closing(), Upstream::echo());
    let mirror = ok("copy");
    let proxy = Proxy::http(&format!(
        "pools:\n- {{name: app, balance: {{algorithm: round_robin}}, endpoints: ['{}', '{}']}}\n- {{name: next, endpoints: ['{}']}}\n{}",
        bad.address,
        good.address,
        mirror.address,
        routes(settings)
    ));
    let mut conn = proxy.connect();

    for _ in 0..4 {
        let reply = conn.ask("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc");
        assert_eq!(reply.json()["body"], "abc");
    }

    until("all copies are answered", || {
        (came_to(&proxy, "answered") == 4.0).then_some(())
    });
    assert!(bad.requests() > 0);
    assert_eq!(mirror.requests(), 4);
}

#[test]
fn what_was_refused_before_an_endpoint_was_connected_is_not_mirrored() {
    let (dead, mirror) = (Upstream::refusing(), ok("copy"));
    let (proxy, _live) = beside(&dead, &mirror);

    let refused = proxy.get("/");
    assert_eq!(refused.why(), "connect_refused");
    assert_eq!(proxy.get("/live").status, 200);

    only_the_last_was_copied(&proxy, &mirror, "/live");
}

/// A proxy that sends to this service, and to one that answers what comes to `/live`; it mirrors both.
fn beside(service: &Upstream, mirror: &Upstream) -> (Proxy, Upstream) {
    let live = ok("own");
    let pools = [("app", service), ("live", &live), ("next", mirror)];
    let pools =
        pools.map(|(name, it)| format!("- {{name: {name}, endpoints: ['{}']}}\n", it.address));
    let copies = "mirror: [{pool: next, percent: 100%}]";
    let proxy = Proxy::http(&format!(
        "pools:\n{}routes:\n- name: all\n  rules:\n  - {{match: [{{path: {{exact: /live}}}}], pool: live, {copies}}}\n  - {{pool: app, {copies}}}\n",
        pools.concat()
    ));
    (proxy, live)
}

/// Copies are sent in order: with that of a later request there, one of those before would be too.
fn only_the_last_was_copied(proxy: &Proxy, mirror: &Upstream, target: &str) {
    until("the copy is answered", || {
        (came_to(proxy, "answered") >= 1.0).then_some(())
    });
    assert_eq!(mirror.last().target, target);
    assert_eq!(mirror.requests(), 1);
    assert_eq!(proxy.metric("windrose_mirror_requests_total", &[]), 1.0);
}

#[test]
fn upgrades_and_copies_of_copies_are_not_mirrored() {
    let (service, mirror) = (WebSocket::service(), ok("copy"));
    let (proxy, _live) = beside(&service, &mirror);
    let mut socket = WebSocket::open(proxy.address("web"), "/chat");
    assert_eq!(socket.talk("one").as_deref(), Some("one"));
    drop(socket);
    let echo = Scene::new(Upstream::echo(), ok("copy"), "percent: 100%");

    let copy = echo.proxy.ask("GET", "/", "x-windrose-mirror: other\r\n");

    assert_eq!(copy.status, 200);
    assert_eq!(echo.primary.last().header("x-windrose-mirror"), None);
    proxy.get("/live");
    only_the_last_was_copied(&proxy, &mirror, "/live");
    echo.proxy.get("/last");
    only_the_last_was_copied(&echo.proxy, &echo.mirror, "/last");
}

#[test]
fn a_copy_takes_no_place_that_is_not_free_and_gives_its_own_to_who_waits() {
    let (own, silent) = (ok("own"), Upstream::silent());
    let proxy = Proxy::http(&format!(
        "pools:\n- {{name: app, endpoints: ['{}']}}\n- name: next\n  endpoints: ['{}']\n  limits: {{endpoint_requests: 1, pending: 1, queue_timeout: 5m}}\nroutes:\n- name: all\n  rules:\n  - {{match: [{{path: {{exact: /next}}}}], pool: next}}\n  - pool: app\n    mirror: [{{pool: next, percent: 100%, timeout: 5m}}]\n",
        own.address, silent.address
    ));
    proxy.get("/");
    until("a copy is under way", || {
        (silent.requests() == 1).then_some(())
    });

    assert_eq!(proxy.get("/").status, 200);
    until("a second one finds no place", || {
        (came_to(&proxy, "endpoints_full") == 1.0).then_some(())
    });
    let mut waiting = proxy.connect();
    waiting.send("GET /next HTTP/1.1\r\nhost: test\r\n\r\n");
    until("a request waits", || {
        (proxy.pool("next")["limits"]["waiting"] == 1).then_some(())
    });
    silent.drop_connections();

    until("it has the copy's place", || {
        (silent.requests() == 2).then_some(())
    });
    assert_eq!(silent.last().target, "/next");
}

#[test]
fn an_overloaded_process_makes_no_copies() {
    let (own, copy) = (ok("own"), ok("copy"));
    let proxy = Proxy::http(&format!(
        "pools:\n- {{name: app, endpoints: ['{}']}}\n- {{name: next, endpoints: ['{}']}}\nroutes:\n- name: all\n  priority: critical\n  rules:\n  - pool: app\n    mirror: [{{pool: next, percent: 100%}}]\noverload: {{lag: 0s, descriptors: 0%, memory: 1%, memory_limit: 64MiB}}\n",
        own.address, copy.address
    ));

    until("a copy is not made", || {
        assert_eq!(proxy.get("/").status, 200);
        (came_to(&proxy, "overloaded") >= 1.0).then_some(())
    });
    let before = copy.requests();
    assert_eq!(proxy.get("/").status, 200);
    assert!(came_to(&proxy, "overloaded") >= 2.0);
    assert_eq!(copy.requests(), before);
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let scene = Scene::new(
        ok("own"),
        ok("copy"),
        "percent: 50%, concurrency: 1000, queue: 1000",
    );
    let mut conn = scene.proxy.connect();

    for _ in 0..400 {
        conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    }

    until("no copy is under way", || {
        (scene.view()["under_way"] == 0).then_some(())
    });
    let copies = scene.came_to("answered");
    // Eight standard deviations of a fair coin.
    assert!((120.0..=280.0).contains(&copies), "{copies}");
    assert_eq!(scene.mirror.requests() as f64, copies);
}

/// A service that answers with this status and JSON.
fn json(status: u16, body: &'static str) -> Upstream {
    Upstream::with(move |_, stream| {
        let kind = [("content-type", "application/json")];
        answer(stream, status, &kind, body.as_bytes())
    })
}

#[test]
fn responses_are_compared_and_differences_are_shown_without_values() {
    let settings =
        "percent: 100%, compare: {headers: [content-type], body: json, ignore: [/meta/id]}";
    let own = || json(200, r#"{"price": 10, "meta": {"id": 1}}"#);
    for (mirror, result, what) in [
        (
            json(200, r#"{"meta": {"id": 2}, "price": 10}"#),
            "same",
            None,
        ),
        (json(500, "{}"), "status", Some("status 200, mirror 500")),
        (
            ok(r#"{"price": 10, "meta": {"id": 1}}"#),
            "headers",
            Some("header content-type: \"application/json\", mirror none"),
        ),
        (
            json(200, r#"{"price": 99, "meta": {"id": 2}}"#),
            "body",
            Some("body /price: another value"),
        ),
    ] {
        let scene = Scene::new(own(), mirror, settings);

        let reply = scene.proxy.get("/a?token=hush");

        assert_eq!(reply.status, 200, "{result}");
        until(result, || (scene.compared(result) == 1.0).then_some(()));
        let view = scene.view();
        assert_eq!(view["compared"][result], 1);
        let shown = &view["differences"][0];
        assert_eq!(shown["what"][0].as_str(), what, "{view}");
        if what.is_some() {
            let id = reply.header("x-request-id").unwrap();
            assert_eq!(
                (&shown["path"], &shown["request_id"]),
                (&"/a".into(), &id.into())
            );
        }
        let observed = scene.proxy.metric(
            "windrose_mirror_latency_difference_seconds_count",
            &["route=\"all\"", "pool=\"next\""],
        );
        assert_eq!(observed, 1.0);
    }
}

#[test]
fn a_comparison_that_cannot_be_made_says_why() {
    let settings = "percent: 100%, compare: {body: bytes, body_limit: 4B}";
    let long = Scene::new(ok("long body"), ok("long body"), settings);
    let dead = Scene::new(ok("own"), Upstream::closing(), settings);

    let replies = [&long, &dead].map(|scene| scene.proxy.get("/").status);

    assert_eq!(replies, [200, 200]);
    until("too large", || {
        (long.compared("too_large") == 1.0).then_some(())
    });
    until("no response", || {
        (dead.compared("mirror_failed") == 1.0).then_some(())
    });
}

#[tokio::test]
async fn a_grpc_call_is_copied_over_http2() {
    let (own, copy) = (Grpc::start(), Grpc::start());
    let proxy = Proxy::http(&format!(
        "pools:\n- {{name: app, protocol: http2, endpoints: ['{}']}}\n- {{name: next, protocol: http2, endpoints: ['{}']}}\n{}",
        own.address,
        copy.address,
        routes("percent: 100%, compare: {body: bytes}")
    ));
    let client = Client::connect(proxy.address("web")).await;

    let reply = client.ask(call("unary"), frame("hello")).await.unwrap();

    assert_eq!(reply.body, frame("hello"));
    until("the copy is answered", || {
        (came_to(&proxy, "answered") == 1.0).then_some(())
    });
    until("both said the same", || {
        let same = ["result=\"same\""];
        (proxy.metric("windrose_mirror_compared_total", &same) == 1.0).then_some(())
    });
}

#[test]
fn explain_and_the_view_of_routes_tell_mirrors() {
    let scene = Scene::new(ok("own"), ok("copy"), "percent: 0.1%, compare: {}");
    let config = scene.proxy.config();
    let words = ["explain", "--json", "-c", config.to_str().unwrap()];

    let output = run(&[&words[..], &["GET", "http://test/"]].concat());

    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let wanted = "next, chance 0.1 %, responses compared";
    assert_eq!(told["outcome"]["mirrors"][0], wanted);
    let rule = &scene.proxy.admin("/routes")["listeners"][0]["hosts"][0]["rules"][0];
    assert_eq!(rule["mirror"][0], wanted);
}
