//! Responses of the admin address, with the fields every one of them carries.
//! It must not know what they say.
//! Called by `admin`.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::snapshot::Snapshot;

/// A response of this type.
pub(super) fn of(status: StatusCode, media: &'static str, body: String) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = status;
    let length = HeaderValue::from(response.body().len());
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static(media)),
        (CONTENT_LENGTH, length),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    response.headers_mut().extend(fields);
    response
}

pub(super) fn text(body: String) -> Response<Vec<u8>> {
    of(StatusCode::OK, TEXT, body)
}

pub(super) fn html(body: String) -> Response<Vec<u8>> {
    of(StatusCode::OK, "text/html; charset=utf-8", body)
}

pub(super) fn json(status: StatusCode, view: &impl Serialize) -> Response<Vec<u8>> {
    written(status, serde_json::to_string_pretty(view))
}

/// A view of what the configuration says, without its secrets.
pub(super) fn without_secrets(snapshot: &Snapshot, view: &impl Serialize) -> Response<Vec<u8>> {
    if snapshot.secrets.is_empty() {
        return json(StatusCode::OK, view);
    }
    match snapshot.secrets.json(view) {
        Ok(view) => json(StatusCode::OK, &view),
        Err(error) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot be shown: {error}"),
        ),
    }
}

/// JSON without spaces, for what is large.
pub(super) fn dense_json(view: &impl Serialize) -> Response<Vec<u8>> {
    written(StatusCode::OK, serde_json::to_string(view))
}

fn written(status: StatusCode, json: serde_json::Result<String>) -> Response<Vec<u8>> {
    match json {
        Ok(body) => of(status, "application/json", body + "\n"),
        Err(error) => {
            debug_assert!(false, "views are plain data: {error}");
            of(StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new())
        }
    }
}

/// The configuration as YAML, after comments on what is broken, of which only the place is left. Its type is plain text so
/// that browsers show it.
pub(super) fn config(snapshot: &Snapshot) -> Response<Vec<u8>> {
    let mut yaml = String::new();
    for one in &snapshot.quarantined {
        let lines = one.to_string();
        yaml.extend(lines.lines().map(|line| format!("# {line}\n")));
    }
    yaml.push_str(&snapshot.effective);
    let mut response = text(yaml);
    let generation = HeaderValue::from(snapshot.generation);
    response.headers_mut().insert(GENERATION, generation);
    response
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<&'a str>,
}

pub(super) fn refusal(status: StatusCode, error: &str) -> Response<Vec<u8>> {
    let paths = Vec::new();
    json(status, &Refusal { error, paths })
}

pub(super) fn not_allowed(allow: &'static str) -> Response<Vec<u8>> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "another method is needed");
    let allow = HeaderValue::from_static(allow);
    response.headers_mut().insert(ALLOW, allow);
    response
}

pub(super) fn unknown<'a>(paths: impl Iterator<Item = &'a str>) -> Response<Vec<u8>> {
    let refusal = Refusal {
        error: "nothing is at this path",
        paths: paths.collect(),
    };
    json(StatusCode::NOT_FOUND, &refusal)
}

const TEXT: &str = "text/plain; charset=utf-8";
/// Nothing is loaded, and no page may show this one inside of it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const GENERATION: HeaderName = HeaderName::from_static("x-windrose-generation");
