//! Responses that a plugin holds back until they are whole: every protocol, size and way to end, and what the other plugins see of them.
//! It must not know what `body` can do with JSON; its own tests do.
//! Part of the test binary.

use std::io::Write;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;

use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::{until, Grpc, Proxy, Upstream, WebSocket};

const MAX: usize = 200_000;
const HIDE: &str = "{kind: body, config: {response: {merge: {secret: null, by: gateway}}, max: 200000B, others: refuse}}";

fn service() -> Upstream {
    Upstream::with(|seen, stream| {
        let kind = [("content-type", "application/json"), ("etag", "\"1\"")];
        match seen.target.as_str() {
            "/empty" => answer(stream, 200, &kind, b""),
            "/text" => answer(stream, 200, &[("content-type", "text/plain")], b"{}"),
            "/none" => stream
                .write_all(b"HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n")
                .map(|()| true),
            "/same" => stream
                .write_all(b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n")
                .map(|()| true),
            "/chunks" => chunks(stream, &[&large(MAX / 2)]),
            "/breaks" => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":";
                stream.write_all(head).map(|()| false)
            }
            "/head" => stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n")
                .map(|()| true),
            size => {
                let size = size.trim_start_matches('/').parse().unwrap_or(0);
                answer(stream, 200, &kind, &large(size))
            }
        }
    })
}

fn chunks(stream: &mut std::net::TcpStream, pieces: &[&[u8]]) -> std::io::Result<bool> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for piece in pieces.iter().flat_map(|piece| piece.chunks(10_000)) {
        write!(stream, "{:x}\r\n", piece.len())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
    }
    stream.write_all(b"0\r\n\r\n").map(|()| true)
}

/// A document of about so many bytes.
fn large(size: usize) -> Vec<u8> {
    let fill = "x".repeat(size.saturating_sub(40));
    format!("{{\"fill\":\"{fill}\",\"secret\":\"hidden\"}}").into_bytes()
}

fn proxy(service: &Upstream, plugins: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins: [{plugins}]\n",
        pool("app", &[service])
    ))
}

fn is_changed(body: &[u8]) -> bool {
    let body: serde_json::Value = serde_json::from_slice(body).expect("it is JSON");
    body["by"] == "gateway" && body.get("secret").is_none()
}

const SIZES: [usize; 5] = [40, 65_000, 66_000, 150_000, MAX - 100];

#[test]
fn responses_of_every_size_are_changed_over_http1() {
    let service = service();
    let proxy = proxy(&service, HIDE);
    let mut conn = proxy.connect();
    for size in SIZES {
        let reply = conn.ask(format!("GET /{size} HTTP/1.1\r\nhost: a\r\n\r\n"));

        assert_eq!(
            (reply.status, is_changed(&reply.body)),
            (200, true),
            "{size}"
        );
        let length = reply.body.len().to_string();
        assert_eq!(reply.all("content-length"), [&*length]);
        assert_eq!(reply.header("transfer-encoding"), None);
        assert_eq!(reply.header("etag"), Some("W/\"1\""));
        assert!(reply.header("x-request-id").is_some());
    }
    let chunked = conn.ask("GET /chunks HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(is_changed(&chunked.body) && chunked.header("content-length").is_some());
    assert_eq!(chunked.header("transfer-encoding"), None);
    let old = proxy.connect().ask("GET /100 HTTP/1.0\r\nhost: a\r\n\r\n");
    assert!(is_changed(&old.body));
    until("nothing is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 0.0).then_some(())
    });
    proxy.logged(|line| line["status"] == 200 && line["why"].is_null());
}

#[tokio::test]
async fn responses_of_every_size_are_changed_over_http2() {
    let service = service();
    let proxy = proxy(&service, HIDE);
    let client = Client::connect(proxy.address("web")).await;
    for size in SIZES {
        let request = Request::get(format!("http://test/{size}"))
            .body(())
            .unwrap();

        let reply = client.ask(request, Bytes::new()).await.unwrap();

        assert_eq!(
            (reply.head.status.as_u16(), is_changed(&reply.body)),
            (200, true)
        );
        let length = reply.body.len().to_string();
        assert_eq!(reply.field("content-length"), Some(&*length));
    }
}

