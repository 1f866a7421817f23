//! Certificates of workloads from the built-in authority: real processes on both sides, kills, rotations, and the clock.
//! It must not know the authority's files beyond what its commands show.
//! Part of the test binary.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{run, until, Ca, Proxy};

/// What a node says of one of its workloads.
fn clock(node: &Proxy, name: &str) -> Value {
    let view = node.admin("/certs");
    let all = view["workloads"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap().clone()
}

fn serial(node: &Proxy, name: &str) -> Option<String> {
    clock(node, name)["serial"].as_str().map(str::to_owned)
}

fn certificate(node: &Proxy, name: &str) -> String {
    until("a certificate", || serial(node, name))
}

fn alarmed(node: &Proxy, part: &str) {
    until(part, || {
        let view = node.admin("/certs");
        let alarms = view["alarms"].as_array()?;
        alarms
            .iter()
            .any(|alarm| alarm.as_str().unwrap().contains(part))
            .then_some(())
    });
}

fn certs(node: &Proxy) -> (Option<i32>, String) {
    let done = run(&["certs", "-c", node.config().to_str().unwrap()]);
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

#[test]
fn a_node_joins_once_and_renews_again_and_again() {
    let ca = Ca::start("4s");
    let token = ca.token(&["spiffe://td/*"]);
    let node = ca.node(&token, &["web", "api"]);

    let mut seen = vec![certificate(&node, "web")];
    fs::remove_file(node.file("join.token")).unwrap();
    until("four certificates, one after another", || {
        let now = serial(&node, "web")?;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        (seen.len() >= 4).then_some(())
    });

    assert_eq!(clock(&node, "api")["failures"], 0);
    assert_eq!(
        node.metric("windrose_identity_renewals_total", &["failed"]),
        0.0
    );
    let log = fs::read_dir(ca.folder.path().join("issued"))
        .unwrap()
        .flatten()
        .next()
        .unwrap();
    let log = fs::read_to_string(log.path()).unwrap();
    assert!(seen.iter().all(|serial| log.contains(serial.as_str())));
    assert!(!node.stderr().contains(token.trim()) && !log.contains(token.trim()));
}

#[test]
fn a_restart_needs_neither_token_nor_authority() {
    let mut ca = Ca::start("1h");
    let folder = ca.prepared(&ca.token(&["spiffe://td/web"]));
    let state = TempDir::new().unwrap();
    let yaml = ca
        .yaml(&["web"])
        .replace("FOLDER/state", state.path().join("own").to_str().unwrap());
    let node = Proxy::start_in(folder, &yaml);
    let before = certificate(&node, "web");
    drop(node);
    ca.kill();

    let node = Proxy::start(&yaml);
    let after = certificate(&node, "web");

    assert_eq!(after, before);
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(state.path().join("own")).unwrap().flatten() {
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            entry.path()
        );
    }
}

#[test]
fn tokens_are_good_once_and_for_what_they_name() {
    let ca = Ca::start("1h");
    let token = ca.token(&["spiffe://td/web"]);
    let node = ca.node(&token, &["web", "other"]);
    certificate(&node, "web");

    alarmed(&node, "workload other has no certificate");
    until("why", || {
        clock(&node, "other")["error"]
            .as_str()?
            .contains("ca.not_granted")
            .then_some(())
    });
    let second = ca.node(&token, &["web"]);
    alarmed(&second, "ca.token_used");
    let short = ca
        .act(&["token", "spiffe://td/web", "--life", "1s"])
        .unwrap();
    until("it expires", || {
        (!ca.act(&["status"]).unwrap().contains("1 tokens")).then_some(())
    });
    let late = ca.node(&short, &["web"]);
    alarmed(&late, "ca.token_expired");
    let made_up = ca.node("windrose-join-00", &["web"]);
    alarmed(&made_up, "ca.token_unknown");

    assert_eq!(serial(&second, "web"), None);
    let (code, shown) = certs(&second);
    assert_eq!(code, Some(1), "{shown}");
    assert!(second.admin("/readyz")["identity_alarms"]
        .to_string()
        .contains("ca.token_used"));
    assert!(ca
        .act(&["token", "spiffe://other/web"])
        .unwrap_err()
        .contains("not of the trust domain"));
}

#[test]
fn a_wrong_hash_keeps_the_token_from_a_stranger() {
    let ca = Ca::start("1h");
    let token = ca.token(&["spiffe://td/web"]);
    let yaml = ca
        .yaml(&["web"])
        .replace(&ca.root_hash, &format!("sha256:{}", "0".repeat(64)));

    let node = Proxy::start_in(ca.prepared(&token), &yaml);

    alarmed(&node, "pinned hash");
    assert!(ca.act(&["status"]).unwrap().contains("1 tokens"));
}

#[test]
fn an_authority_that_is_killed_again_and_again_loses_nothing() {
    let mut ca = Ca::start("6s");
    let node = ca.node(
        &ca.token(&["spiffe://td/*"]),
        &["a", "b", "c", "d", "e", "f", "g", "h"],
    );
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let all = || names.map(|name| serial(&node, name));
    // Killed from the first join on, at whatever it is about.
    for _ in 0..6 {
        ca.kill();
        ca.restart();
        let before = all();
        until("something new was issued", || {
            (all() != before).then_some(())
        });
    }

    let before = names.map(|name| certificate(&node, name));
    until("every one is renewed", || {
        let now = all();
        now.iter()
            .zip(&before)
            .all(|(now, before)| now.as_ref() != Some(before))
            .then_some(())
    });
    let status = ca.act(&["status", "--json"]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 1, "{status}");
}

#[test]
fn without_its_source_a_certificate_is_kept_to_its_end_and_told_on() {
    let mut ca = Ca::start("6s");
    let node = ca.node(&ca.token(&["spiffe://td/web"]), &["web"]);
    certificate(&node, "web");
    let (code, shown) = certs(&node);
    assert!(
        code == Some(0) && shown.contains("first to fall: web"),
        "{shown}"
    );

    ca.kill();
    alarmed(&node, "the source `ca` fails");
    let held = certificate(&node, "web");
    assert_eq!(node.metric("windrose_identity_source_up", &[]), 0.0);
    alarmed(&node, "has ended");
    assert_eq!(serial(&node, "web"), Some(held.clone()));
    let (code, shown) = certs(&node);
    assert!(code == Some(1) && shown.starts_with("alarm: "), "{shown}");
    assert_eq!(node.admin_reply("/readyz").status, 200);

    ca.restart();
    until("it recovers by itself", || {
        (certs(&node).0 == Some(0)).then_some(())
    });
    assert_ne!(serial(&node, "web"), Some(held));
}

#[test]
fn a_change_of_roots_waits_for_the_straggler() {
    let ca = Ca::start("1h");
    let node = ca.node(&ca.token(&["spiffe://td/web"]), &["web"]);
    let away = TempDir::new().unwrap();
    let yaml = ca
        .yaml(&["api"])
        .replace("FOLDER/state", away.path().join("own").to_str().unwrap());
    let straggler = Proxy::start_in(ca.prepared(&ca.token(&["spiffe://td/api"])), &yaml);
    let before = [certificate(&node, "web"), certificate(&straggler, "api")];
    let trusts = |roots: u64| {
        let view = node.admin("/certs");
        (view["roots"][0]["roots"].as_u64() == Some(roots)).then_some(())
    };
    drop(straggler);

    ca.act(&["rotate", "begin"]).unwrap();
    until("the node trusts both", || trusts(2));
    let held_up = until("one is left", || {
        let problem = ca.act(&["rotate", "switch"]).unwrap_err();
        problem.starts_with("1 of the nodes").then_some(problem)
    });
    assert!(
        held_up.contains("spiffe://td/api") && !held_up.contains("spiffe://td/web"),
        "{held_up}"
    );
    assert!(ca
        .act(&["rotate", "finish"])
        .unwrap_err()
        .contains("switch"));
    let straggler = Proxy::start(&yaml);
    until("it heard as well", || ca.act(&["rotate", "switch"]).ok());
    until("no leaf of the old root is left", || {
        ca.act(&["rotate", "finish"]).ok()
    });
    until("only the new root is trusted", || trusts(1));

    assert_ne!(
        [certificate(&node, "web"), certificate(&straggler, "api")],
        before
    );
    let status = ca.act(&["status"]).unwrap();
    assert!(
        status.contains("root 2") && !status.contains("root 1 "),
        "{status}"
    );
    for (node, name) in [(&node, "web"), (&straggler, "api")] {
        assert_eq!(clock(node, name)["failures"], 0);
        assert!(clock(node, name)["issuer"]
            .as_str()
            .unwrap()
            .contains("root 2"));
    }
    assert!(ca
        .act(&["rotate", "switch"])
        .unwrap_err()
        .contains("no change of roots"));
}

#[test]
fn who_was_forgotten_is_not_renewed_but_may_join_again() {
    let ca = Ca::start("4s");
    let node = ca.node(&ca.token(&["spiffe://td/web"]), &["web"]);
    certificate(&node, "web");
    let status: Value = serde_json::from_str(&ca.act(&["status", "--json"]).unwrap()).unwrap();
    let id = status["nodes"][0]["id"].as_str().unwrap();

    ca.act(&["forget", id]).unwrap();
    alarmed(&node, "workload web");
    fs::write(node.file("join.token"), ca.token(&["spiffe://td/web"])).unwrap();

    until("it joined again", || {
        (certs(&node).0 == Some(0)).then_some(())
    });
}

#[test]
fn a_refusal_that_passes_needs_no_other_token() {
    let ca = Ca::start("4s");
    let node = ca.node(&ca.token(&["spiffe://td/web"]), &["web"]);
    certificate(&node, "web");
    let nodes = ca.folder.path().join("nodes");
    let aside = ca.folder.path().join("aside");

    // What a backup that was put back late looks like.
    fs::rename(&nodes, &aside).unwrap();
    fs::create_dir(&nodes).unwrap();
    alarmed(&node, "ca.token_used");
    fs::remove_dir(&nodes).unwrap();
    fs::rename(&aside, &nodes).unwrap();

    until("it recovers by itself", || {
        (certs(&node).0 == Some(0)).then_some(())
    });
    assert!(node.admin("/certs")["node"]["id"]
        .as_str()
        .unwrap()
        .starts_with("spiffe://td/windrose/node/"));
    assert!(certs(&node).1.contains("the node itself  spiffe://td/"));
}

#[test]
fn another_root_hash_is_another_authority() {
    let (one, other) = (Ca::start("1h"), Ca::start("1h"));
    let state = TempDir::new().unwrap();
    let yaml = |ca: &Ca| {
        ca.yaml(&["web"])
            .replace("FOLDER/state", state.path().join("own").to_str().unwrap())
    };
    let token = one.token(&["spiffe://td/web"]);
    let node = Proxy::start_in(one.prepared(&token), &yaml(&one));
    let before = certificate(&node, "web");
    drop(node);

    let token = other.token(&["spiffe://td/web"]);
    let node = Proxy::start_in(other.prepared(&token), &yaml(&other));

    until("the other's certificate", || {
        (serial(&node, "web")? != before).then_some(())
    });
    until("it is well", || (certs(&node).0 == Some(0)).then_some(()));
    assert!(other.act(&["status"]).unwrap().contains("node "));
}

#[test]
fn certificates_by_hand_and_bundles_are_what_other_programs_read() {
    let ca = Ca::start("1h");
    let out = TempDir::new().unwrap();
    let name = |ending: &str| -> PathBuf { out.path().join(format!("web.{ending}")) };

    ca.act(&[
        "issue",
        "spiffe://td/web",
        "-o",
        out.path().join("web").to_str().unwrap(),
    ])
    .unwrap();
    fs::write(name("roots"), ca.act(&["bundle"]).unwrap()).unwrap();
    let jwks: Value = serde_json::from_str(&ca.act(&["bundle", "--jwks"]).unwrap()).unwrap();
    let verified = Command::new("openssl")
        .arg("verify")
        .arg("-CAfile")
        .arg(name("roots"))
        .arg("-untrusted")
        .args([name("pem"), name("pem")])
        .output()
        .unwrap();

    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(name("pem"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "URI:spiffe://td/web",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(
        (&jwks["keys"][0]["use"], &jwks["keys"][0]["crv"]),
        (&"x509-svid".into(), &"P-256".into())
    );
    assert!(ca
        .act(&["issue", "spiffe://td/windrose/ca", "-o", "x"])
        .unwrap_err()
        .contains("authority's own"));
    assert!(run(&[
        "ca",
        "init",
        "-f",
        ca.folder.path().to_str().unwrap(),
        "--trust-domain",
        "td"
    ])
    .stderr
    .starts_with(b"\""));
}
