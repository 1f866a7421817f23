//! How connections come in: PROXY protocol, limits, TLS, one-port listeners, passthrough, Unix sockets.
//! It must not know requests beyond asking one.
//! Part of the test binary.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use openssl::ssl::SslVersion;
use tempfile::TempDir;

use crate::support::client::dial;
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::tls::{connect, serial, Wish};
use crate::support::{until, Authority, Conn, Echo, Pair, Proxy, Upstream, DEADLINE};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

fn proxied(mode: &str, trusted: &str, service: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  proxy_protocol: {{mode: {mode}, trusted: [{trusted}]}}\n{}{ALL_TO_APP}",
        pool("app", &[service])
    ))
}

const V1: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\r\n";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 7, 198, 51, 100, 1, 0x10, 0x92, 1, 0xbb]);
    header
}

#[test]
fn a_proxy_header_of_a_trusted_peer_names_the_client() {
    for header in [V1.as_bytes().to_vec(), v2()] {
        let service = Upstream::echo();
        let proxy = proxied("use", "127.0.0.0/8", &service);
        let request = [&header, GET.as_bytes()].concat();

        let reply = proxy.connect().ask(request);

        assert_eq!(reply.status, 200);
        assert_eq!(
            service.last().header("x-forwarded-for"),
            Some("203.0.113.7")
        );
        assert_eq!(proxy.logged(|_| true)["client"], "203.0.113.7");
    }
}

#[test]
fn a_trusted_peer_may_leave_the_header_out_unless_it_is_required() {
    let service = Upstream::echo();
    let (uses, requires) = (
        proxied("use", "127.0.0.0/8", &service),
        proxied("require", "127.0.0.0/8", &service),
    );

    assert_eq!(uses.get("/").status, 200);
    let mut conn = requires.connect();
    conn.send(GET);
    assert!(conn.ends());
    refusal(&requires, "connection.proxy_protocol");
}

#[test]
fn a_proxy_header_of_a_stranger_is_refused() {
    let service = Upstream::echo();
    let (uses, requires) = (
        proxied("use", "10.0.0.0/8", &service),
        proxied("require", "10.0.0.0/8", &service),
    );

    let reply = uses.connect().ask(format!("{V1}{GET}"));
    let mut conn = requires.connect();
    let _ = conn.stream.write_all(V1.as_bytes());

    assert_eq!(reply.status, 400);
    assert!(conn.ends());
    assert_eq!(service.requests(), 0);
    refusal(&requires, "connection.proxy_protocol");
}

#[test]
fn a_malformed_proxy_header_is_refused() {
    let service = Upstream::echo();
    let proxy = proxied("require", "127.0.0.0/8", &service);
    let mut conn = proxy.connect();

    conn.send("PROXY TCP4 nonsense\r\n");

    assert!(conn.ends());
    refusal(&proxy, "connection.proxy_protocol");
}

/// Waits until a refused connection is counted under its cause.
fn refusal(proxy: &Proxy, cause: &str) {
    until(cause, || {
        let marks = [&*format!("cause=\"{cause}\"")];
        (proxy.metric("windrose_connection_failures_total", &marks) >= 1.0).then_some(())
    });
}

#[test]
fn connections_over_the_listeners_bound_are_closed() {
    let proxy = limited("connections: 2");
    let kept = [(); 2].map(|()| {
        let mut conn = proxy.connect();
        conn.ask(GET);
        conn
    });

    let mut third = proxy.connect();

    assert!(third.ends());
    refusal(&proxy, "connection.limit");
    drop(kept);
    until("there is room again", || {
        let mut conn = proxy.connect();
        let _ = conn.stream.write_all(GET.as_bytes());
        conn.reply().ok().map(|_| ())
    });
}

#[test]
fn connections_over_a_clients_bound_are_closed() {
    let proxy = limited("connections_per_client: 1");
    let mut first = proxy.connect();
    first.ask(GET);

    let mut second = proxy.connect();

    assert!(second.ends());
    refusal(&proxy, "connection.client_limit");
}

#[test]
fn a_connection_that_stays_silent_is_closed() {
    let proxy = limited("header_timeout: 200ms");
    let mut conn = proxy.connect();

    assert!(conn.ends());
    refusal(&proxy, "connection.timeout");
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let proxy = limited("keep_alive: 200ms");
    let mut conn = proxy.connect();

    let reply = conn.ask(GET);

    assert_eq!(reply.status, 404);
    assert!(conn.ends());
}

