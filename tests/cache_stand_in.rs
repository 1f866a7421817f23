//! What stands in for what: stale responses where the service cannot be asked, and a plugin's answer where a response is stored.
//! It must not know how the store works; the plugin's own tests do.
//! Part of the test binary.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;

use crate::cache::{cached, failing, route, status, Failure, Gate};
use crate::support::upstream::answer;
use crate::support::wait::until;
use crate::support::{Conn, Proxy, Upstream};

/// A proxy whose pool has one place, and the request that holds it until the gate opens. `/a` was fetched before, and is stale.
fn full(limits: &str, says: &'static str) -> (Proxy, Conn, Arc<Gate>, Upstream) {
    let gate = Arc::<Gate>::default();
    let waits = gate.clone();
    let service = Upstream::with(move |seen, stream| {
        if seen.target == "/slow" {
            waits.wait();
        }
        answer(stream, 200, &[("cache-control", says)], b"good")
    });
    let pool = format!("- name: app\n  limits: {{requests: 1{limits}}}\n");
    let proxy = Proxy::http(&route(&service, "", "").replace("- name: app\n", &pool));
    assert_eq!(proxy.get("/a").status, 200);
    until("the place is given back", || {
        (proxy.pool("app")["limits"]["in_flight"] == 0).then_some(())
    });
    let mut slow = proxy.connect();
    slow.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    until("it holds the place", || {
        (service.requests() == 2).then_some(())
    });
    (proxy, slow, gate, service)
}

#[test]
fn a_stale_response_stands_in_where_the_pool_is_full() {
    for limits in ["", ", pending: 1, queue_timeout: 50ms"] {
        let (proxy, mut slow, gate, service) = full(limits, "max-age=0, stale-if-error=600");

        let (stale, strange) = (proxy.get("/a"), proxy.get("/b"));
        let head = proxy.ask("HEAD", "/a", "");

        assert_eq!((stale.status, &*stale.text()), (200, "good"), "{limits}");
        assert!(
            status(&stale).contains("; hit; ttl=")
                && status(&stale).ends_with("detail=stale_if_error"),
            "{}",
            status(&stale)
        );
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("4"))
        );
        assert_eq!(
            strange.status, 503,
            "nothing stands in for what was never stored"
        );
        let line = proxy.logged(|line| line["cache"] == "stale_error");
        assert_eq!(line["why"], serde_json::Value::Null);
        assert_eq!(line["status"], 200);
        assert_eq!(service.requests(), 2);
        gate.open();
        assert_eq!(slow.reply().unwrap().status, 200);
        assert_eq!(proxy.get("/a").status, 200);
        assert_eq!(
            service.requests(),
            3,
            "there is room again, and it is asked"
        );
    }
}

#[test]
fn nothing_stands_in_for_a_full_pool_where_the_response_forbids_it() {
    let says = "max-age=0, must-revalidate, stale-if-error=600";
    let (proxy, mut slow, gate, _service) = full("", says);

    let refused = proxy.get("/a");

    assert_eq!((refused.status, &*refused.why()), (503, "pool_overloaded"));
    gate.open();
    assert_eq!(slow.reply().unwrap().status, 200);
}

#[test]
fn a_stale_response_stands_in_where_no_endpoint_is_left() {
    let says = &[("cache-control", "max-age=0, stale-if-error=600")];
    let (service, fails) = failing(Failure::Closes, says);
    let ejecting = "- name: app\n  ejection: {consecutive_failures: 1, base_time: 60s, max_ejected: 100%}\n  balance: {panic_threshold: 0%}\n";
    let proxy = Proxy::http(&route(&service, "", "").replace("- name: app\n", ejecting));
    assert_eq!(proxy.get("/a").text(), "good");
    fails.store(true, SeqCst);
    assert!(proxy.get("/b").status >= 500);

    let (stale, strange) = (proxy.get("/a"), proxy.get("/b"));

    assert_eq!((stale.status, &*stale.text()), (200, "good"));
    assert!(
        status(&stale).ends_with("detail=stale_if_error"),
        "{}",
        status(&stale)
    );
    assert!(strange.status >= 500, "{}", strange.status);
}

#[test]
fn a_plugin_answers_whole_in_the_place_of_a_stored_response() {
    let service = Upstream::with(|seen, stream| {
        let body: &[u8] = match &*seen.target {
            "/small" => b"ok",
            _ => b"too large",
        };
        let says = [
            ("cache-control", "max-age=3600"),
            ("etag", "\"v1\""),
            ("x-own", "1"),
        ];
        answer(stream, 200, &says, body)
    });
    let proxy = cached(&service);
    assert_eq!(proxy.get("/small").text(), "ok");
    assert_eq!(proxy.get("/large").text(), "too large");
    let asked = service.requests();
    let limit = "config: {}}, {kind: body_limit, config: {max_response: 4B}}]";
    let limited = route(&service, "", "").replace("config: {}}]", limit);
    let web = "listeners: [{name: web, bind: '127.0.0.1:0'}]\n";
    let outcome = proxy.reload(&format!("{web}{limited}"));
    assert_eq!(outcome["ok"], true, "{outcome}");

    for fields in [
        "",
        "range: bytes=0-7\r\n",
        "range: bytes=0-3,2-8\r\n",
        "accept: application/json\r\n",
    ] {
        let reply = proxy.ask("GET", "/large", fields);

        let about = format!("{fields}: {reply:?}");
        assert_eq!(
            (reply.status, &*reply.why()),
            (502, "body_limit.response"),
            "{about}"
        );
        let length = reply.header("content-length");
        let length = length.and_then(|it| it.parse().ok());
        assert_eq!(length, Some(reply.body.len()), "{about}");
        let stored = ["x-own", "etag", "content-range"];
        assert!(
            stored.iter().all(|name| reply.header(name).is_none()),
            "{about}"
        );
        assert!(!reply.text().contains("too large"), "{about}");
    }
    let head = proxy.ask("HEAD", "/large", "");
    let same = proxy.ask("GET", "/large", "if-none-match: \"v1\"\r\n");
    let part = proxy.ask("GET", "/large", "range: bytes=0-3\r\n");
    let small = proxy.get("/small");

    // What has no body is not above the limit, as without a cache.
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!((part.status, &*part.text()), (206, "too "));
    assert_eq!((small.status, &*small.text()), (200, "ok"));
    assert_eq!(service.requests(), asked);
}
