//! Connections passed through as bytes, explained and asked about: the same rule and the same ruling that traffic gets.
//! It must not know how that is found out.
//! Part of the test binary.

use std::io::Read;
use std::net::TcpStream;

use serde_json::Value;

use crate::support::tls::{connect, Wish};
use crate::support::{run, Authority, Conn, Echo, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const OLD: &str = "spiffe://mesh.test/ns/shop/sa/old";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";

fn explain(proxy: &Proxy, more: &[&str]) -> (Option<i32>, Value) {
    let config = proxy.config();
    let base = ["explain", "--json", "-c", config.to_str().unwrap(), "--tcp"];
    let done = run(&[&base, more].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let view = serde_json::from_slice(&done.stdout).unwrap_or(Value::String(said));
    (done.status.code(), view)
}

/// The node of `pay`, which lets in `web` and never `old`.
fn node(app: &Upstream, authority: &Authority) -> Proxy {
    let folder = tempfile::TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    authority.svid(PAY).write(folder.path(), "own");
    let identity = format!("identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  hold: 0s\n  workloads: [{{name: own, id: '{PAY}', certificate: {{cert: own.crt, key: own.key}}}}]\n");
    Proxy::start_in(folder, &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: tcp, mtls: {{}}}}]\n{identity}pools: [{{name: app, protocol: tcp, endpoints: ['{}']}}]\nroutes: [{{name: raw, protocol: tcp, listeners: [in], rules: [{{pool: app}}]}}]\npolicies:\n- {{name: callers, action: allow, to: {{pools: [app]}}, rules: [{{from: {{namespaces: [shop]}}}}]}}\n- {{name: not-old, action: deny, rules: [{{from: {{principals: ['{OLD}']}}}}]}}\n", app.address))
}

#[test]
fn a_connection_is_explained_with_the_line_that_traffic_is_refused_by() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let proxy = node(&app, &authority);
    let call = |id: &str| {
        let certificate = authority.svid(id);
        let wish = Wish {
            certificate: Some(&certificate),
            ..Wish::default()
        };
        let mut conn = connect(proxy.address("in"), &wish).unwrap();
        conn.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        conn.reply().is_ok()
    };
    let traffic = [call(WEB), call(OLD)];

    for live in [&[][..], &["--live"]] {
        let ask = |more: &[&str]| explain(&proxy, &[&["raw"], live, more].concat());
        let (web, allowed) = ask(&["--as", WEB]);
        let (old, denied) = ask(&["--as", OLD]);
        let (nobody, unknown) = ask(&[]);

        assert_eq!(
            traffic,
            [web == Some(0), old == Some(0)],
            "{allowed:#}{denied:#}"
        );
        assert_eq!((web, old, nobody), (Some(0), Some(1), Some(1)));
        assert_eq!(allowed["outcome"]["pools"][0]["name"], "app");
        assert_eq!(allowed["ruling"]["by"], "callers[0]");
        assert_eq!(allowed["candidates"][0]["verdict"], "chosen");
        assert_eq!(denied["outcome"]["cause"], "policy_denied");
        assert_eq!(denied["outcome"]["policy"], "not-old[0]");
        assert!(
            denied["ruling"]["place"]
                .as_str()
                .unwrap()
                .contains("windrose.yaml:"),
            "{denied:#}"
        );
        assert_eq!(denied["policies"].as_array().unwrap().len(), 2);
        assert_eq!(unknown["outcome"]["cause"], "identity_missing");
    }
    let line = proxy.logged(|line| line["principal"] == OLD);
    assert_eq!(
        (&line["why"], &line["policy"]),
        (&"policy_denied".into(), &"not-old[0]".into())
    );
    let config = proxy.config();
    let config = config.to_str().unwrap();
    let text = run(&["explain", "-c", config, "--tcp", "in", "--as", OLD]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("=> deny not-old[0]: matches")
            && text.contains("closed here, cause policy_denied"),
        "{text}"
    );
}

