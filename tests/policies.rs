//! Who may call what: refusals at every level, audit, and streams whose caller is no longer allowed.
//! It must not test how single conditions are compared; unit tests of `decide::policy` do that.
//! Part of the test binary.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::support::client::dial;
use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, run, ALL_TO_APP, WEB};
use crate::support::tls::{connect, Authority, Pair, Wish};
use crate::support::{until, Echo, Grpc, Proxy, Reply, Upstream, WebSocket};

/// A listener that knows its callers by their certificates.
struct Mesh {
    authority: Authority,
    proxy: Proxy,
}

const TLS: &str = "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  tls:\n    certificates: [{cert: web.crt, key: web.key}]\n    client_certificates: {ca: ca.crt, mode: optional}\n";

impl Mesh {
    fn start(yaml: &str) -> Mesh {
        Mesh::with(&format!("{TLS}{yaml}"))
    }

    fn with(yaml: &str) -> Mesh {
        let folder = tempfile::TempDir::new().unwrap();
        let authority = Authority::new();
        authority.issue(&["test"]).write(folder.path(), "web");
        authority.0.write(folder.path(), "ca");
        let proxy = Proxy::start_in(folder, yaml);
        Mesh { authority, proxy }
    }

    fn workload(&self, name: &str) -> Pair {
        let id = format!("spiffe://mesh.test/ns/shop/sa/{name}");
        self.authority.issue(&[&id])
    }

    fn ask(&self, certificate: Option<&Pair>, line: &str) -> Reply {
        let wish = Wish {
            sni: Some("test"),
            certificate,
            ..Wish::default()
        };
        let mut conn = connect(self.proxy.address("web"), &wish).unwrap();
        conn.ask(format!("{line} HTTP/1.1\r\nhost: test\r\n\r\n"))
    }
}

#[test]
fn workloads_are_allowed_by_name_and_refused_with_the_policys_name() {
    let service = Upstream::answering("charged");
    let policies = "policies:\n- name: callers\n  action: allow\n  rules:\n  - from: {principals: ['spiffe://mesh.test/ns/shop/sa/web']}\n    when: {methods: [GET]}\n- name: no-admin\n  action: deny\n  rules: [{when: {paths: [{prefix: /admin}]}}]\n";
    let mesh = Mesh::start(&format!(
        "{}{ALL_TO_APP}{policies}",
        pool("app", &[&service])
    ));
    let (web, other) = (mesh.workload("web"), mesh.workload("other"));

    let allowed = mesh.ask(Some(&web), "GET /pay");
    let wrong_method = mesh.ask(Some(&web), "DELETE /pay");
    let admin = mesh.ask(Some(&web), "GET /pay/..//admin/x");
    let stranger = mesh.ask(Some(&other), "GET /pay");
    let nobody = mesh.ask(None, "GET /pay");

    assert_eq!((allowed.status, &*allowed.text()), (200, "charged"));
    assert_eq!(
        (wrong_method.status, &*wrong_method.why()),
        (403, "policy_denied")
    );
    assert_eq!((admin.status, &*admin.why()), (403, "policy_denied"));
    assert!(admin.text().contains("no-admin[0]"), "{}", admin.text());
    assert_eq!((stranger.status, &*stranger.why()), (403, "policy_denied"));
    assert_eq!((nobody.status, &*nobody.why()), (401, "identity_missing"));
    assert!(nobody.header("www-authenticate").is_some());
    assert_eq!(service.requests(), 1);
    let line = mesh.proxy.logged(|line| line["path"] == "/pay/..//admin/x");
    assert_eq!(
        (&line["policy"], &line["why"]),
        (&"no-admin[0]".into(), &"policy_denied".into())
    );
    let count = |marks: &[&str]| mesh.proxy.metric("windrose_policy_decisions_total", marks);
    assert_eq!(
        count(&["policy=\"no-admin\"", "rule=\"0\"", "decision=\"deny\""]),
        1.0
    );
    assert_eq!(count(&["policy=\"callers\"", "decision=\"allow\""]), 1.0);
    assert_eq!(
        count(&["policy=\"callers\"", "decision=\"identity_missing\""]),
        1.0
    );
}

