//! Documents made ready for the validator: what OpenAPI adds to JSON Schema, told in JSON Schema.
//! It must not check anything; what it does not know stays as it is.
//! Called once for each direction of messages while the plugin is built.

use serde_json::{json, Value};

use super::documents::{holds_names, is_data};

/// Which messages schemas are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// Clients need not send what is `readOnly`, also where it is `required`.
    Request,
    /// Services need not send what is `writeOnly`.
    Response,
}

/// A document for one direction; `is_old` for OpenAPI 3.0, whose schemas say `nullable`.
pub(super) fn prepared(document: &Value, side: Side, is_old: bool) -> Value {
    let mut copy = document.clone();
    let preparing = Preparing {
        document,
        marker: match side {
            Side::Request => "readOnly",
            Side::Response => "writeOnly",
        },
        is_old,
    };
    preparing.walk(&mut copy, false);
    copy
}

struct Preparing<'d> {
    document: &'d Value,
    marker: &'static str,
    is_old: bool,
}

impl Preparing<'_> {
    /// As deep as the reader lets documents be.
    fn walk(&self, value: &mut Value, are_names: bool) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, false)),
            Value::Object(_) => {
                if !are_names {
                    self.schema(value);
                }
                for (name, member) in value.as_object_mut().into_iter().flatten() {
                    if are_names || !(is_data(name) || name == "examples") {
                        self.walk(member, !are_names && holds_names(name));
                    }
                }
            }
            _ => {}
        }
    }

    fn schema(&self, value: &mut Value) {
        if self.is_old && value.get("nullable") == Some(&Value::Bool(true)) {
            if let Some(kind) = value.get("type").filter(|kind| kind.is_string()).cloned() {
                value["type"] = json!([kind, "null"]);
            }
        }
        let Some(properties) = value.get("properties").and_then(Value::as_object) else {
            return;
        };
        let is_marked = |name: &str| {
            let property = properties.get(name);
            property.is_some_and(|property| self.is_marked(property))
        };
        let Some(required) = value.get("required").and_then(Value::as_array) else {
            return;
        };
        let kept: Vec<Value> = required
            .iter()
            .filter(|name| !name.as_str().is_some_and(is_marked))
            .cloned()
            .collect();
        // An empty list is none in earlier dialects.
        match kept.is_empty() {
            true => {
                let _ = value.as_object_mut().and_then(|all| all.remove("required"));
            }
            false => value["required"] = Value::Array(kept),
        }
    }

    /// Whether a property says so itself, or what it refers to in the same file.
    fn is_marked(&self, property: &Value) -> bool {
        let says = |schema: &Value| schema.get(self.marker) == Some(&Value::Bool(true));
        let target = property.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|reference| reference.strip_prefix('#'));
        let target = target.and_then(|pointer| self.document.pointer(pointer));
        says(property) || target.is_some_and(says)
    }
}
