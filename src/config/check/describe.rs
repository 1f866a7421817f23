//! Words for what a schema expects and what a tree holds instead.
//! It must not know how they are compared.
//! Called by `check` and by `print`.

use serde_json::Value;

use crate::config::source::{Kind, Node};

/// What a schema expects, with its article.
pub(crate) fn expected(schema: &Value) -> String {
    let name = |name: &str| match name {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "keys with values",
        _ => "nothing",
    };
    match schema.get("type") {
        Some(Value::String(one)) => name(one).to_owned(),
        Some(Value::Array(several)) => {
            let several: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            let present = several.iter().filter(|name| **name != "null");
            either(present.map(|one| name(one)))
        }
        _ => "nothing".to_owned(),
    }
}

/// Joins with "or", each once.
pub(crate) fn either<T: Into<String>>(names: impl Iterator<Item = T>) -> String {
    let mut all: Vec<String> = Vec::new();
    for name in names.map(Into::into) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(" or ")
}

/// What was found; secrets are not told.
pub(super) fn found(node: &Node) -> String {
    if node.secret {
        return "a secret value".to_owned();
    }
    match &node.kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(truth) => truth.to_string(),
        Kind::Int(number) => number.to_string(),
        Kind::Float(number) => number.to_string(),
        Kind::Str(text) => format!("text {}", quoted(text)),
        Kind::Seq(_) => "a list".to_owned(),
        Kind::Map(_) => "keys with values".to_owned(),
    }
}

/// The text in quotes on one line, cut where it gets long.
pub(crate) fn quoted(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let short: String = text.chars().take(LONGEST).map(clean).collect();
    match text.chars().nth(LONGEST) {
        Some(_) => format!("\"{short}…\""),
        None => format!("\"{short}\""),
    }
}

/// Words with commas, in order.
pub(super) fn list(words: &[&str]) -> String {
    let mut words = words.to_vec();
    words.sort_unstable();
    words.join(", ")
}

/// The first sentence of a schema's description as a remedy: lower case and without its full stop.
pub(super) fn first_sentence(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str);
    let text = text.unwrap_or_default();
    let sentence = text.split_once(". ").map_or(text, |(first, _)| first);
    let mut letters = sentence.trim_end_matches('.').chars();
    match (letters.next(), letters.as_str()) {
        (Some(first), rest) if !rest.starts_with(char::is_uppercase) => {
            format!("{}{rest}", first.to_lowercase())
        }
        _ => sentence.to_owned(),
    }
}

const LONGEST: usize = 60;
