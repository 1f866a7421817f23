mod at_once;

use proptest::prelude::*;
use windrose_plugins::BUILTIN;

use super::*;
use crate::config::{manual, print};

fn refusal(text: &str) -> String {
    let report = load_text("gw.yaml", text, BUILTIN).expect_err("must be refused");
    report.to_string()
}

const GOOD: &str = r#"
listeners:
  - name: web
    bind: 127.0.0.1:0
pools:
  - name: api
    endpoints: ["127.0.0.1:1", {address: "127.0.0.1:2", weight: 2}]
    balance: {algorithm: maglev, hash: {header: x-user}}
    health: {tcp: {}}
routes:
  - name: all
    rules:
      - match: [{path: {prefix: /}, headers: {x: {present: true}}}]
        pool: api
        plugins: [login, {kind: request_id}]
plugins:
  login:
    kind: respond
    config: {status: 403, body: "${env:WINDROSE_UNSET_TOKEN:-sesame}"}
"#;

#[test]
fn a_good_configuration_loads_and_is_shown_without_secrets() {
    let loaded = match load_text("gw.yaml", GOOD, BUILTIN) {
        Ok(loaded) => loaded,
        Err(report) => panic!("{report}"),
    };

    let shown = print::show(&loaded);

    let again = load_text("again.yaml", &shown, BUILTIN);
    assert!(again.is_ok(), "{}\n{shown}", again.unwrap_err());
    assert!(shown.contains("header: x-user"), "{shown}");
    assert_eq!(loaded.config.pools[0].endpoints.len(), 2);
    assert!(
        !shown.contains("sesame") && shown.contains("body: '[redacted]'"),
        "{shown}"
    );
    assert!(shown.contains("drain_timeout: 30s"), "{shown}");
}

#[test]
fn all_problems_are_told_in_the_order_of_the_text() {
    let text = r#"listeners:
  - name: web
    bnd: 127.0.0.1:0
    role: ingres
    trusted_proxies: [10.0.0.0/99]
    limits: {header_timeout: 5}
pools:
  - name: api
    endpoints: "127.0.0.1:1"
    balance: {algorithm: maglv, hash: header}
    ejection: {base_time: 5 parsecs}
  - name: other
    ejection: {base_time: soon}
    tls: {sni: x, verify: nothing}
  - name: third
    ejection: {base_time: later}
routes:
  - name: all
    rules:
      - match: [{path: {prefx: /}}]
      - redirect: {status: 70000}
      - body_limit: huge
plugins:
  p: {kind: respnd}
  q: {kind: respond, config: {statu: 403}}
tests:
  - request: {url: "http://x/", from: nobody}
    expect: {}
"#;
    let refused = refusal(text);

    assert_eq!(refused, include_str!("golden.txt").trim_end());
}

#[test]
fn secrets_do_not_appear_in_complaints() {
    let text = refusal("pools: [{name: a, ejection: {base_time: \"${env:WINDROSE_UNSET_KEY:-sesame}\"}, protocol: \"${env:WINDROSE_UNSET_KEY:-sesame}\"}]\nserver: {drain_timeout: \"${env:WINDROSE_UNSET_KEY:-sesame}\"}\n");
    assert!(!text.contains("sesame"), "{text}");
}

#[test]
fn numbers_where_text_belongs_are_explained() {
    let text = refusal("listeners: [{name: a, bind: 80, tls: {min_version: 1.2}}]");
    assert!(
        text.contains("expected text, found 80\n  help: put it in quotes"),
        "{text}"
    );
    assert!(text.contains("help: put it in quotes: \"1.2\""), "{text}");
}

#[test]
fn the_schema_for_editors_knows_each_plugin_and_resolves() {
    let schema = print::json_schema(BUILTIN);
    let text = schema.to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(schema.pointer(pointer).is_some(), "{pointer}");
    }
    assert_eq!(
        schema["$defs"]["PluginInstance"]["allOf"]
            .as_array()
            .unwrap()
            .len(),
        BUILTIN.len()
    );
}

#[test]
fn every_plugin_has_a_manual_and_its_example_passes_the_check() {
    for plugin in BUILTIN {
        assert!(manual::plugin_list(BUILTIN).contains(plugin.about));
        assert!(manual::plugin_manual(plugin).contains("example:"));
        let example: String = plugin
            .example
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        let text = format!(
            "plugins:\n  x:\n    kind: {}\n    config:\n{example}",
            plugin.kind
        );
        if let Err(report) = load_text("x.yaml", &text, BUILTIN) {
            panic!("{text}\n{report}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = load_text("x.yaml", &text, BUILTIN);
    }

    #[test]
    fn no_text_of_yaml_marks_panics(text in "(listeners|routes|plugins|kind|a|1|[-:?,#&*!|>%@'\"{}\\[\\] \n\t]){0,60}") {
        let _ = load_text("x.yaml", &text, BUILTIN);
    }

    #[test]
    fn no_shape_of_value_panics(keys in prop::collection::vec("(listeners|routes|pools|plugins|server|tests|include|observe)", 1..4), value in "(\\[|\\{|a: |kind: cors|config: |rules: |\\]|\\}|, |1|x){0,30}") {
        let text: String = keys.iter().map(|key| format!("{key}: {value}\n")).collect();
        let _ = load_text("x.yaml", &text, BUILTIN);
    }
}
