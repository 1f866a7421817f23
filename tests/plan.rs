//! Plans: what a new configuration would change, and what it would do to recorded requests.
//! It must not know how configurations are compared.
//! Part of the test binary.

use std::fs;

use tempfile::TempDir;

use crate::support::run;

const OLD: &str = "\
listeners: [{name: web, bind: 127.0.0.1:8080}]
routes:
- {name: first, hosts: [a.test], rules: [{match: [{path: {prefix: /}, headers: {x-a: '1'}}], pool: one}]}
- {name: second, hosts: [a.test], rules: [{match: [{path: {prefix: /}, headers: {x-b: '1'}}], pool: two}]}
- {name: third, hosts: [b.test], rules: [{pool: two}]}
pools:
- {name: one, endpoints: [127.0.0.1:1, 127.0.0.1:2], health: {tcp: {}}}
- {name: two, endpoints: [127.0.0.1:3, 127.0.0.1:4], health: {tcp: {}}}
";

/// Runs the command on the old and a new configuration; its output and exit code.
fn plan(new: &str, further: &[&str]) -> (String, i32) {
    plan_from(OLD, new, further)
}

fn plan_from(old: &str, new: &str, further: &[&str]) -> (String, i32) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (file("old.yaml", old), file("new.yaml", new));
    let output = run(&[&["plan", &new, "-c", &old], further].concat());
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8(text).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn nothing_new_changes_nothing() {
    assert_eq!(plan(OLD, &[]), ("nothing changes\n".to_owned(), 0));
}

#[test]
fn objects_are_compared_key_by_key() {
    let new = OLD
        .replace("rules: [{pool: two}]", "rules: [{pool: one}]")
        .replace("127.0.0.1:4", "127.0.0.1:5");

    let (text, code) = plan(&new, &[]);

    assert_eq!(code, 0);
    assert!(text.contains("route \"third\": changed (rules)\n    rules[0].pool: two -> one\n"));
    let endpoints =
        "    endpoints: [\"127.0.0.1:3\",\"127.0.0.1:4\"] -> [\"127.0.0.1:3\",\"127.0.0.1:5\"]";
    assert!(text.contains(endpoints), "{text}");
}

#[test]
fn a_rule_that_another_one_overtakes_is_told() {
    let lines: Vec<&str> = OLD.lines().collect();
    let new = [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat();

    let (text, _) = plan(&(new.join("\n") + "\n"), &[]);

    assert!(text.contains("routes: order changed"), "{text}");
    let moved = text.lines().filter(|line| line.contains("is tried before"));
    assert_eq!(moved.count(), 1, "{text}");
}

#[test]
fn a_route_that_falls_into_the_shadow_of_another_is_told() {
    let new = OLD.replace(
        "- {name: third,",
        "- {name: wide, hosts: [b.test], rules: [{pool: one}]}\n- {name: third,",
    );

    let (text, _) = plan(&new, &[]);

    assert!(text.contains("route \"wide\": added"), "{text}");
    assert!(
        text.contains("warning: ") && text.contains("shadowed_route"),
        "{text}"
    );
}

#[test]
fn a_configuration_that_cannot_run_has_no_plan() {
    let (text, code) = plan(&OLD.replace("pool: two", "pool: tow"), &[]);

    assert_eq!(code, 1);
    assert!(
        text.contains("new.yaml:") && text.contains("did you mean"),
        "{text}"
    );
}

#[test]
fn what_is_too_much_for_the_page_is_said_and_what_is_no_bundle_is_told() {
    let rule = |at: usize| format!("{{match: [{{path: {{exact: /{at}}}}}], pool: two}}");
    let rules = (0..103).map(rule).collect::<Vec<_>>().join(", ");
    let new = OLD.replace("rules: [{pool: two}]", &format!("rules: [{rules}]"));

    let (text, code) = plan(&new, &[]);
    let (_, without) = plan(OLD, &["--bundle", "/dev/null"]);

    assert_eq!((code, without), (0, 2));
    assert!(text.contains("    and 3 more; --json has all\n"), "{text}");
}

#[test]
fn policies_that_change_say_who_would_newly_be_denied_and_who_allowed() {
    let deny = "- {name: no-delete, action: deny, to: {routes: [first]}, rules: [{when: {methods: [DELETE]}}]}\n";
    let allow = "- {name: staff, action: allow, rules: [{from: {consumers: [ann]}}, {when: {headers: {x-key: hidden}}}]}\n";
    let with = |policies: &str| format!("{OLD}policies:\n{policies}");

    let (come, _) = plan(&with(&[deny, allow].concat()), &[]);
    let (gone, _) = plan_from(&with(&[deny, allow].concat()), &with(deny), &[]);
    let (closed, _) = plan(&format!("{OLD}authorization: {{default: deny}}\n"), &[]);
    let (same, _) = plan_from(&with(deny), &with(deny), &[]);

    for line in [
        "policy \"no-delete\": added; newly denied: (methods DELETE), on routes first\n",
        "policy \"staff\": added; newly denied: everybody but (consumers ann), (header x-key): until now nobody had to be allowed\n",
        "policies: 1 allow, 1 deny, 0 only audit; without any that allow: allow\n    before: 0 allow, 0 deny, 0 only audit",
        "`--live` or `--bundle FILE`\n",
    ] {
        assert!(come.contains(line), "{line}: {come}");
    }
    assert!(!come.contains("hidden"), "{come}");
    let line = "policy \"staff\": removed; newly allowed: everybody but (consumers ann), (header x-key): nobody has to be allowed any more\n";
    assert!(gone.contains(line), "{gone}");
    let line = "authorization: changed (default); newly denied: everything that no policy with `action: allow` is for, on 3 of 3 routes: first, second, third\n";
    assert!(closed.contains(line), "{closed}");
    assert_eq!(same, "nothing changes\n");
}
