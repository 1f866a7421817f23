//! Answers made of a document's examples, for a service that is not there yet.
//! It must not know requests but what they prefer: a status, an example, a media type.
//! Made while the plugin is built, so that an answer is a copy.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::documents::{Documents, Flaw, Node};
use super::operation::is_status;
use super::sample::sample;
use super::{Compiler, MOCK, NOT_ACCEPTABLE, NO_EXAMPLE};
use crate::contract::{field_name, field_value, Answer, Cause, Side};

/// The answers of an operation.
pub(super) struct Mock(Vec<Reply>);

struct Reply {
    /// `200`, `2XX` or `default`.
    status: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    bodies: Vec<(String, HeaderValue, Vec<Example>)>,
}

struct Example {
    name: String,
    body: Bytes,
}

/// What a request asks for (RFC 7240), as Prism reads it.
#[derive(Default)]
struct Preferred {
    code: Option<String>,
    example: Option<String>,
}

impl Mock {
    /// The answers that an operation's responses make.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn of(operation: &Node<'_>, compiler: &Compiler<'_>) -> Result<Mock, Flaw> {
        let documents = compiler.documents;
        let mut replies = Vec::new();
        for (status, response) in operation.member("responses").iter().flat_map(Node::members) {
            if status.starts_with("x-") {
                continue;
            }
            if !is_status(status) {
                let fact = "is no status: write one such as 200, a range such as 2XX, or default";
                return Err(documents.flaw(&response, fact));
            }
            let response = documents.follow(response)?;
            let mut bodies = Vec::new();
            for (kind, media) in response.member("content").iter().flat_map(Node::members) {
                let value = field_value("", kind);
                let value = value.map_err(|_| documents.flaw(&media, "is not a media type"))?;
                bodies.push((
                    kind.to_ascii_lowercase(),
                    value,
                    examples(documents, kind, &media)?,
                ));
            }
            replies.push(Reply {
                status: status.to_owned(),
                headers: headers(documents, &response)?,
                bodies,
            });
        }
        Ok(Mock(replies))
    }

    /// The answer to a request with these fields.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Result<Answer, &'static Cause> {
        let preferred = Preferred::of(headers);
        let (status, reply) = self.reply(preferred.code.as_deref()).ok_or(&NO_EXAMPLE)?;
        let mut answer = Answer::of(&MOCK).in_place_of_service();
        answer.status = status;
        answer.headers = reply.headers.clone();
        answer.body = Some(
            match reply.bodies.is_empty() || matches!(status, 204 | 205 | 304) {
                true => (HeaderValue::from_static("text/plain"), Bytes::new()),
                false => {
                    let (kind, examples) = reply.accepted(headers).ok_or(&NOT_ACCEPTABLE)?;
                    let wanted = preferred.example.as_deref();
                    let found = examples
                        .iter()
                        .find(|example| wanted.is_none_or(|wanted| example.name == wanted));
                    (kind, found.ok_or(&NO_EXAMPLE)?.body.clone())
                }
            },
        );
        Ok(answer)
    }

    /// The reply of the status that is preferred, else the first that is a success, else the first.
    fn reply(&self, code: Option<&str>) -> Option<(u16, &Reply)> {
        let of = |status: &str| self.0.iter().find(|reply| reply.status == status);
        if let Some(code) = code {
            let status: u16 = code
                .parse()
                .ok()
                .filter(|status| (200..=599).contains(status))?;
            let range = format!("{}XX", status / 100);
            let found = of(code).or_else(|| of(&range)).or_else(|| of("default"));
            return found.map(|reply| (status, reply));
        }
        let numbers = || {
            self.0
                .iter()
                .filter(|reply| reply.status.as_bytes()[0] != b'1' && reply.status != "default")
        };
        let success = numbers().find(|reply| reply.status.starts_with('2'));
        if let Some(reply) = success
            .or_else(|| of("default"))
            .or_else(|| numbers().next())
        {
            let status = reply.status.replace("XX", "00");
            return Some((status.parse().unwrap_or(200), reply));
        }
        None
    }
}

