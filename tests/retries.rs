//! Which failures are followed by another attempt, and what budgets make of it.
//! It must not know how attempts are judged inside.
//! Part of the test binary.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;

use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Upstream};

/// One pool with these settings, in YAML under the pool, and everything to it with these, under the rule.
fn with(upstreams: &[&Upstream], settings: &str, rule: &str) -> Proxy {
    Proxy::http(&config(upstreams, settings, rule))
}

fn config(upstreams: &[&Upstream], settings: &str, rule: &str) -> String {
    format!("{}{settings}{ALL_TO_APP}{rule}", pool("app", upstreams))
}

const IN_TURN: &str = "  balance: {algorithm: round_robin}\n";
const NO_EJECTION: &str = "  ejection: {consecutive_failures: 0}\n";
const NO_BUDGET: &str = "  retry_budget: {ratio: 0%, min_per_second: 0}\n";

fn refused_for(proxy: &Proxy, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    proxy.metric("windrose_request_retries_refused_total", &[&reason])
}

#[test]
fn a_chosen_status_is_tried_again_on_another_endpoint() {
    let (busy, live) = (Upstream::statuses(&[503]), Upstream::answering("hello"));
    let settings = format!("{IN_TURN}{NO_EJECTION}");
    let proxy = with(&[&busy, &live], &settings, "    retry: {statuses: [503]}\n");

    let gets = [(); 4].map(|()| proxy.get("/").status);
    let posts = [(); 4].map(|()| proxy.ask("POST", "/", "content-length: 0\r\n").status);

    assert_eq!(gets, [200; 4]);
    assert!(posts.contains(&503), "{posts:?}");
    let retries = proxy.metric("windrose_request_retries_total", &["cause=\"status\""]);
    assert!(retries >= 1.0, "{retries}");
}

#[test]
fn the_last_answer_of_an_endpoint_is_passed_on_as_it_is() {
    let busy = Upstream::with(|_, stream| answer(stream, 503, &[("x-own", "yes")], b"later"));
    let rule = "    retry: {statuses: [503], attempts: 2, backoff: {base: 1ms, max: 1ms}}\n";
    let proxy = with(&[&busy], NO_EJECTION, rule);

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.text()), (503, "later"));
    assert_eq!((reply.header("x-own"), &*reply.why()), (Some("yes"), ""));
    assert_eq!(busy.requests(), 3);
    assert_eq!(refused_for(&proxy, "attempts"), 1.0);
    assert_eq!(proxy.logged(|line| line["status"] == 503)["attempts"], 3);
}

#[test]
fn an_endpoint_without_others_is_tried_again_itself() {
    let flaky = Upstream::statuses(&[503, 200]);
    let proxy = with(&[&flaky], "", "    retry: {statuses: [503]}\n");

    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(flaky.requests(), 2);
}

#[test]
fn a_body_is_sent_again_whole() {
    let (closing, echo) = (Upstream::closing(), Upstream::echo());
    let settings = format!("{IN_TURN}{NO_EJECTION}");
    let rule = "    retry: {methods: [POST]}\n";
    let proxy = with(&[&closing, &echo], &settings, rule);
    let body = "x".repeat(60_000);
    let request = format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 60000\r\n\r\n{body}");

    for _ in 0..2 {
        let reply = proxy.connect().ask(&request);
        assert_eq!(
            (reply.status, &reply.json()["length"]),
            (200, &60_000.into())
        );
        assert_eq!(reply.json()["body"].as_str(), Some(&*body));
    }
    assert!(closing.requests() >= 1);
}

#[test]
fn a_body_that_was_not_kept_whole_is_not_sent_again() {
    let closing = Upstream::closing();
    let proxy = with(&[&closing], NO_EJECTION, "    retry: {methods: [POST]}\n");
    let body = "x".repeat(200_000);
    let request =
        format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 200000\r\n\r\n{body}");

    let reply = proxy.connect().ask(request);

    assert_eq!((reply.status, &*reply.why()), (502, "upstream_reset"));
    assert_eq!(closing.requests(), 1);
    assert_eq!(refused_for(&proxy, "body"), 1.0);
}

#[test]
fn an_attempt_over_its_time_is_followed_by_another() {
    let (silent, live) = (Upstream::silent(), Upstream::answering("hello"));
    let settings = format!("{IN_TURN}{NO_EJECTION}");
    let rule = "    timeouts: {per_try: 1s}\n";
    let proxy = with(&[&silent, &live], &settings, rule);

    let statuses = [(); 2].map(|()| proxy.get("/").status);

    assert_eq!(statuses, [200; 2]);
    assert!(silent.requests() >= 1);
}

#[test]
fn an_attempt_over_its_time_gets_504_when_none_is_left() {
    let silent = Upstream::silent();
    let rule = "    timeouts: {per_try: 100ms}\n    retry: {attempts: 0}\n";
    let proxy = with(&[&silent], "", rule);

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (504, "response_timeout"));
}

