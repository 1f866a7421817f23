use http::HeaderValue;

use super::*;
use crate::snapshot::route::Pointer;

fn response(status: u16, body: &str) -> Response {
    Response {
        status,
        body: body.as_bytes().to_vec(),
        ..Response::default()
    }
}

fn of(body: CompareBody, ignore: &[&str]) -> Compare {
    Compare {
        status: true,
        headers: ["content-type".parse().unwrap()].into(),
        body,
        ignore: ignore
            .iter()
            .map(|text| Pointer::new(text).unwrap())
            .collect(),
        latency: true,
        body_limit: 1000,
    }
}

fn bodies(how: &Compare, one: &str, other: &str) -> (Compared, Vec<String>) {
    compare(how, &response(200, one), &response(200, other))
}

#[test]
fn the_first_thing_that_differs_gives_the_name_and_all_are_told() {
    let mut other = response(500, "b");
    let html = HeaderValue::from_static("text/html");
    other.headers.insert("content-type", html);

    let (compared, what) = compare(&of(CompareBody::Bytes, &[]), &response(200, "a"), &other);

    assert_eq!(compared, Compared::Status);
    assert_eq!(
        what,
        [
            "status 200, mirror 500",
            "header content-type: none, mirror \"text/html\"",
            "body: 1 bytes, mirror 1, first difference at 0"
        ]
    );
}

#[test]
fn json_is_compared_by_value_whatever_its_order_and_spelling() {
    let how = of(CompareBody::Json, &["/meta/*", "/items/*/id"]);
    let own = r#"{"a": 1, "b": [1, 2], "meta": {"t": 1}, "items": [{"id": 1, "n": "x"}]}"#;
    let same = r#"{"b":[1,2],"items":[{"n":"x"}],"meta":{"t":2,"u":3},"a":1}"#;
    let different = r#"{"b":[1,3,4],"items":[{"n":1}],"meta":{},"c":1}"#;

    assert_eq!(bodies(&how, own, same), (Compared::Same, Vec::new()));
    let (compared, mut what) = bodies(&how, own, different);
    what.sort();
    assert_eq!(compared, Compared::Body);
    assert_eq!(
        what,
        [
            "body /a: missing in the mirror",
            "body /b/1: another value",
            "body /b/2: only in the mirror",
            "body /c: only in the mirror",
            "body /items/0/n: string, mirror number"
        ]
    );
}

#[test]
fn shapes_may_have_other_values_and_lengths() {
    let how = of(CompareBody::JsonShape, &[]);

    let same = bodies(
        &how,
        r#"{"a": [1, 2], "b": "x"}"#,
        r#"{"a": [3], "b": "y"}"#,
    );
    let other = bodies(&how, r#"{"a": [1]}"#, r#"{"a": ["1"]}"#);

    assert_eq!(same.0, Compared::Same);
    assert_eq!(other.1, ["body /a/0: number, mirror string"]);
}

#[test]
fn what_is_no_json_is_compared_as_bytes() {
    let how = of(CompareBody::Json, &[]);

    assert_eq!(bodies(&how, "plain", "plain").0, Compared::Same);
    assert_eq!(bodies(&how, "plain", "{}").0, Compared::Body);
    assert_eq!(bodies(&how, "", "{}").0, Compared::Body);
}

#[test]
fn a_body_beyond_the_bound_is_not_compared_but_the_rest_is() {
    let how = of(CompareBody::Bytes, &[]);
    let long = "x".repeat(1001);

    assert_eq!(bodies(&how, &long, &long).0, Compared::TooLarge);
    let other = compare(&how, &response(200, &long), &response(404, ""));
    assert_eq!(other.0, Compared::Status);
}

#[test]
fn no_value_of_a_body_is_told_and_no_more_than_a_few_places() {
    let how = of(CompareBody::Json, &[]);
    let list = |word: &str| serde_json::to_string(&vec![word; 100]).unwrap();

    let (_, what) = bodies(&how, &list("hush"), &list("secret"));

    assert_eq!(what.len(), 8);
    assert!(!what.concat().contains("hush") && !what.concat().contains("secret"));
}
