use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::contract::Reply;
use crate::testkit::{answered, field, fields, reply, went_on, Exchange, Instance, Kit};

const SERVICE: &str = "http://idp/introspect";

fn instance(kit: &Kit, more: &str) -> Instance {
    kit.instance(&PLUGIN, &format!("service: {SERVICE}\n{more}"))
}

fn says(value: serde_json::Value) -> Result<Reply, CallFailure> {
    Ok(reply(
        200,
        &[("content-type", "application/json")],
        value.to_string(),
    ))
}

fn with_token(token: &str) -> Exchange {
    Exchange::get("http://shop.test/").with("authorization", &format!("Bearer {token}"))
}

fn failed(verdict: Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Failed { cause, reason } => (cause.name, reason),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn an_active_token_lets_in_and_says_who_calls() {
    let kit = Kit::new();
    kit.answer(
        SERVICE,
        says(json!({
            "active": true, "sub": "ann", "scope": "read orders", "exp": 60, "level": 3,
            "groups": ["a", "b c"], "name": "Zoë\r\nx: y", "deep": {"a": 1},
        })),
    );
    let plugin = instance(
        &kit,
        "scopes: [orders, read]\nclaims: {x-user: sub, x-level: level, x-groups: groups, x-name: name, x-deep: deep, x-none: none}",
    );
    let mut exchange = with_token("t0ken")
        .with("x-user", "mallory")
        .with("x_none", "mallory");

    assert!(went_on(&plugin.request(&mut exchange)));
    assert!(went_on(&plugin.upstream_request(&mut exchange)));

    assert_eq!(exchange.principal().unwrap().id(), "consumer:ann");
    let sent = &exchange.upstream.headers;
    assert_eq!(fields(sent, "x-user"), ["ann"]);
    assert_eq!(fields(sent, "x-level"), ["3"]);
    assert_eq!(fields(sent, "x-groups"), ["a b c"]);
    assert_eq!(fields(sent, "x-name"), ["Zo%C3%AB%0D%0Ax: y"]);
    for name in ["x-deep", "x-none", "x_none", "authorization"] {
        assert!(sent.get(name).is_none(), "{name}");
    }
}

#[test]
fn the_question_is_that_of_the_standard_and_the_secret_is_not_shown() {
    let kit = Kit::new();
    for (send, authorization, body) in [
        (
            "basic",
            Some("Basic Z2F0ZSUzQXdheTpwJTI2dw=="),
            "token=a%2Bb&token_type_hint=access_token",
        ),
        (
            "post",
            None,
            "token=a%2Bb&token_type_hint=access_token&client_id=gate%3Away&client_secret=p%26w",
        ),
    ] {
        let client = format!("client: {{id: 'gate:way', secret: 'p&w', send: {send}}}");
        let plugin = instance(&kit, &client);

        plugin.request(&mut with_token("a+b").with_id("id-1"));

        let asked = kit.asked().pop().unwrap();
        assert_eq!((&*asked.method, &*asked.url), ("POST", SERVICE));
        assert_eq!(asked.header("authorization"), authorization);
        assert_eq!(
            asked.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
        assert_eq!(asked.header("x-request-id"), Some("id-1"));
        assert_eq!(asked.text(), body);
        let shown = format!("{:?} {:?}", asked.call, asked.headers.get("authorization"));
        assert!(
            !shown.contains("p%26w") && !shown.contains("Z2F0"),
            "{shown}"
        );
    }
}

#[test]
fn tokens_that_do_not_count_are_refused_with_a_word_of_their_own() {
    const INACTIVE: &str = "auth.introspection_inactive";
    const SCOPE: &str = "auth.introspection_scope";
    let cases = [
        (r#"{"active": false}"#, INACTIVE),
        (r#"{"active": true, "exp": 0}"#, INACTIVE),
        (r#"{"active": true, "exp": "soon"}"#, INACTIVE),
        (r#"{"active": true, "nbf": 1e9}"#, INACTIVE),
        (r#"{"active": true, "scope": "orders"}"#, INACTIVE),
        (r#"{"active": true, "aud": "other", "iss": "me"}"#, INACTIVE),
        (r#"{"active": true, "aud": "shop", "iss": "you"}"#, INACTIVE),
        (r#"{"active": true, "aud": ["shop"], "iss": "me"}"#, SCOPE),
        (
            r#"{"active": true, "aud": "shop", "iss": "me", "scope": "orders2"}"#,
            SCOPE,
        ),
        (
            r#"{"active": true, "aud": "shop", "iss": "me", "scope": ["x"]}"#,
            SCOPE,
        ),
    ];
    for (said, cause) in cases {
        let kit = Kit::new();
        kit.answer(SERVICE, Ok(reply(200, &[], said)));
        let plugin = instance(&kit, "scopes: [orders]\naudiences: [shop, b]\nissuer: me");
        let mut exchange = with_token("t");

        let answer = answered(plugin.request(&mut exchange));

        let status = if cause == SCOPE { 403 } else { 401 };
        assert_eq!(
            (answer.status, answer.cause.name),
            (status, cause),
            "{said}"
        );
        let challenge = field(&answer, "www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer realm=\"Restricted\", error="),
            "{challenge}"
        );
        assert!(exchange.principal().is_none());
        assert_eq!(kit.counted("refused"), 1);
    }
}

#[test]
fn what_is_no_token_is_refused_without_asking() {
    let kit = Kit::new();
    let long = format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1));
    let plugin = instance(&kit, "");
    for (value, cause) in [
        (None, "auth.introspection_missing"),
        (Some("Basic YTpi"), "auth.introspection_missing"),
        (Some("Bearer"), "auth.introspection_missing"),
        (Some("Bearer "), "auth.introspection_missing"),
        (Some("Bearer a b"), "auth.introspection_inactive"),
        (Some("bearer \u{e9}"), "auth.introspection_inactive"),
        (Some(&*long), "auth.introspection_inactive"),
    ] {
        let mut exchange = Exchange::get("http://shop.test/");
        if let Some(value) = value {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            exchange
                .request
                .insert_header("authorization", value)
                .unwrap();
        }

        assert_eq!(
            answered(plugin.request(&mut exchange)).cause.name,
            cause,
            "{value:?}"
        );
    }
    let mut twice = with_token("a").with("authorization", "Bearer b");
    assert_eq!(answered(plugin.request(&mut twice)).cause, &INACTIVE);
    assert!(kit.asked().is_empty());
    let optional = instance(&kit, "optional: true");
    assert!(went_on(
        &optional.request(&mut Exchange::get("http://shop.test/"))
    ));
    assert_eq!(answered(optional.request(&mut twice)).cause, &INACTIVE);
}

#[test]
fn what_a_server_says_otherwise_is_a_failure_and_never_a_refusal() {
    for (given, expected) in [
        (Err(CallFailure::TimedOut), "in time"),
        (
            Ok(reply(401, &[], "{}")),
            "refuses the proxy with status 401",
        ),
        (Ok(reply(500, &[], "")), "status 500"),
        (Ok(reply(302, &[], "")), "status 302"),
        (Ok(reply(200, &[], "")), "no JSON object"),
        (Ok(reply(200, &[], "[true]")), "no JSON object"),
        (
            Ok(reply(200, &[], "{\"active\": \"true\"}")),
            "does not say",
        ),
        (Ok(reply(200, &[], "{}")), "does not say"),
        (
            Ok(reply(200, &[], "{\"active\": false, \"active\": true}")),
            "no JSON object",
        ),
        (Ok(reply(200, &[], "x".repeat(70_000))), "too large"),
        (Ok(reply(200, &[], "[".repeat(60_000))), "no JSON object"),
    ] {
        let kit = Kit::new();
        kit.answer(SERVICE, given);
        let plugin = instance(&kit, "claims: {x-user: sub}");
        let mut exchange = with_token("t").with("x-user", "mallory");

        let (cause, reason) = failed(plugin.request(&mut exchange));

        assert_eq!(cause, "auth.introspection_unavailable");
        assert!(
            reason.contains(expected) && reason.starts_with(SERVICE),
            "{reason}"
        );
        assert!(exchange.request.headers.get("x-user").is_none());
        failed(plugin.request(&mut with_token("t")));
        assert_eq!(kit.asked().len(), 2, "a failure is not kept");
    }
}

#[test]
fn an_answer_holds_for_its_time_and_never_beyond_the_tokens_end() {
    let kit = Kit::new();
    let plugin = instance(&kit, "cache: 1m\nnegative_cache: 10s");
    let ask = |token: &str, expected: usize| {
        plugin.request(&mut with_token(token));
        assert_eq!(kit.asked().len(), expected, "{token}");
    };
    kit.answer(
        SERVICE,
        says(json!({"active": true, "sub": "ann", "exp": 20})),
    );
    ask("a", 1);
    kit.advance(Duration::from_secs(19));
    ask("a", 1);
    kit.advance(Duration::from_secs(1));
    ask("a", 2);

    kit.forget_answers(SERVICE);
    kit.answer(SERVICE, says(json!({"active": true})));
    ask("b", 3);
    kit.advance(Duration::from_secs(59));
    ask("b", 3);
    kit.advance(Duration::from_secs(1));
    ask("b", 4);

    kit.forget_answers(SERVICE);
    kit.answer(SERVICE, says(json!({"active": false})));
    ask("c", 5);
    kit.advance(Duration::from_secs(9));
    ask("c", 5);
    kit.advance(Duration::from_secs(1));
    ask("c", 6);
}

#[test]
fn answers_stay_over_a_reload_but_not_for_another_server_or_client() {
    let kit = Kit::new();
    kit.answer(SERVICE, says(json!({"active": true})));
    kit.answer("http://other/introspect", says(json!({"active": true})));
    let asked = |config: &str| {
        kit.instance(&PLUGIN, config).request(&mut with_token("t"));
        kit.asked().len()
    };

    assert_eq!(asked("service: http://idp/introspect"), 1);
    assert_eq!(asked("{service: http://idp/introspect, scopes: [a]}"), 1);
    assert_eq!(asked("service: http://other/introspect"), 2);
    assert_eq!(
        asked("{service: http://idp/introspect, client: {id: a, secret: b}}"),
        3
    );
}

#[test]
fn a_dry_run_asks_nobody_and_keeps_nothing() {
    let kit = Kit::new();
    let plugin = instance(&kit, "");

    let verdict = plugin.request(&mut with_token("t").dry());

    assert!(matches!(verdict, Verdict::Unknown(what) if what.0 == SERVICE));
    assert!(kit.asked().is_empty());
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, path) in [
        ("client: {id: '', secret: a}", "client.id"),
        ("client: {id: a, secret: ''}", "client.secret"),
        ("client: {id: a}", "client"),
        ("timeout: 0s", "timeout"),
        ("cache: 2h", "cache"),
        ("negative_cache: 2h", "negative_cache"),
        ("cache_size: 0", "cache_size"),
        ("scopes: ['a b']", "scopes[0]"),
        ("claims: {connection: sub}", "claims.connection"),
        ("header: 'x y'", "header"),
        ("realm: \"a\\nb\"", "realm"),
    ] {
        let config = format!("service: {SERVICE}\n{config}");
        assert_eq!(
            Kit::new().problem_paths(&PLUGIN, &config),
            [path],
            "{config}"
        );
    }
}

proptest! {
    /// No member of an answer breaks out of the field it is sent in.
    #[test]
    fn a_claim_is_one_plain_value(text in "\\PC{0,50}|[\\x00-\\x7f]{0,50}") {
        let kit = Kit::new();
        kit.answer(SERVICE, says(json!({"active": true, "sub": text, "list": [text, 1, true]})));
        let plugin = instance(&kit, "claims: {x-user: sub, x-list: list}");
        let mut exchange = with_token("t");

        prop_assert!(went_on(&plugin.request(&mut exchange)));

        for name in ["x-user", "x-list"] {
            let value = exchange.request.headers.get(name).map(HeaderValue::as_bytes);
            let plain = |byte: &u8| (b' '..=b'~').contains(byte);
            prop_assert!(value.is_none_or(|value| value.iter().all(plain)));
        }
    }
}
