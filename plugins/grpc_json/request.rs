//! A request as the message of a method: its body, the parts of its path and its query in one JSON document, read as proto3 says.
//! It must not know how the call goes on.
//! Part of `grpc_json`.

use http::HeaderMap;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::binding::{Binding, Body};
use super::causes::{MALFORMED, PARAMETER};
use super::path::Captured;
use crate::contract::Cause;
use crate::query;

/// What becomes of what a message does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strictness {
    /// Whether fields of bodies that are not known are refused.
    pub(super) fields: bool,
    /// Whether parameters that are not known are refused.
    pub(super) parameters: bool,
}

/// Why there is no message, with words for the client.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) cause: &'static Cause,
    pub(super) said: String,
}

/// What a request brings.
pub(super) struct Brought<'a> {
    pub(super) captured: &'a Captured,
    pub(super) query: &'a str,
    /// Names of parameters that are for somebody else.
    pub(super) not_ours: &'a [String],
    pub(super) body: &'a [u8],
}

/// The serialized message.
pub(super) fn message(
    binding: &Binding,
    brought: &Brought<'_>,
    strict: Strictness,
) -> Result<Vec<u8>, Refused> {
    let input = &binding.method.input;
    let mut tree = match &binding.body {
        Body::Nothing => Map::new(),
        Body::Whole => match json(brought.body)? {
            None => Map::new(),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(malformed("the body is no object")),
        },
        Body::Field(field) => {
            let value = json(brought.body)?;
            let member = |value| (field.json_name().to_owned(), value);
            value.map(member).into_iter().collect()
        }
    };
    for (path, value) in brought.captured {
        put(&mut tree, input, path, value, Put::Set).map_err(|why| why.refuse(path))?;
    }
    parameters(&mut tree, binding, brought, strict)?;
    let options = DeserializeOptions::new().deny_unknown_fields(strict.fields);
    let read =
        DynamicMessage::deserialize_with_options(input.clone(), Value::Object(tree), &options);
    let message = read.map_err(|error| {
        let cause = match binding.body {
            Body::Nothing => &PARAMETER,
            _ => &MALFORMED,
        };
        Refused {
            cause,
            said: error.to_string().chars().take(MOST_SAID).collect(),
        }
    })?;
    Ok(message.encode_to_vec())
}

fn json(body: &[u8]) -> Result<Option<Value>, Refused> {
    if body.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_slice(body);
    read.map(Some)
        .map_err(|error| malformed(&format!("the body is not JSON: {error}")))
}

fn malformed(said: &str) -> Refused {
    Refused {
        cause: &MALFORMED,
        said: said.to_owned(),
    }
}

/// Parameters set the fields that neither path nor body does.
fn parameters(
    tree: &mut Map<String, Value>,
    binding: &Binding,
    brought: &Brought<'_>,
    strict: Strictness,
) -> Result<(), Refused> {
    let mut taken: Vec<String> = binding.template.fields().map(str::to_owned).collect();
    if let Body::Field(field) = &binding.body {
        taken.push(field.name().to_owned());
    }
    for (name, value) in query::pairs(brought.query) {
        let text = |text| String::from_utf8(query::decoded(text).into_owned());
        let (Ok(name), Ok(value)) = (text(name), text(value)) else {
            return Err(Wrong::NotText.refuse("the query"));
        };
        if brought.not_ours.contains(&name) {
            continue;
        }
        let input = &binding.method.input;
        let known = binding.body != Body::Whole && name.split('.').count() <= MOST_DEPTH;
        let path = known.then(|| proto_path(input, &name)).flatten();
        match path {
            None if strict.parameters => return Err(Wrong::Unknown.refuse(&name)),
            None => {}
            Some(path) if taken.iter().any(|other| is_within(&path, other)) => {
                return Err(Wrong::Taken.refuse(&name));
            }
            Some(path) => {
                put(tree, input, &path, &value, Put::Add).map_err(|why| why.refuse(&name))?;
            }
        }
    }
    Ok(())
}