#[test]
fn what_cannot_be_changed_is_refused_whole_with_its_cause() {
    let service = service();
    let proxy = proxy(&service, HIDE);
    let mut conn = proxy.connect();
    conn.send(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", 3 * MAX));

    let large = conn.reply().unwrap();
    let text = proxy.get("/text");
    let broken = proxy.get("/breaks");

    assert_eq!(
        (large.status, &*large.why()),
        (502, "body.response_too_large")
    );
    assert_eq!(
        (text.status, &*text.why()),
        (502, "body.response_unsupported")
    );
    assert_eq!((broken.status, &*broken.why()), (502, "upstream_reset"));
    assert_eq!(proxy.get("/empty").status, 200);
    until("nothing is held", || {
        (proxy.metric("windrose_held_body_bytes", &[]) == 0.0).then_some(())
    });
}

#[test]
fn what_is_too_large_and_may_pass_arrives_byte_for_byte() {
    let service = service();
    let plugin = "{kind: body, config: {response: {merge: {a: 1}, larger: pass}, max: 1000B}}";
    let proxy = proxy(&service, plugin);

    for size in [1100, 70_000, 3_000_000] {
        let reply = proxy.get(&format!("/{size}"));
        assert_eq!(reply.status, 200);
        assert!(reply.body == large(size), "{size}");
        assert_eq!(reply.header("etag"), Some("\"1\""));
    }
    assert_eq!(proxy.get("/100").json()["a"], 1);
    assert_eq!(proxy.get("/text").text(), "{}", "others pass by default");
}

#[test]
fn responses_without_a_body_keep_having_none() {
    let service = service();
    let proxy = proxy(&service, HIDE);
    let mut conn = proxy.connect();

    conn.send("HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = conn.head().unwrap();
    let none = conn.ask("GET /none HTTP/1.1\r\nhost: a\r\n\r\n");
    let same = conn.ask("GET /same HTTP/1.1\r\nhost: a\r\nif-none-match: W/\"1\"\r\n\r\n");
    let after = conn.ask("GET /100 HTTP/1.1\r\nhost: a\r\n\r\n");

    assert_eq!((head.status, head.header("content-length")), (200, None));
    assert_eq!((none.status, none.body.len()), (204, 0));
    assert_eq!((same.status, same.header("etag")), (304, Some("\"1\"")));
    assert!(is_changed(&after.body), "the connection is in order");
}

#[test]
fn plugins_nearer_to_the_client_see_what_became_of_it() {
    let service = service();
    let plugins = format!(
        "{{kind: compress, config: {{min_size: 1B}}}}, {{kind: headers, config: {{response: {{set: {{x-seen: '${{path}}'}}, statuses: [200]}}}}}}, {HIDE}, {{kind: headers, config: {{response: {{set: {{x-before: 'yes'}}}}}}}}"
    );
    let inner = proxy(&service, &plugins);
    let outer = Proxy::http(&format!(
        "pools: [{{name: app, endpoints: ['{}']}}]\n{ALL_TO_APP}  plugins: [{{kind: decompress, config: {{responses: always}}}}]\n",
        inner.address("web")
    ));
    let request = "GET /5000 HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n";

    let coded = inner.connect().ask(request);
    let plain = outer.connect().ask(request);

    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert_eq!(coded.header("content-length"), None);
    assert_eq!(
        (coded.header("x-seen"), coded.header("x-before")),
        (Some("/5000"), Some("yes"))
    );
    assert!(is_changed(&plain.body));
}

#[test]
fn two_that_hold_have_their_turns_one_after_the_other() {
    let service = service();
    let second = "{kind: body, config: {response: {patch: [{op: test, path: /by, value: gateway}, {op: add, path: /second, value: 2}]}, max: 300000B}}";
    let proxy = proxy(&service, &format!("{second}, {HIDE}"));

    let reply = proxy.get("/1000");

    assert!(is_changed(&reply.body));
    assert_eq!(reply.json()["second"], 2);
    assert_eq!(
        reply.all("content-length"),
        [&*reply.body.len().to_string()]
    );
}

#[test]
fn a_plugin_in_the_shadow_changes_nothing_and_is_counted() {
    let service = service();
    let shadow = HIDE.replace("{kind: body,", "{kind: body, mode: shadow,");
    let proxy = proxy(&service, &shadow);

    let reply = proxy.get("/1000");
    let text = proxy.get("/text");

    assert!(reply.body == large(1000));
    assert_eq!(text.text(), "{}");
    let marks = ["event=\"would_answer\""];
    assert_eq!(proxy.metric("windrose_plugin_events_total", &marks), 1.0);
}

#[test]
fn all_that_is_held_is_bounded() {
    let service = service();
    let proxy = Proxy::http(&format!(
        "limits: {{held_bodies: 1MiB}}\n{}{ALL_TO_APP}  plugins: [{}]\n",
        pool("app", &[&service]),
        HIDE.replace("200000B", "4MiB")
    ));

    let (small, large) = (proxy.get("/1000"), proxy.get("/2000000"));

    assert_eq!(small.status, 200);
    assert_eq!((large.status, &*large.why()), (503, "overloaded.bodies"));
}

#[test]
fn a_response_that_broke_while_it_was_held_is_not_asked_for_again() {
    let service = service();
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}  retry: {{attempts: 3}}\n  plugins: [{HIDE}]\n",
        pool("app", &[&service])
    ));

    let reply = proxy.get("/breaks");

    assert_eq!((reply.status, &*reply.why()), (502, "upstream_reset"));
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn trailers_stay_behind_a_body_that_was_changed() {
    let service = Grpc::start();
    let json = "{kind: headers, config: {response: {set: {content-type: application/json}}}}";
    let proxy = Proxy::http(&format!(
        "pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}  plugins: [{HIDE}, {json}]\n",
        service.address
    ));
    let client = Client::connect(proxy.address("web")).await;
    let request = Request::post("http://test/unary").body(()).unwrap();

    let body = Bytes::from_static(b"{\"secret\":1}");
    let reply = client.ask(request, body.clone()).await.unwrap();
    let over_http1 = proxy
        .connect()
        .ask("POST /unary HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n{\"secret\":1}");
    let refused = client.ask(call("unary"), Bytes::from_static(b"junk")).await;

    assert!(is_changed(&reply.body));
    assert_eq!(reply.trailers["x-checked"], "yes");
    assert!(is_changed(&over_http1.body));
    let refused = refused.unwrap();
    assert_eq!(
        refused.field("grpc-status"),
        Some("14"),
        "{:?}",
        refused.head
    );
}

