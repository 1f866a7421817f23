//! Routes to language models, as their clients and providers meet them: streams, keys, failover and budgets over real connections.
//! It must not know what a `usage` object may hold; the plugin's own tests do.
//! Part of the test binary.

use std::io::Write;

use serde_json::{json, Value};

use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::redis::Redis;
use crate::support::upstream::{answer, Seen};
use crate::support::{until, Proxy, Upstream};

const CHAT: &str = "/v1/chat/completions";

/// A provider: as many tokens as `user` says, in JSON or as a stream.
fn provider() -> Upstream {
    Upstream::with(|seen, stream| {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let tokens = asked["user"]
            .as_str()
            .and_then(|text| text.parse::<u64>().ok());
        let usage = tokens.map(|tokens| json!({"prompt_tokens": 1, "completion_tokens": tokens - 1, "total_tokens": tokens}));
        if asked["stream"] != true {
            let body =
                json!({"model": asked["model"], "choices": [{}], "usage": usage}).to_string();
            return answer(
                stream,
                200,
                &[
                    ("content-type", "application/json"),
                    ("x-ratelimit-limit-requests", "7"),
                ],
                body.as_bytes(),
            );
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let mut events = vec![
            json!({"choices": [{"delta": {"content": "one"}}]}),
            json!({"choices": [{"delta": {"content": "two"}}]}),
        ];
        if asked["stream_options"]["include_usage"] == true {
            events.push(json!({"choices": [], "usage": usage}));
        }
        let texts = events
            .iter()
            .map(Value::to_string)
            .chain(["[DONE]".to_owned()]);
        let text: String = texts.map(|event| format!("data: {event}\n\n")).collect();
        // In pieces that know nothing of events.
        for piece in text.as_bytes().chunks(11) {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(true)
    })
}

fn config(upstreams: &[&Upstream], more: &str) -> String {
    format!("{WEB}{}{ALL_TO_APP}{more}", pool("app", upstreams))
}

fn with(settings: &str) -> String {
    format!("  plugins:\n  - {{kind: llm, config: {{{settings}}}}}\n")
}

fn post(proxy: &Proxy, fields: &str, body: &Value) -> crate::support::client::Reply {
    let body = body.to_string();
    let length = body.len();
    proxy.connect().ask(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{fields}content-length: {length}\r\n\r\n{body}"
    ))
}

fn sent(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[test]
fn a_stream_is_counted_and_the_client_sees_what_it_asked_for() {
    let openai = provider();
    let proxy = Proxy::start(&config(
        &[&openai],
        &with("models: [{name: large, as: gpt-4o}], max_tokens: 50, providers: [{name: openai, key: sk-real, host: api.openai.test}], budget: {limit: 1000, key: route}"),
    ));
    let asked = json!({"model": "large", "stream": true, "max_tokens": 500, "user": "42"});

    let reply = post(
        &proxy,
        "authorization: Bearer mine\r\naccept-encoding: gzip\r\n",
        &asked,
    );

    let text = reply.text();
    assert!(
        text.contains("two") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
    assert!(!text.contains("usage"), "{text}");
    assert!(reply.header("x-ratelimit-remaining-tokens").is_some());
    let seen = openai.last();
    assert_eq!(seen.all("authorization"), ["Bearer sk-real"]);
    assert_eq!(
        (seen.header("host"), seen.header("accept-encoding")),
        (Some("api.openai.test"), Some("identity"))
    );
    let body = sent(&seen);
    assert_eq!(
        (&body["model"], &body["max_tokens"]),
        (&json!("gpt-4o"), &json!(50))
    );
    let line = proxy.logged(|line| line["llm_usage"] == "told");
    assert_eq!(
        (&line["llm_model"], &line["llm_provider"]),
        (&json!("large"), &json!("openai"))
    );
    assert_eq!(
        (&line["llm_prompt_tokens"], &line["llm_completion_tokens"]),
        (&json!(1), &json!(41))
    );
    let amount = |event: &str| {
        proxy.metric(
            "windrose_plugin_amounts_total",
            &[&format!("event=\"{event}\""), "of=\"large\""],
        )
    };
    // Plugins count at the end of a request, after its line.
    until("its tokens are counted", || {
        let counted = ["prompt_tokens", "completion_tokens", "requests"].map(amount);
        (counted == [1.0, 41.0, 1.0]).then_some(())
    });
    let all = format!(
        "{:?}{}{}",
        proxy.log(),
        proxy.stderr(),
        proxy.admin_reply("/config").text()
    );
    assert!(!all.contains("Bearer mine"));
}

#[test]
fn a_client_that_asks_for_usage_sees_it_and_other_models_and_paths_are_refused() {
    let openai = provider();
    let proxy = Proxy::start(&config(&[&openai], &with("models: [{name: large}]")));
    let asked = json!({"model": "large", "stream": true, "user": "42", "stream_options": {"include_usage": true}});

    assert!(post(&proxy, "", &asked)
        .text()
        .contains("\"total_tokens\":42"));
    let refused = post(&proxy, "", &json!({"model": "gpt-4o"}));
    assert_eq!(
        (refused.status, &*refused.why()),
        (404, "llm.model_refused")
    );
    assert_eq!(refused.json()["error"]["code"], "model_not_found");
    let other = proxy.get("/v1/models");
    assert_eq!((other.status, &*other.why()), (404, "llm.unknown_api"));
}

#[test]
fn a_further_attempt_has_the_key_and_the_model_of_the_next_provider() {
    let busy = Upstream::statuses(&[429]);
    let spare = provider();
    let endpoint = |upstream: &Upstream, name: &str, priority: u8| {
        format!(
            "{{address: '{}', priority: {priority}, labels: {{provider: {name}}}}}",
            upstream.address
        )
    };
    let endpoints = [endpoint(&busy, "first", 0), endpoint(&spare, "second", 1)].join(", ");
    let plugin = with("models: [{name: large, as: gpt}], providers: [{name: first, endpoints: {provider: first}, key: k1}, {name: second, endpoints: {provider: second}, key: k2, key_header: x-api-key, models: {large: a-much-longer-name}}]");
    let proxy = Proxy::start(&format!(
        "{WEB}pools:\n- name: app\n  endpoints: [{endpoints}]\n  ejection: {{consecutive_failures: 0}}\n{ALL_TO_APP}    retry: {{statuses: [429], methods: [POST], attempts: 1, backoff: {{base: 1ms, max: 1ms}}}}\n{plugin}"
    ));

    let reply = post(
        &proxy,
        "",
        &json!({"model": "large", "user": "9", "x": "y".repeat(100_000)}),
    );

    assert_eq!(
        (reply.status, &reply.json()["model"]),
        (200, &json!("a-much-longer-name"))
    );
    assert_eq!(reply.header("x-ratelimit-limit-requests"), None);
    let (first, second) = (busy.last(), spare.last());
    assert_eq!(
        (first.header("authorization"), &sent(&first)["model"]),
        (Some("Bearer k1"), &json!("gpt"))
    );
    assert_eq!(
        (second.header("authorization"), second.header("x-api-key")),
        (None, Some("k2"))
    );
    assert_eq!(sent(&second)["x"].as_str().map(str::len), Some(100_000));
    assert_eq!(
        proxy.logged(|line| line["status"] == 200)["llm_provider"],
        "second"
    );
}

#[test]
fn an_endpoint_without_a_provider_never_sees_the_clients_key() {
    let stray = provider();
    let plugin = with("providers: [{name: one, endpoints: {provider: one}, key: k1}]");
    let proxy = Proxy::start(&config(&[&stray], &plugin));

    let reply = post(
        &proxy,
        "authorization: Bearer mine\r\n",
        &json!({"model": "m"}),
    );

    assert_eq!((reply.status, &*reply.why()), (503, "llm.no_provider"));
    assert_eq!(stray.requests(), 0);
}

#[test]
fn a_budget_holds_over_two_proxies_and_a_store_that_dies_has_its_own_cause() {
    let (mut redis, openai) = (Redis::start(), provider());
    let yaml = |mode: &str| {
        let budget = format!("budget: {{limit: 100, per: 31d, key: route, name: api, store: shared, assume: 30, on_store_failure: {mode}}}");
        format!(
            "redis: [{{name: shared, url: 'redis://127.0.0.1:{}'}}]\n{}",
            redis.port,
            config(&[&openai], &with(&budget))
        )
    };
    let proxies = ["closed", "local"].map(|mode| Proxy::start(&yaml(mode)));
    let asked = |tokens: u64| json!({"model": "m", "user": tokens.to_string()});

    assert_eq!(post(&proxies[0], "", &asked(95)).status, 200);
    let refused = until("the other proxy knows of it", || {
        let reply = post(&proxies[1], "", &asked(1));
        (reply.status == 429).then_some(reply)
    });
    assert_eq!(refused.why(), "llm.limited");
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(refused.header("x-ratelimit-limit-tokens"), Some("100"));
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    let keys = redis.ask(&["KEYS", "windrose:llm:api:*"]);
    assert_eq!(keys.trim().lines().count(), 1, "{keys}");

    redis.kill();
    for proxy in &proxies {
        until("the store is lost", || {
            (proxy.metric("windrose_store_up", &[]) == 0.0).then_some(())
        });
    }
    let closed = until("what was known is old", || {
        let reply = post(&proxies[0], "", &asked(1));
        (reply.status != 429).then_some(reply)
    });
    assert_eq!(
        (closed.status, &*closed.why()),
        (503, "llm.store_unavailable")
    );
    until("counted here", || {
        (post(&proxies[1], "", &asked(1)).status == 200).then_some(())
    });
}

#[test]
fn a_stream_that_its_client_gives_up_counts_as_it_was_expected() {
    let endless = Upstream::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"choices\":[{}]}\n\n")?;
        let _ = std::io::Read::read(stream, &mut [0; 1]);
        Ok(false)
    });
    let plugin = with("budget: {limit: 1000, per: 31d, key: route}");
    let proxy = Proxy::start(&config(&[&endless], &plugin));
    let body = json!({"model": "m", "stream": true, "max_tokens": 900}).to_string();
    let length = body.len();

    let mut client = proxy.connect();
    client.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    client.through(b"data:").unwrap();
    drop(client);

    let line = proxy.logged(|line| line["llm_usage"] == "estimated");
    assert!(
        line["llm_completion_tokens"].as_u64() >= Some(900),
        "{line}"
    );
    let refused = post(&proxy, "", &json!({"model": "m", "max_tokens": 900}));
    assert_eq!((refused.status, &*refused.why()), (429, "llm.limited"));
    let bad = post(&proxy, "", &json!({"model": 7}));
    assert_eq!((bad.status, &*bad.why()), (400, "llm.malformed"));
}

