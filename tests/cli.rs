//! The command line: checking, showing, listing, and how mistakes are told.
//! It must not know what a configuration means beyond what is asserted.
//! Part of the test binary.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{run, Authority, Proxy};

/// Runs a command on a configuration.
fn on(command: &[&str], yaml: &str) -> (Output, String, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, yaml).unwrap();
    told(run(&[command, &["-c", path.to_str().unwrap()]].concat()))
}

fn told(output: Output) -> (Output, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

const GOOD: &str = "listeners:\n- name: web\n  bind: 127.0.0.1:0\nroutes:\n- name: all\n  rules:\n  - respond: {status: 200}\n";

#[test]
fn a_good_configuration_passes() {
    for command in [&["check"][..], &["-t"]] {
        let (output, out, err) = on(command, GOOD);

        assert_eq!(output.status.code(), Some(0), "{err}");
        assert!(out.contains("ok"), "{out}");
    }
}

#[test]
fn problems_come_all_at_once_with_place_fact_and_remedy() {
    let (output, _, err) = on(
        &["check"],
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\nroutes:\n- name: all\n  rules:\n  - pool: wbe\n- name: all\n  rules: []\npools:\n- name: web\n  endpoints: ['127.0.0.1:1']\n",
    );

    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("gateway.yaml:7:"), "{err}");
    assert!(
        err.contains("routes[0].rules[0].pool: no pool is named \"wbe\""),
        "{err}"
    );
    assert!(
        err.contains("help: ") && err.contains("did you mean \"web\"?"),
        "{err}"
    );
    assert!(err.contains("routes[1]"), "the second problem too: {err}");
}

#[test]
fn errors_of_every_class_come_in_one_go() {
    let yaml = "\
listeners:
- name: web
  bind: 127.0.0.1:0
  plugins:
  - {kind: ip_filter, config: {allow: [10.0.0.0/80]}}
- name: web
  bnid: 127.0.0.1:0
  bind: 127.0.0.1:0
pools:
- name: app
  endpoints: ['127.0.0.1:1']
- name: typed
  endpoints: 3
routes:
- name: all
  rules:
  - pool: wbe
    plugins:
    - {kind: rate_limt}
    - {kind: rate_limit, config: {key: [route], rate: 0}}
    - limited
  - pool: typed
    match: [{method: GET}]
    retry: {methods: [GET], attempts: 100}
plugins:
  limited: {kind: rate_limit, config: {key: [route], rate: 1, store: shared}}
  counted: {kind: rate_limit, config: {key: [route], rate: 1, per: soon}}
redis:
- {name: shared, url: 'http://a'}
tests:
- request: {url: 'http://a/'}
  expect: {route: al}
";

    let (output, _, err) = on(&["check"], yaml);

    assert_eq!(output.status.code(), Some(1));
    let folder = err.split("gateway.yaml:").next().unwrap().to_owned();
    let places: Vec<&str> = err
        .lines()
        .filter_map(|line| line.strip_prefix(&folder)?.strip_prefix("gateway.yaml:"))
        .collect();
    let are_right = places
        .iter()
        .zip(PLACES)
        .all(|(found, place)| found.starts_with(place));
    assert!(are_right && places.len() == PLACES.len(), "{err}");
}

/// In the order of the text.
const PLACES: [&str; 12] = [
    "5:40: listeners[0].plugins[0].config.allow[0]: ",
    "7:3: listeners[1]: unknown key \"bnid\"",
    "10:3: warning: pools[0]: [lonely_pool]",
    "13:14: pools[1].endpoints: expected",
    "17:11: routes[0].rules[0].pool: no pool is named \"wbe\"",
    "19:14: routes[0].rules[0].plugins[0].kind: no plugin",
    "20:55: routes[0].rules[0].plugins[1].config.rate: ",
    "24:39: routes[0].rules[1].retry.attempts: ",
    "27:68: plugins.counted.config.per: ",
    "29:23: redis[0].url: ",
    "32:19: tests[0].expect.route: no route is named \"al\"",
    " 10 errors, 1 warning",
];

