//! Mutual TLS of each service for itself: on or off, with whom, and towards ports that are strict or permissive.
//! It must not know how certificates are verified; what it asserts is seen at the edge.
//! Part of the test binary.

use crate::support::{node, until, Authority, Conn, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const OTHER: &str = "spiffe://mesh.test/ns/shop/sa/other";

/// A node with an application behind a listener of this `mtls`.
fn callee(authority: &Authority, id: &str, mtls: &str, app: &Upstream) -> Proxy {
    let (folder, identity) = node(authority, id);
    Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {mtls}}}]\n{identity}pools: [{{name: app, endpoints: ['{}']}}]\nroutes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n", app.address))
}

/// A node that calls services.
fn caller(authority: &Authority, services: &str) -> Proxy {
    let (folder, identity) = node(authority, WEB);
    let listener = "listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:0'}]\n";
    Proxy::start_in(
        folder,
        &format!("{listener}{identity}services:\n{services}"),
    )
}

/// A service of one endpoint, and more.
fn service(name: &str, endpoint: impl std::fmt::Display, more: &str) -> String {
    format!("- {{name: {name}, ports: [{{port: 80}}], endpoints: ['{endpoint}']{more}}}\n")
}

fn ask(proxy: &Proxy, service: &str) -> (u16, String) {
    let request = format!("GET /{service} HTTP/1.1\r\nhost: {service}\r\n\r\n");
    let reply = Conn::open(proxy.address("out")).ask(request);
    (reply.status, reply.why())
}

#[test]
fn each_service_has_mutual_tls_of_its_own_or_none() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let strict = callee(&authority, PAY, "{mode: strict}", &app);
    let permissive = callee(&authority, PAY, "{mode: permissive}", &app);
    let (s, p) = (strict.address("in"), permissive.address("in"));
    let on = format!(", mtls: {{peers: ['{PAY}']}}");
    let proxy = caller(
        &authority,
        &[
            service("strict-on", s, &on),
            service("strict-off", s, ""),
            service("permissive-on", p, &on),
            service("permissive-off", p, ""),
        ]
        .concat(),
    );

    for name in ["strict-on", "permissive-on", "permissive-off"] {
        assert_eq!(ask(&proxy, name).0, 200, "{name}");
    }
    let refused = ask(&proxy, "strict-off");

    assert_eq!(refused.0, 502);
    until("the port refuses plaintext", || {
        (strict.refusals("in", "mtls.plaintext_refused") > 0.0).then_some(())
    });
    let principal =
        |node: &Proxy, path: &str| node.logged(|line| line["path"] == path)["principal"].clone();
    assert_eq!(principal(&strict, "/strict-on"), WEB);
    assert_eq!(principal(&permissive, "/permissive-on"), WEB);
    assert!(principal(&permissive, "/permissive-off").is_null());
    assert_eq!(app.requests(), 3);
}

#[test]
fn a_service_is_who_it_is_expected_to_be_or_is_not_called() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let pay = callee(&authority, PAY, "{mode: strict}", &app);
    let other = callee(&authority, OTHER, "{mode: strict}", &app);
    let tunnels = callee(&authority, OTHER, "{hbone: true}", &app);
    let stranger = callee(&Authority::new(), PAY, "{mode: strict}", &app);
    let with = |peers: &str| format!(", mtls: {{peers: [{peers}]}}");
    let through = |peer: &str| {
        let port = tunnels.address("in").port();
        format!(", mtls: {{peers: ['{peer}'], hbone: {{port: {port}}}}}")
    };
    let proxy = caller(
        &authority,
        &[
            service("right", pay.address("in"), &with(&format!("'{PAY}'"))),
            service("wrong", other.address("in"), &with(&format!("'{PAY}'"))),
            service(
                "either",
                other.address("in"),
                &with(&format!("'{PAY}', '{OTHER}'")),
            ),
            service(
                "pattern",
                other.address("in"),
                &with("'spiffe://mesh.test/ns/shop/**'"),
            ),
            service(
                "stranger",
                stranger.address("in"),
                &with(&format!("'{PAY}'")),
            ),
            service("tunnel-right", app.address, &through(OTHER)),
            service("tunnel-wrong", app.address, &through(PAY)),
        ]
        .concat(),
    );

    for name in ["right", "either", "pattern", "tunnel-right"] {
        assert_eq!(ask(&proxy, name), (200, String::new()), "{name}");
    }
    let refused = |name| ask(&proxy, name);
    for name in ["wrong", "tunnel-wrong"] {
        assert_eq!(refused(name), (502, "mtls.wrong_peer".into()), "{name}");
    }
    assert_eq!(refused("stranger"), (502, "mtls.untrusted".into()));
    assert_eq!(app.requests(), 4, "nobody else heard of a request");
}

#[test]
fn a_service_goes_from_off_to_on_with_a_reload_of_its_own() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let node = callee(&authority, PAY, "{mode: permissive}", &app);
    let on = format!(", mtls: {{peers: ['{PAY}']}}");
    let services = |more: &str| {
        [
            service("changes", node.address("in"), more),
            service("stays", node.address("in"), ""),
        ]
        .concat()
    };
    let proxy = caller(&authority, &services(""));
    assert_eq!(ask(&proxy, "changes").0, 200);
    assert!(node.logged(|line| line["path"] == "/changes")["principal"].is_null());

    let yaml = std::fs::read_to_string(proxy.config()).unwrap();
    let outcome = proxy.reload(&yaml.replace(&services(""), &services(&on)));

    assert_eq!(
        outcome["changes"],
        serde_json::json!([
            "pool \"changes\": changed (mtls)",
            "service \"changes\": changed (mtls)"
        ]),
        "{outcome}"
    );
    assert_eq!(ask(&proxy, "changes").0, 200);
    assert_eq!(ask(&proxy, "stays").0, 200);
    node.logged(|line| line["path"] == "/changes" && line["principal"] == WEB);
    assert!(node.logged(|line| line["path"] == "/stays")["principal"].is_null());
}
