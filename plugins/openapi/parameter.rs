//! A parameter of an operation: where it stands in a request, how its text is read, and what it has to be.
//! It must not know operations; text that cannot be read is refused by name, never by value.
//! Made while the plugin is built; asked for each request of its operation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::documents::{Documents, Flaw, Node};
use super::shape::{shape, Kinds, Member, Shape};
use super::style::{self, Style};
use super::{Compiler, Wrong};
use crate::json::bounded;
use crate::query::decoded;
use crate::schema::{Said, Schema};

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum In {
    Path,
    Query,
    Header,
    Cookie,
}

impl In {
    pub(super) fn word(self) -> &'static str {
        match self {
            In::Path => "path",
            In::Query => "query",
            In::Header => "header",
            In::Cookie => "cookie",
        }
    }

    fn of(word: &str) -> Option<In> {
        let all = [In::Path, In::Query, In::Header, In::Cookie];
        all.into_iter().find(|one| one.word() == word)
    }
}

/// A parameter.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) place: In,
    required: bool,
    may_be_empty: bool,
    reading: Reads,
    schema: Arc<Schema>,
}

/// How text becomes a value.
enum Reads {
    Styled(Style, Shape),
    Json,
}

/// What a request has under parameters' names, decoded no further than pairs.
pub(super) struct Given<'r> {
    pub(super) path: BTreeMap<&'r str, &'r str>,
    pub(super) query: Vec<(Cow<'r, [u8]>, &'r str)>,
    pub(super) headers: &'r http::HeaderMap,
    pub(super) cookies: Vec<(&'r str, &'r str)>,
}

impl Parameter {
    /// Compiles one; `None` for what the specification says to ignore.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub(super) fn of(node: &Node<'_>, compiler: &Compiler<'_>) -> Result<Option<Parameter>, Flaw> {
        let documents = compiler.documents;
        let flaw = |fact: &str| documents.flaw(node, fact);
        let name = node
            .text("name")
            .ok_or_else(|| flaw("a parameter needs `name`"))?;
        let place = node.text("in").and_then(In::of);
        let place = place.ok_or_else(|| flaw("`in` is one of path, query, header and cookie"))?;
        let ignored = ["accept", "content-type", "authorization"];
        if place == In::Header && ignored.contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(None);
        }
        if place == In::Header && http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(flaw("its name is no header field's"));
        }
        let required = node.is("required");
        if place == In::Path && !required {
            return Err(flaw("a path parameter has `required: true`"));
        }
        let (reading, schema) = match (node.member("schema"), node.member("content")) {
            (Some(schema), None) => {
                let shape = shape(documents, &schema)?;
                let style = Style::of(node, place, &shape).map_err(|fact| flaw(&fact))?;
                (Reads::Styled(style, shape), schema)
            }
            (None, Some(content)) => {
                let schema = json_of(&content, documents)?;
                (Reads::Json, schema)
            }
            _ => return Err(flaw("a parameter has either `schema` or `content`")),
        };
        Ok(Some(Parameter {
            name: name.to_owned(),
            place,
            required,
            may_be_empty: node.is("allowEmptyValue") && place == In::Query,
            reading,
            schema: compiler.schema(&schema)?,
        }))
    }

    /// Whether a query parameter of this name belongs to it.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        if self.place != In::Query {
            return false;
        }
        match &self.reading {
            Reads::Styled(Style::DeepObject, _) => {
                let rest = name.strip_prefix(self.name.as_bytes());
                rest.is_some_and(|rest| rest.starts_with(b"["))
            }
            Reads::Styled(Style::Form { explode: true }, Shape::Object(members, _)) => {
                std::str::from_utf8(name).is_ok_and(|name| members.contains_key(name))
            }
            _ => name == self.name.as_bytes(),
        }
    }

    /// Judges what a request has for it.
    pub(super) fn check(&self, given: &Given<'_>, most: usize) -> Option<Wrong> {
        let values = match self.values(given) {
            Ok(Some(values)) => values,
            Ok(None) if self.required => return Some(self.wrong("is missing".to_owned())),
            Ok(None) => return None,
            Err(fact) => return Some(self.wrong(fact.to_owned())),
        };
        let mut last = None;
        for value in &values {
            // The bytes of the value are in the head, which is bounded.
            match self.schema.check(value, 8192, most.max(1)) {
                Said::Fits => return None,
                said => last = Some(said),
            }
        }
        Some(match last {
            Some(Said::Unfit(found, _)) if !found.is_empty() => {
                let first = &found[0];
                let at = match first.pointer.as_str() {
                    "" => String::new(),
                    pointer => format!("{pointer} "),
                };
                self.wrong(format!("{at}{}", first.detail))
            }
            _ => self.wrong("does not fit".to_owned()),
        })
    }

    fn wrong(&self, detail: String) -> Wrong {
        Wrong {
            parameter: format!("{}.{}", self.place.word(), self.name),
            detail,
        }
    }

    /// What the text may mean; `None` where there is none.
    fn values(&self, given: &Given<'_>) -> Result<Option<Vec<Value>>, &'static str> {
        let (style, shape) = match &self.reading {
            Reads::Styled(style, shape) => (*style, shape),
            Reads::Json => return self.json(given),
        };
        if self.place == In::Query {
            let spread = match (style, shape) {
                (Style::Form { explode: true }, Shape::Object(members, _)) => {
                    Some(spread(given, |name| {
                        members
                            .get(name)
                            .map(|member| (name.to_owned(), member.clone()))
                    }))
                }
                (Style::Form { explode: true }, Shape::List(kinds)) => {
                    Some(repeated(given, &self.name, *kinds))
                }
                (Style::DeepObject, Shape::Object(members, others)) => {
                    let prefix = format!("{}[", self.name);
                    Some(spread(given, |name| {
                        let inner = name.strip_prefix(&prefix)?.strip_suffix(']')?;
                        let member = members.get(inner).cloned().unwrap_or(Member::One(*others));
                        Some((inner.to_owned(), member))
                    }))
                }
                _ => None,
            };
            if let Some(value) = spread {
                return Ok(value?.map(|value| vec![value]));
            }
        }
        let Some(text) = self.text(given)? else {
            return Ok(None);
        };
        if self.may_be_empty && text.is_empty() {
            return Ok(None);
        }
        style::read(style, shape, &self.name, &text, self.place).map(Some)
    }

    fn json(&self, given: &Given<'_>) -> Result<Option<Vec<Value>>, &'static str> {
        let Some(text) = self.text(given)? else {
            return Ok(None);
        };
        let text = match self.place {
            In::Header => Cow::Borrowed(text.as_bytes()),
            In::Path | In::Cookie => decoded_path(&text),
            In::Query => Cow::Owned(decoded(&text).into_owned()),
        };
        let value = bounded(&text, 32).map_err(|_| "is not JSON of one meaning")?;
        Ok(Some(vec![value]))
    }

    /// Its text, as it stands in the request.
    fn text(&self, given: &Given<'_>) -> Result<Option<String>, &'static str> {
        match self.place {
            In::Path => Ok(given
                .path
                .get(self.name.as_str())
                .map(|text| (*text).to_owned())),
            In::Query => {
                let its = given
                    .query
                    .iter()
                    .filter(|(name, _)| **name == *self.name.as_bytes());
                once(its.map(|(_, text)| (*text).to_owned()))
            }
            In::Cookie => {
                let its = given.cookies.iter().filter(|(name, _)| *name == self.name);
                once(its.map(|(_, text)| (*text).to_owned()))
            }
            In::Header => {
                let mut all = Vec::new();
                for value in given.headers.get_all(&self.name) {
                    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| NOT_UTF8)?;
                    all.push(text.trim().to_owned());
                }
                match (all.len(), &self.reading) {
                    (0, _) => Ok(None),
                    // RFC 9110 section 5.3: fields of a list are one.
                    (_, Reads::Styled(_, Shape::List(_))) => Ok(Some(all.join(","))),
                    _ => once(all.into_iter()),
                }
            }
        }
    }
}

/// The schema of a parameter whose `content` is JSON.
fn json_of<'d>(content: &Node<'d>, documents: &Documents) -> Result<Node<'d>, Flaw> {
    let mut kinds = content.members();
    let (Some((kind, media)), None) = (kinds.next(), kinds.next()) else {
        return Err(documents.flaw(content, "a parameter's `content` has one media type"));
    };
    let is_json = kind == "application/json" || kind.ends_with("+json");
    let schema = media.member("schema").filter(|_| is_json);
    schema.ok_or_else(|| documents.flaw(content, "a parameter's `content` is read where it is JSON with a `schema`; other types are not supported"))
}

