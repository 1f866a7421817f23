use super::*;
use crate::contract::{PrincipalKind, StoreFailure};

const SHARED: &str = "rate: 10\nper: 1s\nstore: shared\nname: shop";

fn kit() -> Kit {
    Kit::new().with_store("shared")
}

#[test]
fn two_proxies_count_together() {
    let kit = kit();
    let one = kit
        .build_as("one", &PLUGIN, &format!("{SHARED}\nbatch: 1"))
        .unwrap();
    let other = kit
        .build_as("other", &PLUGIN, &format!("{SHARED}\nbatch: 1"))
        .unwrap();

    assert!((0..5).all(|_| admits(&one, get()) && admits(&other, get())));

    assert!(!admits(&one, get()) && !admits(&other, get()));
    kit.advance(Duration::from_millis(100));
    assert!(admits(&other, get()));
    assert!(!admits(&one, get()));
}

#[test]
fn limits_of_other_names_keys_and_algorithms_are_counted_apart() {
    let kit = kit();
    let limit = |instance: &str, more: &str| {
        let config = format!("rate: 1\nper: 1h\nstore: shared\n{more}");
        kit.build_as(instance, &PLUGIN, &config).unwrap()
    };
    for plugin in [
        limit("a", "name: a"),
        limit("b", ""),
        limit("c", "name: a\nalgorithm: sliding_window"),
        limit("d", "name: a\nkey: route"),
    ] {
        assert!(admits(&plugin, get()));
        assert!(!admits(&plugin, get()));
    }
    let again = limit("e", "name: a");
    assert!(!admits(&again, get()));

    assert_eq!(kit.store("shared").keys().len(), 4);
}

#[test]
fn most_requests_of_a_busy_key_do_not_ask_the_store() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "rate: 1000\nper: 1s\nstore: shared");

    assert!((0..1000).all(|_| admits(&plugin, get())));
    assert!((0..1000).all(|_| !admits(&plugin, get())));

    // Batches of 1, 2, 4, … 64, then of 100; and one to hear that there are no more.
    let asked = kit.store("shared").asked();
    assert!(asked < 25, "{asked}");
    assert_eq!(kit.counted("store_asked"), asked);
    assert_eq!(kit.counted("limited"), 1000);
}

#[test]
fn a_flood_of_keys_leaves_a_bounded_table() {
    let kit = kit();
    let plugin = kit.instance(
        &PLUGIN,
        "rate: 1\nstore: shared\nmax_keys: 64\nkey: client_ip",
    );

    for caller in 0..2_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + caller).to_string();
        assert!(admits(&plugin, get().from(&address)));
    }

    assert_eq!(kit.counted("evicted"), 2_000 - 64);
}

#[test]
fn sliding_windows_are_shared_as_well() {
    let kit = kit();
    let config = format!("{SHARED}\nalgorithm: sliding_window\nbatch: 1");
    let one = kit.build_as("one", &PLUGIN, &config).unwrap();
    let other = kit.build_as("other", &PLUGIN, &config).unwrap();

    assert!((0..5).all(|_| admits(&one, get()) && admits(&other, get())));
    assert!(!admits(&one, get()));

    // Half of the next window gone: half of the first one's uses count.
    kit.advance(Duration::from_millis(1500));
    assert_eq!((0..20).filter(|_| admits(&one, get())).count(), 5);
}

#[test]
fn without_the_store_each_proxy_counts_for_itself_by_default() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, SHARED);
    kit.store("shared").fail(Some(StoreFailure::Unavailable));

    assert!((0..10).all(|_| admits(&plugin, get())));
    let answer = answered(plugin.request(&mut get()));

    assert_eq!(answer.cause.name, "rate_limited");
    assert_eq!(kit.counted("store_failed"), 11);
    kit.store("shared").fail(None);
    assert!(admits(&plugin, get()), "the store counts again by itself");
}

#[test]
fn an_open_limit_lets_through_what_the_store_cannot_count() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, &format!("{SHARED}\non_store_failure: open"));
    kit.store("shared").fail(Some(StoreFailure::TimedOut));

    assert!((0..50).all(|_| admits(&plugin, get())));
}

#[test]
fn a_closed_limit_fails_with_a_cause_of_its_own() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, &format!("{SHARED}\non_store_failure: closed"));
    let refused = StoreFailure::Refused("OOM command not allowed".to_owned());
    kit.store("shared").fail(Some(refused));

    let Verdict::Failed { cause, reason } = plugin.request(&mut get()) else {
        panic!("it did not fail");
    };

    assert_eq!(cause.name, "rate_limit.store_unavailable");
    assert_eq!(
        reason,
        "store \"shared\": the store refused: OOM command not allowed"
    );
}

