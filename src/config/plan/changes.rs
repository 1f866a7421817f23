//! What differs between two configurations, object by object and key by key.
//! It must not know what runs, and must not show secrets.
//! Printed by `windrose plan` and `windrose reload`, and shown on the admin address.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::Serialize;
use serde_yaml::Value;

use super::policies;
use crate::config::schema::Config;
use crate::config::source::{self, Document, Kind as NodeKind, Node};
use crate::snapshot::quarantine::Quarantined;

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `listener`, `route`, `pool`, `plugin`, or a section.
    pub kind: &'static str,
    /// Its name; empty for a section.
    pub name: String,
    /// How it differs.
    pub what: What,
    /// Where it differs, for objects that are on both sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// What it means for callers, in words: who would newly be denied or allowed. Only of policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
}

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// Both have it.
    Changed,
    /// The same objects stand in another order.
    Reordered,
}

/// A value that differs. Secrets are not shown, on either side; without a document, no value is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// Path below the object, such as `rules[0].pool`.
    pub path: String,
    /// The old value; `None` where there was none.
    pub old: Option<String>,
    /// The new value; `None` where there is none.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if !self.name.is_empty() {
            write!(f, " \"{}\"", self.name)?;
        }
        self.how(f)?;
        let mut effects = self.effects.iter();
        effects.try_for_each(|effect| write!(f, "; {effect}"))
    }
}

impl Change {
    /// Whether it is about who may call what.
    pub fn is_of_policies(&self) -> bool {
        matches!(self.kind, "policy" | "authorization")
    }

    /// How it differs, in words.
    fn how(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Added => f.write_str(": added"),
            What::Removed => f.write_str(": removed"),
            What::Reordered => f.write_str(": order changed"),
            What::Changed => {
                let keys = self.details.iter().map(|detail| {
                    let end = detail.path.find(['.', '[']).unwrap_or(detail.path.len());
                    &detail.path[..end]
                });
                let keys: BTreeSet<&str> = keys.filter(|key| !key.is_empty()).collect();
                let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
                match (keys.is_empty(), self.kind) {
                    (_, "server" | "admin") => {
                        f.write_str(": changed; takes effect with `windrose upgrade` or a restart")
                    }
                    (true, _) => f.write_str(": changed"),
                    (false, _) => write!(f, ": changed ({keys})"),
                }
            }
        }
    }
}

/// A configuration to compare.
#[derive(Clone, Copy)]
pub struct Side<'s> {
    config: &'s Config,
    root: Option<&'s Node>,
}

impl<'s> Side<'s> {
    /// With the text it came from, which knows what is secret.
    pub fn of(config: &'s Config, document: &'s Document) -> Side<'s> {
        Side {
            config,
            root: Some(document.root()),
        }
    }

    /// Without its text: nothing tells which values are secret, so all read `***`.
    pub fn unseen(config: &'s Config) -> Side<'s> {
        Side { config, root: None }
    }

    fn section(self, key: &str, of: &impl Serialize) -> Object<'s> {
        let node = self.root.map(|root| root.child(key));
        Object {
            value: value(of),
            node,
        }
    }

    fn named<T: Serialize>(
        self,
        key: &str,
        all: &[T],
        name: impl Fn(&T) -> &String,
    ) -> Objects<'s> {
        let nodes = self.root.map(|root| match root.child(key) {
            Some(Node {
                kind: NodeKind::Seq(nodes),
                ..
            }) => nodes.as_slice(),
            _ => &[],
        });
        let object = |(at, one): (usize, &T)| {
            let value = value(one);
            let node = nodes.map(|nodes| nodes.get(at));
            (name(one).clone(), Object { value, node })
        };
        all.iter().enumerate().map(object).collect()
    }

    fn listeners(self) -> Objects<'s> {
        self.named("listeners", &self.config.listeners, |one| &one.name)
    }

    fn routes(self) -> Objects<'s> {
        self.named("routes", &self.config.routes, |one| &one.name)
    }

    fn pools(self) -> Objects<'s> {
        self.named("pools", &self.config.pools, |one| &one.name)
    }

    fn services(self) -> Objects<'s> {
        self.named("services", &self.config.services, |one| &one.name)
    }

    fn policies(self) -> Objects<'s> {
        self.named("policies", &self.config.policies, |one| &one.name)
    }

    fn consumers(self) -> Objects<'s> {
        self.named("consumers", &self.config.consumers, |one| &one.name)
    }

    fn stores(self) -> Objects<'s> {
        self.named("redis", &self.config.redis, |one| &one.name)
    }

    fn plugins(self) -> Objects<'s> {
        // By hash: there may be many.
        let nodes = self.root.map(|root| match root.child("plugins") {
            Some(Node {
                kind: NodeKind::Map(nodes),
                ..
            }) => nodes.iter().map(|(key, node)| (&*key.name, node)).collect(),
            _ => HashMap::new(),
        });
        let object = |(name, one)| {
            let node = nodes
                .as_ref()
                .map(|nodes| nodes.get(String::as_str(name)).copied());
            let value = value(one);
            (name.clone(), Object { value, node })
        };
        self.config.plugins.iter().map(object).collect()
    }

    fn sections(self) -> [(&'static str, Object<'s>); 9] {
        let config = self.config;
        let on_invalid = self.section("on_invalid", &config.on_invalid);
        [
            ("on_invalid", on_invalid),
            ("identity", self.section("identity", &config.identity)),
            (
                "authorization",
                self.section("authorization", &config.authorization),
            ),
            ("overload", self.section("overload", &config.overload)),
            ("limits", self.section("limits", &config.limits)),
            ("observe", self.section("observe", &config.observe)),
            ("tests", self.section("tests", &config.tests)),
            ("server", self.section("server", &config.server)),
            ("admin", self.section("admin", &config.admin)),
        ]
    }

    fn order(self) -> Vec<&'s str> {
        let routes = self.config.routes.iter();
        routes.map(|route| &*route.name).collect()
    }
}

