mod documents;
mod mock;
mod parameters;
mod responses;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{json, Value};

use super::*;
use crate::contract::Answer;
use crate::testkit::{answered, field, went_on, Exchange, Instance, Kit};

/// A document with these paths, in YAML's one-line form or JSON.
fn document(paths: &str) -> String {
    format!("document: {{openapi: 3.1.0, info: {{title: t, version: '1'}}, paths: {paths}}}\n")
}

fn with(paths: &str, settings: &str) -> Instance {
    Kit::new().instance(&PLUGIN, &format!("{}{settings}", document(paths)))
}

fn send(plugin: &Instance, mut exchange: Exchange) -> Result<(), (u16, &'static str)> {
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(()),
        Verdict::Answer(answer) => Err((answer.status, answer.cause.name)),
        other => panic!("{other:?}"),
    }
}

fn get(plugin: &Instance, target: &str) -> Result<(), (u16, &'static str)> {
    send(plugin, Exchange::get(&format!("http://api.test{target}")))
}

fn post(kind: &str, body: impl Into<Bytes>) -> Exchange {
    let body = body.into();
    Exchange::new("POST", "http://api.test/pets")
        .with("content-type", kind)
        .with("content-length", &body.len().to_string())
        .with_body(body)
}

fn problem(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body.as_ref().expect("it has a body").1).unwrap()
}

const NO_PATH: Result<(), (u16, &str)> = Err((404, "openapi.no_path"));
const PARAMETER: Result<(), (u16, &str)> = Err((400, "openapi.parameter"));

