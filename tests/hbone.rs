//! HBONE: connections between nodes in tunnels over mutual TLS, requests and bytes alike.
//! It must not know how tunnels are kept; what it asserts is seen at the edge.
//! Part of the test binary.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::support::tls::{connect, Wish};
use crate::support::{node, until, Authority, Echo, Pair, Proxy, Upstream, DEADLINE};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";

/// The node that takes tunnels, with these routes to a pool `app` at this address.
fn inbound(authority: &Authority, protocol: &str, app: SocketAddr, extra: &str) -> Proxy {
    let (folder, identity) = node(authority, PAY);
    let route = match protocol {
        "tcp" => "protocol: tcp, ",
        _ => "",
    };
    Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {protocol}, mtls: {{hbone: true}}{extra}}}]\n{identity}pools: [{{name: app, protocol: {}, endpoints: ['{app}']}}]\nroutes: [{{name: all, {route}listeners: [in], rules: [{{pool: app}}]}}]\n", if protocol == "tcp" { "tcp" } else { "http1" }))
}

/// The node that opens tunnels to an endpoint's node at this port.
fn outbound(authority: &Authority, endpoint: SocketAddr, port: u16, protocol: &str) -> Proxy {
    let (folder, identity) = node(authority, WEB);
    let (kind, listens) = match protocol {
        "tcp" => ("protocol: tcp, ", ", protocol: tcp"),
        _ => ("", ""),
    };
    Proxy::start_in(folder, &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'{listens}}}]\n{identity}pools: [{{name: pay, protocol: {protocol}, endpoints: ['{endpoint}'], mtls: {{peers: ['{PAY}'], hbone: {{port: {port}}}}}}}]\nroutes: [{{name: all, {kind}listeners: [web], rules: [{{pool: pay}}]}}]\n"))
}

#[test]
fn requests_go_through_tunnels_and_the_application_hears_who_calls() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let taking = inbound(&authority, "auto", app.address, "");
    let opening = outbound(
        &authority,
        app.address,
        taking.address("in").port(),
        "http1",
    );

    let replies: Vec<_> = (0..20).map(|_| opening.get("/a?b=1").status).collect();

    assert_eq!(replies, [200; 20]);
    let seen = app.last();
    let told = seen.header("x-forwarded-client-cert").unwrap_or_default();
    assert!(told.contains(&format!("URI={WEB}")), "{told}");
    let line = taking.logged(|line| line["path"] == "/a");
    assert_eq!(line["principal"], WEB);
    assert_eq!(line["destination"], app.address.to_string());
    // Twenty tunnels, and one handshake.
    assert_eq!(
        taking.metric("windrose_tls_handshakes_total", &["listener=\"in\""]),
        1.0
    );
}

#[test]
fn bytes_go_through_tunnels_and_each_side_ends_by_itself() {
    let authority = Authority::new();
    let echo = Echo::greeting(b"hello ");
    let taking = inbound(&authority, "tcp", echo.address, "");
    let opening = outbound(&authority, echo.address, taking.address("in").port(), "tcp");

    let mut stream = TcpStream::connect(opening.address("web")).unwrap();
    let sent: Vec<u8> = (0..200_000u32).map(|at| (at % 253) as u8).collect();
    let mut reading = stream.try_clone().unwrap();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        reading.read_to_end(&mut heard).map(|_| heard)
    });
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();

    let heard = heard.join().unwrap().unwrap();
    assert!(heard.starts_with(b"hello ") && heard.ends_with(b"<end>"));
    assert!(heard[6..heard.len() - 5] == sent);
    let line = taking.logged(|line| line["protocol"] == "TCP");
    assert_eq!(line["principal"], WEB);
    assert_eq!(line["destination"], echo.address.to_string());
}

#[test]
fn a_node_with_another_identity_gets_nothing_of_a_request() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let (folder, identity) = node(&authority, "spiffe://mesh.test/ns/shop/sa/thief");
    let taking = Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{hbone: true}}}}]\n{identity}pools: [{{name: app, endpoints: ['{}']}}]\nroutes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n", app.address));
    let opening = outbound(
        &authority,
        app.address,
        taking.address("in").port(),
        "http1",
    );

    let reply = opening.get("/");

    assert_eq!((reply.status, &*reply.why()), (502, "mtls.wrong_peer"));
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_node_that_is_not_there_is_a_failed_connection() {
    let authority = Authority::new();
    let gone = Upstream::refusing();
    let opening = outbound(&authority, gone.address, gone.address.port(), "http1");

    let reply = opening.get("/");

    assert_eq!((reply.status, &*reply.why()), (502, "connect_refused"));
}

#[test]
fn callers_that_speak_no_http2_open_no_tunnels() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let taking = inbound(&authority, "auto", app.address, "");
    let caller = authority.svid(WEB);
    let wish = Wish {
        certificate: Some(&caller),
        ..Wish::default()
    };

    let opened = connect(taking.address("in"), &wish);

    if let Ok(mut conn) = opened {
        assert!(conn.reply().is_err());
    }
    until("a refusal", || {
        (taking.refusals("in", "connection.protocol") > 0.0).then_some(())
    });
    assert_eq!(app.connections(), 0);
}

