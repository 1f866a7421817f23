//! HTTP done right: framing, hosts, targets, bounds and bodies.
//! It must not know routes beyond sending everything to one pool.
//! Part of the test binary.

use std::io::{Read, Write};
use std::sync::mpsc;

use http::Request;

use crate::support::grpc::{Client, Grpc};
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Reply, Upstream, DEADLINE};

fn raw(proxy: &Proxy, request: &str) -> Reply {
    proxy.connect().ask(request)
}

/// Sends a request that has to be refused, on a proxy of its own.
fn refused(request: &str) -> (u16, String) {
    let service = Upstream::answering("");
    let proxy = Proxy::to(&[&service]);

    let reply = raw(&proxy, request);

    assert_eq!(service.requests(), 0, "the service saw it");
    (reply.status, reply.why())
}

fn cause(status: u16, name: &str) -> (u16, String) {
    (status, name.to_owned())
}

#[test]
fn a_request_without_host_is_refused() {
    assert_eq!(
        refused("GET / HTTP/1.1\r\n\r\n"),
        cause(400, "bad_request.host")
    );
}

#[test]
fn a_request_with_two_hosts_is_refused() {
    let (status, why) = refused("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");

    assert_eq!(status, 400);
    assert!(why.starts_with("bad_request."), "{why}");
}

#[test]
fn a_host_that_cannot_be_one_is_refused() {
    assert_eq!(
        refused("GET / HTTP/1.1\r\nhost: a,b\r\n\r\n"),
        cause(400, "bad_request.host")
    );
}

#[test]
fn bare_line_feeds_are_refused() {
    assert_eq!(
        refused("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n"),
        cause(400, "bad_request.framing")
    );
}

#[test]
fn a_length_beside_a_coding_is_refused() {
    assert_eq!(
        refused("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        cause(400, "bad_request.framing")
    );
}

#[test]
fn differing_lengths_are_refused() {
    let (status, why) =
        refused("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd");

    assert_eq!(status, 400);
    assert!(why.starts_with("bad_request."), "{why}");
}

#[test]
fn a_space_in_the_target_is_refused() {
    let (status, why) = refused("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n");

    assert_eq!((status, &*why), (400, "bad_request.target"));
}

#[test]
fn a_path_above_the_root_is_refused() {
    assert_eq!(
        refused("GET /a/../../etc HTTP/1.1\r\nhost: a\r\n\r\n"),
        cause(400, "bad_request.target")
    );
}

#[test]
fn bytes_that_are_no_http_are_refused_and_counted() {
    let service = Upstream::answering("");
    let proxy = Proxy::to(&[&service]);

    let reply = raw(&proxy, "GET / HTTP/1.1\r\nno colon here\r\n\r\n");

    assert_eq!(
        (reply.status, &*reply.why()),
        (400, "bad_request.malformed")
    );
    until("the failure is counted", || {
        let marks = ["bad_request.malformed"];
        (proxy.metric("windrose_connection_failures_total", &marks) == 1.0).then_some(())
    });
}

#[test]
fn connect_and_trace_are_not_forwarded() {
    for method in ["CONNECT a:1", "TRACE /"] {
        assert_eq!(
            refused(&format!("{method} HTTP/1.1\r\nhost: a:1\r\n\r\n")),
            cause(405, "bad_request.method")
        );
    }
}

#[test]
fn repeated_equal_lengths_reach_the_service_as_one() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let reply = raw(
        &proxy,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
    );

    assert_eq!(reply.status, 200);
    assert_eq!(service.last().all("content-length"), ["2"]);
    assert_eq!(service.last().body, b"hi");
}

#[test]
fn the_service_sees_the_canonical_path() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let seen = ["/a/../b?x=../y", "//b/./c", "/%62%2f", "/b/"].map(|target| {
        proxy.get(target);
        service.last().target
    });

    assert_eq!(seen, ["/b?x=../y", "/b/c", "/b%2F", "/b/"]);
}

#[test]
fn an_absolute_target_reaches_the_service_in_origin_form() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let reply = raw(
        &proxy,
        "GET http://real.test/x?y HTTP/1.1\r\nhost: real.test\r\n\r\n",
    );

    assert_eq!(reply.status, 200);
    let seen = service.last();
    assert_eq!(
        (&*seen.target, seen.header("host")),
        ("/x?y", Some("real.test"))
    );
}

#[tokio::test]
async fn cookies_that_http2_split_reach_the_service_as_one_field() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let client = Client::connect(proxy.address("web")).await;
    let request = Request::get("http://test/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(());

    let reply = client.ask(request.unwrap(), Default::default()).await;

    assert_eq!(reply.unwrap().head.status, 200);
    assert_eq!(service.last().all("cookie"), ["a=1; b=2"]);
    assert_eq!(service.last().all("host"), ["test"]);
}

