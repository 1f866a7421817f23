//! What differs between two configurations, object by object and key by key.
//! It must not know what runs, and must not show secrets.
//! Printed by `windrose plan` and `windrose reload`, and shown on the admin address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_yaml::Value;

use crate::config::schema::Config;
use crate::config::source;
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

/// A value that differs. Secrets read `***`, on both sides.
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

/// Every difference between an old and a new configuration.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut found = Vec::new();
    let listeners = |config: &Config| by_name(&config.listeners, |one| &one.name);
    objects("listener", listeners(old), listeners(new), &mut found);
    let routes = |config: &Config| by_name(&config.routes, |one| &one.name);
    objects("route", routes(old), routes(new), &mut found);
    let pools = |config: &Config| by_name(&config.pools, |one| &one.name);
    objects("pool", pools(old), pools(new), &mut found);
    let plugins = |config: &Config| {
        let plugins = config.plugins.iter();
        plugins
            .map(|(name, one)| (name.clone(), value(one)))
            .collect()
    };
    objects("plugin", plugins(old), plugins(new), &mut found);
    let names = |config: &Config| -> Vec<String> {
        config
            .routes
            .iter()
            .map(|route| route.name.clone())
            .collect()
    };
    let (before, after) = (names(old), names(new));
    let same = |one: &[String], other: &[String]| {
        let kept = one.iter().filter(|name| other.contains(name));
        kept.cloned().collect::<Vec<_>>()
    };
    if same(&before, &after) != same(&after, &before) {
        found.push(section("routes", What::Reordered, Vec::new()));
    }
    let sections = [
        ("on_invalid", value(&old.on_invalid), value(&new.on_invalid)),
        ("observe", value(&old.observe), value(&new.observe)),
        ("tests", value(&old.tests), value(&new.tests)),
        ("server", value(&old.server), value(&new.server)),
        ("admin", value(&old.admin), value(&new.admin)),
    ];
    for (kind, before, after) in sections {
        if before != after {
            found.push(section(kind, What::Changed, details(&before, &after)));
        }
    }
    found
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
    }
}

type Objects = BTreeMap<String, Value>;

fn by_name<T: Serialize>(all: &[T], name: impl Fn(&T) -> &String) -> Objects {
    all.iter()
        .map(|one| (name(one).clone(), value(one)))
        .collect()
}

/// As a reader writes it: `{header: x}`, not `!header x`.
fn value(of: &impl Serialize) -> Value {
    serde_yaml::with::singleton_map_recursive::serialize(of, serde_yaml::value::Serializer)
        .unwrap_or_default()
}

fn objects(kind: &'static str, old: Objects, new: Objects, found: &mut Vec<Change>) {
    let change = |name: &String, what, details| Change {
        kind,
        name: name.clone(),
        what,
        details,
    };
    for (name, after) in &new {
        match old.get(name) {
            None => found.push(change(name, What::Added, Vec::new())),
            Some(before) if before != after => {
                found.push(change(name, What::Changed, details(before, after)));
            }
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    found.extend(gone.map(|name| change(name, What::Removed, Vec::new())));
}

/// Details of one object that are told.
const MOST_DETAILS: usize = 100;

fn details(old: &Value, new: &Value) -> Vec<Detail> {
    let hidden = |value: &Value| {
        let mut value = value.clone();
        source::redact(&mut value, None);
        value
    };
    let mut found = Vec::new();
    let pair = Pair {
        old: Some(old),
        new: Some(new),
        old_shown: Some(&hidden(old)),
        new_shown: Some(&hidden(new)),
    };
    differ("", pair, &mut found);
    found.truncate(MOST_DETAILS);
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
        let found = changes(&config(old), &config(new));
        found.iter().map(ToString::to_string).collect()
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

        let found = changes(&config(old), &config(new));

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

        let found = changes(
            &config(&users("first-secret")),
            &config(&users("second-secret")),
        );

        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(found.len(), 1);
        assert!(!text.contains("secret"), "{text}");
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
