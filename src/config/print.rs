//! Views for people and editors: the effective configuration, its JSON Schema, and the manual of plugins.
//! It must not show secrets, and must not know where the text goes.
//! Called by the command line and the admin address.

use std::fmt::Write;

use serde_json::{json, Map, Value};
use serde_yaml::value::Serializer;
use serde_yaml::with::singleton_map_recursive;
use windrose_plugins::contract::{PluginDef, Safety};

use super::check::{either, expected};
use super::schema::Config;
use super::{services, source, Loaded};

/// The effective configuration as YAML: defaults filled in, secrets replaced.
pub fn show(loaded: &Loaded) -> String {
    // Plain YAML would write `!header x` for a tagged enum; configurations say `{header: x}`.
    // Without `include` and `services_from`: what was read there is already in it. Without what services became.
    let mut config = Config {
        include: Vec::new(),
        services_from: None,
        ..loaded.config.clone()
    };
    services::take_back(&mut config);
    let value = singleton_map_recursive::serialize(&config, Serializer);
    let shown = value.and_then(|mut value| {
        source::redact(&mut value, Some(loaded.document.root()));
        serde_yaml::to_string(&value)
    });
    shown.unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
}

/// JSON Schema of a configuration, with the settings of each plugin, for editors.
pub fn json_schema(plugins: &[PluginDef]) -> Value {
    let mut root = schemars::schema_for!(Config).to_value();
    let Some(defs) = root.get_mut("$defs").and_then(Value::as_object_mut) else {
        return root;
    };
    let mut cases = Vec::new();
    for plugin in plugins {
        let name = format!("plugin_{}", plugin.kind);
        let mut schema = (plugin.schema)().to_value();
        rebase(&mut schema, &format!("#/$defs/{name}/$defs/"));
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("$schema");
        }
        let reference = json!({"$ref": format!("#/$defs/{name}")});
        cases.push(json!({
            "if": {"properties": {"kind": {"const": plugin.kind}}, "required": ["kind"]},
            "then": {"properties": {"config": reference}},
        }));
        defs.insert(name, schema);
    }
    if let Some(instance) = defs.get_mut("PluginInstance") {
        let kinds: Vec<&str> = plugins.iter().map(|plugin| plugin.kind).collect();
        instance["properties"]["kind"]["enum"] = json!(kinds);
        if !cases.is_empty() {
            instance["allOf"] = Value::Array(cases);
        }
    }
    root
}

/// Moves references of a schema that becomes part of another one.
fn rebase(schema: &mut Value, base: &str) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("{base}{name}");
                        }
                    }
                    _ => rebase(value, base),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, base)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// One line for each plugin.
pub fn plugin_list(plugins: &[PluginDef]) -> String {
    let width = plugins.iter().map(|plugin| plugin.kind.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for plugin in plugins {
        let _ = writeln!(text, "{:width$}  {}", plugin.kind, plugin.about);
    }
    text
}

/// Everything about one plugin.
pub fn plugin_manual(plugin: &PluginDef) -> String {
    let on_error = match plugin.safety {
        Safety::Guard => "closed: requests are refused when it cannot do its work",
        Safety::Convenience => "open: requests go on when it cannot do its work",
    };
    let mut text = format!("{}: {}\n", plugin.kind, plugin.about);
    let _ = writeln!(text, "on_error: {on_error}\n\nconfig:");
    let schema = (plugin.schema)().to_value();
    let nothing = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.unwrap_or(&nothing) {
        option(&mut text, &schema, name, property);
    }
    text.push_str("\nexample:\n");
    let _ = writeln!(text, "  kind: {}\n  config:", plugin.kind);
    for line in plugin.example.trim_end().lines() {
        let _ = writeln!(text, "    {line}");
    }
    if !plugin.causes.is_empty() {
        text.push_str("\ncauses:\n");
    }
    for cause in plugin.causes {
        let _ = writeln!(
            text,
            "  {} ({}): {}",
            cause.name, cause.status, cause.explanation
        );
        let _ = writeln!(text, "    {}", cause.next_step);
    }
    text
}

fn option(text: &mut String, root: &Value, name: &str, property: &Value) {
    let required = root.get("required").and_then(Value::as_array);
    let is_required = required.is_some_and(|names| names.iter().any(|other| other == name));
    let _ = write!(text, "  {name}: {}", shape(root, property, 0));
    match property.get("default") {
        Some(default) if !default.is_null() => {
            let _ = write!(text, " (default: {default})");
        }
        _ if is_required => text.push_str(" (required)"),
        _ => {}
    }
    text.push('\n');
    let about = property.get("description").and_then(Value::as_str);
    for line in about.unwrap_or_default().lines() {
        let _ = writeln!(text, "    {line}");
    }
}

/// The type of an option in words.
fn shape(root: &Value, schema: &Value, depth: usize) -> String {
    if depth > 8 {
        return "a value".to_owned();
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(name.trim_start_matches('#'));
        return target.map_or_else(String::new, |target| shape(root, target, depth + 1));
    }
    if let Some(word) = schema.get("const") {
        return format!("`{}`", word.as_str().unwrap_or("…"));
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words = words.iter().filter_map(Value::as_str);
        return either(words.map(|word| format!("`{word}`")));
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(branches) = schema.get(word).and_then(Value::as_array) {
            let present = branches
                .iter()
                .filter(|branch| branch.get("type").is_none_or(|name| name != "null"));
            return either(present.map(|branch| shape(root, branch, depth + 1)));
        }
    }
    match schema.get("items") {
        Some(items) if items.is_object() => {
            format!("a list of {}", shape(root, items, depth + 1))
        }
        _ if schema.get("type").is_none() => "any value".to_owned(),
        _ => expected(schema),
    }
}
