use std::fs;

use super::*;

fn refusal(text: &str) -> String {
    let report = Document::read_text("gw.yaml", text).expect_err("must be refused");
    report.to_string()
}

fn place(document: &Document, path: &str) -> (usize, usize) {
    let place = document.place(path).expect("a place");
    (place.line, place.column)
}

#[test]
fn deep_nesting_in_any_style_is_refused_quickly() {
    for (text, levels) in [
        ("[", 100_000),
        ("{a: ", 100_000),
        ("- ", 100_000),
        ("? ", 100_000),
        ("[[]: ", 50_000),
    ] {
        let text = refusal(&text.repeat(levels));
        assert!(
            text.contains("deeper than 64") || text.contains("not YAML"),
            "{text}"
        );
    }
    let stairs: String = (0..2000)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    assert!(refusal(&stairs).contains("nested deeper than 64 levels"));
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(refusal(&text).contains("aliases expand to more than 10000 values"));
    assert!(refusal("a: &a [*a]").contains("inside its own anchor"));
}

#[test]
fn aliases_cannot_pass_the_bound_on_depth() {
    let mut text = format!("a0: &a0 {}x{}\n", "[".repeat(40), "]".repeat(40));
    for level in 1..9 {
        let (open, close) = ("[".repeat(40), "]".repeat(40));
        text.push_str(&format!(
            "a{level}: &a{level} {open}*a{}{close}\n",
            level - 1
        ));
    }
    assert!(refusal(&text).contains("nested deeper than 64 levels"));
}

#[test]
fn large_files_and_texts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.yaml");
    fs::File::create(&path)
        .unwrap()
        .set_len((8 << 20) + 1)
        .unwrap();

    let report = Document::read(&path).unwrap_err().to_string();

    assert!(report.ends_with("is larger than 8 MiB"), "{report}");
    assert!(refusal(&" ".repeat((8 << 20) + 1)).contains("larger than 8 MiB"));
    assert!(
        refusal(&format!("a: [{}]", "1,".repeat(1_100_000))).contains("more than 1000000 values")
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gw.yaml");
    fs::write(&path, b"a: 1\nb: \xff\n").unwrap();

    let report = Document::read(&path).unwrap_err().to_string();

    assert!(report.contains("gw.yaml:2:4: is not UTF-8"), "{report}");
}

#[test]
fn what_configurations_do_not_need_is_refused() {
    assert_eq!(
        refusal("a: 1\nb: 2\na: 3\n"),
        "gw.yaml:3:1: the key \"a\" is given twice\n  help: it is already at gw.yaml:1:1"
    );
    assert!(refusal("a: 1\n---\nb: 2\n").contains("gw.yaml:2:1: a second document"));
    assert!(refusal("1: x").contains("gw.yaml:1:1: the key 1 is not text"));
    assert!(refusal("[a]: x").contains("a key must be text"));
    assert!(refusal("a: &a {b: 1}\nc:\n  <<: *a\n").contains("gw.yaml:3:3: merge keys"));
    assert!(refusal("a: !!str 1").contains("tags are not used"));
    assert!(refusal("a:\n\tb: 1\n").contains("gw.yaml:2:"));
    assert!(refusal("a: [1\nb: 2").contains("is not YAML"));
    assert!(refusal("- a").contains("a configuration is keys with values"));
    assert!(refusal("a: *b").contains("gw.yaml:1:4: is not YAML"));
}

#[test]
fn places_are_those_of_values() {
    let text = "routes:\n  - name: a\n    rules:\n      - plugins:\n          - kind: x\n            config: {rate: 5}\nplugins:\n  my.login:\n    config: 1\n";
    let document = Document::read_text("gw.yaml", text).unwrap();

    assert_eq!(place(&document, "routes[0]"), (2, 5));
    assert_eq!(place(&document, "routes[0].name"), (2, 11));
    assert_eq!(
        place(&document, "routes[0].rules[0].plugins[0].config.rate"),
        (6, 28)
    );
    assert_eq!(
        place(&document, "routes[0].rules[0].plugins[0].config.burst"),
        (6, 21)
    );
    assert_eq!(place(&document, "routes[7].name"), (2, 3));
    assert_eq!(place(&document, "plugins.my.login.config"), (9, 13));
    assert_eq!(place(&document, ""), (1, 1));
}

