use std::time::Duration;

use serde_json::{json, Value};

use super::*;
use crate::contract::Reply;
use crate::testkit::{answered, field, fields, reply, went_on, Exchange, Instance, Kit};

const SERVICE: &str = "http://opa/v1/data/http/authz";

fn instance(kit: &Kit, more: &str) -> Instance {
    kit.instance(&PLUGIN, &format!("service: {SERVICE}\n{more}"))
}

fn says(value: Value) -> Result<Reply, CallFailure> {
    Ok(reply(200, &[], value.to_string()))
}

fn failed(verdict: Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Failed { cause, reason } => (cause.name, reason),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn the_policy_is_told_of_the_request_and_sees_only_the_fields_that_are_named() {
    let kit = Kit::new();
    kit.answer(SERVICE, says(json!({"result": true})));
    let plugin = instance(&kit, "headers: [x-tenant, x-a-*]");
    let mut exchange = Exchange::new("PUT", "https://Shop.test/raw?a=1&b=x+y%2B&a=2&&c")
        .with_path("/orders/a%2Fb/")
        .on_route("orders")
        .as_consumer("ann")
        .with("x-tenant", "1")
        .with("x-tenant", "2")
        .with("authorization", "Bearer secret");

    assert!(went_on(&plugin.request(&mut exchange)));

    let asked = kit.asked().remove(0);
    assert_eq!((&*asked.method, &*asked.url), ("POST", SERVICE));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("x-request-id"), Some("test-request-id"));
    let input: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(
        input,
        json!({"input": {
            "method": "PUT", "scheme": "https", "host": "shop.test", "path": "/orders/a%2Fb/",
            "parsed_path": ["orders", "a/b", ""],
            "query": {"a": ["1", "2"], "b": ["x y+"], "c": [""]},
            "headers": {"x-tenant": ["1", "2"]},
            "client": {"address": "192.0.2.1"},
            "principal": {"id": "consumer:ann", "kind": "consumer", "name": "ann"},
            "listener": "test", "route": "orders",
        }})
    );
}

#[test]
fn an_object_may_give_fields_to_the_service() {
    let kit = Kit::new();
    kit.answer(
        SERVICE,
        says(
            json!({"result": {"allow": true, "headers": {"X-User": "ann", "x-role": ["a", "b"]}}}),
        ),
    );
    let plugin = instance(&kit, "request_headers: [x-user, x-role]");
    let mut exchange = Exchange::get("http://shop.test/")
        .with("x-user", "mallory")
        .with("x_role", "admin");

    assert!(went_on(&plugin.request(&mut exchange)));
    assert!(went_on(&plugin.upstream_request(&mut exchange)));

    let sent = &exchange.upstream.headers;
    assert_eq!(fields(sent, "x-user"), ["ann"]);
    assert_eq!(fields(sent, "x-role"), ["a", "b"]);
    assert!(sent.get("x_role").is_none());
}

#[test]
fn a_refusal_has_the_status_fields_and_body_that_the_policy_chose() {
    let kit = Kit::new();
    let plugin = instance(&kit, "");
    let ask = || answered(plugin.request(&mut Exchange::get("http://shop.test/")));
    kit.answer(SERVICE, says(json!({"result": false})));
    kit.answer(SERVICE, says(json!({"result": {"allow": false}})));
    kit.answer(SERVICE, says(json!({"result": {"allow": false, "status": 401, "headers": {"www-authenticate": "Bearer"}, "body": "log in"}})));

    let (plain, object, whole) = (ask(), ask(), ask());

    for answer in [&plain, &object] {
        assert_eq!(
            (answer.status, answer.cause.name),
            (403, "policy_denied.opa")
        );
        assert!(answer.body.is_none());
    }
    assert_eq!((whole.status, whole.cause.name), (401, "policy_denied.opa"));
    assert_eq!(field(&whole, "www-authenticate"), Some("Bearer"));
    assert_eq!(&whole.body.unwrap().1[..], b"log in");
    assert_eq!(kit.counted("denied"), 3);
}

#[test]
fn no_result_is_a_failure_of_its_own() {
    for said in [
        json!({}),
        json!({"result": {}}),
        json!({"result": {"deny": ["x"]}, "decision_id": "1"}),
    ] {
        let kit = Kit::new();
        kit.answer(SERVICE, says(said.clone()));

        let (cause, reason) =
            failed(instance(&kit, "cache: 1m").request(&mut Exchange::get("http://shop.test/")));

        assert_eq!(cause, "opa.undefined", "{said}");
        assert!(reason.contains("without a result"), "{reason}");
    }
}

