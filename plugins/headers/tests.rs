use super::*;
use crate::testkit::{fields, Exchange, Instance, Kit};

fn upstream(config: &str, mut exchange: Exchange) -> Exchange {
    let plugin = Kit::new().instance(&PLUGIN, config);
    plugin.request(&mut exchange);
    plugin.upstream_request(&mut exchange);
    exchange
}

fn downstream(plugin: &Instance, mut exchange: Exchange) -> Exchange {
    plugin.response(&mut exchange);
    exchange
}

fn get() -> Exchange {
    Exchange::get("http://shop.test/cart")
}

#[test]
fn set_replaces_every_value() {
    let exchange = upstream(
        "request: {set: {X-A: new}}",
        get().with("x-a", "1").with("x-a", "2"),
    );

    assert_eq!(fields(&exchange.upstream.headers, "x-a"), ["new"]);
}

#[test]
fn add_keeps_what_is_there_and_takes_lists() {
    let exchange = upstream("request: {add: {X-A: [two, 3]}}", get().with("x-a", "one"));

    assert_eq!(
        fields(&exchange.upstream.headers, "x-a"),
        ["one", "two", "3"]
    );
}

#[test]
fn remove_takes_names_and_prefixes_but_never_framing() {
    let exchange = upstream(
        "request: {remove: [X-A, Con*, hos*]}",
        get()
            .with("x-a", "1")
            .with("content-length", "0")
            .with("content-language", "en"),
    );

    let names: Vec<&str> = exchange
        .upstream
        .headers
        .keys()
        .map(HeaderName::as_str)
        .collect();
    assert_eq!(names, ["host", "content-length"]);
}

#[test]
fn remove_runs_before_set_and_set_before_add() {
    let exchange = upstream(
        "request: {remove: [X-A], set: {X-A: one}, add: {X-A: two}}",
        get().with("x-a", "zero"),
    );

    assert_eq!(fields(&exchange.upstream.headers, "x-a"), ["one", "two"]);
}

#[test]
fn each_attempt_starts_from_the_request_as_received() {
    let plugin = Kit::new().instance(&PLUGIN, "request: {add: {X-A: one}}");
    let mut exchange = get();

    plugin.upstream_request(&mut exchange);
    plugin.upstream_request(&mut exchange);

    assert_eq!(fields(&exchange.upstream.headers, "x-a"), ["one"]);
    assert!(fields(&exchange.request.headers, "x-a").is_empty());
}

#[test]
fn variables_are_filled_in() {
    let config = r#"request: {set: {X-A: "${request_id} ${client_ip} ${host} ${path} ${route} ${principal}"}}"#;
    let exchange = get().with_id("id").on_route("shop").as_consumer("ann");

    let exchange = upstream(config, exchange);

    assert_eq!(
        fields(&exchange.upstream.headers, "x-a"),
        ["id 192.0.2.1 shop.test /cart shop consumer:ann"]
    );
}

#[test]
fn a_value_that_comes_out_empty_removes_the_field() {
    let config = r#"request: {set: {X-User: "${principal}"}, add: {X-Other: "${principal}"}}"#;

    let exchange = upstream(config, get().with("x-user", "forged"));

    assert!(fields(&exchange.upstream.headers, "x-user").is_empty());
    assert!(fields(&exchange.upstream.headers, "x-other").is_empty());
}

#[test]
fn a_line_break_in_a_variable_cannot_begin_a_new_field() {
    let config = r#"request: {set: {X-Path: "${path}"}}"#;

    let exchange = upstream(config, get().with_path("/a\r\nX-Admin: é"));

    assert_eq!(
        fields(&exchange.upstream.headers, "x-path"),
        ["/a%0D%0AX-Admin: %C3%A9"]
    );
}

