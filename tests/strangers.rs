//! Clients that mean no good, or know no better: slow ones, floods, smuggling, many at once.
//! It must not know which library answers them.
//! Part of the test binary.

use std::io::Write;

use http::Request;

use crate::support::grpc::Client;
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{until, Conn, Proxy, Upstream};

/// Sends this and collects what the service saw as requests, and what the client got as statuses.
fn exchange(bytes: &str) -> (Vec<u16>, usize) {
    let service = Upstream::answering("ok");
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();
    conn.send(bytes);
    let mut statuses = Vec::new();
    let _ = conn.stream.shutdown(std::net::Shutdown::Write);
    while let Ok(reply) = conn.reply() {
        statuses.push(reply.status);
    }
    (statuses, service.requests())
}

#[test]
fn framings_that_servers_read_differently_reach_no_service() {
    let bodies = [
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "content-length: +4\r\n\r\nabcd",
        "content-length: 4, 5\r\n\r\nabcd",
        "content-length: 0x4\r\n\r\nabcd",
        "x: y\r\n z: folded\r\ncontent-length: 4\r\n\r\nabcd",
        "content-length: 4\rx: y\r\n\r\nabcd",
        "x\0y: z\r\ncontent-length: 0\r\n\r\n",
    ];
    let mut let_through = Vec::new();
    for body in bodies {
        let (statuses, requests) = exchange(&format!("POST / HTTP/1.1\r\nhost: a\r\n{body}"));

        if requests > 0 || statuses.iter().any(|status| *status < 400) {
            let_through.push((body, statuses, requests));
        }
    }

    assert_eq!(let_through, Vec::new());
}

#[test]
fn a_body_is_not_taken_for_the_next_request() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();
    let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

    let first = conn.ask(format!(
        "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let second = conn.ask("GET /second HTTP/1.1\r\nhost: a\r\n\r\n");

    assert_eq!(
        (&first.json()["target"], &second.json()["target"]),
        (&"/first".into(), &"/second".into())
    );
    assert_eq!(service.requests(), 2);
}

#[test]
fn a_body_the_route_refused_is_not_taken_for_the_next_request() {
    let service = Upstream::echo();
    let proxy = Proxy::http("routes: [{name: all, rules: [{respond: {status: 403}}]}]\n");
    let mut conn = proxy.connect();
    let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

    conn.ask(format!(
        "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let _ = conn
        .stream
        .write_all(b"GET /second HTTP/1.1\r\nhost: a\r\n\r\n");
    let _ = conn.reply();

    let paths: Vec<_> = proxy
        .log()
        .iter()
        .map(|line| line["path"].clone())
        .collect();
    assert!(!paths.contains(&"/smuggled".into()), "{paths:?}");
    assert_eq!(service.requests(), 0);
}

#[test]
fn a_header_sent_byte_by_byte_is_ended_by_its_total_time() {
    let proxy = Proxy::start(
        "listeners:\n- {name: web, bind: '127.0.0.1:0', limits: {header_timeout: 500ms}}\nroutes: []\n",
    );
    let mut conn = proxy.connect();
    let begin = std::time::Instant::now();

    conn.send("GET / HTTP/1.1\r\nhost: a\r\n");
    until("the connection is ended", || {
        conn.stream.write_all(b"x: y\r\n").is_err().then_some(())
    });

    assert!(begin.elapsed().as_millis() >= 450, "{:?}", begin.elapsed());
    until("it is counted", || {
        (proxy.metric("windrose_connection_failures_total", &["header_timeout"]) == 1.0)
            .then_some(())
    });
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_the_connection_not_the_proxy() {
    let service = Upstream::silent();
    let proxy = Proxy::to(&[&service]);
    let client = Client::connect(proxy.address("web")).await;

    let mut opened = 0;
    for _ in 0..5000 {
        let request = Request::get("http://test/").body(()).unwrap();
        let Ok((reply, mut sending)) = client.open(request).await else {
            break;
        };
        sending.send_reset(h2::Reason::CANCEL);
        drop(reply);
        opened += 1;
        tokio::task::yield_now().await;
    }

    assert!(opened > 0);
    assert_eq!(proxy.admin_reply("/livez").status, 200);
}

#[tokio::test]
async fn an_http2_header_over_its_bound_reaches_no_service() {
    let service = Upstream::answering("ok");
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0', limits: {{header_bytes: 4KiB}}}}\n{}{ALL_TO_APP}",
        pool("app", &[&service])
    ));
    let client = Client::connect(proxy.address("web")).await;
    let request = Request::get("http://test/")
        .header("x-big", "a".repeat(8000))
        .body(())
        .unwrap();

    let reply = client.ask(request, Default::default()).await;

    if let Ok(reply) = reply {
        assert_eq!(reply.head.status, 431);
    }
    assert_eq!(service.requests(), 0);
}

#[test]
fn many_idle_connections_cost_little() {
    let proxy = Proxy::http("routes: [{name: all, rules: [{respond: {status: 200}}]}]\n");
    let address = proxy.address("web");
    let before = proxy.resident_kib();

    let idle: Vec<_> = (0..300)
        .map(|_| {
            let mut conn = Conn::open(address);
            conn.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            conn
        })
        .collect();

    let each = proxy.resident_kib().saturating_sub(before) / 300;
    assert!(
        each < 64,
        "{each} KiB for each of {} connections",
        idle.len()
    );
}
