//! `include`: further files whose lists are appended and whose plugins are added.
//! It must not know what the keys mean beyond which may come once.
//! Called by `source::files` when the first file has been read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::files::Reader;
use super::{At, Key, Kind, Node};

/// The first file's tree with all that it includes.
pub(super) fn merged(reader: &mut Reader, root: Node) -> Node {
    let Node { kind, at, secret } = root;
    let Kind::Map(mut entries) = kind else {
        return Node { kind, at, secret };
    };
    for (pattern, place) in patterns(&entries) {
        for path in paths(reader, &pattern, place) {
            let tree = reader.tree(&path).and_then(|tree| reader.rooted(tree));
            if let Some(Kind::Map(more)) = tree.map(|tree| tree.kind) {
                merge(reader, &mut entries, more);
            }
        }
    }
    services(reader, &mut entries);
    let kind = Kind::Map(entries);
    Node { kind, at, secret }
}

/// Appends the lists of files that `services_from` names to `services`.
fn services(reader: &mut Reader, entries: &mut Vec<(Key, Node)>) {
    let from = entries.iter().find(|(key, _)| key.name == "services_from");
    let file = from.and_then(|(_, node)| node.child("file"));
    let Some((pattern, at)) = file.and_then(|file| Some((file.text()?.to_owned(), file.at))) else {
        return;
    };
    for path in paths(reader, &pattern, at) {
        let Some(tree) = reader.tree(&path) else {
            continue;
        };
        let key = Key {
            name: "services".into(),
            at: tree.at,
        };
        match &tree.kind {
            Kind::Null => {}
            Kind::Seq(_) => merge(reader, entries, vec![(key, tree)]),
            _ => reader.complain(
                tree.at,
                "is no list of services",
                "begin each with `- name: …`",
            ),
        }
    }
}

/// The first file's tree, with one section that an included file may have.
pub(super) fn only(reader: &mut Reader, root: Node, key: &str) -> Node {
    let Node { kind, at, secret } = root;
    let Kind::Map(mut entries) = kind else {
        return Node { kind, at, secret };
    };
    for (pattern, place) in patterns(&entries) {
        for path in paths(reader, &pattern, place) {
            let tree = reader.tree(&path);
            reader.heed_all();
            if let Some(Kind::Map(more)) = tree.map(|tree| tree.kind) {
                entries.extend(more.into_iter().filter(|(known, _)| known.name == key));
            }
        }
    }
    let kind = Kind::Map(entries);
    Node { kind, at, secret }
}

/// What `include` lists. Anything else than a list of texts is refused later, with the schema.
fn patterns(entries: &[(Key, Node)]) -> Vec<(String, At)> {
    let include = entries.iter().find(|(key, _)| key.name == "include");
    let Some(Kind::Seq(items)) = include.map(|(_, node)| &node.kind) else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| Some((item.text()?.to_owned(), item.at)))
        .collect()
}

fn paths(reader: &mut Reader, pattern: &str, at: At) -> Vec<PathBuf> {
    let path = reader.folder.join(pattern);
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    if folder.to_string_lossy().contains('*') {
        let remedy = "name each folder on a line of its own";
        reader.complain(
            at,
            format!("\"{pattern}\" has `*` in a folder's name"),
            remedy,
        );
        return Vec::new();
    }
    match name {
        Some(name) if name.contains('*') => listed(reader, &folder, &name, pattern, at),
        _ if path.is_file() && reader.knows(&path) => {
            reader.complain(
                at,
                format!("\"{pattern}\" is read already"),
                "remove this line",
            );
            Vec::new()
        }
        _ if path.exists() => vec![path],
        _ => {
            let remedy = "paths are relative to this file; a pattern with `*` may match nothing";
            reader.complain(at, format!("the file \"{pattern}\" does not exist"), remedy);
            Vec::new()
        }
    }
}

fn listed(reader: &mut Reader, folder: &Path, name: &str, pattern: &str, at: At) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(found) = std::fs::read_dir(here) else {
        let fact = format!("the folder of \"{pattern}\" cannot be read");
        reader.complain(at, fact, "paths are relative to this file");
        return Vec::new();
    };
    reader.folders.push(here.to_owned());
    let mut paths: Vec<PathBuf> = found
        .flatten()
        .filter(|entry| fits(name, &entry.file_name().to_string_lossy()))
        .map(|entry| folder.join(entry.file_name()))
        .filter(|path| path.is_file() && !reader.knows(path))
        .collect();
    paths.sort();
    paths
}

/// Whether a file name matches a pattern. As in a shell, `*` does not match a leading dot: editors leave such files.
fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let last = parts.next_back().unwrap_or_default();
    let Some(mut middle) = name
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last))
    else {
        return false;
    };
    for part in parts {
        match middle.split_once(part) {
            Some((_, rest)) => middle = rest,
            None => return false,
        }
    }
    true
}

fn merge(reader: &mut Reader, entries: &mut Vec<(Key, Node)>, more: Vec<(Key, Node)>) {
    for (key, node) in more {
        if key.name == "include" {
            let remedy = "list all files in the first one";
            reader.complain(key.at, "an included file cannot include others", remedy);
            continue;
        }
        match entries.iter_mut().find(|(known, _)| known.name == key.name) {
            None => entries.push((key, node)),
            Some((first, into)) => join(reader, first, into, key, node),
        }
    }
}

fn join(reader: &mut Reader, first: &Key, into: &mut Node, key: Key, node: Node) {
    match (&mut into.kind, node.kind) {
        (Kind::Seq(items), Kind::Seq(more)) => items.extend(more),
        (Kind::Map(known), Kind::Map(more)) if key.name == "plugins" => {
            let places = known.iter().map(|(key, _)| (key.name.clone(), key.at));
            let places: HashMap<String, At> = places.collect();
            for (name, plugin) in more {
                match places.get(&name.name) {
                    None => known.push((name, plugin)),
                    Some(other) => {
                        let fact = format!("a plugin is named \"{}\" twice", name.name);
                        let remedy = format!("the other is at {}", reader.place(*other));
                        reader.complain(name.at, fact, remedy);
                    }
                }
            }
        }
        (Kind::Seq(_), _) => reader.complain(key.at, format!("`{}` is a list", key.name), ""),
        _ => {
            let remedy = format!("it is already at {}", reader.place(first.at));
            reader.complain(key.at, format!("`{}` may be given once", key.name), remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_within_a_visible_name() {
        assert!(fits("*.yaml", "a.yaml"));
        assert!(fits("r*-*.yaml", "r1-x.yaml"));
        assert!(!fits("*.yaml", ".a.yaml"));
        assert!(!fits("a*a", "a"));
        assert!(!fits("*b*c", "cb"));
    }
}
