use super::*;
use crate::testkit::{answered, field, went_on, Exchange, Instance, Kit};

fn begin(plugin: &Instance, mut exchange: Exchange) -> Option<Exchange> {
    went_on(&plugin.request(&mut exchange)).then_some(exchange)
}

fn get() -> Exchange {
    Exchange::get("http://shop.test/")
}

#[test]
fn as_many_as_allowed_are_under_way_and_each_end_makes_room() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "max: 2");

    let (one, two) = (begin(&plugin, get()), begin(&plugin, get()));
    assert!(one.is_some() && two.is_some());
    let answer = answered(plugin.request(&mut get()));
    assert_eq!(
        (answer.status, answer.cause.name),
        (429, "concurrency_limited")
    );
    assert_eq!(field(&answer, "retry-after"), Some("1"));
    assert!(begin(&plugin, get().from("192.0.2.9")).is_some());

    drop(one);
    assert!(begin(&plugin, get()).is_some());
    assert_eq!(kit.counted("limited"), 1);
}

#[test]
fn a_reload_counts_on_what_is_under_way() {
    let kit = Kit::new();
    let before = kit.instance(&PLUGIN, "max: 2");
    let held = begin(&before, get());

    let after = kit.instance(&PLUGIN, "max: 1");
    drop(before);

    assert!(begin(&after, get()).is_none());
    drop(held);
    assert!(begin(&after, get()).is_some());
}

#[test]
fn beyond_max_keys_further_callers_are_refused_with_another_cause() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "max: 1\nmax_keys: 64\nkey: header:k");
    let held: Vec<_> = (0..2_000)
        .filter_map(|caller| begin(&plugin, get().with("k", &caller.to_string())))
        .collect();

    assert_eq!(held.len(), 64);
    assert_eq!(kit.counted("too_many_keys"), 2_000 - 64);
    let answer = answered(plugin.request(&mut get().with("k", "9999")));
    assert_eq!(answer.cause.name, "concurrency_limit.keys");
}

#[test]
fn a_dry_run_takes_no_place() {
    let plugin = Kit::new().instance(&PLUGIN, "max: 1");

    let verdict = plugin.request(&mut get().dry());

    assert!(matches!(verdict, Verdict::Unknown(unknown) if unknown.0 == "the requests under way"));
    assert!(begin(&plugin, get()).is_some());
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("max: 0\nmax_keys: 0\nkey: [rout]\nipv4_prefix: 33"),
        ["key[0]", "ipv4_prefix", "max", "max_keys"]
    );
    assert_eq!(paths("max: 1000001"), ["max"]);
    assert_eq!(paths("max: -1"), ["max"]);
    assert_eq!(paths("{}").len(), 1);
}

#[test]
fn an_expression_says_whose_requests_are_counted_together() {
    let plugin = Kit::new().instance(&PLUGIN, "max: 1\nkey: \"cel:request.headers['x-tenant']\"");
    let mut tenants =
        ["a", "b"].map(|tenant| Exchange::get("http://shop.test/").with("x-tenant", tenant));

    assert!(tenants
        .iter_mut()
        .all(|one| crate::testkit::went_on(&plugin.request(one))));
    let mut again = Exchange::get("http://shop.test/").with("x-tenant", "a");
    assert_eq!(
        crate::testkit::answered(plugin.request(&mut again))
            .cause
            .name,
        "concurrency_limited"
    );
    match plugin.request(&mut Exchange::get("http://shop.test/")) {
        Verdict::Failed { cause, .. } => assert_eq!(cause.name, "concurrency_limit.no_outcome"),
        other => panic!("{other:?}"),
    }
}