#[test]
fn names_of_policies_are_not_for_strangers() {
    let yaml = "observe: {answers: {show_cause_to: []}}\nroutes: [{name: all, rules: [{respond: {status: 200, body: x}}]}]\nauthorization: {default: deny}\npolicies: [{name: secret-name, action: allow, rules: [{from: {clients: [10.0.0.0/8]}}]}]\n";
    let proxy = Proxy::http(yaml);

    let reply = proxy.get("/");

    assert_eq!(reply.status, 403);
    let told = format!("{:?}{}", reply.headers, reply.text());
    assert!(!told.contains("secret-name"), "{told}");
}

#[test]
fn the_default_refuses_what_no_policy_allows_also_redirects_and_answers() {
    let yaml = "routes:\n- {name: open, rules: [{match: [{path: {prefix: /open}}], respond: {status: 200, body: x}}]}\n- {name: go, rules: [{match: [{path: {prefix: /go}}], redirect: {host: other.test}}]}\nauthorization: {default: deny}\npolicies: [{name: opened, action: allow, to: {routes: [open]}, rules: [{}]}]\n";
    let proxy = Proxy::http(yaml);

    let seen = ["/open", "/go", "/none"].map(|path| {
        let reply = proxy.get(path);
        (reply.status, reply.why())
    });

    assert_eq!(seen[0].0, 200);
    assert_eq!(seen[1], (403, "policy_denied".into()));
    assert_eq!(seen[2], (404, "no_route".into()));
    assert_eq!(
        proxy.logged(|line| line["path"] == "/go")["policy"],
        "default"
    );
}

#[test]
fn a_consumer_that_a_plugin_proves_counts() {
    let yaml = format!("routes:\n- name: all\n  plugins: [{{kind: basic_auth, config: {{users: {{ann: '{HASH}', bob: '{HASH}'}}}}}}]\n  rules: [{{respond: {{status: 200, body: in}}}}]\npolicies: [{{name: only-ann, action: allow, rules: [{{from: {{consumers: [ann]}}}}]}}]\n");
    let proxy = Proxy::http(&yaml);
    let ask = |token: &str| proxy.ask("GET", "/", &format!("authorization: Basic {token}\r\n"));

    // Each with the password `U*U`.
    let (ann, bob) = (ask("YW5uOlUqVQ=="), ask("Ym9iOlUqVQ=="));

    assert_eq!((ann.status, bob.status), (200, 403));
    assert_eq!(bob.why(), "policy_denied");
}

#[tokio::test]
async fn grpc_callers_hear_of_a_refusal_in_their_own_way() {
    let service = Grpc::start();
    let proxy = Proxy::http(&format!(
        "pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}policies:\n- {{name: no, action: deny, rules: [{{when: {{paths: [{{regex: '/[^/]+/unary'}}]}}}}]}}\n",
        service.address
    ));
    let client = Client::connect(proxy.address("web")).await;

    let whole = client.ask(call("unary"), Bytes::new()).await.unwrap();

    assert_eq!(whole.field("grpc-status"), Some("7"));
    let message = whole.field("grpc-message").unwrap_or_default();
    assert!(message.contains("policy_denied"), "{message}");
    assert_eq!(service.calls(), 0);
}

#[test]
fn an_expression_that_cannot_be_evaluated_refuses_with_its_own_cause() {
    let yaml = "routes: [{name: all, rules: [{respond: {status: 200, body: x}}]}]\npolicies:\n- name: gold\n  action: allow\n  rules: [{when: {cel: \"request.headers['x-tier'] == 'gold' && source.address.startsWith('127.')\"}}]\n";
    let proxy = Proxy::http(yaml);
    let ask = |fields: &str| {
        let reply = proxy.ask("GET", "/", fields);
        (reply.status, reply.why())
    };

    assert_eq!(ask("x-tier: gold\r\n").0, 200);
    assert_eq!(ask("x-tier: tin\r\n"), (403, "policy_denied".into()));
    assert_eq!(ask(""), (403, "policy_unevaluable".into()));
}

