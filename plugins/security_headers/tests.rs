use super::*;
use crate::testkit::{fields, Exchange, Kit};

/// The fields of a response that a service answered with these.
fn sent(config: &str, target: &str, before: &[(&str, &str)]) -> http::HeaderMap {
    let plugin = Kit::new().instance(&PLUGIN, config);
    let mut exchange = Exchange::get(target);
    for (name, value) in before {
        exchange = exchange.with_response(name, value);
    }
    plugin.response(&mut exchange);
    exchange.response.headers.clone()
}

const TLS: &str = "https://shop.test/";

#[test]
fn the_basic_preset_is_what_hardly_any_site_breaks_with() {
    let headers = sent("{}", TLS, &[]);

    assert_eq!(
        fields(&headers, "strict-transport-security"),
        ["max-age=31536000"]
    );
    assert_eq!(fields(&headers, "x-content-type-options"), ["nosniff"]);
    assert_eq!(fields(&headers, "x-frame-options"), ["SAMEORIGIN"]);
    assert_eq!(
        fields(&headers, "referrer-policy"),
        ["strict-origin-when-cross-origin"]
    );
    assert_eq!(headers.len(), 4);
}

#[test]
fn hsts_is_said_over_tls_only() {
    let plain = sent("preset: strict", "http://shop.test/", &[]);
    let secure = sent("preset: strict", TLS, &[]);

    assert!(!plain.contains_key("strict-transport-security"));
    assert_eq!(
        fields(&secure, "strict-transport-security"),
        ["max-age=63072000; includeSubDomains"]
    );
}

#[test]
fn what_the_service_says_stays_unless_told_otherwise() {
    let before = [("x-frame-options", "ALLOWALL"), ("x-frame-options", "x")];
    let kept = sent("frame: deny", TLS, &before);
    let replaced = sent("frame: deny\noverwrite: true", TLS, &before);

    assert_eq!(fields(&kept, "x-frame-options"), ["ALLOWALL", "x"]);
    assert_eq!(fields(&replaced, "x-frame-options"), ["DENY"]);
}

#[test]
fn off_takes_a_field_of_the_preset_out() {
    let config =
        "hsts: off\nnosniff: false\nframe: off\nreferrer_policy: off\nopener_policy: same-origin";

    let headers = sent(config, TLS, &[]);

    assert_eq!(headers.len(), 1);
    assert_eq!(
        fields(&headers, "cross-origin-opener-policy"),
        ["same-origin"]
    );
}

#[test]
fn the_frame_setting_joins_the_policy_that_is_sent() {
    let policy = |config: &str| {
        let headers = sent(&format!("preset: none\n{config}"), TLS, &[]);
        fields(&headers, "content-security-policy").join("|")
    };

    assert_eq!(
        policy("frame: deny\ncontent_security_policy: \"default-src 'self';\""),
        "default-src 'self'; frame-ancestors 'none'"
    );
    assert_eq!(
        policy("frame: deny\ncontent_security_policy: \"frame-ancestors https://a.test\""),
        "frame-ancestors https://a.test"
    );
    assert_eq!(
        policy("frame: {allow: [\"'self'\", 'https://a.test']}"),
        "frame-ancestors 'self' https://a.test"
    );
    assert_eq!(policy("frame: deny"), "");
}

#[test]
fn what_names_the_software_is_removed_where_asked() {
    let before = [("server", "nginx/1.2"), ("x-powered-by", "PHP/5")];

    assert!(sent("{}", TLS, &before).contains_key("server"));
    let hidden = sent("hide_software: true", TLS, &before);
    assert!(!hidden.contains_key("server") && !hidden.contains_key("x-powered-by"));
    assert!(!sent("preset: api", TLS, &before).contains_key("server"));
}

#[test]
fn a_policy_to_try_out_goes_beside_the_one_in_force() {
    let headers = sent(
        "preset: api\ncontent_security_policy_report_only: \"default-src 'self'; report-to main\"",
        TLS,
        &[],
    );

    assert_eq!(
        fields(&headers, "content-security-policy"),
        ["default-src 'none'; frame-ancestors 'none'"]
    );
    assert_eq!(
        fields(&headers, "content-security-policy-report-only"),
        ["default-src 'self'; report-to main"]
    );
}

#[test]
fn an_upgraded_connection_gets_nothing() {
    let plugin = Kit::new().instance(&PLUGIN, "preset: strict");
    let mut exchange = Exchange::get(TLS).with_status(101);

    plugin.response(&mut exchange);

    assert!(exchange.response.headers.is_empty());
}

#[test]
fn mistakes_that_browsers_would_pass_over_are_refused() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(paths("preset: none"), [""]);
    assert_eq!(paths("hsts: {preload: true}"), ["hsts.preload"]);
    assert_eq!(paths("referrer_policy: no-referer"), ["referrer_policy"]);
    assert_eq!(paths("referrer_policy: 'no-referrer, origin'"), [""; 0]);
    assert_eq!(
        paths("opener_policy: 'same-origin, unsafe-none'"),
        ["opener_policy"]
    );
    assert_eq!(paths("embedder_policy: require"), ["embedder_policy"]);
    assert_eq!(paths("resource_policy: same"), ["resource_policy"]);
    assert_eq!(
        paths("permissions_policy: \"a\\nb\""),
        ["permissions_policy"]
    );
    assert_eq!(paths("frame: {allow: []}"), ["frame.allow"]);
    assert_eq!(
        paths("frame: {allow: [partner.test, 'https://a;b']}"),
        ["frame.allow[0]", "frame.allow[1]"]
    );
    let csp = |policy: &str| paths(&format!("content_security_policy: \"{policy}\"")).len();
    assert_eq!(csp("default-src self"), 1, "a keyword without quotes");
    assert_eq!(csp("img-src *; img-src 'self'"), 1, "twice");
    assert_eq!(csp("default-src: 'self'"), 1, "a colon");
    assert_eq!(csp(" ; "), 1, "empty");
    assert_eq!(csp("script-src nonce-abc"), 1);
    assert_eq!(csp("default-src 'self'\\r\\nx: y"), 1, "a line break");
    assert_eq!(
        paths("content_security_policy_report_only: \"default-src 'self'\""),
        ["content_security_policy_report_only"]
    );
}