const PETS: &str = "{/pets: {post: {requestBody: {required: true, content: {
    application/json: {schema: {type: object, required: [name], properties: {name: {type: string}, id: {type: integer, readOnly: true}}}},
    application/x-www-form-urlencoded: {schema: {type: object, required: [name], properties: {name: {type: string, maxLength: 5}, age: {type: integer}, tags: {type: array, items: {type: string}}}}},
    image/*: {}}}}, get: {}}}";

#[test]
fn concrete_segments_come_before_templated_ones() {
    let id = "parameters: [{name: id, in: path, required: true, schema: {type: integer}}]";
    let name = "parameters: [{name: name, in: path, required: true, schema: {maxLength: 3}}]";
    let plugin = with(
        &format!(
            "{{'/pets/{{id}}': {{get: {{{id}}}}}, /pets/mine: {{get: {{}}}}, '/pets/{{name}}.json': {{get: {{{name}}}}}, '/{{name}}/mine/x': {{get: {{{name}}}}}, '/caf\u{e9}/a%20b': {{get: {{}}}}}}"
        ),
        "",
    );

    for fits in [
        "/pets/7",
        "/pets/mine",
        "/pets/abc.json",
        "/abc/mine/x",
        "/caf%C3%A9/a%20b",
    ] {
        assert_eq!(get(&plugin, fits), Ok(()), "{fits}");
    }
    assert_eq!(get(&plugin, "/pets/x"), PARAMETER);
    assert_eq!(get(&plugin, "/pets/abcd.json"), PARAMETER);
    // Back from a concrete segment that led nowhere.
    assert_eq!(get(&plugin, "/pets/mine/x"), PARAMETER);
    for missing in [
        "/pets",
        "/pets/",
        "/pets/7/",
        "/pets//mine",
        "/",
        "/pets/.json/x",
        "/Pets/mine",
    ] {
        assert_eq!(get(&plugin, missing), NO_PATH, "{missing}");
    }
}

#[test]
fn methods_that_are_not_declared_are_told_which_are() {
    let plugin = with(PETS, "");
    let mut delete = Exchange::new("DELETE", "http://api.test/pets");

    let answer = answered(plugin.request(&mut delete));

    assert_eq!(
        (answer.status, answer.cause.name),
        (405, "openapi.no_method")
    );
    assert_eq!(field(&answer, "allow"), Some("GET, HEAD, POST"));
    assert_eq!(
        send(&plugin, Exchange::new("HEAD", "http://api.test/pets")),
        Ok(())
    );
    let lenient = with(PETS, "undeclared: {paths: pass, methods: pass}");
    assert_eq!(get(&lenient, "/other"), Ok(()));
    assert_eq!(
        send(&lenient, Exchange::new("DELETE", "http://api.test/pets")),
        Ok(())
    );
}

#[test]
fn paths_begin_where_servers_or_settings_say() {
    let servers = |servers: &str, settings: &str| {
        let text = format!(
            "document: {{openapi: 3.0.3, servers: {servers}, paths: {{/a: {{get: {{}}, post: {{servers: [{{url: /own}}]}}}}, /b: {{servers: [{{url: 'http://b.test/two/'}}], get: {{}}}}}}}}\n{settings}"
        );
        Kit::new().instance(&PLUGIN, &text)
    };
    let plain = servers(
        "[{url: 'https://api.test/v1/'}, {url: '/v2'}, {url: v3}]",
        "",
    );
    let varied = servers("[{url: 'https://{host}/{v}', variables: {host: {default: a.test}, v: {default: v1, enum: [v1, beta]}}}]", "");
    let set = servers("[{url: /v1}]", "base_paths: [/, /x/]");

    for path in ["/v1/a", "/v2/a", "/v3/a", "/two/b"] {
        assert_eq!(get(&plain, path), Ok(()), "{path}");
    }
    assert_eq!(get(&plain, "/a"), NO_PATH);
    assert_eq!(
        send(&plain, Exchange::new("POST", "http://api.test/own/a")),
        Ok(())
    );
    assert_eq!(
        send(&plain, Exchange::new("POST", "http://api.test/v1/a")),
        Err((405, "openapi.no_method"))
    );
    assert_eq!(
        (get(&varied, "/v1/a"), get(&varied, "/beta/a")),
        (Ok(()), Ok(()))
    );
    assert_eq!(get(&varied, "/v2/a"), NO_PATH);
    assert_eq!(
        (get(&set, "/a"), get(&set, "/x/b"), get(&set, "/v1/a")),
        (Ok(()), Ok(()), NO_PATH)
    );
}

#[test]
fn bodies_are_judged_by_their_media_type() {
    let plugin = with(PETS, "max: 1KiB\ndepth: 3");
    let of = |kind: &str, body: &str| send(&plugin, post(kind, body.to_owned()));
    let json = |body: &str| of("application/json", body);

    assert_eq!(json(r#"{"name": "rex"}"#), Ok(()));
    assert_eq!(
        of("application/json; charset=utf-8", r#"{"name": "rex"}"#),
        Ok(())
    );
    assert_eq!(
        of("application/json; charset=utf-7", r#"{"name": "rex"}"#),
        Err((415, "openapi.unsupported"))
    );
    assert_eq!(json("{}"), Err((422, "openapi.mismatch")));
    assert_eq!(json("{"), Err((400, "openapi.malformed")));
    assert_eq!(
        json(r#"{"name": "a", "name": "b"}"#),
        Err((400, "openapi.duplicate"))
    );
    assert_eq!(json("[[[[]]]]"), Err((400, "openapi.too_deep")));
    assert_eq!(json(&" ".repeat(2000)), Err((413, "openapi.too_large")));
    assert_eq!(json(""), Err((400, "openapi.missing")));
    assert_eq!(
        send(&plugin, Exchange::new("POST", "http://api.test/pets")),
        Err((400, "openapi.missing"))
    );
    assert_eq!(of("text/plain", "x"), Err((415, "openapi.unsupported")));
    let twice = post("application/json", "{}").with("content-type", "image/png");
    assert_eq!(send(&plugin, twice), Err((415, "openapi.unsupported")));
    let coded = post("application/json", "{}").with("content-encoding", "deflate");
    assert_eq!(send(&plugin, coded), Err((415, "openapi.unsupported")));
    // Types that are not looked into stream on, whatever their size.
    assert_eq!(of("image/png", &"x".repeat(100_000)), Ok(()));
}

#[test]
fn forms_are_read_by_their_schema() {
    let plugin = with(PETS, "");
    let form = |body: &str| {
        send(
            &plugin,
            post("application/x-www-form-urlencoded", body.to_owned()),
        )
    };

    assert_eq!(form("name=rex&age=3&tags=a&tags=b+c"), Ok(()));
    assert_eq!(
        form("name=123"),
        Ok(()),
        "text that looks like a number is text"
    );
    assert_eq!(form("name=r%C3%A9x"), Ok(()));
    assert_eq!(form("age=3"), Err((422, "openapi.mismatch")));
    assert_eq!(form("name=rex&age=x"), Err((422, "openapi.mismatch")));
    assert_eq!(form("name=toolong"), Err((422, "openapi.mismatch")));
    assert_eq!(form("name=a&n%61me=b"), Err((400, "openapi.duplicate")));
    assert_eq!(form("name=%ff"), Err((400, "openapi.malformed")));
}

#[test]
fn the_answer_says_where_and_no_value() {
    let plugin = with(PETS, "errors: 1\nstatus: 400");

    let answer = answered(plugin.request(&mut post(
        "application/json",
        r#"{"name": 5, "id": "hidden"}"#,
    )));

    let body = problem(&answer);
    assert_eq!(
        (answer.status, answer.cause.name),
        (400, "openapi.mismatch")
    );
    assert_eq!(
        (body["errors"].as_array().unwrap().len(), &body["more"]),
        (1, &json!(true))
    );
    assert!(!body.to_string().contains("hidden"));
}

#[test]
fn what_only_the_service_knows_need_not_be_sent() {
    let paths = "{/pets: {post: {requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}}}}}, components: {schemas: {Id: {type: integer, readOnly: true}, Pet: {required: [id, age, name], properties: {id: {$ref: '#/components/schemas/Id'}, age: {readOnly: true}, name: {}}}}}";
    let plugin = Kit::new().instance(
        &PLUGIN,
        &format!("document: {{openapi: 3.0.1, paths: {paths}}}"),
    );

    assert_eq!(
        send(&plugin, post("application/json", r#"{"name": "rex"}"#)),
        Ok(())
    );
    assert_eq!(
        send(&plugin, post("application/json", "{}")),
        Err((422, "openapi.mismatch"))
    );
}

#[test]
fn bodies_and_parameters_that_are_not_declared_pass_or_not() {
    let lenient = with("{/pets: {post: {}, get: {}}}", "");
    let strict = with(
        "{/pets: {post: {}, get: {}}}",
        "undeclared: {bodies: reject, parameters: reject}",
    );

    assert_eq!(send(&lenient, post("text/plain", "x")), Ok(()));
    assert_eq!(
        send(&strict, post("text/plain", "x")),
        Err((400, "openapi.undeclared_body"))
    );
    assert_eq!(
        send(&strict, Exchange::new("POST", "http://api.test/pets")),
        Ok(())
    );
    assert_eq!(get(&lenient, "/pets?a=1"), Ok(()));
    assert_eq!(get(&strict, "/pets?a=1"), PARAMETER);
}

#[test]
fn a_body_over_http2_that_no_field_announces_is_one() {
    let paths = "{/pets: {post: {requestBody: {content: {application/json: {schema: {type: object}}}}}}, /bare: {post: {}}}";
    let plugin = with(paths, "undeclared: {bodies: reject}");
    let sent = |path: &str, body: &'static str| {
        let exchange = Exchange::new("POST", &format!("http://api.test{path}"));
        send(&plugin, exchange.streaming().with_body(body))
    };

    assert_eq!(sent("/pets", "[]"), Err((415, "openapi.unsupported")));
    assert_eq!(sent("/bare", "x"), Err((400, "openapi.undeclared_body")));
    assert_eq!((sent("/pets", ""), sent("/bare", "")), (Ok(()), Ok(())));
}

#[test]
fn a_check_that_takes_too_long_has_a_cause() {
    let alternatives: Vec<String> = (0..1500)
        .map(|at| format!("{{type: object, required: [k{at}]}}"))
        .collect();
    let plugin = with(
        &format!("{{/pets: {{post: {{requestBody: {{content: {{application/json: {{schema: {{items: {{anyOf: [{}]}}}}}}}}}}}}}}}}", alternatives.join(", ")),
        "",
    );

    let body = format!("[{}0]", r#"{"k1499":1},"#.repeat(4000));

    assert_eq!(
        send(&plugin, post("application/json", body)),
        Err((422, "openapi.too_costly"))
    );
}

#[test]
fn a_dry_run_says_what_traffic_would_and_counts_nothing() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &document(PETS));

    assert_eq!(
        send(&plugin, Exchange::get("http://api.test/x").dry()),
        NO_PATH
    );
    assert_eq!(kit.counted("refused"), 0);
    assert_eq!(get(&plugin, "/x"), NO_PATH);
    assert_eq!(kit.counted("refused"), 1);
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(paths("{}"), ["file"]);
    assert_eq!(paths("file: none.yaml"), ["file"]);
    assert_eq!(paths("file: a\ndocument: {}"), ["file"]);
    assert_eq!(
        paths(&format!("{}max: 0B\nmax_response: 1GiB\ndepth: 0\nerrors: 101\nstatus: 500\nmock: true\nresponses: refuse\nbase_paths: [v1]", document(PETS))),
        ["max", "max_response", "depth", "errors", "status", "responses", "base_paths[0]"]
    );
    assert_eq!(
        paths(&format!("{}base_paths: []", document(PETS))),
        ["base_paths"]
    );
}

proptest! {
    #[test]
    fn no_request_breaks_it(path in "/[ -~]{0,30}", query in "[ -~]{0,30}", kind in "[a-z/+*;=]{0,20}", body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let plugin = with(PETS, "undeclared: {parameters: reject, bodies: reject}");
        let exchange = Exchange::new("POST", "http://api.test/pets").with_path(&path).with("content-type", &kind).with_body(body);
        let _ = send(&plugin, exchange);
        if let Ok(uri) = format!("http://api.test/pets?{query}").parse::<http::Uri>() {
            let _ = send(&plugin, Exchange::get(&uri.to_string()));
        }
    }
}
