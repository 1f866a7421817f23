//! Subsets: rules and shares that ask for endpoints by their labels.
//! It must not test how one of them is chosen.
//! Part of the test binary.

use crate::balance::{answers, yaml};
use crate::support::proxy::{run, WEB};
use crate::support::{Proxy, Upstream};

#[test]
fn a_rule_sends_to_the_endpoints_with_its_labels_and_to_no_others() {
    let (old, new) = (Upstream::answering("v1"), Upstream::answering("v2"));
    let endpoints = [
        (&old, "labels: {version: v1}"),
        (&new, "labels: {version: v2}"),
    ];
    let rules = "  - {match: [{path: {prefix: /new}}], pool: app, subset: {version: v2}}\n  - {pool: app, subset: {version: v1}}\n";
    let proxy = Proxy::start(&yaml(&endpoints, "algorithm: round_robin", rules));

    let seen: Vec<String> = ["/new", "/", "/new", "/new", "/", "/"]
        .iter()
        .map(|path| proxy.get(path).text())
        .collect();

    assert_eq!(seen, ["v2", "v1", "v2", "v2", "v1", "v1"]);
}

#[test]
fn a_subset_without_endpoints_is_refused_or_goes_to_any() {
    let service = Upstream::answering("v1");
    let pool = |fallback: &str| {
        format!("pools:\n- name: app\n  discovery: {{file: {{path: endpoints.yaml}}}}\n  balance: {{{fallback}}}\nroutes:\n- name: all\n  rules: [{{pool: app, subset: {{version: v2}}}}]\n")
    };
    let start = |fallback: &str| {
        let folder = tempfile::TempDir::new().unwrap();
        let list = format!(
            "- {{address: '{}', labels: {{version: v1}}}}\n",
            service.address
        );
        std::fs::write(folder.path().join("endpoints.yaml"), list).unwrap();
        Proxy::start_in(folder, &format!("{WEB}{}", pool(fallback)))
    };

    let strict = start("").get("/");
    let any = start("subset_fallback: any").get("/");

    assert_eq!((strict.status, &*strict.why()), (503, "no_subset_endpoint"));
    assert!(strict.header("retry-after").is_some());
    assert_eq!((any.status, &*any.text()), (200, "v1"));
}

#[test]
fn a_subset_that_drains_or_may_go_to_any_is_not_blamed() {
    let (old, new) = (Upstream::answering("v1"), Upstream::answering("v2"));
    let drained = [
        (&old, "labels: {version: v1}"),
        (&new, "labels: {version: v2}, weight: 0"),
    ];
    let all = [
        (&old, "labels: {version: v1}, weight: 0"),
        (&new, "labels: {version: v2}, weight: 0"),
    ];
    let rules = "  - {pool: app, subset: {version: v2}}\n";
    let any = "subset_fallback: any";

    let of_subset = Proxy::start(&yaml(&drained, "", rules)).get("/").why();
    let of_pool = Proxy::start(&yaml(&all, any, rules)).get("/").why();

    assert_eq!(
        (&*of_subset, &*of_pool),
        ("no_healthy_endpoint", "no_healthy_endpoint")
    );
}

#[test]
fn two_subsets_of_a_pool_can_be_shares_of_a_split() {
    let (old, new) = (Upstream::answering("v1"), Upstream::answering("v2"));
    let endpoints = [
        (&old, "labels: {version: v1}"),
        (&new, "labels: {version: v2}"),
    ];
    let rules = "  - split:\n    - {pool: app, subset: {version: v1}, weight: 1, name: old}\n    - {pool: app, subset: {version: v2}, weight: 1, name: new}\n    override: {header: x-version, everyone: true}\n";
    let proxy = Proxy::start(&yaml(&endpoints, "", rules));
    let of = |name: &str| {
        proxy
            .ask("GET", "/", &format!("x-version: {name}\r\n"))
            .text()
    };

    let named: Vec<String> = ["new", "old", "new", "old"]
        .iter()
        .map(|name| of(name))
        .collect();
    let seen = answers(&proxy, 40);

    assert_eq!(named, ["v2", "v1", "v2", "v1"]);
    assert!(
        seen.contains(&"v1".into()) && seen.contains(&"v2".into()),
        "{seen:?}"
    );
}

#[test]
fn a_test_of_the_configuration_can_expect_a_subset() {
    let service = Upstream::answering("v1");
    let rules = "  - {pool: app, subset: {version: v1}}\n";
    let with = |expected: &str| {
        let tests = format!("tests:\n- {{request: {{url: 'http://test/'}}, expect: {{subset: {{version: {expected}}}}}}}\n");
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("windrose.yaml");
        let text = yaml(&[(&service, "labels: {version: v1}")], "", rules);
        std::fs::write(&path, text + &tests).unwrap();
        let done = run(&["check", "-c", path.to_str().unwrap()]);
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    };

    let (right, wrong) = (with("v1"), with("v2"));

    assert!(right.0, "{}", right.1);
    assert!(!wrong.0);
    let line = "tests[0].expect.subset: test";
    let fact = "expected \"version: v2\", found \"version: v1\"";
    assert!(
        wrong.1.contains(line) && wrong.1.contains(fact),
        "{}",
        wrong.1
    );
}

#[test]
fn views_tell_which_endpoints_a_rule_asks_for() {
    let service = Upstream::answering("v1");
    let rules = "  - {pool: app, subset: {version: v1}}\n";
    let endpoints = [(&service, "labels: {version: v1}")];
    let proxy = Proxy::start(&yaml(&endpoints, "", rules));

    let pool = proxy.pool("app");
    let routes = proxy.admin("/routes").to_string();

    let subset = &pool["balance"]["subsets"][0];
    assert_eq!(
        (&subset["labels"]["version"], &subset["endpoints"]),
        (&"v1".into(), &1.into())
    );
    assert!(
        routes.contains("\"subset\":{\"version\":\"v1\"}"),
        "{routes}"
    );
}
