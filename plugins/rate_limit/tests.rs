mod cost;
mod shared;

use std::time::Duration;

use super::*;
use crate::testkit::{answered, field, fields, went_on, Exchange, Instance, Kit};

fn get() -> Exchange {
    Exchange::get("http://shop.test/")
}

fn admits(plugin: &Instance, mut exchange: Exchange) -> bool {
    went_on(&plugin.request(&mut exchange))
}

#[test]
fn a_burst_is_admitted_then_refused_then_admitted_at_the_rate() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "rate: 2\nper: 1s\nburst: 3");

    assert!((0..3).all(|_| admits(&plugin, get())));
    assert!(!admits(&plugin, get()));
    kit.advance(Duration::from_millis(500));
    assert!(admits(&plugin, get()));
    assert!(!admits(&plugin, get()));
    assert_eq!(kit.counted("limited"), 2);
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let plugin = Kit::new().instance(&PLUGIN, "rate: 1\nper: 90s\nburst: 2");
    assert!((0..2).all(|_| admits(&plugin, get())));

    let answer = answered(plugin.request(&mut get()));

    assert_eq!((answer.status, answer.cause.name), (429, "rate_limited"));
    assert_eq!(field(&answer, "retry-after"), Some("90"));
    assert_eq!(
        field(&answer, "ratelimit-policy"),
        Some("\"default\";q=2;w=180")
    );
    assert_eq!(field(&answer, "ratelimit"), Some("\"default\";r=0;t=180"));
    assert_eq!(field(&answer, "x-ratelimit-limit"), Some("2"));
    assert_eq!(field(&answer, "x-ratelimit-remaining"), Some("0"));
    assert_eq!(field(&answer, "x-ratelimit-reset"), Some("180"));
}

#[test]
fn retry_after_is_at_least_a_second() {
    let plugin = Kit::new().instance(&PLUGIN, "rate: 1000\nburst: 1");
    assert!(admits(&plugin, get()));

    let answer = answered(plugin.request(&mut get()));

    assert_eq!(field(&answer, "retry-after"), Some("1"));
}

#[test]
fn responses_tell_what_is_left() {
    let plugin = Kit::new().instance(&PLUGIN, "rate: 10\nper: 10s");
    let mut exchange = get();

    plugin.request(&mut exchange);
    plugin.response(&mut exchange);

    let headers = &exchange.response.headers;
    assert_eq!(fields(headers, "x-ratelimit-limit"), ["10"]);
    assert_eq!(fields(headers, "x-ratelimit-remaining"), ["9"]);
    assert_eq!(fields(headers, "x-ratelimit-reset"), ["1"]);
    assert_eq!(fields(headers, "ratelimit"), ["\"default\";r=9;t=1"]);
}

#[test]
fn of_two_limits_the_tighter_one_is_told() {
    let kit = Kit::new();
    let wide = kit.build_as("wide", &PLUGIN, "rate: 100").unwrap();
    let tight = kit.build_as("tight", &PLUGIN, "rate: 5").unwrap();
    for order in [[&wide, &tight], [&tight, &wide]] {
        let mut exchange = get().from("198.51.100.1");

        for plugin in order {
            assert!(went_on(&plugin.request(&mut exchange)));
        }
        for plugin in order {
            plugin.response(&mut exchange);
        }

        let headers = &exchange.response.headers;
        assert_eq!(fields(headers, "x-ratelimit-limit"), ["5"]);
        kit.advance(Duration::from_secs(10));
    }
}

#[test]
fn only_the_fields_asked_for_are_sent() {
    let kit = Kit::new();
    let names = |fields: &str| {
        let plugin = kit
            .build_as(fields, &PLUGIN, &format!("rate: 1\nfields: {fields}"))
            .unwrap();
        let mut exchange = get();
        plugin.request(&mut exchange);
        plugin.response(&mut exchange);
        let headers = exchange.response.headers.clone();
        (
            headers.contains_key("ratelimit"),
            headers.contains_key("x-ratelimit-limit"),
        )
    };

    assert_eq!(names("both"), (true, true));
    assert_eq!(names("draft"), (true, false));
    assert_eq!(names("legacy"), (false, true));
    assert_eq!(names("none"), (false, false));
}

#[test]
fn addresses_are_counted_by_their_prefix() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "rate: 1");
    let from = |address: &str| admits(&plugin, get().from(address));

    assert!(from("192.0.2.1") && from("192.0.2.2"));
    assert!(!from("::ffff:192.0.2.1"), "the same client over IPv6");
    assert!(from("2001:db8:0:1::1"));
    assert!(!from("2001:db8:0:1:ffff::2"), "the same /64");
    assert!(from("2001:db8:0:2::1"));
}

