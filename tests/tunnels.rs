//! Who goes through whose tunnel, and what a tunnel that is refused or fails tells of its endpoint.
//! It must not know how tunnels are kept; `hbone` has what goes through them.
//! Part of the test binary.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use openssl::ssl::{
    select_next_proto, AlpnError, SslAcceptor, SslMethod, SslStream, SslVerifyMode,
};
use tempfile::TempDir;

use crate::support::grpc::{call, Client};
use crate::support::{frame, until, Authority, Conn, Grpc, Pair, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const OPS: &str = "spiffe://mesh.test/ns/shop/sa/ops";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// `identity` of workloads with a listener each, named like them, and the folder with their certificates.
fn workloads(authority: &Authority, workloads: &[(&str, &str)]) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    let mut identity = "identity:\n  trust_domain: mesh.test\n  source: {files: {bundle: bundle.pem}}\n  hold: 0s\n  workloads:\n".to_owned();
    for (name, id) in workloads {
        authority.svid(id).write(folder.path(), name);
        identity += &format!("  - {{name: {name}, id: '{id}', certificate: {{cert: {name}.crt, key: {name}.key}}, match: {{listeners: [{name}]}}}}\n");
    }
    (folder, identity)
}

/// The node that takes tunnels, with one application.
fn taking(authority: &Authority, protocol: &str, app: SocketAddr) -> Proxy {
    let (folder, identity) = workloads(authority, &[("in", PAY)]);
    Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{hbone: true}}}}]\n{identity}pools: [{{name: app, protocol: {protocol}, endpoints: ['{app}']}}]\nroutes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n"))
}

/// The node of the workloads `web` and `ops`, and of callers at `nobody` whom it does not know, with one pool for all of them.
fn calling(authority: &Authority, protocol: &str, endpoints: &[SocketAddr], extra: &str) -> Proxy {
    let (folder, identity) = workloads(authority, &[("web", WEB), ("ops", OPS)]);
    let (listens, kind, rule) = match protocol {
        "tcp" => (", protocol: tcp", "protocol: tcp, ", ""),
        _ => ("", "", ", retry: {attempts: 1}"),
    };
    let endpoints: Vec<_> = endpoints.iter().map(|one| format!("'{one}'")).collect();
    let listeners = ["web", "ops", "nobody"].map(|name| {
        format!("- {{name: {name}, role: mesh-outbound, bind: '127.0.0.1:0'{listens}}}\n")
    });
    Proxy::start_in(
        folder,
        &format!("listeners:\n{}{identity}pools: [{{name: app, protocol: {protocol}, endpoints: [{}], {extra}}}]\nroutes: [{{name: all, {kind}listeners: [web, ops, nobody], rules: [{{pool: app{rule}}}]}}]\n", listeners.concat(), endpoints.join(", ")),
    )
}

fn through(port: u16) -> String {
    format!("balance: {{algorithm: round_robin}}, mtls: {{peers: ['{PAY}'], hbone: {{port: {port}}}}}, ejection: {{consecutive_failures: 2}}")
}

#[test]
fn requests_of_two_workloads_never_share_a_tunnel() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let taking = taking(&authority, "http1", app.address);
    let hbone = through(taking.address("in").port());
    let calling = calling(&authority, "http1", &[app.address], &hbone);

    let mut clients = ["web", "ops"].map(|name| (name, Conn::open(calling.address(name))));
    for _ in 0..30 {
        for (name, conn) in &mut clients {
            let reply = conn.ask(format!("GET /{name} HTTP/1.1\r\nhost: test\r\n\r\n"));
            assert_eq!(reply.status, 200);
        }
    }

    for seen in app.seen() {
        let told = seen.header("x-forwarded-client-cert").unwrap_or_default();
        let id = if seen.target == "/web" { WEB } else { OPS };
        assert!(
            told.contains(&format!("URI={id}")),
            "{} {told}",
            seen.target
        );
    }
}

#[tokio::test]
async fn a_stream_under_way_lends_its_tunnel_to_nobody() {
    let authority = Authority::new();
    let app = Grpc::start();
    let taking = taking(&authority, "http2", app.address);
    let hbone = through(taking.address("in").port());
    let calling = calling(&authority, "http2", &[app.address], &hbone);
    let web = Client::connect(calling.address("web")).await;
    let ops = Client::connect(calling.address("ops")).await;

    let (reply, mut sending) = web.open(call("bidi")).await.unwrap();
    sending.send_data(frame("begins"), false).unwrap();
    let mut heard = reply.await.unwrap().into_body();
    assert!(heard.data().await.unwrap().is_ok());
    for _ in 0..5 {
        let whole = ops.ask(call("unary"), frame("hello")).await.unwrap();
        assert_eq!(whole.body, frame("hello"));
    }
    sending.send_data(bytes::Bytes::new(), true).unwrap();
    while heard.data().await.is_some() {}
    assert!(heard.trailers().await.unwrap().is_some());

    let ended = taking.logged(|line| line["path"] == "/demo.Echo/bidi");
    assert_eq!(ended["principal"], WEB);
    let mut unary = taking.log();
    unary.retain(|line| line["path"] == "/demo.Echo/unary");
    assert_eq!(unary.len(), 5);
    assert!(unary.iter().all(|line| line["principal"] == OPS));
}

