//! `windrose plugin new`: what it writes, what it refuses, and that the written crate is a program that knows its plugin.
//! It must not know the template's text beyond its names.
//! Part of the test binary.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Writes a crate in a folder.
fn written(folder: &Path) -> Output {
    let path = folder.to_str().unwrap();
    run(&[
        "plugin",
        "new",
        "shop_hours",
        "--path",
        path,
        "--source",
        ROOT,
    ])
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_crate_is_written_once_and_never_over_another() {
    let temp = TempDir::new().unwrap();
    let folder = temp.path().join("shop-hours");

    let (first, second) = (told(&written(&folder)), told(&written(&folder)));

    assert_eq!(first.0, Some(0), "{}", first.1);
    assert!(first.1.contains("cargo test"), "{}", first.1);
    for file in [
        "Cargo.toml",
        "README.md",
        "windrose.yaml",
        ".gitignore",
        "src/lib.rs",
        "src/main.rs",
        "benches/shop_hours.rs",
    ] {
        let text = fs::read_to_string(folder.join(file)).expect(file);
        assert!(!text.contains("{{"), "{file}: {text}");
    }
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains("name = \"shop-hours\"") && manifest.contains("plugins\" }"),
        "{manifest}"
    );
    assert_eq!(second.0, Some(2));
    assert!(second.1.contains("is there already"), "{}", second.1);
}

#[test]
fn names_that_cannot_be_and_sources_that_are_none_are_refused() {
    let temp = TempDir::new().unwrap();
    let folder = temp.path().join("new");
    let path = folder.to_str().unwrap();
    for (name, why) in [
        ("Shop", "cannot be a plugin's kind"),
        ("a__b", "cannot be a plugin's kind"),
        ("../up", "cannot be a plugin's kind"),
        ("rate_limit", "there is a plugin of kind"),
        ("self", "cannot be the name of a crate"),
    ] {
        let (code, text) = told(&run(&["plugin", "new", name, "--path", path]));
        assert_eq!(code, Some(2), "{name}");
        assert!(text.contains(why) && text.contains("help: "), "{text}");
    }
    let (code, text) = told(&run(&[
        "plugin", "new", "mine", "--path", path, "--source", path,
    ]));
    assert_eq!(code, Some(2));
    assert!(text.contains("holds no source of Windrose"), "{text}");
    assert!(!folder.exists());
}

#[test]
#[ignore = "compiles the whole proxy once more, which takes minutes: a step of its own in .ci/run"]
fn the_written_crate_passes_its_tests_and_is_a_program_that_knows_its_plugin() {
    let temp = TempDir::new().unwrap();
    let folder = temp.path().join("shop-hours");
    assert!(written(&folder).status.success());
    // The same versions as here, which are there without a network.
    fs::copy(
        Path::new(ROOT).join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .unwrap();
    // What others wrote is compiled here already, with the same settings; a folder of its own would take minutes more.
    let target = Path::new(ROOT).join("target");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .args(arguments)
            .arg("--offline")
            .current_dir(&folder);
        command.env("CARGO_TARGET_DIR", &target);
        command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        told(&command.output().unwrap())
    };
    for arguments in [&["test"][..], &["build", "--benches"], &["build"]] {
        let (code, text) = cargo(arguments);
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("warning: unused"), "{text}");
    }

    let program = target.join("debug/shop-hours");
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        told(
            &command
                .args(arguments)
                .current_dir(&folder)
                .output()
                .unwrap(),
        )
    };
    let (code, text) = ask(&["check", "-c", "windrose.yaml"]);
    assert!(code == Some(0) && text.contains("2 tests pass"), "{text}");
    let (code, text) = ask(&[
        "explain",
        "GET",
        "http://127.0.0.1:8080/",
        "-c",
        "windrose.yaml",
    ]);
    assert!(
        code == Some(1) && text.contains("shop_hours.missing"),
        "{text}"
    );
    let (_, text) = ask(&["schema"]);
    assert!(text.contains("plugin_shop_hours"), "no schema");
    let (_, text) = ask(&["plugins", "shop_hours"]);
    assert!(text.contains("field: text (required)"), "{text}");
    let (_, text) = ask(&["why", "shop_hours.missing"]);
    assert!(text.contains("Send the field"), "{text}");
    misspell(&folder.join("windrose.yaml"));
    let (code, text) = ask(&["check", "-c", "windrose.yaml"]);
    assert!(
        code == Some(1) && text.contains("did you mean \"field\""),
        "{text}"
    );
}

/// Makes a setting's name wrong.
fn misspell(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, text.replace("field:", "feild:")).unwrap();
}