#[test]
fn a_key_that_is_not_known_is_told_with_the_one_meant() {
    let (output, _, err) = on(&["check"], "listeners:\n- name: web\n  bnid: 127.0.0.1:0\n");

    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.contains("gateway.yaml:3:3") && err.contains("bind"),
        "{err}"
    );
}

#[test]
fn settings_of_a_plugin_are_checked_in_place() {
    let (output, _, err) = on(
        &["check"],
        &GOOD.replace(
            "  rules:",
            "  plugins:\n  - kind: rate_limit\n    config:\n      rate: 0\n  rules:",
        ),
    );

    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.contains("gateway.yaml:9:") && err.contains("routes[0].plugins[0].config.rate"),
        "{err}"
    );
}

#[test]
fn a_failing_test_of_the_configuration_fails_the_check() {
    let test = "tests:\n- request: {url: 'http://a/'}\n  expect: {status: 201}\n";

    let (output, _, err) = on(&["check"], &format!("{GOOD}{test}"));

    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.contains("tests[0]") && err.contains("201") && err.contains("200"),
        "{err}"
    );
}

#[test]
fn findings_come_as_json_too() {
    let (output, out, _) = on(&["check", "--json"], "listeners: 3\n");

    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["findings"][0]["severity"], "error");
    assert_eq!(found["findings"][0]["place"]["line"], 1);
}

#[test]
fn a_configuration_that_is_not_there_is_told_by_name() {
    let (output, _, err) = told(run(&["check", "-c", "nowhere.yaml"]));

    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("nowhere.yaml"), "{err}");
}

#[test]
fn hostile_yaml_is_refused_quickly() {
    let bomb = {
        let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, of) in ('b'..='k').zip('a'..) {
            text.push_str(&format!(
                "{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n"
            ));
        }
        text.into_bytes()
    };
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let latin = b"listeners: [\xff\xfe]\n".to_vec();
    let twice = b"listeners: []\nlisteners: []\n".to_vec();
    let folder = TempDir::new().unwrap();
    for (name, bytes) in [
        ("bomb", bomb),
        ("deep", deep),
        ("latin", latin),
        ("twice", twice),
    ] {
        let path = folder.path().join(format!("{name}.yaml"));
        fs::write(&path, bytes).unwrap();

        let begin = std::time::Instant::now();
        let output = run(&["check", "-c", path.to_str().unwrap()]);

        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(
            begin.elapsed().as_secs() < 5,
            "{name} took {:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn show_prints_every_default_and_no_secret() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(folder.path().join("secret"), "hush-hush").unwrap();
    fs::write(
        &path,
        GOOD.replace("{status: 200}", "{status: 200, body: '${file:secret}'}"),
    )
    .unwrap();

    for command in ["show", "-T"] {
        let (output, out, err) = told(run(&[command, "-c", path.to_str().unwrap()]));

        assert_eq!(output.status.code(), Some(0), "{err}");
        assert!(out.contains("header_timeout: 15s"), "{out}");
        assert!(!out.contains("hush-hush"), "{out}");
    }
}

#[test]
fn what_show_prints_is_a_configuration() {
    let (_, shown, _) = on(&["show"], GOOD);

    let (output, _, err) = on(&["check"], &shown);

    assert_eq!(output.status.code(), Some(0), "{err}\n{shown}");
}

#[test]
fn includes_are_read_and_their_problems_told_in_their_own_files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(
        &path,
        "include: ['conf.d/*.yaml']\nlisteners: [{name: web, bind: '127.0.0.1:0'}]\n",
    )
    .unwrap();
    let part = folder.path().join("conf.d/routes.yaml");
    let check = || told(run(&["check", "-c", path.to_str().unwrap()]));

    fs::write(
        &part,
        "routes:\n- {name: all, rules: [{respond: {status: 200}}]}\n",
    )
    .unwrap();
    let (good, ..) = check();
    fs::write(&part, "routes:\n- {name: all, rules: [{pool: nothing}]}\n").unwrap();
    let (bad, _, err) = check();

    assert_eq!((good.status.code(), bad.status.code()), (Some(0), Some(1)));
    assert!(err.contains("routes.yaml:2:"), "{err}");
}

