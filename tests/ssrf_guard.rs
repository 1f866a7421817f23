//! `ssrf_guard`: what names and callers may make the proxy connect to, by every way out.
//! It must not know the list of addresses; `snapshot::ssrf` is tested for that.
//! Part of the test binary.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;

use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::{run, until, NameServer, Proxy, Upstream};

fn check(yaml: &str) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("windrose.yaml");
    std::fs::write(&path, yaml).unwrap();
    let done = run(&["check", "-c", path.to_str().unwrap()]);
    let text = [done.stdout, done.stderr].concat();
    match done.status.code() {
        Some(0) => String::new(),
        _ => String::from_utf8(text).unwrap(),
    }
}

#[test]
fn a_name_that_comes_to_mean_another_address_leads_nowhere() {
    let service = Upstream::answering("found");
    let names = NameServer::start(&[Ipv4Addr::LOCALHOST]);
    let proxy = Proxy::http(&format!(
        "ssrf_guard: {{allow: [127.0.0.1/32]}}\npools:\n- name: app\n  discovery: {{dns: {{name: app.test, record: a, port: {}, servers: ['{}'], min_ttl: 100ms, max_ttl: 200ms}}}}\n{ALL_TO_APP}",
        service.address.port(),
        names.address
    ));
    until("the name is resolved", || {
        (proxy.get("/").text() == "found").then_some(())
    });

    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    *names.answer.lock().unwrap() = Some(vec![Ipv4Addr::LOCALHOST, metadata]);
    until("the second address is known", || {
        let forbidden = &proxy.pool("app")["forbidden"];
        forbidden.is_object().then_some(())
    });
    assert_eq!(proxy.pool("app")["total"], 1);
    assert!((0..10).all(|_| proxy.get("/").text() == "found"));

    *names.answer.lock().unwrap() = Some(vec![metadata]);
    let reply = until("nothing else is left", || {
        let reply = proxy.get("/");
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((reply.status, &*reply.why()), (502, "address_forbidden"));
    assert_eq!(
        proxy.logged(|line| line["status"] == 502)["why"],
        "address_forbidden"
    );
    let cause = ["pool=\"app\"", "cause=\"address_forbidden\""];
    assert!(proxy.metric("windrose_pool_no_endpoint_total", &cause) >= 1.0);
    let config = proxy.config();
    let told = run(&[
        "explain",
        "-c",
        config.to_str().unwrap(),
        "--live",
        "GET",
        "http://a/",
    ]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("169.254.169.254") && told.contains("ssrf_guard"),
        "{told}"
    );
}

#[test]
fn plugins_call_and_send_to_no_forbidden_address() {
    let (app, agent) = (
        Upstream::answering("ok"),
        Upstream::answering("{\"result\": true}"),
    );
    let log = TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = |guard: &str| {
        format!(
            "{WEB}{guard}{}{ALL_TO_APP}  plugins:\n  - {{kind: opa, config: {{service: 'http://localhost:{}/v1/data/a'}}}}\n  - {{kind: log_syslog, config: {{server: 'tcp://localhost:{}'}}}}\n",
            pool("app", &[&app]),
            agent.address.port(),
            log.local_addr().unwrap().port()
        )
    };
    let proxy = Proxy::start(&yaml("ssrf_guard: {}\n"));
    let events = |event: &str| {
        proxy.metric(
            "windrose_plugin_events_total",
            &[&format!("event=\"{event}\"")],
        )
    };

    until("the call is refused", || {
        assert_eq!(proxy.get("/").why(), "opa.unavailable");
        (events("call_forbidden") >= 1.0).then_some(())
    });
    until("sending is refused", || {
        (events("failed") >= 1.0).then_some(())
    });
    assert_eq!((agent.connections(), app.requests()), (0, 0));
    log.set_nonblocking(true).unwrap();
    assert!(log.accept().is_err(), "nobody came");

    proxy.reload(&yaml("ssrf_guard: {allow: [127.0.0.0/8, '::1/128']}\n"));
    until("it is allowed", || {
        (proxy.get("/").status == 200).then_some(())
    });
    until("messages come", || log.accept().is_ok().then_some(()));
    // Pools that are written down are their operator's word.
    assert_eq!(app.requests(), 1);
}

#[test]
fn what_is_written_down_is_judged_when_the_configuration_is_checked() {
    let base = format!("{WEB}{ALL_TO_APP}");
    let told = check(&format!(
        "{base}ssrf_guard: {{}}\npools:\n- {{name: app, ssrf_guard: true, endpoints: ['10.0.0.1:80', {{address: '[::1]:80'}}, '9.9.9.9:80']}}\n"
    ));
    assert!(
        told.contains("pools[0].endpoints[0]: \"10.0.0.1:80\" is private"),
        "{told}"
    );
    assert!(
        told.contains("pools[0].endpoints[1].address: \"[::1]:80\""),
        "{told}"
    );
    assert!(!told.contains("9.9.9.9"), "{told}");

    let told = check(&format!(
        "{base}pools: [{{name: app, ssrf_guard: true, endpoints: ['9.9.9.9:80']}}]\n"
    ));
    assert!(told.contains("pools[0].ssrf_guard: is not used"), "{told}");

    let call = |guard: &str| {
        check(&format!(
            "{base}  plugins: [{{kind: opa, config: {{service: 'http://127.0.0.1:8181/v1/data/a'}}}}]\nssrf_guard: {guard}\npools: [{{name: app, endpoints: ['9.9.9.9:80']}}]\n"
        ))
    };
    let told = call("{}");
    assert!(
        told.contains("routes[0].plugins[0].config.service") && told.contains("loopback"),
        "{told}"
    );
    for guard in ["{for: [dns]}", "{allow: [127.0.0.0/8]}"] {
        assert_eq!(call(guard), "", "{guard}");
    }
    assert!(call("{allow: [127.0.0.0/8], deny: [127.0.0.1/32]}").contains("is denied"));
}

#[test]
fn captured_connections_go_on_to_no_forbidden_address() {
    let yaml = |guard: &str| {
        format!("{guard}listeners: [{{name: out, role: mesh-outbound, bind: '127.0.0.1:0', protocol: auto, capture: redirect}}]\nroutes: []\npools: []\n")
    };
    let outcome = |proxy: &Proxy, to: &str| {
        let config = proxy.config();
        let args = [
            "explain",
            "--json",
            "-c",
            config.to_str().unwrap(),
            "--tcp",
            to,
        ];
        let done = run(&args);
        let view: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        (
            text(&view["outcome"]["route"]),
            text(&view["outcome"]["cause"]),
        )
    };
    let is = |route: &str, cause: &str| (route.to_owned(), cause.to_owned());
    let proxy = Proxy::start(&yaml("ssrf_guard: {allow: [10.1.0.0/16]}\n"));

    assert_eq!(outcome(&proxy, "out/10.1.2.3:99"), is("passthrough", "-"));
    assert_eq!(outcome(&proxy, "out/9.9.9.9:99"), is("passthrough", "-"));
    assert_eq!(
        outcome(&proxy, "out/10.2.2.3:99"),
        is("-", "address_forbidden")
    );
    assert_eq!(
        outcome(&proxy, "out/[64:ff9b::10.2.2.3]:99"),
        is("-", "address_forbidden")
    );
    assert_eq!(
        outcome(&proxy, "out/127.0.0.1:99"),
        is("-", "destination_unknown")
    );
    proxy.reload(&yaml("ssrf_guard: {for: [calls]}\n"));
    assert_eq!(outcome(&proxy, "out/10.2.2.3:99"), is("passthrough", "-"));
}
