//! Connections that are open when what their other side proved itself with is over: judged again, and ended with the cause.
//! It must not know how they are watched; what it asserts is seen at the edge.
//! Part of the test binary.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::svid::Recipe;
use crate::support::tls::{connect, Wish};
use crate::support::wait::pause;
use crate::support::{until, Authority, Conn, Echo, Load, Pair, Proxy, Upstream, WebSocket};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const EVENTS: &str = "GET /events HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n";

/// Seconds that a short-lived certificate lasts; connections are made within them.
const SHORT: i64 = 5;

/// How what is carried is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http1,
    Http2,
    Tunnel,
    Bytes,
    BytesInTunnel,
}

use Way::{Bytes, BytesInTunnel, Http1, Http2, Tunnel};

impl Way {
    fn is_tcp(self) -> bool {
        matches!(self, Bytes | BytesInTunnel)
    }

    fn is_tunnel(self) -> bool {
        matches!(self, Tunnel | BytesInTunnel)
    }
}

/// A node whose one workload is called `own`.
struct Node<'a> {
    authority: &'a Authority,
    id: &'a str,
    proxy: Proxy,
}

impl<'a> Node<'a> {
    fn start(authority: &'a Authority, id: &'a str, expiry: &str, rest: &str) -> Node<'a> {
        let folder = TempDir::new().unwrap();
        authority.write_bundle(folder.path(), "bundle.pem");
        authority.svid(id).write(folder.path(), "own");
        let proxy = Proxy::start_in(folder, &format!("identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  hold: 0s\n{expiry}  workloads: [{{name: own, id: '{id}', certificate: {{cert: own.crt, key: own.key}}}}]\n{rest}"));
        Node {
            authority,
            id,
            proxy,
        }
    }

    /// The node that is called.
    fn called(authority: &'a Authority, expiry: &str, way: Way, app: SocketAddr) -> Node<'a> {
        let (listener, pool, route) = match way.is_tcp() {
            true => (", protocol: tcp", ", protocol: tcp", "protocol: tcp, "),
            false => ("", "", ""),
        };
        let mtls = if way.is_tunnel() { "hbone: true" } else { "" };
        Node::start(authority, PAY, expiry, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0'{listener}, mtls: {{{mtls}}}}}]\npools: [{{name: app{pool}, endpoints: ['{app}']}}]\nroutes: [{{name: all, {route}listeners: [in], rules: [{{pool: app}}]}}]\n"))
    }

    /// The node that calls.
    fn calling(
        authority: &'a Authority,
        expiry: &str,
        way: Way,
        (node, app): (SocketAddr, SocketAddr),
    ) -> Node<'a> {
        let (listener, kind, route) = match way {
            Bytes | BytesInTunnel => (", protocol: tcp", "tcp", "protocol: tcp, "),
            Http2 => ("", "auto", ""),
            Http1 | Tunnel => ("", "http1", ""),
        };
        let (endpoint, hbone) = match way.is_tunnel() {
            true => (app, format!(", hbone: {{port: {}}}", node.port())),
            false => (node, String::new()),
        };
        Node::start(authority, WEB, expiry, &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'{listener}}}]\npools: [{{name: pay, protocol: {kind}, endpoints: ['{endpoint}'], mtls: {{peers: ['{PAY}']{hbone}}}}}]\nroutes: [{{name: all, {route}listeners: [web], rules: [{{pool: pay}}]}}]\n"))
    }

    /// Gives its workload a certificate that lasts this many seconds.
    fn renew(&self, seconds: i64) {
        let names = [self.id];
        let recipe = Recipe::of(&names).lasting(seconds);
        let pair = self.authority.make(&recipe);
        pair.write(self.proxy.file("").as_path(), "own");
        until("the new certificate is used", || {
            let view = self.proxy.admin("/certs");
            let serial = view["workloads"][0]["serial"].as_str()?;
            serial.eq_ignore_ascii_case(&pair.serial()).then_some(())
        });
    }

    fn believes(&self, authority: &Authority) {
        authority.write_bundle(self.proxy.file("").as_path(), "bundle.pem");
    }

    fn refusals(&self, cause: &str) -> f64 {
        let marks = ["listener=\"in\"", &format!("cause=\"{cause}\"")];
        self.proxy
            .metric("windrose_connection_failures_total", &marks)
    }
}

/// Answers, but sends the header of `/events` and nothing after it, or a piece every now and then.
fn app() -> Upstream {
    Upstream::with(|seen, stream| {
        if seen.target != "/events" {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            return Ok(true);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
        loop {
            pause(Duration::from_millis(50));
            stream.write_all(b": still here\n\n")?;
        }
    })
}

fn certificate(pair: &Pair) -> Wish<'_> {
    Wish {
        certificate: Some(pair),
        ..Wish::default()
    }
}

/// Two nodes, one that is called and one that calls, and what is behind the former.
fn nodes<'a>(
    authority: &'a Authority,
    way: Way,
    [called, calling]: [&str; 2],
) -> (Node<'a>, Node<'a>, (Upstream, Echo)) {
    let ends = (app(), Echo::start());
    let end = match way.is_tcp() {
        true => ends.1.address,
        false => ends.0.address,
    };
    let there = Node::called(authority, called, way, end);
    let addresses = (there.proxy.address("in"), end);
    let here = Node::calling(authority, calling, way, addresses);
    (there, here, ends)
}