/// Asks the listener `in` for a tunnel, as a node would that is this caller; the status, and the stream if it was opened.
async fn ask(
    taking: &Proxy,
    caller: &Pair,
    authority: &str,
) -> (u16, SendStream<Bytes>, RecvStream) {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_certificate(&caller.cert).unwrap();
    builder.set_private_key(&caller.key).unwrap();
    builder.set_alpn_protos(b"\x02h2").unwrap();
    let config = builder.build().configure().unwrap();
    let ssl = config.verify_hostname(false).into_ssl("node.test").unwrap();
    let socket = tokio::net::TcpStream::connect(taking.address("in")).await;
    let mut stream = tokio_openssl::SslStream::new(ssl, socket.unwrap()).unwrap();
    std::pin::Pin::new(&mut stream).connect().await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let connect = http::Request::connect(authority).body(()).unwrap();
    let (reply, send) = client.send_request(connect, false).unwrap();
    let reply = tokio::time::timeout(DEADLINE, reply).await.unwrap();
    let reply = reply.unwrap();
    (reply.status().as_u16(), send, reply.into_body())
}

#[tokio::test]
async fn tunnels_lead_only_to_addresses_of_this_node_or_of_its_rules() {
    let authority = Authority::new();
    let echo = Echo::start();
    let (folder, identity) = node(&authority, PAY);
    let taking = Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: tcp, mtls: {{hbone: true}}}}]\n{identity}pools: [{{name: app, protocol: tcp, endpoints: ['{}']}}]\nroutes: [{{name: pods, protocol: tcp, listeners: [in], rules: [{{match: [{{destinations: [{{net: 192.0.2.0/24}}]}}], pool: app}}, {{pool: app}}]}}]\n", echo.address));
    let caller = authority.svid(WEB);

    let (own, ..) = ask(&taking, &caller, "127.0.0.1:8080").await;
    let (named, ..) = ask(&taking, &caller, "192.0.2.7:8080").await;
    let (foreign, ..) = ask(&taking, &caller, "198.51.100.7:8080").await;

    assert_eq!((own, named, foreign), (200, 200, 404));
    until("the refusal is told", || {
        (taking.refusals("in", "destination_unknown") == 1.0).then_some(())
    });
}

#[tokio::test]
async fn connections_of_bytes_are_judged_and_reached_before_a_tunnel_is_opened() {
    let authority = Authority::new();
    let (echo, gone) = (Echo::start(), Upstream::refusing());
    let (folder, identity) = node(&authority, PAY);
    let taking = Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: tcp, mtls: {{hbone: true}}}}]\n{identity}pools: [{{name: app, protocol: tcp, endpoints: ['{}']}}, {{name: gone, protocol: tcp, endpoints: ['{}']}}]\nroutes: [{{name: app, protocol: tcp, listeners: [in], rules: [{{match: [{{destinations: [{{ports: [8080]}}]}}], pool: app}}]}}, {{name: gone, protocol: tcp, listeners: [in], rules: [{{match: [{{destinations: [{{ports: [8081]}}]}}], pool: gone}}]}}]\npolicies: [{{name: no-web, action: deny, rules: [{{from: {{principals: ['{WEB}']}}}}]}}]\n", echo.address, gone.address));
    let (web, shop) = (
        authority.svid(WEB),
        authority.svid("spiffe://mesh.test/ns/shop/sa/shop"),
    );

    let (refused, ..) = ask(&taking, &web, "127.0.0.1:8080").await;
    let (nowhere, ..) = ask(&taking, &shop, "127.0.0.1:8081").await;
    let (unrouted, ..) = ask(&taking, &shop, "127.0.0.1:8082").await;
    let (opened, mut send, mut receive) = ask(&taking, &shop, "127.0.0.1:8080").await;

    assert_eq!((refused, nowhere, unrouted, opened), (401, 503, 503, 200));
    send.send_data("ping".into(), false).unwrap();
    assert_eq!(receive.data().await.unwrap().unwrap(), "ping");
    let line = taking.logged(|line| line["why"] == "policy_denied");
    assert_eq!(line["policy"], "no-web[0]");
    taking.logged(|line| line["why"] == "connect_refused");
}

#[tokio::test]
async fn the_port_of_a_tunnel_counts_only_where_it_decides_where_it_leads() {
    let authority = Authority::new();
    let (echo, app) = (Echo::start(), Upstream::echo());
    let caller = authority.svid(WEB);
    let taking = |listener: &str, routes: &str, policy: &str| {
        let (folder, identity) = node(&authority, PAY);
        Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: {listener}, mtls: {{hbone: true}}}}]\n{identity}pools: [{{name: raw, protocol: tcp, endpoints: ['{}']}}, {{name: app, endpoints: ['{}']}}]\nroutes: [{routes}]\npolicies: [{policy}]\n", echo.address, app.address))
    };
    let deny = "{name: no-admin, action: deny, rules: [{when: {ports: [9000]}}]}";
    let allow = "{name: web, action: allow, rules: [{when: {ports: [8080]}}]}";
    let any = "{name: raw, protocol: tcp, listeners: [in], rules: [{pool: raw}]}";
    let named = "{name: raw, protocol: tcp, listeners: [in], rules: [{match: [{destinations: [{ports: [8080]}]}], pool: raw}]}";

    for (routes, policy, status) in [
        (any, deny, 401),
        (any, allow, 401),
        (named, deny, 200),
        (named, allow, 200),
    ] {
        let taking = taking("tcp", routes, policy);
        let (told, ..) = ask(&taking, &caller, "127.0.0.1:8080").await;
        assert_eq!(told, status, "{routes} {policy}");
    }
    let by_host = "{name: admin, listeners: [in], hosts: [admin], rules: [{pool: app}]}";
    let taking = taking("auto", by_host, deny);
    let (told, mut send, mut receive) = ask(&taking, &caller, "127.0.0.1:8080").await;
    assert_eq!(told, 200);
    let request = "GET / HTTP/1.1\r\nhost: admin\r\n\r\n";
    send.send_data(request.into(), false).unwrap();
    let reply = receive.data().await.unwrap().unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 403"), "{reply:?}");
    assert_eq!(app.connections(), 0);
}
