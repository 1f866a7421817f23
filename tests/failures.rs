//! What clients, logs and metrics see when services fail.
//! It must not know how failures are told apart inside.
//! Part of the test binary.

use std::io::Write;
use std::net::SocketAddr;

use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Upstream};

/// One pool with these settings, in YAML under the pool, and everything to it with these, under the rule.
fn with(upstreams: &[&Upstream], settings: &str, rule: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{settings}{ALL_TO_APP}{rule}",
        pool("app", upstreams)
    ))
}

const IN_TURN: &str = "  balance: {algorithm: round_robin}\n";

#[test]
fn connect_refused_is_retried_on_another_endpoint() {
    let (dead, live) = (Upstream::refusing(), Upstream::answering("hello"));
    let proxy = with(&[&dead, &live], IN_TURN, "");

    let replies = [(); 4].map(|()| proxy.ask("POST", "/", "content-length: 0\r\n"));

    for reply in replies {
        assert_eq!((reply.status, &*reply.text()), (200, "hello"));
    }
    let retries = proxy.metric("windrose_request_retries_total", &["connect_refused"]);
    assert!(retries >= 1.0, "{retries}");
}

#[test]
fn connect_refused_everywhere_gets_502() {
    let dead = Upstream::refusing();
    let proxy = with(&[&dead], "", "    retry: {attempts: 0}\n");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (502, "connect_refused"));
    let line = proxy.logged(|line| line["status"] == 502);
    assert_eq!(line["why"], "connect_refused");
    assert_eq!(line["blame"], "upstream");
    let marks = ["connect_refused", "route=\"all\""];
    assert_eq!(proxy.metric("windrose_request_causes_total", &marks), 1.0);
}

#[test]
fn an_endpoint_that_does_not_accept_in_time_gets_504() {
    let full = Upstream::full();
    let proxy = with(
        &[&full],
        "  connections: {connect_timeout: 200ms}\n",
        "    retry: {attempts: 0}\n",
    );

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (504, "connect_timeout"));
}

#[test]
fn an_endpoint_that_cannot_be_reached_gets_502() {
    // No socket file; the loopback network's broadcast address, which only a program with leave to broadcast may connect to.
    let unreachable = ["unix:FOLDER/none.sock", "127.255.255.255:80"];
    for address in unreachable {
        let proxy = Proxy::http(&format!(
            "pools:\n- {{name: app, endpoints: ['{address}']}}\n{ALL_TO_APP}    retry: {{attempts: 0}}\n"
        ));

        let reply = proxy.get("/");

        assert_eq!(
            (reply.status, &*reply.why()),
            (502, "connect_failed"),
            "{address}"
        );
        assert!(proxy.stderr().contains("no connection to an endpoint"));
    }
}

#[test]
fn no_endpoint_left_gets_503_with_retry_after() {
    let dead = Upstream::refusing();
    let proxy = with(
        &[&dead],
        "  health: {tcp: {}, interval: 100ms, timeout: 100ms, fall: 1}\n",
        "",
    );
    until("the endpoint is out", || {
        (proxy.pool("app")["endpoints"][0]["healthy"] == false).then_some(())
    });

    let reply = proxy.get("/");

    // Below the panic threshold the balancer tries what it has; then the connection is refused.
    match &*reply.why() {
        "no_healthy_endpoint" => {
            assert_eq!(reply.status, 503);
            assert!(reply.header("retry-after").is_some());
        }
        why => assert_eq!((reply.status, why), (502, "connect_refused")),
    }
}

#[test]
fn a_pool_that_panics_says_so() {
    let (well, dead) = (Upstream::answering("ok"), Upstream::refusing());
    let also_dead = Upstream::refusing();
    let proxy = with(
        &[&well, &dead, &also_dead],
        "  health: {tcp: {}, interval: 100ms, timeout: 100ms, fall: 1}\n",
        "",
    );

    until("health is ignored", || {
        (proxy.metric("windrose_pool_panics", &["pool=\"app\""]) == 1.0).then_some(())
    });
}