/// Every difference between an old and a new configuration.
pub fn changes(old: Side<'_>, new: Side<'_>) -> Vec<Change> {
    let mut found = Vec::new();
    objects("listener", old.listeners(), new.listeners(), &mut found);
    objects("route", old.routes(), new.routes(), &mut found);
    objects("pool", old.pools(), new.pools(), &mut found);
    objects("service", old.services(), new.services(), &mut found);
    let first = found.len();
    objects("policy", old.policies(), new.policies(), &mut found);
    for policy in &mut found[first..] {
        policy.effects = policies::effects(&policy.name, old.config, new.config);
    }
    objects("consumer", old.consumers(), new.consumers(), &mut found);
    objects("redis", old.stores(), new.stores(), &mut found);
    objects("plugin", old.plugins(), new.plugins(), &mut found);
    let (before, after) = (old.order(), new.order());
    if kept(&before, &after) != kept(&after, &before) {
        found.push(section("routes", What::Reordered, Vec::new()));
    }
    for ((kind, before), (_, after)) in old.sections().into_iter().zip(new.sections()) {
        if before.value != after.value {
            found.push(Change {
                effects: match kind {
                    "authorization" => policies::of_default(old.config, new.config),
                    _ => Vec::new(),
                },
                ..section(kind, What::Changed, details(&before, &after))
            });
        }
    }
    found
}

/// The names of the first that the second has too.
fn kept<'n>(names: &[&'n str], others: &[&'n str]) -> Vec<&'n str> {
    let others: HashSet<&str> = others.iter().copied().collect();
    let kept = names.iter().filter(|name| others.contains(**name));
    kept.copied().collect()
}

/// Adds which objects were quarantined or came back; their other differences are only what is left of them.
pub fn note_quarantine(old: &[Quarantined], new: &[Quarantined], words: &mut Vec<String>) {
    let is_in = |all: &[Quarantined], one: &Quarantined| {
        all.iter()
            .any(|other| other.kind == one.kind && other.name == one.name)
    };
    let mut note = |one: &Quarantined, word: &str| {
        let subject = format!("{} \"{}\": ", one.kind.as_str(), one.name);
        words.retain(|word| !word.starts_with(&subject));
        words.push(format!("{subject}{word}"));
    };
    for one in new.iter().filter(|one| !old.contains(one)) {
        let still = if is_in(old, one) { "still " } else { "" };
        note(one, &format!("{still}quarantined, {}", one.effect));
    }
    for one in old.iter().filter(|one| !is_in(new, one)) {
        note(one, "no longer quarantined");
    }
}

fn section(kind: &'static str, what: What, details: Vec<Detail>) -> Change {
    Change {
        kind,
        name: String::new(),
        what,
        details,
        effects: Vec::new(),
    }
}

/// The first few of a list, and how many more there are.
pub(super) fn list(texts: &[&str]) -> String {
    let more = texts.len().saturating_sub(MOST_LISTED);
    let listed = texts.iter().take(MOST_LISTED).copied();
    let mut text = listed.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

const MOST_LISTED: usize = 5;

/// An object as a value, and what tells its secrets.
struct Object<'s> {
    value: Value,
    /// What was written of it, if anything; `None` if that is not known.
    node: Option<Option<&'s Node>>,
}

impl Object<'_> {
    fn shown(&self) -> Option<Value> {
        let mut value = self.value.clone();
        source::redact(&mut value, self.node?);
        Some(value)
    }
}

