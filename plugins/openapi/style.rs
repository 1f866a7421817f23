//! The styles in which parameters are written, and how they are read back.
//! It must not know where a value goes; combinations that the specification leaves open are not taken.
//! Asked by parameters.

use serde_json::{Map, Value};

use super::documents::Node;
use super::parameter::{decoded_path, In, NOT_UTF8};
use super::shape::{Kinds, Member, Shape};
use crate::query::decoded;

/// A style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Simple {
        explode: bool,
    },
    Label {
        explode: bool,
    },
    Matrix {
        explode: bool,
    },
    Form {
        explode: bool,
    },
    /// Values between this.
    Delimited(&'static [&'static str]),
    DeepObject,
}

impl Style {
    /// The style of a parameter.
    pub(super) fn of(node: &Node<'_>, place: In, shape: &Shape) -> Result<Style, String> {
        let default = match place {
            In::Path | In::Header => "simple",
            In::Query | In::Cookie => "form",
        };
        let name = node.text("style").unwrap_or(default);
        let explode = match node.value.get("explode") {
            Some(value) => value.as_bool().ok_or("`explode` is true or false")?,
            None => name == "form",
        };
        let is_one = matches!(shape, Shape::One(_));
        let is_list = matches!(shape, Shape::List(_));
        let is_object = matches!(shape, Shape::Object(..));
        match (name, place) {
            ("simple", In::Path | In::Header) => Ok(Style::Simple { explode }),
            ("label", In::Path) => Ok(Style::Label { explode }),
            ("matrix", In::Path) => Ok(Style::Matrix { explode }),
            ("form", In::Query) => Ok(Style::Form { explode }),
            ("form", In::Cookie) if is_one || !explode => Ok(Style::Form { explode: false }),
            ("form", In::Cookie) => Err(
                "lists and objects in cookies have no form with `explode: true`; set it to false"
                    .to_owned(),
            ),
            ("spaceDelimited", In::Query) if is_list && !explode => {
                Ok(Style::Delimited(&["%20", "+"]))
            }
            ("pipeDelimited", In::Query) if is_list && !explode => {
                Ok(Style::Delimited(&["|", "%7C", "%7c"]))
            }
            ("spaceDelimited" | "pipeDelimited", In::Query) => Err(format!(
                "the style {name} is read for lists with `explode: false` only"
            )),
            ("deepObject", In::Query) if is_object => Ok(Style::DeepObject),
            ("deepObject", In::Query) => Err("the style deepObject is for objects".to_owned()),
            _ => Err(format!(
                "the style \"{name}\" is not one for parameters in {}",
                place.word()
            )),
        }
    }
}

/// What a text may mean.
pub(super) fn read(
    style: Style,
    shape: &Shape,
    name: &str,
    text: &str,
    place: In,
) -> Result<Vec<Value>, &'static str> {
    let lax = |text: &str| plain(text, place);
    let (text, between, explode): (&str, &[&str], bool) = match style {
        Style::Simple { explode } => (text, &[","], explode),
        Style::Form { .. } => (text, &[","], false),
        Style::Delimited(between) => (text, between, false),
        Style::DeepObject => return Err("is not written as the style deepObject"),
        Style::Label { explode } => {
            let text = text.strip_prefix('.').ok_or("does not begin with a dot")?;
            (text, if explode { &["."] } else { &[","] }, explode)
        }
        Style::Matrix { explode } => return matrix(shape, name, text, explode),
    };
    match shape {
        Shape::One(kinds) => Ok(kinds.values(&lax(text)?)),
        Shape::List(kinds) => {
            let items: Result<Vec<Value>, _> = split(text, between)
                .into_iter()
                .map(|item| lax(item).map(|item| kinds.value(&item)))
                .collect();
            Ok(vec![Value::Array(items?)])
        }
        Shape::Object(..) => {
            let parts = split(text, between);
            let pairs = if explode {
                pairs(&parts)?
            } else {
                alternating(&parts)?
            };
            object(shape, &pairs, place).map(|value| vec![value])
        }
    }
}

/// `;name=a,b`, or with `explode` a pair for each value.
fn matrix(
    shape: &Shape,
    name: &str,
    text: &str,
    explode: bool,
) -> Result<Vec<Value>, &'static str> {
    let text = text
        .strip_prefix(';')
        .ok_or("does not begin with a semicolon")?;
    let parts: Vec<&str> = text.split(';').collect();
    let named = |part: &str| {
        let (of, value) = part.split_once('=').unwrap_or((part, ""));
        let is_its = plain(of, In::Path).is_ok_and(|of| of == name);
        is_its
            .then(|| value.to_owned())
            .ok_or("has another name in it")
    };
    match (shape, explode) {
        (Shape::List(kinds), true) => {
            let mut items = Vec::new();
            for part in parts {
                items.push(kinds.value(&plain(&named(part)?, In::Path)?));
            }
            Ok(vec![Value::Array(items)])
        }
        (Shape::Object(..), true) => {
            object(shape, &pairs(&parts)?, In::Path).map(|value| vec![value])
        }
        _ => match parts.as_slice() {
            [one] => read(
                Style::Simple { explode: false },
                shape,
                name,
                &named(one)?,
                In::Path,
            ),
            _ => Err("is there more than once"),
        },
    }
}

fn split<'t>(text: &'t str, between: &[&str]) -> Vec<&'t str> {
    let mut parts = vec![text];
    for mark in between {
        parts = parts
            .into_iter()
            .flat_map(|part| part.split(mark))
            .collect();
    }
    parts
}

fn pairs<'t>(parts: &[&'t str]) -> Result<Vec<(&'t str, &'t str)>, &'static str> {
    let pairs = parts.iter().map(|part| part.split_once('='));
    pairs
        .collect::<Option<_>>()
        .ok_or("is not written as names and values")
}

fn alternating<'t>(parts: &[&'t str]) -> Result<Vec<(&'t str, &'t str)>, &'static str> {
    match parts.len() % 2 {
        0 => Ok(parts.chunks(2).map(|pair| (pair[0], pair[1])).collect()),
        _ => Err("is not written as names and values"),
    }
}

fn object(shape: &Shape, pairs: &[(&str, &str)], place: In) -> Result<Value, &'static str> {
    let Shape::Object(members, others) = shape else {
        return Err("is no object");
    };
    let mut object = Map::new();
    for (name, text) in pairs {
        let name = plain(name, place)?;
        let kinds: Kinds = match members.get(&name) {
            Some(Member::One(kinds) | Member::List(kinds)) => *kinds,
            None => *others,
        };
        let value = kinds.value(&plain(text, place)?);
        if object.insert(name, value).is_some() {
            return Err("has a member more than once");
        }
    }
    Ok(Value::Object(object))
}

/// Text without its escapes, which fields do not have.
pub(super) fn plain(text: &str, place: In) -> Result<String, &'static str> {
    let bytes = match place {
        In::Header => return Ok(text.to_owned()),
        In::Path | In::Cookie => decoded_path(text).into_owned(),
        In::Query => decoded(text).into_owned(),
    };
    String::from_utf8(bytes).map_err(|_| NOT_UTF8)
}