/// Asserts that an answer is a failure, which is told so, and never a refusal.
fn assert_unusable(given: Result<Reply, CallFailure>, expected: &str) {
    let kit = Kit::new();
    kit.answer(SERVICE, given);
    let plugin = instance(&kit, "request_headers: [x-user]");
    let mut exchange = Exchange::get("http://shop.test/").with("x-user", "mallory");

    let (cause, reason) = failed(plugin.request(&mut exchange));

    assert_eq!(cause, "opa.unavailable", "{expected}");
    assert!(reason.contains(expected), "{expected}: {reason}");
    assert!(exchange.request.headers.get("x-user").is_none());
}

#[test]
fn what_is_no_answer_of_an_agent_is_a_failure() {
    for (given, expected) in [
        (Err(CallFailure::NoEndpoint), "no endpoint"),
        (Ok(reply(500, &[], "{\"result\": true}")), "status 500"),
        (Ok(reply(204, &[], "")), "status 204"),
        (Ok(reply(200, &[], "true")), "no JSON object"),
        (
            Ok(reply(200, &[], r#"{"result": true, "result": false}"#)),
            "no JSON object",
        ),
        (Ok(reply(200, &[], "[".repeat(100_000))), "no JSON object"),
        (Ok(reply(200, &[], "x".repeat(300_000))), "too large"),
    ] {
        assert_unusable(given, expected);
    }
}

#[test]
fn a_result_that_is_no_decision_is_a_failure() {
    for (result, expected) in [
        (r#""true""#, "neither true, false"),
        ("null", "neither true, false"),
        (r#"{"allow": 1}"#, "`allow`"),
        (r#"{"allow": "yes"}"#, "`allow`"),
        (r#"{"allow": true, "headers": []}"#, "`headers`"),
        (
            r#"{"allow": true, "headers": {"x-user": 1}}"#,
            "no plain text",
        ),
        (
            r#"{"allow": true, "headers": {"x-user": "a\r\nb: c"}}"#,
            "no plain text",
        ),
        (
            r#"{"allow": true, "headers": {"content-length": "0"}}"#,
            "cannot be set",
        ),
        (
            r#"{"allow": true, "headers": {"x-user": "LONG"}}"#,
            "16 KiB",
        ),
        (
            r#"{"allow": true, "headers": {"x-admin": "1"}}"#,
            "`request_headers`",
        ),
        (
            r#"{"allow": false, "headers": {"x-user": "1"}}"#,
            "`response_headers`",
        ),
        (r#"{"allow": false, "status": 200}"#, "`status`"),
        (r#"{"allow": false, "status": "403"}"#, "`status`"),
        (r#"{"allow": false, "body": {}}"#, "`body`"),
        (r#"{"allow": false, "body": "LONG"}"#, "64 KiB"),
    ] {
        let result = result.replace("LONG", &"x".repeat(70_000));
        let body = format!("{{\"result\": {result}}}");
        assert_unusable(Ok(reply(200, &[], body)), expected);
    }
}

#[test]
fn a_decision_is_kept_for_the_same_input_only_where_that_is_wanted() {
    let kit = Kit::new();
    kit.answer(SERVICE, says(json!({"result": true})));
    let ask = |plugin: &Instance, target: &str, id: &str| {
        assert!(went_on(
            &plugin.request(&mut Exchange::get(target).with_id(id))
        ));
        kit.asked().len()
    };

    let kept = instance(&kit, "cache: 10s");
    assert_eq!(ask(&kept, "http://shop.test/a", "1"), 1);
    assert_eq!(
        ask(&kept, "http://shop.test/a", "2"),
        1,
        "the id is no part of the question"
    );
    assert_eq!(ask(&kept, "http://shop.test/b", "3"), 2);
    kit.advance(Duration::from_secs(10));
    assert_eq!(ask(&kept, "http://shop.test/a", "4"), 3);

    let not_kept = instance(&kit, "");
    assert_eq!(ask(&not_kept, "http://shop.test/a", "5"), 4);
    assert_eq!(ask(&not_kept, "http://shop.test/a", "6"), 5);
}

#[test]
fn a_dry_run_asks_nobody() {
    let kit = Kit::new();

    let verdict =
        instance(&kit, "cache: 1m").request(&mut Exchange::get("http://shop.test/").dry());

    assert!(matches!(verdict, Verdict::Unknown(what) if what.0 == SERVICE));
    assert!(kit.asked().is_empty());
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, path) in [
        ("timeout: 0s", "timeout"),
        ("cache: 2h", "cache"),
        ("cache_size: 0", "cache_size"),
        ("headers: ['*']", "headers[0]"),
        ("request_headers: [a, te]", "request_headers[1]"),
        ("response_headers: ['a b']", "response_headers[0]"),
    ] {
        let config = format!("service: {SERVICE}\n{config}");
        assert_eq!(
            Kit::new().problem_paths(&PLUGIN, &config),
            [path],
            "{config}"
        );
    }
}
