//! Every lint provoked, and the near misses that must stay silent.
//! It must not test rules; snippets may break them.
//! Run by `cargo test`.

use super::*;
use crate::config::rules::tests::{decode, each_is_found, REFERENCE};

fn reported(yaml: &str) -> String {
    let mut report = Report::new();
    check(&decode(yaml), &mut report);
    assert!(!report.has_errors());
    report.to_string()
}

fn each_is_reported(cases: &[(&str, &str)]) {
    each_is_found(reported, cases);
}

#[test]
fn routes_that_never_win() {
    each_is_reported(ROUTES_THAT_NEVER_WIN);
}

#[test]
fn plugins_that_never_run() {
    each_is_reported(PLUGINS_THAT_NEVER_RUN);
}

#[test]
fn times_and_retries() {
    each_is_reported(TIMES_AND_RETRIES);
}

#[test]
fn trust_and_pools() {
    each_is_reported(TRUST_AND_POOLS);
}

#[test]
fn policies_that_hardly_mean_it() {
    each_is_reported(POLICIES_THAT_HARDLY_MEAN_IT);
}

#[test]
fn policies_for_services_that_nothing_leads_to() {
    let found = |to: &str| {
        let mut config = decode(&format!("listeners: [{{name: out, bind: '127.0.0.1:1', role: mesh-outbound}}, {{name: in, bind: '127.0.0.1:2', role: mesh-inbound}}]\nservices: [{{name: pay, ports: [{{port: 80}}], endpoints: [10.0.0.1]}}]\nroutes: [{{name: more, listeners: [in], rules: [{{pool: pay}}]}}]\npolicies: [{{name: one, action: allow, to: {{services: [pay]{to}}}, rules: [{{from: {{clients: [10.0.0.0/8]}}}}]}}]"));
        crate::config::services::generate(&mut config);
        let mut report = Report::new();
        check(&config, &mut report);
        report
            .to_string()
            .contains("policies[0].to: [policy_for_nothing]")
    };

    let (fitting, unfit) = (
        [
            "",
            ", listeners: [out]",
            ", listeners: [in]",
            ", routes: [more]",
            ", pools: [pay]",
        ],
        [", listeners: [in], routes: [pay]", ", pools: [other]"],
    );
    for to in fitting {
        assert!(!found(to), "{to}");
    }
    for to in unfit {
        assert!(found(to), "{to}");
    }
}

#[test]
fn the_reference_raises_no_doubt() {
    assert_eq!(reported(REFERENCE), "");
}

#[test]
fn doubts_without_reason_are_not_raised() {
    for (yaml, lint) in SILENT {
        let found = reported(yaml);
        assert!(!found.contains(lint), "{yaml}\nfound: {found}");
    }
}

const POLICIES_THAT_HARDLY_MEAN_IT: &[(&str, &str)] = &[
    (
        "policies: [{name: a, action: allow}]",
        "policies[0].rules: [policy_without_rules] a policy that allows",
    ),
    (
        "policies: [{name: a, action: deny}]",
        "policies[0].rules: [policy_without_rules] a policy that denies",
    ),
    (
        "policies: [{name: a, action: deny, rules: [{}]}]",
        "policies[0]: [deny_everything] refuses every request",
    ),
    (
        "authorization: {default: deny}\npolicies: [{name: a, action: allow, mode: audit, rules: [{}]}]",
        "authorization.default: [deny_everything] no policy allows",
    ),
    (
        "policies: [{name: a, action: allow, rules: [{when: {headers: {x-team: shop}}}]}]",
        "policies[0].rules[0].when.headers: [header_as_proof]",
    ),
    (
        "policies: [{name: a, action: allow, rules: [{from: {namespaces: [a, b]}}, {from: {namespaces: [b]}, when: {methods: [GET]}}]}]",
        "policies[0].rules[1]: [unreachable_policy_rule] never decides: policies[0].rules[0]",
    ),
    (
        "policies: [{name: a, action: allow, rules: [{from: {namespaces: [b]}}]}, {name: d, action: deny, rules: [{from: {namespaces: [b]}}]}]",
        "policies[0].rules[0]: [unreachable_policy_rule] never decides: policies[1].rules[0]",
    ),
    (
        "identity: {trust_domain: mesh.test, source: {files: {bundle: b.pem}}, workloads: []}\npolicies: [{name: a, action: allow, rules: [{from: {principals: ['spiffe://mehs.test/*']}}]}]",
        "policies[0].rules[0].from.principals[0]: [unknown_trust_domain] nobody of \"mehs.test\"",
    ),
    (
        "pools: [{name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]\nlisteners: [{name: raw, bind: '127.0.0.1:2', protocol: tcp}]\nroutes: [{name: r, protocol: tcp, rules: [{pool: t}]}]\npolicies: [{name: a, action: deny, rules: [{when: {methods: [GET]}}]}]",
        "policies[0].rules[0].when: [http_policy_on_bytes] asks about HTTP",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]\nlisteners: [{name: any, bind: '127.0.0.1:2', protocol: auto}]\nroutes: [{name: r, rules: [{pool: p}]}, {name: raw, protocol: tcp, rules: [{pool: t}]}]\npolicies: [{name: a, action: deny, to: {routes: [r]}, rules: [{when: {methods: [GET]}}]}]",
        "policies[0].to.routes: [policy_passed_by] route \"r\" is for requests, and listener \"any\" leads to the same place with bytes, by route \"raw\"",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1']}]\nlisteners: [{name: any, role: mesh-inbound, bind: '127.0.0.1:2', protocol: auto, capture: redirect, unknown: passthrough}]\nroutes: [{name: r, listeners: [any], rules: [{pool: p}]}]\npolicies: [{name: a, action: deny, to: {routes: [r]}, rules: [{when: {methods: [GET]}}]}]",
        "policies[0].to.routes: [policy_passed_by] route \"r\" is for requests, and listener \"any\" leads to the same place with bytes, by `unknown: passthrough`",
    ),
];

