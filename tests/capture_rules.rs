//! What the rules that capture leave alone, put back and take away, in namespaces of the test's own.
//! It must not touch the rules of the machine it runs on. Without root every test here skips, and says so.
//! Part of the test binary.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::captured::{applied, capture, curl, APP, OUT, SERVERS};
use crate::support::netns::{Netns, World};
use crate::support::Proxy;

const OUT_TPROXY: &str = "listeners:
- {name: out, role: mesh-outbound, bind: '127.0.0.1:15001', protocol: auto, capture: tproxy}
";
const ANSWER: usize = 45;

/// What a command that has to be refused says.
fn refused(node: &Netns, proxy: &Proxy, act: &str, flags: &[&str]) -> String {
    let done = capture(node, proxy, act, flags);
    assert!(!done.status.success(), "{act} {flags:?} was done");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn planned(node: &Netns, proxy: &Proxy, flags: &[&str]) -> String {
    let done = capture(node, proxy, "plan", flags);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn ruleset(node: &Netns) -> String {
    let rules = node.run(&["nft", "list", "ruleset"]);
    String::from_utf8_lossy(&rules.stdout).to_lowercase()
}

/// Makes every change of ip6tables fail: a chain of our name that is not its own kind.
fn break_ip6tables(node: &Netns) {
    for line in [
        "add table ip6 nat",
        "add chain ip6 nat WINDROSE_DEFAULT_O { type filter hook input priority 0; }",
    ] {
        assert!(node.run(&["nft", line]).status.success());
    }
}

#[test]
fn servers_of_a_captured_user_answer_under_tproxy() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    // Servers here run as root, and so does the proxy, which its mark tells.
    let _app = node.server("http=10.77.0.1:8080");
    let proxy = node.proxy(&format!("server: {{mark: 119}}\n{OUT_TPROXY}"));
    applied(node, &proxy, &["--user", "0"]);

    let came_in = curl(&world.outside, "0", "http://10.77.0.1:8080/in");

    assert_eq!(came_in, "served\n200");
    assert_eq!(curl(node, "0", "http://10.77.0.2:8080/out"), "served\n200");
    assert_eq!(proxy.logged(|_| true)["path"], "/out");
}

#[test]
fn connections_that_are_open_stay_as_they_are() {
    for (listeners, flags) in [
        (OUT, vec!["--user", APP]),
        (OUT, vec!["--user", APP, "--iptables"]),
        (OUT_TPROXY, vec!["--user", APP]),
    ] {
        let Some(world) = World::new() else { return };
        let _servers = world.outside.server(SERVERS);
        let node = &world.node;
        let proxy = node.proxy(listeners);
        let script = format!("exec 3<>/dev/tcp/10.77.0.2/8080; for i in 1 2; do printf 'GET /open HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n' >&3; head -c {ANSWER} <&3; read; done");
        let mut command = node.command("setpriv");
        command.args(["--reuid", APP, "--regid", APP, "--clear-groups"]);
        command.args(["timeout", "20", "bash", "-c", &script]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut go, mut said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut answer = [0; ANSWER];
        said.read_exact(&mut answer).unwrap();

        applied(node, &proxy, &flags);
        go.write_all(b"\n").unwrap();

        let second = said.read_exact(&mut answer);
        assert!(second.is_ok(), "{listeners} {flags:?}: cut");
        go.write_all(b"\n").unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(
            curl(node, APP, "http://10.77.0.2:8080/later"),
            "served\n200"
        );
        assert_eq!(proxy.logged(|_| true)["path"], "/later");
    }
}

#[test]
fn what_comes_in_over_ipv6_is_taken_or_told_to_be_open() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let _app = node.server("http=[::]:8080");
    let inbound = |listeners: &str| format!("server: {{mark: 119}}\nlisteners:\n{listeners}");
    let one = |name: &str, bind: &str, how: &str| {
        format!("- {{name: {name}, role: mesh-inbound, bind: '{bind}', protocol: auto, capture: {how}, unknown: passthrough}}\n")
    };
    let flags = ["--netns", node.name()];
    for (listeners, six) in [
        (one("in", "[::]:15006", "redirect"), true),
        (
            one("in", "0.0.0.0:15006", "tproxy") + &one("in6", "[::1]:15006", "tproxy"),
            true,
        ),
        (one("in", "0.0.0.0:15006", "redirect"), false),
    ] {
        let proxy = node.proxy(&inbound(&listeners));
        let plan = planned(node, &proxy, &flags);
        applied(node, &proxy, &flags);

        for (url, path, is_taken) in [
            ("http://10.77.0.1:8080/four", "/four", true),
            ("http://[fd77::1]:8080/six", "/six", six),
        ] {
            assert_eq!(curl(&world.outside, "0", url), "served\n200", "{listeners}");
            let is_told = proxy.log().iter().any(|line| line["path"] == path);
            if is_taken {
                proxy.logged(|line| line["path"] == path);
            } else {
                assert!(!is_told);
            }
        }
        let open = "IPv6 is NOT captured when it comes in";
        assert_eq!(plan.contains(open), !six, "{plan}");
        let out = "IPv4 is NOT captured when it goes out";
        assert!(plan.contains(out), "{plan}");
    }
}

#[test]
fn ports_that_come_in_need_a_listener_that_takes_them() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let proxy = node.proxy(&format!(
        "{OUT}- {{name: in, role: mesh-inbound, bind: '127.0.0.1:15006', protocol: auto, capture: redirect}}\n"
    ));

    let fact = refused(
        node,
        &proxy,
        "plan",
        &["--user", APP, "--inbound-ports", "8080"],
    );

    assert!(
        fact.contains("--inbound-ports: no listener takes what comes in"),
        "{fact}"
    );
    let plan = planned(node, &proxy, &["--user", APP]);
    assert!(!plan.contains("comes in"), "{plan}");
}