#[test]
fn a_pool_whose_discovery_found_nothing_gets_503() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("endpoints.yaml"), "[]\n").unwrap();
    let proxy = Proxy::start_in(
        folder,
        "listeners:\n- {name: web, bind: 127.0.0.1:0}\npools:\n- {name: app, discovery: {file: {path: endpoints.yaml}}}\nroutes:\n- {name: all, rules: [{pool: app}]}\n",
    );

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (503, "no_endpoint"));
    assert!(reply.header("retry-after").is_some());
}

#[test]
fn endpoints_follow_their_file() {
    let service = Upstream::answering("found");
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("endpoints.yaml"), "[]\n").unwrap();
    let proxy = Proxy::start_in(
        folder,
        "listeners:\n- {name: web, bind: 127.0.0.1:0}\npools:\n- {name: app, discovery: {file: {path: endpoints.yaml}}}\nroutes:\n- {name: all, rules: [{pool: app}]}\n",
    );

    std::fs::write(proxy.file("part"), format!("- {}\n", service.address)).unwrap();
    std::fs::rename(proxy.file("part"), proxy.file("endpoints.yaml")).unwrap();

    until("the endpoint is found", || {
        (proxy.get("/").text() == "found").then_some(())
    });
}

#[test]
fn a_silent_service_gets_504() {
    let silent = Upstream::silent();
    let proxy = with(&[&silent], "", "    timeouts: {response_header: 200ms}\n");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (504, "response_timeout"));
    assert_eq!(silent.requests(), 1);
}

#[test]
fn a_request_over_its_total_time_gets_504() {
    let silent = Upstream::silent();
    let proxy = with(
        &[&silent],
        "",
        "    timeouts: {response_header: 5s, request: 200ms}\n",
    );

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (504, "deadline_exceeded"));
}

#[test]
fn a_service_that_closes_gets_502() {
    let closing = Upstream::closing();
    let proxy = with(&[&closing], "", "    retry: {attempts: 0}\n");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (502, "upstream_reset"));
}

#[test]
fn a_reset_is_retried_for_a_safe_method_only() {
    let (closing, live) = (Upstream::closing(), Upstream::answering("hello"));
    let proxy = with(&[&closing, &live], IN_TURN, "");

    let gets = [(); 4].map(|()| proxy.get("/").status);
    let posts = [(); 4].map(|()| proxy.ask("POST", "/", "content-length: 0\r\n").status);

    assert_eq!(gets, [200; 4]);
    assert!(posts.contains(&502), "{posts:?}");
}

#[test]
fn a_service_that_speaks_nonsense_gets_502() {
    let odd = Upstream::raw(b"220 mail.test ESMTP\r\n");
    let proxy = with(&[&odd], "", "    retry: {attempts: 0}\n");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (502, "upstream_protocol"));
}

#[test]
fn a_response_that_breaks_off_is_not_passed_off_as_whole() {
    let short = Upstream::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let proxy = with(&[&short], "", "");
    let mut conn = proxy.connect();

    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let rest = conn.rest().unwrap_or_default();

    // The end of the connection is what tells a client that ten bytes were meant.
    assert!(!String::from_utf8_lossy(&rest).contains("half."));
    let line = proxy.logged(|_| true);
    assert_eq!(line["why"], "upstream_reset");
}

#[test]
fn a_chunked_response_that_breaks_off_has_no_last_chunk() {
    let short =
        Upstream::raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let proxy = with(&[&short], "", "");
    let mut conn = proxy.connect();

    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let rest = String::from_utf8(conn.rest().unwrap_or_default()).unwrap();

    assert!(!rest.contains("\r\n0\r\n"), "{rest:?}");
}

#[test]
fn a_kept_connection_that_the_service_closed_costs_no_request() {
    let service = Upstream::answering("hello");
    let proxy = with(&[&service], "", "");
    assert_eq!(proxy.get("/").status, 200);

    service.drop_connections();
    let reply = proxy.get("/");

    assert_eq!(reply.status, 200);
    assert_eq!(service.connections(), 2);
}