#[test]
fn an_old_connection_is_closed_after_its_request() {
    let proxy = limited("connection_age: 200ms");
    let mut conn = proxy.connect();

    conn.ask(GET);

    assert!(conn.ends());
}

fn limited(limit: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  limits: {{{limit}}}\nroutes: []\n"
    ))
}

/// A folder with certificates for `a.test`, `*.b.test` and `default.test`.
struct Certs {
    authority: Authority,
    folder: TempDir,
    exact: Pair,
    wild: Pair,
    default: Pair,
}

impl Certs {
    fn new() -> Certs {
        let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
        let certs = Certs {
            exact: authority.issue(&["a.test"]),
            wild: authority.issue(&["*.b.test"]),
            default: authority.issue(&["default.test"]),
            authority,
            folder,
        };
        let path = certs.folder.path();
        certs.exact.write(path, "exact");
        certs.wild.write(path, "wild");
        certs.default.write(path, "default");
        certs.authority.0.write(path, "ca");
        certs
    }

    /// A proxy with these certificates and further TLS settings.
    fn proxy(self, tls: &str, rest: &str) -> Proxy {
        Proxy::start_in(
            self.folder,
            &format!("listeners:\n- name: web\n  bind: 127.0.0.1:0\n  tls:\n    certificates:\n{CERTIFICATES}{tls}{rest}"),
        )
    }
}

const CERTIFICATES: &str = "    - {cert: exact.crt, key: exact.key}\n    - {cert: wild.crt, key: wild.key}\n    - {cert: default.crt, key: default.key, default: true}\n";
const HELLO: &str = "routes:\n- {name: all, rules: [{respond: {status: 200, body: hello}}]}\n";

fn sni(name: &str) -> Wish<'_> {
    Wish {
        sni: Some(name),
        ..Wish::default()
    }
}

#[test]
fn the_certificate_follows_the_name_asked_for() {
    let certs = Certs::new();
    let expected = [&certs.exact, &certs.wild, &certs.default, &certs.default];
    let expected = expected.map(Pair::serial);
    let proxy = certs.proxy("", HELLO);
    let address = proxy.address("web");

    let wishes = [
        sni("a.test"),
        sni("x.b.test"),
        sni("other.test"),
        Wish::default(),
    ];
    let shown = wishes.map(|wish| {
        let conn = connect(address, &wish).expect("shakes hands");
        serial(&conn.stream.ssl().peer_certificate().unwrap())
    });

    assert_eq!(shown, expected);
}

#[test]
fn requests_pass_over_tls_of_both_versions() {
    let proxy = Certs::new().proxy("", HELLO);
    let address = proxy.address("web");

    for (version, word) in [
        (SslVersion::TLS1_2, "TLSv1.2"),
        (SslVersion::TLS1_3, "TLSv1.3"),
    ] {
        let wish = Wish {
            version: Some(version),
            ..sni("a.test")
        };
        let mut conn = connect(address, &wish).expect("shakes hands");
        let reply = conn.ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");

        assert_eq!(reply.text(), "hello");
        assert_eq!(conn.stream.ssl().version_str(), word);
        let line = proxy.logged(|line| line["tls_version"] == word);
        assert_eq!(
            (&line["scheme"], &line["sni"]),
            (&"https".into(), &"a.test".into())
        );
    }
}

#[test]
fn an_old_version_is_refused() {
    let proxy = Certs::new().proxy("    min_version: '1.3'\n", HELLO);
    let wish = Wish {
        version: Some(SslVersion::TLS1_2),
        ..sni("a.test")
    };

    assert!(connect(proxy.address("web"), &wish).is_err());
    refusal(&proxy, "connection.tls_handshake");
}

#[test]
fn alpn_chooses_the_protocol() {
    let proxy = Certs::new().proxy("", HELLO);
    let address = proxy.address("web");

    let chosen = [&b"\x02h2\x08http/1.1"[..], b"\x08http/1.1"].map(|alpn| {
        let wish = Wish {
            alpn,
            ..sni("a.test")
        };
        let conn = connect(address, &wish).expect("shakes hands");
        conn.stream
            .ssl()
            .selected_alpn_protocol()
            .map(<[u8]>::to_vec)
    });

    assert_eq!(chosen, [Some(b"h2".to_vec()), Some(b"http/1.1".to_vec())]);
}