/// A service over HTTP/2 that does with its first stream what `first` says, and answers all others.
fn flaky(first: fn(h2::server::SendResponse<bytes::Bytes>)) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let seen = Arc::<AtomicUsize>::default();
    let count = seen.clone();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if count.fetch_add(1, SeqCst) == 0 {
                        first(respond);
                        continue;
                    }
                    let head = http::Response::builder();
                    let head = head.header("content-type", "application/grpc");
                    let head = head.header("grpc-status", "0").body(()).unwrap();
                    let _ = respond.send_response(head, true);
                }
            });
        }
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(serve);
    });
    (address, seen)
}

fn http2(address: SocketAddr, rule: &str) -> Proxy {
    Proxy::http(&format!(
        "pools:\n- {{name: app, protocol: http2, endpoints: ['{address}']}}\n{ALL_TO_APP}{rule}"
    ))
}

#[test]
fn a_refused_stream_is_sent_again_whatever_its_method() {
    let refuse = |mut respond: h2::server::SendResponse<_>| {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    };
    let (address, seen) = flaky(refuse);
    let proxy = http2(address, "");

    let reply = proxy.ask("POST", "/", "content-length: 0\r\n");

    assert_eq!(reply.status, 200);
    assert_eq!(seen.load(SeqCst), 2);
}

#[test]
fn a_stream_that_was_reset_for_another_reason_is_not() {
    let reset = |mut respond: h2::server::SendResponse<_>| {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    };
    let (address, seen) = flaky(reset);
    let proxy = http2(address, "");

    let reply = proxy.ask("POST", "/", "content-length: 0\r\n");

    assert_eq!((reply.status, &*reply.why()), (502, "upstream_reset"));
    assert_eq!(seen.load(SeqCst), 1);
}

#[tokio::test]
async fn a_grpc_status_of_a_call_refused_at_once_is_tried_again() {
    let unavailable = |mut respond: h2::server::SendResponse<_>| {
        let head = http::Response::builder().header("grpc-status", "14");
        let _ = respond.send_response(head.body(()).unwrap(), true);
    };
    let (address, seen) = flaky(unavailable);
    let proxy = http2(address, "    retry: {grpc: [unavailable]}\n");
    let client = Client::connect(proxy.address("web")).await;

    let reply = client
        .ask(call("unary"), bytes::Bytes::new())
        .await
        .unwrap();

    assert_eq!(reply.field("grpc-status"), Some("0"));
    assert_eq!(seen.load(SeqCst), 2);
    let retries = proxy.metric("windrose_request_retries_total", &["cause=\"grpc_status\""]);
    assert_eq!(retries, 1.0);
}

#[test]
fn a_spent_budget_gets_503_with_retry_after_and_its_own_cause() {
    let dead = Upstream::refusing();
    let proxy = with(&[&dead], &format!("{NO_EJECTION}{NO_BUDGET}"), "");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (503, "retry_budget_spent"));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(refused_for(&proxy, "budget"), 1.0);
    let pools = proxy.admin("/pools");
    assert_eq!(pools["pools"][0]["retry_budget"]["available"], 0);
}

#[test]
fn a_rule_pays_from_its_own_budget_and_from_its_pools() {
    let dead = Upstream::refusing();
    let rule = "    retry: {budget: {ratio: 0%, min_per_second: 1, window: 1s}}\n";
    let settings = format!("{NO_EJECTION}  retry_budget: {{window: 60s}}\n");
    let proxy = with(&[&dead], &settings, rule);
    let available = |proxy: &Proxy| {
        let pools = proxy.admin("/pools");
        pools["pools"][0]["retry_budget"]["available"].as_u64()
    };
    let before = available(&proxy).unwrap();

    let spent = (0..50).map(|_| proxy.get("/").why());
    let spent = spent.filter(|why| why == "retry_budget_spent").count();

    assert!(spent > 0);
    // What the rule could not pay for was given back to the pool: it paid for the others only.
    let after = available(&proxy).unwrap();
    let (made, paid_in) = (50 - spent as u64, 10);
    assert_eq!(before + paid_in - after, made, "{before} {after}");
}

#[test]
fn a_budget_goes_on_over_a_reload() {
    let dead = Upstream::refusing();
    let settings =
        format!("{NO_EJECTION}  retry_budget: {{ratio: 0%, min_per_second: 1, window: 60s}}\n");
    let proxy = with(&[&dead], &settings, "");
    let spend = |proxy: &Proxy| {
        until("spent", || {
            (proxy.get("/").why() == "retry_budget_spent").then_some(())
        })
    };
    spend(&proxy);

    let changed = config(&[&dead], &settings, "    timeouts: {idle: 9s}\n");
    let outcome = proxy.reload(&format!("{WEB}{changed}"));

    assert_eq!(outcome["ok"], true, "{outcome}");
    assert_eq!(proxy.get("/").why(), "retry_budget_spent");
}