#[test]
fn five_failures_in_a_row_eject_an_endpoint() {
    let (bad, good) = (Upstream::statuses(&[503]), Upstream::answering("ok"));
    let proxy = with(&[&bad, &good], IN_TURN, "");

    for _ in 0..10 {
        proxy.get("/");
    }

    let view = proxy.pool("app");
    let all = view["endpoints"].as_array().unwrap();
    let out = all.iter().find(|one| one["ejected"] == true);
    let out = out.unwrap_or_else(|| panic!("nothing ejected: {view}"));
    assert_eq!(out["address"], bad.address.to_string());
    assert!(out["why"].is_string(), "{out}");
    assert_eq!(bad.requests(), 5);
    assert_eq!([(); 6].map(|()| proxy.get("/").status), [200; 6]);
    let ejections = proxy.metric("windrose_endpoint_ejections_total", &["app"]);
    assert_eq!(ejections, 1.0);
}

#[test]
fn an_ejected_endpoint_comes_back_after_its_time() {
    let bad = Upstream::statuses(&[503, 503, 200]);
    let good = Upstream::answering("ok");
    let settings = format!("{IN_TURN}  ejection: {{consecutive_failures: 2, base_time: 300ms}}\n");
    let proxy = with(&[&bad, &good], &settings, "");
    for _ in 0..4 {
        proxy.get("/");
    }
    assert_eq!(bad.requests(), 2);

    until("it gets a request again", || {
        proxy.get("/");
        (bad.requests() > 2).then_some(())
    });
}

#[test]
fn an_endpoint_that_fails_its_check_gets_no_requests_until_it_passes() {
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, relaxed) = (healthy.clone(), std::sync::atomic::Ordering::SeqCst);
    let checked = Upstream::with(move |seen, stream| {
        let status = if seen.target == "/health" && !flag.load(relaxed) {
            500
        } else {
            200
        };
        answer(stream, status, &[], b"checked")
    });
    let good = Upstream::with(|_, stream| answer(stream, 200, &[], b"good"));
    let settings = format!(
        "{IN_TURN}  health: {{http: {{path: /health}}, interval: 200ms, timeout: 200ms, rise: 1, fall: 2}}\n"
    );
    let proxy = with(&[&checked, &good], &settings, "");
    let is_available = |upstream: &Upstream| {
        let view = proxy.pool("app");
        let address = upstream.address.to_string();
        let mut endpoints = view["endpoints"].as_array().into_iter().flatten();
        endpoints.any(|one| one["address"] == address.as_str() && one["available"] == true)
    };
    let is_out = || !is_available(&checked) && is_available(&good);
    until("it is out", || is_out().then_some(()));

    let while_out = [(); 4].map(|()| proxy.get("/").text());
    healthy.store(true, relaxed);
    until("it is back", || is_available(&checked).then_some(()));
    let after = [(); 4].map(|()| proxy.get("/").text());

    assert_eq!(while_out, ["good"; 4]);
    assert!(after.contains(&"checked".to_owned()), "{after:?}");
}

#[tokio::test]
async fn a_grpc_client_gets_a_grpc_status_for_an_error_of_the_proxy() {
    let dead = Upstream::refusing();
    let proxy = Proxy::http(&format!(
        "{}  protocol: http2\n{ALL_TO_APP}    retry: {{attempts: 0}}\n",
        pool("app", &[&dead])
    ));
    let client = Client::connect(proxy.address("web")).await;

    let reply = client.ask(call("unary"), "x".into()).await.unwrap();

    assert_eq!(reply.head.status, 200);
    assert_eq!(reply.field("grpc-status"), Some("14"));
    let message = reply.field("grpc-message").unwrap_or("");
    assert!(message.contains("connect_refused"), "{message}");
}

#[tokio::test]
async fn an_http2_client_gets_the_answer_of_the_proxy_before_its_body_was_read() {
    let proxy = Proxy::http("routes: []\n");
    let client = Client::connect(proxy.address("web")).await;
    let request = || http::Request::post("http://test/").body(()).unwrap();

    let without = client.ask(request(), Default::default()).await.unwrap();
    let with = client.ask(request(), "body".into()).await.unwrap();

    assert_eq!(
        (without.head.status, with.head.status),
        (http::StatusCode::NOT_FOUND, http::StatusCode::NOT_FOUND)
    );
}

