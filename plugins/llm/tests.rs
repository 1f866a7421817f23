//! What `llm` does with a request and its answer, hook by hook, and with a store.
//! It must not repeat what the parts' own tests say.
//! Part of `llm`.

mod budgets;
mod streams;

use std::time::Duration;

use super::*;
use crate::testkit::{answered, field, fields, went_on, Exchange, Instance, Kit};

fn ask(body: &str) -> Exchange {
    Exchange::new("POST", "http://llm.test/v1/chat/completions").with_body(body.to_owned())
}

/// Lets an answer pass, in these pieces; what the client gets.
fn answers(plugin: &Instance, exchange: &mut Exchange, kind: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let media = kind.to_owned();
    exchange
        .response
        .insert_header("content-type", media)
        .unwrap();
    assert!(went_on(&plugin.upstream_request(exchange)));
    assert!(went_on(&plugin.response(exchange)));
    let mut got = Vec::new();
    for bytes in pieces {
        let mut piece = Some(Bytes::copy_from_slice(bytes));
        assert!(went_on(&plugin.response_body(exchange, &mut piece, false)));
        got.extend(piece.unwrap_or_default());
    }
    let mut piece = None;
    assert!(went_on(&plugin.response_body(exchange, &mut piece, true)));
    got.extend(piece.unwrap_or_default());
    plugin.finish(exchange, Duration::from_secs(1));
    got
}

const USAGE: &str = r#"{"id":"x","model":"gpt","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42}}"#;

fn body_of(exchange: &Exchange) -> serde_json::Value {
    serde_json::from_slice(exchange.body()).unwrap()
}

