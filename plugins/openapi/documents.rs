//! An OpenAPI document with the files it refers to, and the places in them.
//! It must not know what the document says, but where `$ref` leads; nothing is fetched.
//! Read while the plugin is built, and by `windrose import openapi`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::query::decoded;
use crate::schema::beside::{self, Beside};

/// A document and its files, all of them read.
#[derive(Debug)]
pub struct Documents {
    files: Vec<(String, Value)>,
}

/// A value in a document, and where it stands.
#[derive(Debug, Clone)]
pub struct Node<'d> {
    /// The value.
    pub value: &'d Value,
    file: usize,
    pointer: String,
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The file and a JSON pointer into it, such as `api.yaml#/paths/~1pets/get`.
    pub place: String,
    /// What is wrong there.
    pub fact: String,
}

impl Flaw {
    pub(super) fn new(place: impl Into<String>, fact: impl Into<String>) -> Flaw {
        Flaw {
            place: place.into(),
            fact: fact.into(),
        }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.fact)
    }
}

impl Documents {
    /// Reads a document and whatever it refers to.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(file: &Path) -> Result<Documents, Flaw> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let root = beside::read(file).map_err(|fact| Flaw::new(&*name, fact))?;
        let folder = file.parent().filter(|folder| *folder != Path::new(""));
        Documents::of(root, &name, folder.unwrap_or(Path::new(".")))
    }

    /// A document that was read, whose files lie in a folder.
    ///
    /// # Errors
    /// What it refers to and cannot be read.
    pub fn of(root: Value, name: &str, folder: &Path) -> Result<Documents, Flaw> {
        let beside = Beside::of(folder, |document| document);
        let mut documents = Documents {
            files: vec![(name.to_owned(), root)],
        };
        let mut next = 0;
        while next < documents.files.len() {
            let mut references = BTreeMap::new();
            let (of, value) = &documents.files[next];
            references_of(value, &mut String::new(), false, &mut references);
            let mut more: Vec<(String, Value)> = Vec::new();
            for (reference, pointer) in references {
                let place = || format!("{of}#{pointer}");
                let name = target(of, &reference).map_err(|fact| Flaw::new(place(), fact))?;
                let is_known =
                    |files: &[(String, Value)]| files.iter().any(|(known, _)| *known == name);
                if is_known(&documents.files) || is_known(&more) {
                    continue;
                }
                let read = beside.document(&beside::address(&name));
                let read = read.map_err(|fact| Flaw::new(place(), fact))?;
                more.push((name, read));
            }
            documents.files.append(&mut more);
            next += 1;
        }
        Ok(documents)
    }

    /// The document itself.
    pub fn root(&self) -> Node<'_> {
        Node {
            value: &self.files[0].1,
            file: 0,
            pointer: String::new(),
        }
    }

    /// Every file with its address.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &Value)> {
        let files = self.files.iter();
        files.map(|(name, value)| (beside::address(name), value))
    }

    /// The address of a node, as schemas refer to it.
    pub(super) fn address(&self, node: &Node<'_>) -> String {
        let mut address = format!("{}#", beside::address(&self.files[node.file].0));
        for byte in node.pointer.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                    address.push(char::from(byte));
                }
                other => address.push_str(&format!("%{other:02X}")),
            }
        }
        address
    }

    /// Where a node stands.
    pub fn place(&self, node: &Node<'_>) -> String {
        format!("{}#{}", self.files[node.file].0, node.pointer)
    }

    /// What is wrong with a node.
    pub(super) fn flaw(&self, node: &Node<'_>, fact: impl Into<String>) -> Flaw {
        Flaw::new(self.place(node), fact)
    }

    /// The node that a node's `$ref` leads to in the end, or itself.
    ///
    /// # Errors
    /// It leads nowhere, or in a circle.
    pub fn follow<'d>(&'d self, node: Node<'d>) -> Result<Node<'d>, Flaw> {
        let mut at = node.clone();
        for _ in 0..MOST_HOPS {
            let Some(reference) = at.value.get("$ref").and_then(Value::as_str) else {
                return Ok(at);
            };
            at = self.target(&at, reference)?;
        }
        Err(self.flaw(&node, "its `$ref` leads in a circle"))
    }

    fn target<'d>(&'d self, from: &Node<'d>, reference: &str) -> Result<Node<'d>, Flaw> {
        let nowhere = || {
            self.flaw(
                from,
                format!(
                    "`$ref` leads nowhere: \"{}\"",
                    crate::schema::shortened(reference)
                ),
            )
        };
        let name = target(&self.files[from.file].0, reference);
        let name = name.map_err(|fact| self.flaw(from, fact))?;
        let file = self.files.iter().position(|(known, _)| *known == name);
        let file = file.ok_or_else(nowhere)?;
        let fragment = reference
            .split_once('#')
            .map_or("", |(_, fragment)| fragment);
        let pointer = decoded(&fragment.replace('+', "%2B")).into_owned();
        let pointer = String::from_utf8(pointer).map_err(|_| nowhere())?;
        let value = self.files[file].1.pointer(&pointer).ok_or_else(nowhere)?;
        Ok(Node {
            value,
            file,
            pointer,
        })
    }
}