#[test]
fn a_name_without_certificate_and_default_is_refused() {
    let certs = Certs::new();
    let proxy = Proxy::start_in(
        certs.folder,
        &format!("listeners:\n- name: web\n  bind: 127.0.0.1:0\n  tls: {{certificates: [{{cert: exact.crt, key: exact.key, default: false}}]}}\n{HELLO}"),
    );

    assert!(connect(proxy.address("web"), &sni("other.test")).is_err());
    refusal(&proxy, "connection.no_certificate");
}

#[test]
fn a_host_under_another_certificate_is_misdirected() {
    let proxy = Certs::new().proxy("", HELLO);
    let mut conn = connect(proxy.address("web"), &sni("a.test")).unwrap();

    let own = conn.ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let other = conn.ask("GET / HTTP/1.1\r\nhost: x.b.test\r\n\r\n");

    assert_eq!((own.status, other.status), (200, 421));
    assert_eq!(other.why(), "misdirected");
}

#[test]
fn hosts_under_one_certificate_share_a_connection() {
    let proxy = Certs::new().proxy("", HELLO);
    let mut conn = connect(proxy.address("web"), &sni("x.b.test")).unwrap();

    let seen = ["x.b.test", "y.b.test"].map(|host| {
        conn.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"))
            .status
    });

    assert_eq!(seen, [200, 200]);
}

const CLIENT_CA: &str = "    client_certificates: {ca: ca.crt, mode: ";

#[test]
fn a_required_client_certificate_lets_only_its_holders_in() {
    let certs = Certs::new();
    let mine = certs.authority.issue(&["spiffe://test/me"]);
    let foreign = Authority::new().issue(&["spiffe://test/me"]);
    let proxy = certs.proxy(&format!("{CLIENT_CA}required}}\n"), HELLO);
    let address = proxy.address("web");
    let ask = |certificate| {
        let wish = Wish {
            certificate,
            ..sni("a.test")
        };
        // With TLS 1.3 a client learns of the refusal when it reads.
        let mut conn = connect(address, &wish).ok()?;
        let request = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
        conn.stream.write_all(request.as_bytes()).ok()?;
        conn.reply().ok().map(|reply| reply.status)
    };

    let seen = [ask(Some(&mine)), ask(Some(&foreign)), ask(None)];

    assert_eq!(seen, [Some(200), None, None]);
    refusal(&proxy, "connection.client_certificate");
    assert_eq!(proxy.logged(|_| true)["principal"], "spiffe://test/me");
}

#[test]
fn an_optional_client_certificate_may_be_missing_but_not_bad() {
    let certs = Certs::new();
    let foreign = Authority::new().issue(&["spiffe://test/me"]);
    let mine = certs.authority.issue(&["spiffe://test/me"]);
    let routes = "routes:\n- name: all\n  rules:\n  - match: [{principals: ['spiffe://test/*']}]\n    respond: {status: 200, body: known}\n  - respond: {status: 200, body: unknown}\n";
    let proxy = certs.proxy(&format!("{CLIENT_CA}optional}}\n"), routes);
    let address = proxy.address("web");
    let ask = |certificate| {
        let wish = Wish {
            certificate,
            ..sni("a.test")
        };
        let mut conn = connect(address, &wish).ok()?;
        let request = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
        conn.stream.write_all(request.as_bytes()).ok()?;
        conn.reply().ok().map(|reply| reply.text())
    };

    let seen = [ask(Some(&mine)), ask(None), ask(Some(&foreign))];

    assert_eq!(seen, [Some("known".into()), Some("unknown".into()), None]);
}

#[test]
fn clear_text_on_a_tls_listener_is_refused() {
    let proxy = Certs::new().proxy("", HELLO);
    let mut conn = proxy.connect();

    conn.send(GET);

    assert!(conn.ends());
    refusal(&proxy, "connection.protocol");
}