const ROUTES_THAT_NEVER_WIN: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p},{pool: p}]}]"#,
        r#"routes[0].rules[1]: [shadowed_route] is never used: routes[0].rules[0] matches"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {exact: /a}}]}, {pool: p, match: [{path: {exact: /a}, clients: [10.0.0.0/8]}]}]}]"#,
        r#"routes[0].rules[1]: [shadowed_route]"#,
    ),
];

const PLUGINS_THAT_NEVER_RUN: &[(&str, &str)] = &[
    (
        "consumers: [{name: ann, keys: ['00'], password: x}]",
        "consumers[0].keys: [unused_credentials] nothing asks for it: there is no `key_auth` plugin",
    ),
    (
        "routes: [{name: r, rules: [{respond: {status: 200}, plugins: [{kind: quota, config: {limit: 1, per: day}}]}]}]",
        "routes[0].rules[0].plugins[0]: [local_quota] counts in this process only",
    ),
    (
        "redis: [{name: a, url: 'redis://h'}, {name: b, url: 'redis://h'}]\nplugins: {l: {kind: rate_limit, config: {rate: 1, store: a}}}",
        "redis[1]: [unused_store] no plugin has `store: b`",
    ),
    (
        "consumers: [{name: ann, certificates: [{dns: a}]}]",
        "consumers[0].certificates: [unused_credentials] nothing asks for it: there is no `mtls_auth` plugin",
    ),
    (
        "consumers: [{name: ann, password: x}]\nplugins: {k: {kind: key_auth}}",
        "consumers[0].password: [unused_credentials] nothing asks for it",
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, plugins: [{kind: respond}, {kind: cors}]}]}]"#,
        r#"routes[0].rules[0].plugins[1]: [unreachable_plugin] never runs: routes[0].rules[0].plugins[0] answers"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, plugins: [{kind: respond, config: {percent: 100%}}], rules: [{pool: p, plugins: [{kind: cors}]}]}]"#,
        r#"routes[0].rules[0].plugins[0]: [unreachable_plugin] never runs: routes[0].plugins[0] answers"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', plugins: [r, {kind: cors}]}]
plugins: {r: {kind: respond}}"#,
        r#"listeners[0].plugins[1]: [unreachable_plugin] never runs: listeners[0].plugins[0] answers"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, plugins: [{kind: cors, mode: 'off'}]}]}]"#,
        r#"routes[0].rules[0].plugins[0]: [unreachable_plugin] never runs: its mode is "off""#,
    ),
    (
        r#"plugins: {c: {kind: cors}}"#,
        r#"plugins.c: [unused_plugin] no listener, route or rule uses "c""#,
    ),
];

const TIMES_AND_RETRIES: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, retry: {methods: [GET, POST]}}]}]"#,
        r#"routes[0].rules[0].retry.methods[1]: [unsafe_retry] "POST""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, retry: {methods: [PATCH]}}]}]"#,
        r#"routes[0].rules[0].retry.methods[0]: [unsafe_retry] "PATCH""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, timeouts: {response_header: 9s, request: 5s}, rules: [{pool: p}]}]"#,
        r#"routes[0].timeouts.response_header: [timeout_longer_than_parent] response_header (9s) is longer than request (5s)"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, timeouts: {request: 5s}, rules: [{pool: p, timeouts: {response_header: 9s}}]}]"#,
        r#"routes[0].rules[0].timeouts.response_header: [timeout_longer_than_parent]"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, timeouts: {response_header: 9s}, rules: [{pool: p, timeouts: {request: 5s}}]}]"#,
        r#"routes[0].rules[0].timeouts.request: [timeout_longer_than_parent]"#,
    ),
];

