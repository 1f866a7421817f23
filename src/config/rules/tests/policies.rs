//! Every rule of policies provoked, and what must stay silent.
//! It must not test rulings; `decide::policy` does that.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

/// A policy with one rule, after a route it may name.
fn policy(parts: &str) -> String {
    format!("pools: [{{name: p, endpoints: ['10.0.0.1:1']}}]\nroutes: [{{name: r, rules: [{{pool: p}}]}}]\npolicies: [{{name: one, action: allow, {parts}}}]")
}

fn each(cases: &[(&str, &str)]) {
    let cases: Vec<(String, &str)> = cases
        .iter()
        .map(|(parts, expected)| (policy(parts), *expected))
        .collect();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(yaml, it)| (&**yaml, *it)).collect();
    each_is_reported(&cases);
}

#[test]
fn targets_that_are_not_there() {
    each(&[
        (
            "to: {routes: [rr]}, rules: [{}]",
            "policies[0].to.routes[0]: no route is named \"rr\"",
        ),
        (
            "to: {pools: [q]}, rules: [{}]",
            "policies[0].to.pools[0]: no pool is named \"q\"",
        ),
        (
            "to: {listeners: [web]}, rules: [{}]",
            "policies[0].to.listeners[0]: no listener is named \"web\"",
        ),
        (
            "to: {services: [pay]}, rules: [{}]",
            "policies[0].to.services[0]: no service is named \"pay\"\n  help: no services are defined",
        ),
    ]);
    each_is_reported(&[(
        "services: [{name: pay, ports: [{port: 80}], endpoints: [10.0.0.1]}]\npolicies: [{name: one, action: allow, to: {services: [pya]}, rules: [{}]}]",
        "policies[0].to.services[0]: no service is named \"pya\"\n  help: did you mean \"pay\"? services defined: pay",
    )]);
}

#[test]
fn names_are_unique_and_well_formed() {
    each_is_reported(&[
        (
            "policies: [{name: a, action: deny}, {name: a, action: deny}]",
            "policies[1].name: the name \"a\" is taken by policies[0]",
        ),
        (
            "policies: [{name: A b, action: deny}]",
            "policies[0].name: the name \"A b\" is empty or has characters",
        ),
    ]);
}

#[test]
fn callers_that_cannot_be_meant() {
    each(&[
        (
            "rules: [{from: {principals: ['spiffe://mesh.test*']}}]",
            "policies[0].rules[0].from.principals[0]: \"spiffe://mesh.test*\" also means trust domains",
        ),
        (
            "rules: [{from: {principals: [web]}}]",
            "policies[0].rules[0].from.principals[0]: \"web\" is none of the forms",
        ),
        (
            "rules: [{from: {principals: ['spiffe://a/*/b']}}]",
            "policies[0].rules[0].from.principals[0]: \"spiffe://a/*/b\" has a `*`",
        ),
        (
            "rules: [{from: {principals: ['spiffe://Mesh/x']}}]",
            "policies[0].rules[0].from.principals[0]: \"Mesh\" is not a trust domain",
        ),
        (
            "rules: [{from: {trust_domains: ['mesh*']}}]",
            "policies[0].rules[0].from.trust_domains[0]: \"mesh*\" is not a trust domain",
        ),
        (
            "rules: [{from: {namespaces: ['a*b']}}]",
            "policies[0].rules[0].from.namespaces[0]: \"a*b\" has a `*`",
        ),
        (
            "rules: [{from: {namespaces: ['/ns/shop']}}]",
            "policies[0].rules[0].from.namespaces[0]: \"/ns/shop\" is no namespace",
        ),
        (
            "rules: [{from: {service_accounts: ['spiffe://m/ns/a/sa/b']}}]",
            "policies[0].rules[0].from.service_accounts[0]: \"spiffe://m/ns/a/sa/b\" is no service account",
        ),
        (
            "rules: [{from: {service_accounts: ['a/b/c']}}]",
            "policies[0].rules[0].from.service_accounts[0]: \"a/b/c\" is no service account",
        ),
        (
            "rules: [{from: {consumers: ['consumer:ann']}}]",
            "policies[0].rules[0].from.consumers[0]: \"consumer:ann\" is no consumer's name",
        ),
        (
            "rules: [{from: {not_principals: ['*']}}]",
            "policies[0].rules[0].from.not_principals: \"*\" leaves only callers",
        ),
        (
            "rules: [{from: {namespaces: [a], not_namespaces: [a, b]}}]",
            "policies[0].rules[0].from.not_namespaces: takes away everything",
        ),
        (
            "rules: [{from: {clients: [10.0.0.0/8], not_clients: [10.0.0.0/8]}}]",
            "policies[0].rules[0].from.not_clients: takes away everything",
        ),
    ]);
}

#[test]
fn calls_that_cannot_be_meant() {
    each(&[
        (
            "rules: [{when: {methods: [get]}}]",
            "policies[0].rules[0].when.methods[0]: \"get\" has lower case",
        ),
        (
            "rules: [{when: {paths: [{prefix: a}]}}]",
            "policies[0].rules[0].when.paths[0].prefix: \"a\" does not start",
        ),
        (
            "rules: [{when: {not_paths: [{regex: '('}]}}]",
            "policies[0].rules[0].when.not_paths[0].regex: \"(\" is not a regular",
        ),
        (
            "rules: [{when: {hosts: ['a:80']}}]",
            "policies[0].rules[0].when.hosts[0]: \"a:80\" has a port",
        ),
        (
            "rules: [{when: {headers: {'a b': x}}}]",
            "policies[0].rules[0].when.headers.a b: \"a b\" is not a header name",
        ),
        (
            "rules: [{when: {headers: {Host: a.test}}}]",
            "policies[0].rules[0].when.headers.Host: HTTP/2 has no such field",
        ),
        (
            "rules: [{when: {ports: [0]}}]",
            "policies[0].rules[0].when.ports[0]: port 0",
        ),
        (
            "rules: [{when: {cel: 'now > 1'}}]",
            "policies[0].rules[0].when.cel: the expression cannot be used: `now` is not known",
        ),
        (
            "rules: [{when: {methods: [GET], not_methods: [GET]}}]",
            "policies[0].rules[0].when.not_methods: takes away everything",
        ),
    ]);
    let many = vec!["{}"; 513].join(", ");
    let found = reported(&policy(&format!("rules: [{many}]")));
    assert!(found.contains("has 513 rules; 512 are the most"), "{found}");
}

#[test]
fn sound_policies_are_let_pass() {
    let sound = policy("to: {routes: [r], pools: [p]}, rules: [{from: {principals: ['spiffe://mesh.test/*', 'consumer:ann', '*'], service_accounts: [shop/web]}, when: {paths: [{prefix: /}], ports: [80], cel: \"source.consumer == ''\"}}]");
    let strict =
        "policies: [{name: strict, action: deny, rules: [{from: {not_principals: ['*']}}]}]";

    assert_eq!(reported(&sound), "");
    assert_eq!(reported(strict), "");
}