#[test]
fn one_port_serves_tls_clear_text_and_bytes() {
    let (certs, echo) = (Certs::new(), Echo::start());
    let tcp = format!(
        "pools:\n- {{name: raw, protocol: tcp, endpoints: ['{}']}}\nroutes:\n- {{name: all, rules: [{{respond: {{status: 200, body: hello}}}}]}}\n- {{name: raw, protocol: tcp, rules: [{{pool: raw}}]}}\n",
        echo.address
    );
    let proxy = certs.proxy("  protocol: auto\n", &tcp);
    let address = proxy.address("web");

    let secure = connect(address, &sni("a.test"))
        .map(|mut conn| conn.ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"));
    let clear = Conn::open(address).ask(GET);
    let mut raw = dial(address);
    raw.write_all(b"\x00\x01bytes").unwrap();
    let mut back = [0; 7];
    raw.read_exact(&mut back).unwrap();

    assert_eq!(secure.unwrap().text(), "hello");
    assert_eq!(clear.text(), "hello");
    assert_eq!(&back, b"\x00\x01bytes");
}

#[test]
fn passthrough_chooses_by_server_name_and_shows_the_services_certificate() {
    let certs = Certs::new();
    let expected = certs.exact.serial();
    let inner = certs.proxy("", HELLO);
    let outer = Proxy::start(&format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0', protocol: tls_passthrough}}\npools:\n- {{name: app, protocol: tcp, endpoints: ['{}']}}\nroutes:\n- {{name: a, protocol: tcp, hosts: [a.test], rules: [{{pool: app}}]}}\n",
        inner.address("web")
    ));
    let address = outer.address("web");

    let mut conn = connect(address, &sni("a.test")).expect("shakes hands");
    let reply = conn.ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");

    assert_eq!(reply.text(), "hello");
    assert_eq!(
        serial(&conn.stream.ssl().peer_certificate().unwrap()),
        expected
    );
    assert!(connect(address, &sni("b.test")).is_err());
    refusal(&outer, "connection.no_route");
}

#[test]
fn a_unix_socket_listens() {
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: web, bind: 'unix:FOLDER/web.sock'}}\n{HELLO}"
    ));
    let path = proxy.file("web.sock");
    let stream = until("the socket is there", || UnixStream::connect(&path).ok());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();

    let reply = Conn::new(stream).ask(GET);

    assert_eq!(reply.text(), "hello");
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.sock");
    Echo::unix_http(&path, "from a socket");
    let proxy = Proxy::start_in(
        folder,
        &format!("listeners:\n- {{name: web, bind: '127.0.0.1:0'}}\npools:\n- {{name: app, endpoints: ['unix:{}']}}\n{ALL_TO_APP}", path.display()),
    );

    assert_eq!(proxy.get("/").text(), "from a socket");
}

#[test]
fn http_endpoints_are_told_the_client_by_proxy_protocol() {
    let service = Upstream::with(|seen, stream| {
        let line = seen.raw.lines().next().unwrap_or_default();
        crate::support::upstream::answer(stream, 200, &[], line.as_bytes())
    });
    let proxy = Proxy::http(&format!(
        "{}  proxy_protocol: v1\n{ALL_TO_APP}",
        pool("app", &[&service])
    ));

    let reply = proxy.get("/");

    assert!(
        reply.text().starts_with("PROXY TCP4 127.0.0.1 "),
        "{}",
        reply.text()
    );
}

#[test]
fn endpoints_are_verified_over_tls() {
    let certs = Certs::new();
    let path = certs.folder.path().to_owned();
    let ca = path.join("ca.crt");
    let other = TempDir::new().unwrap();
    Authority::new().0.write(other.path(), "ca");
    let foreign = other.path().join("ca.crt");
    let inner = certs.proxy("", HELLO);
    let ask = |name: &str, ca: &std::path::Path| {
        let proxy = Proxy::http(&format!(
            "pools:\n- {{name: app, tls: {{sni: {name}, ca: '{}'}}, endpoints: ['{}']}}\n{ALL_TO_APP}    rewrite: {{host: {name}}}\n    retry: {{attempts: 0}}\n",
            ca.display(),
            inner.address("web")
        ));
        let reply = proxy.get("/");
        (reply.status, reply.why())
    };

    assert_eq!(ask("a.test", &ca).0, 200);
    assert_eq!(ask("wrong.test", &ca), (502, "upstream_tls".into()));
    assert_eq!(ask("a.test", &foreign), (502, "upstream_tls".into()));
}

#[test]
fn a_client_that_ends_its_half_still_gets_its_reply() {
    let service = Upstream::answering("late");
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    conn.stream.shutdown(Shutdown::Write).unwrap();
    let reply = conn.reply();

    // A proxy may take the end for an abort (RFC 9112 section 9.6 leaves it open); a reply must then not be half.
    if let Ok(reply) = reply {
        assert_eq!(reply.text(), "late");
    }
}
