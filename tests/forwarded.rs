//! What services are told about the client: forwarded fields, request ids, trace context.
//! It must not know what services do with it.
//! Part of the test binary.

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{Proxy, Upstream};

fn trusting(service: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]\n{}{ALL_TO_APP}",
        pool("app", &[service])
    ))
}

const CLAIMS: &str = "host: a.test:8080\r\nx-forwarded-for: 203.0.113.7, 10.1.1.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: shop.test\r\nx-forwarded-port: 443\r\nx-request-id: mine\r\nx_forwarded_for: 6.6.6.6\r\n";

#[test]
fn claims_of_strangers_are_replaced() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let reply = proxy.ask(
        "GET",
        "/",
        &format!("{CLAIMS}forwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\nx-real_ip: 6.6.6.6\r\n"),
    );

    let seen = service.last();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["a.test:8080"]);
    assert_eq!(seen.all("x-forwarded-port"), ["8080"]);
    let claims = ["forwarded", "x-real-ip", "x_forwarded_for"];
    for name in claims.iter().chain(&["x-forwarded_for", "x-real_ip"]) {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_ne!(reply.header("x-request-id"), Some("mine"));
    assert_eq!(seen.header("x-request-id"), reply.header("x-request-id"));
}

#[test]
fn claims_of_trusted_proxies_are_kept_and_extended() {
    let service = Upstream::echo();
    let proxy = trusting(&service);

    let reply = proxy.ask("GET", "/", CLAIMS);

    let seen = service.last();
    assert_eq!(
        seen.all("x-forwarded-for"),
        ["203.0.113.7, 10.1.1.1, 127.0.0.1"]
    );
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), ["shop.test"]);
    assert_eq!(seen.all("x-forwarded-port"), ["443"]);
    assert_eq!(seen.header("x_forwarded_for"), None);
    assert_eq!(reply.header("x-request-id"), Some("mine"));
    let line = proxy.logged(|line| line["request_id"] == "mine");
    assert_eq!(line["client"], "203.0.113.7");
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_trusted() {
    let service = Upstream::echo();
    let proxy = trusting(&service);

    proxy.ask(
        "GET",
        "/",
        "x-forwarded-for: 6.6.6.6, 203.0.113.9\r\nx-forwarded-for: 10.2.2.2\r\n",
    );

    let line = proxy.logged(|_| true);
    assert_eq!(line["client"], "203.0.113.9");
}

#[test]
fn a_trace_context_is_continued() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let trace = "0af7651916cd43dd8448eb211c80319c";

    proxy.ask(
        "GET",
        "/",
        &format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\ntracestate: a=b\r\n"),
    );

    let seen = service.last();
    let parent = seen.header("traceparent").unwrap_or("");
    assert!(parent.starts_with(&format!("00-{trace}-")), "{parent}");
    assert_eq!(seen.all("traceparent").len(), 1);
    assert_eq!(seen.header("tracestate"), Some("a=b"));
    assert_eq!(proxy.logged(|_| true)["trace_id"], trace);
}

#[test]
fn b3_is_sent_on_as_w3c() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);
    let trace = "80f198ee56343ba864fe8b2a57d3eff7";

    proxy.ask("GET", "/", &format!("b3: {trace}-e457b5a2e4d86bd1-1\r\n"));

    let seen = service.last();
    let parent = seen.header("traceparent").unwrap_or("");
    assert!(parent.starts_with(&format!("00-{trace}-")), "{parent}");
    assert_eq!(seen.header("b3"), None);
}

#[test]
fn every_request_has_an_id_of_its_own() {
    let service = Upstream::echo();
    let proxy = Proxy::to(&[&service]);

    let ids = [(); 2].map(|()| proxy.get("/").header("x-request-id").map(str::to_owned));

    assert_eq!(ids[0].as_ref().map(String::len), Some(32));
    assert_ne!(ids[0], ids[1]);
}