fn bytes(policies: &str) -> (Echo, String) {
    let echo = Echo::start();
    let yaml = format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0', protocol: tcp}}\npools: [{{name: raw, protocol: tcp, endpoints: ['{}']}}]\nroutes: [{{name: raw, protocol: tcp, listeners: [web], rules: [{{pool: raw}}]}}]\n{policies}",
        echo.address
    );
    (echo, yaml)
}

/// What a byte service behind the proxy sends back to a word; empty when the connection is closed.
fn said(address: SocketAddr) -> Vec<u8> {
    let mut raw = dial(address);
    let _ = raw.write_all(b"word");
    let mut back = [0; 4];
    match raw.read_exact(&mut back) {
        Ok(()) => back.to_vec(),
        Err(_) => Vec::new(),
    }
}

#[test]
fn connections_of_bytes_are_closed_before_the_service_hears_of_them() {
    let deny =
        "policies: [{name: no-local, action: deny, rules: [{from: {clients: [127.0.0.0/8]}}]}]\n";
    let (_echo, yaml) = bytes(deny);
    let refused = Proxy::start(&yaml);
    let (_other, yaml) = bytes(
        "policies: [{name: local, action: allow, rules: [{from: {clients: [127.0.0.0/8]}}]}]\n",
    );
    let allowed = Proxy::start(&yaml);

    assert_eq!(said(refused.address("web")), b"");
    assert_eq!(said(allowed.address("web")), b"word");
    let line = refused.logged(|_| true);
    assert_eq!(
        (&line["why"], &line["policy"], &line["protocol"]),
        (
            &"policy_denied".into(),
            &"no-local[0]".into(),
            &"TCP".into()
        )
    );
}

#[test]
fn audit_lets_everything_through_and_keeps_what_it_would_have_refused() {
    let service = Upstream::answering("yes");
    let policies = "policies:\n- name: tight\n  action: allow\n  mode: audit\n  rules: [{from: {principals: ['spiffe://mesh.test/*']}}]\n";
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}{policies}",
        pool("app", &[&service])
    ));

    let reply = proxy.get("/pay");

    assert_eq!(reply.status, 200);
    let line = proxy.logged(|line| line["path"] == "/pay");
    assert_eq!(line["policy_audit"], "would_deny tight[0]");
    assert!(line["policy"].is_null());
    let would = proxy.metric(
        "windrose_policy_decisions_total",
        &["policy=\"tight\"", "decision=\"would_deny\""],
    );
    assert_eq!(would, 1.0);
    let records = proxy.admin("/recorder");
    let kept = records["records"].as_array().into_iter().flatten();
    let mut kept = kept.filter(|record| record["kept"] == "audit");
    assert_eq!(
        kept.next().unwrap()["decision"]["policy_audit"],
        "would_deny tight[0]"
    );
}

const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const DENY_LOCAL: &str =
    "policies: [{name: revoked, action: deny, rules: [{from: {clients: [127.0.0.0/8]}}]}]\n";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_websocket_whose_caller_is_no_longer_allowed_ends_within_a_second() {
    let service = WebSocket::service();
    let base = format!(
        "{WEB}{}routes:\n- {{name: chat, rules: [{{match: [{{path: {{prefix: /chat}}}}], pool: app}}]}}\n- {{name: other, rules: [{{match: [{{path: {{prefix: /other}}}}], pool: app}}]}}\n",
        pool("app", &[&service])
    );
    let proxy = Proxy::start(&base);
    let mut goes = WebSocket::open(proxy.address("web"), "/chat");
    let mut stays = WebSocket::open(proxy.address("web"), "/other");

    let deny = DENY_LOCAL.replace("action", "to: {routes: [chat]}, action");
    proxy.reload(&format!("{base}{deny}"));
    let reloaded = Instant::now();

    assert!(goes.ends());
    assert!(reloaded.elapsed() < SECOND, "{:?}", reloaded.elapsed());
    assert_eq!(stays.talk("still"), Some("still".into()));
    let line = proxy.logged(|line| line["route"] == "chat");
    assert_eq!(
        (&line["why"], &line["policy"]),
        (&"policy_denied".into(), &"revoked[0]".into())
    );
    assert_eq!(
        proxy.metric("windrose_policy_streams_cut_total", &["policy=\"revoked\""]),
        1.0
    );
}

