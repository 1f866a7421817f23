//! Every rule of splits, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

/// A configuration whose only rule is this.
fn of_rule(rule: &str) -> String {
    format!(
        "pools: [{{name: p, endpoints: ['10.0.0.1:1']}}, {{name: q, endpoints: ['10.0.0.1:1']}}, {{name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}}, {{name: u, protocol: tcp, endpoints: ['10.0.0.1:1']}}]
listeners: [{{name: web, bind: '127.0.0.1:1'}}, {{name: raw, bind: '127.0.0.1:2', protocol: tcp}}]
routes: [{{name: r, {rule}}}]"
    )
}

#[test]
fn splits_can_be_carried_out() {
    for (rule, expected) in SPLITS {
        let expected = format!("routes[0].rules[0].{expected}");
        each_is_reported(&[(&of_rule(rule), &expected)]);
    }
}

#[test]
fn connections_can_stick_to_a_share_by_address() {
    let found = reported(&of_rule(
        "protocol: tcp, listeners: [raw], rules: [{split: [{pool: t, weight: 1}, {pool: u, weight: 1}], sticky: client_ip}]",
    ));

    assert_eq!(found, "");
}

#[test]
fn a_split_has_at_most_64_shares() {
    let share = |at: usize| format!("{{pool: p, weight: 1, name: n{at}}}");
    let shares: Vec<String> = (0..65).map(share).collect();

    let found = reported(&of_rule(&format!(
        "rules: [{{split: [{}]}}]",
        shares.join(", ")
    )));

    let expected = "routes[0].rules[0].split: has 65 entries, more than 64";
    assert!(found.contains(expected), "{found}");
}

const SPLITS: &[(&str, &str)] = &[
        (
            "rules: [{split: [{pool: p, weight: 1, name: A}]}]",
            r#"split[0].name: the name "A" is empty or has characters that names cannot have"#,
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}, {pool: q, weight: 1, name: p}]}]",
            r#"split[1].name: a share is named "p" already"#,
        ),
        (
            "rules: [{pool: p, sticky: client_ip}]",
            "sticky: is used only with `split`",
        ),
        (
            "rules: [{pool: p, override: {header: a}}]",
            "override: is used only with `split`",
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], sticky: {header: 'a b'}}]",
            r#"sticky.header: "a b" is not a header name"#,
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], sticky: {cookie: 'a b'}}]",
            r#"sticky.cookie: "a b" is not a cookie name"#,
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], sticky: {query: ''}}]",
            "sticky.query: must not be empty",
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {}}]",
            "override: names no places for the name of a share",
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {header: a, cookie: b}}]",
            "override: names 2 places for the name of a share",
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {header: 'a b'}}]",
            r#"override.header: "a b" is not a header name"#,
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {cookie: 'a b'}}]",
            r#"override.cookie: "a b" is not a cookie name"#,
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {header: a, principals: ['*b']}}]",
            r#"override.principals[0]: "*b" has a `*` that is not its last character"#,
        ),
        (
            "protocol: tcp, listeners: [raw], rules: [{split: [{pool: t, weight: 1}], sticky: {cookie: a}}]",
            "sticky: reads requests, and this route carries bytes",
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {header: a}}]",
            "override: nothing guards it, so every stranger could choose a share",
        ),
        (
            "rules: [{split: [{pool: p, weight: 1}], override: {header: a, clients: [10.0.0.0/8], everyone: true}}]",
            "override.everyone: is said of an override that is guarded",
        ),
        (
            "protocol: tcp, listeners: [raw], rules: [{split: [{pool: t, weight: 1}], override: {header: a}}]",
            r#"override: is not used by a route with protocol "tcp""#,
        ),
];