#[test]
fn what_is_leased_already_is_used_up_without_the_store() {
    let kit = kit();
    let plugin = kit.instance(
        &PLUGIN,
        "rate: 100\nper: 1s\nstore: shared\non_store_failure: closed",
    );
    assert!((0..4).all(|_| admits(&plugin, get())));
    kit.store("shared").fail(Some(StoreFailure::Unavailable));

    // Taken were 1, 2 and 4.
    assert!((0..3).all(|_| admits(&plugin, get())));
    assert!(matches!(plugin.request(&mut get()), Verdict::Failed { .. }));
}

#[test]
fn a_dry_run_asks_nothing() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, SHARED);

    let verdict = plugin.request(&mut get().dry());

    assert!(matches!(verdict, Verdict::Unknown(unknown) if unknown.0 == "a shared store"));
    assert_eq!(kit.store("shared").asked(), 0);
}

#[test]
fn clients_are_told_what_is_left_for_all_proxies() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, SHARED);
    let mut exchange = get();

    plugin.request(&mut exchange);
    plugin.response(&mut exchange);

    let headers = &exchange.response.headers;
    assert_eq!(fields(headers, "ratelimit-policy"), ["\"shop\";q=10;w=1"]);
    assert_eq!(fields(headers, "x-ratelimit-remaining"), ["9"]);
}

#[test]
fn keys_in_the_store_show_nothing_and_have_a_bounded_length() {
    let kit = kit();
    let plugin = kit.instance(
        &PLUGIN,
        &format!("{SHARED}\nkey: [header:x-key, principal, listener]"),
    );
    let secret = "s3cret".repeat(500);

    assert!(admits(
        &plugin,
        get().with("x-key", &secret).as_consumer("ann")
    ));

    let keys = kit.store("shared").keys();
    assert_eq!(keys.len(), 1);
    assert!(
        keys[0].starts_with("rate_limit:t:shop:") && keys[0].len() < 60,
        "{keys:?}"
    );
    assert!(!keys[0].contains("s3cret") && !keys[0].contains("ann"));
}

#[test]
fn parts_of_a_key_cannot_be_made_to_look_like_others() {
    let kit = kit();
    let config = "rate: 1\nper: 1h\nstore: shared\nkey: [header:a, header:b]";
    let plugin = kit.instance(&PLUGIN, config);
    let with = |a: &str, b: &str| get().with("a", a).with("b", b);

    assert!(admits(&plugin, with("xy", "z")));
    assert!(admits(&plugin, with("x", "yz")));
    assert!(admits(&plugin, with("x", "y").with("a", "z")));
    assert!(admits(&plugin, with("x", "y").with("b", "z")));
    assert!(!admits(&plugin, with("xy", "z")));
}

#[test]
fn settings_of_a_store_are_judged() {
    let kit = kit();
    let fact = |config: &str| {
        let problems = kit.problems(&PLUGIN, config);
        problems
            .first()
            .map(|problem| format!("{problem} ({})", problem.remedy))
            .unwrap_or_default()
    };

    assert_eq!(
        fact("rate: 1\nstore: shard"),
        "store: no store is named \"shard\" (did you mean \"shared\"? stores defined: shared)"
    );
    assert!(fact("rate: 1\nbatch: 2").starts_with("batch: is not used: no `store`"));
    assert!(fact("rate: 1\non_store_failure: open").starts_with("on_store_failure: is not used"));
    assert!(fact("rate: 1\nstore: shared\nbatch: 0").starts_with("batch: must be from 1 to 10000"));
    assert!(fact("rate: 1\nname: 'a b'").starts_with("name: \"a b\" cannot be"));
    assert!(fact("rate: 1\nburst: 2\nalgorithm: sliding_window").starts_with("burst: is not used"));
    let none = Kit::new().problems(&PLUGIN, "rate: 1\nstore: shared");
    assert_eq!(none[0].remedy, "no stores are defined; add one to `redis`");
}

#[test]
fn a_principal_is_counted_wherever_it_comes_from() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "rate: 1\nper: 1h\nstore: shared\nkey: principal");
    let ann = |address: &str| get().from(address).as_consumer("ann");
    assert_eq!(
        ann("192.0.2.1").principal().unwrap().kind,
        PrincipalKind::Consumer
    );

    assert!(admits(&plugin, ann("192.0.2.1")));
    assert!(!admits(&plugin, ann("192.0.2.9")));
    assert!(admits(&plugin, get().from("192.0.2.1")));
}