#[test]
fn head_gets_the_length_and_no_body() {
    let service = Upstream::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")?;
        Ok(true)
    });
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    let first = conn.ask("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    let second = conn.ask("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");

    assert_eq!(first.header("content-length"), Some("5"));
    assert_eq!((first.status, second.status), (200, 200));
}

#[test]
fn head_of_an_answer_of_the_proxy_has_no_body() {
    let proxy = Proxy::http("routes: []\n");
    let mut conn = proxy.connect();

    let first = conn.ask("HEAD /a HTTP/1.1\r\nhost: a\r\n\r\n");
    let second = conn.ask("GET /b HTTP/1.1\r\nhost: a\r\n\r\n");

    assert_eq!((first.status, second.status), (404, 404));
}

#[test]
fn a_client_that_expects_100_gets_it_before_it_sends() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let interim = conn.any_head().unwrap();
    conn.send("data");
    let reply = conn.reply().unwrap();

    assert_eq!((interim.status, reply.status), (100, 200));
    assert_eq!(service.last().body, b"data");
}

#[test]
fn an_http10_client_gets_a_body_it_can_read() {
    let service = Upstream::raw(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let all = String::from_utf8(conn.rest().unwrap()).unwrap();

    assert!(!all.to_ascii_lowercase().contains("chunked"), "{all}");
    assert!(all.ends_with("\r\n\r\nhello"), "{all}");
}

#[test]
fn a_target_for_another_host_than_the_field_is_refused() {
    let (status, why) = refused("GET http://real.test/ HTTP/1.1\r\nhost: other.test\r\n\r\n");

    assert_eq!(status, 400);
    assert!(why.starts_with("bad_request."), "{why}");
}

#[test]
fn a_request_sent_too_early_is_answered_in_order_or_not_at_all() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    let first = conn.reply().unwrap();
    let second = conn.reply();

    assert_eq!(first.json()["target"], "/1");
    // RFC 9112 section 9.3.2 lets a server close instead; the client then asks again.
    if let Ok(second) = second {
        assert_eq!(second.json()["target"], "/2");
    }
}

#[test]
fn a_header_over_its_bound_gets_431() {
    let proxy = bounded("header_bytes: 2KiB");

    let reply = proxy.ask("GET", "/", &format!("x-big: {}\r\n", "a".repeat(3000)));

    assert_eq!((reply.status, &*reply.why()), (431, "header_too_large"));
}

#[test]
fn more_fields_than_allowed_get_431() {
    let proxy = bounded("header_fields: 10");

    let reply = proxy.ask("GET", "/", &"x-a: b\r\n".repeat(20));

    assert_eq!((reply.status, &*reply.why()), (431, "header_too_large"));
}

#[test]
fn a_target_over_its_bound_gets_414() {
    let proxy = bounded("target_bytes: 1KiB");

    let reply = proxy.get(&format!("/{}", "a".repeat(2000)));

    assert_eq!((reply.status, &*reply.why()), (414, "uri_too_long"));
}

#[test]
fn a_header_that_does_not_come_gets_408() {
    let proxy = bounded("header_timeout: 300ms");
    let mut conn = proxy.connect();

    conn.send("GET / HTTP/1.1\r\nhost: a\r\n");
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (408, "header_timeout"));
    assert!(conn.ends());
}

fn bounded(limit: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  limits: {{{limit}}}\nroutes: []\n"
    ))
}

#[test]
fn a_body_announced_over_its_bound_gets_413_and_is_not_sent() {
    let service = Upstream::echo();
    let proxy = small_bodies(&service);

    let reply = raw(
        &proxy,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n",
    );

    assert_eq!((reply.status, &*reply.why()), (413, "body_too_large"));
    assert_eq!(service.requests(), 0);
}

#[test]
fn a_body_that_grows_over_its_bound_gets_413() {
    let service = Upstream::echo();
    let proxy = small_bodies(&service);
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    conn.send(&chunk).send(&chunk);
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (413, "body_too_large"));
    assert_eq!(service.requests(), 0, "the service never saw it whole");
}

fn small_bodies(service: &Upstream) -> Proxy {
    Proxy::http(&format!(
        "{}{ALL_TO_APP}  body_limit: 1KiB\n",
        pool("app", &[service])
    ))
}

#[test]
fn a_chunked_upload_arrives_whole() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let reply = raw(
        &proxy,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
    );

    assert_eq!(reply.json()["body"], "abcdefg");
}

#[test]
fn a_broken_chunk_is_refused() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let reply = raw(
        &proxy,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    );

    assert_eq!((reply.status, &*reply.why()), (400, "bad_request.framing"));
}

#[test]
fn a_body_that_stops_coming_gets_408() {
    let service = Upstream::echo();
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}  timeouts: {{idle: 300ms}}\n",
        pool("app", &[&service])
    ));
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc");
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (408, "body_timeout"));
}

