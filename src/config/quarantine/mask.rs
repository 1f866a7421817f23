//! A document in which every object that is set apart is reduced to what is left of it, and the marks on what was decoded.
//! It must not know errors beyond their paths. Positions stay, so that paths lead to the same places as before.
//! Called by `Ward` and `config::load`.

use super::object::{list, made_name, named, Broken, Object};
use super::place::{key, map, picked, place};
use super::service;
use super::Ward;
use crate::config::schema::{Config, Hold, Widened};
use crate::config::source::{At, Document, Key, Kind as Value, Node};
use crate::snapshot::quarantine::Kind;

/// A document to judge, and what to mark once it is decoded.
#[derive(Debug)]
pub(in crate::config) struct Masked {
    /// What is left.
    pub(in crate::config) document: Document,
    marks: Vec<(usize, Mark)>,
}

#[derive(Debug)]
enum Mark {
    Route(Vec<Vec<Widened>>),
    Pool,
    Service,
    Listener(Hold),
}

/// What stands in for an object.
pub(super) enum Effect {
    /// A refusal, in these words.
    Answer(&'static str),
    /// A listener cannot answer.
    Out,
}

/// Whether enough of an object is understood to set it apart.
///
/// # Errors
/// Why not.
pub(super) fn placeable(
    document: &Document,
    object: Object,
    broken: &Broken<'_>,
) -> Result<(), &'static str> {
    let Some(node) = object.node(document) else {
        return Ok(());
    };
    let path = object.path(document);
    match object.kind {
        Kind::Route => place(node, &path, broken).map(drop),
        Kind::Listener if hold(&path, broken) == Hold::Closed => Ok(()),
        Kind::Listener => {
            let is_named = named(document, object).is_some();
            let is_sound = !broken.at(&format!("{path}.name")) || is_shared(document, object);
            match is_named && is_sound {
                true => Ok(()),
                false => Err("which listener is meant cannot be understood"),
            }
        }
        Kind::Service => service::place(node).map(drop),
        Kind::Pool | Kind::Plugin => Ok(()),
    }
}

/// What stands in for an object.
pub(super) fn effect(object: Object, document: &Document, broken: &Broken<'_>) -> Effect {
    let path = object.path(document);
    let words = match object.kind {
        Kind::Route => "what it takes is refused",
        Kind::Pool => "what would go to it is refused",
        Kind::Service => "what is meant for its names and addresses is refused",
        Kind::Plugin => "every route and listener that uses it refuses what it takes",
        Kind::Listener => match hold(&path, broken) {
            Hold::Closed => "everything that comes in is refused",
            Hold::Out | Hold::None => return Effect::Out,
        },
    };
    Effect::Answer(words)
}

/// Of a listener whose plugins alone are broken the rest is good, and can refuse.
fn hold(path: &str, broken: &Broken<'_>) -> Hold {
    match broken.is_all_within(&format!("{path}.plugins")) {
        true => Hold::Closed,
        false => Hold::Out,
    }
}

/// Whether another object of the kind has the same name.
fn is_shared(document: &Document, object: Object) -> bool {
    let name = named(document, object);
    let mut all = Object::all(document, object.kind).into_iter();
    all.any(|other| other != object && named(document, other) == name)
}

impl Ward {
    /// The document without what is broken.
    pub(in crate::config) fn mask(&self, document: Document) -> Masked {
        let mut marks = Vec::new();
        if self.objects.is_empty() {
            return Masked { document, marks };
        }
        let mut root = document.root().clone();
        // From the back: plugins are taken out, and those before them keep their position.
        for (object, findings) in self.objects.iter().rev() {
            let broken = Broken::of(findings);
            let Some((node, mark)) = left(&document, *object, &broken) else {
                take_out(&mut root, *object);
                continue;
            };
            if let Some(written) = written(&mut root, *object) {
                *written = node;
            }
            marks.push((object.at, mark));
        }
        Masked {
            document: document.with_root(root),
            marks,
        }
    }
}

