use proptest::prelude::*;

use super::*;
use crate::testkit::{answered, went_on, Exchange, Kit};

/// What goes upstream for a target.
fn upstream(config: &str, target: &str) -> String {
    let plugin = Kit::new().instance(&PLUGIN, config);
    let mut exchange = Exchange::get(target);
    assert!(went_on(&plugin.upstream_request(&mut exchange)));
    exchange.upstream.uri.to_string()
}

#[test]
fn prefixes_are_whole_parts() {
    let strip = |path: &str| upstream("strip_prefix: /api", &format!("http://a.test{path}"));

    assert_eq!(strip("/api/a?b"), "/a?b");
    assert_eq!(strip("/api"), "/");
    assert_eq!(strip("/apis"), "/apis");
    assert_eq!(upstream("add_prefix: /v1", "http://a.test/a"), "/v1/a");
}

#[test]
fn the_first_rule_that_fits_edits_between_the_prefixes() {
    let config = "strip_prefix: /api\npaths: [{pattern: '^/users/(\\d+)$', replace: '/accounts/$1'}, {pattern: 'users', replace: people}]\nadd_prefix: /v1";

    assert_eq!(
        upstream(config, "http://a.test/api/users/7"),
        "/v1/accounts/7"
    );
    assert_eq!(upstream(config, "http://a.test/users"), "/v1/people");
    assert_eq!(upstream(config, "http://a.test/other"), "/v1/other");
}

#[test]
fn the_query_is_edited_by_decoded_names() {
    let config = "query: {set: {source: 'a b'}, add: {tag: [x, y]}, remove: [debug]}";

    assert_eq!(
        upstream(
            config,
            "http://a.test/?%64ebug=1&q=%20&source=c&debug&tag=z"
        ),
        "/?q=%20&tag=z&source=a%20b&tag=x&tag=y"
    );
    assert_eq!(
        upstream("query: {remove: ['*']}", "http://a.test/a?b=c"),
        "/a"
    );
    assert_eq!(
        upstream("query: {remove: [b]}", "http://a.test/a?b=c"),
        "/a"
    );
}

#[test]
fn the_host_is_replaced() {
    let plugin = Kit::new().instance(&PLUGIN, "host: orders.internal:8080");
    let mut exchange = Exchange::get("http://a.test/");

    plugin.upstream_request(&mut exchange);

    assert_eq!(exchange.upstream.headers["host"], "orders.internal:8080");
    assert_eq!(exchange.request.headers["host"], "a.test");
}

#[test]
fn what_a_rule_makes_of_a_path_is_canonical_or_refused() {
    let config = "paths: [{pattern: '^/f/(.*)$', replace: '/a/./../$1//'}, {pattern: '^/up/', replace: '/../'}]";
    let plugin = Kit::new().instance(&PLUGIN, config);

    assert_eq!(upstream(config, "http://a.test/f/x"), "/x/");
    let answer = answered(plugin.upstream_request(&mut Exchange::get("http://a.test/up/x")));
    assert_eq!(
        (answer.status, answer.cause.name),
        (400, "bad_request.target")
    );
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(paths("{}"), [""]);
    assert_eq!(paths("strip_prefix: /api/"), ["strip_prefix"]);
    assert_eq!(paths("add_prefix: v1"), ["add_prefix"]);
    assert_eq!(paths("add_prefix: /"), ["add_prefix"]);
    assert_eq!(paths("host: 'a b'"), ["host"]);
    assert_eq!(
        paths("paths: [{pattern: a, replace: '/b?c'}]"),
        ["paths[0].replace"]
    );
    assert_eq!(
        paths("paths: [{pattern: a, replace: '$1'}]"),
        ["paths[0].replace"]
    );
    assert_eq!(
        paths("paths: [{pattern: '[', replace: a}]"),
        ["paths[0].pattern"]
    );
}

proptest! {
    #[test]
    fn whatever_comes_goes_on_canonical_or_not_at_all(path in "/[!-~]{0,30}", query in "[!-~]{0,30}") {
        let target = format!("http://a.test{path}?{query}");
        let Ok(uri) = target.parse::<http::Uri>() else { return Ok(()); };
        let Ok(canonical) = canonical_path(uri.path()) else { return Ok(()); };
        let target = format!("http://a.test{canonical}?{}", uri.query().unwrap_or(""));
        let Ok(_) = target.parse::<http::Uri>() else { return Ok(()); };
        let config = "strip_prefix: /a\npaths: [{pattern: '(.)$', replace: '$1$1..'}]\nquery: {set: {a: b}}";
        let plugin = Kit::new().instance(&PLUGIN, config);
        let mut exchange = Exchange::get(&target);
        if went_on(&plugin.upstream_request(&mut exchange)) {
            let sent = exchange.upstream.uri.path();
            let again = canonical_path(sent).ok();
            prop_assert_eq!(again.as_deref(), Some(sent));
            prop_assert!(exchange.upstream.uri.query().is_some_and(|query| query.ends_with("a=b")));
        }
    }
}
