//! Endpoints that the system's authorities vouch for, which are read only when a pool believes them.
//! It must not know how the proxy keeps them.
//! Part of the test binary.

use std::path::Path;

use tempfile::TempDir;

use crate::support::proxy::{ALL_TO_APP, WEB};
use crate::support::{Authority, Proxy, Upstream};

/// A service over TLS, and the folder with the authority that vouches for it.
fn service() -> (Proxy, TempDir) {
    named("a.test")
}

/// The same with a certificate for this name.
fn named(name: &str) -> (Proxy, TempDir) {
    let (authority, folder, known) = (
        Authority::new(),
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    );
    authority.issue(&[name]).write(folder.path(), "own");
    authority.0.write(known.path(), "ca");
    let service = Proxy::start_in(
        folder,
        "listeners: [{name: web, bind: '127.0.0.1:0', tls: {certificates: [{cert: own.crt, key: own.key, default: true}]}}]\nroutes:\n- {name: all, rules: [{respond: {status: 200, body: hello}}]}\n",
    );
    (service, known)
}

/// A proxy on a system with this authority.
fn on_system(ca: &Path, yaml: &str) -> Proxy {
    Proxy::start_as(
        TempDir::new().unwrap(),
        &format!("{WEB}{yaml}"),
        |command| {
            command.env("SSL_CERT_FILE", ca);
            command.env("SSL_CERT_DIR", ca.with_file_name("none"));
        },
    )
}

fn over_tls(service: &Proxy) -> String {
    format!(
        "pools:\n- {{name: app, tls: {{sni: a.test}}, endpoints: ['{}']}}\n{ALL_TO_APP}    retry: {{attempts: 0}}\n",
        service.address("web")
    )
}

#[test]
fn the_system_vouches_for_endpoints_from_the_start() {
    let (service, known) = service();
    let other = TempDir::new().unwrap();
    Authority::new().0.write(other.path(), "ca");

    let ask = |system: &TempDir| {
        let proxy = on_system(&system.path().join("ca.crt"), &over_tls(&service));
        let reply = proxy.get("/");
        (reply.status, reply.why())
    };

    assert_eq!(ask(&known).0, 200);
    assert_eq!(ask(&other), (502, "upstream_tls".into()));
}

#[test]
fn the_system_vouches_for_endpoints_that_a_reload_brings_also_on_open_connections() {
    let (service, known) = service();
    let plain = Upstream::answering("plain");
    let before = format!(
        "pools:\n- {{name: app, endpoints: ['{}']}}\n{ALL_TO_APP}",
        plain.address
    );
    let proxy = on_system(&known.path().join("ca.crt"), &before);
    let mut open = proxy.connect();
    let request = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    assert_eq!(open.ask(request).text(), "plain");

    proxy.reload(&format!("{WEB}{}", over_tls(&service)));

    assert_eq!(open.ask(request).text(), "hello");
    assert_eq!(proxy.get("/").text(), "hello");
}

#[test]
fn the_system_vouches_for_services_that_plugins_call_by_https() {
    let app = Upstream::answering("ok");
    let (here, known) = named("localhost");
    let (elsewhere, of_elsewhere) = named("a.test");
    let other = TempDir::new().unwrap();
    Authority::new().0.write(other.path(), "ca");
    let ask = |service: &Proxy, system: &TempDir| {
        let port = service.address("web").port();
        let plugin =
            format!("{{kind: forward_auth, config: {{service: 'https://localhost:{port}/'}}}}");
        let yaml = format!(
            "pools:\n- {{name: app, endpoints: ['{}']}}\n{ALL_TO_APP}  plugins: [{plugin}]\n",
            app.address
        );
        let reply = on_system(&system.path().join("ca.crt"), &yaml).get("/");
        (reply.status, reply.why())
    };
    let refused = (503, "auth.forward_unavailable".to_owned());

    assert_eq!(ask(&here, &known).0, 200);
    assert_eq!(ask(&here, &other), refused, "nobody vouches for it");
    assert_eq!(ask(&elsewhere, &of_elsewhere), refused, "it is another one");
}
