//! What differs between two configurations, in words, object by object.
//! It must not know what runs.
//! Printed by `windrose reload` and shown on the admin address.

use std::collections::BTreeMap;

use serde::Serialize;

use super::schema::Config;
use crate::snapshot::quarantine::Quarantined;

/// Every difference between what runs and what is new.
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut words = Vec::new();
    objects(
        "listener",
        by_name(&old.listeners, |one| &one.name),
        by_name(&new.listeners, |one| &one.name),
        &mut words,
    );
    objects(
        "route",
        by_name(&old.routes, |one| &one.name),
        by_name(&new.routes, |one| &one.name),
        &mut words,
    );
    objects(
        "pool",
        by_name(&old.pools, |one| &one.name),
        by_name(&new.pools, |one| &one.name),
        &mut words,
    );
    let plugins = |config: &Config| {
        config
            .plugins
            .iter()
            .map(|(name, one)| (name.clone(), text(one)))
            .collect()
    };
    objects("plugin", plugins(old), plugins(new), &mut words);
    let order = |config: &Config| {
        config
            .routes
            .iter()
            .map(|route| route.name.clone())
            .collect::<Vec<_>>()
    };
    if words.is_empty() && order(old) != order(new) {
        words.push("routes: order changed".into());
    }
    if old.on_invalid != new.on_invalid {
        words.push(format!("on_invalid: now {}", text(&new.on_invalid).trim()));
    }
    if text(&old.observe) != text(&new.observe) {
        words.push("observe: changed".into());
    }
    if text(&old.tests) != text(&new.tests) {
        words.push(format!("tests: changed, {} pass", new.tests.len()));
    }
    if old.server != new.server {
        words.push("server: changed; takes effect with `windrose upgrade` or a restart".into());
    }
    if old.admin != new.admin {
        words.push("admin: changed; takes effect with `windrose upgrade` or a restart".into());
    }
    words
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

fn by_name<T: Serialize>(all: &[T], name: impl Fn(&T) -> &String) -> BTreeMap<String, String> {
    all.iter()
        .map(|one| (name(one).clone(), text(one)))
        .collect()
}

fn text(value: &impl Serialize) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

fn objects(
    kind: &str,
    old: BTreeMap<String, String>,
    new: BTreeMap<String, String>,
    words: &mut Vec<String>,
) {
    for (name, text) in &new {
        match old.get(name) {
            None => words.push(format!("{kind} \"{name}\": added")),
            Some(before) if before != text => {
                words.push(format!(
                    "{kind} \"{name}\": changed ({})",
                    keys(before, text).join(", ")
                ));
            }
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    words.extend(gone.map(|name| format!("{kind} \"{name}\": removed")));
}

/// The keys of an object that differ.
fn keys(old: &str, new: &str) -> Vec<String> {
    let parse = |text: &str| serde_yaml::from_str::<serde_yaml::Mapping>(text).unwrap_or_default();
    let (old, new) = (parse(old), parse(new));
    let all: std::collections::BTreeSet<String> = old
        .keys()
        .chain(new.keys())
        .filter_map(|key| key.as_str().map(str::to_owned))
        .collect();
    all.into_iter()
        .filter(|key| old.get(key.as_str()) != new.get(key.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::quarantine::Kind;

    fn config(text: &str) -> Config {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn differences_are_told_object_by_object() {
        let old = config(
            "pools: [{name: a, endpoints: ['127.0.0.1:1']}, {name: b, endpoints: ['127.0.0.1:1']}]",
        );
        let new = config(
            "pools: [{name: a, endpoints: ['127.0.0.1:2']}, {name: c, endpoints: ['127.0.0.1:1']}]",
        );

        assert_eq!(
            changes(&old, &new),
            [
                "pool \"a\": changed (endpoints)",
                "pool \"c\": added",
                "pool \"b\": removed"
            ]
        );
        assert!(changes(&new, &new).is_empty());
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
