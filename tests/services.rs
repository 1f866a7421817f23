//! Services: pools and routes that nobody had to write, found by name, by address, and by a port of their own.
//! It must not capture anything; `captured` does.
//! Part of the test binary.

use std::fs;
use std::io::Read;

use tempfile::TempDir;

use crate::support::client::dial;
use crate::support::{run, until, Conn, Echo, Proxy, Upstream};

const OUT: &str = "listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:0'}]\n";

fn ask(proxy: &Proxy, listener: &str, host: &str) -> (u16, String) {
    let mut conn = Conn::open(proxy.address(listener));
    let reply = conn.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    (reply.status, reply.text())
}

#[test]
fn a_service_is_called_by_each_of_its_names_and_ports() {
    let (http, other) = (Upstream::answering("http"), Upstream::answering("other"));
    let proxy = Proxy::start(&format!(
        "{OUT}pools: [{{name: spare, endpoints: ['{}']}}]
services:
- {{name: payments, hosts: [payments, payments.shop.svc], ports: [{{port: 80, target: {}}}, {{port: 9090, pool: spare}}], endpoints: [127.0.0.1]}}
- {{name: ledger, ports: [{{port: 80}}], endpoints: ['{}']}}
",
        other.address,
        http.address.port(),
        other.address,
    ));

    assert_eq!(ask(&proxy, "out", "payments"), (200, "http".into()));
    assert_eq!(
        ask(&proxy, "out", "payments.shop.svc:80"),
        (200, "http".into())
    );
    assert_eq!(ask(&proxy, "out", "payments:9090"), (200, "other".into()));
    assert_eq!(ask(&proxy, "out", "payments:81").0, 404);
    assert_eq!(ask(&proxy, "out", "ledger:4711"), (200, "other".into()));
    assert_eq!(ask(&proxy, "out", "nobody").0, 404);
    let line = proxy.logged(|line| line["host"] == "payments");
    assert_eq!(
        (&line["route"], &line["pool"]),
        (&"payments".into(), &"payments".into())
    );
}

#[test]
fn a_port_of_its_own_leads_to_a_service_also_of_bytes() {
    let (http, bytes) = (Upstream::answering("http"), Echo::greeting(b"hello"));
    let proxy = Proxy::start(&format!(
        "listeners:
- {{name: out, role: mesh-outbound, bind: '127.0.0.1:0', service: web}}
- {{name: db, role: mesh-outbound, bind: '127.0.0.1:0', protocol: tcp, service: db.internal}}
services:
- {{name: web, ports: [{{port: 80}}], endpoints: ['{}']}}
- {{name: store, hosts: [db.internal], ports: [{{port: 5432, protocol: tcp}}], endpoints: ['{}']}}
",
        http.address, bytes.address
    ));

    assert_eq!(ask(&proxy, "out", "whatever"), (200, "http".into()));
    let mut greeting = [0; 5];
    dial(proxy.address("db")).read_exact(&mut greeting).unwrap();

    assert_eq!(&greeting, b"hello");
}

#[test]
fn a_written_route_wins_where_both_are_equally_specific() {
    let service = Upstream::answering("service");
    let proxy = Proxy::start(&format!(
        "{OUT}services: [{{name: shop, ports: [{{port: 80}}], endpoints: ['{}']}}]
routes: [{{name: mine, listeners: [out], hosts: [shop], rules: [{{match: [{{path: {{prefix: /}}}}], respond: {{status: 203}}}}]}}]
",
        service.address
    ));

    assert_eq!(ask(&proxy, "out", "shop").0, 203);
}

