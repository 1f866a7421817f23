use http::HeaderValue;
use proptest::prelude::*;
use serde_json::{json, Value};

use super::*;
use crate::contract::{Answer, CallFailure, Reply};
use crate::testkit::{answered, field, reply, went_on, Exchange, Instance, Kit};

const USER: &str = "{name: user, service: 'http://users.test', path: '/users/{segment.1}'";
const ORDERS: &str = "{name: orders, service: 'http://orders.test/all'";

fn config(calls: &[String], more: &str) -> String {
    format!("calls: [{}]\n{more}", calls.join(", "))
}

fn both(user: &str, orders: &str, more: &str) -> String {
    config(
        &[format!("{USER}{user}}}"), format!("{ORDERS}{orders}}}")],
        more,
    )
}

fn says(kit: &Kit, url: &str, body: &Value) {
    kit.answer(
        url,
        Ok(reply(
            200,
            &[("content-type", "application/json")],
            body.to_string(),
        )),
    );
}

fn page() -> Exchange {
    Exchange::get("http://shop.test/page/7?lang=de&lang=fr&x=1").with("authorization", "Bearer t")
}

fn document(answer: &Answer) -> Value {
    let (_, body) = answer.body.as_ref().expect("a document");
    serde_json::from_slice(body).expect("it is JSON")
}

fn merged(plugin: &Instance) -> (Value, String) {
    let answer = answered(plugin.request(&mut page()));
    assert_eq!((answer.status, answer.cause.name), (200, "aggregate"));
    (
        document(&answer),
        field(&answer, "x-windrose-complete")
            .unwrap_or_default()
            .to_owned(),
    )
}