type Objects<'s> = BTreeMap<String, Object<'s>>;

/// As a reader writes it: `{header: x}`, not `!header x`.
pub(super) fn value(of: &impl Serialize) -> Value {
    serde_yaml::with::singleton_map_recursive::serialize(of, serde_yaml::value::Serializer)
        .unwrap_or_default()
}

fn objects(kind: &'static str, old: Objects<'_>, new: Objects<'_>, found: &mut Vec<Change>) {
    let change = |name: &String, what, details| Change {
        kind,
        name: name.clone(),
        what,
        details,
        effects: Vec::new(),
    };
    for (name, after) in &new {
        match old.get(name) {
            None => found.push(change(name, What::Added, Vec::new())),
            Some(before) if before.value != after.value => {
                found.push(change(name, What::Changed, details(before, after)));
            }
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    found.extend(gone.map(|name| change(name, What::Removed, Vec::new())));
}

fn details(old: &Object<'_>, new: &Object<'_>) -> Vec<Detail> {
    let (old_shown, new_shown) = (old.shown(), new.shown());
    let pair = Pair {
        old: Some(&old.value),
        new: Some(&new.value),
        old_shown: old_shown.as_ref(),
        new_shown: new_shown.as_ref(),
    };
    let mut found = Vec::new();
    differ("", pair, &mut found);
    found
}

/// A place on both sides, and what may be shown of it.
#[derive(Clone, Copy)]
struct Pair<'v> {
    old: Option<&'v Value>,
    new: Option<&'v Value>,
    old_shown: Option<&'v Value>,
    new_shown: Option<&'v Value>,
}

impl<'v> Pair<'v> {
    fn at(&self, index: &str) -> Pair<'v> {
        let of = |value: Option<&'v Value>| value.and_then(|value| value.get(index));
        Pair {
            old: of(self.old),
            new: of(self.new),
            old_shown: of(self.old_shown),
            new_shown: of(self.new_shown),
        }
    }
}

fn differ(path: &str, pair: Pair<'_>, found: &mut Vec<Detail>) {
    if pair.old == pair.new {
        return;
    }
    match (pair.old, pair.new) {
        (Some(Value::Mapping(old)), Some(Value::Mapping(new))) => {
            let keys = old.keys().chain(new.keys()).filter_map(Value::as_str);
            for key in keys.collect::<BTreeSet<_>>() {
                let below = match path.is_empty() {
                    true => key.to_owned(),
                    false => format!("{path}.{key}"),
                };
                differ(&below, pair.at(key), found);
            }
        }
        (Some(Value::Sequence(old)), Some(Value::Sequence(new)))
            if old.iter().chain(new).all(Value::is_mapping) =>
        {
            for at in 0..old.len().max(new.len()) {
                let below = Pair {
                    old: old.get(at),
                    new: new.get(at),
                    old_shown: pair.old_shown.and_then(|shown| shown.get(at)),
                    new_shown: pair.new_shown.and_then(|shown| shown.get(at)),
                };
                differ(&format!("{path}[{at}]"), below, found);
            }
        }
        _ => found.push(Detail {
            path: path.to_owned(),
            old: pair.old.map(|_| shown(pair.old_shown)),
            new: pair.new.map(|_| shown(pair.new_shown)),
        }),
    }
}

/// Longest value that is shown whole, in characters.
const LONGEST: usize = 120;

