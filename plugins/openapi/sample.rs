//! A value that a schema describes: its example, its default, or the simplest thing of its type.
//! It must not promise that the value fits; bounds and patterns are not looked at.
//! Made for mocks where a document has no example.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::documents::{Documents, Flaw, Node};

/// A sample of a schema's values.
///
/// # Errors
/// A reference in it leads nowhere.
pub(super) fn sample(documents: &Documents, schema: &Node<'_>) -> Result<Value, Flaw> {
    let left = Cell::new(MOST);
    Maker {
        documents,
        left: &left,
    }
    .make(schema, 0)
}

struct Maker<'m> {
    documents: &'m Documents,
    left: &'m Cell<usize>,
}

impl Maker<'_> {
    fn make(&self, schema: &Node<'_>, depth: usize) -> Result<Value, Flaw> {
        let schema = self.documents.follow(schema.clone())?;
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if depth > DEEPEST || left == 0 {
            return Ok(Value::Null);
        }
        let first = |key: &str| schema.value.get(key).and_then(|list| list.get(0));
        let given = ["example", "default", "const"];
        let given = given.iter().find_map(|key| schema.value.get(key));
        if let Some(value) = given
            .or_else(|| first("examples"))
            .or_else(|| first("enum"))
        {
            return Ok(value.clone());
        }
        let mut made = Map::new();
        let mut is_object = schema.member("properties").is_some();
        for (name, property) in schema.member("properties").iter().flat_map(Node::members) {
            made.insert(name.to_owned(), self.make(&property, depth + 1)?);
        }
        for part in schema.member("allOf").iter().flat_map(Node::items) {
            match self.make(&part, depth + 1)? {
                Value::Object(members) => {
                    is_object = true;
                    made.extend(members);
                }
                other if !is_object => return Ok(other),
                _ => {}
            }
        }
        if is_object {
            return Ok(Value::Object(made));
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(part) = schema.member(key).and_then(|parts| parts.items().next()) {
                return self.make(&part, depth + 1);
            }
        }
        match kind(schema.value) {
            "array" => match schema.member("items") {
                Some(items) => Ok(Value::Array(vec![self.make(&items, depth + 1)?])),
                None => Ok(Value::Array(Vec::new())),
            },
            kind => Ok(simple(kind, schema.value)),
        }
    }
}

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.iter().find_map(Value::as_str).unwrap_or("null"),
        _ if schema.get("items").is_some() => "array",
        _ => "null",
    }
}

fn simple(kind: &str, schema: &Value) -> Value {
    match kind {
        "object" => Value::Object(Map::new()),
        "boolean" => Value::Bool(true),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(Value::from(0)),
        "string" => {
            let text = match schema.get("format").and_then(Value::as_str) {
                Some("date-time") => "2019-08-24T14:15:22Z",
                Some("date") => "2019-08-24",
                Some("uuid") => "095be615-a8ad-4c33-8e9c-c7612fbf6c9f",
                Some("email") => "user@example.com",
                Some("uri") => "http://example.com",
                Some("ipv4") => "192.0.2.1",
                Some("ipv6") => "2001:db8::1",
                _ => "string",
            };
            Value::from(text)
        }
        _ => Value::Null,
    }
}

const DEEPEST: usize = 12;
/// Values of a sample.
const MOST: usize = 2000;
