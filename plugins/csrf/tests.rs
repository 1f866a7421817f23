use super::*;
use crate::testkit::{answered, Exchange, Instance, Kit};

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

fn post() -> Exchange {
    Exchange::new("POST", "https://shop.test/orders")
}

fn says(plugin: &Instance, exchange: Exchange) -> Result<(), &'static str> {
    let mut exchange = exchange;
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(()),
        verdict => Err(answered(verdict).cause.name),
    }
}

const REFUSED: Result<(), &str> = Err("csrf.cross_origin");

/// The table of Go's `CrossOriginProtection`, in its own words.
#[test]
fn requests_are_judged_by_what_browsers_say() {
    let plugin = plugin("trusted_origins: ['https://app.test']");
    for (method, site, origin, expected) in [
        ("POST", Some("same-origin"), None, Ok(())),
        ("POST", Some("none"), None, Ok(())),
        ("POST", Some("cross-site"), None, REFUSED),
        ("POST", Some("same-site"), None, REFUSED),
        ("POST", Some(""), None, REFUSED),
        ("POST", None, None, Ok(())),
        ("POST", None, Some("https://shop.test"), Ok(())),
        ("POST", None, Some("https://SHOP.test"), Ok(())),
        ("POST", None, Some("https://evil.test"), REFUSED),
        ("POST", None, Some("https://shop.test.evil.test"), REFUSED),
        ("POST", None, Some("https://shop.test:8443"), REFUSED),
        ("POST", None, Some("null"), REFUSED),
        ("POST", None, Some(""), REFUSED),
        ("POST", Some("cross-site"), Some("https://app.test"), Ok(())),
        (
            "POST",
            Some("cross-site"),
            Some("https://app.test.evil.test"),
            REFUSED,
        ),
        ("POST", Some("cross-site"), Some("http://app.test"), REFUSED),
        ("GET", Some("cross-site"), None, Ok(())),
        ("HEAD", Some("cross-site"), None, Ok(())),
        ("OPTIONS", Some("cross-site"), None, Ok(())),
        ("PUT", Some("cross-site"), None, REFUSED),
        ("DELETE", Some("cross-site"), None, REFUSED),
        ("get", Some("cross-site"), None, REFUSED),
    ] {
        let mut exchange = Exchange::new(method, "https://shop.test/orders");
        if let Some(site) = site {
            exchange = exchange.with("sec-fetch-site", site);
        }
        if let Some(origin) = origin {
            exchange = exchange.with("origin", origin);
        }
        assert_eq!(
            says(&plugin, exchange),
            expected,
            "{method} {site:?} {origin:?}"
        );
    }
}

#[test]
fn what_is_said_twice_is_not_believed() {
    let plugin = plugin("trusted_origins: ['https://app.test']");
    let both = post()
        .with("sec-fetch-site", "same-origin")
        .with("sec-fetch-site", "cross-site");
    let origins = post()
        .with("origin", "https://app.test")
        .with("origin", "https://evil.test");

    assert_eq!(says(&plugin, both), REFUSED);
    assert_eq!(says(&plugin, origins), REFUSED);
}

#[test]
fn paths_that_are_exempt_are_whole_ones() {
    let plugin = plugin("exempt: [/hooks/, /ping]");
    let at = |path: &str| {
        let exchange = post().with_path(path).with("sec-fetch-site", "cross-site");
        says(&plugin, exchange)
    };

    assert_eq!((at("/hooks/a"), at("/ping")), (Ok(()), Ok(())));
    assert_eq!(
        (at("/hooksa"), at("/ping/a"), at("/")),
        (REFUSED, REFUSED, REFUSED)
    );
}

