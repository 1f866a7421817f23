//! Hold at birth: what comes before a workload has its certificate, or a pool its first endpoints, waits; and not for ever.
//! It must not know how long things take; a wait is proven by what has not happened until somebody let it.
//! Part of the test binary.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use openssl::pkey::PKey;
use openssl::x509::X509;
use tempfile::TempDir;

use crate::support::svid::Service;
use crate::support::tls::{connect, Wish};
use crate::support::{until, Authority, Ca, Conn, Echo, Pair, Proxy, Upstream, DEADLINE};

const WEB: &str = "spiffe://td/web";
const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// A certificate of the authority's for somebody who is no node, and its issuers.
fn issued(ca: &Ca, id: &str) -> (Pair, Vec<X509>) {
    let out = TempDir::new().unwrap();
    let path = out.path().join("one");
    ca.act(&["issue", id, "-o", path.to_str().unwrap()])
        .unwrap();
    let read = |ending: &str| std::fs::read(path.with_extension(ending)).unwrap();
    let mut chain = X509::stack_from_pem(&read("pem")).unwrap();
    let key = PKey::private_key_from_pem(&read("key")).unwrap();
    let cert = chain.remove(0);
    (Pair { cert, key }, chain)
}

/// A node whose authority is not there, with a listener and a pool.
fn node(ca: &Ca, token: &str, hold: &str, listener: &str, pool: &str) -> Proxy {
    let (address, hash) = (&ca.address, &ca.root_hash);
    let kind = match listener.contains("tcp") {
        true => "protocol: tcp, ",
        false => "",
    };
    Proxy::start_in(
        ca.prepared(token),
        &format!("listeners: [{{name: web, bind: '127.0.0.1:0', {listener}}}]\npools: [{{name: app, {pool}}}]\nroutes: [{{name: all, {kind}listeners: [web], rules: [{{pool: app}}]}}]\nidentity:\n  trust_domain: td\n  hold: {hold}\n  source:\n    ca: {{address: '{address}', root_hash: '{hash}', token_file: join.token, state: FOLDER/state}}\n  workloads: [{{name: web, id: '{WEB}'}}]\n"),
    )
}

/// Whether nothing at all comes for a moment.
fn is_held(conn: &Conn) -> bool {
    says_nothing(&conn.stream)
}

