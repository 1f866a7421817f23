//! Plugins that check messages against a description of them, as a client and a service meet them.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use std::fs;

use tempfile::TempDir;

use crate::support::client::Reply;
use crate::support::proxy::{pool, run, ALL_TO_APP};
use crate::support::{until, Proxy, Upstream};

/// A proxy to a service, with these plugins on the route.
fn on_route(service: &Upstream, plugins: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins: [{plugins}]\n",
        pool("app", &[service])
    ))
}

fn post(proxy: &Proxy, target: &str, kind: &str, body: &str) -> Reply {
    let length = body.len();
    proxy.connect().ask(format!(
        "POST {target} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

const ORDER: &str = "schema: {type: object, required: [sku], properties: {count: {type: integer}}}";

#[test]
fn json_schema_lets_through_what_fits_and_tells_where_the_rest_does_not() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        &format!("{{kind: json_schema, config: {{{ORDER}, max: 1KiB, depth: 4}}}}"),
    );
    let json = |body: &str| post(&proxy, "/", "application/json", body);

    let fits = json(r#"{"sku": "a", "count": 1}"#);
    let unfit = json(r#"{"count": "hidden"}"#);

    assert_eq!(fits.status, 200);
    assert_eq!((unfit.status, &*unfit.why()), (422, "json_schema.mismatch"));
    assert_eq!(
        unfit.header("content-type"),
        Some("application/problem+json")
    );
    let problem: serde_json::Value = serde_json::from_slice(&unfit.body).unwrap();
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert!(pointers.contains(&&"#/count".into()), "{problem}");
    assert!(!unfit.text().contains("hidden"));
    proxy.logged(|line| line["why"] == "json_schema.mismatch");
    for (body, status, why) in [
        ("{", 400, "json_schema.malformed"),
        (r#"{"sku": 1, "sku": 2}"#, 400, "json_schema.duplicate"),
        ("[[[[[]]]]]", 400, "json_schema.too_deep"),
        (&*" ".repeat(2000), 413, "json_schema.too_large"),
    ] {
        let reply = json(body);
        assert_eq!((reply.status, &*reply.why()), (status, why), "{body:.20}");
    }
    let other = post(&proxy, "/", "text/plain", "{}");
    assert_eq!(
        (other.status, &*other.why()),
        (415, "json_schema.unsupported")
    );
    assert_eq!(service.requests(), 1);
}

#[test]
fn bodies_that_json_schema_does_not_want_stream_on() {
    let service = Upstream::answering("ok");
    let proxy = on_route(
        &service,
        &format!("{{kind: json_schema, config: {{{ORDER}, max: 1KiB, others: pass}}}}"),
    );

    let large = post(&proxy, "/", "video/mp4", &"a".repeat(100_000));
    let none = proxy.get("/");

    assert_eq!((large.status, none.status), (200, 200));
}

#[test]
fn in_the_shadow_json_schema_only_counts() {
    let service = Upstream::answering("ok");
    let plugin =
        format!("{{kind: json_schema, mode: shadow, config: {{{ORDER}, required: true}}}}");
    let proxy = on_route(&service, &plugin);

    assert_eq!(post(&proxy, "/", "application/json", "[]").status, 200);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn responses_that_do_not_fit_are_counted_or_refused() {
    let service = Upstream::with(|_, stream| {
        let head = [("content-type", "application/json")];
        crate::support::upstream::answer(stream, 200, &head, b"[1]")
    });
    let plugin = |on_mismatch: &str| {
        format!("{{kind: json_schema, config: {{response: {{schema: {{type: object}}, on_mismatch: {on_mismatch}}}}}}}")
    };
    let (report, refuse) = (
        on_route(&service, &plugin("report")),
        on_route(&service, &plugin("refuse")),
    );

    let reported = report.get("/");
    let refused = refuse.get("/");

    assert_eq!((reported.status, &*reported.text()), (200, "[1]"));
    until("it is counted", || {
        let marks = ["event=\"response_mismatch\""];
        (report.metric("windrose_plugin_events_total", &marks) == 1.0).then_some(())
    });
    assert_eq!(
        (refused.status, &*refused.why()),
        (502, "json_schema.response")
    );
    refuse.logged(|line| line["why"] == "json_schema.response");
}

const DOCUMENT: &str = "document: {openapi: 3.1.0, servers: [{url: 'http://a/v1'}], paths: {'/pets/{id}': {get: {parameters: [{name: id, in: path, required: true, schema: {type: integer}}], responses: {'200': {content: {application/json: {schema: {type: object}, example: {name: rex}}}}}}, put: {parameters: [{name: id, in: path, required: true, schema: {type: integer}}], requestBody: {required: true, content: {application/json: {schema: {type: object, required: [name]}}}}}}}}";

#[test]
fn openapi_lets_through_what_its_document_has() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        &format!("{{kind: openapi, config: {{{DOCUMENT}}}}}"),
    );
    let put = |target: &str, body: &str| {
        proxy.connect().ask(format!(
            "PUT {target} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let told = |reply: Reply| (reply.status, reply.why());

    assert_eq!(proxy.get("/v1/pets/7").status, 200);
    assert_eq!(put("/v1/pets/7", r#"{"name": "rex"}"#).status, 200);
    assert_eq!(service.requests(), 2);
    for (reply, status, why) in [
        (proxy.get("/v1/pets/x"), 400, "openapi.parameter"),
        (proxy.get("/v1/other"), 404, "openapi.no_path"),
        (proxy.get("/pets/7"), 404, "openapi.no_path"),
        (put("/v1/pets/7", "{}"), 422, "openapi.mismatch"),
        (put("/v1/pets/7", ""), 400, "openapi.missing"),
    ] {
        assert_eq!(told(reply), (status, why.to_owned()));
    }
    let delete = proxy.ask("DELETE", "/v1/pets/7", "");
    assert_eq!(delete.header("allow"), Some("GET, HEAD, PUT"));
    assert_eq!(told(delete), (405, "openapi.no_method".to_owned()));
    assert_eq!(service.requests(), 2);
}

#[test]
fn a_mock_answers_for_a_service_that_is_not_there() {
    let nobody = Upstream::refusing();
    let proxy = on_route(
        &nobody,
        &format!("{{kind: openapi, config: {{{DOCUMENT}, mock: true}}}}"),
    );

    let answer = proxy.get("/v1/pets/7");
    let wrong = proxy.get("/v1/pets/x");

    assert_eq!(
        (answer.status, &*answer.text()),
        (200, "{\"name\":\"rex\"}")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!((wrong.status, &*wrong.why()), (400, "openapi.parameter"));
}

#[test]
fn responses_that_the_document_does_not_have_are_refused() {
    let service = Upstream::with(|seen, stream| {
        let (status, body) = if seen.target.ends_with('7') {
            (418, "{}")
        } else {
            (200, "{}")
        };
        let head = [("content-type", "application/json")];
        crate::support::upstream::answer(stream, status, &head, body.as_bytes())
    });
    let proxy = on_route(
        &service,
        &format!("{{kind: openapi, config: {{{DOCUMENT}, responses: refuse}}}}"),
    );

    let (wrong, right) = (proxy.get("/v1/pets/7"), proxy.get("/v1/pets/8"));

    assert_eq!((wrong.status, &*wrong.why()), (502, "openapi.response"));
    assert_eq!((right.status, &*right.text()), (200, "{}"));
}

#[test]
fn graphql_limits_refuses_what_asks_for_too_much() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "{kind: graphql_limits, config: {depth: 3, cost: 100}}",
    );
    let ask = |query: &str| {
        post(
            &proxy,
            "/graphql",
            "application/json",
            &serde_json::json!({"query": query}).to_string(),
        )
    };

    assert_eq!(ask("{a{b{c}}}").status, 200);
    assert_eq!(proxy.get("/graphql?query=%7Ba%7D").status, 200);
    for (query, why) in [
        ("{a{b{c{d}}}}", "graphql.depth"),
        ("{a(first: 1000){b}}", "graphql.cost"),
        ("{...F} fragment F on X{...F}", "graphql.fragment"),
        ("{__schema{types{name}}}", "graphql.introspection"),
        ("{", "graphql.malformed"),
    ] {
        let reply = ask(query);
        assert_eq!((reply.status, &*reply.why()), (400, why), "{query}");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["errors"][0]["extensions"]["code"], why);
    }
    assert_eq!(service.requests(), 2);
    proxy.logged(|line| line["why"] == "graphql.depth");
}

const PETSTORE: &str = "openapi: 3.0.3
info: {title: The Pet Store, version: 1.0.0}
servers:
  - url: https://pets.example.com/v1
  - url: http://10.0.0.7:8081/v1
paths:
  /pets:
    get: {operationId: listPets, summary: \"all\\n- of them\", parameters: [{name: limit, in: query, schema: {type: integer}}], responses: {200: {description: some}}}
    post: {operationId: createPet, responses: {201: {description: made}}}
  /pets/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    get: {operationId: showPet, responses: {200: {description: one}}}
  /pets/mine:
    get: {responses: {200: {description: mine}}}
  /other:
    servers: [{url: /beside}]
    get: {responses: {200: {description: other}}}
components: {securitySchemes: {key: {type: apiKey, name: x-key, in: header}}}
";

#[test]
fn an_openapi_document_becomes_a_configuration_that_checks_and_routes() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("api.yaml"), PETSTORE).unwrap();

    let imported = run(&[
        "import",
        "openapi",
        &at("api.yaml"),
        "-o",
        &at("windrose.yaml"),
    ]);
    let again = run(&[
        "import",
        "openapi",
        &at("api.yaml"),
        "-o",
        &at("windrose.yaml"),
    ]);
    let checked = run(&["check", "-c", &at("windrose.yaml")]);
    let explain = |method: &str, url: &str| {
        let told = run(&["explain", method, url, "-c", &at("windrose.yaml")]);
        String::from_utf8_lossy(&told.stdout).into_owned()
    };

    let notes = String::from_utf8_lossy(&imported.stderr).into_owned();
    let text = fs::read_to_string(at("windrose.yaml")).unwrap();
    assert_eq!(imported.status.code(), Some(0), "{notes}");
    assert!(
        notes.contains("`key_auth`") && notes.contains("5 operations"),
        "{notes}"
    );
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
    assert_eq!(
        checked.status.code(),
        Some(0),
        "{}\n{text}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(
        text.contains("# listPets: all - of them\n") && text.contains("file: \"api.yaml\""),
        "{text}"
    );
    let mine = explain("GET", "http://pets.example.com/v1/pets/mine");
    assert!(mine.contains("the-pet-store"), "{mine}");
    let wrong = explain("GET", "http://pets.example.com/v1/pets/x");
    assert!(wrong.contains("openapi.parameter"), "{wrong}");
    let none = explain("DELETE", "http://pets.example.com/v1/pets");
    assert!(none.contains("no_route"), "{none}");
}

#[test]
fn a_document_that_is_wrong_is_told_where() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("api.yaml");
    fs::write(&path, "openapi: 3.0.3\npaths: {/a: {$ref: '#/nowhere'}}\n").unwrap();

    let told = run(&["import", "openapi", path.to_str().unwrap()]);

    let error = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(1));
    assert!(
        error.contains("api.yaml#/paths/~1a: `$ref` leads nowhere"),
        "{error}"
    );

    let told = run(&["import", "openapi", "/nowhere/api.yaml"]);

    let error = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(error.contains("give the path of a document"), "{error}");
}