#[test]
fn a_browser_gets_a_page() {
    let dead = Upstream::refusing();
    let proxy = with(&[&dead], "", "");

    let reply = proxy.ask(
        "GET",
        "/",
        "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n",
    );

    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(reply.text().contains("connect_refused"));
    assert!(
        !reply.text().contains("127.0.0.1"),
        "the inside stays inside"
    );
}

#[test]
fn the_cause_field_is_only_for_those_who_may_see_it() {
    let proxy = Proxy::http(
        "routes: []\nobserve: {answers: {show_cause_to: [10.0.0.0/8]}, access_log: {to: 'off'}}\n",
    );

    let reply = proxy.get("/");

    assert_eq!(reply.header("x-windrose-why"), None);
}

#[test]
fn a_switch_nobody_asked_for_is_not_passed_on() {
    let odd = Upstream::with(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        )?;
        Ok(false)
    });
    let proxy = with(&[&odd], "", "    retry: {attempts: 0}\n");

    let reply = proxy.get("/");

    assert_eq!(reply.status, 502);
}

#[test]
fn each_attempt_counts_its_own_bytes() {
    let (closing, well) = (Upstream::closing(), Upstream::answering("hello"));
    let pools = pool("app", &[&closing, &well]);
    let rule = "rules: [{pool: app, body_limit: 10KiB}]";
    let proxy = Proxy::http(&format!("routes: [{{name: all, {rule}}}]\n{pools}"));
    let body = "x".repeat(6 * 1024);

    for _ in 0..8 {
        let head = "PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 6144\r\n\r\n";
        let reply = proxy.connect().ask(format!("{head}{body}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    let line = proxy.logged(|line| line["attempts"] == 2);
    assert_eq!(line["request_bytes"], 6144, "{line}");
}

/// Answers a request once it is told to, whatever came of its body.
fn answering_when_told() -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_request, mut reply) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move {
            let _ = told.await;
            let mut body = reply.send_response(Default::default(), false).unwrap();
            let _ = body.send_data(bytes::Bytes::from_static(b"taken"), true);
        });
        while connection.accept().await.is_some() {}
    });
    (address, tell)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_does_not_answer_a_request_that_was_refused_meanwhile() {
    let (address, tell) = answering_when_told();
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  protocol: http2\n  endpoints: ['{address}']\n{ALL_TO_APP}  plugins: [{{kind: body_limit, config: {{max: 1KiB}}}}]\n"
    ));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send([b"800\r\n", &[b'x'; 0x800][..], b"\r\n"].concat());
    until("it is refused", || {
        let events = ["event=\"refused\""];
        (proxy.metric("windrose_plugin_events_total", &events) == 1.0).then_some(())
    });

    tell.send(()).unwrap();
    let reply = client.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (413, "body_too_large"));
}

/// Sends a body that is refused before it ends to a service that says nothing until it does; the reply, within far less time than
/// the service is given.
fn refused_in_the_middle(proxy: &Proxy) -> crate::support::client::Reply {
    let mut client = proxy.connect();
    let began = std::time::Instant::now();
    client.send("POST /demo.Echo/held HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send("14\r\n01234567890123456789\r\n");
    let reply = client.reply().unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    reply
}

#[test]
fn a_body_that_is_refused_ends_the_request_at_once_though_an_http2_endpoint_is_silent() {
    let held = crate::support::Grpc::start();
    let yaml = |rule: &str, plugins: &str| {
        format!(
            "pools:\n- name: app\n  protocol: http2\n  endpoints: ['{}']\n{ALL_TO_APP}    timeouts: {{response_header: 30s}}\n{rule}{plugins}",
            held.address
        )
    };
    let by_route = Proxy::http(&yaml("    body_limit: 20B\n", ""));
    let by_plugin = Proxy::http(&yaml(
        "",
        "  plugins: [{kind: body_limit, config: {max: 20B}}]\n",
    ));

    for proxy in [&by_route, &by_plugin] {
        let reply = refused_in_the_middle(proxy);
        assert_eq!((reply.status, &*reply.why()), (413, "body_too_large"));
        let line = proxy.logged(|line| line["status"] == 413);
        assert_eq!(line["why"], "body_too_large");
    }
}
