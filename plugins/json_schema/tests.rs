use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{json, Value};

use super::*;
use crate::contract::{Answer, Held, Hold, Larger, WholeBody};
use crate::testkit::{answered, field, went_on, Exchange, Instance, Kit};

const ORDER: &str = "schema:
  type: object
  required: [sku]
  properties: {sku: {type: string, maxLength: 5}, count: {type: integer, minimum: 1}, inner: {type: array}}
  additionalProperties: false
";

fn post(body: impl Into<Bytes>) -> Exchange {
    typed("application/json", body)
}

fn typed(kind: &str, body: impl Into<Bytes>) -> Exchange {
    Exchange::new("POST", "http://shop.test/orders")
        .with("content-type", kind)
        .with_body(body)
}

fn with(settings: &str) -> Instance {
    Kit::new().instance(&PLUGIN, &format!("{ORDER}{settings}"))
}

fn refused(plugin: &Instance, mut exchange: Exchange) -> (u16, &'static str) {
    let answer = answered(plugin.request(&mut exchange));
    (answer.status, answer.cause.name)
}

fn problem(answer: &Answer) -> Value {
    let (kind, body) = answer.body.as_ref().expect("it has a body");
    assert_eq!(kind, "application/problem+json");
    serde_json::from_slice(body).unwrap()
}