/// On one line, as JSON but without quotes around plain text.
fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => return "***".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => serde_json::to_string(value).unwrap_or_default(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::quarantine::Kind;

    fn config(text: &str) -> Config {
        serde_yaml::from_str(text).unwrap()
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (config(old), config(new));
        let found = changes(Side::unseen(&old), Side::unseen(&new));
        found.iter().map(ToString::to_string).collect()
    }

    /// As `plan` compares: with the documents.
    fn seen(old: &str, new: &str) -> Vec<Change> {
        let read = |text: &str| Document::read_text("gw.yaml", text).unwrap();
        let decode = |document: &Document| serde_json::from_value(document.root().json()).unwrap();
        let (old, new) = (read(old), read(new));
        let (before, after): (Config, Config) = (decode(&old), decode(&new));
        changes(Side::of(&before, &old), Side::of(&after, &new))
    }

    #[test]
    fn differences_are_told_object_by_object() {
        let old =
            "pools: [{name: a, endpoints: ['127.0.0.1:1']}, {name: b, endpoints: ['127.0.0.1:1']}]";
        let new =
            "pools: [{name: a, endpoints: ['127.0.0.1:2']}, {name: c, endpoints: ['127.0.0.1:1']}]";

        assert_eq!(
            told(old, new),
            [
                "pool \"a\": changed (endpoints)",
                "pool \"c\": added",
                "pool \"b\": removed"
            ]
        );
        assert!(told(new, new).is_empty());
    }

    #[test]
    fn details_name_the_place_and_both_values() {
        let old = "routes: [{name: r, rules: [{pool: a, body_limit: 1MiB}]}]";
        let new = "routes: [{name: r, rules: [{pool: b}, {pool: c}]}]";

        let found = seen(old, new);

        let details = &found[0].details;
        let at = |path: &str| details.iter().find(|detail| detail.path == path);
        let pool = at("rules[0].pool").unwrap();
        assert_eq!(
            (pool.old.as_deref(), pool.new.as_deref()),
            (Some("a"), Some("b"))
        );
        let limit = at("rules[0].body_limit").unwrap();
        assert_eq!((limit.old.is_some(), limit.new.is_some()), (true, false));
        assert!(at("rules[1]").is_some_and(|rule| rule.old.is_none()));
    }

    #[test]
    fn an_order_that_changed_is_told_also_beside_other_changes() {
        let old = "routes: [{name: a, rules: []}, {name: b, rules: []}]";
        let new = "routes: [{name: b, rules: []}, {name: c, rules: []}, {name: a, rules: []}]";

        assert_eq!(
            told(old, new),
            ["route \"c\": added", "routes: order changed"]
        );
    }

    #[test]
    fn secrets_are_not_told() {
        let users = |hash: &str| {
            format!(
                "plugins: {{login: {{kind: basic_auth, config: {{users: {{ann: '{hash}'}}}}}}}}"
            )
        };

        let found = seen(&users("first-secret"), &users("second-secret"));

        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(found.len(), 1);
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn interpolated_secrets_are_not_told() {
        let text = |token: &str| {
            format!("
routes:
- name: r
  rules:
  - {{pool: p, request_headers: {{set: {{authorization: 'Bearer ${{env:WINDROSE_UNSET_TOKEN:-{token}}}', x-plain: {token}-plain}}}}}}
plugins: {{a: {{kind: headers, config: {{request: {{set: {{x-key: '${{env:WINDROSE_UNSET_KEY:-{token}}}'}}}}}}}}}}
")
        };

        let found = seen(&text("first"), &text("second"));

        let details: Vec<_> = found.iter().flat_map(|change| &change.details).collect();
        let told = |value: &str| {
            let all = details.iter().flat_map(|detail| [&detail.old, &detail.new]);
            all.flatten().filter(|text| text.contains(value)).count()
        };
        assert_eq!((found.len(), details.len()), (2, 3), "{details:?}");
        assert_eq!(told("first"), 1, "{details:?}");
        assert_eq!(told("second"), 1, "{details:?}");
        assert_eq!(told("-plain"), 2, "{details:?}");
    }

    #[test]
    fn without_documents_no_value_is_told() {
        let old = config("pools: [{name: a, endpoints: ['127.0.0.1:1']}]");
        let new = config("pools: [{name: a, endpoints: ['127.0.0.1:2']}]");

        let found = changes(Side::unseen(&old), Side::unseen(&new));

        let text = serde_json::to_string(&found).unwrap();
        assert!(
            text.contains("***") && !text.contains("127.0.0.1"),
            "{text}"
        );
    }

    #[test]
    fn what_is_quarantined_is_told_instead_of_what_is_left_of_it() {
        let broken = |name: &str, effect| Quarantined {
            kind: Kind::Pool,
            name: name.into(),
            effect,
            problems: Vec::new(),
        };
        let mut words = vec![
            "pool \"a\": changed (endpoints)".to_owned(),
            "pool \"ab\": added".to_owned(),
            "pool \"c\": changed (endpoints)".to_owned(),
        ];
        let (old, new) = (
            [broken("c", "it is out"), broken("d", "it is out")],
            [broken("a", "it is out"), broken("d", "it is out")],
        );

        note_quarantine(&old, &new, &mut words);

        assert_eq!(
            words,
            [
                "pool \"ab\": added",
                "pool \"a\": quarantined, it is out",
                "pool \"c\": no longer quarantined"
            ]
        );
    }
}
