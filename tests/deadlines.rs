//! Requests that have to be over by a moment, set by their route or by themselves.
//! It must not know how the moment is kept.
//! Part of the test binary.

use std::io::Write;
use std::time::Duration;

use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, run, ALL_TO_APP};
use crate::support::stream::WebSocket;
use crate::support::wait::pause;
use crate::support::{Proxy, Upstream};

fn with(upstream: &Upstream, settings: &str, rule: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{settings}{ALL_TO_APP}{rule}",
        pool("app", &[upstream])
    ))
}

/// The first value of a field, as the echo service saw it.
fn sent(reply: &crate::support::client::Reply, name: &str) -> Option<String> {
    let fields = reply.json()["headers"].as_array().cloned()?;
    let field = fields.iter().find(|field| field[0] == name)?;
    field[1].as_str().map(str::to_owned)
}

fn millis(told: &str) -> u64 {
    told.strip_suffix("ms")
        .and_then(|told| told.parse().ok())
        .expect(told)
}

#[test]
fn a_request_brings_its_own_deadline_and_blames_nobody_for_it() {
    let silent = Upstream::silent();
    let proxy = with(&silent, "", "");

    let reply = proxy.ask("GET", "/", "x-request-timeout: 500ms\r\n");

    assert_eq!((reply.status, &*reply.why()), (504, "deadline_exceeded"));
    assert_eq!(silent.requests(), 1);
    assert_eq!(proxy.pool("app")["endpoints"][0]["failures"], 0);
}

#[test]
fn an_endpoint_that_gives_up_at_a_deadline_of_the_client_is_not_blamed() {
    let honest = Upstream::statuses(&[504]);
    let proxy = with(&honest, "", "");
    let failures = || proxy.pool("app")["endpoints"][0]["failures"].clone();

    let hurried = proxy.ask("GET", "/", "x-request-timeout: 900ms\r\n");
    let blamed_by_client = failures();
    let patient = proxy.get("/");

    assert_eq!((hurried.status, patient.status), (504, 504));
    assert_eq!((blamed_by_client, failures()), (0.into(), 1.into()));
}

#[test]
fn a_client_that_stops_sending_does_not_blame_the_endpoint() {
    let echo = Upstream::echo();
    let proxy = with(&echo, "", "    timeouts: {response_header: 1s}\n");
    let mut conn = proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhello");
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (504, "response_timeout"));
    assert_eq!(proxy.pool("app")["endpoints"][0]["failures"], 0);
}

#[test]
fn a_deadline_of_the_route_blames_the_endpoint() {
    let silent = Upstream::silent();
    let proxy = with(&silent, "", "    timeouts: {request: 1s}\n");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (504, "deadline_exceeded"));
    assert_eq!(proxy.pool("app")["endpoints"][0]["failures"], 1);
}

#[test]
fn endpoints_are_told_what_is_left() {
    let echo = Upstream::echo();
    let proxy = with(&echo, "", "    timeouts: {request: 20s}\n");

    let own = sent(&proxy.get("/"), "x-request-timeout").unwrap();
    let shorter = proxy.ask("GET", "/", "x-request-timeout: 15000\r\n");
    let longer = proxy.ask("GET", "/", "x-request-timeout: 10m\r\n");

    assert!((10_000..=20_000).contains(&millis(&own)), "{own}");
    let shorter = sent(&shorter, "x-request-timeout").unwrap();
    assert!((10_000..=15_000).contains(&millis(&shorter)), "{shorter}");
    let longer = sent(&longer, "x-request-timeout").unwrap();
    assert!(millis(&longer) <= 20_000, "{longer}");
}

#[test]
fn a_request_without_a_deadline_tells_of_none() {
    let echo = Upstream::echo();
    let proxy = with(&echo, "", "");

    assert_eq!(sent(&proxy.get("/"), "x-request-timeout"), None);
    let odd = proxy.ask("GET", "/", "x-request-timeout: soon\r\n");
    assert_eq!(sent(&odd, "x-request-timeout").as_deref(), Some("soon"));
}

#[test]
fn a_route_may_ignore_what_requests_bring() {
    let echo = Upstream::echo();
    let proxy = with(&echo, "", "    timeouts: {client_deadline: ignore}\n");

    let reply = proxy.ask("GET", "/", "x-request-timeout: 0.001ms\r\n");

    assert_eq!(
        sent(&reply, "x-request-timeout").as_deref(),
        Some("0.001ms")
    );
}

