//! Who may call what where callers prove themselves by mutual TLS: connections of bytes, and what comes out of tunnels.
//! It must not test how single conditions are compared; unit tests of `decide::policy` do that.
//! Part of the test binary.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::tls::{connect, Wish};
use crate::support::{node, run, Authority, Conn, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const OTHER: &str = "spiffe://mesh.test/ns/shop/sa/other";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// The node of `pay`, which lets in nobody but `web`.
fn inbound(authority: &Authority, mtls: &str, is_bytes: bool, app: &Upstream) -> Proxy {
    let (folder, identity) = node(authority, PAY);
    let (protocol, route, pool, when) = match is_bytes {
        true => ("tcp", "protocol: tcp, ", "tcp", ""),
        false => ("auto", "", "http1", ", when: {methods: [GET]}"),
    };
    Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {protocol}, mtls: {mtls}}}]\n{identity}pools: [{{name: app, protocol: {pool}, endpoints: ['{}']}}]\nroutes: [{{name: all, {route}listeners: [in], rules: [{{pool: app}}]}}]\npolicies: [{{name: callers, action: allow, rules: [{{from: {{principals: ['{WEB}']}}{when}}}]}}]\n", app.address))
}

/// The node of a caller, which opens tunnels to the node of `pay`.
fn outbound(
    authority: &Authority,
    id: &str,
    taking: &Proxy,
    is_bytes: bool,
    app: &Upstream,
) -> Proxy {
    let (folder, identity) = node(authority, id);
    let port = taking.address("in").port();
    let (protocol, route, pool) = match is_bytes {
        true => (", protocol: tcp", "protocol: tcp, ", "tcp"),
        false => ("", "", "http1"),
    };
    Proxy::start_in(folder, &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'{protocol}}}]\n{identity}pools: [{{name: pay, protocol: {pool}, endpoints: ['{}'], mtls: {{peers: ['{PAY}'], hbone: {{port: {port}}}}}}}]\nroutes: [{{name: all, {route}listeners: [web], rules: [{{pool: pay}}]}}]\n", app.address))
}

#[test]
fn bytes_over_mutual_tls_are_let_through_by_the_callers_id() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let proxy = inbound(&authority, "{}", true, &app);
    let (web, other) = (authority.svid(WEB), authority.svid(OTHER));
    let call = |certificate| {
        let wish = Wish {
            certificate: Some(certificate),
            ..Wish::default()
        };
        connect(proxy.address("in"), &wish).unwrap()
    };

    let mut refused = call(&other);
    let _ = refused.stream.write_all(GET.as_bytes());
    assert!(refused.reply().is_err());
    assert_eq!(app.connections(), 0);
    let allowed = call(&web).ask(GET);

    assert_eq!((allowed.status, &*allowed.text()), (200, "paid"));
    let line = proxy.logged(|line| line["principal"] == OTHER);
    assert_eq!(line["why"], "policy_denied");
    assert_eq!(line["policy"], "callers");
    proxy.logged(|line| line["principal"] == WEB && line["why"].is_null());
}

#[test]
fn each_request_in_a_tunnel_is_judged_by_who_opened_it() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let taking = inbound(&authority, "{hbone: true}", false, &app);
    let web = outbound(&authority, WEB, &taking, false, &app);
    let other = outbound(&authority, OTHER, &taking, false, &app);

    let allowed = web.get("/");
    let method = web.ask("POST", "/", "content-length: 0\r\n");
    let stranger = other.get("/");

    assert_eq!((allowed.status, &*allowed.text()), (200, "paid"));
    assert_eq!(method.status, 403);
    assert_eq!(stranger.status, 403);
    assert_eq!(app.requests(), 1);
    let line = taking.logged(|line| line["principal"] == OTHER);
    assert_eq!(line["why"], "policy_denied");
}

#[test]
fn bytes_in_a_tunnel_are_refused_before_the_service_hears_of_them() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let taking = inbound(&authority, "{hbone: true}", true, &app);
    let web = outbound(&authority, WEB, &taking, true, &app);
    let other = outbound(&authority, OTHER, &taking, true, &app);
    let call = |proxy: &Proxy| {
        let mut stream = TcpStream::connect(proxy.address("web")).unwrap();
        let _ = stream.write_all(GET.as_bytes());
        let mut first = [0; 12];
        stream.read_exact(&mut first).map(|()| first)
    };

    assert!(call(&other).is_err());
    assert_eq!(app.connections(), 0);
    assert_eq!(&call(&web).unwrap(), b"HTTP/1.1 200");

    let line = taking.logged(|line| line["principal"] == OTHER);
    assert_eq!(line["why"], "policy_denied");
}