#[test]
fn tokens_are_counted_by_the_models_of_the_settings() {
    let kit = Kit::new();
    let listed = kit.instance(&PLUGIN, "models: [{name: large, as: gpt-4o}]");
    let mut exchange = ask(r#"{"model":"large"}"#);
    assert!(went_on(&listed.request(&mut exchange)));

    let got = answers(
        &listed,
        &mut exchange,
        "application/json",
        &[USAGE.as_bytes()],
    );

    assert_eq!(got, USAGE.as_bytes());
    assert_eq!(body_of(&exchange)["model"], "gpt-4o");
    assert_eq!(kit.counted_of("prompt_tokens", "large"), 30);
    assert_eq!(kit.counted_of("completion_tokens", "large"), 12);
    assert_eq!(kit.counted_of("requests", "large"), 1);
    let notes = [
        ("llm_model", Said::Text("large".into())),
        ("llm_prompt_tokens", Said::Number(30)),
        ("llm_completion_tokens", Said::Number(12)),
        ("llm_usage", Said::Text("told".into())),
    ];
    assert_eq!(exchange.notes, notes);

    let any = kit.build_as("any", &PLUGIN, "max_tokens: 100").unwrap();
    let mut exchange = ask(r#"{"model":"whatever\u0000"}"#);
    assert!(went_on(&any.request(&mut exchange)));
    answers(
        &any,
        &mut exchange,
        "application/json; charset=utf-8",
        &[USAGE.as_bytes()],
    );
    assert_eq!(kit.counted_of("requests", "other"), 1);
}

#[test]
fn only_models_that_are_listed_are_asked() {
    let plugin = Kit::new().instance(&PLUGIN, "models: [{name: large}]");
    for model in ["Large", "large ", "gpt-4o", ""] {
        let answer = answered(plugin.request(&mut ask(&format!(r#"{{"model":"{model}"}}"#))));
        assert_eq!(
            (answer.status, answer.cause.name),
            (404, "llm.model_refused")
        );
        let (media, body) = answer.body.unwrap();
        assert_eq!(media, "application/json");
        let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(error["error"]["code"], "model_not_found");
    }
    let mut anthropic = Exchange::new("POST", "http://llm.test/v1/messages")
        .with_body(r#"{"model":"x","max_tokens":1}"#);
    let (_, body) = answered(plugin.request(&mut anthropic)).body.unwrap();
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&error["type"], &error["error"]["type"]),
        (&"error".into(), &"not_found_error".into())
    );
}

#[test]
fn what_is_no_request_of_these_apis_is_refused_or_passed() {
    let kit = Kit::new();
    let strict = kit.instance(&PLUGIN, "models: [{name: a}]\nbody_limit: 64B");
    let cause = |exchange: &mut Exchange| answered(strict.request(exchange)).cause.name;

    assert_eq!(
        cause(&mut Exchange::get("http://llm.test/v1/models")),
        "llm.unknown_api"
    );
    assert_eq!(cause(&mut ask("not json")), "llm.malformed");
    assert_eq!(
        cause(&mut ask(r#"{"model":"a","model":"b"}"#)),
        "llm.malformed"
    );
    assert_eq!(
        cause(&mut ask(r#"{"model":"a"}"#).with("content-encoding", "gzip")),
        "llm.malformed"
    );
    assert_eq!(
        cause(&mut ask(&format!(r#"{{"model":"{}"}}"#, "a".repeat(99)))),
        "llm.too_large"
    );
    let lax = kit
        .build_as("lax", &PLUGIN, "models: [{name: a}]\nothers: pass")
        .unwrap();
    assert!(went_on(
        &lax.request(&mut Exchange::get("http://llm.test/v1/models"))
    ));
}

#[test]
fn the_clients_key_ends_here_and_the_providers_goes_on() {
    let kit = Kit::new();
    let plugin = kit.instance(
        &PLUGIN,
        "providers: [{name: one, key: ' sk-1\n', host: api.one.test, headers: {x-version: '2'}}]",
    );
    let mut exchange = ask(r#"{"model":"m"}"#)
        .with("authorization", "Bearer mine")
        .with("authorization", "Bearer other")
        .with("x-api-key", "mine")
        .with("cookie", "a=b")
        .with("accept-encoding", "gzip");
    assert!(went_on(&plugin.request(&mut exchange)));

    assert!(went_on(&plugin.upstream_request(&mut exchange)));

    let sent = &exchange.upstream.headers;
    assert_eq!(fields(sent, "authorization"), ["Bearer sk-1"]);
    assert!(sent["authorization"].is_sensitive());
    assert_eq!(fields(sent, "host"), ["api.one.test"]);
    assert_eq!(fields(sent, "x-version"), ["2"]);
    assert_eq!(fields(sent, "accept-encoding"), ["identity"]);
    assert!(!sent.contains_key("x-api-key") && !sent.contains_key("cookie"));
    assert_eq!(kit.counted_of("attempts", "one"), 1);

    let mut told = ask(r#"{"model":"m"}"#)
        .with_response("x-ratelimit-remaining-requests", "7")
        .with_response("x-other", "1");
    assert!(went_on(&plugin.request(&mut told)));
    assert!(went_on(&plugin.response(&mut told)));
    assert!(!told
        .response
        .headers
        .contains_key("x-ratelimit-remaining-requests"));
    assert!(told.response.headers.contains_key("x-other"));
}

#[test]
fn each_attempt_has_the_key_and_the_model_of_its_endpoints_provider() {
    let plugin = Kit::new().instance(
        &PLUGIN,
        "models: [{name: large, as: gpt}]
providers:
- {name: one, endpoints: {at: one}, key: k1}
- {name: two, endpoints: {at: two}, key: k2, key_header: x-api-key, models: {large: 'claude-\"7\"'}}",
    );
    let mut exchange = ask(r#"{"model":"large","stream":false}"#);
    assert!(went_on(&plugin.request(&mut exchange)));
    let held = exchange.body().clone();
    exchange
        .request
        .insert_header("content-length", held.len())
        .unwrap();
    let mut sent = |at: &str, cut: usize| {
        exchange.labels.insert("at".to_owned(), at.to_owned());
        assert!(went_on(&plugin.upstream_request(&mut exchange)));
        let mut got = Vec::new();
        for bytes in held.chunks(cut) {
            let mut piece = Some(Bytes::copy_from_slice(bytes));
            assert!(went_on(&plugin.request_body(
                &mut exchange,
                &mut piece,
                false
            )));
            got.extend(piece.unwrap());
        }
        let head = exchange.upstream.headers.clone();
        assert_eq!(head["content-length"], got.len().to_string());
        let body: serde_json::Value = serde_json::from_slice(&got).unwrap();
        (head, body["model"].as_str().unwrap().to_owned())
    };

    for cut in [1, 7, 1000] {
        let (head, model) = sent("one", cut);
        assert_eq!(
            (&head["authorization"], &*model),
            (&"Bearer k1".parse().unwrap(), "gpt")
        );
        let (head, model) = sent("two", cut);
        assert_eq!(
            (&head["x-api-key"], &*model),
            (&"k2".parse().unwrap(), "claude-\"7\"")
        );
        assert!(!head.contains_key("authorization"));
    }
}

#[test]
fn an_endpoint_that_is_nobodys_gets_nothing() {
    let plugin = Kit::new().instance(
        &PLUGIN,
        "providers: [{name: one, endpoints: {at: one}, key: k1}]",
    );
    let mut exchange = ask(r#"{"model":"m"}"#).with("authorization", "Bearer mine");
    assert!(went_on(&plugin.request(&mut exchange)));

    let answer = answered(plugin.upstream_request(&mut exchange));

    assert_eq!((answer.status, answer.cause.name), (503, "llm.no_provider"));
}

#[test]
fn a_dry_run_neither_counts_nor_shows_keys() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "providers: [{name: one, key: secret-1}]");
    let mut exchange = ask(r#"{"model":"m"}"#).dry();
    assert!(went_on(&plugin.request(&mut exchange)));
    assert!(went_on(&plugin.upstream_request(&mut exchange)));
    assert_eq!(fields(&exchange.upstream.headers, "authorization"), ["***"]);

    let by_label = kit.build_as(
        "two",
        &PLUGIN,
        "providers: [{name: one, endpoints: {a: b}, key: k}]\nbudget: {limit: 1}",
    );
    let plugin = by_label.unwrap();
    let unknown = plugin.request(&mut ask(r#"{"model":"m"}"#).dry());
    assert!(matches!(unknown, Verdict::Unknown(what) if what.0.contains("budgets")));
    let unknown = plugin.upstream_request(&mut ask(r#"{"model":"m"}"#).dry());
    assert!(matches!(unknown, Verdict::Unknown(what) if what.0.contains("provider")));
    assert_eq!(kit.counted("attempts"), 0);
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, paths) in [
        ("{}", &[""][..]),
        ("body_limit: 1KiB", &[""]),
        (
            "{max_tokens: 0, max_tokens_as: max_tokens}",
            &["max_tokens"],
        ),
        (
            "{models: [{name: a}], max_tokens_as: max_tokens}",
            &["max_tokens_as"],
        ),
        (
            "models: [{name: a}, {name: a}, {name: other}]",
            &["models[1].name", "models[2].name"],
        ),
        ("{models: [{name: a}], body_limit: 65MiB}", &["body_limit"]),
        (
            "{models: [{name: a}], providers: [{name: p, models: {b: c}}]}",
            &["providers[0].models.b"],
        ),
        ("providers: [{name: p, key: ''}]", &["providers[0].key"]),
        (
            "providers: [{name: p, key: \"a\\nb\"}]",
            &["providers[0].key"],
        ),
        (
            "providers: [{name: p, key_header: x-key}]",
            &["providers[0].key_header"],
        ),
        (
            "providers: [{name: p, key: a, key_header: te}]",
            &["providers[0].key_header"],
        ),
        (
            "providers: [{name: p, host: 'a b'}]",
            &["providers[0].host"],
        ),
        (
            "providers: [{name: p, headers: {te: a}}]",
            &["providers[0].headers.te"],
        ),
        (
            "providers: [{name: p}, {name: p, endpoints: {a: b}}]",
            &["providers[1].name", "providers[1]"],
        ),
    ] {
        assert_eq!(Kit::new().problem_paths(&PLUGIN, config), paths, "{config}");
    }
    let problems = Kit::new().problems(&PLUGIN, "providers: [{name: p, key: \"s3cret\\n!\"}]");
    assert!(!format!("{problems:?}").contains("s3cret"));
}

#[test]
fn budgets_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, paths) in [
        (
            "budget: {limit: 0, per: 1500ms, assume: 2000000}",
            &["budget.limit", "budget.per", "budget.assume"][..],
        ),
        (
            "budget: {limit: 1, name: 'a b', on_store_failure: open, max_keys: 0}",
            &[
                "budget.max_keys",
                "budget.name",
                "budget.name",
                "budget.on_store_failure",
            ],
        ),
        (
            "budget: {limit: 1, key: [nobody], ipv4_prefix: 33, store: none}",
            &["budget.key[0]", "budget.ipv4_prefix", "budget.store"],
        ),
    ] {
        assert_eq!(Kit::new().problem_paths(&PLUGIN, config), paths, "{config}");
    }
}
