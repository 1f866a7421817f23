use proptest::prelude::*;

use super::*;
use crate::testkit::{answered, field, went_on, Exchange, Instance, Kit};

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

/// Where a request is sent; nothing if it goes on.
fn sent(config: &str, target: &str) -> Option<(u16, String)> {
    let verdict = plugin(config).request(&mut Exchange::get(target));
    if went_on(&verdict) {
        return None;
    }
    let answer = answered(verdict);
    assert_eq!(answer.cause, &REDIRECT);
    Some((
        answer.status,
        field(&answer, "location").unwrap().to_owned(),
    ))
}

fn to(address: &str) -> Option<(u16, String)> {
    Some((308, address.to_owned()))
}

#[test]
fn plain_requests_are_sent_to_tls_with_path_and_query() {
    let config = "https: true";

    assert_eq!(
        sent(config, "http://shop.test/a?b=c"),
        to("https://shop.test/a?b=c")
    );
    assert_eq!(sent(config, "https://shop.test/a"), None);
    assert_eq!(
        sent("https: true\nhttps_port: 8443", "http://shop.test/"),
        to("https://shop.test:8443/")
    );
}

#[test]
fn the_port_a_client_named_stays_on_its_own_host_only() {
    let at_port = |config: &str| {
        let mut exchange = Exchange::get("http://shop.test/a/");
        let head = &mut exchange.request;
        head.insert_header("host", "shop.test:8080").unwrap();
        let answer = answered(plugin(config).request(&mut exchange));
        field(&answer, "location").unwrap().to_owned()
    };

    assert_eq!(at_port("trailing_slash: remove"), "http://shop.test:8080/a");
    assert_eq!(at_port("host: www.shop.test"), "http://www.shop.test/a/");
    assert_eq!(at_port("https: true"), "https://shop.test/a/");
}

#[test]
fn everything_changes_at_once() {
    let config = "https: true\nhost: WWW.shop.test\ntrailing_slash: remove\npaths: [{pattern: '^/old/(.*)$', replace: '/new/$1', status: 301}]";

    assert_eq!(
        sent(config, "http://shop.test/old/a/?x=1"),
        Some((301, "https://www.shop.test/new/a?x=1".to_owned()))
    );
    assert_eq!(sent(config, "https://www.shop.test/new/a"), None);
}

#[test]
fn a_path_may_have_moved_to_another_host_or_into_a_query() {
    let config = "paths:\n- {pattern: '^/docs(/.*)?$', replace: '$1', host: docs.test}\n- {pattern: '^/find/(.+)$', replace: '/search?q=$1'}";

    assert_eq!(
        sent(config, "http://shop.test/docs/a"),
        to("http://docs.test/a")
    );
    assert_eq!(
        sent(config, "http://shop.test/docs"),
        to("http://docs.test/")
    );
    assert_eq!(
        sent(config, "http://shop.test/find/x?y=1"),
        to("http://shop.test/search?q=x&y=1")
    );
}

#[test]
fn rules_that_follow_each_other_are_one_redirect_and_circles_none() {
    let chain = "paths: [{pattern: '^/a$', replace: /b}, {pattern: '^/b$', replace: /c}]";
    let circle = "paths: [{pattern: '^/a$', replace: /b}, {pattern: '^/b$', replace: /a}]";
    let growing = "paths: [{pattern: '^/(.*)$', replace: '/x/$1'}]";

    assert_eq!(sent(chain, "http://shop.test/a"), to("http://shop.test/c"));
    let query = "paths: [{pattern: '^/a', replace: '/a?x=1'}]";
    for config in [circle, growing, query] {
        let verdict = plugin(config).request(&mut Exchange::get("http://shop.test/a"));
        assert!(
            matches!(&verdict, Verdict::Failed { cause, .. } if cause.name == "redirect.loop"),
            "{verdict:?}"
        );
    }
}

#[test]
fn slashes_at_the_end_come_and_go() {
    let add = |path: &str| sent("trailing_slash: add", &format!("http://shop.test{path}"));
    let remove = |path: &str| sent("trailing_slash: remove", &format!("http://shop.test{path}"));

    assert_eq!(add("/a"), to("http://shop.test/a/"));
    assert_eq!((add("/a/"), add("/"), add("/a/b.css")), (None, None, None));
    assert_eq!(remove("/a/"), to("http://shop.test/a"));
    assert_eq!((remove("/a"), remove("/")), (None, None));
}

#[test]
fn excepted_paths_and_the_whole_server_are_left_alone() {
    let config = "https: true\nexcept: [/.well-known/acme-challenge/]";

    assert_eq!(
        sent(config, "http://shop.test/.well-known/acme-challenge/x"),
        None
    );
    assert!(sent(config, "http://shop.test/.well-known/acme-challengex").is_some());
    let mut options = Exchange::get("http://shop.test/").with_path("*");
    assert!(went_on(&plugin(config).request(&mut options)));
}

#[test]
fn a_path_that_climbs_out_by_a_rule_is_refused() {
    let config = "paths: [{pattern: '^/files/(.*)$', replace: '/../$1'}]";

    let answer = answered(plugin(config).request(&mut Exchange::get("http://shop.test/files/a")));

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
    assert_eq!(paths("https: true\nstatus: 200"), ["status"]);
    assert_eq!(paths("host: shop.test\nhttps_port: 1"), ["https_port"]);
    assert_eq!(paths("host: 'https://shop.test'"), ["host"]);
    assert_eq!(paths("host: 'shop.test:80'"), ["host"]);
    assert_eq!(
        paths("https: true\nexcept: [a, //b, /%61]"),
        ["except[0]", "except[1]", "except[2]"]
    );
    assert_eq!(
        paths("paths: [{pattern: '(', replace: x}, {pattern: a, replace: '$1'}, {pattern: a, replace: '/#b', host: '$1', status: 1}]"),
        ["paths[0].pattern", "paths[1].replace", "paths[2].replace", "paths[2].status", "paths[2].host"]
    );
}

proptest! {
    /// Whatever is asked for, the address is on this host and its path is canonical.
    #[test]
    fn no_request_chooses_where_it_is_sent(path in "/[!-~]{0,40}") {
        let Ok(canonical) = crate::contract::canonical_path(&path) else { return Ok(()); };
        let plugin = plugin("https: true\npaths: [{pattern: '^/go(.*)$', replace: '$1'}]");
        let mut exchange = Exchange::get("http://shop.test/").with_path(&canonical);
        if let Verdict::Answer(answer) = plugin.request(&mut exchange) {
            if let Some(location) = field(&answer, "location") {
                let rest = location.strip_prefix("https://shop.test");
                let path = rest.and_then(|rest| rest.split('?').next());
                prop_assert!(path.is_some_and(|path| path.starts_with('/')), "{location}");
                prop_assert!(!location.contains("/../") && !location[8..].contains("//"), "{location}");
            }
        }
    }
}
