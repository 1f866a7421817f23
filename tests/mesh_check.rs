//! `windrose mesh check`: what it proves, and the word for each thing that is not as it should be.
//! It must not know how it finds out; what capture it proves is tested beside the rules, in `captured`.
//! Part of the test binary.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::proxy::pool;
use crate::support::svid::Service;
use crate::support::{run, until, Authority, Ca, Proxy, Upstream};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";

/// The exit code and what it says.
fn check(config: &Path) -> (Option<i32>, String) {
    let done = run(&["mesh", "check", "-c", config.to_str().unwrap()]);
    let text = String::from_utf8(done.stdout).unwrap();
    (
        done.status.code(),
        text + &String::from_utf8_lossy(&done.stderr),
    )
}

fn tells(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

/// A folder with roots and the certificate of a workload.
fn folder(roots: &Authority, issuer: &Authority, id: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    roots.write_bundle(folder.path(), "bundle.pem");
    issuer.svid(id).write(folder.path(), "own");
    folder
}

fn identity(name: &str, id: &str) -> String {
    format!("identity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  hold: 0s\n  workloads: [{{name: {name}, id: '{id}', certificate: {{cert: own.crt, key: own.key}}}}]\n")
}

/// A node that is called as `pay`, and believes these roots.
fn inbound(roots: &Authority, issuer: &Authority, mtls: &str, app: &Upstream) -> Proxy {
    let (identity, pool) = (identity("pay", PAY), pool("app", &[app]));
    Proxy::start_in(
        folder(roots, issuer, PAY),
        &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{{mtls}}}}}]\n{identity}{pool}routes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n"),
    )
}

/// A node of `web` that calls `pay` through pools of these names, endpoints and further settings of `mtls`.
fn calling(pools: &[(&str, String, String)]) -> String {
    let mut yaml = format!(
        "listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}]\n{}pools:\n",
        identity("web", WEB)
    );
    let mut routes = String::from("routes:\n");
    for (name, endpoint, more) in pools {
        let protocol = match *name {
            "plain1" => "http1",
            "tunnel" => "http2",
            _ => "auto",
        };
        yaml += &format!("- {{name: {name}, protocol: {protocol}, endpoints: ['{endpoint}'], mtls: {{peers: ['{PAY}']{more}}}}}\n");
        routes += &format!("- {{name: {name}, listeners: [web], hosts: [{name}.test], rules: [{{pool: {name}}}]}}\n");
    }
    yaml + &routes
}

#[test]
fn endpoints_prove_who_they_are_and_each_failure_has_its_word() {
    let (authority, other) = (Authority::new(), Authority::new());
    let app = Upstream::answering("yes");
    let good = inbound(&authority, &authority, "mode: strict", &app);
    let tunnels = inbound(&authority, &authority, "hbone: true", &app);
    let distrusts = inbound(&other, &authority, "mode: strict", &app);
    let wrong = Service::start(&authority.svid(WEB), &[]);
    let foreign = Service::start(&other.svid(PAY), &[]);
    let (at, through) = (good.address("in"), tunnels.address("in").port());
    let refusing = distrusts.address("in");
    let pools = [
        ("good", at.to_string(), String::new()),
        ("plain1", at.to_string(), String::new()),
        (
            "tunnel",
            "127.0.0.1:80".into(),
            format!(", hbone: {{port: {through}}}"),
        ),
        ("refusing", refusing.to_string(), String::new()),
        ("wrong", wrong.address.to_string(), String::new()),
        ("foreign", foreign.address.to_string(), String::new()),
        ("closed", "127.0.0.1:1".into(), String::new()),
    ];
    let node = Proxy::start_in(folder(&authority, &authority, WEB), &calling(&pools));

    let (code, text) = check(&node.config());

    assert_eq!(code, Some(1), "{text}");
    let proven =
        |pool: &str| format!("1 endpoints of pool \"{pool}\" proved to web that they are {PAY}\n");
    tells(
        &text,
        &[
            &proven("good"),
            &proven("tunnel"),
            "pool \"plain1\" proved to web that they are spiffe://mesh.test/ns/shop/sa/pay; 1 do not tell whether they let it in",
            &format!("{refusing} of pool \"refusing\", called by web: mtls.refused: "),
            "of pool \"wrong\", called by web: mtls.wrong_peer: the endpoint is \"spiffe://mesh.test/ns/shop/sa/web\"",
            "of pool \"foreign\", called by web: mtls.untrusted: ",
            "127.0.0.1:1 of pool \"closed\", called by web: connect_refused: ",
            "-> Check that the service runs",
            "ok          clocks        certificates of 3 handshakes are good by this node's clock",
            "ok          configuration what is on disk runs",
            "ok          certificates  workload web is spiffe://mesh.test/ns/shop/sa/web for 2",
            "ok          certificates  1 roots of mesh.test in use since ",
        ],
    );
    assert_eq!(app.requests(), 0, "a proof is no request");
    assert_eq!(
        node.ask_admin("GET", "/mesh/probe", "").unwrap().status,
        405
    );
    assert_eq!(
        node.ask_admin("POST", "/mesh/probe", "").unwrap().status,
        403
    );
}

