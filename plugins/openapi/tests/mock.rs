use super::*;

const PATHS: &str = "{/pets: {get: {responses: {
  '404': {content: {application/json: {examples: {gone: {value: {error: gone}}, never: {value: {error: never}}}}}},
  '200': {headers: {x-total: {schema: {type: integer, example: 7}}}, content: {
    application/json: {example: [{name: rex}]},
    text/csv: {example: 'name\\nrex'}}},
  5XX: {content: {application/json: {schema: {type: object, properties: {code: {type: integer, minimum: 3}, at: {type: string, format: date}, of: {$ref: '#/paths/~1pets/get/responses/5XX/content/application~1json/schema'}}}}}}}},
  delete: {responses: {'204': {description: gone}}}, put: {}, post: {requestBody: {required: true, content: {application/json: {}}}, responses: {'201': {description: made}}}}}";

fn mock() -> Instance {
    with(PATHS, "mock: true")
}

fn asked(fields: &[(&str, &str)]) -> Answer {
    let mut exchange = Exchange::get("http://api.test/pets");
    for (name, value) in fields {
        exchange = exchange.with(name, value);
    }
    answered(mock().request(&mut exchange))
}

fn text(answer: &Answer) -> (u16, &str) {
    let (_, body) = answer.body.as_ref().unwrap();
    (answer.status, std::str::from_utf8(body).unwrap())
}

#[test]
fn a_request_that_is_right_is_answered_with_the_example_of_a_success() {
    let answer = asked(&[]);

    assert_eq!(text(&answer), (200, r#"[{"name":"rex"}]"#));
    assert_eq!(answer.cause.name, "openapi.mock");
    assert_eq!(answer.body.as_ref().unwrap().0, "application/json");
    assert_eq!(field(&answer, "x-total"), Some("7"));
}

#[test]
fn a_request_chooses_status_example_and_media_type() {
    assert_eq!(
        text(&asked(&[("prefer", "code=404")])),
        (404, r#"{"error":"gone"}"#)
    );
    assert_eq!(
        text(&asked(&[("prefer", "code=404, example=never")])),
        (404, r#"{"error":"never"}"#)
    );
    assert_eq!(
        text(&asked(&[
            ("prefer", "example=\"never\""),
            ("prefer", "code=\"404\"")
        ])),
        (404, r#"{"error":"never"}"#)
    );
    assert_eq!(
        text(&asked(&[(
            "accept",
            "text/*;q=0.9, application/json;q=0.1"
        )])),
        (200, "name\\nrex")
    );
    assert_eq!(text(&asked(&[("accept", "*/*")])).0, 200);
    let status = |fields: &[(&str, &str)]| {
        let answer = asked(fields);
        (answer.status, answer.cause.name)
    };
    assert_eq!(
        status(&[("accept", "image/png")]),
        (406, "openapi.not_acceptable")
    );
    assert_eq!(
        status(&[("accept", "application/json;q=0")]),
        (406, "openapi.not_acceptable")
    );
    assert_eq!(
        status(&[("prefer", "code=418")]),
        (501, "openapi.no_example")
    );
    assert_eq!(
        status(&[("prefer", "code=404, example=other")]),
        (501, "openapi.no_example")
    );
    assert_eq!(
        status(&[("prefer", "code=99999999999")]),
        (501, "openapi.no_example")
    );
}

#[test]
fn without_an_example_a_sample_of_the_schema_is_sent() {
    let answer = asked(&[("prefer", "code=503")]);

    let body: Value = serde_json::from_slice(&answer.body.as_ref().unwrap().1).unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(
        (&body["code"], &body["at"]),
        (&json!(3), &json!("2019-08-24"))
    );
    assert!(body["of"]["of"].is_object());
}

#[test]
fn a_mock_still_judges_requests() {
    let plugin = mock();

    let empty = answered(plugin.request(&mut Exchange::new("DELETE", "http://api.test/pets")));
    assert_eq!(text(&empty), (204, ""));
    assert_eq!(
        send(&plugin, Exchange::new("PUT", "http://api.test/pets")),
        Err((501, "openapi.no_example"))
    );
    assert_eq!(
        send(&plugin, Exchange::new("POST", "http://api.test/pets")),
        Err((400, "openapi.missing"))
    );
    assert_eq!(
        send(&plugin, post("application/json", "{}")),
        Err((201, "openapi.mock"))
    );
    assert_eq!(get(&plugin, "/other"), NO_PATH);
}

#[test]
fn examples_that_are_elsewhere_are_not_fetched() {
    let found = Kit::new().problems(&PLUGIN, &format!("{}mock: true", document("{/a: {get: {responses: {'200': {content: {application/json: {examples: {b: {externalValue: 'http://x.test/'}}}}}}}}}")));

    assert!(found[0].fact.contains("externalValue"), "{found:?}");
}