#[test]
fn bodies_are_bounded_and_what_was_used_is_gone() {
    let openai = provider();
    let plugin = with("budget: {limit: 100, per: 31d, key: route}, body_limit: 1KiB");
    let proxy = Proxy::start(&config(&[&openai], &plugin));
    let large = post(&proxy, "", &json!({"model": "m", "x": "y".repeat(2000)}));
    assert_eq!((large.status, &*large.why()), (413, "llm.too_large"));

    let small = json!({"model": "m", "max_tokens": 10, "user": "95"});
    assert_eq!(post(&proxy, "", &small).status, 200);
    until("what it took is known", || {
        (post(&proxy, "", &small).status == 429).then_some(())
    });
}

#[test]
fn a_budget_whose_key_has_no_outcome_refuses_or_lets_through_as_on_error_says() {
    let openai = provider();
    let plugin = |on_error: &str| {
        format!("  plugins:\n  - {{kind: llm, on_error: {on_error}, config: {{models: [{{name: m, as: real}}], budget: {{limit: 100, key: \"cel:request.headers['x-team']\"}}}}}}\n")
    };
    let [closed, open] =
        ["closed", "open"].map(|mode| Proxy::start(&config(&[&openai], &plugin(mode))));
    let asked = json!({"model": "m", "max_tokens": 10, "user": "5"});

    let refused = post(&closed, "", &asked);
    assert_eq!((refused.status, &*refused.why()), (403, "llm.no_outcome"));
    assert_eq!(post(&closed, "x-team: a\r\n", &asked).status, 200);
    assert_eq!(post(&open, "", &asked).status, 200);
    assert_eq!(
        sent(&openai.last())["model"],
        "real",
        "it is counted by nobody, and changed all the same"
    );
}