fn is_within(path: &str, other: &str) -> bool {
    let rest = path.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A path of fields by their names in the proto, of which each may be written as in JSON.
fn proto_path(message: &MessageDescriptor, path: &str) -> Option<String> {
    let mut message = Some(message.clone());
    let mut names = Vec::new();
    for name in path.split('.') {
        let field = field(message.as_ref()?, name)?;
        names.push(field.name().to_owned());
        message = match field.kind() {
            Kind::Message(inner) => Some(inner),
            _ => None,
        };
    }
    Some(names.join("."))
}

fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    let by_name = message.get_field_by_name(name);
    by_name.or_else(|| message.get_field_by_json_name(name))
}

/// How a text gets to its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    /// In place of what is there.
    Set,
    /// Behind what is there, if the field is repeated.
    Add,
}

/// Why a text has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Unknown,
    NotText,
    Taken,
    Twice,
}

impl Wrong {
    fn refuse(self, name: &str) -> Refused {
        let name: String = name.chars().take(MOST_SAID).collect();
        let said = match self {
            Wrong::Unknown => format!("no field is named \"{name}\""),
            Wrong::NotText => format!("\"{name}\" has no value that can be read"),
            Wrong::Taken => format!("\"{name}\" is set by the path or the body"),
            Wrong::Twice => format!("\"{name}\" is there twice"),
        };
        Refused {
            cause: &PARAMETER,
            said,
        }
    }
}

/// Puts a text where a path of fields leads.
fn put(
    tree: &mut Map<String, Value>,
    message: &MessageDescriptor,
    path: &str,
    text: &str,
    how: Put,
) -> Result<(), Wrong> {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let field = field(message, name).ok_or(Wrong::Unknown)?;
    // The document may have it by either name; from here on it has it by one.
    if let Some(value) = tree.remove(field.name()) {
        tree.insert(field.json_name().to_owned(), value);
    }
    let Some(rest) = rest else {
        let value = value(&field.kind(), text).filter(|_| !field.is_map());
        let value = value.ok_or(Wrong::NotText)?;
        return place(tree, &field, value, how);
    };
    let Kind::Message(inner) = field.kind() else {
        return Err(Wrong::Unknown);
    };
    if field.is_list() || field.is_map() {
        return Err(Wrong::NotText);
    }
    let below = tree.entry(field.json_name()).or_insert(Value::Null);
    if below.is_null() {
        *below = Value::Object(Map::new());
    }
    match below {
        Value::Object(below) => put(below, &inner, rest, text, how),
        _ => Err(Wrong::NotText),
    }
}

fn place(
    tree: &mut Map<String, Value>,
    field: &FieldDescriptor,
    value: Value,
    how: Put,
) -> Result<(), Wrong> {
    let name = field.json_name().to_owned();
    match (field.is_list(), how, tree.get_mut(&name)) {
        (true, _, Some(Value::Array(values))) => values.push(value),
        (true, _, _) => {
            tree.insert(name, Value::Array(vec![value]));
        }
        (false, Put::Add, Some(_)) => return Err(Wrong::Twice),
        (false, _, _) => {
            tree.insert(name, value);
        }
    }
    Ok(())
}

/// A text as JSON has a value of this kind. Numbers may be texts there.
fn value(kind: &Kind, text: &str) -> Option<Value> {
    let truth = || text.parse().ok().map(Value::Bool);
    let string = || Some(Value::String(text.to_owned()));
    match kind {
        Kind::Bool => truth(),
        Kind::Enum(_) => match text.parse::<i32>() {
            Ok(number) => Some(Value::from(number)),
            Err(_) => string(),
        },
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.BoolValue" => truth(),
            "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "google.protobuf.FieldMask"
            | "google.protobuf.Value"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.FloatValue"
            | "google.protobuf.DoubleValue" => string(),
            _ => None,
        },
        _ => string(),
    }
}

/// A message in its frame.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    // Bodies are bounded far below.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// Whether the fields say JSON, or nothing at all.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    let is_plain = matches!(crate::codec::coding(headers), crate::codec::Coded::Plain);
    is_plain
        && kind.is_none_or(|kind| {
            let kind = kind.to_str().unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
                || kind.to_ascii_lowercase().ends_with("+json")
        })
}

const MOST_SAID: usize = 200;
const MOST_DEPTH: usize = 32;
