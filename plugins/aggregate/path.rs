//! Paths of calls with places for values: `/users/{segment.1}?lang={query.lang}`.
//! It must not know calls; values never become more than what stands in their place: one segment of a path or one value of a query.
//! Compiled when a configuration is read, filled for each call.

use serde_json::Value;

use crate::query;

/// A path that was compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Whether it stands in the path, and not in the query.
    Value(Source, bool),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A segment of the request's path, from 0.
    Segment(usize),
    /// A parameter of the request.
    Query(String),
    /// A field of the request, in lower case.
    Header(String),
    /// The name of who calls.
    Principal,
    /// A member of an earlier call's answer.
    Response { call: String, member: Vec<String> },
}

/// What fills the places.
pub(super) trait Values {
    /// The text of a source; `None` where there is none.
    fn text(&self, source: &Source) -> Option<String>;
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        if !text.starts_with('/') {
            return Err("it does not begin with /".to_owned());
        }
        let mut parts = Vec::new();
        let (mut rest, mut is_path) = (text, true);
        while !rest.is_empty() {
            let (plain, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            is_path &= !plain.contains('?');
            if !plain.is_empty() {
                parts.push(Part::Text(plain.to_owned()));
            }
            let Some(inside) = after.strip_prefix('{') else {
                break;
            };
            let (place, after) = inside.split_once('}').ok_or("a { has no }")?;
            parts.push(Part::Value(Source::parse(place)?, is_path));
            rest = after;
        }
        let sample: String = parts.iter().map(Part::sample).collect();
        match sample.parse::<http::uri::PathAndQuery>() {
            Ok(_) if !sample.contains(['}', '#']) => Ok(Path(parts)),
            _ => Err("it is no path and query".to_owned()),
        }
    }

    /// The calls whose answers it needs.
    pub(super) fn calls(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(Source::Response { call, .. }, _) => Some(&**call),
            _ => None,
        })
    }

    /// The path with its values; the source for which there is none, or none that may stand there.
    pub(super) fn fill(&self, values: &dyn Values) -> Result<String, &Source> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Value(source, is_path) => {
                    let value = values.text(source).filter(|text| text.len() <= MOST);
                    // Dots are what they are also when they are escaped.
                    let moves = |text: &str| *is_path && matches!(text, "" | "." | "..");
                    let value = value.filter(|text| !moves(text)).ok_or(source)?;
                    path.push_str(&query::encoded(&value));
                }
            }
        }
        Ok(path)
    }
}

impl Part {
    fn sample(&self) -> String {
        match self {
            Part::Text(text) => text.clone(),
            Part::Value(..) => "x".to_owned(),
        }
    }
}

impl Source {
    fn parse(text: &str) -> Result<Source, String> {
        let unknown = || {
            format!("\"{{{text}}}\" is not known; write {{segment.N}}, {{query.NAME}}, {{header.NAME}}, {{principal}} or {{responses.CALL.MEMBER}}")
        };
        if text == "principal" {
            return Ok(Source::Principal);
        }
        let (kind, name) = text.split_once('.').ok_or_else(unknown)?;
        match (kind, name) {
            (_, "") => Err(unknown()),
            ("segment", at) => at.parse().map(Source::Segment).map_err(|_| unknown()),
            ("query", name) => Ok(Source::Query(name.to_owned())),
            ("header", name) => Ok(Source::Header(name.to_ascii_lowercase())),
            ("responses", path) => {
                let (call, member) = path.split_once('.').ok_or_else(unknown)?;
                Ok(Source::Response {
                    call: call.to_owned(),
                    member: member.split('.').map(str::to_owned).collect(),
                })
            }
            _ => Err(unknown()),
        }
    }
}

/// The member that a path of names leads to; numbers lead into arrays.
pub(super) fn member<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

/// A plain value as a text.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The longest value.
const MOST: usize = 1024;