#[test]
fn prefixes_of_no_bits_count_everybody_together() {
    let plugin = Kit::new().instance(&PLUGIN, "rate: 1\nipv4_prefix: 0\nipv6_prefix: 128");

    assert!(admits(&plugin, get().from("192.0.2.1")));
    assert!(!admits(&plugin, get().from("198.51.100.1")));
    assert!(admits(&plugin, get().from("2001:db8::1")));
    assert!(admits(&plugin, get().from("2001:db8::2")));
}

#[test]
fn each_kind_of_key_separates_its_callers() {
    let kit = Kit::new();
    let caller = |name: &str| {
        Exchange::get(&format!("http://{name}.test/"))
            .as_consumer(name)
            .on_route(name)
            .with("x-api-key", name)
    };
    for key in ["principal", "route", "host", "header:X-Api-Key"] {
        let plugin = kit
            .build_as(key, &PLUGIN, &format!("rate: 1\nkey: {key}"))
            .unwrap();

        assert!(admits(&plugin, caller("ann")), "{key}");
        assert!(!admits(&plugin, caller("ann")), "{key}");
        assert!(admits(&plugin, caller("bob")), "{key}");
    }
}

#[test]
fn a_list_counts_every_combination() {
    let plugin = Kit::new().instance(&PLUGIN, "rate: 1\nkey: [route, client_ip]");

    assert!(admits(&plugin, get().on_route("a").from("192.0.2.1")));
    assert!(admits(&plugin, get().on_route("b").from("192.0.2.1")));
    assert!(admits(&plugin, get().on_route("a").from("192.0.2.2")));
    assert!(!admits(&plugin, get().on_route("a").from("192.0.2.1")));
}

#[test]
fn without_the_header_or_principal_the_address_is_counted() {
    for key in ["principal", "header:X-Api-Key"] {
        let plugin = Kit::new().instance(&PLUGIN, &format!("rate: 1\nkey: {key}"));

        assert!(admits(&plugin, get().from("192.0.2.1")), "{key}");
        assert!(!admits(&plugin, get().from("192.0.2.1")), "{key}");
        assert!(admits(&plugin, get().from("192.0.2.2")), "{key}");
    }
}

#[test]
fn buckets_survive_a_reload_and_obey_the_new_rate() {
    let kit = Kit::new();
    let before = kit.instance(&PLUGIN, "rate: 1\nper: 1h\nburst: 2");
    assert!(admits(&before, get()) && admits(&before, get()));

    let after = kit.instance(&PLUGIN, "rate: 1\nper: 1s\nburst: 2");

    assert!(!admits(&after, get()), "the bucket is still empty");
    kit.advance(Duration::from_secs(1));
    assert!(admits(&after, get()), "it grows at the new rate");
    assert!(!admits(&before, get()), "both see the same bucket");
}

#[test]
fn instances_have_buckets_of_their_own() {
    let kit = Kit::new();
    let one = kit.build_as("one", &PLUGIN, "rate: 1").unwrap();
    let other = kit.build_as("other", &PLUGIN, "rate: 1").unwrap();

    assert!(admits(&one, get()) && admits(&other, get()));
}

#[test]
fn beyond_max_keys_the_longest_unseen_caller_is_replaced() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "rate: 1\nper: 1h\nmax_keys: 64\nkey: header:K");
    let from = |caller: u32| admits(&plugin, get().with("k", &caller.to_string()));

    for caller in 0..2_000 {
        assert!(from(caller));
        kit.advance(Duration::from_millis(1));
    }

    assert!(kit.counted("evicted") >= 2_000 - 64);
    assert!(!from(1_999), "the newest is still there");
    assert!(from(0), "the oldest starts again");
}

#[test]
fn a_dry_run_does_not_know_and_takes_nothing() {
    let plugin = Kit::new().instance(&PLUGIN, "rate: 1");

    let verdict = plugin.request(&mut get().dry());

    assert!(
        matches!(&verdict, Verdict::Unknown(unknown) if unknown.0 == "the local token buckets")
    );
    assert!(admits(&plugin, get()), "the token is still there");
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("rate: 0\nburst: 0\nper: 0s\nmax_keys: 0\nkey: [client_pi, \"header:a b\"]\nipv4_prefix: 33\nipv6_prefix: 129"),
        ["key[0]", "key[1]", "ipv4_prefix", "ipv6_prefix", "rate", "burst", "per", "max_keys"]
    );
    assert_eq!(paths("rate: 2000000000"), ["rate"]);
    assert_eq!(paths("rate: 1\nkey: []"), ["key"]);
    assert_eq!(paths("rate: -1"), ["rate"]);
    assert_eq!(paths("rate: 1\nfields: all"), ["fields"]);
    assert_eq!(
        kit.problems(&PLUGIN, "rate: 1\nkey: client_pi")[0].remedy,
        "did you mean \"client_ip\"? parts known: client_ip, principal, listener, route, host, header:NAME, cel:EXPRESSION"
    );
}
