use super::*;
use crate::testkit::went_on;

fn response(plugin: &Instance, exchange: &mut Exchange, cost: Option<&str>) -> Option<String> {
    if let Some(cost) = cost {
        exchange.response.insert_header("x-cost", cost).unwrap();
    }
    assert!(went_on(&plugin.response(exchange)));
    let remaining = exchange.response.headers.get("x-ratelimit-remaining");
    remaining.map(|value| value.to_str().unwrap().to_owned())
}

/// Whether a request is let in, and what its response says is left.
fn asks(plugin: &Instance, cost: Option<&str>) -> (bool, Option<String>) {
    let mut exchange = get();
    let is_in = went_on(&plugin.request(&mut exchange));
    (is_in, response(plugin, &mut exchange, cost))
}

#[test]
fn an_expression_says_whose_requests_are_counted_together() {
    let plugin = Kit::new().instance(
        &PLUGIN,
        "rate: 1\nper: 1h\nkey: [route, \"cel:request.headers['x-tenant'] + (request.method == 'GET' ? '' : '!')\"]",
    );
    let with = |tenant: &str| get().with("x-tenant", tenant);

    assert!(admits(&plugin, with("a")) && admits(&plugin, with("b")) && admits(&plugin, with("")));
    assert!(!admits(&plugin, with("a")));
    assert!(admits(
        &plugin,
        Exchange::new("POST", "http://shop.test/").with("x-tenant", "a")
    ));
    assert!(!admits(&plugin, with("b").from("198.51.100.7")));
}

#[test]
fn an_expression_without_outcome_is_a_failure_of_its_own() {
    let kit = Kit::new().with_store("shared");
    let long = "x".repeat(1025);
    for (config, header) in [
        ("key: \"cel:request.headers['x-tenant']\"", None),
        (
            "key: \"cel:request.headers['x-tenant']\"",
            Some(("x-tenant", &*long)),
        ),
        ("key: 'cel:source.groups'", None),
        (
            "cost: \"int(request.headers['x-n'])\"",
            Some(("x-n", "many")),
        ),
        ("cost: \"int(request.headers['x-n'])\"", Some(("x-n", "-1"))),
        (
            "cost: \"int(request.headers['x-n'])\"",
            Some(("x-n", "1000000001")),
        ),
        ("cost: request.method", None),
    ] {
        for store in ["", "store: shared"] {
            let plugin = kit.instance(&PLUGIN, &format!("rate: 10\n{config}\n{store}"));
            let exchange = || match header {
                Some((name, value)) => get().with(name, value),
                None => get(),
            };
            for mut exchange in [exchange(), exchange().dry()] {
                match plugin.request(&mut exchange) {
                    Verdict::Failed { cause, .. } => {
                        assert_eq!(cause.name, "rate_limit.no_outcome")
                    }
                    other => panic!("{config}: {other:?}"),
                }
            }
        }
    }
    assert_eq!(kit.store("shared").asked(), 0);
}

#[test]
fn what_costs_more_takes_more_and_what_costs_nothing_is_not_counted() {
    for algorithm in ["token_bucket", "sliding_window"] {
        let kit = Kit::new();
        let plugin = kit.instance(
            &PLUGIN,
            &format!(
                "rate: 10\nper: 10s\nalgorithm: {algorithm}\ncost: \"int(request.headers['x-n'])\""
            ),
        );
        let cost = |uses: &str| get().with("x-n", uses);

        assert!(admits(&plugin, cost("7")) && !admits(&plugin, cost("4")));
        assert!(
            admits(&plugin, cost("0")) && admits(&plugin, cost("3")) && !admits(&plugin, cost("1"))
        );
        assert!(admits(&plugin, cost("0")));
        let answer = answered(plugin.request(&mut cost("5")));
        let seconds: u64 = field(&answer, "retry-after").unwrap().parse().unwrap();
        kit.advance(Duration::from_secs(seconds));
        assert!(
            admits(&plugin, cost("5")),
            "{algorithm}: it comes back after {seconds}s"
        );
        // More than there ever is waits for all of it.
        assert!(!admits(&plugin, cost("1000")));
        kit.advance(Duration::from_secs(30));
        assert!(admits(&plugin, cost("1000")) && !admits(&plugin, cost("1")));
    }
}

