//! Bodies of requests that a plugin wants to see whole before anything goes upstream: every size, protocol and way to end.
//! It must not know what plugins do with them; `body` lets everything through that is not JSON.
//! Part of the test binary.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::support::grpc::Client;
use crate::support::proxy::{pool, run, ALL_TO_APP, WEB};
use crate::support::{until, Conn, Grpc, Proxy, Upstream, WebSocket};

const MAX: usize = (1 << 20) + 100;

/// A plugin that wants bodies of up to [`MAX`] bytes, on the only route.
fn plugin() -> String {
    format!("  plugins: [{{kind: body, config: {{request: {{merge: {{by: gateway}}}}, max: {MAX}B}}}}]\n")
}

fn holding(upstreams: &[&Upstream], more: &str) -> Proxy {
    Proxy::start(&format!(
        "{WEB}{}{ALL_TO_APP}{}{more}",
        pool("app", upstreams),
        plugin()
    ))
}

/// Bytes that are nowhere the same for long.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Around what Pingora keeps, and around the bound.
const SIZES: [usize; 8] = [0, 1, 65_535, 65_536, 65_537, 1 << 20, MAX - 1, MAX];

fn with_length(conn: &mut Conn, body: &[u8]) -> u16 {
    let head = format!(
        "POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    conn.send(head).send(body);
    conn.reply().unwrap().status
}

fn in_chunks(conn: &mut Conn, body: &[u8], chunk: usize) -> u16 {
    conn.send("POST /x HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in body.chunks(chunk) {
        conn.send(format!("{:x}\r\n", piece.len()))
            .send(piece)
            .send("\r\n");
    }
    conn.send("0\r\n\r\n");
    conn.reply().unwrap().status
}

#[test]
fn bodies_of_every_size_arrive_whole_over_http1() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "");
    let mut conn = proxy.connect();
    for size in SIZES {
        let body = bytes(size);

        assert_eq!(with_length(&mut conn, &body), 200, "{size}");

        let seen = service.last();
        assert_eq!(
            (seen.length, seen.header("content-length")),
            (size, Some(&*size.to_string()))
        );
        assert!(seen.body == body[..seen.body.len()], "{size}");
        // Pingora closes a connection on which a body came in chunks.
        assert_eq!(
            in_chunks(&mut proxy.connect(), &body, 10_000),
            200,
            "{size}"
        );
        let seen = service.last();
        assert_eq!(seen.length, size);
        assert_eq!(seen.header("content-length"), Some(&*size.to_string()));
        assert_eq!(seen.header("transfer-encoding"), None);
        assert!(seen.body == body[..seen.body.len()], "{size}");
    }
    until("nothing is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 0.0).then_some(())
    });
    proxy.logged(|line| line["request_bytes"] == MAX);
}

#[test]
fn one_byte_more_is_refused_with_the_plugins_cause() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "");
    let body = bytes(MAX + 1);

    let head = format!(
        "POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
        MAX + 1
    );
    let mut conn = proxy.connect();
    conn.send(head);
    let announced = conn.reply().unwrap();
    let mut conn = proxy.connect();
    let chunked = in_chunks(&mut conn, &body, 50_000);

    assert_eq!(
        (announced.status, &*announced.why()),
        (413, "body.too_large")
    );
    assert_eq!(chunked, 413);
    assert_eq!(service.requests(), 0);
    until("nothing is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 0.0).then_some(())
    });
}

#[tokio::test]
async fn bodies_of_every_size_arrive_whole_over_http2() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "");
    let client = Client::connect(proxy.address("web")).await;
    for size in SIZES {
        let body = bytes(size);
        let request = Request::post("http://test/x").body(()).unwrap();

        let reply = client
            .ask(request, Bytes::from(body.clone()))
            .await
            .unwrap();

        assert_eq!(reply.head.status, 200, "{size}");
        let seen = service.last();
        assert_eq!((seen.length, seen.header("host")), (size, Some("test")));
        assert!(seen.body == body[..seen.body.len()], "{size}");
    }
    let request = Request::post("http://test/x").body(()).unwrap();
    let reply = client
        .ask(request, Bytes::from(bytes(MAX + 1)))
        .await
        .unwrap();
    assert_eq!(reply.head.status, 413);
}

#[tokio::test]
async fn an_http2_service_gets_them_as_well() {
    let service = Grpc::start();
    let proxy = Proxy::start(&format!(
        "{WEB}pools:\n- name: app\n  protocol: http2\n  endpoints: ['{}']\n{ALL_TO_APP}{}",
        service.address,
        plugin()
    ));
    for size in [0, 1, 65_537, MAX] {
        let body = bytes(size);
        let mut conn = proxy.connect();
        conn.send(format!(
            "POST /unary HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
        ));
        conn.send(&body);
        let reply = conn.reply().unwrap();
        assert_eq!(reply.status, 200, "{size}");
        assert!(reply.body == body, "{size}");

        let client = Client::connect(proxy.address("web")).await;
        let request = Request::post("http://other.test/unary").body(()).unwrap();
        let reply = client
            .ask(request, Bytes::from(body.clone()))
            .await
            .unwrap();
        assert_eq!(reply.head.status, 200, "{size}");
        assert!(reply.body == body, "{size}");
    }
}

