//! What a connection speaks: where HTTP is known to be spoken nothing passes as bytes, however a client begins, and servers that
//! speak first are heard without a wait. It must not touch the rules of the machine it runs on; without root the tests that need
//! rules skip, and say so. Part of the test binary.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::netns::{Netns, World};
use crate::support::tls::{connect, Wish};
use crate::support::{until, Authority, Conn, Echo, Proxy, Upstream};

/// The user of applications.
const APP: &str = "64202";
const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";

/// Brings what applications open to the port 15001, and what comes in from elsewhere to 15006.
fn redirect(node: &Netns) {
    let rules = format!("table inet detect {{ chain out {{ type nat hook output priority -100; meta skuid {APP} meta l4proto tcp redirect to :15001; }}; chain come {{ type nat hook prerouting priority -100; iifname \"w0\" meta l4proto tcp redirect to :15006; }}; }}");
    let done = node.run(&["nft", &rules]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

/// What comes back from a port for what a script writes to it.
fn heard(node: &Netns, to: &str, script: &str) -> String {
    let (host, port) = to.split_once(' ').unwrap();
    let script = format!("exec 3<>/dev/tcp/{host}/{port}; {script}; cat <&3");
    let output = node.run_as(APP, &["timeout", "10", "bash", "-c", &script]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A request, in what `printf` understands.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n")
}

/// A client that connects before it has anything to ask.
fn late(path: &str) -> String {
    format!("sleep 0.6; printf '{}' >&3", get(path))
}

/// Waits until so many connections were refused for a cause.
fn refused(proxy: &Proxy, cause: &str, times: f64) {
    let mark = format!("cause=\"{cause}\"");
    until(cause, || {
        let now = proxy.metric("windrose_connection_failures_total", &[&mark]);
        (now >= times).then(|| assert_eq!(now, times))
    });
}

#[test]
fn what_goes_to_a_services_address_is_a_request_however_it_begins() {
    let Some(world) = World::new() else { return };
    let _servers = world
        .outside
        .server("http=10.77.0.2:8080 http=10.77.0.2:4444");
    let node = &world.node;
    let proxy = node.proxy(
        "listeners: [{name: out, role: mesh-outbound, bind: '[::]:15001', protocol: auto, capture: redirect, detect_timeout: 200ms}]
services: [{name: shop, addresses: [10.77.0.2], ports: [{port: 8080}, {port: 4444}], endpoints: ['10.77.0.2']}]
",
    );
    redirect(node);

    for (port, route) in [("8080", "shop"), ("4444", "shop.4444")] {
        let path = format!("/late-{port}");
        let body = heard(node, &format!("10.77.0.2 {port}"), &late(&path));
        assert!(body.contains("served"), "{body}");
        assert_eq!(proxy.logged(|line| line["path"] == *path)["route"], route);
    }
    let bytes = heard(node, "10.77.0.2 8080", "printf '\\0\\1\\2' >&3");
    let tls = heard(node, "10.77.0.2 8080", HELLO);

    assert_eq!((&*bytes, &*tls), ("", ""));
    refused(&proxy, "connection.protocol", 2.0);
    assert!(proxy
        .log()
        .iter()
        .all(|line| line["route"] != "passthrough"));
}

/// The shortest ClientHello there can be.
const HELLO: &str = "printf '\\x16\\x03\\x01\\x00\\x05\\x01\\x00\\x00\\x01\\x00' >&3";

#[test]
fn a_port_of_http_carries_nothing_else() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server("http=10.77.0.2:8080");
    let node = &world.node;
    let proxy = node.proxy(
        "listeners: [{name: out, role: mesh-outbound, bind: '[::]:15001', protocol: auto, capture: redirect, detect_timeout: 200ms, ports: {\"8080\": http}, limits: {header_timeout: 3s}}]
routes: [{name: no-admin, listeners: [out], rules: [{match: [{path: {prefix: /admin}}], respond: {status: 403}}]}]
",
    );
    redirect(node);
    let to = "10.77.0.2 8080";

    let line_first = heard(node, to, &format!("printf '\\r\\n{}' >&3", get("/admin")));
    let tls = heard(node, to, HELLO);
    let silent = heard(
        node,
        to,
        &format!("sleep 5; printf '{}' >&3", get("/admin")),
    );

    for reply in [line_first, tls, silent] {
        assert_eq!(reply, "");
    }
    refused(&proxy, "connection.protocol", 2.0);
    refused(&proxy, "connection.timeout", 1.0);
    assert!(heard(node, to, &late("/other")).contains("served"));
    assert!(heard(node, to, &late("/admin")).contains(" 403 "));
}

#[test]
fn silence_does_not_lead_past_a_rule_for_requests_to_a_port() {
    let Some(world) = World::new() else { return };
    let _servers = world
        .outside
        .server("http=10.77.0.2:8080 banner=10.77.0.2:2525");
    let node = &world.node;
    let proxy = node.proxy(
        "listeners: [{name: out, role: mesh-outbound, bind: '[::]:15001', protocol: auto, capture: redirect, detect_timeout: 200ms}]
pools: [{name: shop, endpoints: ['10.77.0.2:8080']}]
routes: [{name: shop, listeners: [out], rules: [{match: [{destinations: [{net: 10.77.0.0/24, ports: [8080]}]}], pool: shop}]}]
",
    );
    redirect(node);

    let body = heard(node, "10.77.0.2 8080", &late("/late"));
    let banner = heard(
        node,
        "10.77.0.2 2525",
        "head -c 5 <&3; exec 3<&-; exec 3</dev/null",
    );

    assert!(body.contains("served"), "{body}");
    assert_eq!(
        proxy.logged(|line| line["path"] == "/late")["route"],
        "shop"
    );
    assert_eq!(banner, "HELLO");
}

/// A folder with the roots and a certificate for `pay`, and the `identity` that goes with it.
fn identity(authority: &Authority) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    authority.svid(PAY).write(folder.path(), "pay");
    let at = folder.path().display();
    let identity = format!("identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: {at}/bundle.pem}}}}\n  hold: 0s\n  workloads: [{{name: pay, id: '{PAY}', certificate: {{cert: {at}/pay.crt, key: {at}/pay.key}}}}]\n");
    (folder, identity)
}

#[test]
fn requests_are_found_inside_mutual_tls_without_alpn() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let greeting = Echo::greeting(b"hello");
    let (_folder, identity) = identity(&authority);
    let proxy = |tcp: &str| {
        Proxy::start(&format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: auto, mtls: {{}}, limits: {{header_timeout: 60s}}}}]\n{identity}pools: [{{name: app, endpoints: ['{0}']}}, {{name: raw, protocol: tcp, endpoints: ['{tcp}']}}]\nroutes: [{{name: app, listeners: [in], rules: [{{pool: app}}]}}, {{name: raw, protocol: tcp, listeners: [in], rules: [{{pool: raw}}]}}]\npolicies: [{{name: no-delete, action: deny, to: {{routes: [app]}}, rules: [{{when: {{methods: [DELETE]}}}}]}}]\n", app.address))
    };
    let caller = authority.svid(WEB);
    let wish = Wish {
        certificate: Some(&caller),
        ..Wish::default()
    };
    let to_app = proxy(&app.address.to_string());

    let mut conn = connect(to_app.address("in"), &wish).unwrap();
    conn.send("DEL");
    let reply = conn.ask("ETE / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((reply.status, &*reply.why()), (403, "policy_denied"));
    let reply = conn.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["body"], "body");
    assert!(app.last().header("x-forwarded-client-cert").is_some());

    let to_raw = proxy(&greeting.address.to_string());
    let begin = Instant::now();
    let mut conn = connect(to_raw.address("in"), &wish).unwrap();
    assert_eq!(conn.exactly(5).unwrap(), b"hello");
    conn.send(b"\x00\x01");
    assert_eq!(conn.exactly(2).unwrap(), b"\x00\x01");
    let mut conn = connect(to_raw.address("in"), &wish).unwrap();
    conn.send(b"\x00\x01");
    assert_eq!(conn.exactly(7).unwrap(), b"hello\x00\x01");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn servers_that_speak_first_are_heard_at_permissive_ports() {
    let authority = Authority::new();
    let greeting = Echo::greeting(b"hello");
    let (_folder, identity) = identity(&authority);
    let caller = authority.svid(WEB);
    let wish = Wish {
        certificate: Some(&caller),
        ..Wish::default()
    };
    for protocol in ["tcp", "auto"] {
        let proxy = Proxy::start(&format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {protocol}, mtls: {{mode: permissive}}, limits: {{header_timeout: 60s}}}}]\n{identity}pools: [{{name: raw, protocol: tcp, endpoints: ['{}']}}]\nroutes: [{{name: raw, protocol: tcp, listeners: [in], rules: [{{pool: raw}}]}}]\n", greeting.address));

        let mut plain = Conn::open(proxy.address("in"));
        assert_eq!(plain.exactly(5).unwrap(), b"hello", "{protocol}");
        plain.send("back");
        assert_eq!(plain.exactly(4).unwrap(), b"back");
        let mut mutual = connect(proxy.address("in"), &wish).unwrap();
        assert_eq!(mutual.exactly(5).unwrap(), b"hello", "{protocol}");
        drop(plain);
        proxy.logged(|line| line["scheme"] == "tcp" && line["principal"] != WEB);
        drop(mutual);
        proxy.logged(|line| line["scheme"] == "tcp" && line["principal"] == WEB);
    }
}

#[test]
fn captured_ports_with_mutual_tls_find_out_as_others_do() {
    let Some(world) = World::new() else { return };
    let authority = Authority::new();
    let (_folder, identity) = identity(&authority);
    let node = &world.node;
    let _app = node.server("http=10.77.0.1:8080 banner=10.77.0.1:2525 banner=10.77.0.1:2626");
    let proxy = node.proxy(&format!("listeners: [{{name: in, role: mesh-inbound, bind: '0.0.0.0:15006', protocol: auto, capture: redirect, unknown: passthrough, mtls: {{mode: permissive}}, detect_timeout: 200ms, ports: {{\"8080\": http, \"2626\": tcp}}, limits: {{header_timeout: 30s}}}}]\n{identity}"));
    redirect(node);

    let begin = Instant::now();
    for port in ["2525", "2626"] {
        let banner = heard(
            &world.outside,
            &format!("10.77.0.1 {port}"),
            "head -c 5 <&3; exec 3<&-; exec 3</dev/null",
        );
        assert_eq!(banner, "HELLO");
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
    let body = heard(&world.outside, "10.77.0.1 8080", &late("/late"));
    assert!(body.contains("served"), "{body}");
    proxy.logged(|line| line["path"] == "/late");
}
