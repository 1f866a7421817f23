//! Every rule provoked once, and the reference configuration held to all of them.
//! It must not test decoding; snippets are decoded without it.
//! Run by `cargo test`.

mod actions;
mod balance;
mod consumers;
mod fault;
mod identity;
mod limits;
mod listeners;
mod mirror;
mod policies;
mod pools;
mod redis;
mod retry;
mod routes;
mod split;

use std::collections::BTreeSet;

use super::*;

pub(in crate::config) const REFERENCE: &str = include_str!("../../../../conf/reference.yaml");

pub(in crate::config) fn decode(yaml: &str) -> Config {
    // By way of JSON, because plain serde_yaml wants tags where the schema has maps of one key.
    let value: serde_json::Value =
        serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn reported(yaml: &str) -> String {
    let mut report = Report::new();
    check(&decode(yaml), &mut report);
    report.to_string()
}

#[test]
fn an_empty_configuration_keeps_every_rule() {
    assert_eq!(reported("{}"), "");
}

#[test]
fn the_reference_keeps_every_rule() {
    assert_eq!(reported(REFERENCE), "");
}

#[test]
fn the_reference_has_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let mut keys = BTreeSet::new();
    keys_of(&schema, &mut keys);

    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| {
            let written = format!("{key}:");
            !REFERENCE.lines().any(|line| {
                // Of things that exclude each other, all but one are commented out.
                let line = line.trim_start().trim_start_matches("# ");
                let line = line.trim_start().trim_start_matches("- ");
                line.starts_with(&written)
            })
        })
        .collect();

    assert!(keys.len() > 100, "{keys:?}");
    assert_eq!(missing, Vec::<&String>::new());
}

fn keys_of(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::Object(properties)) = fields.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| keys_of(value, keys));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}

fn each_is_reported(cases: &[(&str, &str)]) {
    each_is_found(reported, cases);
}

/// Whether each snippet leads to a finding that begins as expected.
pub(in crate::config) fn each_is_found(reported: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (yaml, expected) in cases {
        let found = format!("\n{}", reported(yaml));

        let line = format!("\n{expected}");
        let warning = format!("\nwarning: {expected}");
        assert!(
            found.contains(&line) || found.contains(&warning),
            "{yaml}\nexpected: {expected}\nfound: {found}"
        );
    }
}

#[test]
fn a_pool_has_at_most_ten_thousand_endpoints() {
    let entry = |at: usize| format!("'10.0.{}.{}:1'", at / 256, at % 256);
    let entries: Vec<String> = (0..10_001).map(entry).collect();

    let found = reported(&format!(
        "pools: [{{name: p, endpoints: [{}]}}]",
        entries.join(", ")
    ));

    assert!(
        found.starts_with("pools[0].endpoints: has 10001 entries"),
        "{found}"
    );
}

#[test]
fn port_0_can_be_bound_twice() {
    let found =
        reported("listeners: [{name: a, bind: '127.0.0.1:0'}, {name: b, bind: '127.0.0.1:0'}]");

    assert_eq!(found, "");
}