#[test]
fn a_body_larger_than_pingora_keeps_goes_to_another_endpoint() {
    let (closing, dead, live) = (
        Upstream::closing(),
        Upstream::refusing(),
        Upstream::answering("ok"),
    );
    let retry = "    retry: {attempts: 3, on: [connect_failure, reset], methods: [POST]}\n    timeouts: {request: 20s}\n";
    let yaml = format!(
        "{WEB}{}{ALL_TO_APP}{retry}{}",
        pool("app", &[&closing, &dead, &live]).replace(
            "  endpoints:",
            "  balance: {algorithm: round_robin}\n  endpoints:"
        ),
        plugin()
    );
    let proxy = Proxy::start(&yaml);
    let body = bytes(1 << 20);
    for at in 0..6 {
        let status = match at % 2 {
            0 => with_length(&mut proxy.connect(), &body),
            _ => in_chunks(&mut proxy.connect(), &body, 100_000),
        };
        assert_eq!(status, 200, "{at}");
    }

    let seen = live.seen();
    assert_eq!(seen.len(), 6);
    assert!(seen
        .iter()
        .all(|one| one.length == 1 << 20 && one.body == body));
    assert!(closing.requests() > 0, "some were sent a second time");
}

#[test]
fn json_is_changed_and_its_length_with_it() {
    let service = Upstream::echo();
    let proxy = holding(&[&service], "");
    let post = |fields: &str, body: &str| {
        let mut conn = proxy.connect();
        conn.send(format!(
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{fields}\r\n{body}"
        ));
        conn.reply().unwrap()
    };

    let reply = post("content-length: 7\r\n", "{\"a\":1}");
    let changed = "{\"a\":1,\"by\":\"gateway\"}";
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["body"], changed);
    assert_eq!(
        service.last().header("content-length"),
        Some(&*changed.len().to_string())
    );

    let reply = post(
        "transfer-encoding: chunked\r\n",
        "7\r\n{\"a\":1}\r\n0\r\n\r\n",
    );
    assert_eq!(reply.json()["body"], changed);

    let reply = post("content-length: 1\r\n", "{");
    assert_eq!((reply.status, &*reply.why()), (400, "body.malformed"));

    let reply = post("content-length: 2\r\ncontent-encoding: gzip\r\n", "{}");
    assert_eq!(
        reply.json()["body"],
        "{}",
        "what is compressed is left alone"
    );
    assert_eq!(service.last().header("content-encoding"), Some("gzip"));
}

#[test]
fn a_client_that_waits_to_be_asked_is_asked() {
    let service = Upstream::echo();
    let proxy = holding(&[&service], "");
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let invitation = conn.any_head().unwrap();
    conn.send("hello");
    let reply = conn.reply().unwrap();

    assert_eq!((invitation.status, reply.status), (100, 200));
    assert_eq!(reply.json()["body"], "hello");
    assert_eq!(service.last().header("expect"), None);
}

#[test]
fn connections_are_kept_and_requests_without_a_body_go_on() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "");
    let mut conn = proxy.connect();
    for _ in 0..3 {
        assert_eq!(with_length(&mut conn, &bytes(100_000)), 200);
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n").status, 200);
    }
    assert_eq!(service.last().header("content-length"), None);
    let head = conn.ask("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(head.status, 200);
}

#[test]
fn a_websocket_is_not_read_as_a_body() {
    let service = WebSocket::service();
    let proxy = holding(&[&service], "");

    let mut socket = WebSocket::open(proxy.address("web"), "/ws");

    assert_eq!(socket.talk("hello").as_deref(), Some("hello"));
}

#[test]
fn a_slow_body_has_its_time_and_then_an_answer() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "limits: {held_body_time: 1s}\n");
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n12345");
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (408, "body_timeout"));
    assert_eq!(service.requests(), 0);
    until("nothing is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 0.0).then_some(())
    });
}

#[test]
fn a_client_that_leaves_takes_its_body_along() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "");
    let mut conn = proxy.connect();
    conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 500000\r\n\r\n");
    conn.send(bytes(300_000));
    until("some of it is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) > 0.0).then_some(())
    });

    drop(conn);

    until("nothing is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 0.0).then_some(())
    });
    proxy.logged(|line| line["why"] == "client_closed");
    assert_eq!(service.requests(), 0);
}

#[test]
fn all_bodies_together_are_bounded() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "limits: {held_bodies: 1MiB}\n");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut conn = proxy.connect();
        conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 300001\r\n\r\n");
        conn.send(bytes(300_000));
        waiting.push(conn);
    }
    until("three are held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 900_000.0).then_some(())
    });

    let mut conn = proxy.connect();
    conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 300000\r\n\r\n");
    conn.send(bytes(300_000));
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (503, "overloaded.bodies"));
    for mut conn in waiting {
        conn.send("x");
        assert_eq!(conn.reply().unwrap().status, 200);
    }
    assert_eq!(with_length(&mut proxy.connect(), &bytes(300_000)), 200);
}