#[tokio::test]
async fn a_grpc_call_over_its_deadline_gets_its_status() {
    let silent = Upstream::silent();
    let proxy = with(&silent, "", "");
    let client = Client::connect(proxy.address("web")).await;
    let mut request = call("unary");
    request
        .headers_mut()
        .insert("grpc-timeout", http::HeaderValue::from_static("1S"));

    let reply = client.ask(request, bytes::Bytes::new()).await.unwrap();

    assert_eq!(reply.field("grpc-status"), Some("4"));
    let line = proxy.logged(|line| line["why"] == "deadline_exceeded");
    assert_eq!(line["grpc_status"], 4);
}

/// Sends the begin of a response, and then a byte now and then until nobody reads it.
fn endless(begin: &'static [u8]) -> Upstream {
    Upstream::with(move |_, stream| {
        stream.write_all(begin)?;
        loop {
            pause(Duration::from_millis(20));
            stream.write_all(b"x")?;
        }
    })
}

#[test]
fn a_header_that_trickles_ends_with_the_deadline() {
    let trickling = endless(b"HTTP/1.1 200 OK\r\nx-long: ");
    let proxy = with(&trickling, "", "    timeouts: {request: 1500ms}\n");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (504, "deadline_exceeded"));
}

#[test]
fn a_body_that_does_not_end_is_cut_off_by_the_deadline() {
    let endless = endless(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
    let proxy = with(&endless, "", "    timeouts: {request: 1500ms}\n");

    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");

    assert_eq!(conn.head().unwrap().status, 200);
    // The last chunk would say that the body is whole.
    assert!(!conn.rest().unwrap_or_default().ends_with(b"0\r\n\r\n"));
    let line = proxy.logged(|line| line["status"] == 200);
    assert_eq!(line["why"], "deadline_exceeded");
}

#[tokio::test]
async fn a_body_that_does_not_end_is_cut_off_over_http2_too() {
    let silent_end = Upstream::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegin")?;
        let _ = std::io::Read::read(stream, &mut [0; 1]);
        Ok(false)
    });
    let proxy = with(&silent_end, "", "    timeouts: {request: 1500ms}\n");
    let client = Client::connect(proxy.address("web")).await;
    let request = http::Request::get("http://a.test/").body(()).unwrap();

    let reply = client.ask(request, bytes::Bytes::new()).await;

    assert!(reply.is_err());
    let line = proxy.logged(|line| line["status"] == 200);
    assert_eq!(line["why"], "deadline_exceeded");
}

#[test]
fn an_upgraded_connection_outlives_the_deadline_of_its_request() {
    let service = WebSocket::service();
    let proxy = with(&service, "", "    timeouts: {request: 1s}\n");
    let mut socket = WebSocket::open(proxy.address("web"), "/");

    pause(Duration::from_millis(1300));

    assert_eq!(socket.talk("still there?").as_deref(), Some("still there?"));
}

#[test]
fn no_attempt_begins_that_the_deadline_would_end() {
    let dead = Upstream::refusing();
    let rule =
        "    timeouts: {request: 300ms}\n    retry: {attempts: 5, backoff: {base: 10s, max: 10s}}\n";
    let proxy = with(&dead, "  ejection: {consecutive_failures: 0}\n", rule);

    let whys: Vec<String> = (0..20).map(|_| proxy.get("/").why()).collect();

    assert!(whys.iter().any(|why| why == "connect_refused"), "{whys:?}");
    let reason = ["reason=\"deadline\""];
    let refused = proxy.metric("windrose_request_retries_refused_total", &reason);
    assert!(refused >= 1.0);
}

#[test]
fn an_explanation_shows_each_attempt_until_the_deadline() {
    let echo = Upstream::echo();
    let rule = "    timeouts: {per_try: 2s, request: 5s}\n    retry: {attempts: 2}\n";
    let proxy = with(&echo, "", rule);
    let config = proxy.config();
    let explain = |more: &[&str]| {
        let file = config.to_str().unwrap();
        let mut arguments = vec!["explain", "-c", file, "GET", "http://a.test/"];
        arguments.extend(more);
        String::from_utf8(run(&arguments).stdout).unwrap()
    };

    let page = explain(&[]);
    let json: serde_json::Value = serde_json::from_str(&explain(&["--json"])).unwrap();

    assert!(
        page.contains("attempt 1: connects within 2 s, header within 2 s more; over by 4 s"),
        "{page}"
    );
    assert!(page.contains("the deadline ends it at 5 s"), "{page}");
    let steps = json["outcome"]["times"]["waterfall"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[1]["begins_ms"], 4025);
    assert_eq!(
        (&steps[1]["ends_ms"], &steps[1]["cut_by_deadline"]),
        (&5000.into(), &true.into())
    );
}