#[test]
fn the_authority_tells_its_time_and_who_falls_first_without_it() {
    let mut ca = Ca::start("1h");
    let node = ca.node(&ca.token(&["spiffe://td/web"]), &["web"]);
    let config = node.config();

    let (_, text) = until("the certificate", || {
        let (code, text) = check(&config);
        text.contains("workload web is spiffe://td/web")
            .then_some((code, text))
    });

    tells(
        &text,
        &[
            "the source `ca` answers",
            "the node itself is spiffe://td/windrose/node/",
            "ok          clocks        the authority's clock was ",
        ],
    );
    ca.kill();
    until("the source fails", || {
        let (_, text) = check(&config);
        let told = "warning     certificates  the source `ca` does not answer since ";
        let falls = "it may stay away for 59 min; first to fall: web";
        (text.contains(told) && text.contains(falls)).then_some(())
    });
}

const POLICIES: &str = "services:
- {name: db, ports: [{port: 80}], endpoints: ['127.0.0.1:1']}
- {name: mq, addresses: [10.96.0.1], ports: [{port: 5672, protocol: tcp}], endpoints: ['127.0.0.1:1']}
policies:
- {name: db, action: allow, to: {services: [db, mq]}, rules: [{from: {principals: ['spiffe://mesh.test/ns/shop/sa/pay']}}]}
- {name: app, action: allow, to: {routes: [app]}, rules: [{from: {principals: ['spiffe://mesh.test/ns/shop/sa/pay']}}]}
- {name: strict, action: allow, mode: audit, to: {routes: [open]}, rules: []}
";

#[test]
fn who_is_denied_by_default_and_what_an_audit_would_refuse_is_told() {
    let authority = Authority::new();
    let app = Upstream::answering("yes");
    let (identity, pool) = (identity("web", WEB), pool("app", &[&app]));
    let yaml = format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{mode: permissive}}}}, {{name: out, role: mesh-outbound, bind: '127.0.0.1:0', protocol: auto}}]\n{identity}{pool}routes: [{{name: app, listeners: [in], hosts: [app.test], rules: [{{pool: app}}]}}, {{name: open, listeners: [in], hosts: [open.test], rules: [{{pool: app}}]}}]\n{POLICIES}");
    let node = Proxy::start_in(folder(&authority, &authority, WEB), &yaml);
    let asked = crate::support::Conn::open(node.address("in"))
        .ask("GET /x?hush HTTP/1.1\r\nhost: open.test\r\n\r\n");
    assert_eq!(asked.status, 200);

    let (code, text) = check(&node.config());

    assert_eq!(code, Some(1), "{text}");
    tells(
        &text,
        &[
            "ok          decisions     2 services are decided to be themselves",
            "warning     policies      calls of spiffe://mesh.test/ns/shop/sa/web here to \"db\" are denied by default: no rule of policy \"db\", or of any other that allows, matches ",
            "warning     policies      calls of spiffe://mesh.test/ns/shop/sa/web here to \"mq\" are denied by default: ",
            "ok          policies      \"app\": 1 may call, denied by default: spiffe://mesh.test/ns/shop/sa/web",
            "ok          policies      \"open\": 2 may call",
            "warning     policies      policy \"strict\" in audit mode would have refused 1, such as GET open.test/x by \"\" from 127.0.0.1 at ",
            "127.0.0.1:1 of pool \"db\" does not answer",
            "not proven  peers         no pool has `mtls`",
        ],
    );
    node.rewrite(&format!("{yaml}# another\n"));
    let (_, text) = check(&node.config());
    tells(
        &text,
        &["warning     configuration what is on disk is not what runs"],
    );
}

#[test]
fn without_a_process_keys_and_policies_are_not_proven() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("windrose.yaml");
    let yaml = "admin: {bind: 'unix:/nowhere/admin.sock'}\nlisteners: [{name: web, bind: '127.0.0.1:0'}]\nroutes: [{name: all, rules: [{respond: {status: 200, body: x}}]}]\n";
    std::fs::write(&config, yaml).unwrap();
    let args = ["mesh", "check", "--json", "-c", config.to_str().unwrap()];

    let done = run(&args);
    let view: Value = serde_json::from_slice(&done.stdout).unwrap();

    assert_eq!(
        (done.status.code(), &view["worst"]),
        (Some(1), &"wrong".into())
    );
    let found = view["findings"].as_array().unwrap();
    let of = |area: &str| found.iter().find(|one| one["area"] == area).unwrap();
    assert_eq!(of("process")["word"], "wrong");
    assert_eq!(of("peers")["word"], "not_proven");
    std::fs::write(&config, "listeners: 5\n").unwrap();
    assert_eq!(run(&args).status.code(), Some(2));
}
