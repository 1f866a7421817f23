//! What a broken route still takes: its hosts, and of its conditions those that can be understood.
//! It must not know how conditions are compared. A condition that cannot be understood is taken to hold, and the table
//! tries it first: what the route was to take must never reach a route that is less specific.
//! Called by `mask`.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde_json::Value as Json;
use windrose_plugins::contract::did_you_mean;

use super::object::Broken;
use crate::config::schema::{Match, Route, Rule, Widened};
use crate::config::source::{At, Key, Kind, Node};

/// A route without anything but its place.
#[derive(Debug)]
pub(super) struct Place {
    /// `hosts`, `listeners`, `protocol`, and rules with `match` alone.
    pub(super) node: Node,
    /// For each rule, how much of each alternative is understood.
    pub(super) widened: Vec<Vec<Widened>>,
}

/// What is left of a route; the name is the caller's to add.
///
/// # Errors
/// Why its place is not known well enough to refuse what belongs there, and only that.
pub(super) fn place(route: &Node, path: &str, broken: &Broken<'_>) -> Result<Place, &'static str> {
    let keys: &[String] = &ROUTE;
    if !matches!(route.kind, Kind::Map(_)) || (broken.at(path) && !has_unknown(route, keys)) {
        return Err("what the route takes cannot be understood");
    }
    let placing = ["hosts", "listeners", "protocol"];
    let is_broken = |key: &&str| broken.within(&format!("{path}.{key}"));
    let is_misspelt = |key: &&str| meant(route, key, keys) == Meant::Surely;
    if placing.iter().any(|key| is_broken(key) || is_misspelt(key))
        || meant(route, "hosts", keys) != Meant::No
    {
        return Err("where the route belongs cannot be understood");
    }
    let rules = rules(route, &format!("{path}.rules"), broken);
    let (nodes, widened): (Vec<Node>, Vec<Vec<Widened>>) = rules.into_iter().unzip();
    let most = widened.iter().flatten().max().copied().unwrap_or_default();
    let is_tcp = route.child("protocol").and_then(Node::text) == Some("tcp");
    if is_tcp && most != Widened::No {
        return Err("which connections the route takes cannot be understood");
    }
    let has_hosts = route.child("hosts").is_some_and(|hosts| match &hosts.kind {
        Kind::Seq(hosts) => !hosts.is_empty(),
        _ => false,
    });
    if most == Widened::Path && !has_hosts {
        return Err("which paths the route takes cannot be understood, and it names no hosts, so everything would be refused");
    }
    let mut entries = picked(route, &placing);
    entries.push((key("rules", route.at), list(nodes, route.at)));
    Ok(Place {
        node: map(entries, route.at),
        widened,
    })
}

type Understood = (Node, Vec<Widened>);

fn rules(route: &Node, path: &str, broken: &Broken<'_>) -> Vec<Understood> {
    match route.child("rules").map(|rules| &rules.kind) {
        Some(Kind::Seq(items)) if !items.is_empty() && !broken.at(path) => {
            let items = items.iter().enumerate();
            items
                .map(|(at, item)| rule(item, &format!("{path}[{at}]"), broken))
                .collect()
        }
        _ => vec![anything(route.at)],
    }
}

fn rule(rule: &Node, path: &str, broken: &Broken<'_>) -> Understood {
    let path = format!("{path}.match");
    let is_map = matches!(rule.kind, Kind::Map(_));
    let hidden = meant(rule, "match", &RULE) != Meant::No;
    let alternatives = match rule.child("match").map(|found| &found.kind) {
        None if is_map && !hidden => return (map(Vec::new(), rule.at), Vec::new()),
        Some(Kind::Seq(items)) if !broken.at(&path) => items,
        _ => return anything(rule.at),
    };
    let (nodes, widened) = alternatives
        .iter()
        .enumerate()
        .map(|(at, one)| alternative(one, &format!("{path}[{at}]"), broken))
        .unzip();
    let entry = (key("match", rule.at), list(nodes, rule.at));
    (map(vec![entry], rule.at), widened)
}

/// One alternative that takes every path.
fn anything(at: At) -> Understood {
    let alternative = list(vec![map(Vec::new(), at)], at);
    let entry = (key("match", at), alternative);
    (map(vec![entry], at), vec![Widened::Path])
}

fn alternative(one: &Node, path: &str, broken: &Broken<'_>) -> (Node, Widened) {
    let keys: &[String] = &MATCH;
    let Kind::Map(entries) = &one.kind else {
        return (map(Vec::new(), one.at), Widened::Path);
    };
    let mut widened = match (meant(one, "path", keys), has_unknown(one, keys)) {
        (Meant::Surely | Meant::Perhaps, _) => Widened::Path,
        (Meant::No, true) => Widened::Conditions,
        (Meant::No, false) => Widened::No,
    };
    let mut kept = Vec::new();
    for (key, value) in entries {
        let path = format!("{path}.{}", key.name);
        if !keys.contains(&key.name) {
            continue;
        }
        if !broken.within(&path) {
            kept.push((key.clone(), value.clone()));
            continue;
        }
        let is_path = key.name == "path";
        let is_pattern = is_path && value.child("regex").and_then(Node::text).is_some();
        if is_pattern && broken.is_only_at(&path, "regex") {
            // Patterns are tried last and in the order written, so one that takes every path keeps its place.
            kept.push((key.clone(), every_path(value.at)));
        }
        widened = widened.max(match is_path && !is_pattern {
            true => Widened::Path,
            false => Widened::Conditions,
        });
    }
    (map(kept, one.at), widened)
}

fn every_path(at: At) -> Node {
    let pattern = Node {
        kind: Kind::Str("(?s).*".into()),
        at,
        secret: false,
    };
    map(vec![(key("regex", at), pattern)], at)
}

/// Whether an unknown key may have been meant to be a key that is not there: by its name, or by what it holds.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meant {
    /// It is there, or every unknown key looks like another one.
    No,
    /// A key looks like nothing that is known, and its value like one of this key.
    Perhaps,
    /// A key looks like it.
    Surely,
}

