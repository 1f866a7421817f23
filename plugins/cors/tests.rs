use super::*;
use crate::testkit::{answered, field, fields, went_on, Exchange, Instance, Kit};

const APP: &str = "https://app.example.com";

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

fn preflight(origin: &str) -> Exchange {
    Exchange::new("OPTIONS", "https://api.test/orders")
        .with("origin", origin)
        .with("access-control-request-method", "DELETE")
        .with("access-control-request-headers", "authorization,x-a")
}

fn marked(plugin: &Instance, mut exchange: Exchange) -> HeaderMap {
    plugin.request(&mut exchange);
    plugin.response(&mut exchange);
    exchange.response.headers.clone()
}

fn from_origin(origin: &str) -> Exchange {
    Exchange::get("https://api.test/orders").with("origin", origin)
}

fn is_allowed(plugin: &Instance, origin: &str) -> bool {
    marked(plugin, from_origin(origin)).contains_key("access-control-allow-origin")
}

#[test]
fn a_preflight_of_an_allowed_origin_gets_everything_it_needs() {
    let plugin = plugin(
        "origins: [https://app.example.com]\ncredentials: true\nmethods: [GET, DELETE]\nheaders: [Authorization, X-A]\nexpose: [X-B]\nmax_age: 1h",
    );

    let answer = answered(plugin.request(&mut preflight(APP)));

    assert_eq!((answer.status, answer.cause.name), (204, "cors.preflight"));
    let says = |name: &str| field(&answer, name);
    assert_eq!(says("access-control-allow-origin"), Some(APP));
    assert_eq!(says("access-control-allow-credentials"), Some("true"));
    assert_eq!(says("access-control-allow-methods"), Some("GET, DELETE"));
    assert_eq!(
        says("access-control-allow-headers"),
        Some("Authorization, X-A")
    );
    assert_eq!(says("access-control-max-age"), Some("3600"));
    assert_eq!(says("access-control-expose-headers"), None);
    assert_eq!(
        says("vary"),
        Some("Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
    );
    assert!(answer.body.is_some_and(|(_, body)| body.is_empty()));
}

#[test]
fn a_preflight_of_another_origin_is_answered_without_cors_fields() {
    let plugin = plugin("origins: [https://app.example.com]");

    let answer = answered(plugin.request(&mut preflight("https://evil.test")));

    let names: Vec<&str> = answer
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!((answer.status, names), (204, vec!["vary"]));
}

#[test]
fn only_options_with_both_fields_is_a_preflight() {
    let plugin = plugin("origins: [\"*\"]");
    let mut no_method = Exchange::new("OPTIONS", "https://api.test/").with("origin", APP);
    let mut no_origin =
        Exchange::new("OPTIONS", "https://api.test/").with("access-control-request-method", "PUT");
    let mut get = from_origin(APP).with("access-control-request-method", "PUT");

    assert!(went_on(&plugin.request(&mut no_method)));
    assert!(went_on(&plugin.request(&mut no_origin)));
    assert!(went_on(&plugin.request(&mut get)));
}

#[test]
fn a_star_for_methods_and_headers_repeats_what_was_asked() {
    let plugin = plugin(
        "origins: [https://app.example.com]\ncredentials: true\nmethods: [\"*\"]\nheaders: [\"*\"]",
    );

    let answer = answered(plugin.request(&mut preflight(APP)));

    assert_eq!(
        field(&answer, "access-control-allow-methods"),
        Some("DELETE")
    );
    assert_eq!(
        field(&answer, "access-control-allow-headers"),
        Some("authorization,x-a")
    );
}

#[test]
fn private_network_is_granted_only_when_set_and_asked() {
    let granting = plugin("origins: [\"*\"]\nprivate_network: true");
    let silent = plugin("origins: [\"*\"]");
    let ask = || preflight(APP).with("access-control-request-private-network", "true");
    let grants =
        |answer: Answer| field(&answer, "access-control-allow-private-network").map(str::to_owned);

    assert_eq!(
        grants(answered(granting.request(&mut ask()))).as_deref(),
        Some("true")
    );
    assert_eq!(
        grants(answered(granting.request(&mut preflight(APP)))),
        None
    );
    assert_eq!(grants(answered(silent.request(&mut ask()))), None);
}

#[test]
fn a_response_to_an_allowed_origin_is_marked() {
    let plugin =
        plugin("origins: [https://app.example.com]\ncredentials: true\nexpose: [X-A, X-B]");

    let headers = marked(&plugin, from_origin(APP));

    assert_eq!(fields(&headers, "access-control-allow-origin"), [APP]);
    assert_eq!(
        fields(&headers, "access-control-allow-credentials"),
        ["true"]
    );
    assert_eq!(
        fields(&headers, "access-control-expose-headers"),
        ["X-A, X-B"]
    );
    assert_eq!(fields(&headers, "vary"), ["Origin"]);
}

#[test]
fn vary_is_sent_to_everybody_unless_every_origin_gets_the_same() {
    let listed = plugin("origins: [https://app.example.com]");
    let any = plugin("origins: [\"*\"]");
    let plain = || Exchange::get("https://api.test/");

    assert_eq!(fields(&marked(&listed, plain()), "vary"), ["Origin"]);
    assert_eq!(
        fields(&marked(&listed, from_origin("https://evil.test")), "vary"),
        ["Origin"]
    );
    assert!(fields(&marked(&any, from_origin(APP)), "vary").is_empty());
    assert_eq!(
        fields(&marked(&any, plain()), "access-control-allow-origin"),
        ["*"]
    );
}

#[test]
fn vary_of_the_service_is_kept_and_not_repeated() {
    let plugin = plugin("origins: [https://app.example.com]");
    let with_vary = |vary: &str| marked(&plugin, from_origin(APP).with_response("vary", vary));

    assert_eq!(fields(&with_vary("Accept"), "vary"), ["Accept", "Origin"]);
    assert_eq!(
        fields(&with_vary("Accept, origin"), "vary"),
        ["Accept, origin"]
    );
    assert_eq!(fields(&with_vary("*"), "vary"), ["*"]);
}

#[test]
fn the_services_own_cors_fields_are_removed() {
    let plugin = plugin("origins: [https://app.example.com]");
    let exchange = from_origin("https://evil.test")
        .with_response("access-control-allow-origin", "*")
        .with_response("access-control-allow-credentials", "true")
        .with_response("access-control-expose-headers", "X-Secret");

    let headers = marked(&plugin, exchange);

    let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["vary"]);
}

