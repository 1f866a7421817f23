//! Connections made for somebody else: where they were going decides, and the proxy does not go round in circles.
//! It must not touch the rules of the machine it runs on; what needs rules makes network namespaces of its own.
//! Part of the test binary.

use crate::support::netns::World;
use crate::support::{run, until, Conn, Proxy};

/// What `windrose explain` says of a request on the listener `out`.
fn explained(proxy: &Proxy, destination: &str) -> serde_json::Value {
    let config = proxy.config();
    let output = run(&[
        "explain",
        "-c",
        config.to_str().unwrap(),
        "--listener",
        "out",
        "--destination",
        destination,
        "--json",
        "GET",
        "http://any.test/",
    ]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn where_a_connection_was_going_decides() {
    let proxy = Proxy::start(
        "listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:0', capture: redirect}]
routes:
- name: virtual
  listeners: [out]
  rules:
  - {match: [{destinations: [{net: 10.96.0.0/12, ports: [80]}]}], respond: {status: 201}}
  - {match: [{destinations: [{ports: [8080]}, {net: 'fd00::/8'}]}], respond: {status: 202}}
tests:
- request: {url: 'http://a.test/', listener: out, destination: '10.96.0.10:80'}
  expect: {status: 201}
",
    );
    let status = |to: &str| explained(&proxy, to)["outcome"]["status"].clone();

    assert_eq!(status("10.96.0.10:80"), 201);
    assert_eq!(
        explained(&proxy, "10.96.0.10:81")["outcome"]["route"],
        "passthrough"
    );
    assert_eq!(status("192.0.2.1:8080"), 202);
    assert_eq!(status("[fd00::1]:443"), 202);
    let conditions = explained(&proxy, "10.96.0.10:80")["candidates"].to_string();
    assert!(
        conditions.contains("destination 10.96.0.0/12 port 80"),
        "{conditions}"
    );
}

#[test]
fn elsewhere_the_address_a_connection_came_in_at_is_its_destination() {
    let proxy = Proxy::start(
        "listeners: [{name: web, bind: '127.0.0.1:0'}]
routes:
- name: local
  rules:
  - {match: [{destinations: [{net: 127.0.0.1/32}]}], respond: {status: 201}}
  - {match: [{destinations: [{net: 127.0.0.2/32}]}], respond: {status: 202}}
",
    );

    assert_eq!(proxy.get("/").status, 201);
    assert!(proxy.logged(|_| true).get("destination").is_none());
}

#[test]
fn a_connection_to_a_capturing_listener_itself_is_refused() {
    let proxy = Proxy::start(
        "listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:0', capture: redirect}]
routes: [{name: all, listeners: [out], rules: [{respond: {status: 200}}]}]
",
    );

    let mut conn = Conn::open(proxy.address("out"));
    conn.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");

    assert!(conn.ends());
    let cause = format!("cause=\"{}\"", "capture_loop");
    let refused = ["listener=\"out\"", &*cause];
    // The client hears of the end before it is counted.
    until("the refusal is counted", || {
        let counted = proxy.metric("windrose_connection_failures_total", &refused);
        (counted == 1.0).then_some(())
    });
}

#[test]
fn the_proxys_own_calls_are_marked_whoever_makes_them() {
    let Some(world) = World::new() else { return };
    let _authority = world.outside.server("http=10.77.0.2:15012");
    let node = &world.node;
    let rules = "table inet mine { chain out { type nat hook output priority -100; meta mark != 119 meta l4proto tcp redirect to :15001; }; }";
    assert!(node.run(&["nft", rules]).status.success());
    let folder = tempfile::TempDir::new().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "one.two").unwrap();

    let proxy = node.proxy(&format!(
        "server: {{mark: 119}}
listeners: [{{name: out, role: mesh-outbound, bind: '[::]:15001', protocol: auto, capture: redirect}}]
identity:
  trust_domain: td
  hold: 0s
  source: {{ca: {{address: '10.77.0.2:15012', root_hash: 'sha256:{}', token_file: '{}', state: FOLDER/state}}}}
  workloads: [{{name: web, id: 'spiffe://td/web'}}]
",
        "0".repeat(64),
        token.display()
    ));
    until("the authority was called", || {
        let failures = proxy.admin("/certs")["workloads"][0]["failures"].as_u64();
        failures.filter(|failures| *failures > 0)
    });

    let came = proxy.metric("windrose_connections_total", &["listener=\"out\""]);
    assert_eq!(came, 0.0);
}
