//! Whether two responses are the same: status, chosen fields, body.
//! It must not know where they came from, nor keep values of bodies.
//! Called when both responses of a mirrored request are there.

use http::header::CONTENT_ENCODING;
use http::HeaderName;
use serde_json::Value;

use super::Response;
use crate::observe::metrics::Compared;
use crate::observe::mirror::{field, pointer};
use crate::snapshot::route::{Compare, CompareBody};

/// What came of the comparison, named after the first thing that differs, and everything that does in words.
pub(super) fn compare(
    compare: &Compare,
    own: &Response,
    mirrored: &Response,
) -> (Compared, Vec<String>) {
    let mut differ = Differ::default();
    if compare.status && own.status != mirrored.status {
        let what = format!("status {}, mirror {}", own.status, mirrored.status);
        differ.add(Compared::Status, what);
    }
    for name in &compare.headers {
        headers(name, own, mirrored, &mut differ);
    }
    if compare.body != CompareBody::None {
        body(compare, own, mirrored, &mut differ);
    }
    (differ.first.unwrap_or(Compared::Same), differ.what)
}

#[derive(Default)]
struct Differ {
    first: Option<Compared>,
    what: Vec<String>,
}

impl Differ {
    fn add(&mut self, kind: Compared, what: String) {
        self.first.get_or_insert(kind);
        self.what.push(what);
    }
}

fn headers(name: &HeaderName, own: &Response, mirrored: &Response, differ: &mut Differ) {
    let values = |response: &Response| {
        let all = response.headers.get_all(name).iter();
        let all: Vec<&[u8]> = all.map(http::HeaderValue::as_bytes).collect();
        (!all.is_empty()).then(|| all.join(&b", "[..]))
    };
    let (one, other) = (values(own), values(mirrored));
    if one != other {
        let what = field(name.as_str(), one.as_deref(), other.as_deref());
        differ.add(Compared::Headers, what);
    }
}

fn body(compare: &Compare, own: &Response, mirrored: &Response, differ: &mut Differ) {
    let is_long = |response: &Response| response.is_cut || response.body.len() > compare.body_limit;
    if is_long(own) || is_long(mirrored) {
        // What differs besides is the better word.
        differ.first.get_or_insert(Compared::TooLarge);
        return;
    }
    if own.body == mirrored.body {
        return;
    }
    let is_coded = |response: &Response| response.headers.contains_key(CONTENT_ENCODING);
    let parse = |response: &Response| match is_coded(response) {
        true => None,
        false => serde_json::from_slice::<Value>(&response.body).ok(),
    };
    let as_json = compare.body != CompareBody::Bytes;
    match (parse(own), parse(mirrored)) {
        (Some(one), Some(other)) if as_json => {
            let mut walk = Walk {
                compare,
                path: Vec::new(),
                differ,
            };
            walk.values(&one, &other);
        }
        _ => {
            let (one, other) = (&own.body, &mirrored.body);
            let pairs = one.iter().zip(other).position(|(one, other)| one != other);
            let at = pairs.unwrap_or(one.len().min(other.len()));
            let (one, other) = (one.len(), other.len());
            let what = format!("body: {one} bytes, mirror {other}, first difference at {at}");
            differ.add(Compared::Body, what);
        }
    }
}

/// Two JSON values side by side. The parser bounds how deep they go.
struct Walk<'a> {
    compare: &'a Compare,
    path: Vec<String>,
    differ: &'a mut Differ,
}

impl Walk<'_> {
    fn values(&mut self, one: &Value, other: &Value) {
        if self.compare.ignore.iter().any(|it| it.matches(&self.path)) {
            return;
        }
        let by_shape = self.compare.body == CompareBody::JsonShape;
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => {
                let new = other.iter().filter(|(name, _)| !one.contains_key(*name));
                let all = one.iter().map(|(name, value)| (name, Some(value)));
                for (name, value) in all.chain(new.map(|(name, _)| (name, None))) {
                    self.member(name.clone(), value, other.get(name));
                }
            }
            (Value::Array(one), Value::Array(other)) => {
                let most = match by_shape {
                    true => one.len().min(other.len()),
                    false => one.len().max(other.len()),
                };
                for at in 0..most {
                    self.member(at.to_string(), one.get(at), other.get(at));
                }
            }
            _ if kind(one) != kind(other) => {
                self.told(&format!("{}, mirror {}", kind(one), kind(other)));
            }
            _ if !by_shape && one != other => self.told("another value"),
            _ => {}
        }
    }

    fn member(&mut self, name: String, one: Option<&Value>, other: Option<&Value>) {
        self.path.push(name);
        let is_ignored = || self.compare.ignore.iter().any(|it| it.matches(&self.path));
        match (one, other) {
            (Some(one), Some(other)) => self.values(one, other),
            _ if is_ignored() => {}
            (Some(_), None) => self.told("missing in the mirror"),
            (None, _) => self.told("only in the mirror"),
        }
        self.path.pop();
    }

    fn told(&mut self, how: &str) {
        self.differ.first.get_or_insert(Compared::Body);
        // Enough to see; a list of a thousand items need not differ a thousand times.
        if self.differ.what.len() < MOST_TOLD {
            let place = pointer(&self.path);
            self.differ.what.push(format!("body {place}: {how}"));
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

const MOST_TOLD: usize = 8;

#[cfg(test)]
mod tests;