fn says_nothing(stream: &TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let waited = stream.peek(&mut [0; 1]);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    waited.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn a_request_waits_for_the_certificate_of_its_workload() {
    let mut ca = Ca::start("1h");
    let (pair, chain) = issued(&ca, "spiffe://td/pay");
    let service = Service::start(&pair, &chain);
    let token = ca.token(&[WEB]);
    ca.kill();
    let pool = format!(
        "endpoints: ['{}'], mtls: {{peers: ['spiffe://td/pay']}}",
        service.address
    );
    let proxy = node(&ca, &token, "60s", "role: mesh-outbound", &pool);

    let mut conn = proxy.connect();
    conn.send(GET);
    assert!(is_held(&conn));
    assert_eq!(service.connections(), 0);
    ca.restart();

    let reply = conn.reply().unwrap();
    assert_eq!((reply.status, &*reply.text()), (200, WEB));
}

#[test]
fn a_caller_waits_for_the_certificate_of_the_workload_it_calls() {
    let mut ca = Ca::start("1h");
    let (pair, chain) = issued(&ca, "spiffe://td/shop");
    let app = Upstream::answering("held");
    let token = ca.token(&[WEB]);
    ca.kill();
    let pool = format!("endpoints: ['{}']", app.address);
    let proxy = node(&ca, &token, "60s", "role: mesh-inbound, mtls: {}", &pool);
    let address = proxy.address("web");

    let calling = std::thread::spawn(move || {
        let wish = Wish {
            certificate: Some(&pair),
            chain: &chain,
            ..Wish::default()
        };
        connect(address, &wish).unwrap().ask(GET).text()
    });
    until("it has come", || {
        let open = proxy.metric("windrose_connections_open", &["listener=\"web\""]);
        (open > 0.0).then_some(())
    });
    assert!(!calling.is_finished());
    ca.restart();

    assert_eq!(calling.join().unwrap(), "held");
}

#[test]
fn the_wait_for_a_certificate_is_bounded_in_both_directions() {
    let mut ca = Ca::start("1h");
    let token = ca.token(&[WEB]);
    ca.kill();
    let nobody = "endpoints: ['127.0.0.1:9']";
    let to_mesh = "endpoints: ['127.0.0.1:9'], mtls: {peers: ['spiffe://td/pay']}";
    let out = node(&ca, &token, "300ms", "role: mesh-outbound", to_mesh);
    let listener = "role: mesh-inbound, mtls: {}";
    let inside = node(&ca, &token, "300ms", listener, nobody);

    let reply = out.get("/");
    let refused = connect(inside.address("web"), &Wish::default());

    assert_eq!((reply.status, &*reply.why()), (503, "mtls.no_identity"));
    assert!(refused.is_err());
    until("the refusal is counted", || {
        let marks = ["listener=\"web\"", "cause=\"mtls.no_identity\""];
        let refused = inside.metric("windrose_connection_failures_total", &marks);
        (refused > 0.0).then_some(())
    });
}

#[test]
fn the_wait_for_a_certificate_is_no_time_to_connect() {
    let mut ca = Ca::start("1h");
    let (requests, bytes) = (ca.token(&[WEB]), ca.token(&[WEB]));
    ca.kill();
    let pool = "endpoints: ['127.0.0.1:9'], connections: {connect_timeout: 100ms}, mtls: {peers: ['spiffe://td/pay']";
    let tunnels = format!("{pool}, hbone: {{}}}}");
    let requests = node(&ca, &requests, "400ms", "role: mesh-outbound", &tunnels);
    let listener = "role: mesh-outbound, protocol: tcp";
    let bytes = node(
        &ca,
        &bytes,
        "400ms",
        listener,
        &format!("{pool}}}, protocol: tcp"),
    );

    let reply = requests.get("/");
    let mut conn = bytes.connect();
    conn.send("ping");

    assert_eq!((reply.status, &*reply.why()), (503, "mtls.no_identity"));
    assert!(conn.ends());
    let line = bytes.logged(|line| line["protocol"] == "TCP");
    assert_eq!(line["why"], "mtls.no_identity");
}

/// A node with an identity, whose pool has no endpoint yet.
fn unborn(hold: &str, protocol: &str) -> Proxy {
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    authority.write_bundle(folder.path(), "bundle.pem");
    authority.svid(WEB).write(folder.path(), "web");
    std::fs::write(folder.path().join("endpoints.yaml"), "[]").unwrap();
    Proxy::start_in(
        folder,
        &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'{protocol}}}]\npools: [{{name: app, discovery: {{file: {{path: endpoints.yaml}}}}{protocol}}}]\nroutes: [{{name: all, listeners: [web]{protocol}, rules: [{{pool: app}}]}}]\nidentity:\n  trust_domain: td\n  hold: {hold}\n  source: {{files: {{bundle: bundle.pem}}}}\n  workloads: [{{name: web, id: '{WEB}', certificate: {{cert: web.crt, key: web.key}}}}]\n"),
    )
}

fn found(proxy: &Proxy, list: &str) {
    std::fs::write(proxy.file("next"), list).unwrap();
    std::fs::rename(proxy.file("next"), proxy.file("endpoints.yaml")).unwrap();
}

#[test]
fn requests_wait_for_the_first_endpoints_of_their_pool_and_for_no_others() {
    let app = Upstream::answering("held");
    let proxy = unborn("60s", "");

    let mut conn = proxy.connect();
    conn.send(GET);
    assert!(is_held(&conn));
    found(&proxy, &format!("['{}']", app.address));
    assert_eq!(conn.reply().unwrap().text(), "held");

    found(&proxy, "[]");
    until("the pool has lost its endpoint", || {
        (proxy.pool("app")["total"] == 0).then_some(())
    });
    let began = Instant::now();
    let reply = proxy.get("/");
    assert_eq!((reply.status, &*reply.why()), (503, "no_endpoint"));
    assert!(began.elapsed() < DEADLINE, "it did not wait");
}

#[test]
fn the_wait_for_endpoints_is_over_when_the_hold_is() {
    let proxy = unborn("1s", "");

    let mut conn = proxy.connect();
    conn.send(GET);
    let reply = conn.reply().unwrap();

    assert_eq!((reply.status, &*reply.why()), (503, "no_endpoint"));
    let began = Instant::now();
    assert_eq!(proxy.get("/").why(), "no_endpoint");
    assert!(began.elapsed() < Duration::from_millis(900));
}

#[test]
fn connections_of_bytes_wait_for_the_first_endpoints_as_well() {
    let echo = Echo::start();
    let proxy = unborn("60s", ", protocol: tcp");

    let mut conn = proxy.connect();
    conn.send("ping");
    assert!(is_held(&conn));
    found(&proxy, &format!("['{}']", echo.address));

    let mut back = [0; 4];
    conn.stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ping");
}

#[test]
fn a_caller_that_has_said_everything_still_waits() {
    let echo = Echo::start();
    let proxy = unborn("60s", ", protocol: tcp");

    let mut conn = proxy.connect();
    conn.send("ping");
    conn.stream.shutdown(Shutdown::Write).unwrap();
    assert!(is_held(&conn));
    found(&proxy, &format!("['{}']", echo.address));

    let mut back = String::new();
    conn.stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "ping<end>");
}
