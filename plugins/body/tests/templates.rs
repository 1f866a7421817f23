use serde_json::json;

use super::*;
use crate::contract::Verdict;

fn with(text: &str) -> Instance {
    Kit::new().instance(&PLUGIN, &settings(text))
}

fn settings(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!("request: {{template: {{text: {text}}}}}")
}

fn order(body: &str) -> Exchange {
    Exchange::new("POST", "http://shop.test/orders?size=L&size=M&q=a%20b")
        .with("content-type", "application/json")
        .with("x-tag", "one")
        .with("x-tag", "two")
        .as_consumer("mia")
        .with_body(body.to_owned())
}

fn made(text: &str, body: &str) -> Value {
    let mut exchange = order(body);
    assert!(went_on(&with(text).request(&mut exchange)), "{text}");
    serde_json::from_slice(exchange.body()).expect("it is JSON")
}

#[test]
fn a_template_sees_the_request_and_its_caller() {
    let text = r#"{"method": {{ request.method }}, "path": {{ request.path }}, "size": {{ request.query.size }},
        "q": {{ request.query.q }}, "tags": {{ request.headers['x-tag'] }}, "who": {{ principal.name }}, "id": {{ principal.id }},
        "items": [{% for item in request.body.items %}{{ item.sku }}{% if not loop.last %},{% endif %}{% endfor %}],
        "from": {{ client.address }}}"#;

    let body = made(text, r#"{"items": [{"sku": "a\"b"}, {"sku": 7}]}"#);

    assert_eq!(
        body,
        json!({"method": "POST", "path": "/orders", "size": "L", "q": "a b", "tags": "one, two", "who": "mia",
            "id": "consumer:mia", "items": ["a\"b", 7], "from": "192.0.2.1"})
    );
}

#[test]
fn values_cannot_leave_their_place() {
    let text = r#"{"name": {{ request.body.name }}, "admin": false}"#;

    for name in [
        "\", \"admin\": true, \"x\": \"",
        "</script>",
        "{{ 7 * 7 }}",
        "\u{2028}",
    ] {
        let body = made(text, &json!({ "name": name }).to_string());
        assert_eq!(body, json!({"name": name, "admin": false}));
    }
    let nested = made(text, r#"{"name": {"a": [1, null]}}"#);
    assert_eq!(nested["name"], json!({"a": [1, null]}));
}

#[test]
fn what_is_asked_for_and_not_there_refuses_the_request() {
    let strict = with("{\"a\": {{ request.body.a }}}");
    assert_eq!(refused(&strict, order("{}")), (422, "body.unfit"));
    assert_eq!(refused(&strict, order("")), (422, "body.unfit"), "no body");
    assert_eq!(refused(&strict, order("{")), (400, "body.malformed"));

    let lenient = "{\"a\": {{ request.body.a | default(1) }}}";
    assert_eq!(made(lenient, "{}"), json!({"a": 1}));
}

#[test]
fn a_template_that_reads_no_body_replaces_any_and_makes_one_of_none() {
    let plugin = with("{\"path\": {{ request.path }}}");
    let mut other = Exchange::new("POST", "http://shop.test/a")
        .with("content-type", "text/plain")
        .with("content-encoding", "gzip")
        .with("content-digest", "sha-256=:YQ==:")
        .with_body("x");
    let mut none = Exchange::new("PUT", "http://shop.test/b");
    let mut get = Exchange::get("http://shop.test/c");

    for exchange in [&mut other, &mut none, &mut get] {
        assert!(went_on(&plugin.request(exchange)));
    }

    assert_eq!(&other.body()[..], br#"{"path": "/a"}"#);
    assert_eq!(other.request.headers["content-type"], "application/json");
    assert_eq!(other.request.headers.len(), 2, "and the host");
    assert_eq!(&none.body()[..], br#"{"path": "/b"}"#);
    assert!(get.body().is_empty());
}

#[test]
fn what_a_template_may_take_is_bounded() {
    let large = Kit::new().instance(
        &PLUGIN,
        &format!(
            "{}\nmax: 100B",
            settings("{% for i in range(1000) %}12345{% endfor %}")
        ),
    );
    assert_eq!(refused(&large, order("{}")), (413, "body.too_large"));
    for (text, name) in [
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}1",
            "steps",
        ),
        ("{{ ('x' * 99999999) | length }}", "memory"),
        ("{\"a\": }", "no JSON"),
        ("{{ request.path / 2 }}", "no number"),
    ] {
        match with(text).request(&mut order("{}")) {
            Verdict::Failed { cause, reason } => {
                assert_eq!(cause.name, "body.template", "{name}");
                assert!(!reason.contains("/orders"), "values stay out of logs");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn responses_are_rendered_with_their_request() {
    let plugin = Kit::new().instance(
        &PLUGIN,
        "response: {template: {media_type: text/html, text: '<b>{{ response.body.name }}</b> {{ response.status }} {{ request.method }} {{ principal.name }} {{ response.headers.server }}'}}",
    );
    let mut exchange = order("")
        .with_response("content-type", "application/json")
        .with_response("etag", "\"1\"")
        .with_response("server", "app");
    plugin.upstream_request(&mut exchange);

    let body = plugin.respond(&mut exchange, r#"{"name": "<i>"}"#).unwrap();

    assert_eq!(&body[..], b"<b>&lt;i&gt;</b> 200 POST mia app");
    assert_eq!(exchange.response.headers["content-type"], "text/html");
    assert!(!exchange.response.headers.contains_key("etag"));
}

#[test]
fn wrong_templates_are_located_when_they_are_read() {
    let kit = Kit::new();
    let of = |config: &str| {
        let problems = kit.problems(&PLUGIN, config);
        let told = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.fact));
        told.collect::<Vec<_>>()
    };

    let syntax = of("request: {template: {text: \"{\\n{{ request.\\n\"}}");
    assert_eq!(syntax.len(), 1);
    assert!(
        syntax[0].starts_with("request.template.text: syntax error in line"),
        "{syntax:?}"
    );
    assert_eq!(
        of("response: {template: {text: '{{ reqest.path }}'}}"),
        ["response.template.text: asks for \"reqest.path\", which is not known"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, "request: {merge: {a: 1}, template: {text: x}}"),
        ["request.template"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, "request: {template: {}}"),
        ["request.template"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, "request: {template: {file: nowhere.j2}}"),
        ["request.template.file"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, "request: {template: {text: x, media_type: json}}"),
        ["request.template.media_type"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, "request: {template: {text: '{{ response.status }}'}}\nresponse: {template: {text: '{{ request.body.a }}'}}"),
        ["request.template", "response.template"]
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.j2"), "{{ request.path }}").unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "request: {template: {file: a.j2}}");
    let mut exchange = order("{}");
    plugin.request(&mut exchange);
    assert_eq!(&exchange.body()[..], b"\"/orders\"");
}
