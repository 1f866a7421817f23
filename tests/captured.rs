//! Applications that know nothing of a proxy, captured by rules of the kernel in namespaces of the test's own.
//! It must not touch the rules of the machine it runs on. Without root every test here skips, and says so.
//! Part of the test binary.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::support::netns::{serve, Netns, World};
use crate::support::{until, Proxy};

/// The user of applications.
pub(crate) const APP: &str = "64200";
pub(crate) const SERVERS: &str =
    "http=10.77.0.2:8080 http=[fd77::2]:8080 banner=10.77.0.2:2525 udp=10.77.0.2:5353";
pub(crate) const OUT: &str = "listeners:
- {name: out, role: mesh-outbound, bind: '[::]:15001', protocol: auto, capture: redirect}
";

#[test]
#[ignore = "a server for other tests, which start it in a namespace"]
fn serves() {
    if let Ok(what) = std::env::var("WINDROSE_TEST_SERVE") {
        serve(&what);
    }
}

pub(crate) fn capture(node: &Netns, proxy: &Proxy, act: &str, flags: &[&str]) -> Output {
    let state = proxy.file("state");
    let mut line = vec![env!("CARGO_BIN_EXE_windrose"), "capture", act];
    let config = proxy.config();
    line.extend([
        "-c",
        config.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ]);
    line.extend(flags);
    node.run(&line)
}

pub(crate) fn applied(node: &Netns, proxy: &Proxy, flags: &[&str]) {
    let done = capture(node, proxy, "apply", flags);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", proxy.stderr());
}

/// What curl prints: the body, a line break, and the status.
pub(crate) fn curl(node: &Netns, user: &str, url: &str) -> String {
    let line = ["curl", "-gs", "--max-time", "10", "-w", "%{http_code}", url];
    String::from_utf8_lossy(&node.run_as(user, &line).stdout).into_owned()
}

/// What comes back from a port without anything being sent, or for some words over UDP.
pub(crate) fn heard(node: &Netns, script: &str) -> String {
    let output = node.run_as(APP, &["timeout", "10", "bash", "-c", script]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const BANNER: &str = "exec 3<>/dev/tcp/10.77.0.2/2525; head -c 5 <&3";

#[test]
fn applications_that_know_nothing_are_captured_and_the_rest_is_left_alone() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(&format!(
        "{OUT}pools: [{{name: shop, endpoints: ['10.77.0.2:8080']}}]
routes: [{{name: shop, listeners: [out], rules: [{{match: [{{destinations: [{{net: 10.96.0.10/32, ports: [80]}}]}}], pool: shop}}]}}]
"
    ));
    applied(node, &proxy, &["--user", APP]);
    applied(node, &proxy, &["--user", APP]);

    assert_eq!(curl(node, APP, "http://10.96.0.10/virtual"), "served\n200");
    let line = proxy.logged(|line| line["path"] == "/virtual");
    assert_eq!(
        (&line["route"], &line["destination"]),
        (&"shop".into(), &"10.96.0.10:80".into())
    );
    for (url, path, to) in [
        ("http://10.77.0.2:8080/four", "/four", "10.77.0.2:8080"),
        ("http://[fd77::2]:8080/six", "/six", "[fd77::2]:8080"),
    ] {
        assert_eq!(curl(node, APP, url), "served\n200");
        let line = proxy.logged(|line| line["path"] == path);
        assert_eq!(
            (&line["route"], &line["destination"], &line["endpoint"]),
            (&"passthrough".into(), &to.into(), &to.into())
        );
    }
    let labels = proxy.admin_reply("/metrics").text();
    assert!(!labels.contains("fd77"), "a destination became a label");
    assert_eq!(curl(node, "0", "http://10.77.0.2:8080/root"), "served\n200");
    let udp = "exec 3<>/dev/udp/10.77.0.2/5353; echo -n hi >&3; head -c 2 <&3";
    assert_eq!(heard(node, udp), "hi");
    assert!(proxy.log().iter().all(|line| line["path"] != "/root"));
}

#[test]
fn servers_that_speak_first_do_not_wait_for_the_client() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(&OUT.replace("capture:", "detect_timeout: 30s, capture:"));
    applied(node, &proxy, &["--user", APP]);

    let begin = Instant::now();
    assert_eq!(heard(node, BANNER), "HELLO");
    assert_eq!(heard(node, BANNER), "HELLO");

    assert!(begin.elapsed() < Duration::from_secs(8));
    let first = ["outcome=\"server_first\""];
    assert_eq!(
        proxy.metric("windrose_protocol_detections_total", &first),
        2.0
    );
    let slow = "exec 3<>/dev/tcp/10.77.0.2/8080; sleep 0.3; printf 'GET /slow HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n' >&3; cat <&3";
    assert!(heard(node, slow).contains("served"));
    assert_eq!(proxy.logged(|line| line["path"] == "/slow")["status"], 200);
}

