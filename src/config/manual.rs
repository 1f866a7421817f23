//! The manual of plugins, made of their types: what each does and when, its settings with theirs below them, its causes.
//! It must not know any particular plugin.
//! Called by the command line.

use std::fmt::Write;

use serde_json::{Map, Value};
use windrose_plugins::contract::{Hooks, PluginDef, Safety};
use windrose_plugins::testkit::Kit;

use super::check::{either, expected};

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
    let schema = (plugin.schema)().to_value();
    let about = schema.get("description").and_then(Value::as_str);
    paragraphs(&mut text, "", about.unwrap_or_default());
    let _ = writeln!(text, "\non_error: {on_error}");
    // An example that needs what only a configuration has builds nothing here; the rest of the manual does not depend on it.
    if let Ok(instance) = Kit::for_examples().build(plugin, plugin.example) {
        text.push_str("runs:\n");
        for moment in moments(&instance.hooks) {
            let _ = writeln!(text, "  {moment}");
        }
    }
    let mut options = String::new();
    settings(&mut options, &schema, &schema, 1);
    if !options.is_empty() {
        let _ = write!(text, "\nconfig:\n{options}");
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
        let _ = writeln!(text, "  {} ({})", cause.name, cause.status);
        paragraphs(&mut text, "    ", cause.explanation);
        paragraphs(&mut text, "    ", cause.next_step);
    }
    text
}

/// When a plugin has its turn, in the order of a request's way.
fn moments(hooks: &Hooks) -> Vec<&'static str> {
    let all = [
        (hooks.connection.is_some(), "when a connection was accepted"),
        (
            hooks.request.is_some(),
            "on a request's header, before an endpoint is chosen",
        ),
        (
            hooks.upstream_request.is_some(),
            "on the request as it goes upstream, for each attempt",
        ),
        (
            hooks.request_body.is_some(),
            "on each piece of the request's body",
        ),
        (
            hooks.response.is_some(),
            "on the response's header, also of answers of the proxy",
        ),
        (
            hooks.response_body.is_some(),
            "on each piece of the response's body",
        ),
        (
            hooks.held_response.is_some(),
            "on responses that it holds back, head and body together",
        ),
        (
            hooks.response_trailers.is_some(),
            "on the response's trailers",
        ),
        (hooks.cache.is_some(), "before an endpoint is asked"),
        (hooks.finish.is_some(), "when the request is over"),
        (
            !hooks.background.is_empty(),
            "beside requests, while it is in force",
        ),
    ];
    let attached = all.into_iter().filter(|(is_attached, _)| *is_attached);
    attached.map(|(_, moment)| moment).collect()
}

/// The settings of a map, those that must be given first.
fn settings(text: &mut String, root: &Value, schema: &Value, depth: usize) {
    let nothing = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
    let mut names: Vec<&String> = properties.unwrap_or(&nothing).keys().collect();
    names.sort_by_key(|name| !is_required(name));
    for name in names {
        let Some(property) = properties.and_then(|all| all.get(name)) else {
            continue;
        };
        setting(text, root, (name, property), is_required(name), depth);
    }
}

fn setting(text: &mut String, root: &Value, of: (&str, &Value), is_required: bool, depth: usize) {
    let (name, property) = of;
    let margin = "  ".repeat(depth);
    let _ = write!(text, "{margin}{name}: {}", shape(root, property, 0));
    match property.get("default") {
        Some(default) if !default.is_null() => {
            let _ = write!(text, " (default: {default})");
        }
        _ if is_required => text.push_str(" (required)"),
        _ => {}
    }
    text.push('\n');
    let about = property.get("description").and_then(Value::as_str);
    paragraphs(text, &format!("{margin}  "), about.unwrap_or_default());
    if depth >= DEEPEST {
        return;
    }
    for (word, about) in words(root, property) {
        let _ = writeln!(text, "{margin}  - `{word}`: {about}");
    }
    for below in maps(root, property, 0) {
        settings(text, root, below, depth + 1);
    }
}

/// The words that a setting takes, with what each means.
fn words<'s>(root: &'s Value, schema: &'s Value) -> Vec<(&'s str, &'s str)> {
    let mut found = Vec::new();
    let schema = resolved(root, schema);
    for branch in branches(schema) {
        let branch = resolved(root, branch);
        let word = branch.get("const").and_then(Value::as_str);
        let about = branch.get("description").and_then(Value::as_str);
        match (word, about) {
            (Some(word), Some(about)) => found.push((word, about.lines().next().unwrap_or(""))),
            _ if branch.get("oneOf").is_some() => found.extend(words(root, branch)),
            _ => {}
        }
    }
    found
}

/// The maps with keys of their own that a setting takes: itself, the items of a list, the values of a map, or a branch.
fn maps<'s>(root: &'s Value, schema: &'s Value, depth: usize) -> Vec<&'s Value> {
    let schema = resolved(root, schema);
    if depth > DEEPEST {
        return Vec::new();
    }
    if schema.get("properties").is_some() {
        return vec![schema];
    }
    let within = ["items", "additionalProperties"];
    let within = within.iter().filter_map(|key| schema.get(key));
    let within = within.filter(|inner| inner.is_object());
    within
        .chain(branches(schema))
        .flat_map(|inner| maps(root, inner, depth + 1))
        .collect()
}

fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    let keys = ["oneOf", "anyOf"].into_iter();
    keys.filter_map(|key| schema.get(key)?.as_array()).flatten()
}

/// What a reference stands for.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let target = schema.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|name| root.pointer(name.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// The type of an option in words.
fn shape(root: &Value, schema: &Value, depth: usize) -> String {
    if depth > 8 {
        return "a value".to_owned();
    }
    if schema.get("$ref").is_some() {
        return shape(root, resolved(root, schema), depth + 1);
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

/// Text in lines of a width that terminals have. Lines that the text breaks itself are joined, but for its paragraphs.
fn paragraphs(text: &mut String, margin: &str, about: &str) {
    for paragraph in about.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && margin.len() + line.len() + word.len() >= WIDTH {
                let _ = writeln!(text, "{margin}{line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            let _ = writeln!(text, "{margin}{line}");
        }
    }
}

const WIDTH: usize = 110;
/// How far settings are followed into settings.
const DEEPEST: usize = 4;
