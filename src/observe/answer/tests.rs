//! Tests of answers as clients see them.
//! They must not know which step of a request answers.
//! Run by `cargo test`.

use proptest::prelude::*;
use windrose_plugins::contract::{builtin_causes, causes};

use super::*;

fn field<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
    let found = rendered.headers.iter().find(|(field, _)| field == name)?;
    found.1.to_str().ok()
}

#[test]
fn a_problem_has_the_members_of_rfc_9457_and_the_cause() {
    let rendered = render(
        &causes::CONNECT_REFUSED,
        502,
        Preference::Problem,
        "r-1",
        None,
    );

    let body: serde_json::Value = serde_json::from_slice(&rendered.body).expect("JSON");
    let expected = serde_json::json!({
        "type": "urn:windrose:cause:connect_refused",
        "title": "Bad gateway",
        "status": 502,
        "why": "connect_refused",
        "request_id": "r-1",
    });
    assert_eq!(body, expected);
    assert_eq!(rendered.status, 502);
    assert_eq!(
        field(&rendered, "content-type"),
        Some("application/problem+json")
    );
    assert_eq!(field(&rendered, "cache-control"), Some("no-store"));
    assert_eq!(field(&rendered, "retry-after"), None);
    let length = rendered.body.len().to_string();
    assert_eq!(field(&rendered, "content-length"), Some(length.as_str()));
}

#[test]
fn a_detail_is_told_in_every_form_and_stays_text() {
    let body = |preference| {
        let about = "the route \"<a>\"";
        let rendered = render_with_detail(&causes::QUARANTINED, 503, preference, "r", about);
        let message = field(&rendered, "grpc-message").unwrap_or_default();
        format!("{}{message}", String::from_utf8_lossy(&rendered.body))
    };

    let problem: serde_json::Value =
        serde_json::from_str(&body(Preference::Problem)).expect("JSON");

    assert_eq!(problem["detail"], "the route \"<a>\"");
    assert!(body(Preference::Html).contains("<p>the route &quot;&lt;a&gt;&quot;</p>"));
    assert!(body(Preference::Text).contains("\nthe route \"<a>\"\n"));
    assert!(body(Preference::Grpc).ends_with("(quarantined): the route \"<a>\""));
}

#[test]
fn too_many_and_unavailable_always_say_when_to_retry() {
    for preference in [
        Preference::Problem,
        Preference::Html,
        Preference::Grpc,
        Preference::Text,
    ] {
        let unavailable = render(&causes::NO_ENDPOINT, 503, preference, "r", None);
        let limited = render(&causes::NO_ENDPOINT, 429, preference, "r", Some(30));

        assert_eq!(field(&unavailable, "retry-after"), Some("1"));
        assert_eq!(field(&limited, "retry-after"), Some("30"));
    }
}

#[test]
fn grpc_gets_a_200_with_its_own_status() {
    let rendered = render(&causes::DEADLINE_EXCEEDED, 504, Preference::Grpc, "r", None);

    assert_eq!(rendered.status, 200);
    assert_eq!(field(&rendered, "grpc-status"), Some("4"));
    assert_eq!(
        field(&rendered, "grpc-message"),
        Some("Gateway timeout (deadline_exceeded)")
    );
    assert!(rendered.body.is_empty());
}

#[test]
fn every_status_maps_to_grpc_as_the_protocol_says() {
    let expected = [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (413, 8),
        (429, 14),
        (431, 8),
        (500, 2),
        (502, 14),
        (503, 14),
        (504, 4),
    ];

    for (http, grpc) in expected {
        assert_eq!(grpc_status(http), grpc, "{http}");
    }
}

#[test]
fn grpc_messages_are_percent_encoded() {
    assert_eq!(percent("50% caf\u{e9}\n"), "50%25 caf%C3%A9%0A");
}

#[test]
fn explanations_for_operators_are_not_in_any_answer() {
    for cause in builtin_causes() {
        for preference in [Preference::Problem, Preference::Html, Preference::Text] {
            let rendered = render(cause, 500, preference, "r", None);

            let body = String::from_utf8(rendered.body.to_vec()).expect("UTF-8");
            assert!(!body.contains(cause.explanation), "{}", cause.name);
            assert!(!body.contains(cause.next_step), "{}", cause.name);
        }
    }
}

proptest! {
    #[test]
    fn no_request_id_breaks_out_of_its_place(id in any::<String>()) {
        let problem = render(&causes::INTERNAL, 500, Preference::Problem, &id, None);
        let html = render(&causes::INTERNAL, 500, Preference::Html, &id, None);
        let text = render(&causes::INTERNAL, 500, Preference::Text, &id, None);

        let value: serde_json::Value = serde_json::from_slice(&problem.body).expect("JSON");
        prop_assert_eq!(value["request_id"].as_str(), Some(id.as_str()));
        let page = String::from_utf8_lossy(&html.body).into_owned();
        let plain = render(&causes::INTERNAL, 500, Preference::Html, "", None);
        let plain = String::from_utf8_lossy(&plain.body).into_owned();
        for mark in ['<', '>', '"'] {
            prop_assert_eq!(page.matches(mark).count(), plain.matches(mark).count());
        }
        prop_assert_eq!(String::from_utf8_lossy(&text.body).lines().count(), 3);
    }
}