#[test]
fn the_schema_is_json_and_names_every_top_level_key() {
    let (output, out, _) = told(run(&["schema"]));

    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    for key in [
        "listeners",
        "routes",
        "pools",
        "plugins",
        "observe",
        "admin",
        "tests",
        "server",
        "include",
    ] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn plugins_are_listed_and_each_has_a_manual() {
    let (output, list, _) = told(run(&["plugins"]));
    assert_eq!(output.status.code(), Some(0));
    for plugin in windrose_plugins::BUILTIN {
        assert!(list.contains(plugin.kind), "{}", plugin.kind);

        let (output, manual, _) = told(run(&["plugins", plugin.kind]));

        assert_eq!(output.status.code(), Some(0));
        assert!(manual.contains(plugin.about), "{manual}");
    }
}

#[test]
fn a_cause_is_explained() {
    let (output, out, _) = told(run(&["why", "no_route"]));
    let (unknown, _, err) = told(run(&["why", "no_rout"]));

    assert_eq!(
        (output.status.code(), unknown.status.code()),
        (Some(0), Some(2))
    );
    assert!(out.contains("No route of the listener matches"), "{out}");
    assert!(err.contains("did you mean \"no_route\"?"), "{err}");
}

#[test]
fn what_is_not_understood_exits_with_2() {
    for wrong in [
        &["--nonsense"][..],
        &["nonsense"],
        &["check", "--nonsense"],
        &["plugins", "nonsense"],
        &["reload", "--confirm", "soon"],
        &["reload", "--confirm", "0s"],
        &["reload", "--detach"],
        &["reload", "--confirm", "1m", "--max-5xx-rise", "5"],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_version_is_told() {
    let (output, out, _) = told(run(&["--version"]));

    assert_eq!(output.status.code(), Some(0));
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
}

#[test]
fn a_command_without_a_running_process_says_so() {
    let yaml = format!("{GOOD}admin: {{bind: 'unix:/nowhere/admin.sock'}}\n");
    for command in ["reload", "ready", "confirm", "rollback"] {
        let (output, _, err) = on(&[command], &yaml);

        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(err.contains("is windrose running"), "{err}");
    }
}

#[test]
fn a_second_process_leaves_the_first_ones_admin_address_alone() {
    let proxy = Proxy::http("routes: [{name: all, rules: [{respond: {status: 200, body: x}}]}]\n");

    let (output, _, err) = told(run(&["run", "-c", proxy.config().to_str().unwrap()]));

    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("admin.bind: another process answers at"),
        "{err}"
    );
    assert_eq!(proxy.admin_reply("/readyz").status, 200);
}

#[test]
fn every_example_configuration_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("certs")).unwrap();
    let examples = ["conf", "benches/train"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).unwrap().flatten())
        .map(|entry| entry.path());
    let examples = examples.filter(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    for example in examples {
        let text = fs::read_to_string(&example).unwrap();
        certificates(&text, folder.path());
        identities(&text, folder.path());
        let copy = folder.path().join(example.file_name().unwrap());
        fs::write(&copy, text).unwrap();

        let (output, _, err) = told(run(&["check", "-c", copy.to_str().unwrap()]));

        assert_eq!(
            output.status.code(),
            Some(0),
            "{}: {err}",
            example.display()
        );
    }
}

