//! Limits of one workload at its node's proxy: it is refused and named, and others are served on.
//! It must not know how callers are told apart; each has a listener of its own here.
//! Part of the test binary.

use std::sync::mpsc;
use std::sync::Mutex;

use tempfile::TempDir;

use crate::support::proxy::pool;
use crate::support::tls::{connect, Wish};
use crate::support::upstream::answer;
use crate::support::{until, Authority, Conn, Echo, Pair, Proxy, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// Two workloads with listeners of their own; the noisy one has these limits.
fn node(limits: &str, app: &Upstream) -> Proxy {
    let authority = Authority::new();
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    let mut workloads = String::new();
    for (name, limits) in [("noisy", limits), ("quiet", "{}")] {
        let id = format!("spiffe://mesh.test/{name}");
        authority.svid(&id).write(folder.path(), name);
        workloads += &format!("  - {{name: {name}, id: '{id}', certificate: {{cert: {name}.crt, key: {name}.key}}, match: {{listeners: [{name}]}}, limits: {limits}}}\n");
    }
    let listeners = ["noisy", "quiet"]
        .map(|name| format!("- {{name: {name}, role: mesh-outbound, bind: '127.0.0.1:0'}}\n"));
    Proxy::start_in(
        folder,
        &format!("listeners:\n{}identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  workloads:\n{workloads}{}routes: [{{name: all, listeners: [noisy, quiet], rules: [{{pool: app}}]}}]\n", listeners.concat(), pool("app", &[app])),
    )
}

fn refused(proxy: &Proxy, what: &str) -> f64 {
    let marks = ["workload=\"noisy\"", &format!("what=\"{what}\"")];
    proxy.metric("windrose_workload_refused_total", &marks)
}

#[test]
fn a_workload_has_no_more_connections_than_it_may_and_others_go_on() {
    let app = Upstream::answering("hello");
    let proxy = node("{connections: 2}", &app);

    let mut kept: Vec<Conn> = (0..2).map(|_| Conn::open(proxy.address("noisy"))).collect();
    assert!(kept.iter_mut().all(|conn| conn.ask(GET).status == 200));
    let mut third = Conn::open(proxy.address("noisy"));
    assert!(third.ends());

    assert_eq!(Conn::open(proxy.address("quiet")).ask(GET).status, 200);
    assert_eq!(refused(&proxy, "connections"), 1.0);
    assert!(proxy.stderr().contains("workload=noisy"));
    drop(kept);
    until("a place", || {
        let mut conn = Conn::open(proxy.address("noisy"));
        conn.send(GET);
        conn.reply().ok().filter(|reply| reply.status == 200)
    });
}

#[test]
fn a_workload_has_no_more_requests_under_way_than_it_may() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let app = Upstream::with(move |_, stream| {
        let _ = wait.lock().unwrap().recv();
        answer(stream, 200, &[], b"late")
    });
    let proxy = node("{requests: 1}", &app);

    let mut first = Conn::open(proxy.address("noisy"));
    first.send(GET);
    until("it is under way", || (app.requests() == 1).then_some(()));
    let second = Conn::open(proxy.address("noisy")).ask(GET);
    go.send(()).unwrap();

    assert_eq!((second.status, &*second.why()), (429, "workload_limit"));
    assert_eq!(first.reply().unwrap().status, 200);
    assert_eq!(refused(&proxy, "requests"), 1.0);
}

/// The node of one workload that may make one request at a time, and serve one, to and from an application.
fn both_ways(authority: &Authority, protocol: &str, endpoint: std::net::SocketAddr) -> Proxy {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    let id = "spiffe://mesh.test/noisy";
    authority.svid(id).write(folder.path(), "noisy");
    Proxy::start_in(
        folder,
        &format!("listeners:\n- {{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {protocol}, mtls: {{}}}}\n- {{name: out, role: mesh-outbound, bind: '127.0.0.1:0', protocol: {protocol}}}\nidentity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  workloads: [{{name: noisy, id: '{id}', certificate: {{cert: noisy.crt, key: noisy.key}}, limits: {{requests: 1}}}}]\npools: [{{name: app, protocol: {}, endpoints: ['{endpoint}']}}]\nroutes: [{{name: all, protocol: {protocol}, listeners: [in, out], rules: [{{pool: app}}]}}]\n", if protocol == "tcp" { "tcp" } else { "http1" }),
    )
}

fn known(pair: &Pair) -> Wish<'_> {
    Wish {
        certificate: Some(pair),
        ..Wish::default()
    }
}

#[test]
fn what_others_ask_of_a_workload_does_not_keep_it_from_asking() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let app = Upstream::with(move |seen, stream| {
        if seen.target == "/slow" {
            let _ = wait.lock().unwrap().recv();
        }
        answer(stream, 200, &[], b"late")
    });
    let authority = Authority::new();
    let proxy = both_ways(&authority, "http", app.address);
    let caller = authority.svid("spiffe://mesh.test/quiet");
    let served = || connect(proxy.address("in"), &known(&caller)).unwrap();

    let mut first = served();
    first.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    until("it is under way", || (app.requests() == 1).then_some(()));
    let second = served().ask(GET);
    let own = Conn::open(proxy.address("out")).ask(GET);
    go.send(()).unwrap();

    assert_eq!((second.status, &*second.why()), (429, "workload_limit"));
    assert_eq!(own.status, 200);
    assert_eq!(first.reply().unwrap().status, 200);
    assert_eq!(refused(&proxy, "served"), 1.0);
}

#[test]
fn connections_of_bytes_to_a_workload_count_as_what_it_serves() {
    let echo = Echo::start();
    let authority = Authority::new();
    let proxy = both_ways(&authority, "tcp", echo.address);
    let caller = authority.svid("spiffe://mesh.test/quiet");
    let served = || connect(proxy.address("in"), &known(&caller)).unwrap();

    let mut first = served();
    first.send("ping");
    assert_eq!(first.exactly(4).unwrap(), b"ping");
    let mut second = served();
    let _ = std::io::Write::write_all(&mut second.stream, b"ping");

    assert!(second.rest().unwrap_or_default().is_empty());
    proxy.logged(|line| line["why"] == "workload_limit");
    assert_eq!(refused(&proxy, "served"), 1.0);
    drop(first);
}