#[test]
fn unknown_destinations_can_be_blocked() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(&OUT.replace(
        "capture:",
        "unknown: block, detect_timeout: 300ms, capture:",
    ));
    applied(node, &proxy, &["--user", APP]);

    assert!(curl(node, APP, "http://10.77.0.2:8080/").ends_with("502"));
    assert_eq!(proxy.logged(|_| true)["why"], "destination_unknown");
    assert_eq!(heard(node, BANNER), "");
    let cause = ["cause=\"destination_unknown\""];
    assert_eq!(
        proxy.metric("windrose_connection_failures_total", &cause),
        1.0
    );
}

#[test]
fn a_loop_ends_at_its_first_turn() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(OUT);
    // The proxy runs as root too, and nobody says so.
    applied(node, &proxy, &["--user", "0", "--proxy-user", "64999"]);

    let reply = curl(node, "0", "http://10.77.0.2:8080/loop");
    let bytes = node.run(&["timeout", "10", "bash", "-c", BANNER]);

    assert!(!reply.ends_with("200"), "{reply}");
    assert!(bytes.stdout.is_empty());
    // Known at once, or only when the request has been read, as the kernel has it.
    until("the loop is told", || {
        let looped = |line: &serde_json::Value| line["why"] == "capture_loop";
        let marks = ["cause=\"capture_loop\""];
        let refused = proxy.metric("windrose_connection_failures_total", &marks);
        (refused > 0.0 || proxy.log().iter().any(looped)).then_some(())
    });
    let opened = proxy.metric("windrose_connections_total", &["listener=\"out\""]);
    assert!(opened < 12.0, "{opened} connections");
    assert_eq!(proxy.admin_reply("/readyz").status, 200);
}

#[test]
fn removing_brings_everything_back_even_when_the_proxy_was_killed() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let mut flags = vec!["--user", APP];
    for backend in [None, Some("--iptables")] {
        flags.extend(backend);
        let proxy = node.proxy(OUT);
        applied(node, &proxy, &flags);
        applied(node, &proxy, &flags);
        assert_eq!(
            curl(node, APP, "http://10.77.0.2:8080/taken"),
            "served\n200"
        );
        assert_eq!(proxy.logged(|_| true)["path"], "/taken");

        proxy.signal("KILL");
        until("nobody takes connections", || {
            (curl(node, APP, "http://10.77.0.2:8080/") == "000").then_some(())
        });
        let removed = capture(node, &proxy, "remove", backend.as_slice());
        assert!(removed.status.success());

        assert_eq!(curl(node, APP, "http://10.77.0.2:8080/"), "served\n200");
        let rules = node.run(&["nft", "list", "ruleset"]);
        let rules = String::from_utf8_lossy(&rules.stdout).to_lowercase();
        assert!(!rules.contains("windrose"), "{rules}");
        assert!(capture(node, &proxy, "remove", backend.as_slice())
            .status
            .success());
    }
}

#[test]
fn a_mark_exempts_the_proxy_where_no_user_does() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(&format!("server: {{mark: 119}}\n{OUT}"));
    applied(
        node,
        &proxy,
        &["--netns", node.name(), "--proxy-user", "64999"],
    );

    assert_eq!(
        curl(node, "0", "http://10.77.0.2:8080/marked"),
        "served\n200"
    );
    assert_eq!(proxy.logged(|_| true)["path"], "/marked");
    assert_eq!(
        String::from_utf8_lossy(&node.run(&["bash", "-c", BANNER]).stdout),
        "HELLO"
    );
}

