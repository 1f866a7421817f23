//! Envoy at the other end of tunnels (HBONE): it opens them to a node here, and takes those that a node here opens.
//! It must not know how tunnels are kept; what counts is who was let in, what the application heard, and the word for a refusal.
//! Part of the test binary; where Envoy is not installed, each test says that it is skipped.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::support::envoy::{Envoy, Who};
use crate::support::svid::Recipe;
use crate::support::{node, until, Authority, Conn, Echo, Pair, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const OTHER: &str = "spiffe://mesh.test/ns/shop/sa/other";

/// What Envoy is to be as the other end.
fn who<'a>(authority: &'a Authority, svid: Pair, expects: &'a str) -> Who<'a> {
    Who {
        svid,
        roots: authority,
        expects,
    }
}

/// A node that takes tunnels, with an application that is served as `protocol`.
fn taking(authority: &Authority, protocol: &str, app: SocketAddr) -> Proxy {
    let (folder, identity) = node(authority, PAY);
    let (route, pool) = match protocol {
        "tcp" => ("protocol: tcp, ", "tcp"),
        _ => ("", "http1"),
    };
    Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {protocol}, mtls: {{hbone: true}}}}]\n{identity}pools: [{{name: app, protocol: {pool}, endpoints: ['{app}']}}]\nroutes: [{{name: all, {route}listeners: [in], rules: [{{pool: app}}]}}]\n"))
}

/// A node whose workload `id` calls an application through Envoy.
fn opening(authority: &Authority, id: &str, protocol: &str, app: SocketAddr, by: &Envoy) -> Proxy {
    let (folder, identity) = node(authority, id);
    let (route, listens) = match protocol {
        "tcp" => ("protocol: tcp, ", ", protocol: tcp"),
        _ => ("", ""),
    };
    let port = by.address().port();
    Proxy::start_in(folder, &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'{listens}}}]\n{identity}pools: [{{name: pay, protocol: {protocol}, endpoints: ['{app}'], mtls: {{peers: ['{PAY}'], hbone: {{port: {port}}}}}}}]\nroutes: [{{name: all, {route}listeners: [web], rules: [{{pool: pay}}]}}]\n"))
}

/// Sends bytes, ends, and hears everything that comes back.
fn exchange(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut heard = Vec::new();
    let mut reading = stream.try_clone().unwrap();
    let hearing = std::thread::spawn(move || {
        let _ = reading.read_to_end(&mut heard);
        heard
    });
    let _ = stream.write_all(sent);
    let _ = stream.shutdown(Shutdown::Write);
    hearing.join().unwrap()
}

fn refused(proxy: &Proxy, cause: &str) {
    until(cause, || (proxy.refusals("in", cause) > 0.0).then_some(()));
}

#[test]
fn requests_in_envoys_tunnels_are_served_and_named() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let node = taking(&authority, "auto", app.address);
    let envoy = who(&authority, authority.svid(WEB), PAY);
    let Some(envoy) = Envoy::tunnelling(node.address("in"), app.address, &envoy) else {
        return;
    };

    let claim = "GET /x HTTP/1.1\r\nhost: test\r\nx-forwarded-client-cert: URI=spiffe://mesh.test/admin\r\n\r\n";
    let replies: Vec<_> = (0..10)
        .map(|_| Conn::open(envoy.address()).ask(claim).status)
        .collect();

    assert_eq!(replies, [200; 10]);
    let told = app.last();
    let told = told.all("x-forwarded-client-cert");
    assert!(
        told.len() == 1 && told[0].ends_with(&format!("URI={WEB}")),
        "{told:?}"
    );
    let line = node.logged(|line| line["path"] == "/x");
    assert_eq!(line["principal"], WEB);
    assert_eq!(line["destination"], app.address.to_string());
    let handshakes = node.metric("windrose_tls_handshakes_total", &["listener=\"in\""]);
    assert_eq!(handshakes, 1.0, "ten tunnels in one connection");
}

#[test]
fn bytes_in_envoys_tunnels_go_both_ways_until_each_side_ends() {
    let (authority, echo) = (Authority::new(), Echo::greeting(b"hello "));
    let node = taking(&authority, "tcp", echo.address);
    let envoy = who(&authority, authority.svid(WEB), PAY);
    let Some(envoy) = Envoy::tunnelling(node.address("in"), echo.address, &envoy) else {
        return;
    };
    let sent: Vec<u8> = (0..300_000u32).map(|at| (at % 253) as u8).collect();

    let heard = exchange(envoy.address(), &sent);

    assert!(heard.starts_with(b"hello ") && heard.ends_with(b"<end>"));
    assert!(heard[6..heard.len() - 5] == sent);
    let line = node.logged(|line| line["protocol"] == "TCP");
    assert_eq!(line["principal"], WEB);
}

