//! YAML with a place for every value: files in, one located tree out, within bounds that hostile input cannot pass.
//! It must not know the schema; it knows files, includes, interpolation and which values are secret.
//! Called by `config::load`; `check`, `decode` and `print` read the tree.

mod files;
mod include;
mod interpolate;
mod parse;
mod scalar;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_yaml::{Mapping, Value};

use super::report::{Place, Report};

/// Where a value stands: a compact [`Place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Which file of the document.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Where it stands.
    pub at: At,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// Keys with values, in the order written; no key twice.
    Map(Vec<(Key, Node)>),
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it starts.
    pub at: At,
    /// Whether it came from a file or from a variable that holds a secret; never shown.
    pub secret: bool,
}

impl Node {
    /// The value of a key, if this is a map that has it.
    pub fn child(&self, name: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.name == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The tree as JSON: decoding from it takes `{header: x}` for a tagged enum, where YAML values want `!header x`.
    pub(super) fn json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(truth) => Value::Bool(*truth),
            Kind::Int(number) => Value::from(*number),
            Kind::Float(number) => Value::from(*number),
            Kind::Str(text) => Value::String(text.clone()),
            Kind::Seq(items) => Value::Array(items.iter().map(Node::json).collect()),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.name.clone(), node.json()))
                    .collect(),
            ),
        }
    }

    fn value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(truth) => Value::Bool(*truth),
            Kind::Int(number) => Value::Number((*number).into()),
            Kind::Float(number) => Value::Number((*number).into()),
            Kind::Str(text) => Value::String(text.clone()),
            Kind::Seq(items) => Value::Sequence(items.iter().map(Node::value).collect()),
            Kind::Map(entries) => Value::Mapping(
                entries
                    .iter()
                    .map(|(key, node)| (Value::String(key.name.clone()), node.value()))
                    .collect::<Mapping>(),
            ),
        }
    }
}

/// Everything that was read, as one tree.
#[derive(Debug, Clone)]
pub struct Document {
    /// Shared: a large tree is handed on, not copied.
    root: Arc<Node>,
    names: Vec<Arc<str>>,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    digest: String,
    /// Secret texts that were put in.
    secrets: HashSet<Arc<str>>,
}

impl Document {
    /// Reads a file with everything it includes.
    ///
    /// # Errors
    /// Everything that is wrong with the text, located.
    pub fn read(path: &Path) -> Result<Document, Report> {
        files::Reader::new(path.parent().unwrap_or(Path::new(""))).file(path)
    }

    /// Reads one section of a file, wherever it stands; of the rest only that it is YAML.
    ///
    /// # Errors
    /// What is wrong with the section, and what keeps it from being found.
    pub fn read_section(path: &Path, key: &'static str) -> Result<Document, Report> {
        files::Reader::section(path, key)
    }

    /// Reads text as if it stood in a file of this name in the current folder.
    ///
    /// # Errors
    /// Everything that is wrong with the text, located.
    pub fn read_text(name: &str, text: &str) -> Result<Document, Report> {
        files::Reader::new(Path::new(".")).text(name, text.as_bytes())
    }

    /// The same text with another tree: parts of it are left out or replaced.
    pub(super) fn with_root(self, root: Node) -> Document {
        let root = Arc::new(root);
        Document { root, ..self }
    }

    /// The tree; always a map.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The place of the value at a path, or of the nearest value above it that exists.
    pub fn place(&self, path: &str) -> Option<Place> {
        Some(self.place_of(self.nearest(path).0.at))
    }

    /// A compact place in full.
    pub fn place_of(&self, at: At) -> Place {
        place_of(&self.names, at)
    }

    /// The value exactly at a path.
    pub fn node(&self, path: &str) -> Option<&Node> {
        match self.nearest(path) {
            (node, "") => Some(node),
            _ => None,
        }
    }

    /// The deepest existing value on the way, and what is left of the path.
    fn nearest<'a>(&self, path: &'a str) -> (&Node, &'a str) {
        let (mut node, mut rest) = (self.root(), path);
        while let Some((child, left)) = step(node, rest) {
            (node, rest) = (child, left);
        }
        (node, rest)
    }

    /// The tree without places.
    pub fn value(&self) -> Value {
        self.root.value()
    }

    /// The tree without places and without secrets.
    pub fn redacted(&self) -> Value {
        let mut value = self.value();
        redact(&mut value, Some(&self.root));
        value
    }

    /// Every text that was put in from a file, or from a variable that holds a secret.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|text| &**text)
    }

    /// SHA-256 of all bytes that were read, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Every file that was read: the first one, includes, and files of `${file:…}`. A change of one is a new configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// What to look at for changes: every file, and the folders in which a new file would be included.
    pub fn watched(&self) -> Vec<PathBuf> {
        [&*self.files, &self.folders].concat()
    }
}

fn place_of(names: &[Arc<str>], at: At) -> Place {
    Place {
        file: names
            .get(at.file as usize)
            .cloned()
            .unwrap_or_else(|| Arc::from("")),
        line: at.line as usize,
        column: at.column as usize,
    }
}

/// One step down a path. Keys may hold dots and brackets themselves, so the longest key that fits wins.
fn step<'n, 'p>(node: &'n Node, rest: &'p str) -> Option<(&'n Node, &'p str)> {
    match &node.kind {
        Kind::Seq(items) => {
            let (index, left) = rest.strip_prefix('[')?.split_once(']')?;
            Some((items.get(index.parse::<usize>().ok()?)?, left))
        }
        Kind::Map(entries) => {
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            let fits = |name: &str| {
                rest.strip_prefix(name)
                    .filter(|left| left.is_empty() || left.starts_with(['.', '[']))
            };
            entries
                .iter()
                .filter(|(key, _)| !key.name.is_empty())
                .filter_map(|(key, child)| Some((key.name.len(), child, fits(&key.name)?)))
                .max_by_key(|(length, _, _)| *length)
                .map(|(_, child, left)| (child, left))
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_) => None,
    }
}

/// Replaces secrets in a value that has the shape of a tree, or extends it with defaults.
pub(super) fn redact(value: &mut Value, node: Option<&Node>) {
    if node.is_some_and(|node| node.secret) {
        *value = Value::String(REDACTED.into());
        return;
    }
    match value {
        Value::Sequence(items) => {
            let nodes = match node.map(|node| &node.kind) {
                Some(Kind::Seq(nodes)) => nodes.as_slice(),
                _ => &[],
            };
            for (index, item) in items.iter_mut().enumerate() {
                redact(item, nodes.get(index));
            }
        }
        Value::Mapping(entries) => {
            // By hash: looking each key up in a list of as many would be quadratic.
            let nodes: HashMap<&str, &Node> = match node.map(|node| &node.kind) {
                Some(Kind::Map(nodes)) => nodes
                    .iter()
                    .map(|(key, node)| (key.name.as_str(), node))
                    .collect(),
                _ => HashMap::new(),
            };
            for (key, item) in entries.iter_mut() {
                let name = key.as_str().unwrap_or_default();
                if SENSITIVE.contains(&name) && !item.is_null() {
                    *item = Value::String(REDACTED.into());
                } else {
                    redact(item, nodes.get(name).copied());
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {}
    }
}

const REDACTED: &str = "[redacted]";
/// Keys whose values are never shown, wherever they stand.
const SENSITIVE: [&str; 8] = [
    "password",
    "secret",
    "secrets",
    "private_key",
    "token",
    "users",
    "keys",
    "key_material",
];