fn why(plugin: &Instance) -> (&'static str, String) {
    match plugin.request(&mut page()) {
        Verdict::Failed { cause, reason } => (cause.name, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_are_shaped_and_merged_in_order() {
    let kit = Kit::new();
    let plugin = kit.instance(
        &PLUGIN,
        &both(
            ", group: user, deny: [password, address.street]",
            ", target: data.items, wrap: orders, allow: [orders.id, orders.price.sum], mapping: {orders: bought}",
            "",
        ),
    );
    says(
        &kit,
        "http://users.test/users/7",
        &json!({"id": 7, "password": "x", "address": {"street": "a", "city": "b"}}),
    );
    says(
        &kit,
        "http://orders.test/all",
        &json!({"data": {"items": [{"id": 1, "price": {"sum": 2, "tax": 1}}, {"id": 2, "secret": 1}]}}),
    );

    let (document, complete) = merged(&plugin);

    let expected = json!({"user": {"id": 7, "address": {"city": "b"}}, "bought": [{"id": 1, "price": {"sum": 2}}, {"id": 2}]});
    assert_eq!((document, &*complete), (expected, "true"));
    assert_eq!((kit.counted("merged"), kit.counted("partial")), (1, 0));
}

#[test]
fn of_members_that_are_there_twice_the_later_stays() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &both("", "", ""));
    says(&kit, "http://users.test/users/7", &json!({"a": 1, "b": 1}));
    says(&kit, "http://orders.test/all", &json!({"b": 2}));

    assert_eq!(merged(&plugin).0, json!({"a": 1, "b": 2}));
}

#[test]
fn only_what_is_named_goes_along() {
    let kit = Kit::new();
    let orders = ", headers: [authorization], query: [lang]";
    let plugin = kit.instance(&PLUGIN, &both("", orders, ""));
    says(&kit, "http://users.test/users/7", &json!({}));
    says(&kit, "http://orders.test/all", &json!({}));

    merged(&plugin);

    let asked = kit.asked();
    let to = |host: &str| asked.iter().find(|one| one.url.contains(host)).expect(host);
    assert_eq!(to("orders").url, "http://orders.test/all?lang=de&lang=fr");
    assert_eq!(to("users").header("authorization"), None);
    assert_eq!(to("orders").header("authorization"), Some("Bearer t"));
    assert_eq!(to("users").header("x-request-id"), Some("test-request-id"));
}

#[test]
fn a_call_waits_for_the_answers_that_it_needs() {
    let kit = Kit::new();
    let calls = [
        "{name: last, service: 'http://c.test', path: '/of/{responses.mid.ids.0}?who={responses.first.name}', group: last}",
        "{name: mid, service: 'http://b.test', path: '/by/{responses.first.id}'}",
        "{name: first, service: 'http://a.test', path: '/a'}",
    ];
    let plugin = kit.instance(&PLUGIN, &config(&calls.map(str::to_owned), ""));
    says(&kit, "http://a.test/a", &json!({"id": 5, "name": "a b&c"}));
    says(&kit, "http://b.test/by/5", &json!({"ids": ["x/y"]}));
    says(&kit, "http://c.test/of/x%2Fy", &json!([1]));

    assert_eq!(
        merged(&plugin).0,
        json!({"last": [1], "ids": ["x/y"], "id": 5, "name": "a b&c"})
    );
    let last = kit.asked().pop().expect("three calls");
    assert_eq!(last.url, "http://c.test/of/x%2Fy?who=a%20b%26c");
}

#[test]
fn failures_have_their_causes_or_leave_a_part_out() {
    let large = reply(200, &[], "[".repeat(2000));
    let cases: Vec<(Result<Reply, CallFailure>, &str)> = vec![
        (Err(CallFailure::TimedOut), "aggregate.failed"),
        (Err(CallFailure::TooLarge), "aggregate.too_large"),
        (Ok(reply(404, &[], "{}")), "aggregate.failed"),
        (Ok(reply(302, &[("location", "/")], "")), "aggregate.failed"),
        (Ok(reply(200, &[], "{")), "aggregate.malformed"),
        (Ok(reply(200, &[], "[]")), "aggregate.malformed"),
        (Ok(reply(200, &[], "")), "aggregate.malformed"),
        (Ok(large), "aggregate.too_large"),
        (
            Ok(reply(200, &[("content-encoding", "deflate")], "{}")),
            "aggregate.malformed",
        ),
    ];
    for (outcome, cause) in cases {
        let kit = Kit::new();
        let plugin = |more: &str| kit.instance(&PLUGIN, &both("", ", max: 1KiB", more));
        let (strict, partial) = (plugin(""), plugin("on_failure: partial"));
        for _ in 0..2 {
            says(&kit, "http://users.test/users/7", &json!({"id": 7}));
            kit.answer("http://orders.test/all", outcome.clone());
        }

        let (name, reason) = why(&strict);
        assert_eq!(name, cause);
        assert!(reason.starts_with("call \"orders\": "), "{reason}");
        let (document, complete) = merged(&partial);
        assert_eq!((document, &*complete), (json!({"id": 7}), "false"));
    }
}

#[test]
fn nothing_at_all_and_what_is_required_are_no_part() {
    let kit = Kit::new();
    let none = kit.instance(&PLUGIN, &both("", "", "on_failure: partial"));
    let required = kit.instance(
        &PLUGIN,
        &both("", ", required: true", "on_failure: partial"),
    );
    for _ in 0..2 {
        kit.answer("http://orders.test/all", Err(CallFailure::NoEndpoint));
    }
    kit.answer("http://users.test/users/7", Err(CallFailure::Full));
    says(&kit, "http://users.test/users/7", &json!({}));

    assert_eq!(why(&none).0, "aggregate.failed");
    assert_eq!(why(&required).0, "aggregate.failed");
}

#[test]
fn a_call_that_needs_what_failed_fails_as_well() {
    let kit = Kit::new();
    let calls = [
        "{name: a, service: 'http://a.test', path: '/a'}".to_owned(),
        "{name: b, service: 'http://b.test', path: '/{responses.a.id}'}".to_owned(),
        "{name: c, service: 'http://c.test', path: '/c'}".to_owned(),
    ];
    let plugin = kit.instance(&PLUGIN, &config(&calls, "on_failure: partial"));
    kit.answer("http://a.test/a", Ok(reply(500, &[], "")));
    says(&kit, "http://c.test/c", &json!({"c": 1}));

    assert_eq!(merged(&plugin), (json!({"c": 1}), "false".to_owned()));
    assert_eq!(kit.asked().len(), 2);
}

#[test]
fn a_value_never_leads_to_another_path() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &config(&[format!("{USER}}}")], ""));
    for (path, expected) in [
        ("/page/a%2Fb", "http://users.test/users/a%2Fb"),
        ("/page/a%3Fb", "http://users.test/users/a%3Fb"),
        ("/page/a+b", "http://users.test/users/a%2Bb"),
        ("/page/...", "http://users.test/users/..."),
    ] {
        says(&kit, expected, &json!({}));
        let mut exchange = Exchange::get("http://shop.test/").with_path(path);
        assert_eq!(
            answered(plugin.request(&mut exchange)).status,
            200,
            "{path}"
        );
    }
    for path in [
        "/page",
        "/page/",
        "/page/%2e%2e",
        "/page/..",
        "/page/.",
        "/page/%ff",
    ] {
        let mut exchange = Exchange::get("http://shop.test/").with_path(path);
        let answer = answered(plugin.request(&mut exchange));
        assert_eq!(
            (answer.status, answer.cause.name),
            (400, "aggregate.incomplete_request"),
            "{path}"
        );
    }
}