fn once(mut all: impl Iterator<Item = String>) -> Result<Option<String>, &'static str> {
    let first = all.next();
    match all.next() {
        Some(_) => Err("is there more than once"),
        None => Ok(first),
    }
}

/// A list whose values each have a parameter of their own.
fn repeated(given: &Given<'_>, name: &str, kinds: Kinds) -> Result<Option<Value>, &'static str> {
    let mut items = Vec::new();
    for (_, text) in given
        .query
        .iter()
        .filter(|(of, _)| **of == *name.as_bytes())
    {
        items.push(kinds.value(&style::plain(text, In::Query)?));
    }
    Ok((!items.is_empty()).then_some(Value::Array(items)))
}

/// An object whose members each have a parameter of their own.
fn spread(
    given: &Given<'_>,
    member: impl Fn(&str) -> Option<(String, Member)>,
) -> Result<Option<Value>, &'static str> {
    let mut members = Map::new();
    for (name, text) in &given.query {
        let Some((name, member)) = std::str::from_utf8(name).ok().and_then(&member) else {
            continue;
        };
        let text = style::plain(text, In::Query)?;
        let value = match member {
            Member::One(kinds) | Member::List(kinds) => kinds.value(&text),
        };
        if members.insert(name, value).is_some() {
            return Err("has a member more than once");
        }
    }
    Ok((!members.is_empty()).then_some(Value::Object(members)))
}

/// As in queries, but a plus sign is one.
pub(super) fn decoded_path(text: &str) -> Cow<'static, [u8]> {
    Cow::Owned(decoded(&text.replace('+', "%2B")).into_owned())
}

pub(super) const NOT_UTF8: &str = "is not UTF-8";