#[test]
fn a_token_has_to_be_there_twice_where_one_is_asked_for() {
    let plugin = plugin("double_submit: {cookie: t, header: x-token}");
    let token = "0123456789abcdef";
    let cookie = || post().with("cookie", &format!("a=b; t={token}"));
    let wrong = Err("csrf.token");

    assert_eq!(says(&plugin, cookie().with("x-token", token)), Ok(()));
    assert_eq!(says(&plugin, cookie()), wrong);
    assert_eq!(says(&plugin, post().with("x-token", token)), wrong);
    assert_eq!(
        says(&plugin, cookie().with("x-token", "0123456789abcdeF")),
        wrong
    );
    assert_eq!(
        says(&plugin, cookie().with("x-token", "0123456789abcde")),
        wrong
    );
    let twice = cookie().with("x-token", token).with("x-token", token);
    assert_eq!(says(&plugin, twice), wrong);
    let two = cookie()
        .with("cookie", "t=other-0123456789")
        .with("x-token", token);
    assert_eq!(says(&plugin, two), wrong);
    let short = post().with("cookie", "t=a").with("x-token", "a");
    assert_eq!(says(&plugin, short), wrong);
    let empty = post().with("cookie", "t=").with("x-token", "");
    assert_eq!(says(&plugin, empty), wrong);
    let foreign = cookie()
        .with("x-token", token)
        .with("sec-fetch-site", "cross-site");
    assert_eq!(says(&plugin, foreign), REFUSED);
    assert_eq!(says(&plugin, Exchange::get("https://shop.test/")), Ok(()));
}

#[test]
fn wrong_settings_are_located() {
    let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

    for origin in [
        "app.test",
        "https://App.test",
        "https://app.test/",
        "https://app.test:443",
        "ftp://app.test",
        "null",
        "https://",
        "https://a@app.test",
    ] {
        let found = paths(&format!("trusted_origins: ['{origin}']"));
        assert_eq!(found, ["trusted_origins[0]"], "{origin}");
    }
    assert_eq!(paths("trusted_origins: ['http://[::1]:8080']"), [""; 0]);
    assert_eq!(paths("exempt: [hooks]"), ["exempt[0]"]);
    assert_eq!(
        paths("exempt: ['/%61/', /b, '/a?b', //a]"),
        ["exempt[0]", "exempt[2]", "exempt[3]"]
    );
    assert_eq!(
        paths("double_submit: {cookie: 'a b', header: 'a b'}"),
        ["double_submit.cookie", "double_submit.header"]
    );
}

#[test]
fn a_dry_run_counts_nothing() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "{}");

    let foreign = post().with("sec-fetch-site", "cross-site").dry();

    assert_eq!(says(&plugin, foreign), REFUSED);
    assert_eq!(kit.counted("refused"), 0);
}

proptest::proptest! {
    #[test]
    fn no_origin_that_is_not_the_hosts_own_gets_through(origin in "[ -~]{0,40}") {
        let plugin = plugin("{}");
        let exchange = post().with("origin", &origin);
        let is_own = ["https://shop.test", "http://shop.test"].contains(&&*origin);
        let outcome = says(&plugin, exchange);
        let names_host = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case("shop.test"));
        proptest::prop_assert_eq!(outcome.is_ok(), is_own || names_host);
    }
}

#[test]
fn over_http2_the_host_is_the_one_that_was_asked_for() {
    let plugin = plugin("{}");
    let says = |origin: &str| says(&plugin, post().over_http2().with("origin", origin));

    assert_eq!(says("https://shop.test"), Ok(()));
    assert_eq!(says("https://evil.test"), REFUSED);
}

#[test]
fn a_port_that_goes_without_saying_may_be_said() {
    let plugin = plugin("{}");
    let mut exchange = post().with("origin", "https://shop.test");
    exchange
        .request
        .insert_header("host", "shop.test:443")
        .unwrap();

    assert_eq!(says(&plugin, exchange), Ok(()));
}

#[test]
fn a_page_of_another_site_opens_no_websocket() {
    let config =
        "trusted_origins: ['https://app.test']\ndouble_submit: {cookie: csrf, header: x-csrf}";
    let plugin = plugin(config);
    let opens = || Exchange::get("https://shop.test/live").with("upgrade", "websocket");

    assert_eq!(says(&plugin, opens()), Ok(()), "a program");
    for (origin, expected) in [
        ("https://shop.test", Ok(())),
        ("https://app.test", Ok(())),
        ("https://evil.test", REFUSED),
        ("null", REFUSED),
    ] {
        assert_eq!(
            says(&plugin, opens().with("origin", origin)),
            expected,
            "{origin}"
        );
    }
    let cross = opens().with("sec-fetch-site", "cross-site");
    assert_eq!(says(&plugin, cross), REFUSED);
}