#[test]
fn a_large_upload_is_streamed_in_bounded_memory() {
    let service = Upstream::echo();
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}  body_limit: 1GiB\n",
        pool("app", &[&service])
    ));
    proxy.get("/");
    let before = proxy.resident_kib();
    let mut conn = proxy.connect();

    conn.send(format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n"
    ));
    let piece = vec![b'x'; 1 << 20];
    let mut most = 0;
    for _ in 0..LARGE >> 20 {
        conn.send(&piece);
        most = most.max(proxy.resident_kib());
    }
    let reply = conn.reply().unwrap();

    assert_eq!(reply.json()["length"], LARGE);
    let grown = most.saturating_sub(before);
    assert!(grown < BOUND_KIB, "{grown} KiB more for {LARGE} bytes");
}

#[test]
fn a_large_response_to_a_slow_reader_is_streamed_in_bounded_memory() {
    let service = Upstream::with(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n")?;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..LARGE >> 20 {
            stream.write_all(&piece)?;
        }
        Ok(true)
    });
    let proxy = Proxy::to(&[&service]);
    proxy.admin("/readyz");
    let before = proxy.resident_kib();
    let mut conn = proxy.connect();

    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let reply = conn.head().unwrap();
    let (mut most, mut read) = (0, 0);
    while read < LARGE {
        read += conn.exactly(1 << 20).unwrap().len();
        most = most.max(proxy.resident_kib());
    }

    assert_eq!(reply.status, 200);
    let grown = most.saturating_sub(before);
    assert!(grown < BOUND_KIB, "{grown} KiB more for {LARGE} bytes");
}

const LARGE: usize = 64 << 20;
/// A quarter of the body; the buffers on the way are far smaller, allocators are not exact.
const BOUND_KIB: u64 = 16 << 10;

#[test]
fn a_client_that_goes_away_ends_the_request_upstream() {
    let (tell, told) = mpsc::channel();
    let service = Upstream::with(move |_, stream| {
        let _ = tell.send("arrived");
        let ended = matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_));
        let _ = tell.send(if ended { "cancelled" } else { "more bytes" });
        Ok(false)
    });
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(told.recv_timeout(DEADLINE), Ok("arrived"));

    drop(conn);

    assert_eq!(told.recv_timeout(DEADLINE), Ok("cancelled"));
    let line = proxy.logged(|line| line["why"] == "client_closed");
    assert_eq!(line["status"], 499);
}

#[test]
fn fields_for_one_hop_are_not_passed_on() {
    let service = Upstream::with(|_, stream| {
        let fields = [
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-end", "1"),
        ];
        answer(stream, 200, &fields, b"")
    });
    let proxy = Proxy::to(&[&service]);

    let reply = proxy.ask(
        "GET",
        "/",
        "connection: keep-alive, x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: x\r\nproxy-authorization: secret\r\nte: gzip\r\nx-yours: 1\r\n",
    );

    let seen = service.last();
    for name in ["x-mine", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-yours"), Some("1"));
    assert_eq!(reply.header("x-hop"), None);
    assert_eq!(reply.header("x-end"), Some("1"));
}

#[tokio::test]
async fn http2_in_the_clear_reaches_an_http1_service_and_back() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let client = Client::connect(proxy.address("web")).await;
    let request = Request::post("http://test/x?y").body(()).unwrap();

    let reply = client.ask(request, "hello".into()).await.unwrap();

    let seen: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply.head.status, 200);
    assert_eq!(
        (&seen["target"], &seen["body"]),
        (&"/x?y".into(), &"hello".into())
    );
}

#[tokio::test]
async fn http1_reaches_an_http2_service_and_back() {
    let service = Grpc::start();
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  protocol: http2\n  endpoints: ['{}']\n{ALL_TO_APP}",
        service.address
    ));

    let reply = proxy
        .connect()
        .ask("POST /unary HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");

    assert_eq!((reply.status, &*reply.text()), (200, "hi"));
}

#[test]
fn an_offer_to_go_on_in_http2_is_ignored() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let reply = proxy.ask(
        "GET",
        "/",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
    );

    // Clients offer it on the chance; a service that took it would be out of the proxy's sight (RFC 9113 section 3.1).
    assert_eq!(reply.status, 200);
    let seen = service.last();
    assert_eq!(seen.header("upgrade"), None);
    assert_eq!(seen.header("http2-settings"), None);
}

#[test]
fn a_service_of_http_1_0_is_answered_for_in_the_proxys_own_version() {
    for (answer, framing) in [
        (
            &b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..],
            "content-length",
        ),
        (&b"HTTP/1.0 200 OK\r\n\r\nhello"[..], "transfer-encoding"),
    ] {
        let service = Upstream::raw(answer);
        let proxy = Proxy::to(&[&service]);

        let mut conn = proxy.connect();
        conn.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        let head = conn.through(b"\r\n\r\n").unwrap();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let again = proxy.ask("GET", "/", "");

        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(head.contains(framing), "{head}");
        assert_eq!(again.text(), "hello");
    }
}