#[test]
fn what_a_response_costs_is_taken_then_and_owed_where_there_is_less() {
    let kit = Kit::new();
    let plugin = kit.instance(
        &PLUGIN,
        "rate: 10\nper: 10s\ncost: {response_header: X-Cost}",
    );
    let left = |text: &str| Some(text.to_owned());

    assert_eq!(asks(&plugin, Some("4")), (true, left("6")));
    assert_eq!(asks(&plugin, None), (true, left("5")), "the default stays");
    assert_eq!(
        asks(&plugin, Some("0")),
        (true, left("5")),
        "it is given back"
    );
    assert_eq!(asks(&plugin, Some("lots")), (true, left("4")));
    assert_eq!(kit.counted("cost_unreadable"), 1);
    // Two under way when there are four left cost 20 together: that is owed.
    let (mut one, mut other) = (get(), get());
    assert!(went_on(&plugin.request(&mut one)) && went_on(&plugin.request(&mut other)));
    assert_eq!(response(&plugin, &mut one, Some("10")), left("0"));
    assert_eq!(response(&plugin, &mut other, Some("10")), left("0"));
    let answer = answered(plugin.request(&mut get()));
    assert_eq!(field(&answer, "retry-after"), Some("17"));
    kit.advance(Duration::from_secs(16));
    assert!(!admits(&plugin, get()));
    kit.advance(Duration::from_secs(1));
    assert!(admits(&plugin, get()));
}

#[test]
fn refused_requests_and_dry_runs_settle_nothing() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "rate: 2\nper: 1h\ncost: {response_header: x-cost}");
    assert!(went_on(&plugin.request(&mut get().dry())) || kit.counted("limited") == 0);
    assert_eq!(asks(&plugin, Some("1")).1.as_deref(), Some("1"));
    assert!(asks(&plugin, Some("1")).0);
    assert_eq!(asks(&plugin, Some("0")), (false, Some("0".to_owned())));
    assert!(!admits(&plugin, get()), "the refusal gave nothing back");
}

#[test]
fn a_store_is_told_beside_the_response_and_again_when_it_is_back() {
    let kit = Kit::new().with_store("shared");
    let config =
        "rate: 10\nper: 10s\nstore: shared\nname: shop\nbatch: 4\ncost: {response_header: x-cost}";
    let plugin = kit.build_as("one", &PLUGIN, config).unwrap();
    let other = kit.build_as("other", &PLUGIN, config).unwrap();
    let mut task = kit.task(&plugin, "settle");

    assert_eq!(asks(&plugin, Some("8")), (true, Some("2".to_owned())));
    task.go_on();
    assert_eq!(
        asks(&other, Some("1")),
        (true, Some("1".to_owned())),
        "the other proxy sees it"
    );
    let mut under_way = get();
    assert!(went_on(&plugin.request(&mut under_way)));
    kit.store("shared")
        .fail(Some(crate::contract::StoreFailure::Unavailable));
    response(&plugin, &mut under_way, Some("6"));
    task.go_on();
    kit.store("shared").fail(None);
    kit.advance(Duration::from_secs(1));
    task.go_on();

    // Five are owed, of which one has grown.
    assert!(!admits(&other, get()) && !admits(&plugin, get()));
    kit.advance(Duration::from_secs(4));
    assert!(!admits(&other, get()));
    kit.advance(Duration::from_secs(2));
    assert!(admits(&other, get()));
    // What is not settled at the end of an instance is settled by the next.
    kit.advance(Duration::from_secs(20));
    asks(&plugin, Some("10"));
    assert!(!task.end());
    assert!(!admits(&other, get()));
}

#[test]
fn costs_are_taken_whole_from_a_store() {
    for algorithm in ["token_bucket", "sliding_window"] {
        let kit = Kit::new().with_store("shared");
        let plugin = kit.instance(
            &PLUGIN,
            &format!("rate: 10\nper: 10s\nalgorithm: {algorithm}\nstore: shared\nbatch: 1\ncost: \"int(request.headers['x-n'])\""),
        );
        let cost = |uses: &str| get().with("x-n", uses);

        assert!(admits(&plugin, cost("7")) && !admits(&plugin, cost("4")));
        assert!(admits(&plugin, cost("3")) && !admits(&plugin, cost("1")));
        kit.advance(Duration::from_secs(30));
        assert!(admits(&plugin, cost("99")) && !admits(&plugin, cost("1")));
    }
}

#[test]
fn costs_that_cannot_be_meant_are_refused() {
    let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

    assert_eq!(paths("rate: 5\ncost: 6"), ["cost"]);
    assert_eq!(paths("rate: 5\nburst: 9\ncost: 6"), Vec::<String>::new());
    assert_eq!(
        paths("rate: 5\ncost: {response_header: x, default: 0}"),
        ["cost.default"]
    );
    assert_eq!(paths("rate: 5\nkey: 'cel:1 +'"), ["key[0]"]);
    assert_eq!(paths("rate: 5\nkey: 'cel:unknown'"), ["key[0]"]);
}
