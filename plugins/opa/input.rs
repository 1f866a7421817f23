//! What a policy is told of a request, as the JSON document of the data API.
//! It must not hold what differs from one request to the next without meaning, such as its id: the same input is the same question.
//! Part of `opa`.

use serde_json::{json, Map, Value};

use crate::contract::{PrincipalKind, Request};
use crate::granted::Names;

/// `{"input": ...}`.
pub(super) fn of(request: &Request<'_>, names: &Names) -> String {
    let client = request.client;
    let principal = request.principal.as_ref().map(|principal| {
        let kind = match principal.kind {
            PrincipalKind::Workload => "workload",
            PrincipalKind::Consumer => "consumer",
            PrincipalKind::Certificate => "certificate",
        };
        json!({"id": principal.id(), "kind": kind, "name": principal.name})
    });
    let segments = client.path.trim_start_matches('/').split('/');
    let segments: Vec<String> = segments
        .map(|segment| decoded(segment, Plus::Stays))
        .collect();
    let input = json!({
        "method": request.head.method.as_str(),
        "scheme": if client.secure { "https" } else { "http" },
        "host": client.host,
        "path": client.path,
        "parsed_path": segments,
        "query": query(request.head.uri.query().unwrap_or_default()),
        "headers": headers(request, names),
        "client": {"address": client.address.to_string()},
        "principal": principal,
        "listener": client.listener,
        "route": client.route,
    });
    json!({ "input": input }).to_string()
}

/// Every value of each parameter: which of several a service believes, a policy has to decide for itself.
fn query(query: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        add(
            &mut all,
            decoded(key, Plus::IsSpace),
            decoded(value, Plus::IsSpace),
        );
    }
    all
}

fn headers(request: &Request<'_>, names: &Names) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in request
        .head
        .headers
        .iter()
        .filter(|(name, _)| names.has(name))
    {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        add(&mut all, name.as_str().to_owned(), value);
    }
    all
}

fn add(all: &mut Map<String, Value>, key: String, value: String) {
    let values = all.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(values) = values {
        values.push(Value::String(value));
    }
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Stays,
    IsSpace,
}

fn decoded(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let coded = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match coded.and_then(|coded| u8::from_str_radix(coded, 16).ok()) {
            Some(coded) => {
                plain.push(coded);
                at += 3;
            }
            None => {
                let is_space = *byte == b'+' && plus == Plus::IsSpace;
                plain.push(if is_space { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_stay() {
        for (text, expected) in [
            ("a%20b+c", "a b c"),
            ("%2", "%2"),
            ("%+1", "% 1"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
            ("%25%32%30", "%20"),
        ] {
            assert_eq!(decoded(text, Plus::IsSpace), expected, "{text}");
        }
        assert_eq!(decoded("a+b", Plus::Stays), "a+b");
    }
}