#[test]
fn the_reference_names_every_key() {
    let (_, schema, _) = told(run(&["schema"]));
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/reference.yaml");
    let reference = fs::read_to_string(path).unwrap();
    let mut keys = Vec::new();
    keys_of(&schema, &mut keys);

    let is_named = |key: &str| {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let mut words = reference.split(ends);
        words.any(|word| word == key)
    };
    let missing: Vec<_> = keys.into_iter().filter(|key| !is_named(key)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// Every key that a schema describes, but for the settings of plugins, which have manuals of their own.
fn keys_of(schema: &serde_json::Value, keys: &mut Vec<String>) {
    let parts = schema.as_object().into_iter().flatten();
    for (name, part) in parts.filter(|(name, _)| !name.starts_with("plugin_")) {
        if name == "properties" {
            keys.extend(
                part.as_object()
                    .into_iter()
                    .flatten()
                    .map(|(key, _)| key.clone()),
            );
        }
        keys_of(part, keys);
    }
    for part in schema.as_array().into_iter().flatten() {
        keys_of(part, keys);
    }
}

#[test]
fn the_demonstration_does_what_it_says() {
    let (output, out, err) = told(run(&["demo", "--check"]));

    assert_eq!(output.status.code(), Some(0), "{out}{err}");
}

/// Writes the files below `certs/` that an example names and its user would bring.
fn certificates(text: &str, folder: &Path) {
    let authority = Authority::new();
    let pair = authority.issue(&["example.com"]);
    for part in text.split("certs/").skip(1) {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
        let name = part.split(ends).next().unwrap_or_default();
        let pem = match name {
            name if name.contains("ca") => authority.0.cert.to_pem(),
            name if name.contains("key") => pair.key.private_key_to_pem_pkcs8(),
            _ => pair.cert.to_pem(),
        };
        fs::write(folder.join("certs").join(name), pem.unwrap()).unwrap();
    }
}

/// Writes what an example names under `identity`: a certificate for the ID named before it, and bundles.
fn identities(text: &str, folder: &Path) {
    fs::create_dir_all(folder.join("identity")).unwrap();
    let authority = Authority::new();
    let marks = |c: char| ",{}[]\"".contains(c);
    let (mut key, mut id) = ("", "");
    for word in text.split_whitespace() {
        let value = word.trim_matches(marks);
        match key.trim_matches(marks) {
            "id:" if value.starts_with("spiffe://") => id = value,
            "cert:" if value.starts_with("identity/") => {
                let pair = authority.svid(id);
                let key = pair.key.private_key_to_pem_pkcs8().unwrap();
                let stem = value.trim_end_matches(".pem");
                fs::write(folder.join(value), pair.cert.to_pem().unwrap()).unwrap();
                fs::write(folder.join(format!("{stem}.key")), key).unwrap();
            }
            "bundle:" if value.starts_with("identity/") => authority.write_bundle(folder, value),
            _ => {}
        }
        key = word;
    }
}

#[test]
fn tests_stand_under_routes_as_well_and_are_reported_in_junit_form() {
    let folder = TempDir::new().unwrap();
    let junit = folder.path().join("junit.xml");
    let yaml = GOOD.replace(
        "  rules:",
        "  tests:\n  - {request: {url: 'http://a.test/'}, expect: {status: 200}}\n  - {name: wrong <one>, request: {url: 'http://a.test/'}, expect: {status: 404}}\n  rules:",
    );

    let (output, _, err) = on(&["check", "--junit", junit.to_str().unwrap()], &yaml);

    assert_eq!(output.status.code(), Some(1));
    let place =
        "routes[0].tests[1].expect.status: test \"wrong <one>\": expected \"404\", found \"200\"";
    assert!(err.contains(place), "{err}");
    let xml = fs::read_to_string(junit).unwrap();
    let counts = "tests=\"3\" skipped=\"0\" failures=\"1\" errors=\"0\"";
    assert!(xml.contains(counts), "{xml}");
    assert!(
        xml.contains("name=\"wrong &lt;one&gt;\" classname=\"routes[0].tests[1]\""),
        "{xml}"
    );
}

#[test]
fn a_test_of_a_route_expects_that_route() {
    let yaml = GOOD.replace(
        "routes:",
        "routes:\n- {name: other, hosts: [a.test], rules: [{respond: {status: 200}}]}",
    ) + "  tests: [{request: {url: 'http://a.test/'}, expect: {}}]\n";

    let (output, _, err) = on(&["check"], &yaml);

    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("expected \"all\", found \"other\""), "{err}");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_reason_to_panic() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windrose"));
    let command = command.arg("schema").stderr(Stdio::piped());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);

    let output = command.stdout(writer).output().unwrap();

    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.as_str()), (Some(0), ""));
}
