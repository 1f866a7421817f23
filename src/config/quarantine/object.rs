//! Objects of a configuration by their place in the text, and which of them a path belongs to.
//! It must not know what is wrong with an object.
//! Called by the rest of `quarantine`.

use std::collections::HashSet;

use crate::config::report::{is_within, Finding};
use crate::config::source::{Document, Kind as Value, Node};
use crate::snapshot::quarantine::Kind;

/// An object that can be set apart: an item of a list, or of the map of plugins in the order written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) at: usize,
}

impl Object {
    /// The object that a path leads into. Tests under a route are not part of it: one that fails refuses the whole.
    pub(super) fn of(document: &Document, path: &str) -> Option<Object> {
        let found = Kind::ALL.into_iter().find_map(|kind| {
            let rest = path.strip_prefix(list(kind))?;
            let at = match kind {
                Kind::Plugin => plugin(document, rest.strip_prefix('.')?)?,
                Kind::Listener | Kind::Route | Kind::Pool | Kind::Service => {
                    let (at, below) = rest.strip_prefix('[')?.split_once(']')?;
                    let is_test = kind == Kind::Route && is_within(below, ".tests");
                    at.parse().ok().filter(|_| !is_test)?
                }
            };
            Some(Object { kind, at })
        });
        found.filter(|object| object.node(document).is_some())
    }

    /// Every object of a kind.
    pub(super) fn all(document: &Document, kind: Kind) -> Vec<Object> {
        let count = match document.root().child(list(kind)).map(|node| &node.kind) {
            Some(Value::Seq(items)) if kind != Kind::Plugin => items.len(),
            Some(Value::Map(entries)) if kind == Kind::Plugin => entries.len(),
            _ => 0,
        };
        (0..count).map(|at| Object { kind, at }).collect()
    }

    /// What is written.
    pub(super) fn node(self, document: &Document) -> Option<&Node> {
        match &document.root().child(list(self.kind))?.kind {
            Value::Seq(items) if self.kind != Kind::Plugin => items.get(self.at),
            Value::Map(entries) if self.kind == Kind::Plugin => {
                entries.get(self.at).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// Its path.
    pub(super) fn path(self, document: &Document) -> String {
        let list = list(self.kind);
        match self.kind {
            Kind::Plugin => format!("{list}.{}", key(document, self.at).unwrap_or_default()),
            Kind::Listener | Kind::Route | Kind::Pool | Kind::Service => {
                format!("{list}[{}]", self.at)
            }
        }
    }
}

/// The key under which objects of a kind stand.
pub(super) fn list(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "listeners",
        Kind::Route => "routes",
        Kind::Pool => "pools",
        Kind::Plugin => "plugins",
        Kind::Service => "services",
    }
}

/// The name an object was given.
pub(super) fn named(document: &Document, object: Object) -> Option<&str> {
    match object.kind {
        Kind::Plugin => key(document, object.at),
        Kind::Listener | Kind::Route | Kind::Pool | Kind::Service => {
            object.node(document)?.child("name")?.text()
        }
    }
}

/// The name to speak of an object by: a made one, if it has none.
pub(super) fn name(document: &Document, object: Object) -> String {
    let given = named(document, object).filter(|name| !name.is_empty());
    given.map_or_else(|| made_name(document, object), str::to_owned)
}

/// A name that is well formed and that nothing else has.
pub(super) fn made_name(document: &Document, object: Object) -> String {
    let all = Object::all(document, object.kind);
    let mut made = format!("{}.{}", list(object.kind), object.at);
    while all.iter().any(|one| named(document, *one) == Some(&made)) {
        made.push('-');
    }
    made
}

fn key(document: &Document, at: usize) -> Option<&str> {
    match &document.root().child(list(Kind::Plugin))?.kind {
        Value::Map(entries) => Some(&entries.get(at)?.0.name),
        _ => None,
    }
}

/// Names of plugins may hold dots, so the longest that fits is meant.
fn plugin(document: &Document, rest: &str) -> Option<usize> {
    let Value::Map(entries) = &document.root().child(list(Kind::Plugin))?.kind else {
        return None;
    };
    let entries = entries.iter().enumerate();
    let fitting = entries.filter(|(_, (key, _))| is_within(rest, &key.name));
    let longest = fitting.max_by_key(|(_, (key, _))| key.name.len());
    longest.map(|(at, _)| at)
}

/// Where an object names a plugin in its lists.
pub(super) fn uses(document: &Document, object: Object, plugin: &str) -> Vec<String> {
    let Some(node) = object.node(document) else {
        return Vec::new();
    };
    let path = object.path(document);
    let mut found = in_list(node, &path, plugin);
    if let Some(Value::Seq(rules)) = node.child("rules").map(|rules| &rules.kind) {
        for (at, rule) in rules.iter().enumerate() {
            found.extend(in_list(rule, &format!("{path}.rules[{at}]"), plugin));
        }
    }
    found
}

fn in_list(node: &Node, path: &str, plugin: &str) -> Vec<String> {
    let Some(Value::Seq(items)) = node.child("plugins").map(|list| &list.kind) else {
        return Vec::new();
    };
    let items = items.iter().enumerate();
    let named = items.filter(|(_, item)| item.text() == Some(plugin));
    named
        .map(|(at, _)| format!("{path}.plugins[{at}]"))
        .collect()
}

/// The paths at which something is wrong.
pub(super) struct Broken<'a>(HashSet<&'a str>);

impl<'a> Broken<'a> {
    pub(super) fn of(findings: &'a [Finding]) -> Broken<'a> {
        Broken(findings.iter().map(|finding| &*finding.path).collect())
    }

    /// Whether something is wrong with the value as a whole.
    pub(super) fn at(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// Whether something is wrong with the value, or with anything in it.
    pub(super) fn within(&self, path: &str) -> bool {
        self.0.iter().any(|broken| is_within(broken, path))
    }

    /// Whether all that is wrong within the value is within this key of it.
    pub(super) fn is_only_at(&self, path: &str, key: &str) -> bool {
        let key = format!("{path}.{key}");
        let mut within = self.0.iter().filter(|broken| is_within(broken, path));
        within.all(|broken| is_within(broken, &key))
    }

    /// Whether everything that is wrong is in there.
    pub(super) fn is_all_within(&self, path: &str) -> bool {
        self.0.iter().all(|broken| is_within(broken, path))
    }
}
