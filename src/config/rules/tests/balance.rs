//! Every rule of `balance`, priorities, ages of connections and subsets, provoked once.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

/// A pool `p` with two endpoints, one labelled, and these keys.
fn pool(keys: &str) -> String {
    format!("pools: [{{name: p, endpoints: ['10.0.0.1:1', {{address: '10.0.0.2:1', labels: {{zone: a, version: v1}}}}], {keys}}}]")
}

fn balanced(cases: &[(&str, &str)]) {
    for (keys, expected) in cases {
        let yaml = pool(&format!("balance: {{{keys}}}"));
        each_is_reported(&[(&yaml, &format!("pools[0].balance.{expected}"))]);
    }
}

#[test]
fn settings_that_the_algorithm_does_not_use_are_refused() {
    balanced(&[
        ("hash: path", "hash: is only used by the algorithms"),
        (
            "hash_balance_factor: 150",
            "hash_balance_factor: is only used by the algorithms",
        ),
        (
            "algorithm: maglev, slow_start: 5s",
            "slow_start: is not used by the algorithms",
        ),
        (
            "algorithm: random, choices: 3",
            "choices: is only used by the algorithms",
        ),
        (
            "algorithm: ketama, affinity: {address: true}",
            "affinity.address: is not used by the algorithms",
        ),
    ]);
}

#[test]
fn bounds_are_kept() {
    balanced(&[
        ("choices: 1", "choices: must be from 2 to 10, found 1"),
        (
            "algorithm: maglev, hash_balance_factor: 100",
            "hash_balance_factor: must be from 101 to 1000, found 100",
        ),
        (
            "slow_start: 2h",
            "slow_start: must be at most 1h, found \"2h\"",
        ),
        (
            "zone: {own: a, min_endpoints: 0}",
            "zone.min_endpoints: must be from 1 to 10000, found 0",
        ),
        (
            "zone: {own: a, failover: [b, c, d, e, f, g, h]}",
            "zone.failover: has 7 zones, and at most 6",
        ),
    ]);
    each_is_reported(&[
        (
            "pools: [{name: p, endpoints: [{address: '10.0.0.1:1', priority: 8}]}]",
            "pools[0].endpoints[0].priority: must be from 0 to 7, found 8",
        ),
        (
            &pool("connections: {max_age: 5s}"),
            "pools[0].connections.max_age: must be from 10s to 24h, found \"5s\"",
        ),
        (
            &pool("connections: {max_age: 1h}, protocol: tcp"),
            "pools[0].connections.max_age: is not used by protocol \"tcp\"",
        ),
        (
            &pool("connections: {max_age: 1h}, protocol: auto, tls: {sni: a}"),
            "pools[0].connections.max_age: is not possible with protocol \"auto\"",
        ),
    ]);
}

#[test]
fn hash_keys_are_names_and_can_be_reached() {
    balanced(&[
        (
            "algorithm: maglev, hash: []",
            "hash: must have from 1 to 8 keys, found 0",
        ),
        (
            "algorithm: maglev, hash: [client_ip, path]",
            "hash[1]: is never reached",
        ),
        (
            "algorithm: maglev, hash: [{cookie: a}, {cookie: a}]",
            "hash[1]: is never reached",
        ),
        (
            "algorithm: maglev, hash: {query: ''}",
            "hash.query: must not be empty",
        ),
        (
            "algorithm: maglev, hash: [{header: 'a b'}]",
            "hash[0].header: \"a b\" is not a header name",
        ),
    ]);
}

#[test]
fn zones_are_named_once_and_some_endpoint_has_one() {
    balanced(&[
        ("zone: {own: ''}", "zone.own: must not be empty"),
        (
            "zone: {own: a, failover: [a]}",
            "zone.failover[0]: \"a\" has its place already",
        ),
        (
            "zone: {own: a, failover: [b, b]}",
            "zone.failover[1]: \"b\" has its place already",
        ),
        (
            "zone: {own: a, label: place}",
            "zone.label: no endpoint of the pool has a label \"place\"",
        ),
    ]);
}

#[test]
fn sessions_have_a_key_that_the_pool_can_read() {
    balanced(&[
        (
            "affinity: {address: false}",
            "affinity.address: must be true, found false",
        ),
        (
            "affinity: {header: 'a b'}",
            "affinity.header: \"a b\" is not a header name",
        ),
        (
            "affinity: {cookie: {name: 'a b'}}",
            "affinity.cookie.name: \"a b\" is not a cookie name",
        ),
        (
            "affinity: {cookie: {name: a, path: '/;x'}}",
            "affinity.cookie.path: \"/;x\" cannot be the path",
        ),
        (
            "affinity: {cookie: {name: a, ttl: 401d}}",
            "affinity.cookie.ttl: must be at most 400d, found \"401d\"",
        ),
        (
            "affinity: {cookie: {name: a, secret: short}}",
            "affinity.cookie.secret: must have at least 16 bytes",
        ),
    ]);
    each_is_reported(&[(
        &pool("protocol: tcp, balance: {affinity: {cookie: {name: a}}}"),
        "pools[0].balance.affinity.cookie: needs a request",
    )]);
}