#[test]
fn the_whole_document_is_bounded() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &both("", "", "max: 20B"));
    says(&kit, "http://users.test/users/7", &json!({"a": "12345"}));
    says(&kit, "http://orders.test/all", &json!({"b": "12345"}));

    assert_eq!(why(&plugin).0, "aggregate.too_large");
}

#[test]
fn other_methods_go_on_and_a_dry_run_says_whom_it_would_ask() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &both("", "", ""));

    assert!(went_on(
        &plugin.request(&mut Exchange::new("POST", "http://shop.test/page/7"))
    ));
    match plugin.request(&mut page().dry()) {
        Verdict::Unknown(what) => assert_eq!(what.0, "http://users.test/, http://orders.test/all"),
        other => panic!("{other:?}"),
    }
    assert!(kit.asked().is_empty());
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

    assert_eq!(paths("calls: []\nmax: 0"), ["calls", "max"]);
    assert_eq!(
        paths("calls: [{name: 'a b', service: ftp://x, path: users, headers: [transfer-encoding], timeout: 0s, max: 1GiB, target: a..b, allow: [x, '']}]"),
        ["calls[0].name", "calls[0].service", "calls[0].path", "calls[0].headers[0]", "calls[0].timeout", "calls[0].max", "calls[0].target", "calls[0].allow[1]"]
    );
    assert_eq!(
        paths("calls: [{name: a, service: 'http://a', path: '/{responses.b.id}'}, {name: b, service: 'http://a', path: '/{responses.a.id}'}]"),
        ["calls[0].path"]
    );
    assert_eq!(
        paths("calls: [{name: a, service: 'http://a', path: '/{responses.c.id}'}, {name: a, service: 'http://a', path: '/{nothing}'}]"),
        ["calls[0].path", "calls[1].name", "calls[1].path"]
    );
}

proptest! {
    #[test]
    fn any_answer_is_merged_or_refused(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, &config(&[format!("{USER}, group: a, allow: [b.c], deny: [d]}}")], ""));
        kit.answer("http://users.test/users/7", Ok(reply(200, &[], body.clone())));
        let is_json = serde_json::from_slice::<Value>(&body).is_ok();

        let verdict = plugin.request(&mut page());

        prop_assert_eq!(matches!(verdict, Verdict::Answer(_)), is_json);
    }

    #[test]
    fn no_header_breaks_a_path(value in "[ -~]{0,40}") {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, &config(&["{name: a, service: 'http://a.test', path: '/{header.x-a}?b={header.x-a}'}".to_owned()], ""));
        let mut exchange = page();
        exchange.request.insert_header("x-a", HeaderValue::from_str(&value).unwrap()).unwrap();
        let _ = plugin.request(&mut exchange);
        for asked in kit.asked() {
            prop_assert!(asked.url.parse::<http::Uri>().is_ok_and(|url| url.path().matches('/').count() == 1), "{}", asked.url);
        }
    }
}