/// Something long-lived through the calling node; says when it ended.
fn open(way: Way, address: SocketAddr) -> impl FnOnce() -> Instant {
    let mut conn = Conn::open(address);
    match way.is_tcp() {
        true => {
            conn.send("ping");
            assert_eq!(conn.exactly(4).unwrap(), b"ping");
        }
        false => {
            conn.send(EVENTS);
            assert_eq!(conn.head().unwrap().status, 200);
        }
    }
    move || {
        let _ = conn.rest();
        Instant::now()
    }
}

#[test]
fn a_caller_whose_certificate_ends_begins_nothing_new_and_is_cut_after_the_grace() {
    let authority = Authority::new();
    let app = app();
    let there = Node::called(&authority, "  expiry_grace: 2s\n", Http1, app.address);
    let address = there.proxy.address("in");
    let pair = authority.make(&Recipe::of(&[WEB]).lasting(SHORT));
    let mut idle = connect(address, &certificate(&pair)).unwrap();
    let mut busy = connect(address, &certificate(&pair)).unwrap();
    let renewed = authority.svid(WEB);
    let mut other = connect(address, &certificate(&renewed)).unwrap();
    assert_eq!(idle.ask(GET).status, 200);
    busy.send(EVENTS);
    assert_eq!(busy.head().unwrap().status, 200);

    assert!(idle.ends());
    let ended = Instant::now();
    assert_eq!(there.refusals("mtls.expired"), 0.0, "idle ones are not cut");
    assert!(there.proxy.log().iter().all(|line| line["path"] == "/"));
    let _ = busy.rest();

    assert!(ended.elapsed() > Duration::from_millis(1500));
    let line = there.proxy.logged(|line| line["path"] == "/events");
    assert_eq!(
        (&line["why"], &line["principal"]),
        (&"mtls.expired".into(), &WEB.into())
    );
    until("the cut is counted", || {
        (there.refusals("mtls.expired") == 1.0).then_some(())
    });
    let marks = ["route=\"all\"", "cause=\"mtls.expired\""];
    assert_eq!(
        there.proxy.metric("windrose_request_causes_total", &marks),
        1.0
    );
    assert_eq!(other.ask(GET).status, 200, "others go on");
}

#[test]
fn nodes_whose_certificate_ended_are_cut_whatever_they_carry() {
    let authority = Authority::new();
    for way in [Http1, Http2, Tunnel, Bytes, BytesInTunnel] {
        let (there, here, _ends) = nodes(&authority, way, ["  expiry_grace: 0s\n", ""]);
        here.renew(SHORT);

        let ended = open(way, here.proxy.address("web"));
        here.renew(3600);
        let _ = ended();

        let line = there.proxy.logged(|line| line["why"] == "mtls.expired");
        assert_eq!(line["principal"], WEB, "{way:?}");
        if !way.is_tcp() {
            let protocol = if way == Http2 { "HTTP/2" } else { "HTTP/1.1" };
            assert_eq!(line["protocol"], protocol, "{way:?}");
            assert_eq!(here.proxy.get("/").status, 200, "{way:?}");
        }
    }
}

#[test]
fn a_websocket_ends_with_the_certificate_of_its_caller() {
    let authority = Authority::new();
    let app = WebSocket::service();
    let there = Node::called(&authority, "  expiry_grace: 0s\n", Http1, app.address);
    let addresses = (there.proxy.address("in"), app.address);
    let here = Node::calling(&authority, "", Http1, addresses);
    here.renew(SHORT);
    let mut socket = WebSocket::open(here.proxy.address("web"), "/");
    here.renew(3600);

    assert!(socket.talk("hello").is_some());
    assert!(socket.ends());

    let line = there.proxy.logged(|line| line["status"] == 101);
    assert_eq!(line["why"], "mtls.expired");
}