#[test]
fn subsets_stand_beside_a_pool_that_has_them() {
    let routed =
        |keys: &str, rule: &str| format!("{}\nroutes: [{{name: r, rules: [{rule}]}}]", pool(keys));
    let many: Vec<String> = (0..65)
        .map(|at| {
            format!("{{match: [{{path: {{exact: '/{at}'}}}}], pool: p, subset: {{a: '{at}'}}}}")
        })
        .collect();
    each_is_reported(&[
        (
            &routed("", "{respond: {status: 200}, subset: {version: v1}}"),
            "routes[0].rules[0].subset: is only used beside `pool`",
        ),
        (
            &routed("", "{pool: p, subset: {version: v2}}"),
            "routes[0].rules[0].subset: no endpoint of the pool \"p\" has the labels version: v2",
        ),
        (
            &routed("", "{split: [{pool: p, weight: 1, subset: {version: v2}}]}"),
            "routes[0].rules[0].split[0].subset: no endpoint of the pool \"p\" has the labels version: v2",
        ),
        (
            &routed("balance: {subset_fallback: any}", "{pool: p}"),
            "pools[0].balance.subset_fallback: is not used: no route names a subset",
        ),
        (
            &routed("", &many.join(", ")),
            "routes[0].rules[64].subset: routes name 64 other subsets of the pool \"p\" before it",
        ),
    ]);
}

#[test]
fn labels_are_not_asked_of_dns() {
    let found = |zone: &str| {
        format!("pools: [{{name: p, discovery: {{dns: {{name: a.test, port: 1}}}}{zone}}}]\nroutes: [{{name: r, rules: [{{pool: p, subset: {{version: v1}}}}]}}]")
    };

    each_is_reported(&[
        (
            &found(""),
            "routes[0].rules[0].subset: asks for labels, and DNS gives the endpoints of the pool \"p\" none",
        ),
        (
            &found(", balance: {zone: {own: a}}"),
            "pools[0].balance.zone: reads labels, and DNS gives endpoints none",
        ),
    ]);
}

#[test]
fn tables_of_all_subsets_and_levels_are_bounded() {
    let rules = |count: usize| {
        let rule = |at: usize| {
            format!("{{match: [{{path: {{exact: '/{at}'}}}}], pool: p, subset: {{a: '{at}'}}}}")
        };
        let rules: Vec<String> = (0..count).map(rule).collect();
        format!("routes: [{{name: r, rules: [{}]}}]", rules.join(", "))
    };
    let pool = |balance: &str| {
        format!(
            "pools: [{{name: p, discovery: {{file: {{path: e.yaml}}}}, balance: {{{balance}}}}}]"
        )
    };
    let beyond = |at: usize| {
        format!("routes[0].rules[{at}].subset: routes name {at} other subsets of the pool \"p\" before it; each has a hash table")
    };

    for (balance, most) in [
        ("algorithm: maglev", 31),
        ("affinity: {header: x-user}", 31),
        ("algorithm: ketama, zone: {own: a, failover: [b, c]}", 7),
    ] {
        let within = format!("{}\n{}", pool(balance), rules(most));
        let above = format!("{}\n{}", pool(balance), rules(most + 1));

        assert_eq!(reported(&within), "", "{balance}");
        each_is_reported(&[(&above, &beyond(most))]);
    }
    let without = format!("{}\n{}", pool("algorithm: ewma"), rules(64));
    assert_eq!(reported(&without), "");
}

#[test]
fn what_an_address_decides_leaves_nothing_to_the_algorithm() {
    balanced(&[
        (
            "algorithm: random, affinity: {address: true}",
            "algorithm: is not used beside `affinity: {address: true}`",
        ),
        (
            "choices: 3, affinity: {address: true}",
            "choices: is not used beside",
        ),
        (
            "slow_start: 5s, affinity: {address: true}",
            "slow_start: is not used beside",
        ),
    ]);
}

#[test]
fn what_can_be_used_is_accepted() {
    let found = reported(&format!(
        "{}\nroutes: [{{name: r, rules: [{{pool: p, subset: {{version: v1}}}}]}}]",
        pool("balance: {choices: all, slow_start: 1m, panic_threshold: 0%, zone: {own: b, failover: [a]}, affinity: {cookie: {name: s, ttl: 1h, same_site: none}}, subset_fallback: any}, connections: {max_age: 1h}")
    ));

    assert_eq!(found, "");
}
