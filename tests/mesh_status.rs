//! Who calls what, as both nodes of a call see it, and the screen that shows it.
//! It must not know how edges are counted.
//! Part of the test binary.

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::proxy::pool;
use crate::support::{run, until, Authority, Conn, Echo, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";

/// The folder of a node with one workload, and the `identity` that goes with it.
fn node(authority: &Authority, id: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    authority.svid(id).write(folder.path(), "own");
    let identity = format!("identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  hold: 0s\n  workloads: [{{name: own, id: '{id}', certificate: {{cert: own.crt, key: own.key}}}}]\n");
    (folder, identity)
}

fn edge(proxy: &Proxy, seen: &str, destination: &str) -> Value {
    until("the edge", || {
        let view = proxy.admin("/mesh");
        let mut all = view["edges"].as_array()?.iter();
        let found = all.find(|one| one["seen"] == seen && one["destination"] == destination);
        found.cloned()
    })
}

/// The exit code and the screen.
fn status(proxy: &Proxy, more: &[&str]) -> (Option<i32>, String) {
    let config = proxy.config();
    let config = config.to_str().unwrap();
    let args = ["mesh", "status", "--over", "0.1", "-c", config];
    let done = run(&[&args, more].concat());
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

/// A node of `web` that calls `pay` over mutual TLS, and `old` and the bytes of `db` in the clear.
fn calling(authority: &Authority, at: SocketAddr, plain: SocketAddr, bytes: SocketAddr) -> Proxy {
    let (folder, identity) = node(authority, WEB);
    Proxy::start_in(folder, &format!("listeners:\n- {{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}\n- {{name: db, role: mesh-outbound, bind: '127.0.0.1:0', protocol: tcp, service: db}}\n{identity}services:\n- {{name: pay, ports: [{{port: 80}}], endpoints: ['{at}'], mtls: {{peers: ['{PAY}']}}}}\n- {{name: old, ports: [{{port: 80}}], endpoints: ['{plain}']}}\n- {{name: db, ports: [{{port: 5432, protocol: tcp}}], endpoints: ['{bytes}']}}\n"))
}

/// What either node shows of it.
fn screens(caller: &Proxy, callee: &Proxy) {
    let (code, screen) = status(caller, &[]);
    assert_eq!(code, Some(0), "{screen}");
    for part in [
        "own  spiffe://mesh.test/ns/shop/sa/web  good, 2",
        "outbound  spiffe://mesh.test/ns/shop/sa/web -> pay ",
        "in the clear: 1 of 1 spiffe://mesh.test/ns/shop/sa/web -> old",
    ] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    let (_, screen) = status(callee, &[]);
    assert!(
        screen.contains("in  it is: nothing came in the clear"),
        "{screen}"
    );
    assert!(
        screen.contains("inbound   spiffe://mesh.test/ns/shop/sa/web -> app "),
        "{screen}"
    );
    let (_, json) = status(callee, &["--json"]);
    let view: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(view["edges"][0]["requests"], 2);
    assert!(view["edges"][0]["per_second"].is_number(), "{view}");
}

#[test]
fn both_nodes_see_an_edge_and_the_screen_shows_it() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let echo = Echo::start();
    let (folder, identity) = node(&authority, PAY);
    let callee = Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{mode: strict}}}}]\n{identity}{}routes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n", pool("app", &[&app])));
    let caller = calling(&authority, callee.address("in"), app.address, echo.address);
    let ask = |host: &str| caller.ask("GET", "/", &format!("host: {host}\r\n")).status;

    assert_eq!([ask("pay"), ask("pay"), ask("old")], [200; 3]);
    let mut conn = Conn::open(caller.address("db"));
    conn.send("hello");
    assert_eq!(conn.exactly(5).unwrap(), b"hello");
    drop(conn);

    let out = edge(&caller, "outbound", "pay");
    assert_eq!(
        (&out["source"], &out["mtls_percent"]),
        (&WEB.into(), &100.0.into())
    );
    assert_eq!(out["peers"], serde_json::json!([PAY]));
    assert!(out["p99_ms"].is_number(), "{out}");
    let came = edge(&callee, "inbound", "app");
    assert_eq!(
        (&came["source"], &came["mtls_percent"]),
        (&WEB.into(), &100.0.into())
    );
    let clear = edge(&caller, "outbound", "old");
    assert_eq!(
        (&clear["plaintext"], &clear["mtls_percent"]),
        (&1.into(), &0.0.into())
    );
    let stream = edge(&caller, "outbound", "db");
    assert_eq!(
        (&stream["connections"], &stream["connection_bytes"]),
        // There, back, and the service's last word.
        (&1.into(), &15.into())
    );
    // What goes out in the clear says nothing of what may be refused here.
    assert_eq!(caller.admin("/mesh")["listeners"], serde_json::json!([]));
    let marks = [
        "side=\"outbound\"",
        &format!("source=\"{WEB}\""),
        "destination=\"pay\"",
        "transport=\"mtls\"",
    ];
    assert_eq!(caller.metric("windrose_edge_transport_total", &marks), 2.0);

    screens(&caller, &callee);
}

#[test]
fn without_a_process_there_is_no_screen() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("windrose.yaml");
    std::fs::write(&config, "admin: {bind: 'unix:/nowhere/admin.sock'}\n").unwrap();

    let done = run(&["mesh", "status", "-c", config.to_str().unwrap()]);

    assert_eq!(done.status.code(), Some(2));
}
