//! Values that may have one of several shapes: words, tagged enums, text or keys.
//! It must not know which enum it is; it finds the shape that was meant and speaks about that one.
//! Called by `check` for `oneOf` and `anyOf`.

use serde_json::Value;

use super::describe::{either, expected, found, list, quoted};
use super::{branches, fits_type, guess, is_word, words, Walk};
use crate::config::report::Report;
use crate::config::source::{Key, Kind, Node};

impl<'a> Walk<'a> {
    pub(super) fn alternatives<'s>(
        &'s self,
        node: &Node,
        schemas: impl Iterator<Item = &'s Value>,
        path: &str,
        out: &mut Report,
    ) {
        let mut all = Vec::new();
        for schema in schemas {
            self.flatten(schema, &mut all, 0);
        }
        let known: Vec<&str> = all
            .iter()
            .filter_map(|choice| words(choice.resolved))
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let tags: Vec<(&str, &Choice)> = all
            .iter()
            .filter_map(|choice| Some((tag(choice.resolved)?, choice)))
            .collect();
        let mut all_words = all.iter().filter_map(|choice| words(choice.resolved));
        if all_words.any(|some| some.iter().any(|word| is_word(node, word))) {
            return;
        }
        match &node.kind {
            Kind::Map(entries) if !tags.is_empty() => {
                self.tagged(node, entries, &tags, path, out);
            }
            _ => self.nearest(node, &all, &known, &tags, path, out),
        }
    }

    /// Tries the shapes of the right type and reports about the one that comes closest.
    fn nearest(
        &self,
        node: &Node,
        all: &[Choice],
        known: &[&str],
        tags: &[(&str, &Choice)],
        path: &str,
        out: &mut Report,
    ) {
        let mut best: Option<Report> = None;
        for choice in all
            .iter()
            .filter(|choice| fits_type(node, choice.resolved) && words(choice.resolved).is_none())
        {
            let mut trial = Report::new();
            self.node(node, choice.written, path, &mut trial);
            if trial.is_empty() {
                return;
            }
            let fewest = best.as_ref().map(|best| best.findings().len());
            if fewest.is_none_or(|fewest| trial.findings().len() < fewest) {
                best = Some(trial);
            }
        }
        if let Some(best) = best {
            return out.absorb(best);
        }
        if node.kind == Kind::Null && all.iter().any(|choice| is_null(choice.resolved)) {
            return;
        }
        if !known.is_empty() && tags.is_empty() {
            return self.unknown_word(node, known, path, out);
        }
        let Some(text) = node.text().filter(|_| !tags.is_empty()) else {
            let shapes = all.iter().filter(|choice| !is_null(choice.resolved));
            let shapes = either(shapes.map(|choice| expected(choice.resolved)));
            out.error(
                path,
                format!("expected {shapes}, found {}", found(node)),
                "",
            );
            return;
        };
        self.untagged(node, text, known, tags, path, out);
    }

    /// Text where a word or a key with a value was expected.
    fn untagged(
        &self,
        node: &Node,
        text: &str,
        known: &[&str],
        tags: &[(&str, &Choice)],
        path: &str,
        out: &mut Report,
    ) {
        let names: Vec<&str> = tags.iter().map(|(name, _)| *name).collect();
        let shapes: Vec<String> = names
            .iter()
            .map(|name| format!("`{{{name}: …}}`"))
            .collect();
        let mut remedy = format!("write one of {}", shapes.join(", "));
        if !known.is_empty() {
            remedy = format!("{remedy}, or a word: {}", list(known));
        }
        let fact = if names.contains(&text) {
            format!("{} needs a value", quoted(text))
        } else if known.is_empty() {
            format!("expected keys with values, found {}", found(node))
        } else if node.secret {
            "a secret value is not known here".to_owned()
        } else {
            format!("{} is not known here", quoted(text))
        };
        out.error(path, fact, remedy);
    }

    /// A map where exactly one key says which shape it is.
    fn tagged(
        &self,
        node: &Node,
        entries: &[(Key, Node)],
        tags: &[(&str, &Choice)],
        path: &str,
        out: &mut Report,
    ) {
        let names: Vec<&str> = tags.iter().map(|(name, _)| *name).collect();
        let chosen = |name: &str| tags.iter().find(|(tag, _)| *tag == name);
        let mut several = 0;
        for (key, _) in entries {
            match chosen(&key.name) {
                Some(_) => several += 1,
                None => {
                    let fact = format!("unknown key {}", quoted(&key.name));
                    let place = self.document.place_of(key.at);
                    out.error_at(place, path, fact, guess(&key.name, &names));
                }
            }
        }
        match (entries, several) {
            ([], _) => out.error(path, format!("expected one of {}", list(&names)), ""),
            ([(key, _)], 1) => {
                if let Some((_, choice)) = chosen(&key.name) {
                    self.node(node, choice.written, path, out);
                }
            }
            (_, 2..) => out.error(
                path,
                format!("expected one key, found {several}"),
                format!("keep one of {}", list(&names)),
            ),
            _ => {}
        }
    }

    /// Follows references and opens nested alternatives.
    fn flatten<'s>(&'s self, schema: &'s Value, all: &mut Vec<Choice<'s>>, depth: usize) {
        let mut resolved = schema;
        // A reference to itself would not end.
        for _ in 0..8 {
            let name = resolved.get("$ref").and_then(Value::as_str);
            match name.and_then(|name| self.root.pointer(name.trim_start_matches('#'))) {
                Some(target) => resolved = target,
                None => break,
            }
        }
        let nested = ["oneOf", "anyOf"]
            .into_iter()
            .find(|word| resolved.get(word).is_some() && resolved.get("properties").is_none());
        match nested {
            Some(word) if depth < 8 => {
                for branch in branches(resolved, word) {
                    self.flatten(branch, all, depth + 1);
                }
            }
            _ => all.push(Choice {
                written: schema,
                resolved,
            }),
        }
    }
}

struct Choice<'s> {
    /// As it stands, so that a reference to a plugin is still seen as one.
    written: &'s Value,
    resolved: &'s Value,
}

/// The key of an externally tagged shape: its only property, and required.
fn tag(schema: &Value) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    let required = schema.get("required")?.as_array()?;
    let (name, _) = properties.iter().next()?;
    let is_tag = properties.len() == 1
        && required.len() == 1
        && required[0] == name.as_str()
        && schema.get("additionalProperties") == Some(&Value::Bool(false));
    is_tag.then_some(name)
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|name| name == "null")
}