#[test]
fn envoy_with_a_wrong_certificate_gets_no_tunnel() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let node = taking(&authority, "auto", app.address);
    let strangers = [
        ("mtls.untrusted", Authority::new().svid(WEB)),
        (
            "mtls.trust_domain",
            authority.svid("spiffe://other.test/web"),
        ),
        (
            "mtls.expired",
            authority.make(&Recipe::of(&[WEB]).days(-3, -1)),
        ),
    ];

    for (cause, svid) in strangers {
        let envoy = who(&authority, svid, PAY);
        let Some(envoy) = Envoy::tunnelling(node.address("in"), app.address, &envoy) else {
            return;
        };
        assert_eq!(exchange(envoy.address(), b"GET / HTTP/1.1\r\n\r\n"), b"");
        refused(&node, cause);
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn envoy_opens_no_tunnel_to_a_node_it_does_not_expect() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let node = taking(&authority, "auto", app.address);
    let envoy = who(&authority, authority.svid(WEB), OTHER);
    let Some(envoy) = Envoy::tunnelling(node.address("in"), app.address, &envoy) else {
        return;
    };

    let heard = exchange(envoy.address(), b"GET / HTTP/1.1\r\n\r\n");

    assert_eq!(heard, b"");
    assert!(envoy.stat("cluster.other.ssl.fail_verify_san") > 0);
    refused(&node, "mtls.refused");
    assert_eq!(app.connections(), 0);
}

#[test]
fn requests_go_through_tunnels_that_envoy_takes_apart() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let envoy = who(&authority, authority.svid(PAY), WEB);
    let Some(envoy) = Envoy::terminating(app.address, &envoy) else {
        return;
    };
    let node = opening(&authority, WEB, "http1", app.address, &envoy);

    let replies: Vec<_> = (0..10).map(|_| node.get("/a?b=1").status).collect();

    assert_eq!(replies, [200; 10]);
    assert_eq!(app.last().target, "/a?b=1");
    assert_eq!(envoy.stat("http.in.downstream_cx_http2_total"), 1);
    assert!(envoy.stat("http.in.downstream_rq_total") > 0);
}

#[test]
fn bytes_go_through_tunnels_that_envoy_takes_apart() {
    let (authority, echo) = (Authority::new(), Echo::greeting(b"hello "));
    let envoy = who(&authority, authority.svid(PAY), WEB);
    let Some(envoy) = Envoy::terminating(echo.address, &envoy) else {
        return;
    };
    let node = opening(&authority, WEB, "tcp", echo.address, &envoy);
    let sent: Vec<u8> = (0..300_000u32).map(|at| (at % 253) as u8).collect();

    let heard = exchange(node.address("web"), &sent);

    assert!(heard.starts_with(b"hello ") && heard.ends_with(b"<end>"));
    assert!(heard[6..heard.len() - 5] == sent);
}

#[test]
fn no_tunnel_is_opened_to_an_envoy_that_is_somebody_else() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let cases = [
        ("mtls.wrong_peer", authority.svid(OTHER)),
        ("mtls.untrusted", Authority::new().svid(PAY)),
    ];

    for (cause, svid) in cases {
        let envoy = who(&authority, svid, WEB);
        let Some(envoy) = Envoy::terminating(app.address, &envoy) else {
            return;
        };
        let node = opening(&authority, WEB, "http1", app.address, &envoy);

        let reply = node.get("/secret");

        assert_eq!((reply.status, &*reply.why()), (502, cause));
        assert_eq!(envoy.stat("http.in.downstream_rq_total"), 0);
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_workload_whose_tunnels_envoy_does_not_take_is_told_so() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let envoy = who(&authority, authority.svid(PAY), WEB);
    let Some(envoy) = Envoy::terminating(app.address, &envoy) else {
        return;
    };
    let http = opening(&authority, OTHER, "http1", app.address, &envoy);
    let bytes = opening(&authority, OTHER, "tcp", app.address, &envoy);

    let reply = http.get("/secret");
    let heard = exchange(bytes.address("web"), b"secret");

    let told = (reply.status, &*reply.why());
    assert_eq!(told, (502, "mtls.refused"), "{}", http.stderr());
    assert_eq!(heard, b"");
    bytes.logged(|line| line["why"] == "mtls.refused");
    assert_eq!(envoy.stat("http.in.downstream_rq_total"), 0);
    assert_eq!(app.connections(), 0);
}
