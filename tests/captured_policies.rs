//! Policies on what is captured and goes on to where it was going: opaque bytes, TLS by its name, requests, and servers that
//! would speak first. What is refused never reaches the outside, and its cause is told.
//! It must not touch the rules of the machine it runs on. Without root every test here skips, and says so. Part of the test binary.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::captured::{applied, curl, heard, APP, OUT};
use crate::support::netns::World;
use crate::support::node::{folder, identity};
use crate::support::{until, Authority, Proxy};

const SERVERS: &str = "http=10.77.0.2:8080 tls=10.77.0.2:8443 banner=10.77.0.2:2525 banner=10.77.0.2:2526 http=10.77.0.2:7000 http=10.77.0.2:7001";
const POLICIES: &str = "policies:
- {name: no-mail, action: deny, to: {routes: [passthrough]}, rules: [{when: {ports: [2525]}}]}
- {name: no-opaque, action: deny, to: {routes: [passthrough]}, rules: [{when: {ports: [7000]}}]}
- {name: no-secret, action: deny, to: {pools: [passthrough]}, rules: [{when: {ports: [8443, 8080], hosts: [secret.test]}}]}
- {name: no-delete, action: deny, to: {pools: [passthrough]}, rules: [{when: {ports: [8080], methods: [DELETE]}}]}
";

fn node_with(world: &World, policies: &str) -> Proxy {
    let quick = OUT.replace("capture:", "detect_timeout: 300ms, capture:");
    let proxy = world.node.proxy(&format!("{quick}{policies}"));
    applied(&world.node, &proxy, &["--user", APP]);
    proxy
}

/// The line of a refusal, by where the connection was going.
fn refused(proxy: &Proxy, to: &str, policy: &str, fits: impl Fn(&Value) -> bool) {
    let line = proxy
        .logged(|line| line["destination"] == to && line["why"] == "policy_denied" && fits(line));
    assert_eq!(
        (&line["policy"], &line["route"], &line["client"]),
        (&policy.into(), &"passthrough".into(), &"10.77.0.1".into()),
        "{line}"
    );
}

fn talk(port: u16, words: &str) -> String {
    format!("exec 3<>/dev/tcp/10.77.0.2/{port}; printf '{words}' >&3; head -c 5 <&3")
}

#[test]
fn bytes_that_are_denied_never_reach_the_outside() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    world.outside.count(&[2525, 2526, 7000, 7001]);
    let node = &world.node;
    let proxy = node_with(&world, POLICIES);
    let greeting = |port: u16| format!("exec 3<>/dev/tcp/10.77.0.2/{port}; head -c 5 <&3");

    assert_eq!(heard(node, &talk(7000, "\\\\x01hello")), "");
    assert_eq!(
        heard(node, &greeting(2525)),
        "",
        "a server that would speak first"
    );
    assert_eq!(heard(node, &talk(7001, "\\\\x01hello")), "HTTP/");
    assert_eq!(heard(node, &greeting(2526)), "HELLO");

    refused(&proxy, "10.77.0.2:7000", "no-opaque[0]", |_| true);
    refused(&proxy, "10.77.0.2:2525", "no-mail[0]", |_| true);
    let came = [7000, 2525].map(|port| world.outside.arrivals(port));
    assert_eq!(came, [0, 0], "nothing goes ahead of the decision");
    let came = [7001, 2526].map(|port| world.outside.arrivals(port));
    assert_eq!(came, [1, 1], "and those that may pass are connected once");
    assert_eq!(proxy.refusals("out", "policy_denied"), 2.0);
}

#[test]
fn tls_is_judged_by_the_name_it_asks_for() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    world.outside.count(&[8443]);
    let node = &world.node;
    let proxy = node_with(&world, POLICIES);
    let call = |name: &str| {
        let to = format!("{name}:8443:10.77.0.2");
        let url = format!("https://{name}:8443/");
        let line = [
            "curl",
            "-ks",
            "--max-time",
            "10",
            "--resolve",
            &to,
            "-w",
            "%{http_code}",
            &url,
        ];
        String::from_utf8_lossy(&node.run_as(APP, &line).stdout).into_owned()
    };

    assert_eq!(call("secret.test"), "000");
    assert_eq!(world.outside.arrivals(8443), 0);
    assert_eq!(call("open.test"), "served\n200");

    assert_eq!(world.outside.arrivals(8443), 1);
    refused(&proxy, "10.77.0.2:8443", "no-secret[0]", |line| {
        line["sni"] == "secret.test"
    });
}

