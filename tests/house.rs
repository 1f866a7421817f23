//! The rules of the house: who may import whom, how long files are, what every file begins with.
//! It must not run the proxy; it reads the source.
//! Part of the test binary.

use std::fs;
use std::path::{Path, PathBuf};

use windrose_plugins::contract::builtin_causes;

/// Which modules of ours a module may name.
const LAYERS: &[(&str, &[&str])] = &[
    ("observe", &[]),
    ("snapshot", &["observe"]),
    ("decide", &["snapshot", "observe"]),
    ("explain", &["decide", "snapshot", "observe"]),
    ("ca", &["snapshot", "observe"]),
    ("config", &["explain", "decide", "snapshot", "observe"]),
    (
        "control",
        &["ca", "config", "explain", "snapshot", "observe"],
    ),
    ("proxy", &["decide", "snapshot", "observe"]),
];

/// Causes that no black-box test provokes, and why.
const NOT_PROVOKED: &[(&str, &str)] = &[("internal", "says that there is a bug")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let is_hidden = path.ends_with("target") || path.ends_with("fuzz");
            if path.is_dir() && !is_hidden {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// Whether a file holds only tests.
fn is_test(path: &Path) -> bool {
    path.starts_with("tests")
        || path.ends_with("tests.rs")
        || path.iter().any(|part| part == "tests")
}

/// The part of a file before its tests.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn modules_name_only_the_layers_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let module = path
            .iter()
            .nth(1)
            .and_then(|part| part.to_str())
            .unwrap_or("");
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for part in text.split("crate::").skip(1) {
            let named = part
                .split(|c: char| !c.is_ascii_lowercase() && c != '_')
                .next();
            let named = named.unwrap_or("");
            let is_layer =
                named == "app" || named == "cli" || LAYERS.iter().any(|(name, _)| *name == named);
            if is_layer && named != module && !allowed.contains(&named) {
                wrong.push(format!("{} names {named}", path.display()));
            }
        }
    }

    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn plugins_never_see_the_proxy() {
    let inside = |path: &Path| !path.starts_with("plugins/examples");
    let plugins = sources("plugins").into_iter();
    for (path, text) in plugins.filter(|(path, _)| inside(path)) {
        let names = [
            "windrose::",
            "pingora_core::",
            "pingora_proxy::",
            "pingora::",
        ];
        let mut code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let sees = code.any(|line| names.iter().any(|name| line.contains(name)));
        assert!(!sees, "{}", path.display());
    }
    let manifest = fs::read_to_string(root().join("plugins/Cargo.toml")).unwrap();
    assert!(!manifest.contains("windrose = "), "plugins/Cargo.toml");
}

#[test]
fn no_file_is_over_its_wall() {
    let all = ["src", "plugins", "tests"].map(sources).concat();
    let long = all.iter().filter_map(|(path, text)| {
        let lines = code(text).lines().count();
        // Lists of cases are not read from end to end; their wall is higher.
        let wall = if is_test(path) { 800 } else { 500 };
        (lines > wall).then(|| format!("{}: {lines} lines", path.display()))
    });

    assert_eq!(long.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn every_file_says_first_what_it_is() {
    let all = ["src", "plugins", "tests"].map(sources).concat();
    // Unit tests that moved to a file of their own belong to the file they test.
    let own = |path: &Path| path.starts_with("tests") || !is_test(path);
    let mute = all
        .iter()
        .filter(|(path, text)| own(path) && !text.starts_with("//! "));

    let mute: Vec<_> = mute.map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(mute, Vec::<String>::new());
}

#[test]
fn tests_wait_for_states_with_deadlines() {
    let asleep = ["sleep", "("].concat();
    let all = ["src", "plugins", "tests"].map(sources).concat();
    let tests = all.iter().filter(|(path, _)| is_test(path));

    let sleeping = tests.filter(|(_, text)| text.contains(&asleep));
    let sleeping: Vec<_> = sleeping
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(sleeping, Vec::<String>::new());
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let call = [".unwrap", "()"].concat();
    let all = ["src", "plugins"].map(sources).concat();
    let code = all.iter().filter(|(path, _)| !is_test(path));

    let wrong = code.filter(|(_, text)| self::code(text).contains(&call));
    let wrong: Vec<_> = wrong.map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

/// The process's own connections are marked and known again in one place. Commands that people run are other processes.
#[test]
fn the_process_connects_in_one_place() {
    let calls = [
        ["TcpStream::", "connect"].concat(),
        ["TcpSocket::", "new"].concat(),
    ];
    let is_command = |path: &Path| path.starts_with("src/cli");
    let code = sources("src").into_iter();
    let code = code.filter(|(path, _)| !is_test(path) && !is_command(path));

    let wild = code.filter(|(_, text)| calls.iter().any(|call| self::code(text).contains(call)));
    let wild: Vec<_> = wild.map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(wild, ["src/snapshot/own.rs"]);
}

#[test]
fn only_one_file_is_unsafe() {
    let marks = [
        ["unsafe", " {"].concat(),
        ["unsafe", " fn"].concat(),
        ["unsafe", " impl"].concat(),
    ];
    let all = ["src", "plugins", "tests"].map(sources).concat();

    let wild = all
        .iter()
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)));
    let wild: Vec<_> = wild.map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(wild, ["src/control/inherit.rs"]);
}

#[test]
fn plugin_kinds_are_sorted_unique_and_snake_case() {
    let kinds: Vec<&str> = windrose_plugins::BUILTIN
        .iter()
        .map(|plugin| plugin.kind)
        .collect();
    let mut sorted = kinds.clone();
    sorted.sort_unstable();
    sorted.dedup();

    assert_eq!(kinds, sorted);
    for kind in kinds {
        assert!(
            kind.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{kind}"
        );
    }
}

#[test]
fn causes_are_distinct() {
    let of_plugins = windrose_plugins::BUILTIN
        .iter()
        .flat_map(|plugin| plugin.causes.iter().copied());
    let mut names: Vec<&str> = builtin_causes()
        .iter()
        .copied()
        .chain(of_plugins)
        .map(|cause| cause.name)
        .collect();
    let all = names.len();

    names.sort_unstable();
    names.dedup();

    assert_eq!(names.len(), all);
}

#[test]
fn every_cause_is_provoked_by_a_test() {
    let tests: String = sources("tests")
        .into_iter()
        .filter(|(path, _)| !path.ends_with("house.rs"))
        .map(|(_, text)| text)
        .collect();
    let named = |name: &str| tests.contains(&format!("\"{name}\""));

    let missing = builtin_causes().iter().map(|cause| cause.name);
    let missing = missing
        .filter(|name| !named(name) && !NOT_PROVOKED.iter().any(|(listed, _)| listed == name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());

    let idle = NOT_PROVOKED.iter().filter(|(name, _)| named(name));
    assert_eq!(
        idle.count(),
        0,
        "a listed cause has a test now: take it off the list"
    );
}
