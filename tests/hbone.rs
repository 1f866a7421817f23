//! HBONE: connections between nodes in tunnels over mutual TLS, requests and bytes alike.
//! It must not know how tunnels are kept; what it asserts is seen at the edge.
//! Part of the test binary.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use openssl::ssl::{
    select_next_proto, AlpnError, SslAcceptor, SslMethod, SslStream, SslVerifyMode,
};
use tempfile::TempDir;

use crate::support::tls::{connect, Wish};
use crate::support::{until, Authority, Echo, Pair, Proxy, Upstream};

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

fn refusals(proxy: &Proxy, cause: &str) -> f64 {
    let marks = ["listener=\"in\"", &format!("cause=\"{cause}\"")];
    proxy.metric("windrose_connection_failures_total", &marks)
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
fn a_node_that_refuses_the_tunnel_is_told_so() {
    let authority = Authority::new();
    let refusing = refusing(&authority.svid(PAY));
    let opening = outbound(&authority, refusing, refusing.port(), "http1");

    let reply = opening.get("/");

    assert_eq!((reply.status, &*reply.why()), (502, "tunnel_refused"));
    assert!(opening.stderr().contains("401"));
}

/// A node that answers the first CONNECT of a connection with 401, whatever it asks for.
fn refusing(pair: &Pair) -> SocketAddr {
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
    builder.set_certificate(&pair.cert).unwrap();
    builder.set_private_key(&pair.key).unwrap();
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    let acceptor = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let acceptor = acceptor.clone();
            std::thread::spawn(move || acceptor.accept(socket).map(refuse));
        }
    });
    address
}

fn refuse(mut stream: SslStream<TcpStream>) {
    // SETTINGS, its acknowledgement, and HEADERS with `:status` 401 that end stream 1 (RFC 9113, RFC 7541).
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    let headers = [0, 0, 5, 1, 5, 0, 0, 0, 1, 8, 3, b'4', b'0', b'1'];
    let (mut heard, mut answered) = (Vec::new(), false);
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        heard.extend_from_slice(&piece[..read]);
        // A frame of HEADERS on stream 1.
        let asked = heard
            .windows(6)
            .any(|six| six[0] == 1 && six[2..] == [0, 0, 0, 1]);
        if asked && !answered {
            answered = true;
            let _ = stream.write_all(&settings);
            let _ = stream.write_all(&headers);
        }
    }
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
        (refusals(&taking, "connection.protocol") > 0.0).then_some(())
    });
    assert_eq!(app.connections(), 0);
}
