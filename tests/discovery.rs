//! Endpoints that come and go: DNS and drained weights.
//! It must not know how answers are cached.
//! Part of the test binary.

use std::net::Ipv4Addr;

use crate::support::proxy::ALL_TO_APP;
use crate::support::{until, NameServer, Proxy, Upstream};

#[test]
fn endpoints_come_from_dns_and_the_last_answer_stays_when_it_fails() {
    let service = Upstream::answering("found");
    let names = NameServer::start(&[Ipv4Addr::LOCALHOST]);
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  discovery: {{dns: {{name: app.test, record: a, port: {}, servers: ['{}'], min_ttl: 100ms, max_ttl: 200ms}}}}\n{ALL_TO_APP}",
        service.address.port(),
        names.address
    ));
    until("the name is resolved", || {
        (proxy.get("/").text() == "found").then_some(())
    });

    *names.answer.lock().unwrap() = Some(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)]);
    until("the second address is there", || {
        (proxy.pool("app")["total"] == 2).then_some(())
    });
    *names.answer.lock().unwrap() = None;
    until("the failure is shown", || {
        proxy.pool("app")["source_problem"]
            .is_string()
            .then_some(())
    });

    assert_eq!(proxy.pool("app")["total"], 2);
    assert_eq!(proxy.get("/").text(), "found");
}

#[test]
fn an_endpoint_of_weight_0_gets_nothing_new() {
    let (drained, other) = (Upstream::answering("drained"), Upstream::answering("other"));
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  endpoints:\n  - {{address: '{}', weight: 0}}\n  - '{}'\n{ALL_TO_APP}",
        drained.address, other.address
    ));

    let seen = [(); 8].map(|()| proxy.get("/").text());

    assert_eq!(seen, ["other"; 8]);
}

#[test]
fn weights_divide_the_requests() {
    let (light, heavy) = (Upstream::answering(""), Upstream::answering(""));
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  balance: {{algorithm: round_robin}}\n  endpoints:\n  - {{address: '{}', weight: 1}}\n  - {{address: '{}', weight: 3}}\n{ALL_TO_APP}",
        light.address, heavy.address
    ));

    for _ in 0..16 {
        proxy.get("/");
    }

    assert_eq!((light.requests(), heavy.requests()), (4, 12));
}

#[test]
fn an_ipv6_listener_and_endpoint_carry_requests() {
    let proxy = Proxy::start(
        "listeners:\n- {name: web, bind: '[::1]:0'}\nroutes:\n- {name: all, rules: [{respond: {status: 200, body: six}}]}\n",
    );
    let outer = Proxy::http(&format!(
        "pools:\n- {{name: app, endpoints: ['{}']}}\n{ALL_TO_APP}",
        proxy.address("web")
    ));

    assert_eq!(outer.get("/").text(), "six");
}
