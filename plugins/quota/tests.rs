use std::time::Duration;

use super::*;
use crate::contract::{Consumer, StoreFailure};
use crate::testkit::{answered, field, fields, went_on, Exchange, Instance, Kit};

const DAY: Duration = Duration::from_secs(86_400);

fn kit() -> Kit {
    let consumer = |name: &str, quota: &str| Consumer {
        name: name.to_owned(),
        metadata: [("quota".to_owned(), quota.to_owned())].into(),
        ..Consumer::default()
    };
    Kit::new()
        .with_consumer(consumer("ann", "5"), [])
        .with_store("shared")
}

fn get(consumer: &str) -> Exchange {
    Exchange::get("http://shop.test/").as_consumer(consumer)
}

fn admits(plugin: &Instance, consumer: &str) -> bool {
    went_on(&plugin.request(&mut get(consumer)))
}

/// How many of twenty requests are let through.
fn admitted(plugin: &Instance, consumer: &str) -> usize {
    (0..20).filter(|_| admits(plugin, consumer)).count()
}

#[test]
fn a_quota_is_used_up_and_there_again_when_the_period_begins() {
    for store in ["", "store: shared\n"] {
        let kit = kit();
        let plugin = kit.instance(&PLUGIN, &format!("limit: 3\nper: day\n{store}"));
        kit.advance(DAY * 40 + Duration::from_secs(3600));

        assert_eq!(admitted(&plugin, "bob"), 3);
        assert_eq!(admitted(&plugin, "eve"), 3, "each consumer has its own");
        kit.advance(Duration::from_secs(22 * 3600));
        assert_eq!(admitted(&plugin, "bob"), 0);
        kit.advance(Duration::from_secs(3600));
        assert_eq!(admitted(&plugin, "bob"), 3);
    }
}

#[test]
fn months_end_when_the_calendar_says() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "limit: 1\nper: month\nstore: shared");
    kit.advance(DAY * 30);
    assert!(admits(&plugin, "bob"));

    let answer = answered(plugin.request(&mut get("bob")));

    assert_eq!((answer.status, answer.cause.name), (429, "quota_exceeded"));
    assert_eq!(
        field(&answer, "retry-after"),
        Some("86400"),
        "the 31st of January is left"
    );
    assert_eq!(
        field(&answer, "ratelimit-policy"),
        Some("\"quota\";q=1;w=2678400")
    );
    assert_eq!(field(&answer, "ratelimit"), Some("\"quota\";r=0;t=86400"));
    kit.advance(DAY);
    assert!(admits(&plugin, "bob"));
    assert_eq!(kit.counted("exceeded"), 1);
}

#[test]
fn consumers_may_have_limits_of_their_own() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "limit: 3\nper: hour\nlimit_from: quota");

    assert_eq!((admitted(&plugin, "ann"), admitted(&plugin, "bob")), (5, 3));
}

#[test]
fn proxies_count_together_and_a_used_up_quota_is_asked_about_once_a_second() {
    let kit = kit();
    let config = "limit: 6\nper: day\nstore: shared\nname: daily";
    let one = kit.build_as("one", &PLUGIN, config).unwrap();
    let other = kit.build_as("other", &PLUGIN, config).unwrap();

    assert!((0..3).all(|_| admits(&one, "bob") && admits(&other, "bob")));
    assert_eq!((admitted(&one, "bob"), admitted(&other, "bob")), (0, 0));

    assert_eq!(
        kit.store("shared").asked(),
        8,
        "each heard once that there are no more"
    );
    kit.store("shared").forget();
    kit.advance(Duration::from_secs(2));
    assert!(admits(&one, "bob"), "an operator has begun the quota anew");
}

#[test]
fn responses_tell_what_is_left_until_when() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "limit: 10\nper: hour\nstore: shared\nname: hourly");
    kit.advance(Duration::from_secs(600));
    let mut exchange = get("bob");

    plugin.request(&mut exchange);
    plugin.response(&mut exchange);

    let headers = &exchange.response.headers;
    assert_eq!(
        fields(headers, "ratelimit-policy"),
        ["\"hourly\";q=10;w=3600"]
    );
    assert_eq!(fields(headers, "ratelimit"), ["\"hourly\";r=9;t=3000"]);
    assert_eq!(fields(headers, "x-ratelimit-limit"), ["10"]);
}