fn ejected(proxy: &Proxy) -> usize {
    let view = proxy.pool("app");
    let all = view["endpoints"].as_array().into_iter().flatten();
    all.filter(|one| one["ejected"] == true).count()
}

/// The causes of connections of bytes, one for each line in the log.
fn ended_by(proxy: &Proxy, cause: &str, most: usize) {
    until(cause, || {
        let lines = proxy.log();
        let mut by = lines.iter().map(|line| line["why"].as_str());
        assert!(by.all(|found| found == Some(cause)), "{lines:?}");
        (lines.len() == most).then_some(())
    });
}

#[test]
fn callers_that_nobody_knows_take_no_endpoint_from_others() {
    let authority = Authority::new();
    let (one, other) = (Upstream::silent(), Upstream::silent());
    let extra = format!("balance: {{algorithm: round_robin}}, mtls: {{peers: ['{PAY}']}}, ejection: {{consecutive_failures: 2}}");
    let endpoints = [one.address, other.address];
    let calling = calling(&authority, "tcp", &endpoints, &extra);

    for _ in 0..8 {
        assert!(Conn::open(calling.address("nobody")).ends());
    }

    ended_by(&calling, "mtls.no_identity", 8);
    assert_eq!(ejected(&calling), 0);
    assert_eq!(one.connections() + other.connections(), 0);
}

#[test]
fn a_caller_that_a_node_denies_takes_no_endpoint_from_others() {
    let authority = Authority::new();
    let node = node(&authority.svid(PAY), "401");
    // Two endpoints of the same node.
    let endpoints = ["127.0.0.1:7", "127.0.0.1:9"].map(|one| one.parse().unwrap());
    let requests = calling(&authority, "http1", &endpoints, &through(node.port()));
    let bytes = calling_bytes(&authority, &endpoints, node.port());

    for _ in 0..8 {
        let reply = Conn::open(requests.address("web")).ask(GET);
        assert_eq!((reply.status, &*reply.why()), (502, "tunnel_refused"));
        assert!(Conn::open(bytes.address("web")).ends());
    }

    ended_by(&bytes, "tunnel_refused", 8);
    assert_eq!((ejected(&requests), ejected(&bytes)), (0, 0));
    // What a node's policy denies is not asked again.
    for proxy in [&requests, &bytes] {
        let again = proxy.metric("windrose_request_retries_total", &["route=\"all\""]);
        assert_eq!(again, 0.0);
    }
}

fn calling_bytes(authority: &Authority, endpoints: &[SocketAddr], port: u16) -> Proxy {
    calling(authority, "tcp", endpoints, &through(port))
}

#[test]
fn a_node_that_does_not_reach_its_application_is_tried_elsewhere_and_out_in_the_end() {
    let authority = Authority::new();
    let node = node(&authority.svid(PAY), "503");
    let endpoints = ["127.0.0.1:7", "127.0.0.1:9"].map(|one| one.parse().unwrap());
    let calling = calling(&authority, "http1", &endpoints, &through(node.port()));

    let reply = Conn::open(calling.address("web")).ask(GET);

    assert_eq!((reply.status, &*reply.why()), (502, "tunnel_failed"));
    let again = calling.metric("windrose_request_retries_total", &["route=\"all\""]);
    assert_eq!(again, 1.0);
    until("an endpoint is out", || {
        Conn::open(calling.address("web")).ask(GET);
        (ejected(&calling) > 0).then_some(())
    });
    assert!(calling.stderr().contains("503"));
}

/// A node that answers every CONNECT with this status, whatever it asks for.
pub(crate) fn node(pair: &Pair, status: &'static str) -> SocketAddr {
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
            std::thread::spawn(move || {
                let stream = acceptor.accept(socket).ok()?;
                answer(stream, status).ok()
            });
        }
    });
    address
}

/// HTTP/2 frame by frame (RFC 9113 section 4.1): acknowledges SETTINGS and PING, answers HEADERS.
fn answer(mut stream: SslStream<TcpStream>, status: &str) -> std::io::Result<()> {
    let (settings, headers, ping) = (4, 1, 6);
    stream.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()])?;
    stream.write_all(&[0, 0, 0, settings, 0, 0, 0, 0, 0])?;
    let mut head = [0; 9];
    loop {
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        let is_acknowledged = head[4] == 1;
        if head[3] == settings && !is_acknowledged {
            stream.write_all(&[0, 0, 0, settings, 1, 0, 0, 0, 0])?;
        } else if head[3] == ping && !is_acknowledged {
            stream.write_all(&[&[0, 0, 8, ping, 1, 0, 0, 0, 0], &*payload].concat())?;
        } else if head[3] == headers {
            // `:status` by name, its value as it is; with the end of the headers and of the stream.
            let begin = [
                0, 0, 5, headers, 5, head[5], head[6], head[7], head[8], 8, 3,
            ];
            stream.write_all(&[&begin, status.as_bytes()].concat())?;
        }
    }
}