#[test]
fn who_can_connect_goes_through_everybody() {
    let authority = Authority::new();
    let app = Upstream::answering("paid");
    let proxy = node(&app, &authority);
    let config = proxy.config();

    for live in [&[][..], &["--live"]] {
        let args = ["who-can", "-c", config.to_str().unwrap(), "connect", "raw"];
        let done = run(&[&args, live].concat());
        let text = String::from_utf8(done.stdout).unwrap();
        let of = |who: &str| text.lines().find(|line| line.contains(who)).unwrap();

        assert_eq!(done.status.code(), Some(0), "{text}");
        assert!(of("namespace shop").starts_with("yes"), "{text}");
        let old = of(OLD);
        assert!(
            old.starts_with("no")
                && old.contains("policy \"not-old\"")
                && old.contains("windrose.yaml:"),
            "{text}"
        );
        assert!(of("nobody proven").contains("identity_missing"), "{text}");
        assert!(of("anyone else").starts_with("no"), "{text}");
    }
    let unknown = run(&["who-can", "-c", config.to_str().unwrap(), "connect", "rwa"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn services_of_bytes_are_found_by_name_address_and_listener() {
    let echo = Echo::start();
    let at = echo.address;
    let yaml = format!("listeners:
- {{name: out, role: mesh-outbound, bind: '127.0.0.1:0', protocol: auto, capture: redirect, unknown: block}}
- {{name: own, role: mesh-outbound, bind: '127.0.0.1:0', protocol: tcp, service: db}}
- {{name: web, bind: '127.0.0.1:0'}}
services:
- {{name: db, addresses: [10.96.0.10], ports: [{{port: 5432, protocol: tcp}}], endpoints: ['{at}']}}
- {{name: mq, addresses: [10.96.0.11], ports: [{{port: 5672, protocol: tcp}}], endpoints: ['{at}']}}
routes: [{{name: all, listeners: [web], rules: [{{respond: {{status: 200, body: x}}}}]}}]
policies: [{{name: nobody, action: deny, to: {{services: [mq]}}, rules: [{{from: {{clients: [192.0.2.0/24]}}}}]}}]
");
    let proxy = Proxy::start(&yaml);
    let outcome = |more: &[&str]| {
        let (code, view) = explain(&proxy, more);
        let (listener, outcome) = (&view["listener"]["name"], &view["outcome"]);
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        (
            code,
            text(listener),
            text(&outcome["route"]),
            text(&outcome["cause"]),
        )
    };
    let is = |listener: &str, route: &str, cause: &str, code| {
        (
            Some(code),
            listener.to_owned(),
            route.to_owned(),
            cause.to_owned(),
        )
    };

    assert_eq!(outcome(&["db"]), is("own", "db", "-", 0));
    assert_eq!(
        outcome(&["db:5432", "--listener", "out"]),
        is("out", "db", "-", 0)
    );
    assert_eq!(outcome(&["10.96.0.10:5432"]), is("out", "db", "-", 0));
    assert_eq!(outcome(&["mq"]), is("out", "mq", "policy_denied", 1));
    assert_eq!(
        outcome(&["mq", "--from", "10.0.0.1"]),
        is("out", "mq", "-", 0)
    );
    assert_eq!(
        outcome(&["out/10.1.1.1:99"]),
        is("out", "-", "destination_unknown", 1)
    );
    assert_eq!(
        outcome(&["web/10.1.1.1:99"]),
        is("web", "-", "connection.protocol", 1)
    );
    let (code, problem) = explain(&proxy, &["db:1"]);
    assert!(code == Some(2) && problem.as_str().unwrap().contains("no port 1"));
    // As traffic.
    let mut own = TcpStream::connect(proxy.address("own")).unwrap();
    std::io::Write::write_all(&mut own, b"hello").unwrap();
    let mut heard = [0; 5];
    own.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    let refused = Conn::open(proxy.address("web")).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(refused.status, 200);
}