#[test]
fn a_plugin_in_the_shadow_lets_larger_bodies_through_whole() {
    let service = Upstream::answering("ok");
    let shadow = "  plugins: [{kind: body, mode: shadow, config: {request: {merge: {by: gateway}}, max: 1000B}}]\n";
    let proxy = Proxy::start(&format!(
        "{WEB}{}{ALL_TO_APP}{shadow}",
        pool("app", &[&service])
    ));
    for size in [1_000, 1_001, 65_536, 300_000] {
        let body = bytes(size);

        assert_eq!(in_chunks(&mut proxy.connect(), &body, 7_000), 200, "{size}");

        let seen = service.last();
        assert_eq!(seen.length, size);
        assert!(seen.body == body, "{size}");
    }
    let counted = proxy.metric("windrose_plugin_events_total", &["event=\"would_answer\""]);
    assert_eq!(counted, 3.0);
}

#[test]
fn a_mirror_gets_the_body_that_goes_on() {
    let (service, mirror) = (Upstream::answering("ok"), Upstream::answering("copy"));
    let pools = format!(
        "{}- name: copy\n  endpoints: ['{}']\n",
        pool("app", &[&service]),
        mirror.address
    );
    let proxy = Proxy::start(&format!(
        "{WEB}{pools}routes:\n- name: all\n  rules:\n  - pool: app\n    mirror: [{{pool: copy, percent: 100%}}]\n{}",
        plugin()
    ));
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    assert_eq!(conn.reply().unwrap().status, 200);

    until("the copy came", || (mirror.requests() == 1).then_some(()));
    assert_eq!(mirror.last().body, b"{\"by\":\"gateway\"}");
    assert_eq!(service.last().body, b"{\"by\":\"gateway\"}");
}

#[test]
fn an_endpoint_that_answers_early_or_fails_leaves_a_connection_in_order() {
    let service =
        Upstream::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    let dead = Upstream::refusing();
    let proxy = holding(&[&service], "");
    let failing = holding(&[&dead], "");

    let mut conn = proxy.connect();
    for _ in 0..2 {
        assert_eq!(with_length(&mut conn, &bytes(200_000)), 200);
    }
    let mut conn = failing.connect();
    conn.send("POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc");
    let reply = conn.reply().unwrap();
    assert_eq!((reply.status, &*reply.why()), (502, "connect_refused"));
    assert!(conn.ends());
}

#[test]
fn a_listeners_plugin_sees_the_body_before_there_is_a_route() {
    let service = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "{}  plugins: [{{kind: body, config: {{request: {{merge: {{by: listener}}}}}}}}]\n{}{ALL_TO_APP}{}",
        WEB,
        pool("app", &[&service]),
        plugin().replace("by: gateway", "and: route")
    ));
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");

    assert_eq!(
        conn.reply().unwrap().json()["body"],
        "{\"and\":\"route\",\"by\":\"listener\"}"
    );
}

#[test]
fn dry_runs_give_the_same_body_to_the_same_plugin() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("w.yaml");
    let test = |body: &str, expect: &str| {
        format!("tests:\n- request: {{method: POST, url: 'http://test/', headers: {{content-type: application/json}}, body: '{body}'}}\n  expect: {{{expect}}}\n")
    };
    let check = |tests: &str| {
        let text = format!("{WEB}pools: [{{name: app, endpoints: ['127.0.0.1:1', '127.0.0.1:2']}}]\n{ALL_TO_APP}{}{tests}", plugin());
        std::fs::write(&path, text).unwrap();
        let done = run(&["check", "-c", path.to_str().unwrap()]);
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).into_owned()
                + &String::from_utf8_lossy(&done.stderr),
        )
    };

    let (good, said) = check(&test("{}", "pool: app, headers: {content-length: \"16\"}"));
    assert!(good, "{said}");
    let (good, said) = check(&test("{", "pool: app"));
    assert!(!good && said.contains("body.malformed"), "{said}");
    let (good, said) = check(&test("{", "status: 400"));
    assert!(good, "{said}");

    std::fs::write(folder.path().join("body.json"), "{").unwrap();
    let told = run(&[
        "explain",
        "-c",
        path.to_str().unwrap(),
        "POST",
        "http://test/",
        "-H",
        "content-type: application/json",
        "--body",
        folder.path().join("body.json").to_str().unwrap(),
    ]);
    let told =
        String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("body.malformed"), "{told}");
}

#[test]
fn streams_of_a_body_that_never_ends_are_not_held_for_ever() {
    let service = Upstream::answering("ok");
    let proxy = holding(&[&service], "limits: {held_body_time: 1s}\n");
    let mut conn = proxy.connect();
    conn.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");

    let begun = std::time::Instant::now();
    let reply = conn.reply().unwrap();

    assert_eq!(reply.status, 408);
    assert!(begun.elapsed() < Duration::from_secs(10));
}
