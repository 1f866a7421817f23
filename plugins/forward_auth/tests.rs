use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::contract::{CallFailure, Trace};
use crate::testkit::{answered, field, fields, reply, went_on, Exchange, Instance, Kit};

const SERVICE: &str = "http://auth/verify";

fn kit() -> Kit {
    Kit::new().with_pool("auth")
}

fn instance(kit: &Kit, more: &str) -> Instance {
    kit.instance(&PLUGIN, &format!("service: {SERVICE}\n{more}"))
}

/// The cause and reason of a hook that could not do its work.
fn failed(verdict: Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Failed { cause, reason } => (cause.name, reason),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn the_service_is_told_of_the_request_and_gets_only_what_is_named() {
    let kit = kit();
    kit.answer(SERVICE, Ok(reply(200, &[], "")));
    let plugin = instance(&kit, "send: [authorization, x-tenant-*, connection-id]");
    let trace = Trace {
        trace_id: [1; 16],
        span_id: [2; 8],
        sampled: true,
    };
    let mut exchange = Exchange::new("POST", "https://Shop.test:8443/raw?a=b%20c")
        .with_path("/canonical")
        .with_id("id-7")
        .in_trace(trace)
        .with("authorization", "Bearer t")
        .with("cookie", "secret=1")
        .with("x-tenant-id", "1")
        .with("x-tenant-id", "2")
        .with("content-length", "5")
        .with("x-forwarded-for", "1.2.3.4");
    exchange
        .request
        .insert_header("host", "shop.test:8443")
        .unwrap();

    assert!(went_on(&plugin.request(&mut exchange)));

    let asked = kit.asked().remove(0);
    assert_eq!((&*asked.method, &*asked.url), ("GET", SERVICE));
    for (name, value) in [
        ("host", "auth"),
        ("x-forwarded-method", "POST"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.test:8443"),
        ("x-forwarded-uri", "/canonical?a=b%20c"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-original-url", "https://shop.test:8443/canonical?a=b%20c"),
        ("authorization", "Bearer t"),
        ("x-request-id", "id-7"),
        (
            "traceparent",
            "00-01010101010101010101010101010101-0202020202020202-01",
        ),
    ] {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
    assert_eq!(fields(&asked.headers, "x-tenant-id"), ["1", "2"]);
    for name in ["cookie", "content-length"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert!(asked.body.is_empty());
    assert_eq!(asked.call.timeout, Duration::from_secs(5));
}

#[test]
fn the_question_goes_to_the_requests_path_with_its_method_where_that_is_wanted() {
    let kit = kit();
    let plugin = kit.instance(
        &PLUGIN,
        "{service: 'http://auth/v1/?k=v', method: original, append_path: true}",
    );
    for (path, expected) in [
        ("/a/b", "http://auth/v1/a/b?q=1"),
        ("//x", "http://auth/v1//x?q=1"),
    ] {
        plugin.request(&mut Exchange::new("DELETE", "http://shop.test/?q=1").with_path(path));

        let asked = kit.asked().pop().unwrap();
        assert_eq!((&*asked.method, &*asked.url), ("DELETE", expected));
    }
}

#[test]
fn what_the_service_grants_replaces_whatever_the_client_says() {
    let kit = kit();
    let granted = [
        ("x-user", "ann"),
        ("x-role-a", "1"),
        ("x-other", "no"),
        ("connection", "close"),
    ];
    kit.answer(SERVICE, Ok(reply(204, &granted, "")));
    let plugin = instance(
        &kit,
        "request_headers: [x-user, x-role-*]\nprincipal: x-user",
    );
    let mut exchange = Exchange::get("http://shop.test/")
        .with("x-user", "mallory")
        .with("x_user", "mallory")
        .with("x-role-admin", "1")
        .with("x_role_admin", "1")
        .with("x-roles", "kept");

    assert!(went_on(&plugin.request(&mut exchange)));
    // As a proxy does that is told `Connection: x-user`.
    exchange.request.remove_header("x-user");
    assert!(went_on(&plugin.upstream_request(&mut exchange)));

    let sent = &exchange.upstream.headers;
    assert_eq!(fields(sent, "x-user"), ["ann"]);
    assert_eq!(fields(sent, "x-role-a"), ["1"]);
    for name in [
        "x_user",
        "x-role-admin",
        "x_role_admin",
        "x-other",
        "connection",
    ] {
        assert!(sent.get(name).is_none(), "{name}");
    }
    assert_eq!(fields(sent, "x-roles"), ["kept"]);
    assert_eq!(exchange.principal().unwrap().id(), "consumer:ann");
}

#[test]
fn what_the_client_says_is_gone_also_where_the_service_fails_and_the_chain_goes_on() {
    let kit = kit();
    kit.answer(SERVICE, Err(CallFailure::TimedOut));
    let plugin = instance(&kit, "request_headers: [x-user]\nprincipal: x-name");
    let mut exchange = Exchange::get("http://shop.test/")
        .with("x-user", "m")
        .with("x-name", "m");

    let (cause, reason) = failed(plugin.request(&mut exchange));
    plugin.upstream_request(&mut exchange);

    assert_eq!(cause, "auth.forward_unavailable");
    assert_eq!(reason, "http://auth/verify did not answer in time");
    for headers in [&exchange.request.headers, &exchange.upstream.headers] {
        assert!(headers.get("x-user").is_none() && headers.get("x-name").is_none());
    }
    assert!(exchange.principal().is_none());
}

#[test]
fn another_answer_goes_to_the_client_with_the_fields_that_may() {
    let kit = kit();
    let given = [
        ("content-type", "text/html"),
        ("location", "https://login/"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-internal", "secret"),
        ("transfer-encoding", "chunked"),
    ];
    kit.answer(SERVICE, Ok(reply(302, &given, "<p>")));
    let plugin = instance(&kit, "");

    let answer = answered(plugin.request(&mut Exchange::get("http://shop.test/")));

    assert_eq!(
        (answer.status, answer.cause.name),
        (302, "auth.forward_denied")
    );
    let names: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["location", "set-cookie", "set-cookie"]);
    assert_eq!(field(&answer, "location"), Some("https://login/"));
    let (media, body) = answer.body.unwrap();
    assert_eq!(
        (media.to_str().unwrap(), &body[..]),
        ("text/html", &b"<p>"[..])
    );
    assert_eq!(kit.counted("denied"), 1);
}

#[test]
fn a_denial_without_a_body_is_written_by_the_proxy() {
    let kit = kit();
    kit.answer(
        SERVICE,
        Ok(reply(401, &[("www-authenticate", "Basic")], "")),
    );

    let answer = answered(instance(&kit, "").request(&mut Exchange::get("http://shop.test/")));

    assert_eq!((answer.status, answer.body), (401, None));
    assert_eq!(answer.headers.len(), 1);
}

#[test]
fn fields_for_the_client_come_with_the_response() {
    let kit = kit();
    let given = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-no", "1")];
    kit.answer(SERVICE, Ok(reply(200, &given, "")));
    let plugin = instance(&kit, "response_headers: [set-cookie]");
    let mut exchange = Exchange::get("http://shop.test/").with_response("set-cookie", "own=1");

    plugin.request(&mut exchange);
    assert!(went_on(&plugin.response(&mut exchange)));

    assert_eq!(
        fields(&exchange.response.headers, "set-cookie"),
        ["own=1", "a=1", "b=2"]
    );
    assert!(exchange.response.headers.get("x-no").is_none());
}

#[test]
fn an_answer_that_cannot_be_used_is_a_failure_and_never_a_denial() {
    let long = "x".repeat(20 << 10);
    let two = [("x-user", "ann"), ("x-user", "bob")];
    let cases = [
        (reply(500, &[], "no"), "status 500"),
        (reply(503, &[], ""), "status 503"),
        (reply(101, &[], ""), "status 101"),
        (reply(200, &[("x-role-a", &long)], ""), "16 KiB"),
        (reply(200, &two, ""), "more than once"),
        (reply(200, &[("x-user", &long)], ""), "characters"),
        (reply(403, &[("location", &long)], ""), "16 KiB"),
        (reply(403, &[], "x".repeat(70_000)), "too large"),
    ];
    for (given, expected) in cases {
        let kit = kit();
        kit.answer(SERVICE, Ok(given));
        let plugin = instance(&kit, "request_headers: [x-role-*]\nprincipal: x-user");

        let (cause, reason) = failed(plugin.request(&mut Exchange::get("http://shop.test/")));

        assert_eq!(cause, "auth.forward_unavailable", "{expected}");
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(kit.counted("denied"), 0);
    }
}

#[test]
fn a_dry_run_asks_nobody_and_still_takes_away_what_a_client_may_not_say() {
    let kit = kit();
    let plugin = instance(&kit, "request_headers: [x-user]");
    let mut exchange = Exchange::get("http://shop.test/").with("x-user", "m").dry();

    let verdict = plugin.request(&mut exchange);

    assert!(matches!(verdict, Verdict::Unknown(what) if what.0 == SERVICE));
    assert!(exchange.request.headers.get("x-user").is_none());
    assert!(kit.asked().is_empty());
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, path) in [
        ("{}", ""),
        ("service: nowhere", "service"),
        ("service: {url: 'http://a/', pool: other}", "service.pool"),
        ("{service: 'http://a/', timeout: 0s}", "timeout"),
        ("{service: 'http://a/', timeout: 2m}", "timeout"),
        ("{service: 'http://a/', answer_limit: 2MiB}", "answer_limit"),
        ("{service: 'http://a/', send: ['*']}", "send[0]"),
        (
            "{service: 'http://a/', send: [a, transfer-encoding]}",
            "send[1]",
        ),
        (
            "{service: 'http://a/', request_headers: [host]}",
            "request_headers[0]",
        ),
        (
            "{service: 'http://a/', request_headers: ['x y']}",
            "request_headers[0]",
        ),
        (
            "{service: 'http://a/', response_headers: [connection]}",
            "response_headers[0]",
        ),
        (
            "{service: 'http://a/', answer_headers: ['x-*']}",
            "answer_headers[0]",
        ),
        ("{service: 'http://a/', principal: ''}", "principal"),
        ("{service: 'http://a/', method: post}", "method"),
    ] {
        assert_eq!(kit().problem_paths(&PLUGIN, config), [path], "{config}");
    }
}

proptest! {
    /// Whatever a client sends under a name that only the service may use, the service behind the proxy never sees it.
    #[test]
    fn no_spelling_of_a_granted_field_gets_through(
        name in "[xX][-_][uU][sS][eE][rR]([-_][a-z]{0,4})?",
        value in "[ -~]{0,20}",
    ) {
        let kit = kit();
        kit.answer(SERVICE, Ok(reply(200, &[], "")));
        let plugin = instance(&kit, "request_headers: [x-user*]");
        let mut exchange = Exchange::get("http://shop.test/").with(&name, &value);

        plugin.request(&mut exchange);
        exchange.request.insert_header("x-user", "added later").unwrap();
        plugin.upstream_request(&mut exchange);

        let is_left = |name: &http::HeaderName| name.as_str().replace('_', "-").starts_with("x-user");
        prop_assert!(!exchange.upstream.headers.keys().any(is_left));
    }
}

#[test]
fn the_service_gets_the_body_with_what_it_is_of() {
    let kit = Kit::new();
    let allowed = || Ok(reply(200, &[], ""));
    for _ in 0..2 {
        kit.answer("http://auth.test/verify", allowed());
    }
    let build = |partial: bool| {
        kit.instance(
            &PLUGIN,
            &format!("{{service: 'http://auth.test/verify', method: original, send: ['x-envoy-*'], with_request_body: {{max_bytes: 4B, allow_partial: {partial}}}}}"),
        )
    };
    let post = |body: &'static str| {
        Exchange::new("POST", "http://shop.test/")
            .with("content-type", "text/plain")
            .with("content-encoding", "identity")
            .with("x-envoy-auth-partial-body", "no")
            .with_body(body)
    };

    assert!(went_on(&build(false).request(&mut post("1234"))));
    let refused = answered(build(false).request(&mut post("12345")));
    assert!(went_on(&build(true).request(&mut post("12345"))));

    assert_eq!(
        (refused.status, refused.cause.name),
        (413, "auth.forward_too_large")
    );
    let asked = kit.asked();
    let partial = |at: usize| asked[at].header("x-envoy-auth-partial-body");
    assert_eq!(
        (&asked[0].body[..], partial(0)),
        (&b"1234"[..], Some("false"))
    );
    assert_eq!(
        (&asked[1].body[..], partial(1)),
        (&b"1234"[..], Some("true"))
    );
    assert_eq!(asked[0].header("content-type"), Some("text/plain"));
    assert_eq!(asked[0].header("content-encoding"), Some("identity"));
    for (config, path) in [
        (
            "{service: 'http://a/', with_request_body: {max_bytes: 1B}}",
            "with_request_body",
        ),
        (
            "{service: 'http://a/', method: original, with_request_body: {max_bytes: 0B}}",
            "with_request_body.max_bytes",
        ),
    ] {
        assert_eq!(kit.problem_paths(&PLUGIN, config), [path], "{config}");
    }
}
