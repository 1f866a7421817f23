//! Pages of the flight recorder: the list, the records of one id, and all of them as a bundle.
//! It must not know how a record is made or kept.
//! Called by `admin`.

use http::{Response, StatusCode};
use serde::Serialize;

use super::answer;
use super::state::rfc3339;
use crate::observe::recorder::{Record, Recorder};
use crate::snapshot::Snapshot;

/// Records, newest first.
#[derive(Serialize)]
struct Records {
    records: Vec<Record>,
}

/// Everything there is, to be read elsewhere and later.
#[derive(Serialize)]
struct Bundle<'s> {
    /// Version of this form; members may be added without a new one.
    format: u32,
    /// The version that recorded.
    windrose: &'static str,
    taken: String,
    /// Of the configuration in force now; each record has that of its own time.
    generation: u64,
    digest: &'s str,
    records: Vec<Record>,
}

/// The list, narrowed by the query.
pub(super) fn list(recorder: &Recorder, query: &str) -> Response<Vec<u8>> {
    match Filter::parse(query) {
        Ok(filter) => {
            let all = recorder.all().into_iter();
            let records = all.filter(|record| filter.takes(record));
            let records = records.take(filter.limit).collect();
            answer::json(StatusCode::OK, &Records { records })
        }
        Err(problem) => answer::refusal(StatusCode::BAD_REQUEST, &problem),
    }
}

/// The records of a request id or a trace id.
pub(super) fn one(recorder: &Recorder, id: &str) -> Response<Vec<u8>> {
    let records = recorder.find(&decoded(id));
    match records.is_empty() {
        true => answer::refusal(StatusCode::NOT_FOUND, NOT_KEPT),
        false => answer::json(StatusCode::OK, &Records { records }),
    }
}

/// Everything.
pub(super) fn bundle(recorder: &Recorder, snapshot: &Snapshot) -> Response<Vec<u8>> {
    let bundle = Bundle {
        format: 1,
        windrose: env!("CARGO_PKG_VERSION"),
        taken: rfc3339(std::time::SystemTime::now()),
        generation: snapshot.generation,
        digest: &snapshot.digest,
        records: recorder.all(),
    };
    answer::dense_json(&bundle)
}

/// Which records are asked for.
#[derive(Debug, PartialEq)]
struct Filter {
    cause: Option<String>,
    route: Option<String>,
    status: Option<u16>,
    limit: usize,
}

impl Filter {
    fn parse(query: &str) -> Result<Filter, String> {
        let mut filter = Filter {
            cause: None,
            route: None,
            status: None,
            limit: USUAL_LIMIT,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            let number = || format!("{key} must be a number, found \"{value}\"");
            match key {
                "cause" => filter.cause = Some(value),
                "route" => filter.route = Some(value),
                "status" => filter.status = Some(value.parse().map_err(|_| number())?),
                "limit" => filter.limit = value.parse().map_err(|_| number())?,
                key => {
                    return Err(format!(
                        "\"{key}\" is not known; there are cause, route, status and limit"
                    ))
                }
            }
        }
        Ok(filter)
    }

    fn takes(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|_| wanted == found)
        };
        is(&self.cause, &record.answer.cause)
            && is(&self.route, &record.decision.route)
            && self
                .status
                .is_none_or(|status| status == record.answer.status)
    }
}

/// Text with its percent escapes resolved.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const USUAL_LIMIT: usize = 100;
const NOT_KEPT: &str = "no record has this request id or trace id; only errors (up to 20 of one cause in a second), the slowest 1% and a sample of the rest are kept, and the oldest make room";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_narrows_and_mistakes_in_it_are_told() {
        let filter = Filter::parse("cause=no_route&status=404&limit=2");

        let expected = Filter {
            cause: Some("no_route".into()),
            route: None,
            status: Some(404),
            limit: 2,
        };
        assert_eq!(filter, Ok(expected));
        for (query, problem) in [
            ("limit=x", "limit must be a number, found \"x\""),
            (
                "couse=a",
                "\"couse\" is not known; there are cause, route, status and limit",
            ),
        ] {
            assert_eq!(Filter::parse(query), Err(problem.to_owned()));
        }
    }

    #[test]
    fn escapes_are_resolved_where_they_are_whole() {
        assert_eq!(decoded("a%2Fb%"), "a/b%");
        assert_eq!(decoded("%zz%41"), "%zzA");
        assert_eq!(decoded("%\u{e9}"), "%\u{e9}");
    }
}
