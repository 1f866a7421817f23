//! What is told of a request: the members of one JSON object.
//! It must not hold credentials, nor anything of a body.
//! Written by plugins that tell a collector.

use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use serde_json::{json, Map, Value};

use crate::contract::{Clock, Finished, Said};
use crate::date::date;
use crate::granted::Names;

/// What is told, and of which fields.
pub(crate) struct Writer {
    pub(crate) clock: Clock,
    pub(crate) names: Names,
    pub(crate) query: bool,
}

impl Writer {
    /// The members.
    pub(crate) fn entry(&self, finished: &Finished<'_>) -> Map<String, Value> {
        let (client, head) = (finished.client, finished.request);
        let entry = json!({
            "time": rfc3339(self.clock.unix()),
            "request_id": client.request_id,
            "client": client.address.to_string(),
            "listener": client.listener,
            "route": client.route,
            "host": client.host,
            "method": cut(head.method.as_str()),
            "path": cut(client.path),
            "status": finished.status,
            "cause": finished.cause.map(|cause| cause.name),
            "duration_ms": u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
            "request_bytes": finished.request_bytes,
            "response_bytes": finished.response_bytes,
        });
        let Value::Object(mut entry) = entry else {
            return Map::new();
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let known = [
            ("principal", finished.principal.map(|one| cut(&one.id()))),
            ("pool", text(finished.pool)),
            ("endpoint", text(finished.endpoint)),
            ("trace_id", finished.trace_id.map(str::to_owned)),
            ("query", head.uri.query().filter(|_| self.query).map(cut)),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                entry.insert(name.to_owned(), value.into());
            }
        }
        for (name, said) in finished.notes {
            let told = match said {
                Said::Text(text) => cut(text).into(),
                Said::Number(number) => (*number).into(),
            };
            entry.insert((*name).to_owned(), told);
        }
        let headers = self.headers(&head.headers);
        if !headers.is_empty() {
            entry.insert("headers".to_owned(), Value::Object(headers));
        }
        entry
    }

    /// The fields that are told.
    fn headers(&self, fields: &HeaderMap) -> Map<String, Value> {
        let mut headers = Map::new();
        for (name, value) in fields.iter().filter(|(name, _)| self.names.has(name)) {
            let shown = match is_credential(name) || value.is_sensitive() {
                true => "***".to_owned(),
                false => cut(&String::from_utf8_lossy(value.as_bytes())),
            };
            let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(shown.into());
            }
        }
        headers
    }
}

/// Whether a field holds what proves somebody, by its name. Of these only the presence is told, whatever is asked for.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    let known = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];
    let text = name.as_str();
    let speaks = [
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
        "signature",
        "credential",
    ];
    known.contains(name) || speaks.iter().any(|word| text.contains(word))
}

fn cut(text: &str) -> String {
    begin(text, LONGEST).to_owned()
}

/// At most so many bytes of a text, whole characters.
pub(crate) fn begin(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Seconds and milliseconds since 1970 in the form of logs.
fn rfc3339(unix: Duration) -> String {
    let seconds = unix.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = unix.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_logs_do() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn what_holds_credentials_is_known_by_its_name() {
        for (name, expected) in [
            ("authorization", true),
            ("cookie", true),
            ("x-api-key", true),
            ("x-auth-token", true),
            ("x-hub-signature-256", true),
            ("user-agent", false),
            ("x-tenant", false),
        ] {
            assert_eq!(
                is_credential(&HeaderName::from_static(name)),
                expected,
                "{name}"
            );
        }
    }
}
