//! Compares the tree with the JSON Schema of the configuration and of each plugin, and reports everything that differs.
//! It must not know single keys: field types and their docs are the schema, so nothing is said twice.
//! Called by `config::load` before decoding.

mod alternatives;
mod describe;
mod units;

use std::collections::BTreeMap;

use serde_json::Value;
use windrose_plugins::contract::{did_you_mean, PluginDef};

pub(super) use self::describe::{either, expected, quoted};
use self::describe::{found, list};
use super::report::Report;
use super::schema::Config;
use super::source::{Document, Key, Kind, Node};

/// Reports everything in the document that does not have the shape of a configuration.
pub(super) fn check(document: &Document, plugins: &[PluginDef], report: &mut Report) {
    let root = schemars::schema_for!(Config).to_value();
    let plugins = Plugins::new(plugins);
    let walk = Walk {
        document,
        root: &root,
        plugins: &plugins,
    };
    walk.node(document.root(), &root, "", report);
}

/// Settings schemas by kind.
struct Plugins {
    schemas: BTreeMap<&'static str, Value>,
}

impl Plugins {
    fn new(defs: &[PluginDef]) -> Plugins {
        let schema = |def: &PluginDef| (def.kind, (def.schema)().to_value());
        Plugins {
            schemas: defs.iter().map(schema).collect(),
        }
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    document: &'a Document,
    /// Where `$ref` points into.
    root: &'a Value,
    plugins: &'a Plugins,
}

impl Walk<'_> {
    fn node(&self, node: &Node, schema: &Value, path: &str, out: &mut Report) {
        if out.is_full() {
            return;
        }
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let target = self.root.pointer(name.trim_start_matches('#'));
            match units::refusal(node, name) {
                Some(fact) => out.error(path, fact, ""),
                None => self.node(node, target.unwrap_or(&Value::Bool(true)), path, out),
            }
            if name == PLUGIN_INSTANCE {
                self.plugin(node, path, out);
            }
            return;
        }
        for part in branches(schema, "allOf") {
            self.node(node, part, path, out);
        }
        for word in ["oneOf", "anyOf"] {
            if schema.get(word).is_some() {
                self.alternatives(node, branches(schema, word), path, out);
            }
        }
        if let Some(words) = words(schema) {
            return self.word(node, &words, path, out);
        }
        if !fits_type(node, schema) {
            return self.wrong(node, schema, path, out);
        }
        match &node.kind {
            Kind::Map(entries) => self.map(node, entries, schema, path, out),
            Kind::Seq(items) => self.seq(items, schema, path, out),
            Kind::Int(number) => range(node, *number as f64, schema, path, out),
            Kind::Float(number) => range(node, *number, schema, path, out),
            Kind::Str(_) => {
                let format = schema.get("format").and_then(Value::as_str);
                if let Some(fact) = format.and_then(|form| units::refusal_of_format(node, form)) {
                    out.error(path, fact, "");
                }
            }
            Kind::Null | Kind::Bool(_) => {}
        }
    }

    fn wrong(&self, node: &Node, schema: &Value, path: &str, out: &mut Report) {
        let wants_text = expected(schema) == "text";
        let remedy = match &node.kind {
            // A value with a unit: the description says how to write one.
            Kind::Int(_) | Kind::Float(_) if schema.get("pattern").is_some() => {
                describe::first_sentence(schema)
            }
            Kind::Int(_) | Kind::Float(_) | Kind::Bool(_) if wants_text => {
                "put it in quotes".to_owned()
            }
            Kind::Null => "give a value, or remove the key".to_owned(),
            _ => String::new(),
        };
        let fact = format!("expected {}, found {}", expected(schema), found(node));
        out.error(path, fact, remedy);
    }

    fn word(&self, node: &Node, words: &[&Value], path: &str, out: &mut Report) {
        let known: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
        if words.iter().any(|word| is_word(node, word)) {
            return;
        }
        self.unknown_word(node, &known, path, out);
    }

    fn unknown_word(&self, node: &Node, known: &[&str], path: &str, out: &mut Report) {
        let fact = match node.text() {
            Some(text) if !node.secret => format!("{} is not known here", quoted(text)),
            _ => format!("expected a word, found {}", found(node)),
        };
        let as_text = match &node.kind {
            Kind::Float(number) => number.to_string(),
            Kind::Int(number) => number.to_string(),
            _ => String::new(),
        };
        let remedy = match node.text() {
            Some(text) => guess(text, known),
            None if known.contains(&as_text.as_str()) => {
                format!("put it in quotes: \"{as_text}\"")
            }
            None => format!("known: {}", list(known)),
        };
        out.error(path, fact, remedy);
    }

    fn map(
        &self,
        node: &Node,
        entries: &[(Key, Node)],
        schema: &Value,
        path: &str,
        out: &mut Report,
    ) {
        let nothing = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&nothing);
        let others = schema.get("additionalProperties");
        let mut meant = Vec::new();
        for (key, child) in entries {
            let below = join(path, &key.name);
            match (properties.get(&key.name), others) {
                (Some(property), _) => self.node(child, property, &below, out),
                (None, Some(Value::Bool(false))) => {
                    self.unknown_key(key, properties, path, out);
                    let known = properties.keys().map(String::as_str);
                    meant.extend(did_you_mean(&key.name, known));
                }
                (None, Some(other)) => self.node(child, other, &below, out),
                (None, None) => {}
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            // One that is misspelt is told already.
            if node.child(name).is_none() && !meant.contains(&name) {
                let remedy = properties.get(name).map(describe::first_sentence);
                let fact = "this key is needed and not given";
                out.error(join(path, name), fact, remedy.unwrap_or_default());
            }
        }
    }

    fn unknown_key(
        &self,
        key: &Key,
        properties: &serde_json::Map<String, Value>,
        path: &str,
        out: &mut Report,
    ) {
        if out.is_full() {
            return;
        }
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let place = self.document.place_of(key.at);
        let fact = format!("unknown key {}", quoted(&key.name));
        out.error_at(place, path, fact, guess(&key.name, &known));
    }

    fn seq(&self, items: &[Node], schema: &Value, path: &str, out: &mut Report) {
        let number = |word: &str| schema.get(word).and_then(Value::as_u64);
        let (least, most) = (number("minItems"), number("maxItems"));
        let count = items.len() as u64;
        if least.is_some_and(|least| count < least) || most.is_some_and(|most| count > most) {
            let bounds = match (least, most) {
                (Some(least), Some(most)) if least == most => format!("{least}"),
                (Some(least), Some(most)) => format!("{least} to {most}"),
                (Some(least), None) => format!("at least {least}"),
                (None, most) => format!("at most {}", most.unwrap_or_default()),
            };
            out.error(path, format!("expected {bounds} items, found {count}"), "");
        }
        let first: Vec<&Value> = branches(schema, "prefixItems").collect();
        for (index, item) in items.iter().enumerate() {
            let below = format!("{path}[{index}]");
            match first.get(index).copied().or_else(|| schema.get("items")) {
                Some(schema) => self.node(item, schema, &below, out),
                None => return,
            }
        }
    }

    /// The `config` of a plugin against the schema of its kind.
    fn plugin(&self, node: &Node, path: &str, out: &mut Report) {
        let Some(kind_node) = node.child("kind") else {
            return;
        };
        let Some(kind) = kind_node.text() else {
            return;
        };
        let Some(schema) = self.plugins.schemas.get(kind) else {
            let known: Vec<&str> = self.plugins.schemas.keys().copied().collect();
            let fact = format!("no plugin is of kind {}", quoted(kind));
            out.error(join(path, "kind"), fact, guess(kind, &known));
            return;
        };
        let below = join(path, "config");
        let inner = Walk {
            root: schema,
            ..*self
        };
        // Settings left out are settings without keys: what is required must still be named.
        let none = Node {
            kind: Kind::Map(Vec::new()),
            at: node.at,
            secret: false,
        };
        inner.node(node.child("config").unwrap_or(&none), schema, &below, out);
    }
}

