use super::*;
use crate::contract::Consumer;
use crate::testkit::{answered, Exchange, Instance, Kit};

fn kit() -> Kit {
    let consumer = |name: &str, groups: &[&str]| Consumer {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..Consumer::default()
    };
    Kit::new()
        .with_consumer(consumer("ann", &["staff", "ops"]), [])
        .with_consumer(consumer("bob", &["staff"]), [])
        .with_consumer(consumer("carl", &[]), [])
}

fn asked(plugin: &Instance, name: Option<&str>) -> &'static str {
    let exchange = Exchange::get("https://shop.test/");
    let mut exchange = match name {
        Some(name) => exchange.as_consumer(name),
        None => exchange,
    };
    match plugin.request(&mut exchange) {
        Verdict::Continue => "ok",
        verdict => answered(verdict).cause.name,
    }
}

#[test]
fn who_is_allowed_is_let_in_and_nobody_else() {
    let plugin = kit().instance(&PLUGIN, "allow: {groups: [staff], consumers: [carl]}");

    for name in ["ann", "bob", "carl"] {
        assert_eq!(asked(&plugin, Some(name)), "ok");
    }
    assert_eq!(asked(&plugin, Some("nobody")), "policy_denied.acl");
    assert_eq!(asked(&plugin, None), "identity_missing.acl");
}

#[test]
fn who_is_denied_is_refused_whatever_allows() {
    let plugin = kit().instance(&PLUGIN, "allow: {groups: [staff]}\ndeny: {groups: [ops]}");

    assert_eq!(asked(&plugin, Some("ann")), "policy_denied.acl");
    assert_eq!(asked(&plugin, Some("bob")), "ok");
}

#[test]
fn a_list_of_the_denied_alone_lets_everybody_else_in() {
    let plugin = kit().instance(&PLUGIN, "deny: {consumers: [bob]}");

    assert_eq!(asked(&plugin, Some("bob")), "policy_denied.acl");
    assert_eq!(asked(&plugin, Some("ann")), "ok");
    assert_eq!(asked(&plugin, None), "ok");
}

#[test]
fn groups_and_names_that_are_not_there_are_located() {
    let kit = kit();
    let config = "allow: {groups: [staf]}\ndeny: {groups: [ops], consumers: [mallory]}";
    let problems = kit.problems(&PLUGIN, config);

    let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(paths, ["allow.groups", "deny.consumers"]);
    assert!(
        problems[0].remedy.contains("staff"),
        "{}",
        problems[0].remedy
    );
    assert_eq!(kit.problem_paths(&PLUGIN, "{}"), [""]);
}

#[test]
fn a_dry_run_decides_the_same_and_counts_nothing() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "allow: {groups: [ops]}");
    let mut exchange = Exchange::get("https://shop.test/").as_consumer("bob").dry();

    assert_eq!(answered(plugin.request(&mut exchange)).cause, &DENIED);
    assert_eq!(kit.counted("refused"), 0);
}
