//! What is told of a request, as one line of JSON.
//! It must not hold credentials, nor anything of a body.
//! Part of `log_http`.

use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::HeaderName;
use serde_json::{json, Map, Value};

use crate::contract::{Clock, Finished, Request, Slot};
use crate::granted::Names;

pub(super) struct Writer {
    pub(super) clock: Clock,
    pub(super) names: Names,
    pub(super) query: bool,
    pub(super) kept: Slot<Kept>,
}

/// What only the request's head tells.
pub(super) struct Kept {
    method: String,
    query: Option<String>,
    headers: Map<String, Value>,
}

impl Writer {
    /// Keeps what the end of the request does not tell any more.
    pub(super) fn keep(&self, request: &mut Request<'_>) {
        let query = request.head.uri.query().filter(|_| self.query);
        let mut headers = Map::new();
        let named = request.head.headers.iter();
        for (name, value) in named.filter(|(name, _)| self.names.has(name)) {
            let shown = match is_credential(name) || value.is_sensitive() {
                true => "***".to_owned(),
                false => cut(&String::from_utf8_lossy(value.as_bytes())),
            };
            let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(shown.into());
            }
        }
        let kept = Kept {
            method: request.head.method.to_string(),
            query: query.map(cut),
            headers,
        };
        request.slots.put(self.kept, kept);
    }

    /// The line, without its end.
    pub(super) fn entry(&self, finished: &Finished<'_>) -> String {
        let client = finished.client;
        let mut entry = json!({
            "time": rfc3339(self.clock.unix()),
            "request_id": client.request_id,
            "client": client.address.to_string(),
            "listener": client.listener,
            "route": client.route,
            "host": client.host,
            "path": cut(client.path),
            "status": finished.status,
            "cause": finished.cause.map(|cause| cause.name),
            "duration_ms": u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(kept) = finished.slots.value(self.kept) {
            entry["method"] = kept.method.as_str().into();
            if let Some(query) = &kept.query {
                entry["query"] = query.as_str().into();
            }
            if !kept.headers.is_empty() {
                entry["headers"] = Value::Object(kept.headers.clone());
            }
        }
        entry.to_string()
    }
}

/// Of these only the presence is told, whatever is asked for.
fn is_credential(name: &HeaderName) -> bool {
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
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Seconds and milliseconds since 1970 in the form of logs. Days are counted as Howard Hinnant's `civil_from_days` does.
fn rfc3339(unix: Duration) -> String {
    let seconds = unix.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
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
