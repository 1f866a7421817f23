//! What becomes of one answer before it is merged: a part of it, fewer members, other names, under a key.
//! It must not know where it came from.
//! Part of `aggregate`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::member;

/// How answers of one call are shaped.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Only this member.
    pub(super) target: Vec<String>,
    /// An array becomes an object with this one member.
    pub(super) wrap: Option<String>,
    /// Only these members.
    pub(super) allow: Vec<Vec<String>>,
    /// Not these.
    pub(super) deny: Vec<Vec<String>>,
    /// Members by their old names, with their new ones.
    pub(super) mapping: BTreeMap<String, String>,
    /// Under this key.
    pub(super) group: Option<String>,
}

impl Shape {
    /// The members that an answer brings; `None` where it has none.
    pub(super) fn of(&self, answer: Value) -> Option<Map<String, Value>> {
        let answer = match self.target.is_empty() {
            true => answer,
            false => member(&answer, &self.target)?.clone(),
        };
        let answer = match (answer, &self.wrap) {
            (items @ Value::Array(_), Some(name)) => object(name, items),
            (answer, _) => answer,
        };
        let answer = self.fewer(answer);
        let answer = match answer {
            Value::Object(members) => Value::Object(self.renamed(members)),
            other => other,
        };
        match (answer, &self.group) {
            (answer, Some(name)) => object(name, answer).as_object().cloned(),
            (Value::Object(members), None) => Some(members),
            (_, None) => None,
        }
    }

    /// Of arrays each item.
    fn fewer(&self, answer: Value) -> Value {
        let mut answer = match self.allow.is_empty() {
            true => answer,
            false => kept(&answer, &self.allow),
        };
        for path in &self.deny {
            remove(&mut answer, path);
        }
        answer
    }

    fn renamed(&self, members: Map<String, Value>) -> Map<String, Value> {
        let named = members.into_iter().map(|(name, value)| {
            let name = self.mapping.get(&name).cloned().unwrap_or(name);
            (name, value)
        });
        named.collect()
    }
}

fn object(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

/// A copy with only what the paths lead to.
fn kept<P: AsRef<[String]>>(value: &Value, paths: &[P]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| kept(item, paths)).collect(),
        Value::Object(members) => {
            let mut few = Map::new();
            for (name, value) in members {
                let below = paths.iter().filter_map(|path| {
                    let (first, rest) = path.as_ref().split_first()?;
                    (first == name).then_some(rest)
                });
                let below: Vec<&[String]> = below.collect();
                if below.iter().any(|rest| rest.is_empty()) {
                    few.insert(name.clone(), value.clone());
                } else if !below.is_empty() {
                    few.insert(name.clone(), kept(value, &below));
                }
            }
            Value::Object(few)
        }
        // What has no members has none that were asked for.
        _ => Value::Null,
    }
}

fn remove(value: &mut Value, path: &[String]) {
    match (value, path) {
        (Value::Array(items), path) => items.iter_mut().for_each(|item| remove(item, path)),
        (Value::Object(members), [name]) => {
            members.remove(name);
        }
        (Value::Object(members), [name, rest @ ..]) => {
            if let Some(below) = members.get_mut(name) {
                remove(below, rest);
            }
        }
        _ => {}
    }
}
