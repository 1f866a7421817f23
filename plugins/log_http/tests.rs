use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::contract::{CallFailure, Reply};
use crate::testkit::{reply, Exchange, Instance, Kit};

const SERVICE: &str = "http://logs/ingest";

fn instance(kit: &Kit, more: &str) -> Instance {
    kit.instance(&PLUGIN, &format!("service: {SERVICE}\n{more}"))
}

fn ok() -> Result<Reply, CallFailure> {
    Ok(reply(204, &[], ""))
}

/// A request from its begin to its end.
fn pass(plugin: &Instance, exchange: &mut Exchange) {
    plugin.request(exchange);
    plugin.finish(exchange, Duration::from_millis(12));
}

fn pass_many(plugin: &Instance, count: usize) {
    (0..count).for_each(|_| pass(plugin, &mut Exchange::get("http://shop.test/")));
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_batch_says_of_each_request_what_there_is_to_say_and_no_credentials() {
    let kit = Kit::new();
    kit.answer(SERVICE, ok());
    let plugin = instance(
        &kit,
        "headers: {authorization: Bearer own}\nrequest_headers: [user-agent, authorization, x-api-*]",
    );
    let mut task = kit.task(&plugin, "send");
    kit.advance(Duration::from_millis(500));
    let mut first = Exchange::new("POST", "http://shop.test/raw?token=hidden")
        .with_path("/canonical")
        .with_id("id-1")
        .on_route("orders")
        .with("user-agent", "a \"b\"")
        .with("authorization", "Bearer hidden")
        .with("x-api-key", "hidden")
        .with("cookie", "hidden=1");
    first.response.set_status(201).unwrap();
    pass(&plugin, &mut first);
    // An earlier plugin answered: no hook of this one ran before the end.
    let mut early = Exchange::get("http://shop.test/early").as_consumer("ann");
    plugin.finish(&mut early, Duration::ZERO);
    assert!(kit.asked().is_empty(), "it waits for more");
    kit.advance(Duration::from_millis(500));
    assert!(task.go_on());

    let asked = kit.asked().remove(0);
    assert_eq!((&*asked.method, &*asked.url), ("POST", SERVICE));
    assert_eq!(asked.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(asked.header("authorization"), Some("Bearer own"));
    assert!(!asked.text().contains("hidden"), "{}", asked.text());
    let lines = lines(asked.text());
    assert_eq!(
        lines[0],
        serde_json::json!({
            "time": "1970-01-01T00:00:00.500Z", "request_id": "id-1", "client": "192.0.2.1",
            "listener": "test", "route": "orders", "host": "shop.test", "method": "POST", "path": "/canonical",
            "status": 201, "cause": null, "duration_ms": 12, "request_bytes": 0, "response_bytes": 0,
            "pool": "test", "endpoint": "192.0.2.10:80",
            "headers": {"user-agent": ["a \"b\""], "authorization": ["***"], "x-api-key": ["***"]},
        })
    );
    assert_eq!(
        [
            &lines[1]["path"],
            &lines[1]["method"],
            &lines[1]["principal"]
        ],
        ["/early", "GET", "consumer:ann"]
    );
    assert_eq!(kit.counted("logged"), 2);
}

#[test]
fn what_other_plugins_note_is_told() {
    let kit = Kit::new();
    kit.answer(SERVICE, ok());
    let models = kit.instance(&crate::llm::PLUGIN, "max_tokens: 5");
    let plugin = instance(&kit, "batch: 1");
    let mut task = kit.task(&plugin, "send");
    let mut exchange =
        Exchange::new("POST", "http://shop.test/v1/chat/completions").with_body(r#"{"model":"m"}"#);

    models.request(&mut exchange);
    pass(&plugin, &mut exchange);
    task.go_on();

    let line = &lines(kit.asked()[0].text())[0];
    assert_eq!(
        (&line["llm_model"], &line["llm_prompt_tokens"]),
        (&"other".into(), &3.into())
    );
}

#[test]
fn a_full_batch_does_not_wait_and_may_be_an_array() {
    let kit = Kit::new();
    kit.answer(SERVICE, ok());
    let plugin = instance(&kit, "batch: 3\nformat: array\nquery: true");
    let mut task = kit.task(&plugin, "send");

    pass_many(&plugin, 7);
    task.go_on();

    let asked = kit.asked();
    let counts = asked.iter().map(|one| {
        let all: Vec<Value> = serde_json::from_slice(&one.body).unwrap();
        all.len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [3, 3]);
    kit.advance(Duration::from_secs(1));
    task.go_on();
    assert_eq!(kit.counted("logged"), 7);
}

#[test]
fn what_fails_is_sent_again_with_longer_pauses_and_given_up_in_the_end() {
    let kit = Kit::new();
    kit.answer(SERVICE, Ok(reply(500, &[], "")));
    kit.answer(SERVICE, Err(CallFailure::TimedOut));
    kit.answer(SERVICE, Ok(reply(429, &[], "")));
    let plugin = instance(&kit, "attempts: 3\nbatch: 1");
    let mut task = kit.task(&plugin, "send");
    pass_many(&plugin, 1);
    let mut asked_after = |seconds: u64| {
        kit.advance(Duration::from_secs(seconds));
        task.go_on();
        kit.asked().len()
    };

    assert_eq!(asked_after(0), 1);
    assert_eq!(asked_after(1), 2);
    assert_eq!(asked_after(1), 2);
    assert_eq!(asked_after(1), 3);

    assert_eq!((kit.counted("lost"), kit.counted("logged")), (1, 0));
    assert_eq!(asked_after(60), 3, "nothing is left");
}

#[test]
fn what_the_collector_refuses_is_not_sent_again() {
    let kit = Kit::new();
    kit.answer(SERVICE, Ok(reply(413, &[], "")));
    let plugin = instance(&kit, "batch: 1");
    let mut task = kit.task(&plugin, "send");

    pass_many(&plugin, 1);
    task.go_on();
    kit.advance(Duration::from_secs(60));
    task.go_on();

    assert_eq!((kit.asked().len(), kit.counted("refused")), (1, 1));
}

#[test]
fn what_has_no_room_is_dropped_and_counted() {
    let kit = Kit::new();
    let plugin = instance(&kit, "batch: 2\nqueue: 3");
    pass_many(&plugin, 5);
    assert_eq!(kit.counted("dropped"), 2);

    let small = Kit::new();
    let plugin = instance(&small, "queue_size: 64KiB");
    let long = format!("http://shop.test/{}", "x".repeat(2000));
    (0..100).for_each(|_| pass(&plugin, &mut Exchange::get(&long)));
    assert!(
        (60..100).contains(&small.counted("dropped")),
        "{}",
        small.counted("dropped")
    );
}

#[test]
fn what_waits_survives_a_reload_and_what_is_left_is_sent_at_the_end() {
    let kit = Kit::new();
    kit.answer(SERVICE, Err(CallFailure::NoEndpoint));
    let before = instance(&kit, "");
    let mut task = kit.task(&before, "send");
    pass_many(&before, 2);
    assert!(!task.end(), "it ends though the collector is away");
    kit.forget_answers(SERVICE);
    kit.answer(SERVICE, ok());

    let after = instance(&kit, "batch: 400");
    drop(before);
    let mut task = kit.task(&after, "send");
    pass_many(&after, 1);
    assert!(!task.end());

    assert_eq!(lines(kit.asked().last().unwrap().text()).len(), 3);
    assert_eq!(kit.counted("logged"), 3);
}

#[test]
fn a_dry_run_tells_nobody() {
    let kit = Kit::new();
    let plugin = instance(&kit, "");

    assert!(crate::testkit::went_on(
        &plugin.request(&mut Exchange::get("http://shop.test/").dry())
    ));

    assert!(kit.asked().is_empty());
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand_without_their_secrets() {
    for (config, path) in [
        ("headers: {connection: a}", "headers.connection"),
        (
            "headers: {authorization: \"hidden\\n\"}",
            "headers.authorization",
        ),
        ("batch: 0", "batch"),
        ("queue: 10", "queue"),
        ("queue_size: 1KiB", "queue_size"),
        ("attempts: 0", "attempts"),
        ("wait: 2m", "wait"),
        ("timeout: 2m", "timeout"),
        ("request_headers: ['*']", "request_headers[0]"),
    ] {
        let problems = Kit::new().problems(&PLUGIN, &format!("service: {SERVICE}\n{config}"));
        let paths: Vec<_> = problems.iter().map(|problem| &*problem.path).collect();
        assert_eq!(paths, [path], "{config}");
        assert!(!format!("{problems:?}").contains("hidden"));
    }
}