impl Reply {
    /// The body that the client takes most.
    fn accepted(&self, headers: &HeaderMap) -> Option<(HeaderValue, &[Example])> {
        let fields: Vec<&str> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let all = fields.join(",");
        let weighed = self.bodies.iter().map(|(kind, value, examples)| {
            let weight = if fields.is_empty() {
                1000
            } else {
                weight(&all, kind)
            };
            (weight, value, examples)
        });
        // The first of those that weigh the same: documents name the usual one first.
        let best = weighed.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        (best.0 > 0).then(|| (best.1.clone(), best.2.as_slice()))
    }
}

/// How much a media type weighs in `Accept` (RFC 9110 section 12.5.1), in thousandths; the most special range counts.
fn weight(accept: &str, kind: &str) -> u16 {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let (main, _) = kind.split_once('/').unwrap_or((kind, ""));
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let special = match name.as_str() {
            name if name == kind => 3,
            name if name.strip_suffix("/*") == Some(main) => 2,
            "*/*" => 1,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        let quality = quality.map_or(1.0, |text| text.parse::<f32>().unwrap_or(0.0));
        if special > best.0 {
            best = (special, (quality.clamp(0.0, 1.0) * 1000.0) as u16);
        }
    }
    best.1
}

impl Preferred {
    fn of(headers: &HeaderMap) -> Preferred {
        let mut preferred = Preferred::default();
        let values = headers.get_all("prefer").iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        for part in texts.flat_map(|text| text.split([',', ';'])) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "code" => preferred.code.get_or_insert(value.to_owned()),
                "example" => preferred.example.get_or_insert(value.to_owned()),
                _ => continue,
            };
        }
        preferred
    }
}

/// The examples of a media type, by name; one made of the schema where there are none.
fn examples(documents: &Documents, kind: &str, media: &Node<'_>) -> Result<Vec<Example>, Flaw> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: &Value| {
        all.push(Example {
            name: name.to_owned(),
            body: written(kind, value),
        });
    };
    if let Some(example) = media.value.get("example") {
        add("", example);
    }
    for (name, example) in media.member("examples").iter().flat_map(Node::members) {
        let example = documents.follow(example)?;
        match example.value.get("value") {
            Some(value) => add(name, value),
            None => {
                let fact =
                    "an example has a `value`; those elsewhere (`externalValue`) are not fetched";
                return Err(documents.flaw(&example, fact));
            }
        }
    }
    if all.is_empty() {
        if let Some(schema) = media.member("schema") {
            let made = sample(documents, &schema)?;
            all.push(Example {
                name: String::new(),
                body: written(kind, &made),
            });
        }
    }
    Ok(all)
}

/// Text of types that are not JSON stands as it is.
fn written(kind: &str, value: &Value) -> Bytes {
    let is_json = kind.to_ascii_lowercase().contains("json");
    match value {
        Value::String(text) if !is_json => Bytes::from(text.clone()),
        value => Bytes::from(value.to_string()),
    }
}

/// Fields of a response that have an example.
fn headers(
    documents: &Documents,
    response: &Node<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Flaw> {
    let mut all = Vec::new();
    for (name, header) in response.member("headers").iter().flat_map(Node::members) {
        if name.eq_ignore_ascii_case("content-type") {
            continue;
        }
        let header = documents.follow(header)?;
        let made = match (header.value.get("example"), header.member("schema")) {
            (Some(example), _) => example.clone(),
            (None, Some(schema)) => sample(documents, &schema)?,
            (None, None) => continue,
        };
        let text = match &made {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => made.to_string(),
            _ => continue,
        };
        match (field_name(Side::Response, "", name), field_value("", &text)) {
            (Ok(name), Ok(value)) => all.push((name, value)),
            _ => return Err(documents.flaw(&header, "its example cannot be sent as a field")),
        }
    }
    Ok(all)
}
