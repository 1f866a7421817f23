//! Every rule of mirrors, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

fn of_rule(rule: &str) -> String {
    format!(
        "pools: [{{name: p, endpoints: ['10.0.0.1:1']}}, {{name: q, endpoints: ['10.0.0.1:1']}}, {{name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}}, {{name: y, proxy_protocol: v2, endpoints: ['10.0.0.1:1']}}]
listeners: [{{name: web, bind: '127.0.0.1:1'}}, {{name: raw, bind: '127.0.0.1:2', protocol: tcp}}]
routes: [{{name: r, {rule}}}]"
    )
}

#[test]
fn mirrors_can_be_carried_out() {
    for (mirrors, expected) in MIRRORS {
        let rule = format!("rules: [{{pool: p, mirror: [{mirrors}]}}]");
        let expected = format!("routes[0].rules[0].mirror{expected}");
        each_is_reported(&[(&of_rule(&rule), &expected)]);
    }
}

#[test]
fn a_mirror_is_used_only_where_requests_go_on() {
    for (rule, expected) in [
        (
            "rules: [{respond: {status: 200}, mirror: [{pool: q, percent: 1%}]}]",
            "mirror: is not used by the action `respond`",
        ),
        (
            "protocol: tcp, listeners: [raw], rules: [{pool: t, mirror: [{pool: q, percent: 1%}]}]",
            r#"mirror: is not used by a route with protocol "tcp""#,
        ),
    ] {
        let expected = format!("routes[0].rules[0].{expected}");
        each_is_reported(&[(&of_rule(rule), &expected)]);
    }
}

#[test]
fn a_share_of_a_thousandth_keeps_every_rule() {
    let found = reported(&of_rule(
        "rules: [{pool: p, mirror: [{pool: q, percent: 0.1%, compare: {body: json, ignore: [/a]}}]}]",
    ));

    assert_eq!(found, "");
}

const MIRRORS: &[(&str, &str)] = &[
    (
        "{pool: x, percent: 1%}",
        r#"[0].pool: no pool is named "x""#,
    ),
    (
        "{pool: q, percent: 1%}, {pool: q, percent: 2%}",
        r#"[1].pool: "q" is mirrored to already"#,
    ),
    (
        "{pool: t, percent: 1%}",
        r#"[0].pool: the pool "t" has protocol "tcp""#,
    ),
    (
        "{pool: y, percent: 1%}",
        r#"[0].pool: the pool "y" has `proxy_protocol`"#,
    ),
    (
        "{pool: q, percent: 1%, body_limit: 2MiB}",
        "[0].body_limit: must be at most 1MiB, found 2MiB",
    ),
    (
        "{pool: q, percent: 0%}",
        r#"[0].percent: must be at least 0.01%, found "0%""#,
    ),
    (
        "{pool: q, percent: 1%, timeout: 0s}",
        "[0].timeout: must be longer than 0s",
    ),
    (
        "{pool: q, percent: 1%, timeout: 6m}",
        "[0].timeout: must be at most 5m, found 6m",
    ),
    (
        "{pool: q, percent: 1%, concurrency: 0}",
        "[0].concurrency: must be from 1 to 10000, found 0",
    ),
    (
        "{pool: q, percent: 1%, queue: 10001}",
        "[0].queue: must be from 0 to 10000, found 10001",
    ),
    (
        "{pool: q, percent: 1%, compare: {headers: ['a b']}}",
        r#"[0].compare.headers[0]: "a b" is not a header name"#,
    ),
    (
        "{pool: q, percent: 1%, compare: {body: json, ignore: [a]}}",
        r#"[0].compare.ignore[0]: "a" is not a JSON pointer"#,
    ),
    (
        "{pool: q, percent: 1%, compare: {body: bytes, ignore: [/a]}}",
        "[0].compare.ignore: is used only when bodies are compared as JSON",
    ),
    (
        "{pool: q, percent: 1%, compare: {body_limit: 2MiB}}",
        "[0].compare.body_limit: must be at most 1MiB, found 2MiB",
    ),
    (
        "{pool: q, percent: 1%, compare: {status: false, latency: false}}",
        "[0].compare: compares nothing",
    ),
    (
        "{pool: p, percent: 1%}, {pool: q, percent: 1%}, {pool: p, percent: 1%}, {pool: p, percent: 1%}, {pool: p, percent: 1%}, {pool: p, percent: 1%}, {pool: p, percent: 1%}, {pool: p, percent: 1%}, {pool: p, percent: 1%}",
        ": has 9 entries, more than 8",
    ),
];
