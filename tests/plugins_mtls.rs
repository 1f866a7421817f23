//! `mtls_auth` as clients with certificates meet it: through a real handshake, on one connection and in resumed sessions.
//! It must not know its corner cases; its own tests do.
//! Part of the test binary.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::proxy::{pool, run};
use crate::support::tls::{connect, Authority, Pair, Wish};
use crate::support::{Proxy, Reply, Upstream};

const LISTENER: &str = "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  tls:\n    certificates: [{cert: web.crt, key: web.key}]\n    client_certificates: {ca: ca.crt, mode: MODE}\n";

fn folder(authorities: &[&Authority]) -> TempDir {
    let folder = TempDir::new().unwrap();
    authorities[0].issue(&["test"]).write(folder.path(), "web");
    let all = authorities.iter().map(|one| one.0.cert.to_pem().unwrap());
    std::fs::write(
        folder.path().join("ca.crt"),
        all.collect::<Vec<_>>().concat(),
    )
    .unwrap();
    authorities[0].0.write(folder.path(), "first");
    folder
}

fn ask(address: SocketAddr, certificate: Option<&Pair>, path: &str) -> Reply {
    let wish = Wish {
        sni: Some("test"),
        certificate,
        ..Wish::default()
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nx-client: CN=forged\r\n\r\n");
    connect(address, &wish).unwrap().ask(request)
}

fn why(reply: &Reply) -> (u16, String) {
    (reply.status, reply.why())
}

#[test]
fn a_client_certificate_proves_its_consumer() {
    let (clients, others) = (Authority::new(), Authority::named("other authority"));
    let service = Upstream::echo();
    let yaml = format!(
        "{}consumers:\n- {{name: ann, groups: [staff], certificates: [{{dns: ann.test}}]}}\n- {{name: bob, certificates: [{{common_name: bob.test}}, {{dns: two.test}}]}}\n{}routes:\n- name: strict\n  plugins:\n  - {{kind: mtls_auth, config: {{ca: first.crt, headers: {{x-client: subject, x-hash: fingerprint}}}}}}\n  - {{kind: acl, config: {{allow: {{groups: [staff]}}}}}}\n  rules: [{{match: [{{path: {{prefix: /strict}}}}], pool: app}}]\n- name: cel\n  plugins: [{{kind: cel, config: {{allow: \"'ann.test' in connection.certificate.dns && connection.certificate.issuer == 'CN=test authority'\"}}}}]\n  rules: [{{match: [{{path: {{prefix: /cel}}}}], pool: app}}]\n- name: open\n  plugins: [{{kind: mtls_auth, config: {{optional: true}}}}]\n  rules: [{{pool: app}}]\n",
        LISTENER.replace("MODE", "optional"),
        pool("app", &[&service])
    );
    let proxy = Proxy::start_in(folder(&[&clients, &others]), &yaml);
    let address = proxy.address("web");
    let (ann, bob) = (clients.issue(&["ann.test"]), clients.issue(&["bob.test"]));
    let (nobody, foreign) = (clients.issue(&["x.test"]), others.issue(&["ann.test"]));
    let both = clients.issue(&["ann.test", "two.test"]);

    let replies = [
        ask(address, None, "/strict"),
        ask(address, Some(&foreign), "/strict"),
        ask(address, Some(&nobody), "/strict"),
        ask(address, Some(&both), "/strict"),
        ask(address, Some(&bob), "/strict"),
        ask(address, Some(&ann), "/cel"),
        ask(address, Some(&bob), "/cel"),
        ask(address, None, "/cel"),
        ask(address, None, "/"),
        ask(address, Some(&nobody), "/"),
        ask(address, Some(&ann), "/strict"),
    ];

    let expected = [
        (401, "auth.mtls_missing"),
        (401, "auth.mtls_untrusted"),
        (403, "auth.mtls_consumer"),
        (403, "auth.mtls_ambiguous"),
        (403, "policy_denied.acl"),
        (200, ""),
        (403, "policy_denied.cel"),
        (403, "policy_denied.cel"),
        (200, ""),
        (403, "auth.mtls_consumer"),
        (200, ""),
    ];
    let expected = expected.map(|(status, why)| (status, why.to_owned()));
    assert_eq!(replies.each_ref().map(why), expected);
    let seen = service.last();
    assert_eq!(seen.header("x-client"), Some("CN=ann.test"));
    assert_eq!(seen.header("x-hash"), Some(&*ann.hash()));
    proxy.logged(|line| line["principal"] == "consumer:ann" && line["route"] == "strict");
}

#[test]
fn a_resumed_session_and_a_kept_connection_prove_the_same() {
    let clients = Authority::new();
    let service = Upstream::echo();
    let yaml = format!(
        "{}consumers: [{{name: ann, certificates: [{{dns: ann.test}}]}}]\n{}routes:\n- name: all\n  plugins: [{{kind: mtls_auth, config: {{ca: first.crt}}}}]\n  rules: [{{pool: app}}]\n",
        LISTENER.replace("MODE", "required"),
        pool("app", &[&service])
    );
    let proxy = Proxy::start_in(folder(&[&clients]), &yaml);
    clients.issue(&["ann.test"]).write(&proxy.file(""), "ann");

    let first = shaken(&proxy, "-sess_out");
    let second = shaken(&proxy, "-sess_in");

    assert!(first.contains("New, TLSv1.2"), "{first}");
    assert!(second.contains("Reused, TLSv1.2"), "{second}");
    for said in [first, second] {
        assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
    }
    proxy.logged(|line| line["principal"] == "consumer:ann");
}

/// What a client of OpenSSL's says that makes two requests on a connection, and keeps its session or takes one up.
fn shaken(proxy: &Proxy, session: &str) -> String {
    let mut client = Command::new("openssl")
        .current_dir(proxy.file(""))
        .args(["s_client", "-connect", &proxy.address("web").to_string()])
        .args(["-servername", "test", "-tls1_2", "-ign_eof"])
        .args(["-cert", "ann.crt", "-key", "ann.key", session, "session"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let one = "GET / HTTP/1.1\r\nhost: test\r\n";
    let requests = format!("{one}\r\n{one}connection: close\r\n\r\n");
    let mut input = client.stdin.take().unwrap();
    input.write_all(requests.as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_listener_that_asks_for_no_certificates_makes_it_a_mistake() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("c.yaml");
    let check = |listener: &str, route: &str| {
        let yaml = format!(
            "listeners:\n- {{name: web, bind: '127.0.0.1:0'{listener}}}\nconsumers: [{{name: ann, certificates: [{{dns: a}}]}}]\nroutes: [{{name: r{route}, rules: [{{respond: {{status: 200}}}}]}}]\n"
        );
        std::fs::write(&config, yaml).unwrap();
        let output = run(&["check", "-c", config.to_str().unwrap()]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };

    let of_route = check("", ", plugins: [{kind: mtls_auth}]");
    let of_listener = check(", plugins: [{kind: mtls_auth}]", "");
    let nested = "{kind: auth, config: {of: [{kind: mtls_auth}, {kind: mtls_auth, config: {optional: true}}]}}";
    let nested = check("", &format!(", plugins: [{nested}]"));

    assert!(of_route.contains("routes[0].plugins[0]: plugin \"r.0.0.mtls_auth\" reads client certificates, and no listener of the route asks for any"), "{of_route}");
    assert!(
        of_listener.contains("reads client certificates, and the listener does not ask for any"),
        "{of_listener}"
    );
    assert!(nested.contains("reads client certificates"), "{nested}");
}
