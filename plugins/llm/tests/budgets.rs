//! Budgets: what is reserved, what is corrected, and what goes beyond; in this process and in a store.
//! It must not look into the tables.
//! Part of `llm`'s tests.

use super::*;
use crate::contract::{Consumer, StoreFailure};

fn small(max_tokens: u64) -> Exchange {
    // 39 to 41 bytes: a prompt of nine or ten tokens.
    ask(&format!(
        r#"{{"model":"m","x":"yyyy","max_tokens":{max_tokens}}}"#
    ))
    .as_consumer("ann")
}

/// An exchange that is let through and has used so many tokens.
fn uses(plugin: &Instance, mut exchange: Exchange, tokens: u64) -> Exchange {
    assert!(went_on(&plugin.request(&mut exchange)));
    let body = format!(r#"{{"usage":{{"total_tokens":{tokens}}}}}"#);
    answers(
        plugin,
        &mut exchange,
        "application/json",
        &[body.as_bytes()],
    );
    exchange
}

fn remaining(exchange: &Exchange) -> &str {
    fields(&exchange.response.headers, "x-ratelimit-remaining-tokens")[0]
}

#[test]
fn what_is_expected_counts_until_more_is_known() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "budget: {limit: 100, per: 1h}");
    let mut under_way = small(50);
    assert!(went_on(&plugin.request(&mut under_way)));

    let refused = answered(plugin.request(&mut small(50)));
    assert_eq!((refused.status, refused.cause.name), (429, "llm.limited"));
    assert_eq!(field(&refused, "retry-after"), Some("3600"));
    assert_eq!(field(&refused, "x-ratelimit-limit-tokens"), Some("100"));
    assert_eq!(field(&refused, "x-ratelimit-reset-tokens"), Some("1h0m0s"));
    let (_, body) = refused.body.unwrap();
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");
    assert_eq!(kit.counted("limited"), 1);
    assert!(went_on(&plugin.request(&mut small(50).as_consumer("bob"))));

    answers(
        &plugin,
        &mut under_way,
        "application/json",
        &[br#"{"usage":{"total_tokens":20}}"#],
    );
    let next = uses(&plugin, small(50), 20);
    assert_eq!(
        remaining(&next),
        "20",
        "80 but for what is expected of this one"
    );
    let last = uses(&plugin, small(40), 100);
    assert_eq!(remaining(&last), "10");
    let refused = answered(plugin.request(&mut small(1)));
    assert_eq!(field(&refused, "x-ratelimit-remaining-tokens"), Some("0"));

    kit.advance(Duration::from_secs(3600));
    uses(&plugin, small(50), 1);
}

#[test]
fn without_a_reservation_all_go_on_that_come_before_the_limit() {
    let kit = Kit::new();
    let plugin = kit.instance(
        &PLUGIN,
        "budget: {limit: 100, per: 1h, reserve: nothing, fields: false}",
    );
    let mut all = [small(500), small(500), small(500)];
    for one in &mut all {
        assert!(went_on(&plugin.request(one)));
    }
    for one in &mut all {
        answers(&plugin, one, "application/json", &[USAGE.as_bytes()]);
        assert!(fields(&one.response.headers, "x-ratelimit-remaining-tokens").is_empty());
    }

    let refused = answered(plugin.request(&mut small(1)));

    assert_eq!(refused.headers.len(), 1, "only Retry-After");
}

fn with_tokens(tokens: &str) -> Kit {
    let ann = Consumer {
        name: "ann".to_owned(),
        metadata: [("tokens".to_owned(), tokens.to_owned())].into(),
        ..Consumer::default()
    };
    Kit::new().with_consumer(ann, [])
}

#[test]
fn an_expression_may_be_the_key_and_has_a_cause_where_it_has_no_outcome() {
    let kit = Kit::new();
    let plugin = kit.instance(
        &PLUGIN,
        "budget: {limit: 100, per: 1h, key: \"cel:request.headers['x-team']\"}",
    );
    let of = |team: &str| small(80).with("x-team", team);

    assert!(went_on(&plugin.request(&mut of("a"))));
    assert_eq!(answered(plugin.request(&mut of("a"))).status, 429);
    assert!(went_on(&plugin.request(&mut of("b"))));
    let verdict = plugin.request(&mut small(80));
    assert!(matches!(verdict, Verdict::Failed { cause, .. } if cause.name == "llm.no_outcome"));
}

#[test]
fn consumers_may_have_limits_of_their_own() {
    let kit = with_tokens("9");
    let plugin = kit.instance(&PLUGIN, "budget: {limit: 1000, limit_from: tokens}");

    assert_eq!(answered(plugin.request(&mut small(1))).status, 429);
    assert!(went_on(&plugin.request(&mut small(1).as_consumer("bob"))));
    let wrong = with_tokens("many");
    assert_eq!(
        wrong.problem_paths(&PLUGIN, "budget: {limit: 1, limit_from: tokens}"),
        ["budget.limit_from"]
    );
}

