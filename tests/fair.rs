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
    node_with(limits, app, "")
}

/// The same, with plugins.
fn node_with(limits: &str, app: &Upstream, plugins: &str) -> Proxy {
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
        &format!("listeners:\n{}identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  workloads:\n{workloads}{}routes: [{{name: all, listeners: [noisy, quiet], rules: [{{pool: app}}]{plugins}}}]\n", listeners.concat(), pool("app", &[app])),
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

/// The node of one workload with these limits, to and from an application.
fn both_ways(
    authority: &Authority,
    protocol: &str,
    endpoint: std::net::SocketAddr,
    limits: &str,
) -> Proxy {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    let id = "spiffe://mesh.test/noisy";
    authority.svid(id).write(folder.path(), "noisy");
    Proxy::start_in(
        folder,
        &format!("listeners:\n- {{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {protocol}, mtls: {{}}}}\n- {{name: out, role: mesh-outbound, bind: '127.0.0.1:0', protocol: {protocol}}}\nidentity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  workloads: [{{name: noisy, id: '{id}', certificate: {{cert: noisy.crt, key: noisy.key}}, limits: {limits}}}]\npools: [{{name: app, protocol: {}, endpoints: ['{endpoint}']}}]\nroutes: [{{name: all, protocol: {protocol}, listeners: [in, out], rules: [{{pool: app}}]}}]\n", if protocol == "tcp" { "tcp" } else { "http1" }),
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
    let proxy = both_ways(&authority, "http", app.address, "{requests: 1}");
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
    let proxy = both_ways(&authority, "tcp", echo.address, "{requests: 1}");
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

/// A reader that takes nothing but the header of its response.
fn stalled(address: std::net::SocketAddr) -> Conn {
    let mut conn = Conn::open(address);
    conn.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(conn.head().unwrap().status, 200);
    conn
}

/// Answers `/long` with so much that no buffer takes it, and says how much.
fn long() -> Upstream {
    Upstream::with(|seen, stream| match &*seen.target {
        "/long" => answer(stream, 200, &[], &vec![b'x'; 32 << 20]),
        _ => answer(stream, 200, &[], b"short"),
    })
}

#[test]
fn a_workload_that_reads_nothing_holds_no_more_bytes_than_it_may() {
    let app = long();
    let proxy = node("{memory: 512KiB}", &app);

    let first = stalled(proxy.address("noisy"));
    let mut second = Conn::open(proxy.address("noisy"));
    let refused_one = second.ask("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    let small = Conn::open(proxy.address("noisy")).ask(GET);
    let other = stalled(proxy.address("quiet"));

    let told = (refused_one.status, &*refused_one.why());
    assert_eq!(told, (429, "workload_limit"));
    assert_eq!(small.status, 200);
    assert_eq!(refused(&proxy, "memory"), 1.0);
    assert!(proxy.stderr().contains("workload=noisy memory=524288"));
    drop((first, other));
    until("the bytes are let go", || {
        let mut conn = Conn::open(proxy.address("noisy"));
        conn.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
        conn.head().ok().filter(|reply| reply.status == 200)
    });
}

#[test]
fn what_a_workload_sends_counts_as_held_until_it_is_answered() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let app = Upstream::with(move |_, stream| {
        let _ = wait.lock().unwrap().recv();
        answer(stream, 200, &[], b"late")
    });
    let proxy = node("{memory: 512KiB}", &app);
    let head = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 300000\r\n\r\n";
    let upload = [head.as_bytes(), &vec![b'x'; 300_000]].concat();

    let mut first = Conn::open(proxy.address("noisy"));
    first.send(&upload);
    until("it is under way", || (app.requests() == 1).then_some(()));
    let second = Conn::open(proxy.address("noisy")).ask(&upload);
    go.send(()).unwrap();

    assert_eq!((second.status, &*second.why()), (429, "workload_limit"));
    assert_eq!(first.reply().unwrap().status, 200);
}

#[test]
fn a_body_that_a_plugin_wants_whole_counts_whole() {
    let app = Upstream::echo();
    let plugins = ", plugins: [{kind: body, config: {request: {merge: {a: 1}}, max: 2MiB}}]";
    let proxy = node_with("{memory: 512KiB}", &app, plugins);
    let ask = |length: usize| {
        let body = format!("{{\"text\":\"{}\"}}", "x".repeat(length));
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        Conn::open(proxy.address("noisy")).ask([head, body].concat())
    };

    let (small, large) = (ask(1000), ask(600_000));

    assert_eq!(small.status, 200);
    assert_eq!((large.status, &*large.why()), (429, "workload_limit"));
    assert_eq!(app.requests(), 1);
}

#[test]
fn a_response_that_grows_beyond_what_its_workload_may_hold_is_cut_off() {
    let app = Upstream::with(|_, stream| {
        use std::io::Write;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let piece = [b"4000\r\n", &[b'x'; 0x4000][..], b"\r\n"].concat();
        (0..64).try_for_each(|_| stream.write_all(&piece))?;
        stream.write_all(b"0\r\n\r\n")?;
        Ok(true)
    });
    let proxy = node("{memory: 128KiB}", &app);

    let mut conn = Conn::open(proxy.address("noisy"));
    conn.send(GET);
    let got = conn.rest().unwrap_or_default();

    assert!(!got.ends_with(b"0\r\n\r\n") && got.len() < 128 << 10);
    let line = proxy.logged(|line| line["why"] == "workload_limit");
    assert_eq!(line["status"], 200);
    assert_eq!(refused(&proxy, "memory"), 1.0);
}

#[test]
fn a_connection_of_bytes_holds_what_its_buffers_hold() {
    let echo = Echo::start();
    let authority = Authority::new();
    let proxy = both_ways(&authority, "tcp", echo.address, "{memory: 80KiB}");
    let caller = authority.svid("spiffe://mesh.test/quiet");
    let served = || connect(proxy.address("in"), &known(&caller)).unwrap();

    let mut two = [served(), served()];
    for one in &mut two {
        one.send("ping");
        assert_eq!(one.exactly(4).unwrap(), b"ping");
    }
    let mut third = served();
    let _ = std::io::Write::write_all(&mut third.stream, b"ping");

    assert!(third.rest().unwrap_or_default().is_empty());
    proxy.logged(|line| line["why"] == "workload_limit");
    assert_eq!(refused(&proxy, "served_memory"), 1.0);
}
