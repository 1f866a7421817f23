//! Every rule provoked once, and the reference configuration held to all of them.
//! It must not test decoding; snippets are decoded plainly.
//! Run by `cargo test`.

use std::collections::BTreeSet;

use super::*;

const REFERENCE: &str = include_str!("../../../conf/reference.yaml");

fn decode(yaml: &str) -> Config {
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