impl Masked {
    /// Marks what is left of the objects that are set apart; decoding kept their positions.
    pub(in crate::config) fn mark(&self, config: &mut Config) {
        for (at, mark) in &self.marks {
            match mark {
                Mark::Route(widened) => {
                    if let Some(route) = config.routes.get_mut(*at) {
                        route.is_quarantined = true;
                        let rules = route.rules.iter_mut().zip(widened);
                        let each =
                            rules.flat_map(|(rule, of_rule)| rule.matches.iter_mut().zip(of_rule));
                        each.for_each(|(found, widened)| found.widened = *widened);
                    }
                }
                Mark::Pool => {
                    if let Some(pool) = config.pools.get_mut(*at) {
                        pool.is_quarantined = true;
                    }
                }
                Mark::Service => {
                    if let Some(service) = config.services.get_mut(*at) {
                        service.is_quarantined = true;
                    }
                }
                Mark::Listener(hold) => {
                    if let Some(listener) = config.listeners.get_mut(*at) {
                        listener.hold = *hold;
                    }
                }
            }
        }
    }
}

/// What is left of an object; `None` for one that is taken out.
fn left(document: &Document, object: Object, broken: &Broken<'_>) -> Option<(Node, Mark)> {
    let node = object.node(document)?;
    let path = object.path(document);
    match object.kind {
        Kind::Plugin => None,
        Kind::Pool => {
            let entries = vec![self::name(document, object, broken)];
            Some((map(entries, node.at), Mark::Pool))
        }
        Kind::Route => {
            let place = place(node, &path, broken).ok()?;
            let mut entries = vec![self::name(document, object, broken)];
            if let Value::Map(placed) = place.node.kind {
                entries.extend(placed);
            }
            // They say what should become of requests, which does not hold any more.
            entries.extend(picked(node, &["tests"]));
            Some((map(entries, node.at), Mark::Route(place.widened)))
        }
        Kind::Service => {
            let mut entries = vec![self::name(document, object, broken)];
            entries.extend(service::place(node).ok()?);
            Some((map(entries, node.at), Mark::Service))
        }
        Kind::Listener => Some(listener(document, object, node, hold(&path, broken))),
    }
}

fn listener(document: &Document, object: Object, node: &Node, hold: Hold) -> (Node, Mark) {
    let entries = match (hold, &node.kind) {
        (Hold::Closed, Value::Map(entries)) => {
            let others = entries.iter().filter(|(key, _)| key.name != "plugins");
            others.cloned().collect()
        }
        _ => {
            let mut entries = picked(node, &["name"]);
            // Never bound: it stands where the schema wants an address.
            entries.push((key("bind", node.at), text("127.0.0.1:0", node.at)));
            entries
        }
    };
    debug_assert!(named(document, object).is_some() || hold == Hold::Closed);
    (map(entries, node.at), Mark::Listener(hold))
}

/// The name as written, or one that nothing else has.
fn name(document: &Document, object: Object, broken: &Broken<'_>) -> (Key, Node) {
    let node = object.node(document);
    let at = node.map_or(document.root().at, |node| node.at);
    let is_broken = broken.at(&format!("{}.name", object.path(document)));
    let given = named(document, object).filter(|_| !is_broken || is_shared(document, object));
    let name = given.map_or_else(|| made_name(document, object), str::to_owned);
    (key("name", at), text(&name, at))
}

fn text(text: &str, at: At) -> Node {
    Node {
        kind: Value::Str(text.to_owned()),
        at,
        secret: false,
    }
}

fn written(root: &mut Node, object: Object) -> Option<&mut Node> {
    match &mut child(root, list(object.kind))?.kind {
        Value::Seq(items) => items.get_mut(object.at),
        _ => None,
    }
}

fn take_out(root: &mut Node, object: Object) {
    if let Some(Value::Map(entries)) = child(root, list(object.kind)).map(|node| &mut node.kind) {
        if object.at < entries.len() {
            entries.remove(object.at);
        }
    }
}

fn child<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    match &mut node.kind {
        Value::Map(entries) => {
            let mut entries = entries.iter_mut();
            entries
                .find(|(key, _)| key.name == name)
                .map(|(_, node)| node)
        }
        _ => None,
    }
}
