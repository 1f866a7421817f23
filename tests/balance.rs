//! How endpoints are chosen, with real ones: subsets, priorities, zones, sessions, slow start, bounded load.
//! It must not test the laws of algorithms; the unit tests of `snapshot::balance` do, with a clock of their own.
//! Part of the test binary.

use std::fmt::Write as _;

use crate::support::proxy::WEB;
use crate::support::{Proxy, Upstream};

/// An endpoint as it is written: its service and further keys.
type Written<'a> = (&'a Upstream, &'a str);

/// A plain listener, the pool `app` with these endpoints, and these rules.
fn yaml(endpoints: &[Written<'_>], balance: &str, rules: &str) -> String {
    let mut text = format!("{WEB}pools:\n- name: app\n  balance: {{{balance}}}\n  endpoints:\n");
    for (upstream, keys) in endpoints {
        let _ = writeln!(text, "  - {{address: '{}', {keys}}}", upstream.address);
    }
    let _ = write!(text, "routes:\n- name: all\n  rules:\n{rules}");
    text
}

/// What answers to so many requests, each on a connection of its own.
fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    (0..count).map(|_| proxy.get("/").text()).collect()
}

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
fn two_subsets_of_a_pool_can_be_shares_of_a_split() {
    let (old, new) = (Upstream::answering("v1"), Upstream::answering("v2"));
    let endpoints = [
        (&old, "labels: {version: v1}"),
        (&new, "labels: {version: v2}"),
    ];
    let rules = "  - split:\n    - {pool: app, subset: {version: v1}, weight: 1, name: old}\n    - {pool: app, subset: {version: v2}, weight: 1, name: new}\n    override: {header: x-version}\n";
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