/// A service over HTTP/2 whose response ends with its head, of which nothing says so but the frame.
fn bare() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(answer_heads(listener));
    });
    address
}

async fn answer_heads(listener: std::net::TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let head = Response::builder().header("content-type", "application/json");
                let _ = respond.send_response(head.body(()).unwrap(), true);
            }
        });
    }
}

#[tokio::test]
async fn a_held_response_that_is_a_head_only_gets_a_body_or_goes_on() {
    let address = bare();
    let template = "{kind: body, config: {response: {template: {text: '{\"status\": {{ response.status }}}'}}}}";
    let of = |plugin: &str| {
        Proxy::http(&format!(
            "pools: [{{name: app, protocol: http2, endpoints: ['{address}']}}]\n{ALL_TO_APP}  plugins: [{{kind: headers, config: {{response: {{set: {{x-last: word}}}}}}}}, {plugin}]\n"
        ))
    };
    let (rendered, patched) = (of(template), of(HIDE));
    for _ in 0..2 {
        let reply = rendered.get("/");
        assert_eq!((reply.status, reply.json()), (200, json!({"status": 200})));
        assert_eq!(reply.header("x-last"), Some("word"));
    }

    let client = Client::connect(patched.address("web")).await;
    let request = Request::get("http://test/").body(()).unwrap();
    let reply = client.ask(request, Bytes::new()).await.unwrap();

    assert_eq!((reply.head.status.as_u16(), reply.body.len()), (200, 0));
    assert_eq!(reply.field("x-last"), Some("word"));
    rendered.logged(|line| line["status"] == 200 && line["why"].is_null());
    let ejected = patched.pool("app");
    assert_eq!(
        ejected["endpoints"][0]["ejected"],
        json!(false),
        "{ejected}"
    );
}

#[test]
fn an_upgrade_passes_a_plugin_that_holds_and_the_word_alone_gets_nothing_past() {
    let (sockets, service) = (WebSocket::service(), service());
    let (upgraded, plain) = (proxy(&sockets, HIDE), proxy(&service, HIDE));

    let mut socket = WebSocket::open(upgraded.address("web"), "/");
    let reply = plain.ask(
        "GET",
        "/1000",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
    );

    assert_eq!(socket.talk("hi").as_deref(), Some("hi"));
    assert!(is_changed(&reply.body));
}
