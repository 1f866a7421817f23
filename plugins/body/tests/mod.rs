mod responses;
mod templates;

use proptest::prelude::*;

use super::*;
use crate::testkit::{answered, went_on, Exchange, Instance, Kit};

const MERGE: &str = "request: {merge: {source: gateway, debug: null}}";

fn post(body: &str) -> Exchange {
    Exchange::new("POST", "http://shop.test/orders")
        .with("content-type", "application/json")
        .with_body(body.as_bytes().to_vec())
}

/// What goes on for a body.
fn changed(plugin: &Instance, body: &str) -> Value {
    let mut exchange = post(body);
    assert!(went_on(&plugin.request(&mut exchange)), "{body}");
    serde_json::from_slice(exchange.body()).expect("it is JSON")
}

fn refused(plugin: &Instance, mut exchange: Exchange) -> (u16, &'static str) {
    let answer = answered(plugin.request(&mut exchange));
    (answer.status, answer.cause.name)
}

#[test]
fn a_merge_patch_adds_replaces_and_removes() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, MERGE);

    let body = changed(
        &plugin,
        r#"{"debug": true, "source": "app", "items": [1, 2]}"#,
    );

    assert_eq!(
        body,
        serde_json::json!({"source": "gateway", "items": [1, 2]})
    );
    assert_eq!(kit.counted("changed"), 1);
}

/// Examples of RFC 7396, appendix A.
#[test]
fn merge_patches_do_what_the_rfc_says() {
    for (before, merge, after) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            r#"{"a":{"b":"d"}}"#,
        ),
        (r#"["a","b"]"#, r#"{"a":"b"}"#, r#"{"a":"b"}"#),
        (
            r#"{}"#,
            r#"{"a":{"bb":{"ccc":null}}}"#,
            r#"{"a":{"bb":{}}}"#,
        ),
    ] {
        let plugin = Kit::new().instance(&PLUGIN, &format!("request: {{merge: {merge}}}"));

        assert_eq!(
            changed(&plugin, before),
            serde_json::from_str::<Value>(after).unwrap(),
            "{before} {merge}"
        );
    }
}

/// Examples of RFC 6902, appendix A.
#[test]
fn operations_do_what_the_rfc_says_or_nothing() {
    let with = |patch: &str| Kit::new().instance(&PLUGIN, &format!("request: {{patch: {patch}}}"));
    let after = |patch: &str, before: &str| changed(&with(patch), before);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();

    assert_eq!(
        after(
            r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
            r#"{"foo":["bar","baz"]}"#
        ),
        json(r#"{"foo":["bar","qux","baz"]}"#)
    );
    assert_eq!(
        after(
            r#"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
            r#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#
        ),
        json(r#"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#)
    );
    assert_eq!(
        after(
            r#"[{"op":"test","path":"/~01","value":10}]"#,
            r#"{"/":9,"~1":10}"#
        ),
        json(r#"{"/":9,"~1":10}"#)
    );
    let unfit =
        with(r#"[{"op":"add","path":"/a","value":1},{"op":"test","path":"/baz","value":"qux"}]"#);
    let mut exchange = post(r#"{"baz":"bar"}"#);
    let answer = answered(unfit.request(&mut exchange));
    assert_eq!((answer.status, answer.cause.name), (422, "body.unfit"));
    assert_eq!(&exchange.body()[..], br#"{"baz":"bar"}"#);
}

#[test]
fn what_is_not_json_is_told_from_what_only_says_so() {
    let plugin = Kit::new().instance(&PLUGIN, MERGE);
    let text = || {
        Exchange::new("POST", "http://shop.test/")
            .with("content-type", "text/plain")
            .with_body(b"{".to_vec())
    };

    assert_eq!(refused(&plugin, post("{")), (400, "body.malformed"));
    assert_eq!(refused(&plugin, post("{} {}")), (400, "body.malformed"));
    assert!(went_on(&plugin.request(&mut text())));
    let strict = Kit::new().instance(&PLUGIN, &format!("{MERGE}\nothers: refuse"));
    assert_eq!(refused(&strict, text()), (415, "body.unsupported"));
    assert_eq!(
        refused(&strict, post("{}").with("content-encoding", "gzip")),
        (415, "body.unsupported")
    );
    assert_eq!(
        refused(&strict, post("{}").with("content-type", "text/plain")),
        (415, "body.unsupported")
    );
    assert!(
        went_on(&strict.request(&mut Exchange::get("http://shop.test/"))),
        "no body at all"
    );
}

#[test]
fn bodies_are_bounded_before_and_after() {
    let plugin = Kit::new().instance(&PLUGIN, &format!("{MERGE}\nmax: 40B"));
    let of = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));

    assert_eq!(refused(&plugin, post(&of(41))), (413, "body.too_large"));
    assert_eq!(
        refused(&plugin, post(&of(40))),
        (413, "body.too_large"),
        "it grows"
    );
    assert!(went_on(&plugin.request(&mut post(&of(20)))));
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let plugin = Kit::new().instance(&PLUGIN, MERGE);

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));

    assert_eq!(refused(&plugin, post(&deep)), (400, "body.malformed"));
}

#[test]
fn a_dry_run_changes_the_same_body() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, MERGE);
    let mut exchange = post("{}").dry();

    assert!(went_on(&plugin.request(&mut exchange)));

    assert_eq!(&exchange.body()[..], br#"{"source":"gateway"}"#);
    assert_eq!(kit.counted("changed"), 0);
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

    assert_eq!(paths("request: {}\nmax: 0"), ["request", "max"]);
    assert_eq!(
        paths("request: {patch: [{op: add, path: /a, value: 1}, {op: ad, path: /a}, {op: remove, path: a}]}"),
        ["request.patch[1]", "request.patch[2]"]
    );
    assert_eq!(paths("request: {merge: 1}"), ["request.merge"]);
    assert_eq!(paths("{}").len(), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_changed_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let plugin = Kit::new().instance(&PLUGIN, MERGE);
        let mut exchange = post("").with_body(body.clone());

        let went = went_on(&plugin.request(&mut exchange));

        prop_assert_eq!(went, body.is_empty() || serde_json::from_slice::<Value>(&body).is_ok());
    }
}

#[test]
fn compressed_bodies_are_changed_where_that_is_wanted_and_go_on_plain() {
    use std::io::Write;
    let gzip = |body: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let plugin = Kit::new().instance(
        &PLUGIN,
        &format!("{MERGE}\ndecode: true\nothers: refuse\nmax: 1KiB"),
    );
    let coded = |body: Vec<u8>| {
        Exchange::new("POST", "http://shop.test/orders")
            .with("content-type", "application/json")
            .with("content-encoding", "gzip")
            .with_body(body)
    };
    let mut exchange = coded(gzip("{}"));

    assert!(went_on(&plugin.request(&mut exchange)));
    assert_eq!(exchange.body().as_ref(), br#"{"source":"gateway"}"#);
    assert!(!exchange.request.headers.contains_key("content-encoding"));
    assert_eq!(
        refused(&plugin, coded(b"{}".to_vec())),
        (400, "body.malformed")
    );
    assert_eq!(
        refused(&plugin, coded(gzip(&" ".repeat(5000)))),
        (413, "body.too_large")
    );
    assert_eq!(
        refused(&plugin, coded(gzip("{}")).with("content-encoding", "br")),
        (415, "body.unsupported")
    );
}