#[test]
fn transparent_listeners_take_connections_as_they_are() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(
        "listeners:
- {name: out, role: mesh-outbound, bind: '127.0.0.1:15001', protocol: auto, capture: tproxy}
- {name: out6, role: mesh-outbound, bind: '[::1]:15001', protocol: auto, capture: tproxy}
",
    );
    applied(node, &proxy, &["--user", APP]);

    for (url, path, from) in [
        ("http://10.77.0.2:8080/four", "/four", "10.77.0.1"),
        ("http://[fd77::2]:8080/six", "/six", "fd77::1"),
    ] {
        assert_eq!(curl(node, APP, url), "served\n200");
        let line = proxy.logged(|line| line["path"] == path);
        assert_eq!(line["client"], from);
    }
    let removed = capture(node, &proxy, "remove", &[]);
    assert!(removed.status.success());
    let rules = node.run(&["ip", "rule"]);
    assert!(!String::from_utf8_lossy(&rules.stdout).contains("fwmark"));
}

#[test]
fn what_comes_in_goes_through_the_inbound_listener() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let _app = node.server("http=10.77.0.1:8080");
    let proxy = node.proxy(
        "server: {mark: 119}
listeners: [{name: in, role: mesh-inbound, bind: '0.0.0.0:15006', protocol: auto, capture: redirect, unknown: passthrough}]
",
    );
    applied(
        node,
        &proxy,
        &["--netns", node.name(), "--inbound-ports", "8080"],
    );

    assert_eq!(
        curl(&world.outside, "0", "http://10.77.0.1:8080/in"),
        "served\n200"
    );
    let line = proxy.logged(|_| true);
    assert_eq!(
        (&line["client"], &line["destination"]),
        (&"10.77.0.2".into(), &"10.77.0.1:8080".into())
    );
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let proxy = node.proxy(&OUT.replace("[::]", "127.0.0.1"));

    let plan = capture(node, &proxy, "plan", &["--user", APP, "--skip-ports", "22"]);

    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(text.contains("# TCP of user 64200 that goes out over IPv4 goes to the listener at port 15001 (REDIRECT)"), "{text}");
    assert!(text.contains("# IPv6 is NOT captured"), "{text}");
    assert!(text.contains("table inet windrose_default {"), "{text}");
    assert!(node.run(&["nft", "list", "ruleset"]).stdout.is_empty());
}

#[test]
fn a_check_from_inside_proves_capture_and_says_what_is_missing() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(&format!(
        "{OUT}services: [{{name: shop, addresses: [10.96.0.10], ports: [{{port: 80}}], endpoints: ['10.77.0.2:8080']}}]\n"
    ));
    let check_with = |before: &[&str]| {
        let (config, state) = (proxy.config(), proxy.file("state"));
        let binary = env!("CARGO_BIN_EXE_windrose");
        let line = [
            binary,
            "mesh",
            "check",
            "-c",
            config.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
        ];
        let output = node.run(&[before, &line].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let check = || check_with(&[]);
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no rules are recorded"), "{text}");

    applied(node, &proxy, &["--user", APP]);
    let (code, text) = check();

    assert_eq!(code, Some(0), "{text}");
    for fact in [
        "the rules \"default\" are in force",
        "a connection of user 64200 was captured",
        "ok          capture       a connection of user 0, as the process makes them, was left alone",
        "1 services are decided to be themselves",
        "1 of 1 endpoints answer",
    ] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
    // Root that may do nothing of what root may.
    let plain = ["setpriv", "--bounding-set", "-setuid,-setgid,-net_admin"];
    let (_, text) = check_with(&plain);
    for fact in [
        "not proven  capture       whether the rules \"default\" are in force: ",
        "not proven  capture       whether a connection of user 64200 is captured: ",
        "-> run this as root",
    ] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
    node.run(&["nft", "flush", "ruleset"]);
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("recorded, but gone") && text.contains("was not captured"),
        "{text}"
    );
}

#[test]
fn a_check_finds_rules_that_would_bring_back_the_proxys_own_connections() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let proxy = node.proxy(OUT);
    // As if the proxy ran as another user than it does.
    applied(node, &proxy, &["--user", "0", "--proxy-user", "64201"]);

    let (config, state) = (proxy.config(), proxy.file("state"));
    let done = node.run(&[
        env!("CARGO_BIN_EXE_windrose"),
        "mesh",
        "check",
        "-c",
        config.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ]);

    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{text}");
    let fact = "WRONG       capture       the process runs as user 0, whose connections the rules \"default\" capture";
    assert!(text.contains(fact), "{text}");
}