#[test]
fn errors_count_nothing_and_what_breaks_off_counts_as_expected() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "budget: {limit: 100, per: 1h}");
    let mut failed = small(80).with_status(500);
    assert!(went_on(&plugin.request(&mut failed)));
    answers(&plugin, &mut failed, "text/html", &[b"<p>oops"]);
    let mut broken = small(80);
    assert!(went_on(&plugin.request(&mut broken)));
    broken
        .response
        .insert_header("content-type", "text/event-stream")
        .unwrap();
    plugin.response(&mut broken);
    plugin.response_body(
        &mut broken,
        &mut Some(Bytes::from_static(b"data: {}\n\n")),
        false,
    );
    plugin.finish(&mut broken, Duration::from_secs(1));

    assert_eq!(answered(plugin.request(&mut small(80))).status, 429);
    assert_eq!(kit.counted("estimated"), 1);

    kit.advance(Duration::from_secs(3600));
    let mut left = small(80);
    assert!(went_on(&plugin.request(&mut left)));
    left.cause = Some(&crate::contract::causes::CLIENT_CLOSED);
    plugin.finish(&mut left, Duration::from_secs(1));
    assert_eq!(answered(plugin.request(&mut small(80))).status, 429);

    kit.advance(Duration::from_secs(3600));
    let mut unanswered = small(80);
    assert!(went_on(&plugin.request(&mut unanswered)));
    unanswered.cause = Some(&crate::contract::causes::CONNECT_REFUSED);
    plugin.finish(&mut unanswered, Duration::from_secs(1));
    assert!(went_on(&plugin.request(&mut small(80))));
}

#[test]
fn an_answer_that_tells_nothing_or_lies_counts_by_its_length() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "budget: {limit: 1000, per: 1h}");
    let body = |usage: &str| {
        format!(
            "{{\"usage\":{usage},\"x\":\"{}\"}}",
            "y".repeat(400 - 17 - usage.len())
        )
    };

    for usage in [
        "null",
        "-5",
        "{\"total_tokens\":\"1\"}",
        "{\"total_tokens\":-1}",
        "{\"total_tokens\":1e12}",
    ] {
        let mut exchange = small(500);
        assert!(went_on(&plugin.request(&mut exchange)));
        let body = body(usage);
        answers(
            &plugin,
            &mut exchange,
            "application/json",
            &[body.as_bytes()],
        );
        let completion = ("llm_completion_tokens", Said::Number(100));
        assert!(
            exchange.notes.contains(&completion),
            "{usage}: {:?}",
            exchange.notes
        );
        kit.advance(Duration::from_secs(3600));
    }
    assert_eq!(kit.counted("unbelievable"), 3);
    assert_eq!(kit.counted("estimated"), 5);

    let mut zipped = small(500).with_response("content-encoding", "gzip");
    assert!(went_on(&plugin.request(&mut zipped)));
    let got = answers(&plugin, &mut zipped, "application/json", &[&[0xff; 40]]);
    assert_eq!(got, [0xff; 40]);
    assert!(zipped
        .notes
        .contains(&("llm_completion_tokens", Said::Number(10))));
}

fn shared(kit: &Kit, name: &str, more: &str) -> Instance {
    let config = format!("budget: {{limit: 100, per: 1h, name: api, store: shared{more}}}");
    kit.build_as(name, &PLUGIN, &config).unwrap()
}

#[test]
fn proxies_count_together_in_a_store() {
    let kit = Kit::new().with_store("shared");
    let (one, other) = (shared(&kit, "one", ""), shared(&kit, "other", ""));
    let (mut task, mut second) = (kit.task(&one, "settle"), kit.task(&other, "settle"));
    uses(&one, small(80), 20);

    assert_eq!(
        answered(other.request(&mut small(80))).status,
        429,
        "not settled yet"
    );
    task.go_on();
    second.go_on();
    let next = uses(&other, small(60), 80);
    assert_eq!(remaining(&next), "10");
    second.go_on();
    assert_eq!(answered(one.request(&mut small(1))).status, 429);

    let asked = kit.store("shared").asked();
    assert_eq!(answered(one.request(&mut small(1))).status, 429);
    assert_eq!(
        kit.store("shared").asked(),
        asked,
        "that nothing is left is known for a second"
    );
    assert_eq!(kit.store("shared").keys().len(), 1);
    assert!(!task.end() && !second.end());
}

#[test]
fn a_store_that_fails_has_a_cause_of_its_own_and_is_told_later() {
    let kit = Kit::new().with_store("shared");
    let closed = shared(&kit, "closed", ", on_store_failure: closed");
    let open = shared(&kit, "open", ", on_store_failure: open");
    let local = shared(&kit, "local", "");
    let mut task = kit.task(&open, "settle");
    kit.store("shared").fail(Some(StoreFailure::Unavailable));

    let verdict = closed.request(&mut small(1));
    assert!(
        matches!(verdict, Verdict::Failed { cause, .. } if cause.name == "llm.store_unavailable")
    );
    uses(&local, small(10), 100);
    assert_eq!(
        answered(local.request(&mut small(1))).status,
        429,
        "counted here"
    );
    uses(&open, small(80), 95);
    task.go_on();
    assert!(kit.counted("store_failed") > 0);

    kit.store("shared").fail(None);
    kit.advance(Duration::from_secs(1));
    task.go_on();
    assert_eq!(
        answered(closed.request(&mut small(1))).status,
        429,
        "what was let through is told"
    );
}

#[test]
fn a_dry_run_beside_traffic_sees_what_is_left_and_takes_nothing() {
    let plugin = Kit::new().instance(&PLUGIN, "budget: {limit: 100, per: 1h}");
    uses(&plugin, small(80), 60);

    assert!(matches!(
        plugin.request(&mut small(20).dry()),
        Verdict::Unknown(_)
    ));
    assert!(went_on(&plugin.request(&mut small(20))));
}