#[test]
fn what_fits_goes_on_and_what_does_not_is_told_where() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, ORDER);
    let mut fits = post(r#"{"sku": "a", "count": 2}"#);
    let mut unfit = post(r#"{"sku": "secret-value", "count": 0, "other": 1}"#);

    assert!(went_on(&plugin.request(&mut fits)));
    let answer = answered(plugin.request(&mut unfit));

    let problem = problem(&answer);
    assert_eq!(
        (answer.status, answer.cause.name),
        (422, "json_schema.mismatch")
    );
    assert_eq!(field(&answer, "cache-control"), Some("no-store"));
    assert_eq!(problem["why"], "json_schema.mismatch");
    assert_eq!(problem["type"], "urn:windrose:cause:json_schema.mismatch");
    assert_eq!(problem["request_id"], "test-request-id");
    let errors = problem["errors"].as_array().unwrap();
    assert!(errors.contains(&json!({"pointer": "#/count", "detail": "must be at least 1"})));
    assert!(
        errors.contains(&json!({"pointer": "#/sku", "detail": "must have at most 5 characters"}))
    );
    assert_eq!(errors.len(), 3);
    assert!(!problem.to_string().contains("secret"));
    assert_eq!(kit.counted("refused"), 1);
}

#[test]
fn status_and_list_are_settings() {
    let plain = with("status: 400\nerrors: 0");
    let short = with("errors: 1");
    let body = r#"{"sku": 1, "count": 0}"#;

    let answer = answered(plain.request(&mut post(body)));
    assert_eq!((answer.status, answer.body), (400, None));
    let problem = problem(&answered(short.request(&mut post(body))));
    assert_eq!(problem["errors"].as_array().unwrap().len(), 1);
    assert_eq!(problem["more"], true);
}

#[test]
fn what_is_no_json_of_one_meaning_has_causes_of_its_own() {
    let plugin = with("depth: 3");
    let of = |body: &[u8]| refused(&plugin, post(body.to_vec()));

    for body in [
        &b"{"[..],
        b"{} {}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"{\"sku\": \"\xff\"}",
        b"{\"sku\": 1e400}",
        b"{\"sku\": NaN}",
    ] {
        assert_eq!(of(body), (400, "json_schema.malformed"), "{body:?}");
    }
    assert_eq!(
        of(br#"{"sku": "a", "sku": "b"}"#),
        (400, "json_schema.duplicate")
    );
    assert_eq!(
        of(br#"{"sku": "a", "s\u006bu": "b"}"#),
        (400, "json_schema.duplicate")
    );
    assert_eq!(
        of(br#"{"sku": "a", "inner": [[[]]]}"#),
        (400, "json_schema.too_deep")
    );
    let bomb = "[".repeat(500_000);
    assert_eq!(of(bomb.as_bytes()), (400, "json_schema.too_deep"));
}

#[test]
fn integers_beyond_64_bits_are_compared_as_floating_point() {
    let plugin = Kit::new().instance(&PLUGIN, "schema: {type: number, maximum: 1e30}");

    assert!(went_on(
        &plugin.request(&mut post("123456789012345678901234567890"))
    ));
    assert_eq!(
        refused(&plugin, post("12345678901234567890123456789012345")),
        (422, "json_schema.mismatch")
    );
}

#[test]
fn bodies_of_other_types_are_refused_or_stream_on() {
    let refusing = with("");
    let passing = with("others: pass");
    let other = || typed("text/plain", "{}");
    let twice = || typed("application/json", "{}").with("content-type", "text/plain");

    for exchange in [
        other(),
        twice(),
        Exchange::new("POST", "http://a.test/").with_body("{}"),
    ] {
        assert_eq!(
            refused(&refusing, exchange),
            (415, "json_schema.unsupported")
        );
    }
    assert!(went_on(&passing.request(&mut other())));
    // Not read, so not bounded by `max`.
    assert!(went_on(
        &passing.request(&mut typed("video/mp4", vec![0; 2 << 20]))
    ));
    assert_eq!(
        refused(
            &passing,
            typed("application/vnd.shop+json; charset=utf-8", "[]")
        ),
        (422, "json_schema.mismatch")
    );
    assert_eq!(
        refused(&passing, post(vec![b' '; 2 << 20])),
        (413, "json_schema.too_large")
    );
}

#[test]
fn requests_without_a_body_pass_unless_one_is_required() {
    let get = || Exchange::get("http://a.test/");

    assert!(went_on(&with("").request(&mut get())));
    assert_eq!(
        refused(&with("required: true"), get()),
        (400, "json_schema.missing")
    );
    assert_eq!(
        refused(&with("required: true\nothers: pass"), get()),
        (400, "json_schema.missing")
    );
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_bodies_are_looked_at_without_their_coding() {
    let plugin = with("max: 1KiB");
    let coded = |body: &[u8]| post(gzip(body)).with("content-encoding", "gzip");
    let mut fits = coded(br#"{"sku": "a"}"#);

    assert!(went_on(&plugin.request(&mut fits)));
    assert_eq!(fits.body().as_ref(), gzip(br#"{"sku": "a"}"#));
    assert_eq!(
        refused(&plugin, coded(b"{}")),
        (422, "json_schema.mismatch")
    );
    assert_eq!(
        refused(&plugin, coded(&[b' '; 5000])),
        (413, "json_schema.too_large")
    );
    assert_eq!(
        refused(&plugin, post("{}").with("content-encoding", "gzip")),
        (400, "json_schema.malformed")
    );
    for coding in ["deflate", "gzip, gzip"] {
        let exchange = post(gzip(b"{}")).with("content-encoding", coding);
        assert_eq!(refused(&plugin, exchange), (415, "json_schema.unsupported"));
    }
}

#[test]
fn a_check_that_takes_too_long_has_a_cause() {
    let alternatives: Vec<String> = (0..1500)
        .map(|at| format!("{{type: object, required: [k{at}]}}"))
        .collect();
    let schema = format!(
        "schema: {{items: {{anyOf: [{}]}}}}",
        alternatives.join(", ")
    );
    let plugin = Kit::new().instance(&PLUGIN, &schema);
    let body = format!("[{}0]", r#"{"k1499":1},"#.repeat(4000));

    assert_eq!(
        refused(&plugin, post(body)),
        (422, "json_schema.too_costly")
    );
}

#[test]
fn a_schema_comes_from_a_file_with_others_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put(
        "order.json",
        r#"{"properties": {"sku": {"$ref": "sku.json#/$defs/sku"}}}"#,
    );
    put("sku.json", r#"{"$defs": {"sku": {"type": "string"}}}"#);
    put("broken.json", r#"{"properties": {"a": {"type": "strng"}}}"#);
    put("twice.json", r#"{"type": "object", "type": "array"}"#);
    let kit = Kit::new().in_folder(folder.path());

    let plugin = kit.instance(&PLUGIN, "file: order.json");
    assert_eq!(
        refused(&plugin, post(r#"{"sku": 1}"#)),
        (422, "json_schema.mismatch")
    );
    let broken = kit.problems(&PLUGIN, "file: broken.json");
    assert_eq!(broken[0].path, "file");
    assert!(
        broken[0]
            .fact
            .starts_with("broken.json at /properties/a/type: "),
        "{broken:?}"
    );
    assert_eq!(kit.problem_paths(&PLUGIN, "file: none.json"), ["file"]);
    assert_eq!(kit.problem_paths(&PLUGIN, "file: twice.json"), ["file"]);
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(paths("{}"), [""]);
    assert_eq!(paths("schema: {}\nfile: a.json"), ["file"]);
    assert_eq!(
        paths("schema: {properties: {a: {minimum: x}}}"),
        ["schema.properties.a.minimum"]
    );
    assert_eq!(
        paths("schema: {}\nmax: 0B\ndepth: 200\nerrors: 101\nstatus: 500\ntypes: [json]\nresponse: {max: 1GiB}"),
        ["max", "response.max", "depth", "errors", "status", "types[0]", "response"]
    );
    assert_eq!(paths("schema: {}\ntypes: []"), ["types"]);
    assert_eq!(paths("schema: {}\ndraft: draft-05"), ["draft"]);
    let remote = kit.problems(&PLUGIN, "schema: {$ref: 'https://example.test/a.json'}");
    assert!(remote[0].fact.contains("example.test"), "{remote:?}");
}

#[test]
fn the_dialect_of_a_schema_is_what_it_says_or_what_is_set() {
    let four = "schema: {maximum: 5, exclusiveMaximum: true}\ndraft: draft-04";
    let own = "schema: {$schema: 'http://json-schema.org/draft-07/schema#', items: [{type: string}]}\ndraft: 2020-12";

    assert_eq!(
        refused(&Kit::new().instance(&PLUGIN, four), post("5")).0,
        422
    );
    assert_eq!(
        refused(&Kit::new().instance(&PLUGIN, own), post("[5]")).0,
        422
    );
    assert_eq!(
        Kit::new().problem_paths(&PLUGIN, "schema: {maximum: 5, exclusiveMaximum: true}"),
        ["schema.exclusiveMaximum"]
    );
}

#[test]
fn formats_are_rules_or_remarks() {
    let body = r#""no date""#;
    let rules = Kit::new().instance(&PLUGIN, "schema: {format: date}");
    let remarks = Kit::new().instance(&PLUGIN, "schema: {format: date}\nformats: false");

    assert_eq!(refused(&rules, post(body)).0, 422);
    assert!(went_on(&remarks.request(&mut post(body))));
}

/// What a client gets of a response that comes in these pieces.
fn responded(plugin: &Instance, pieces: &[&str]) -> Result<String, &'static str> {
    let mut exchange =
        Exchange::get("http://a.test/").with_response("content-type", "application/json");
    assert!(went_on(&plugin.response(&mut exchange)));
    let mut got = String::new();
    for (at, text) in pieces.iter().enumerate() {
        let mut piece = Some(Bytes::from((*text).to_owned()));
        let last = at + 1 == pieces.len();
        match plugin.response_body(&mut exchange, &mut piece, last) {
            Verdict::Continue => got += std::str::from_utf8(&piece.unwrap_or_default()).unwrap(),
            Verdict::Answer(answer) => return Err(answer.cause.name),
            other => panic!("{other:?}"),
        }
    }
    Ok(got)
}

/// What a client gets of a response that may be held back.
fn answered_with(plugin: &Instance, body: &'static str) -> Result<String, &'static str> {
    let mut exchange =
        Exchange::get("http://a.test/").with_response("content-type", "application/json");
    match plugin.respond(&mut exchange, body) {
        Ok(body) => Ok(String::from_utf8(body.to_vec()).unwrap()),
        Err(verdict) => Err(answered(verdict).cause.name),
    }
}

#[test]
fn responses_that_do_not_fit_are_counted_or_refused() {
    let kit = Kit::new();
    let of = |settings: &str| {
        kit.instance(
            &PLUGIN,
            &format!("response: {{schema: {{type: object}}, max: 20B{settings}}}"),
        )
    };
    let (report, refuse) = (of(""), of(", on_mismatch: refuse"));

    assert_eq!(
        responded(&report, &["{\"a\"", ": 1}"]).as_deref(),
        Ok("{\"a\": 1}")
    );
    assert_eq!(
        answered_with(&refuse, "{\"a\": 1}").as_deref(),
        Ok("{\"a\": 1}")
    );
    assert_eq!(kit.counted("response_mismatch"), 0);
    for body in [["[", "]"], ["{", "{"], ["{\"a\": 1,", "\"a\": 2}"]] {
        assert_eq!(responded(&report, &body).as_deref(), Ok(&*body.concat()));
    }
    for body in ["[]", "{{", "{\"a\": 1,\"a\": 2}"] {
        assert_eq!(answered_with(&refuse, body), Err("json_schema.response"));
    }
    assert_eq!(kit.counted("response_mismatch"), 6);
}

#[test]
fn copies_of_responses_that_go_on_are_bounded_together() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "response: {schema: {type: object}, max: 40MiB}");
    let begun = || {
        let mut exchange =
            Exchange::get("http://a.test/").with_response("content-type", "application/json");
        assert!(went_on(&plugin.response(&mut exchange)));
        let mut piece = Some(Bytes::from(vec![b' '; 33 << 20]));
        plugin.response_body(&mut exchange, &mut piece, false);
        exchange
    };
    let end = |mut exchange: Exchange| {
        let mut piece = Some(Bytes::from_static(b"{}"));
        plugin.response_body(&mut exchange, &mut piece, true);
    };
    let (first, second) = (begun(), begun());

    end(second);
    assert_eq!(kit.counted("response_unchecked"), 1);
    drop(first);
    end(begun());

    assert_eq!(kit.counted("response_unchecked"), 1);
    assert_eq!(kit.counted("response_mismatch"), 0);
}

#[test]
fn responses_that_are_too_large_go_on_and_are_counted() {
    let kit = Kit::new();
    let of = |settings: &str| {
        kit.instance(
            &PLUGIN,
            &format!("response: {{schema: {{type: object}}, max: 20B{settings}}}"),
        )
    };
    let long = ["[1, 2, 3, 4, ", "5, 6, 7, 8", ", 9]"];
    let mut exchange =
        Exchange::get("http://a.test/").with_response("content-type", "application/json");
    let refuse = of(", on_mismatch: refuse");

    assert_eq!(responded(&of(""), &long).as_deref(), Ok(&*long.concat()));
    assert_eq!(kit.counted("response_unchecked"), 1);
    let hold = Hold::Within {
        most: 20,
        larger: Larger::Begin,
    };
    assert_eq!(refuse.wish(&mut exchange), hold);
    let mut begin = Held {
        body: WholeBody::new(Bytes::from_static(b"[1, 2, 3, 4, 5, 6, 7, 8")),
        ..Held::default()
    };
    assert!(went_on(&refuse.held_response(&mut exchange, &mut begin)));
    assert!(!begin.body.is_changed());
    assert_eq!(kit.counted("response_unchecked"), 2);
    assert_eq!(kit.counted("response_mismatch"), 0);
}

#[test]
fn answers_without_a_body_of_the_service_are_not_looked_at() {
    let plugin = Kit::new().instance(&PLUGIN, "response: {schema: false, on_mismatch: refuse}");
    let not_looked_at = |mut exchange: Exchange| {
        assert_eq!(plugin.wish(&mut exchange), Hold::Nothing);
    };
    let json = |exchange: Exchange| exchange.with_response("content-type", "application/json");

    not_looked_at(Exchange::get("http://a.test/").with_response("content-type", "text/html"));
    not_looked_at(json(Exchange::new("HEAD", "http://a.test/")));
    not_looked_at(json(Exchange::get("http://a.test/")).with_status(404));
    not_looked_at(json(Exchange::get("http://a.test/")).with_status(204));
    let mut own = json(Exchange::get("http://a.test/"));
    own.cause = Some(&MISMATCH);
    not_looked_at(own);
}

#[test]
fn a_response_that_ends_with_trailers_is_whole() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "response: {schema: {type: object}}");
    let end = |body: &'static str| {
        let mut exchange =
            Exchange::get("http://a.test/").with_response("content-type", "application/json");
        assert!(went_on(&plugin.response(&mut exchange)));
        let mut piece = Some(Bytes::from_static(body.as_bytes()));
        assert!(went_on(&plugin.response_body(
            &mut exchange,
            &mut piece,
            false
        )));
        assert_eq!(piece.as_deref(), Some(body.as_bytes()));
        plugin.response_trailers(&mut exchange, &mut http::HeaderMap::new());
        kit.counted("response_mismatch")
    };

    assert_eq!(end("{}"), 0);
    assert_eq!(end("[]"), 1);
}

#[test]
fn a_dry_run_says_what_traffic_would_and_counts_nothing() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, ORDER);

    assert_eq!(answered(plugin.request(&mut post("[]").dry())).status, 422);
    assert_eq!(kit.counted("refused"), 0);
}

proptest! {
    #[test]
    fn no_body_breaks_it(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let verdict = with("").request(&mut post(body));
        prop_assert!(matches!(verdict, Verdict::Continue | Verdict::Answer(_)));
    }

    #[test]
    fn text_that_is_nearly_json_is_refused_or_fits(body in "[\\[\\]{}:,\"sku0-9 ]{0,60}") {
        let verdict = with("").request(&mut post(body.clone()));
        let fits = serde_json::from_str::<Value>(&body).is_ok_and(|value| value["sku"].is_string());
        prop_assert!(!went_on(&verdict) || fits || body.is_empty());
    }
}