#[test]
fn dollars_without_a_brace_and_escaped_ones_stay() {
    let config = r#"request: {set: {X-A: "$5 $$ $${host} a$"}}"#;

    let exchange = upstream(config, get());

    assert_eq!(
        fields(&exchange.upstream.headers, "x-a"),
        ["$5 $$ ${host} a$"]
    );
}

#[test]
fn host_can_be_set_on_requests() {
    let exchange = upstream("request: {set: {Host: inner.test}}", get());

    assert_eq!(fields(&exchange.upstream.headers, "host"), ["inner.test"]);
}

#[test]
fn responses_are_edited_for_the_given_statuses_only() {
    let plugin = Kit::new().instance(
        &PLUGIN,
        "response: {set: {X-A: edited}, remove: [Server], statuses: [404, 5xx, 300-303]}",
    );
    let edited = |status: u16| {
        let exchange = get().with_status(status).with_response("server", "old");
        let exchange = downstream(&plugin, exchange);
        let headers = &exchange.response.headers;
        (headers.contains_key("x-a"), !headers.contains_key("server"))
    };

    for status in [404, 500, 599, 300, 303] {
        assert_eq!(edited(status), (true, true), "{status}");
    }
    for status in [200, 403, 405, 499, 304] {
        assert_eq!(edited(status), (false, false), "{status}");
    }
}

#[test]
fn without_statuses_every_response_is_edited() {
    let plugin = Kit::new().instance(&PLUGIN, r#"response: {add: {X-Route: "${route}"}}"#);

    let exchange = downstream(&plugin, get().with_status(418));

    assert_eq!(fields(&exchange.response.headers, "x-route"), ["test"]);
}

#[test]
fn the_principal_is_known_in_the_response_once_the_request_went_upstream() {
    let plugin = Kit::new().instance(&PLUGIN, r#"response: {set: {X-User: "${principal}"}}"#);
    let mut exchange = get().as_consumer("ann");

    plugin.upstream_request(&mut exchange);
    plugin.response(&mut exchange);

    assert_eq!(
        fields(&exchange.response.headers, "x-user"),
        ["consumer:ann"]
    );
}

#[test]
fn hooks_without_edits_are_not_attached() {
    let kit = Kit::new();
    let request = kit.instance(&PLUGIN, "request: {remove: [X-A]}");
    let response = kit.instance(&PLUGIN, "response: {remove: [X-A]}");

    assert!(request.hooks.response.is_none());
    assert!(response.hooks.upstream_request.is_none());
}

#[test]
fn an_unknown_variable_is_located_with_the_closest_name() {
    let config = r#"request: {set: {X-A: "${clientip}"}}"#;

    let problems = Kit::new().problems(&PLUGIN, config);

    assert_eq!(problems[0].path, "request.set.X-A");
    assert_eq!(problems[0].fact, "no variable is named \"clientip\"");
    assert!(problems[0]
        .remedy
        .starts_with("did you mean \"${client_ip}\"? variables known: request_id, "));
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("request: {set: {Connection: close}, add: {Host: a, TE: b}, remove: [Upgrade, \"*\", host]}"),
        [
            "request.remove[0]",
            "request.remove[1]",
            "request.remove[2]",
            "request.set.Connection",
            "request.add.Host",
            "request.add.TE",
        ]
    );
    assert_eq!(
        paths("response: {set: {Host: a, Content-Length: \"1\", X-A: \"${\"}, statuses: [abc, 9xx, 303-300]}"),
        [
            "response.statuses[0]",
            "response.statuses[1]",
            "response.statuses[2]",
            "response.set.Content-Length",
            "response.set.Host",
            "response.set.X-A",
        ]
    );
    assert_eq!(paths("request: {set: {\"a b\": c}}"), ["request.set.a b"]);
    assert_eq!(
        paths("request: {set: {X-A: \"a\\nb\"}}"),
        ["request.set.X-A"]
    );
    assert_eq!(paths("{}"), [""]);
    assert_eq!(paths("request: {sett: {}}").len(), 1);
}