const TRUST_AND_POOLS: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1'], limits: {requests: 1, pending: 1, queue_timeout: 5s}}]
routes: [{name: r, timeouts: {request: 2s}, rules: [{pool: p}]}]"#,
        r#"routes[0].rules[0]: [timeout_longer_than_parent] queue_timeout (5s) of pool "p" is longer than request (2s)"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', trusted_proxies: [10.0.0.0/8, 0.0.0.0/0]}]"#,
        r#"listeners[0].trusted_proxies[1]: [trust_everyone] "0.0.0.0/0""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', proxy_protocol: {mode: use, trusted: ['::/0']}}]"#,
        r#"listeners[0].proxy_protocol.trusted[0]: [trust_everyone] "::/0""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], }]"#,
        r#"pools[0]: [lonely_pool] "p" has one endpoint and no health check"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], }]"#,
        r#"pools[0]: [unused_pool] no rule sends anything to "p""#,
    ),
    (
        r#"pools: [{name: p, endpoints: [{address: '10.0.0.1:1', labels: {zone: a}}], balance: {zone: {own: b, failover: [a, c]}}}]"#,
        r#"pools[0].balance.zone.own: [empty_zone] no endpoint of "p" is in the zone "b""#,
    ),
    (
        r#"pools: [{name: p, endpoints: [{address: '10.0.0.1:1', labels: {zone: a}}], balance: {zone: {own: a, failover: [c]}}}]"#,
        r#"pools[0].balance.zone.failover[0]: [empty_zone] no endpoint of "p" is in the zone "c""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], balance: {affinity: {cookie: {name: s}}}}, {name: q, endpoints: ['10.0.0.1:1'], balance: {affinity: {cookie: {name: s}}}}]
routes: [{name: r, rules: [{split: [{pool: p, weight: 1}, {pool: q, weight: 1}]}]}]"#,
        r#"routes[0].rules[0].split[1].pool: [shared_cookie] keeps clients by the cookie "s" as "p" does"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], tls: {sni: a, verify: none}}]"#,
        r#"pools[0].tls.verify: [verify_none]"#,
    ),
];

const SILENT: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], balance: {affinity: {cookie: {name: s}}}}, {name: q, endpoints: ['10.0.0.1:1'], balance: {affinity: {cookie: {name: t}}}}]
routes: [{name: r, rules: [{split: [{pool: p, weight: 1, subset: {a: b}, name: x}, {pool: p, weight: 1}, {pool: q, weight: 1}]}]}]"#,
        r#"shared_cookie"#,
    ),
    (
        r#"pools: [{name: p, discovery: {file: {path: e.yaml}}, balance: {zone: {own: b, failover: [a, c]}}}]"#,
        r#"empty_zone"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{method: GET}]}, {pool: p}]}]"#,
        r#"shadowed"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}, {pool: p, match: [{method: GET}]}]}]"#,
        r#"shadowed"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{clients: [10.0.0.0/8]}]}, {pool: p}]}]"#,
        r#"shadowed"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {exact: /a}}]}, {pool: p, match: [{path: {exact: /a}}, {path: {exact: /b}}]}]}]"#,
        r#"shadowed"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: a, hosts: [a], rules: [{pool: p}]}, {name: b, hosts: [b], rules: [{pool: p}]}, {name: c, rules: [{pool: p}]}]"#,
        r#"shadowed"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, plugins: [{kind: respond, config: {percent: 5%}}, {kind: respond, mode: shadow}, {kind: cors}]}]}]"#,
        r#"unreachable"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, retry: {on: [connect_failure], methods: [POST]}}]}]"#,
        r#"unsafe_retry"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, timeouts: {request: 5s}, rules: [{pool: p, timeouts: {response_header: 9s, request: 0s}}]}]"#,
        r#"timeout_longer"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}}}]"#,
        r#"lonely"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{split: [{pool: p, weight: 1}]}]}]"#,
        r#"unused_pool] no rule sends anything to "p""#,
    ),
    (
        r#"listeners: [{name: out, bind: '127.0.0.1:1', role: mesh-outbound}]
services: [{name: shop, ports: [{port: 80}, {port: 81}], endpoints: [10.0.0.5, 10.0.0.6]}]"#,
        r#"shadowed"#,
    ),
];