#[test]
fn endpoints_whose_certificate_ended_are_cut_whatever_they_carry() {
    let authority = Authority::new();
    for way in [Http1, Http2, Tunnel, Bytes, BytesInTunnel] {
        let (there, here, _ends) = nodes(&authority, way, ["", "  expiry_grace: 0s\n"]);
        there.renew(SHORT);

        let ended = open(way, here.proxy.address("web"));
        there.renew(3600);
        let _ = ended();

        here.proxy.logged(|line| line["why"] == "mtls.expired");
        if !way.is_tcp() {
            assert_eq!(here.proxy.get("/").status, 200, "{way:?}");
        }
    }
}

#[test]
fn kept_connections_are_not_used_after_the_endpoints_certificate() {
    let authority = Authority::new();
    let app = app();
    let there = Node::called(&authority, "", Http1, app.address);
    let addresses = (there.proxy.address("in"), app.address);
    let closing = Node::calling(&authority, "", Http1, addresses);
    let keeping = Node::calling(&authority, "  on_expiry: keep\n", Http1, addresses);
    let ask = |node: &Node<'_>| {
        let before = node.proxy.log().len();
        assert_eq!(node.proxy.get("/").status, 200);
        // What is logged has put its connection away: the next request finds it.
        let logged = || (node.proxy.log().len() > before).then_some(());
        until("its line", logged);
    };
    let handshakes = || {
        let marks = ["listener=\"in\""];
        there.proxy.metric("windrose_tls_handshakes_total", &marks)
    };
    there.renew(SHORT);
    for node in [&closing, &keeping] {
        ask(node);
        ask(node);
    }
    there.renew(3600);
    assert_eq!(handshakes(), 2.0, "one connection is kept for each node");

    until("another connection is made", || {
        ask(&closing);
        (handshakes() == 3.0).then_some(())
    });
    for _ in 0..3 {
        ask(&closing);
        ask(&keeping);
    }

    assert_eq!(handshakes(), 3.0);
}

#[test]
fn a_root_that_is_withdrawn_takes_its_connections_within_a_second() {
    let (authority, other) = (Authority::new(), Authority::new());
    for way in [Http1, Http2, Tunnel, Bytes, BytesInTunnel] {
        // Roots count whatever becomes of certificates that end.
        let (there, here, _ends) = nodes(&authority, way, ["  on_expiry: keep\n", ""]);
        let by_callee = open(way, here.proxy.address("web"));

        let begin = Instant::now();
        there.believes(&other);
        let took = by_callee() - begin;

        assert!(took < Duration::from_secs(1), "{way:?}: {took:?}");
        there.proxy.logged(|line| line["why"] == "mtls.untrusted");
        there.believes(&authority);
        let by_caller = until("it is believed again", || {
            let mut conn = Conn::open(here.proxy.address("web"));
            conn.send(if way.is_tcp() { "ping" } else { EVENTS });
            let begun = match way.is_tcp() {
                true => conn.exactly(4).is_ok(),
                false => conn.head().is_ok_and(|head| head.status == 200),
            };
            begun.then_some(conn)
        });
        let begin = Instant::now();
        here.believes(&other);
        let mut conn = by_caller;
        let _ = conn.rest();
        let took = begin.elapsed();

        assert!(took < Duration::from_secs(1), "{way:?}: {took:?}");
        here.proxy.logged(|line| line["why"] == "mtls.untrusted");
    }
}

#[test]
fn idle_callers_of_a_withdrawn_root_are_cut_and_counted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let app = app();
    let there = Node::called(&authority, "", Http1, app.address);
    let pair = authority.svid(WEB);
    let mut idle = connect(there.proxy.address("in"), &certificate(&pair)).unwrap();
    assert_eq!(idle.ask(GET).status, 200);

    there.believes(&other);

    assert!(idle.ends());
    until("the cut is counted", || {
        (there.refusals("mtls.untrusted") == 1.0).then_some(())
    });
    assert!(there.proxy.stderr().contains("judged again"));
}

#[test]
fn certificates_of_seconds_rotate_under_load_without_a_failed_request() {
    let authority = Authority::new();
    for way in [Http1, Http2] {
        let app = app();
        let grace = "  expiry_grace: 1s\n";
        let there = Node::called(&authority, grace, way, app.address);
        let addresses = (there.proxy.address("in"), app.address);
        let here = Node::calling(&authority, grace, way, addresses);
        let load = Load::default()
            .http(here.proxy.address("web"))
            .new_connections(here.proxy.address("web"));

        let begin = Instant::now();
        // Longer than two of them last, so that connections made with each are there when it ends.
        while begin.elapsed() < Duration::from_secs(2 * SHORT.unsigned_abs() + 2) {
            here.renew(SHORT);
            there.renew(SHORT);
            load.runs(20);
        }

        let outcome = load.finish();
        assert_eq!(outcome.failures, Vec::<String>::new(), "{way:?}");
        assert_eq!(there.refusals("mtls.expired"), 0.0, "{way:?}");
    }
}