fn branches<'s>(schema: &'s Value, word: &str) -> impl Iterator<Item = &'s Value> {
    let branches = schema.get(word).and_then(Value::as_array);
    branches.into_iter().flatten()
}

/// The words of `const` or `enum`.
fn words(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(word) = schema.get("const") {
        return Some(vec![word]);
    }
    let words = schema.get("enum").and_then(Value::as_array)?;
    Some(words.iter().collect())
}

fn is_word(node: &Node, word: &Value) -> bool {
    match &node.kind {
        Kind::Null => word.is_null(),
        Kind::Bool(truth) => word.as_bool() == Some(*truth),
        Kind::Int(number) => word.as_i64() == Some(*number),
        Kind::Float(number) => word.as_f64() == Some(*number),
        Kind::Str(text) => word.as_str() == Some(text),
        Kind::Seq(_) | Kind::Map(_) => false,
    }
}

fn fits_type(node: &Node, schema: &Value) -> bool {
    let fits = |name: &str| match &node.kind {
        Kind::Null => name == "null",
        Kind::Bool(_) => name == "boolean",
        Kind::Int(_) => name == "integer" || name == "number",
        Kind::Float(_) => name == "number",
        Kind::Str(_) => name == "string",
        Kind::Seq(_) => name == "array",
        Kind::Map(_) => name == "object",
    };
    match schema.get("type") {
        Some(Value::String(name)) => fits(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(fits),
        _ => *schema != Value::Bool(false),
    }
}

fn range(node: &Node, number: f64, schema: &Value, path: &str, out: &mut Report) {
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    let most = bound("maximum").or(match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some(f64::from(u8::MAX)),
        Some("uint16") => Some(f64::from(u16::MAX)),
        Some("uint32") => Some(f64::from(u32::MAX)),
        Some("int32") => Some(f64::from(i32::MAX)),
        _ => None,
    });
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        out.error(
            path,
            format!("must be at least {least}, found {}", found(node)),
            "",
        );
    }
    if let Some(most) = most.filter(|most| number > *most) {
        out.error(
            path,
            format!("must be at most {most}, found {}", found(node)),
            "",
        );
    }
}

fn guess(word: &str, known: &[&str]) -> String {
    let known_list = format!("known: {}", list(known));
    match did_you_mean(word, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"? {known_list}"),
        None => known_list,
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

const PLUGIN_INSTANCE: &str = "#/$defs/PluginInstance";