#[test]
fn services_are_found_by_address_explained_and_shown() {
    let proxy = Proxy::start(
        "listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:0', protocol: auto, capture: redirect}]
services:
- {name: payments, addresses: [10.96.0.10, 'fd00::10'], ports: [{port: 80}, {port: 5432, protocol: tcp}], endpoints: [192.0.2.1]}
tests:
- request: {url: 'http://any.test/', listener: out, destination: '10.96.0.10:80'}
  expect: {route: payments, pool: payments}
- request: {url: 'http://any.test/', listener: out, destination: '[fd00::10]:80'}
  expect: {route: payments}
",
    );

    let shown = run(&["show", "-c", proxy.config().to_str().unwrap()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("services:") && !shown.contains("routes:\n- name"),
        "{shown}"
    );
    let routes = proxy.admin("/routes").to_string();
    assert!(
        routes.contains("destination 10.96.0.10/32 port 80"),
        "{routes}"
    );
    assert!(
        routes.contains("destination fd00::10 port 5432"),
        "{routes}"
    );
    let pools = proxy.admin("/pools").to_string();
    assert!(pools.contains("192.0.2.1:5432"), "{pools}");
}

#[test]
fn services_in_files_are_followed() {
    let (first, second) = (Upstream::answering("first"), Upstream::answering("second"));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("services.d");
    fs::create_dir(&path).unwrap();
    let write = |name: &str, to: &Upstream| {
        let text = format!(
            "- {{name: {name}, ports: [{{port: 80}}], endpoints: ['{}']}}\n",
            to.address
        );
        fs::write(path.join("next"), text).unwrap();
        fs::rename(path.join("next"), path.join(format!("{name}.yaml"))).unwrap();
    };
    write("one", &first);
    let yaml = format!("{OUT}services_from: {{file: 'services.d/*.yaml'}}\n");
    let proxy = Proxy::start_in(folder, &yaml);
    assert_eq!(ask(&proxy, "out", "one"), (200, "first".into()));

    write("two", &second);

    until("the new service", || {
        (ask(&proxy, "out", "two") == (200, "second".into())).then_some(())
    });
    fs::remove_file(path.join("one.yaml")).unwrap();
    until("the old one is gone", || {
        (ask(&proxy, "out", "one").0 == 404).then_some(())
    });
}

#[test]
fn findings_in_what_a_service_becomes_are_told_at_the_service() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("windrose.yaml");
    let text = format!(
        "{OUT}services:\n- {{name: shop, ports: [{{port: 80}}], endpoints: [shop.test]}}\n"
    );
    fs::write(&path, text).unwrap();

    let said = run(&["check", "-c", path.to_str().unwrap()]);

    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(
        said.contains("windrose.yaml:3:") && said.contains("services[0]"),
        "{said}"
    );
}

#[test]
fn services_that_change_during_a_probation_are_taken_up_after_it() {
    let (first, second) = (Upstream::answering("first"), Upstream::answering("second"));
    let folder = TempDir::new().unwrap();
    let text = |to: &Upstream| {
        format!(
            "- {{name: one, ports: [{{port: 80}}], endpoints: ['{}']}}\n",
            to.address
        )
    };
    fs::write(folder.path().join("services.yaml"), text(&first)).unwrap();
    let yaml = format!("{OUT}services_from: {{file: services.yaml}}\n");
    let proxy = Proxy::start_in(folder, &yaml);
    let config = proxy.config();
    let command = |words: &[&str]| {
        let done = run(&[words, &["-c", config.to_str().unwrap()]].concat());
        assert!(done.status.success(), "{done:?}");
    };
    // The files are fresh, so it looks once more after the start.
    until("it has looked again", || {
        proxy.stderr().contains("services changed").then_some(())
    });
    proxy.rewrite(&format!(
        "{yaml}pools: [{{name: spare, endpoints: ['127.0.0.1:9']}}]\n"
    ));
    command(&["reload", "--confirm", "60s", "--detach"]);

    fs::write(proxy.file("next"), text(&second)).unwrap();
    fs::rename(proxy.file("next"), proxy.file("services.yaml")).unwrap();
    until("the change is refused for now", || {
        proxy.stderr().contains("on probation for").then_some(())
    });
    assert_eq!(ask(&proxy, "out", "one"), (200, "first".into()));
    command(&["confirm"]);

    until("the change is in force", || {
        (ask(&proxy, "out", "one") == (200, "second".into())).then_some(())
    });
}