pub(super) fn meant(node: &Node, wanted: &str, known: &[String]) -> Meant {
    let (Kind::Map(entries), None) = (&node.kind, node.child(wanted)) else {
        return Meant::No;
    };
    let unknown = entries.iter().filter(|(key, _)| !known.contains(&key.name));
    let meant = unknown.map(|(key, value)| {
        match did_you_mean(&key.name, known.iter().map(String::as_str)) {
            Some(near) if near == wanted => Meant::Surely,
            None if looks_like(wanted, value) => Meant::Perhaps,
            Some(_) | None => Meant::No,
        }
    });
    meant.max().unwrap_or(Meant::No)
}

/// Whether a value could stand at a key, as far as its shape tells.
fn looks_like(key: &str, value: &Node) -> bool {
    let is_word = |node: &Node| node.text().is_some_and(|text| !text.contains(' '));
    match (key, &value.kind) {
        ("hosts" | "addresses", Kind::Seq(items)) => items.iter().all(is_word),
        ("hosts", _) => is_word(value),
        ("match", kind) => matches!(kind, Kind::Seq(_) | Kind::Map(_)),
        (_, kind) => matches!(kind, Kind::Str(_) | Kind::Map(_)),
    }
}

fn has_unknown(node: &Node, known: &[String]) -> bool {
    match &node.kind {
        Kind::Map(entries) => entries.iter().any(|(key, _)| !known.contains(&key.name)),
        _ => false,
    }
}

static ROUTE: LazyLock<Vec<String>> = LazyLock::new(keys::<Route>);
static RULE: LazyLock<Vec<String>> = LazyLock::new(keys::<Rule>);
static MATCH: LazyLock<Vec<String>> = LazyLock::new(keys::<Match>);

/// The keys that a type of the schema knows.
pub(super) fn keys<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T).to_value();
    let properties = schema.get("properties").and_then(Json::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

/// The entries of a map with these keys.
pub(super) fn picked(node: &Node, wanted: &[&str]) -> Vec<(Key, Node)> {
    match &node.kind {
        Kind::Map(entries) => {
            let wanted = |(key, _): &&(Key, Node)| wanted.contains(&&*key.name);
            entries.iter().filter(wanted).cloned().collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn key(name: &str, at: At) -> Key {
    Key {
        name: name.to_owned(),
        at,
    }
}

pub(super) fn map(entries: Vec<(Key, Node)>, at: At) -> Node {
    Node {
        kind: Kind::Map(entries),
        at,
        secret: false,
    }
}

pub(super) fn list(items: Vec<Node>, at: At) -> Node {
    Node {
        kind: Kind::Seq(items),
        at,
        secret: false,
    }
}
