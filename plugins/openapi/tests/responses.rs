use super::*;

const PATHS: &str = "{/pets: {get: {responses: {
  '200': {content: {application/json: {schema: {type: object, required: [id, secret], properties: {id: {type: integer, readOnly: true}, secret: {writeOnly: true}}}}, text/*: {}}},
  4XX: {description: wrong}, default: {content: {application/problem+json: {schema: {type: object}}}}}}}, /none: {get: {responses: {'200': {}}}}}";

/// What a client gets of a response.
fn responded(
    plugin: &Instance,
    target: &str,
    status: u16,
    kind: &str,
    pieces: &[&str],
) -> Result<String, &'static str> {
    let mut exchange = Exchange::get(&format!("http://api.test{target}")).with_status(status);
    if !kind.is_empty() {
        exchange = exchange.with_response("content-type", kind);
    }
    assert!(went_on(&plugin.request(&mut exchange)));
    if let Verdict::Answer(answer) = plugin.response(&mut exchange) {
        return Err(answer.cause.name);
    }
    if plugin.hooks.held_response.is_some() {
        let body = plugin.respond(&mut exchange, pieces.concat());
        let body = body.map_err(|verdict| answered(verdict).cause.name)?;
        return Ok(String::from_utf8(body.to_vec()).unwrap());
    }
    let mut got = String::new();
    for (at, text) in pieces.iter().enumerate() {
        let mut piece = Some(Bytes::from((*text).to_owned()));
        match plugin.response_body(&mut exchange, &mut piece, at + 1 == pieces.len()) {
            Verdict::Continue => got += std::str::from_utf8(&piece.unwrap_or_default()).unwrap(),
            Verdict::Answer(answer) => return Err(answer.cause.name),
            other => panic!("{other:?}"),
        }
    }
    Ok(got)
}

#[test]
fn responses_that_the_document_does_not_have_are_counted_or_refused() {
    let kit = Kit::new();
    let of = |settings: &str| {
        kit.instance(
            &PLUGIN,
            &format!("{}{settings}\nmax_response: 40B", document(PATHS)),
        )
    };
    let (report, refuse) = (of("responses: report"), of("responses: refuse"));
    let both = |target: &str, status: u16, kind: &str, pieces: &[&str]| {
        let reported = responded(&report, target, status, kind, pieces);
        assert_eq!(reported.as_deref(), Ok(&*pieces.concat()));
        responded(&refuse, target, status, kind, pieces)
    };
    let wrong = Err("openapi.response");

    assert_eq!(
        both("/pets", 200, "application/json", &["{\"id\"", ": 1}"]).as_deref(),
        Ok("{\"id\": 1}")
    );
    assert_eq!(both("/pets", 200, "text/csv", &["id"]).as_deref(), Ok("id"));
    assert_eq!(both("/pets", 404, "", &[""]).as_deref(), Ok(""));
    assert_eq!(both("/pets", 404, "text/html", &["x"]).as_deref(), Ok("x"));
    assert_eq!(
        both("/pets", 500, "application/problem+json", &["{}"]).as_deref(),
        Ok("{}")
    );
    assert_eq!(kit.counted("response_mismatch"), 0);
    assert_eq!(both("/pets", 200, "application/json", &["{", "}"]), wrong);
    assert_eq!(both("/pets", 200, "application/json", &["{"]), wrong);
    assert_eq!(both("/pets", 200, "image/png", &["x"]), wrong);
    assert_eq!(
        both("/pets", 500, "application/problem+json", &["[]"]),
        wrong
    );
    assert_eq!(both("/none", 201, "", &[""]), wrong);
    assert_eq!(kit.counted("response_mismatch"), 10);
    let long = ["[1, 2, 3, 4, 5, 6, 7, 8, 9", ", 10, 11, 12, 13, 14]"];
    assert_eq!(
        responded(&report, "/pets", 200, "application/json", &long).as_deref(),
        Ok(&*long.concat())
    );
    assert_eq!(kit.counted("response_unchecked"), 1);
}

#[test]
fn answers_of_the_proxy_and_requests_that_were_not_judged_are_let_be() {
    let plugin = with(PATHS, "responses: refuse\nundeclared: {paths: pass}");

    assert_eq!(
        responded(&plugin, "/other", 418, "image/png", &["x"]).as_deref(),
        Ok("x")
    );
    let mut own = Exchange::get("http://api.test/pets").with_status(418);
    assert!(went_on(&plugin.request(&mut own)));
    own.cause = Some(&super::super::MISSING);
    assert!(went_on(&plugin.response(&mut own)));
}