#[test]
fn the_preflights_own_answer_is_left_as_made() {
    let plugin = plugin("origins: [https://app.example.com]");
    let mut exchange = preflight(APP);
    let answer = answered(plugin.request(&mut exchange));
    exchange.answer(&answer);

    plugin.response(&mut exchange);

    let headers = &exchange.response.headers;
    assert_eq!(fields(headers, "access-control-allow-origin"), [APP]);
    assert_eq!(fields(headers, "vary").len(), 1);
    assert!(headers.contains_key("access-control-allow-methods"));
}

#[test]
fn a_subdomain_pattern_matches_any_depth_but_not_the_domain_itself() {
    let plugin = plugin("origins: [\"https://*.example.com\", \"https://*.dev.test:8443\"]");

    for origin in [
        "https://a.example.com",
        "https://a.b.example.com",
        "https://x.dev.test:8443",
    ] {
        assert!(is_allowed(&plugin, origin), "{origin}");
    }
    for origin in [
        "https://example.com",
        "http://a.example.com",
        "https://.example.com",
        "https://a..example.com",
        "https://evil.test/.example.com",
        "https://evil.test#.example.com",
        "https://evil.test:80@a.example.com",
        "https://a.example.com.evil.test",
        "https://aexample.com",
        "https://a.example.com:8443",
        "https://x.dev.test",
    ] {
        assert!(!is_allowed(&plugin, origin), "{origin}");
    }
}

#[test]
fn a_regular_expression_matches_the_whole_origin_only() {
    let plugin = plugin("origins: ['~https://pr-[0-9]+\\.example\\.com|https://x\\.test']");

    assert!(is_allowed(&plugin, "https://pr-12.example.com"));
    assert!(is_allowed(&plugin, "https://x.test"));
    assert!(!is_allowed(&plugin, "https://pr-12.example.com.evil.test"));
    assert!(!is_allowed(&plugin, "https://evil.test?https://x.test"));
}

#[test]
fn the_null_origin_needs_its_own_line() {
    assert!(!is_allowed(
        &plugin("origins: [\"https://*.a.test\"]"),
        "null"
    ));
    assert!(is_allowed(&plugin("origins: [\"null\"]"), "null"));
}

#[test]
fn a_dry_run_answers_the_same() {
    let plugin = plugin("origins: [https://app.example.com]");

    let answer = answered(plugin.request(&mut preflight(APP).dry()));

    assert_eq!(field(&answer, "access-control-allow-origin"), Some(APP));
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("origins: [\"*\"]\ncredentials: true\nexpose: [\"*\"]"),
        ["credentials", "expose"]
    );
    assert_eq!(paths("origins: []"), ["origins"]);
    assert_eq!(
        paths("origins: [app.example.com, https://a.test/, https://A.test, https://a.test:443, \"~[\", \"https://a.*.test\", \"https://u@a.test\", https://a.test/x]"),
        (0..8).map(|index| format!("origins[{index}]")).collect::<Vec<_>>()
    );
    assert_eq!(
        paths("origins: [\"*\"]\nmethods: [get, \"GET, PUT\"]\nheaders: [\"X A\"]"),
        ["methods[0]", "methods[1]", "headers[0]"]
    );
    assert_eq!(paths("origins: [\"*\"]\nmax_age: never"), ["max_age"]);
}