#[test]
fn variables_and_files_are_put_in() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret.txt"), "hunter2\n").unwrap();
    let text = "n: ${env:WINDROSE_UNSET:-8080}\nt: \"${env:WINDROSE_UNSET:-8080}\"\nm: x${env:WINDROSE_UNSET:-}y\nf: ${file:secret.txt}\ne: $${env:A} ${other}\nk: ${env:WINDROSE_UNSET_KEY:-abc}\n";
    fs::write(folder.path().join("gw.yaml"), text).unwrap();

    let document = Document::read(&folder.path().join("gw.yaml")).unwrap();

    let value = document.value();
    assert_eq!(value["n"], Value::from(8080));
    assert_eq!(value["t"], Value::from("8080"));
    assert_eq!(value["m"], Value::from("xy"));
    assert_eq!(value["f"], Value::from("hunter2"));
    assert_eq!(value["e"], Value::from("${env:A} ${other}"));
    let shown = document.redacted();
    assert_eq!(shown["f"], Value::from("[redacted]"));
    assert_eq!(shown["k"], Value::from("[redacted]"));
    assert_eq!(shown["n"], Value::from(8080));
    assert_eq!(document.files().len(), 2);
    let whole = [text.as_bytes(), b"hunter2\n"].concat();
    let sum: String = openssl::sha::sha256(&whole)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(document.digest(), sum);
}

#[test]
fn a_variable_that_is_not_set_is_an_error_at_its_place() {
    let report = refusal("a:\n  b: ${env:WINDROSE_UNSET}\nc: ${file:nowhere.txt}\nd: ${env:A\n");
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(
        lines[0],
        "gw.yaml:2:6: the environment variable WINDROSE_UNSET is not set"
    );
    assert_eq!(
        lines[2],
        "gw.yaml:3:4: the file \"nowhere.txt\" does not exist"
    );
    assert!(
        lines[3].starts_with("gw.yaml:4:4: `${env:` has no closing"),
        "{report}"
    );
}

#[test]
fn included_lists_are_appended_and_plugins_added() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "gw.yaml",
        "include: [\"r-*.yaml\", extra.yaml]\npools: [1]\nplugins: {a: 1}\n",
    );
    write("r-2.yaml", "pools: [3]\n");
    write("r-1.yaml", "pools: [2]\nplugins: {b: 2}\n");
    write("extra.yaml", "admin: {}\n");

    let document = Document::read(&folder.path().join("gw.yaml")).unwrap();

    let value = document.value();
    assert_eq!(value["pools"], Value::from(vec![1, 2, 3]));
    assert_eq!(value["plugins"]["b"], Value::from(2));
    assert!(document
        .place("pools[2]")
        .unwrap()
        .file
        .ends_with("r-2.yaml"));
    assert_eq!(document.files().len(), 4);
}

#[test]
fn includes_that_collide_are_refused_with_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "gw.yaml",
        "include: [a.yaml, nowhere.yaml]\nadmin: {}\nplugins: {a: 1}\n",
    );
    write("a.yaml", "admin: {}\nplugins: {a: 1}\ninclude: [b.yaml]\n");

    let report = Document::read(&folder.path().join("gw.yaml"))
        .unwrap_err()
        .to_string();

    assert!(
        report.contains("a.yaml:1:1: `admin` may be given once"),
        "{report}"
    );
    assert!(
        report.contains("a.yaml:2:11: a plugin is named \"a\" twice"),
        "{report}"
    );
    assert!(
        report.contains("a.yaml:3:1: an included file cannot include others"),
        "{report}"
    );
    assert!(
        report.contains("gw.yaml:1:19: the file \"nowhere.yaml\" does not exist"),
        "{report}"
    );
}
