//! Recorded requests decided again: by `replay`, by `plan`, and as tests of a configuration.
//! It must not know how records are made.
//! Part of the test binary.

use std::fs;
use std::process::Output;

use crate::support::proxy::{pool, WEB};
use crate::support::{run, until, Proxy, Upstream};

const ROUTES: &str = "\
routes:
- {name: old, hosts: [a.test], rules: [{pool: app}]}
- {name: guarded, hosts: [b.test], plugins: [{kind: ip_filter, config: {allow: [10.0.0.0/8]}}], rules: [{pool: app}]}
- {name: limited, hosts: [c.test], plugins: [{kind: rate_limit, config: {rate: 1, per: 1h, burst: 1}}], rules: [{pool: app}]}
observe:
  access_log: {to: off}
  recorder: {sample: 100%}
";

/// A proxy that recorded six requests: two to a pool, two refused, one within its rate and one beyond.
fn recorded(service: &Upstream) -> Proxy {
    let yaml = format!("{WEB}{ROUTES}{}", pool("app", &[service]));
    let proxy = Proxy::start(&yaml);
    for host in ["a.test", "b.test", "c.test"] {
        for _ in 0..2 {
            proxy.ask("GET", "/x?key=secret", &format!("host: {host}\r\n"));
        }
    }
    until("all six are recorded", || {
        let records = proxy.admin("/recorder");
        (records["records"].as_array()?.len() == 6).then_some(())
    });
    proxy
}

fn bundle(proxy: &Proxy) -> String {
    let (config, file) = (proxy.config(), proxy.file("bundle.json"));
    let (config, file) = (config.to_str().unwrap(), file.to_str().unwrap());
    let output = run(&["bundle", "-c", config, "-o", file]);
    assert!(output.status.success(), "{output:?}");
    file.to_owned()
}

fn said(output: Output) -> (String, i32) {
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().unwrap();
    (String::from_utf8(text).unwrap(), code)
}

#[test]
fn a_bundle_is_decided_as_it_was_and_otherwise_by_another_configuration() {
    let service = Upstream::answering("hello");
    let proxy = recorded(&service);
    let bundle = bundle(&proxy);
    let other = proxy.file("other.yaml");
    let text = fs::read_to_string(proxy.config()).unwrap();
    fs::write(&other, text.replace("name: old", "name: new")).unwrap();

    let config = proxy.config();
    let (same, same_code) = said(run(&["replay", &bundle, "-c", config.to_str().unwrap()]));
    let (changed, changed_code) = said(run(&["replay", &bundle, "-c", other.to_str().unwrap()]));

    assert_eq!(same_code, 0, "{same}");
    assert!(
        same.contains("5 of 6 decisions are the recorded ones"),
        "{same}"
    );
    assert!(
        same.contains("1 depend on what only the process had"),
        "{same}"
    );
    assert_eq!(changed_code, 1);
    assert!(changed.contains("route old was met, now new"), "{changed}");
    assert!(!changed.contains("secret"), "{changed}");
}

#[test]
fn records_become_tests_that_pass() {
    let service = Upstream::answering("hello");
    let proxy = recorded(&service);
    let bundle = bundle(&proxy);
    let config = proxy.config();

    let output = run(&[
        "replay",
        &bundle,
        "--as-test",
        "-c",
        config.to_str().unwrap(),
    ]);

    let tests = String::from_utf8(output.stdout).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n{tests}")).unwrap();
    let (checked, code) = said(run(&["check", "-c", config.to_str().unwrap()]));
    assert_eq!(code, 0, "{checked}\n{tests}");
    assert!(checked.contains("5 tests pass"), "{checked}");
}

#[test]
fn a_plan_says_what_becomes_of_recorded_requests() {
    let service = Upstream::answering("hello");
    let proxy = recorded(&service);
    let new = proxy.file("new.yaml");
    let text = fs::read_to_string(proxy.config()).unwrap();
    let guarded = "hosts: [a.test], plugins: [{kind: basic_auth, config: {users: {ann: '$2y$04$AAAAAAAAAAAAAAAAAAAAAOEVfO2PPDqfgAtzWCwRR1V6u9nT1nPkG'}}}]";
    fs::write(&new, text.replacen("hosts: [a.test]", guarded, 1)).unwrap();

    let config = proxy.config();
    let plan = [
        "plan",
        new.to_str().unwrap(),
        "--live",
        "-c",
        config.to_str().unwrap(),
    ];
    let (text, code) = said(run(&plan));

    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("33.3 % of 6 recorded requests change (2)"),
        "{text}"
    );
    let change = "33.3 %  would become 401 auth.basic_missing instead of going to pool app";
    assert!(text.contains(change), "{text}");
}

#[test]
fn what_is_no_bundle_is_told_in_one_line() {
    let (text, code) = said(run(&["replay", "/dev/null"]));

    assert_eq!((code, text.lines().count()), (2, 1), "{text}");
}

#[test]
fn a_plan_and_a_reload_say_which_recorded_requests_policies_would_judge_otherwise() {
    let service = Upstream::answering("hello");
    let proxy = recorded(&service);
    let old = fs::read_to_string(proxy.config()).unwrap();
    let deny = "policies: [{name: no-a, action: deny, rules: [{when: {hosts: [a.test]}}]}]\n";
    let closed = format!("{old}\n{deny}");
    let new = proxy.file("new.yaml");
    fs::write(&new, &closed).unwrap();
    let config = proxy.config();
    let plan = |to: &str| {
        let config = config.to_str().unwrap();
        said(run(&["plan", to, "--live", "-c", config]))
    };

    let (text, code) = plan(new.to_str().unwrap());
    let denied = proxy.reload(&closed);
    fs::write(&new, &old).unwrap();
    let (back, _) = plan(new.to_str().unwrap());
    let allowed = proxy.reload(&old);

    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("  newly denied: 2, by no-a[0]\n           GET http://a.test/x?key="),
        "{text}"
    );
    assert!(
        text.contains(" as anybody\n") && !text.contains("secret"),
        "{text}"
    );
    assert!(
        back.contains("  newly allowed: 2, no longer denied by no-a[0]\n"),
        "{back}"
    );
    let words = |outcome: &serde_json::Value| outcome["changes"].to_string();
    let sentence = "policies: of 6 recorded requests 2 (by no-a[0]) would newly be denied and 0 newly be allowed";
    assert!(words(&denied).contains(sentence), "{denied}");
    let policy = "policy \\\"no-a\\\": added; newly denied: (hosts a.test)";
    assert!(words(&denied).contains(policy), "{denied}");
    let sentence = "policies: of 6 recorded requests 0 would newly be denied and 2 (by no-a[0]) newly be allowed";
    assert!(words(&allowed).contains(sentence), "{allowed}");
}
