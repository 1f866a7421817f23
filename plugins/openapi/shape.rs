//! What a schema lets a parameter be, as far as text has to be read by it: a number, a list, an object.
//! It must not judge values; the schema does, once they are read.
//! Found while the plugin is built; a schema that does not tell is a flaw of the document.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::documents::{Documents, Flaw, Node};

/// How text is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value.
    One(Kinds),
    /// Several.
    List(Kinds),
    /// Values by name, and how those of other names are read.
    Object(BTreeMap<String, Member>, Kinds),
}

/// How a member of an object is read. Only forms have lists as members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Member {
    One(Kinds),
    List(Kinds),
}

/// Kinds of values that a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    number: bool,
    truth: bool,
    null: bool,
    text: bool,
}

const ANY: Kinds = Kinds {
    number: true,
    truth: true,
    null: true,
    text: true,
};
const NONE: Kinds = Kinds {
    number: false,
    truth: false,
    null: false,
    text: false,
};

impl Kinds {
    /// What a text may be, the most special first. What it cannot be stays text, for the schema to refuse.
    pub(super) fn values(self, text: &str) -> Vec<Value> {
        let mut values = Vec::new();
        if self.number {
            let is_bare =
                !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace);
            let number = serde_json::from_str::<Number>(text).ok();
            values.extend(number.filter(|_| is_bare).map(Value::Number));
        }
        if self.truth && matches!(text, "true" | "false") {
            values.push(Value::Bool(text == "true"));
        }
        if self.null && matches!(text, "" | "null") {
            values.push(Value::Null);
        }
        if self.text || values.is_empty() {
            values.push(Value::String(text.to_owned()));
        }
        values
    }

    /// The most special thing that a text may be.
    pub(super) fn value(self, text: &str) -> Value {
        let mut values = self.values(text);
        values.swap_remove(0)
    }

    fn or(self, other: Kinds) -> Kinds {
        Kinds {
            number: self.number || other.number,
            truth: self.truth || other.truth,
            null: self.null || other.null,
            text: self.text || other.text,
        }
    }

    fn and(self, other: Kinds) -> Kinds {
        Kinds {
            number: self.number && other.number,
            truth: self.truth && other.truth,
            null: self.null && other.null,
            text: self.text && other.text,
        }
    }
}

/// What a schema allows at its top.
#[derive(Debug, Clone, Copy)]
struct Top {
    kinds: Kinds,
    list: bool,
    object: bool,
}

const ALL: Top = Top {
    kinds: ANY,
    list: true,
    object: true,
};

/// How the text of a schema's values is read.
///
/// # Errors
/// The schema does not tell, or wants what has no form in text.
pub(super) fn shape(documents: &Documents, schema: &Node<'_>) -> Result<Shape, Flaw> {
    of(&Look::at(documents), schema, false)
}

/// As [`shape`], of a form: an object whose members may be lists.
///
/// # Errors
/// As there.
pub(super) fn form(documents: &Documents, schema: &Node<'_>) -> Result<Shape, Flaw> {
    of(&Look::at(documents), schema, true)
}

/// Documents that are looked at a bounded number of times: schemas made of schemas twice, and these again, are many.
struct Look<'d> {
    documents: &'d Documents,
    left: Cell<usize>,
}

impl<'d> Look<'d> {
    fn at(documents: &'d Documents) -> Look<'d> {
        Look {
            documents,
            left: Cell::new(MOST_LOOKS),
        }
    }

    fn follow(&self, node: Node<'d>) -> Result<Node<'d>, Flaw> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        match left {
            0 => Err(self.flaw(&node, TOO_DEEP)),
            _ => self.documents.follow(node),
        }
    }

    fn flaw(&self, node: &Node<'_>, fact: &str) -> Flaw {
        self.documents.flaw(node, fact)
    }
}

fn of<'d>(look: &Look<'d>, schema: &Node<'d>, is_form: bool) -> Result<Shape, Flaw> {
    let schema = look.follow(schema.clone())?;
    match class(look, &schema)? {
        Class::One(kinds) => Ok(Shape::One(kinds)),
        Class::List => list(look, &schema).map(Shape::List),
        Class::Object => object(look, &schema, is_form),
    }
}

/// What a text is read as at its top; what is within is asked for by itself, so that schemas that hold themselves come to an end.
enum Class {
    One(Kinds),
    List,
    Object,
}

fn class<'d>(look: &Look<'d>, schema: &Node<'d>) -> Result<Class, Flaw> {
    let top = top(look, schema, 0)?;
    let is_one = top.kinds != NONE;
    let says = |key: &str| schema.value.get(key).is_some();
    match (is_one, top.list, top.object) {
        (true, true, true) if says("properties") => Ok(Class::Object),
        (true, true, true) if says("items") => Ok(Class::List),
        // Anything goes: read as one value.
        (true, true, true) => Ok(Class::One(ANY)),
        (true, false, false) => Ok(Class::One(top.kinds)),
        (_, true, false) if top.kinds.and(SOME) == NONE => Ok(Class::List),
        (_, false, true) if top.kinds.and(SOME) == NONE => Ok(Class::Object),
        _ => Err(look.flaw(
            schema,
            "does not tell whether a text is one value, a list or an object; give it one `type`",
        )),
    }
}

/// All but null, which lists and objects may be as well.
const SOME: Kinds = Kinds { null: false, ..ANY };