#[test]
fn a_workload_of_this_node_is_known_where_its_own_requests_leave() {
    let authority = Authority::new();
    let app = Upstream::answering("called");
    let start = |allowed: &str, is_bytes: bool| {
        let (folder, identity) = node(&authority, WEB);
        let (protocol, route) = match is_bytes {
            true => (", protocol: tcp", "protocol: tcp, "),
            false => ("", ""),
        };
        Proxy::start_in(folder, &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'{protocol}}}]\n{identity}pools: [{{name: app{protocol}, endpoints: ['{}']}}]\nroutes: [{{name: all, {route}listeners: [web], rules: [{{pool: app}}]}}]\npolicies: [{{name: callers, action: allow, rules: [{{from: {{principals: ['{allowed}']}}}}]}}]\n", app.address))
    };

    let allowed = start(WEB, false).get("/");
    let refused = start(OTHER, false).get("/");
    let bytes = start(WEB, true);
    let carried = bytes.get("/");

    assert_eq!((allowed.status, &*allowed.text()), (200, "called"));
    assert_eq!((refused.status, &*refused.why()), (403, "policy_denied"));
    assert_eq!((carried.status, &*carried.text()), (200, "called"));
    bytes.logged(|line| line["principal"] == WEB);
    let other = start(OTHER, true);
    let mut conn = other.connect();
    conn.send(GET);
    assert!(conn.reply().is_err());
    other.logged(|line| line["why"] == "policy_denied");
}

/// A node with workloads `own`, known by a listener, and `other`, known by another; services of HTTP and of bytes, and a route of
/// its own that leads to the first one's pool.
fn caller(authority: &Authority, app: &Upstream, policies: &str) -> Proxy {
    let (folder, _) = node(authority, WEB);
    authority.svid(OTHER).write(folder.path(), "other");
    let workload = |name: &str, id: &str| {
        format!("  - {{name: {name}, id: '{id}', certificate: {{cert: {name}.crt, key: {name}.key}}, match: {{listeners: [{name}, {name}-db]}}}}\n")
    };
    let workloads = workload("own", WEB) + &workload("other", OTHER);
    let listener = |name: &str| {
        format!("- {{name: {name}, role: mesh-outbound, bind: '127.0.0.1:0'}}\n- {{name: {name}-db, role: mesh-outbound, bind: '127.0.0.1:0', protocol: tcp, service: db}}\n")
    };
    let listeners = listener("own") + &listener("other");
    let address = app.address;
    Proxy::start_in(folder, &format!("listeners:\n{listeners}identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  hold: 0s\n  workloads:\n{workloads}services:\n- {{name: pay, ports: [{{port: 80}}], endpoints: ['{address}']}}\n- {{name: db, ports: [{{port: 5432, protocol: tcp}}], endpoints: ['{address}']}}\n- {{name: free, ports: [{{port: 80}}], endpoints: ['{address}']}}\nroutes: [{{name: by-the-way, listeners: [own, other], hosts: [side.test], rules: [{{pool: pay}}]}}]\n{policies}"))
}

#[test]
fn a_service_is_guarded_on_the_callers_node_by_the_workload_that_calls() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let policies = format!("policies: [{{name: callers, action: allow, to: {{services: [pay, db]}}, rules: [{{from: {{principals: ['{WEB}']}}}}]}}]\n");
    let proxy = caller(&authority, &app, &policies);
    let ask = |listener: &str, host: &str| {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        Conn::open(proxy.address(listener)).ask(request).status
    };

    let asked = ["own", "other"].map(|who| ["pay", "side.test", "free"].map(|host| ask(who, host)));

    assert_eq!(asked, [[200, 200, 200], [403, 403, 200]]);
    let line = proxy.logged(|line| line["host"] == "side.test" && line["status"] == 403);
    assert_eq!(
        (&line["why"], &line["policy"]),
        (&"policy_denied".into(), &"callers".into())
    );
    let view = proxy.admin("/policies");
    let policy = &view["policies"][0];
    assert_eq!(policy["services"], serde_json::json!(["pay", "db"]));
    assert_eq!(policy["unmatched"]["examples"][0]["principal"], OTHER);
    // Bytes.
    let before = app.connections();
    let mut refused = Conn::open(proxy.address("other-db"));
    refused.send(GET);
    assert!(refused.reply().is_err());
    assert_eq!(app.connections(), before);
    assert_eq!(Conn::open(proxy.address("own-db")).ask(GET).status, 200);
}

#[test]
fn explain_and_who_can_know_the_policies_of_services() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let policies = format!("policies: [{{name: callers, action: allow, to: {{services: [pay]}}, rules: [{{from: {{principals: ['{WEB}']}}}}]}}]\n");
    let proxy = caller(&authority, &app, &policies);
    let config = proxy.config();
    let config = config.to_str().unwrap();
    let explain = |who: &str, host: &str| {
        let url = format!("http://{host}/");
        let done = run(&[
            "explain",
            "-c",
            config,
            "GET",
            &url,
            "--listener",
            "own",
            "--as",
            who,
        ]);
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };

    let (web, allowed) = explain(WEB, "side.test");
    let (other, denied) = explain(OTHER, "pay");

    assert_eq!((web, other), (Some(0), Some(1)), "{allowed}{denied}");
    assert!(
        allowed.contains("=> allow callers[0]: matches"),
        "{allowed}"
    );
    assert!(denied.contains("no rule of policy \"callers\""), "{denied}");
    let done = run(&["who-can", "-c", config, "GET", "pay/", "--listener", "own"]);
    let text = String::from_utf8(done.stdout).unwrap();
    let of = |who: &str| text.lines().find(|line| line.contains(who)).unwrap();
    assert!(
        of(WEB).starts_with("yes") && of(OTHER).starts_with("no"),
        "{text}"
    );
}