#[test]
fn requests_are_judged_as_requests_also_those_of_slow_clients() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    world.outside.count(&[8080]);
    let node = &world.node;
    let proxy = node_with(&world, POLICIES);
    let call = |method: &str, host: &str| {
        let host = format!("host: {host}");
        let line = [
            "curl",
            "-s",
            "--max-time",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %header{x-windrose-why}",
            "-X",
            method,
            "-H",
            &host,
            "http://10.77.0.2:8080/x",
        ];
        String::from_utf8_lossy(&node.run_as(APP, &line).stdout).into_owned()
    };
    // Silent for longer than a client is waited for before its server is asked as well.
    let slow = |method: &str| {
        let head =
            format!("{method} /slow HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n");
        heard(
            node,
            &format!("exec 3<>/dev/tcp/10.77.0.2/8080; sleep 0.15; printf '{head}' >&3; cat <&3"),
        )
    };

    for (method, host) in [("GET", "secret.test"), ("DELETE", "open.test")] {
        let told = call(method, host);
        assert!(told.starts_with("403"), "{method} {host}: {told}");
    }
    let told = slow("DELETE");
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    assert_eq!(world.outside.arrivals(8080), 0);
    assert!(call("GET", "open.test").starts_with("200"));
    assert!(slow("GET").contains("served"));

    refused(&proxy, "10.77.0.2:8080", "no-secret[0]", |line| {
        line["host"] == "secret.test"
    });
    refused(&proxy, "10.77.0.2:8080", "no-delete[0]", |line| {
        line["method"] == "DELETE" && line["path"] == "/x"
    });
    refused(&proxy, "10.77.0.2:8080", "no-delete[0]", |line| {
        line["path"] == "/slow"
    });
}

#[test]
fn with_nothing_allowed_nothing_goes_on_and_what_was_let_through_ends() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    world.outside.count(&[2525, 8080, 8443]);
    let node = &world.node;
    let quick = OUT.replace("capture:", "detect_timeout: 300ms, capture:");
    let proxy = node_with(&world, "policies: []\n");
    let mut command = node.command("setpriv");
    command.args([
        "--reuid",
        APP,
        "--regid",
        APP,
        "--clear-groups",
        "bash",
        "-c",
    ]);
    command.arg("exec 3<>/dev/tcp/10.77.0.2/2526; head -c 6 <&3; cat <&3; echo ended");
    let mut open = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(open.stdout.take().unwrap()).lines();
    assert_eq!(words.next().unwrap().unwrap(), "HELLO");

    let outcome = proxy.reload(&format!("{quick}authorization: {{default: deny}}\n"));

    assert_eq!(outcome["ok"], true, "{outcome}");
    assert_eq!(words.next().unwrap().unwrap(), "ended");
    open.wait().unwrap();
    assert!(curl(node, APP, "http://10.77.0.2:8080/denied").ends_with("403"));
    assert_eq!(
        heard(node, "exec 3<>/dev/tcp/10.77.0.2/2525; head -c 5 <&3"),
        ""
    );
    assert_eq!(heard(node, &talk(8443, "\\\\x01hello")), "");
    let came = [2525, 8080, 8443].map(|port| world.outside.arrivals(port));
    assert_eq!(came, [0, 0, 0]);
    proxy.logged(|line| line["destination"] == "10.77.0.2:2526" && line["why"] == "policy_denied");
}

#[test]
fn a_mode_for_a_single_port_lets_callers_in_the_clear_in_there_alone() {
    const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let _app = node.server("http=10.77.0.1:8080 http=10.77.0.1:9090");
    let authority = Authority::new();
    let folder: TempDir = folder(&authority, &[("pay", PAY)]);
    let identity = identity(&[("pay", PAY, "")]);
    let proxy = node.proxy_in(
        folder,
        &format!("server: {{mark: 119}}\nlisteners: [{{name: in, role: mesh-inbound, bind: '0.0.0.0:15006', protocol: auto, capture: redirect, unknown: passthrough, mtls: {{mode: strict, ports: {{'9090': permissive}}}}}}]\n{identity}"),
    );
    applied(
        node,
        &proxy,
        &["--netns", node.name(), "--inbound-ports", "8080,9090"],
    );

    let strict = curl(&world.outside, "0", "http://10.77.0.1:8080/strict");
    let permissive = curl(&world.outside, "0", "http://10.77.0.1:9090/permissive");

    assert_eq!((&*strict, &*permissive), ("000", "served\n200"));
    let line = proxy.logged(|line| line["path"] == "/permissive");
    assert!(line["principal"].is_null(), "{line}");
    until("the refusal is counted", || {
        (proxy.refusals("in", "mtls.plaintext_refused") == 1.0).then_some(())
    });
    assert!(proxy.log().iter().all(|line| line["path"] != "/strict"));
}