#[test]
fn another_backend_takes_the_rules_of_the_first_away() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let proxy = node.proxy(OUT);
    let (nft, iptables) = (["--user", APP], ["--user", APP, "--iptables"]);
    let has = |word| ruleset(node).contains(word);

    applied(node, &proxy, &nft);
    applied(node, &proxy, &iptables);
    assert!(!has("table inet windrose_default") && has("chain windrose_default_o"));
    applied(node, &proxy, &nft);
    assert!(has("table inet windrose_default") && !has("chain windrose_default_o"));

    // Of a capture that nobody remembers, by a backend that is not the one of now.
    std::fs::remove_dir_all(proxy.file("state")).unwrap();
    let removed = capture(node, &proxy, "remove", &["--iptables"]);
    assert!(removed.status.success());
    assert!(!has("windrose"), "{}", ruleset(node));
}

#[test]
fn what_one_family_refuses_is_taken_back_in_the_other() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(OUT);
    let flags = ["--user", APP, "--iptables"];
    break_ip6tables(node);

    let fact = refused(node, &proxy, "apply", &flags);
    assert!(fact.contains("ip6tables"), "{fact}");
    assert!(!ruleset(node).contains("-o") && !ruleset(node).contains("windrose_default_i"));
    assert!(std::fs::read_dir(proxy.file("state"))
        .unwrap()
        .next()
        .is_none());

    // What was in force before stays in force, and so does what is remembered of it.
    assert!(node.run(&["nft", "delete table ip6 nat"]).status.success());
    applied(node, &proxy, &flags);
    let record = proxy.file("state").join("capture---default.json");
    let before = std::fs::read(&record).unwrap();
    assert!(node.run(&["nft", "delete table ip6 nat"]).status.success());
    break_ip6tables(node);
    refused(node, &proxy, "apply", &["--user", "1", "--iptables"]);
    assert_eq!(std::fs::read(&record).unwrap(), before);
    assert_eq!(
        curl(node, APP, "http://10.77.0.2:8080/still"),
        "served\n200"
    );
    assert_eq!(proxy.logged(|_| true)["path"], "/still");
}

#[test]
fn a_family_that_nothing_takes_is_not_touched() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    break_ip6tables(node);
    let four = OUT.replace("[::]", "127.0.0.1");
    for (listeners, flags) in [
        (&*four, vec!["--user", APP, "--iptables"]),
        (OUT_TPROXY, vec!["--user", APP]),
    ] {
        let proxy = node.proxy(listeners);
        applied(node, &proxy, &flags);

        assert_eq!(curl(node, APP, "http://10.77.0.2:8080/four"), "served\n200");
        assert_eq!(curl(node, APP, "http://[fd77::2]:8080/six"), "served\n200");

        assert_eq!(proxy.logged(|_| true)["path"], "/four");
        assert!(proxy.log().iter().all(|line| line["path"] != "/six"));
        let rules = node.run(&["ip", "-6", "rule"]);
        assert!(!String::from_utf8_lossy(&rules.stdout).contains("fwmark"));
    }
}