#[test]
fn without_the_store_happens_what_is_declared() {
    let kit = kit();
    let with = |mode: &str| {
        let config = format!("limit: 2\nper: day\nstore: shared\non_store_failure: {mode}");
        kit.build_as(mode, &PLUGIN, &config).unwrap()
    };
    let [local, open, closed] = ["local", "open", "closed"].map(with);
    kit.store("shared").fail(Some(StoreFailure::TimedOut));

    assert_eq!((admitted(&local, "bob"), admitted(&open, "bob")), (2, 20));
    let Verdict::Failed { cause, reason } = closed.request(&mut get("bob")) else {
        panic!("it did not fail");
    };
    assert_eq!(cause.name, "quota.store_unavailable");
    assert!(reason.contains("did not answer in time"), "{reason}");
    assert_eq!(kit.counted("store_failed"), 41);
}

#[test]
fn a_dry_run_uses_nothing() {
    let kit = kit();
    for (store, unknown) in [
        ("", "the local quotas"),
        ("store: shared", "a shared store"),
    ] {
        let plugin = kit.instance(&PLUGIN, &format!("limit: 1\nper: day\n{store}"));

        let verdict = plugin.request(&mut get("bob").dry());

        assert!(matches!(verdict, Verdict::Unknown(what) if what.0 == unknown));
        assert!(admits(&plugin, "bob"));
    }
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let kit = kit();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("limit: 0\nper: day\nmax_keys: 0\nname: ''\nkey: [rout]\non_store_failure: open"),
        ["key[0]", "limit", "max_keys", "name", "on_store_failure"]
    );
    assert_eq!(paths("limit: 1\nper: year"), ["per"]);
    assert_eq!(paths("limit: 1\nper: day\nstore: share"), ["store"]);
    assert_eq!(paths("limit: 1").len(), 1);
    let unfit = Consumer {
        name: "eve".to_owned(),
        metadata: [("quota".to_owned(), "lots".to_owned())].into(),
        ..Consumer::default()
    };
    let problems = Kit::new()
        .with_consumer(unfit, [])
        .problems(&PLUGIN, "limit: 1\nper: day\nlimit_from: quota");
    assert_eq!(
        problems[0].fact,
        "the consumer \"eve\" has quota: \"lots\", which is no limit"
    );
}

#[test]
fn costs_count_in_a_period_and_what_responses_cost_is_owed_in_it() {
    for store in ["", "\nstore: shared"] {
        let kit = Kit::new().with_store("shared");
        let plugin = kit.instance(
            &PLUGIN,
            &format!("limit: 10\nper: day\nkey: \"cel:request.headers['x-team']\"\ncost: {{response_header: x-cost, default: 2}}{store}"),
        );
        let mut task = (!store.is_empty()).then(|| kit.task(&plugin, "settle"));
        let mut asks = |cost: &str| {
            let mut exchange = Exchange::get("http://shop.test/").with("x-team", "a");
            let is_in = crate::testkit::went_on(&plugin.request(&mut exchange));
            exchange.response.insert_header("x-cost", cost).unwrap();
            plugin.response(&mut exchange);
            task.as_mut().map(|task| task.go_on());
            let left = exchange.response.headers["x-ratelimit-remaining"]
                .to_str()
                .unwrap();
            (is_in, left.to_owned())
        };

        assert_eq!(asks("5"), (true, "5".to_owned()), "{store}");
        assert_eq!(asks("0"), (true, "5".to_owned()));
        assert_eq!(asks("900"), (true, "0".to_owned()));
        assert!(!asks("1").0);
        kit.advance(DAY);
        assert_eq!(
            asks("1"),
            (true, "9".to_owned()),
            "what was owed is of that day"
        );

        match plugin.request(&mut Exchange::get("http://shop.test/")) {
            Verdict::Failed { cause, .. } => assert_eq!(cause.name, "quota.no_outcome"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cost_above_the_limit_waits_for_a_whole_period() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "limit: 3\nper: day\nkey: route\ncost: 5");
    let admits =
        || crate::testkit::went_on(&plugin.request(&mut Exchange::get("http://shop.test/")));

    assert!(admits() && !admits());
}
