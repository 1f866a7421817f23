//! Limits of one workload at its node's proxy: it is refused and named, and others are served on.
//! It must not know how callers are told apart; each has a listener of its own here.
//! Part of the test binary.

use std::sync::mpsc;
use std::sync::Mutex;

use tempfile::TempDir;

use crate::support::proxy::pool;
use crate::support::upstream::answer;
use crate::support::{until, Authority, Conn, Proxy, Upstream};

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