#[test]
fn names_are_looked_up_over_tcp_as_they_are_over_udp() {
    let Some(world) = World::new() else { return };
    let _servers = world
        .outside
        .server("http=10.77.0.2:53 http=10.77.0.2:8080");
    let node = &world.node;
    for (listeners, flags) in [
        (OUT, vec!["--user", APP]),
        (OUT, vec!["--user", APP, "--iptables"]),
        (OUT_TPROXY, vec!["--user", APP]),
    ] {
        let proxy = node.proxy(&listeners.replace("capture:", "unknown: block, capture:"));
        applied(node, &proxy, &flags);

        assert_eq!(curl(node, APP, "http://10.77.0.2:53/name"), "served\n200");
        assert!(curl(node, APP, "http://10.77.0.2:8080/").ends_with("502"));
    }
}

#[test]
fn marks_of_others_stay_and_the_proxys_own_is_told_apart() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(OUT_TPROXY);
    for line in [
        "add table inet other",
        "add chain inet other out { type route hook output priority -190; }",
        &format!("add rule inet other out meta skuid {APP} meta mark set 0x1234"),
        &format!("add rule inet other out meta skuid {APP} ct state new ct mark set 0x5678"),
        "add chain inet other in { type filter hook prerouting priority -190; }",
        "add rule inet other in iifname lo tcp dport 8080 meta mark & 0xffff == 0x1234 ct mark & 0xffff == 0x5678 counter accept comment \"kept\"",
    ] {
        assert!(node.run(&["nft", line]).status.success(), "{line}");
    }
    applied(node, &proxy, &["--user", APP]);

    assert_eq!(
        curl(node, APP, "http://10.77.0.2:8080/marked"),
        "served\n200"
    );
    assert_eq!(proxy.logged(|_| true)["path"], "/marked");
    let rules = ruleset(node);
    let kept = rules.lines().find(|line| line.contains("kept"));
    assert!(
        kept.is_some_and(|line| !line.contains("packets 0")),
        "{rules}"
    );

    let rules = node.run(&["ip", "-4", "rule"]);
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let ours = rules.split("fwmark ").nth(1).unwrap();
    let (mark, rest) = ours.split_once('/').unwrap();
    assert!(rest.starts_with("0xffff0000"), "{rules}");
    let mark = u32::from_str_radix(mark.trim_start_matches("0x"), 16).unwrap() | 119;
    let proxy = node.proxy(&format!(
        "server: {{mark: {mark}}}\n{}",
        OUT_TPROXY.replace("15001", "15002")
    ));
    let fact = refused(node, &proxy, "apply", &["--user", APP]);
    assert!(fact.contains("the upper half of `server.mark`"), "{fact}");
}

#[test]
fn a_mark_leaves_no_user_out() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let pid_file = file.to_str().unwrap();
    let flags = ["--netns", node.name()];

    // Applications run as root, like the proxy.
    let proxy = node.proxy(&format!(
        "server: {{mark: 119, pid_file: '{pid_file}'}}\n{OUT}"
    ));
    applied(node, &proxy, &flags);
    assert_eq!(curl(node, "0", "http://10.77.0.2:8080/root"), "served\n200");
    assert_eq!(proxy.logged(|_| true)["path"], "/root");
    drop(proxy);

    let proxy = node.proxy(&format!("server: {{pid_file: '{pid_file}'}}\n{OUT}"));
    let plan = planned(node, &proxy, &flags);
    assert!(
        plan.contains("EVERYTHING of user 0 is left alone"),
        "{plan}"
    );

    // What a process that ended left behind may be the number of any other.
    std::fs::write(&file, std::process::id().to_string()).unwrap();
    let fact = refused(node, &proxy, "plan", &flags);
    assert!(fact.contains("would be captured as well"), "{fact}");
}

#[test]
fn namespaces_that_are_gone_take_their_rules_along() {
    let Some(world) = World::new() else { return };
    let node = &world.node;
    let other = Netns::new().unwrap();
    let name = other.name().to_owned();
    let proxy = node.proxy(&format!("server: {{mark: 119}}\n{OUT}"));
    let flags = ["--netns", &*name];
    applied(node, &proxy, &flags);
    drop(other);

    assert!(capture(node, &proxy, "remove", &flags).status.success());
    let fact = refused(node, &proxy, "remove", &flags);
    assert!(fact.contains("no network namespace is named"), "{fact}");
    for name in ["../state", "-", "a\nb", ""] {
        let fact = refused(node, &proxy, "apply", &["--netns", name]);
        assert!(fact.contains("names no network namespace"), "{fact}");
    }
    let fact = refused(node, &proxy, "plan", &["--user", "nobody-of-this-name"]);
    assert!(fact.contains("no user is named"), "{fact}");
}