fn list<'d>(look: &Look<'d>, schema: &Node<'d>) -> Result<Kinds, Flaw> {
    match find(look, schema, "items", 0)? {
        Some(items) => one(look, &items),
        None => Ok(ANY),
    }
}

fn object<'d>(look: &Look<'d>, schema: &Node<'d>, is_form: bool) -> Result<Shape, Flaw> {
    let mut members = BTreeMap::new();
    properties(look, schema, is_form, 0, &mut members)?;
    let others = match find(look, schema, "additionalProperties", 0)? {
        Some(node) if node.value.is_object() => one(look, &node)?,
        _ => ANY,
    };
    Ok(Shape::Object(members, others))
}

fn properties<'d>(
    look: &Look<'d>,
    schema: &Node<'d>,
    is_form: bool,
    depth: usize,
    members: &mut BTreeMap<String, Member>,
) -> Result<(), Flaw> {
    let schema = look.follow(schema.clone())?;
    if depth > DEEPEST {
        return Err(look.flaw(&schema, TOO_DEEP));
    }
    for (name, property) in schema.member("properties").iter().flat_map(Node::members) {
        let target = look.follow(property.clone())?;
        let member = match class(look, &target)? {
            Class::One(kinds) => Member::One(kinds),
            Class::List if is_form => Member::List(list(look, &target)?),
            Class::List | Class::Object => return Err(look.flaw(&property, NESTED)),
        };
        members.insert(name.to_owned(), member);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for part in schema.member(key).iter().flat_map(Node::items) {
            properties(look, &part, is_form, depth + 1, members)?;
        }
    }
    Ok(())
}

fn one<'d>(look: &Look<'d>, schema: &Node<'d>) -> Result<Kinds, Flaw> {
    let target = look.follow(schema.clone())?;
    match class(look, &target)? {
        Class::One(kinds) => Ok(kinds),
        Class::List | Class::Object => Err(look.flaw(schema, NESTED)),
    }
}

/// The first schema under a key, in it or in all of what it is made of.
fn find<'d>(
    look: &Look<'d>,
    schema: &Node<'d>,
    key: &str,
    depth: usize,
) -> Result<Option<Node<'d>>, Flaw> {
    let schema = look.follow(schema.clone())?;
    if depth > DEEPEST {
        return Err(look.flaw(&schema, TOO_DEEP));
    }
    if let Some(found) = schema.member(key) {
        return Ok(Some(found));
    }
    for key_of_parts in ["allOf", "anyOf", "oneOf"] {
        for part in schema.member(key_of_parts).iter().flat_map(Node::items) {
            if let Some(found) = find(look, &part, key, depth + 1)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn top<'d>(look: &Look<'d>, schema: &Node<'d>, depth: usize) -> Result<Top, Flaw> {
    let schema = look.follow(schema.clone())?;
    if depth > DEEPEST {
        return Err(look.flaw(&schema, TOO_DEEP));
    }
    let mut top = written(schema.value);
    if schema.is("nullable") && top.kinds != ANY {
        top.kinds.null = true;
    }
    for part in schema.member("allOf").iter().flat_map(Node::items) {
        top = both(top, self::top(look, &part, depth + 1)?);
    }
    for key in ["anyOf", "oneOf"] {
        let mut either: Option<Top> = None;
        for part in schema.member(key).iter().flat_map(Node::items) {
            let part = self::top(look, &part, depth + 1)?;
            either = Some(either.map_or(part, |before| Top {
                kinds: before.kinds.or(part.kinds),
                list: before.list || part.list,
                object: before.object || part.object,
            }));
        }
        top = either.map_or(top, |either| both(top, either));
    }
    Ok(top)
}

fn both(one: Top, other: Top) -> Top {
    Top {
        kinds: one.kinds.and(other.kinds),
        list: one.list && other.list,
        object: one.object && other.object,
    }
}

/// By `type`, or by the values that are listed.
fn written(schema: &Value) -> Top {
    let named = |name: &str| {
        let mut kinds = NONE;
        match name {
            "integer" | "number" => kinds.number = true,
            "boolean" => kinds.truth = true,
            "null" => kinds.null = true,
            "string" => kinds.text = true,
            _ => {}
        }
        Top {
            kinds,
            list: name == "array",
            object: name == "object",
        }
    };
    let of_value = |value: &Value| {
        named(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        })
    };
    let any_of = |tops: Vec<Top>| {
        tops.into_iter().reduce(|one, other| Top {
            kinds: one.kinds.or(other.kinds),
            list: one.list || other.list,
            object: one.object || other.object,
        })
    };
    let found = match (schema.get("type"), schema.get("enum"), schema.get("const")) {
        (Some(Value::String(name)), _, _) => Some(named(name)),
        (Some(Value::Array(names)), _, _) => {
            any_of(names.iter().filter_map(Value::as_str).map(named).collect())
        }
        (_, Some(Value::Array(values)), _) => any_of(values.iter().map(of_value).collect()),
        (_, _, Some(value)) => Some(of_value(value)),
        _ => None,
    };
    found.unwrap_or(ALL)
}

const DEEPEST: usize = 30;
const MOST_LOOKS: usize = 10_000;
const TOO_DEEP: &str =
    "is made of more than 30 schemas within each other, of more than 10000, or of itself";
const NESTED: &str =
    "is a list or object within another, which has no form in text; use `content` with JSON";