impl<'d> Node<'d> {
    /// The member of an object.
    pub fn member(&self, name: &str) -> Option<Node<'d>> {
        self.value.get(name).map(|value| self.below(name, value))
    }

    /// The members of an object; none of anything else.
    pub fn members(&self) -> impl Iterator<Item = (&'d str, Node<'d>)> + '_ {
        let members = self.value.as_object().into_iter().flatten();
        members.map(|(name, value)| (name.as_str(), self.below(name, value)))
    }

    /// The items of an array; none of anything else.
    pub fn items(&self) -> impl Iterator<Item = Node<'d>> + '_ {
        let items = self.value.as_array().into_iter().flatten();
        items
            .enumerate()
            .map(|(at, value)| self.below(&at.to_string(), value))
    }

    /// The text of a member.
    pub fn text(&self, name: &str) -> Option<&'d str> {
        self.value.get(name)?.as_str()
    }

    /// Whether a member is `true`.
    pub fn is(&self, name: &str) -> bool {
        self.value.get(name) == Some(&Value::Bool(true))
    }

    fn below(&self, name: &str, value: &'d Value) -> Node<'d> {
        let name = name.replace('~', "~0").replace('/', "~1");
        Node {
            value,
            file: self.file,
            pointer: format!("{}/{name}", self.pointer),
        }
    }
}

/// Collects where `$ref` leads, without what is data.
fn references_of(
    value: &Value,
    pointer: &mut String,
    are_names: bool,
    found: &mut BTreeMap<String, String>,
) {
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let length = pointer.len();
                pointer.push_str(&format!("/{at}"));
                references_of(item, pointer, false, found);
                pointer.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let length = pointer.len();
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                match member {
                    Value::String(reference) if name == "$ref" && !are_names => {
                        found.entry(reference.clone()).or_insert(pointer.clone());
                    }
                    member if are_names || !is_data(name) => {
                        references_of(member, pointer, !are_names && holds_names(name), found);
                    }
                    _ => {}
                }
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Whether what a key holds is data of the API, not part of the description.
pub(super) fn is_data(key: &str) -> bool {
    matches!(key, "example" | "default" | "enum" | "const" | "mapping") || key.starts_with("x-")
}

/// Whether the keys of what a key holds are names that the document chose.
pub(super) fn holds_names(key: &str) -> bool {
    const NAMES: [&str; 16] = [
        "properties",
        "patternProperties",
        "dependentSchemas",
        "$defs",
        "definitions",
        "schemas",
        "responses",
        "parameters",
        "examples",
        "requestBodies",
        "headers",
        "securitySchemes",
        "links",
        "callbacks",
        "pathItems",
        "paths",
    ];
    NAMES.contains(&key)
}

/// The file that a reference in a file leads to.
fn target(from: &str, reference: &str) -> Result<String, String> {
    let path = reference.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return Ok(from.to_owned());
    }
    let shown = crate::schema::shortened(reference);
    if path.contains(':') || path.starts_with('/') || path.contains('\\') {
        return Err(format!(
            "`$ref` leads to \"{shown}\", which is no file beside the document; nothing is fetched"
        ));
    }
    let path = decoded(&path.replace('+', "%2B")).into_owned();
    let path = String::from_utf8(path).map_err(|_| format!("`$ref` \"{shown}\" is not text"))?;
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(format!(
                    "`$ref` leads to \"{shown}\", out of the document's folder"
                ));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

const MOST_HOPS: usize = 50;