#[test]
fn a_connection_of_bytes_whose_caller_is_no_longer_allowed_ends() {
    let (_echo, yaml) = bytes("");
    let proxy = Proxy::start(&yaml);
    let mut raw = dial(proxy.address("web"));
    raw.write_all(b"word").unwrap();
    let mut back = [0; 4];
    raw.read_exact(&mut back).unwrap();

    proxy.reload(&format!("{yaml}{DENY_LOCAL}"));
    let ended = raw.read(&mut back);

    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let line = proxy.logged(|_| true);
    assert_eq!(
        (&line["why"], &line["policy"], &line["response_bytes"]),
        (&"policy_denied".into(), &"revoked[0]".into(), &4.into())
    );
}

async fn stream(client: &Client, path: &str) -> (SendStream<Bytes>, RecvStream) {
    let call = http::Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (reply, sending) = client.open(call).await.unwrap();
    (sending, reply.await.unwrap().into_body())
}

#[tokio::test]
async fn a_silent_stream_of_grpc_is_reset_alone_and_the_next_call_refused() {
    let service = Grpc::start();
    let base = format!(
        "{WEB}pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}",
        service.address
    );
    let proxy = Proxy::start(&base);
    let client = Client::connect(proxy.address("web")).await;
    let (mut stays, mut stays_body) = stream(&client, "/stays/bidi").await;
    let (_goes, mut goes_body) = stream(&client, "/goes/bidi").await;

    let deny =
        "policies: [{name: revoked, action: deny, rules: [{when: {paths: [{prefix: /goes}]}}]}]\n";
    proxy.reload(&format!("{base}{deny}"));
    let ended = tokio::time::timeout(SECOND, goes_body.data()).await;

    assert!(ended
        .expect("it ends in time")
        .expect("not in order")
        .is_err());
    stays.send_data("still".into(), false).unwrap();
    assert_eq!(stays_body.data().await.unwrap().unwrap(), "still");
    let again = http::Request::post("http://test/goes/unary")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let again = client.ask(again, Bytes::new()).await.unwrap();
    assert_eq!(again.field("grpc-status"), Some("7"));
    let line = proxy.logged(|line| line["path"] == "/goes/bidi");
    assert_eq!(line["why"], "policy_denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_endpoint_holds_its_header_back_is_ended_as_well() {
    let service = Grpc::start();
    let base = format!(
        "{WEB}pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}",
        service.address
    );
    let proxy = Proxy::start(&base);
    let client = Client::connect(proxy.address("web")).await;
    let call = http::Request::post("http://test/goes/held")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (reply, mut sending) = client.open(call).await.unwrap();
    sending.send_data("piece".into(), false).unwrap();
    until("the call arrives", || (service.calls() > 0).then_some(()));

    let deny =
        "policies: [{name: revoked, action: deny, rules: [{when: {paths: [{prefix: /goes}]}}]}]\n";
    proxy.reload(&format!("{base}{deny}"));
    let ended = tokio::time::timeout(SECOND, reply).await;

    assert!(ended.expect("it ends in time").is_err());
    let line = proxy.logged(|line| line["path"] == "/goes/held");
    assert_eq!(
        (&line["why"], &line["policy"]),
        (&"policy_denied".into(), &"revoked[0]".into())
    );
    let cut = ["policy=\"revoked\""];
    assert_eq!(proxy.metric("windrose_policy_streams_cut_total", &cut), 1.0);
}

const ASKED: &str = "routes:\n- {name: pay, hosts: [payments], rules: [{respond: {status: 200, body: x}}]}\npolicies:\n- name: callers\n  action: allow\n  to: {routes: [pay]}\n  rules:\n  - from: {principals: ['spiffe://mesh.test/ns/shop/*']}\n    when: {methods: [POST]}\n- name: not-old\n  action: deny\n  rules: [{from: {principals: ['spiffe://mesh.test/ns/shop/sa/old']}}]\n";

#[test]
fn who_can_asks_each_listener_and_under_the_conditions_that_are_given() {
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("windrose.yaml");
    let text = "listeners:\n- {name: edge, bind: '127.0.0.1:0'}\n- {name: mesh-in, role: mesh-inbound, bind: '127.0.0.1:0'}\n- {name: other, bind: '127.0.0.1:0'}\nroutes:\n- {name: pay, listeners: [edge, mesh-in], hosts: [payments], rules: [{respond: {status: 200, body: x}}]}\npolicies:\n- {name: inside, action: allow, to: {listeners: [mesh-in]}, rules: [{from: {clients: [10.0.0.0/8]}, when: {headers: {x-team: shop}}}]}\n";
    std::fs::write(&config, text).unwrap();
    let ask = |more: &[&str]| {
        let config = config.to_str().unwrap();
        let args = ["who-can", "-c", config, "GET", "payments/x"];
        let output = run(&[&args, more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let inside = |text: &str| {
        let (edge, inside) = text.split_once("at listener mesh-in:").unwrap();
        assert!(edge.starts_with("at listener edge:") && edge.contains("yes nobody proven"));
        let mut lines = inside.lines();
        let line = lines.find(|line| line.contains("nobody proven")).unwrap();
        line.starts_with("yes")
    };

    let plain = ask(&[]);

    assert!(
        !inside(&plain) && !plain.contains("listener other"),
        "{plain}"
    );
    assert!(
        plain.contains("asked as coming from 192.0.2.1 without fields"),
        "{plain}"
    );
    assert!(!inside(&ask(&["--from", "10.1.1.1"])));
    assert!(inside(&ask(&["--from", "10.1.1.1", "-H", "x-team: shop"])));
}

#[test]
fn who_can_tells_of_every_caller_with_the_line_that_decides() {
    let proxy = Proxy::http(ASKED);
    let config = proxy.config();
    let ask = |more: &[&str]| {
        let args = [
            "who-can",
            "-c",
            config.to_str().unwrap(),
            "POST",
            "payments/charge",
            "--json",
        ];
        let output = run(&[&args, more].concat());
        let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        answers.as_array().unwrap().clone()
    };

    for answers in [ask(&[]), ask(&["--live"])] {
        let of = |who: &str| answers.iter().find(|it| it["who"] == who).unwrap().clone();
        let (shop, old) = (
            of("spiffe://mesh.test/ns/shop/*"),
            of("spiffe://mesh.test/ns/shop/sa/old"),
        );
        assert_eq!((&shop["can"], &old["can"]), (&true.into(), &false.into()));
        assert!(
            shop["by"]
                .as_str()
                .unwrap()
                .contains("rule 0 of policy \"callers\""),
            "{shop}"
        );
        assert!(
            old["by"].as_str().unwrap().contains("policy \"not-old\""),
            "{old}"
        );
        assert!(
            old["place"].as_str().unwrap().contains("windrose.yaml:"),
            "{old}"
        );
        assert_eq!(of("anyone else who is proven")["can"], false);
        let nobody = of("nobody proven");
        assert!(
            nobody["by"]
                .as_str()
                .unwrap()
                .starts_with("identity_missing"),
            "{nobody}"
        );
    }
}

#[test]
fn explain_shows_every_policy_that_was_looked_at() {
    let proxy = Proxy::http(ASKED);
    let config = proxy.config();
    let ask = |caller: &str| {
        let output = run(&[
            "explain",
            "-c",
            config.to_str().unwrap(),
            "POST",
            "http://payments/charge",
            "--as",
            caller,
        ]);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };

    let (code, allowed) = ask("spiffe://mesh.test/ns/shop/sa/web");
    let (refused, denied) = ask("spiffe://mesh.test/ns/shop/sa/old");

    assert_eq!((code, refused), (Some(0), Some(1)));
    assert!(
        allowed.contains("=> allow callers[0]: matches"),
        "{allowed}"
    );
    assert!(
        allowed.contains("deny not-old[0]: does not match: `principals`"),
        "{allowed}"
    );
    assert!(denied.contains("=> deny not-old[0]: matches"), "{denied}");
    assert!(
        denied.contains("denied by rule 0 of policy \"not-old\""),
        "{denied}"
    );
}

#[test]
fn the_view_of_policies_has_counts_examples_and_rules_that_never_decide() {
    let proxy = Proxy::http(ASKED);
    let ask = |method: &str| proxy.ask(method, "/charge?token=hush", "host: payments\r\n");

    assert_eq!(ask("POST").status, 401);
    let view = proxy.admin("/policies");

    let callers = &view["policies"][0];
    assert_eq!(callers["rules"][0]["decisions"]["identity_missing"], 1);
    let example = &callers["rules"][0]["examples"][0];
    assert_eq!(
        (&example["path"], &example["client"]),
        (&"/charge".into(), &"127.0.0.1".into())
    );
    assert_eq!(view["unused"], serde_json::json!(["not-old[0]"]));
    assert!(!view.to_string().contains("hush"));
}

#[test]
fn the_mesh_view_tells_who_calls_what_and_who_still_speaks_in_the_clear() {
    let service = Upstream::answering("yes");
    let yaml = format!(
        "listeners:\n- name: web\n  role: mesh-inbound\n  bind: 127.0.0.1:0\n  protocol: auto\n  tls:\n    certificates: [{{cert: web.crt, key: web.key}}]\n    client_certificates: {{ca: ca.crt, mode: optional}}\n{}routes:\n- {{name: all, listeners: [web], rules: [{{pool: app}}]}}\npolicies: [{{name: shop, action: allow, mode: audit, rules: [{{from: {{principals: ['spiffe://mesh.test/ns/shop/*']}}}}]}}]\n",
        pool("app", &[&service])
    );
    let mesh = Mesh::with(&yaml);
    let web = mesh.workload("web");
    let strict = |mesh: &Mesh| mesh.proxy.admin("/mesh")["listeners"][0].clone();
    assert_eq!(strict(&mesh)["safe_to_go_strict"], false);

    assert_eq!(mesh.ask(Some(&web), "GET /").status, 200);
    let edges = until("the edge", || {
        let view = mesh.proxy.admin("/mesh");
        (!view["edges"].as_array()?.is_empty()).then_some(view)
    });
    let edge = &edges["edges"][0];
    assert_eq!(
        (&edge["source"], &edge["destination"], &edge["mtls_percent"]),
        (
            &"spiffe://mesh.test/ns/shop/sa/web".into(),
            &"app".into(),
            &100.0.into()
        )
    );
    assert_eq!(strict(&mesh)["safe_to_go_strict"], true);
    assert_eq!(mesh.proxy.get("/").status, 200);

    let plain = until("the plaintext", || {
        let listener = strict(&mesh);
        (listener["plaintext"] == 1).then_some(listener)
    });
    assert_eq!(plain["safe_to_go_strict"], false);
    assert_eq!(plain["from"][0]["client"], "127.0.0.1");
    let requests = |source: &str| {
        let source = format!("source=\"{source}\"");
        mesh.proxy.metric(
            "windrose_edge_requests_total",
            &[&source, "destination=\"app\""],
        )
    };
    assert_eq!(
        (requests("spiffe://mesh.test/ns/shop/*"), requests("_none")),
        (1.0, 1.0)
    );
    let page = mesh.proxy.admin_reply("/mesh?format=html").text();
    assert!(page.contains("no: 1 in the clear"), "{page}");
}
