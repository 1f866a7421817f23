//! What templates see of a request, its caller and a response.
//! It must not know templates.
//! Part of `body`.

use http::HeaderMap;
use pingora_http::RequestHeader;
use serde_json::{json, Map, Value};

use crate::contract::{ClientFacts, Principal, PrincipalKind};
use crate::query;

/// What is known of a request, with its body where that is known.
pub(super) fn of(
    head: &RequestHeader,
    client: &ClientFacts<'_>,
    principal: Option<&Principal>,
    body: Option<Value>,
) -> Value {
    let mut request = json!({
        "method": head.method.as_str(),
        "path": client.path,
        "query": parameters(head.uri.query().unwrap_or_default()),
        "headers": headers(&head.headers),
    });
    if let Some(body) = body {
        request["body"] = body;
    }
    json!({
        "request": request,
        "principal": principal.map(caller),
        "client": {
            "address": client.address.to_string(),
            "route": client.route,
            "request_id": client.request_id,
        },
    })
}

fn caller(principal: &Principal) -> Value {
    let kind = match principal.kind {
        PrincipalKind::Workload => "workload",
        PrincipalKind::Consumer => "consumer",
        PrincipalKind::Certificate => "certificate",
    };
    json!({
        "name": principal.name,
        "kind": kind,
        "id": principal.id(),
        "claims": principal.claims.as_deref(),
    })
}

/// Of parameters that are there twice the first.
fn parameters(query: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in query::pairs(query) {
        let text = |text| String::from_utf8_lossy(&query::decoded(text)).into_owned();
        let value = Value::String(text(value));
        all.entry(text(name)).or_insert(value);
    }
    all
}

/// Fields that are there several times as one list, as RFC 9110 section 5.3 has it.
pub(super) fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match all.get_mut(name.as_str()) {
            Some(Value::String(values)) => {
                values.push_str(", ");
                values.push_str(&value);
            }
            _ => {
                all.insert(name.as_str().to_owned(), value.into_owned().into());
            }
        }
    }
    all
}
