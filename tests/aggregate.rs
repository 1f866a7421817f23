//! One request, several services, one answer: through a real listener, with pools and their health.
//! It must not know how answers are shaped; the plugin's own tests do.
//! Part of the test binary.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::proxy::{pool, run, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::wait::pause;
use crate::support::{Proxy, Upstream};

fn json_after(wait: Duration, body: Value) -> Upstream {
    let body = body.to_string();
    Upstream::with(move |_, stream| {
        pause(wait);
        answer(
            stream,
            200,
            &[("content-type", "application/json")],
            body.as_bytes(),
        )
    })
}

fn yaml(users: &Upstream, orders: &Upstream, app: &Upstream, more: &str) -> String {
    format!(
        "{}{}{}{ALL_TO_APP}  plugins: [{{kind: aggregate, config: {{calls: [{{name: user, service: {{url: 'http://users.test', pool: users}}, path: '/users/{{segment.1}}', group: user, timeout: 1s}}, {{name: orders, service: {{url: 'http://orders.test/all', pool: orders}}, group: orders, headers: [x-tenant], timeout: 1s}}]{more}}}}}]\n",
        pool("users", &[users]),
        pool("orders", &[orders]).trim_start_matches("pools:\n"),
        pool("app", &[app]).trim_start_matches("pools:\n"),
    )
}

#[test]
fn several_services_are_asked_at_once_and_answer_as_one() {
    let moment = Duration::from_millis(300);
    let users = json_after(moment, json!({"id": 7}));
    let orders = json_after(moment, json!([1, 2]));
    let app = Upstream::answering("the route's own");
    let proxy = Proxy::http(&yaml(&users, &orders, &app, ""));

    let began = Instant::now();
    let reply = proxy.ask("GET", "/page/7", "x-tenant: shop\r\nx-other: no\r\n");
    let took = began.elapsed();
    let head = proxy.ask("HEAD", "/page/7", "");
    let posted = proxy.ask("POST", "/page/7", "content-length: 0\r\n");

    assert_eq!((reply.status, &*reply.why()), (200, "aggregate"));
    assert_eq!(reply.json(), json!({"user": {"id": 7}, "orders": [1, 2]}));
    assert_eq!(reply.header("x-windrose-complete"), Some("true"));
    assert!(took < 2 * moment, "one after the other: {took:?}");
    let seen = orders.seen();
    assert_eq!(
        (seen[0].header("x-tenant"), seen[0].header("x-other")),
        (Some("shop"), None)
    );
    assert_eq!(users.last().target, "/users/7");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(posted.text(), "the route's own");
}

#[test]
fn whom_policies_refuse_does_not_get_what_services_say() {
    let users = json_after(Duration::ZERO, json!({"id": 7}));
    let orders = json_after(Duration::ZERO, json!([1]));
    let app = Upstream::answering("the route's own");
    let policy =
        "policies: [{name: no, action: deny, rules: [{when: {paths: [{prefix: /page/8}]}}]}]\n";
    let proxy = Proxy::http(&format!("{}{policy}", yaml(&users, &orders, &app, "")));

    let (refused, allowed) = (proxy.get("/page/8"), proxy.get("/page/7"));

    assert_eq!((refused.status, &*refused.why()), (403, "policy_denied"));
    assert!(!refused.text().contains("orders"));
    assert_eq!((allowed.status, &*allowed.why()), (200, "aggregate"));
}

#[test]
fn a_part_that_is_missing_is_told_or_fails_the_request() {
    let users = json_after(Duration::ZERO, json!({"id": 7}));
    let refusing = Upstream::refusing();
    let app = Upstream::answering("");
    let partial = Proxy::http(&yaml(&users, &refusing, &app, ", on_failure: partial"));
    let strict = Proxy::http(&yaml(&users, &refusing, &app, ""));

    let some = partial.get("/page/7");
    let none = strict.get("/page/7");
    let short = strict.get("/");

    assert_eq!(
        (some.status, some.json()),
        (200, json!({"user": {"id": 7}}))
    );
    assert_eq!(some.header("x-windrose-complete"), Some("false"));
    assert_eq!(some.header("cache-control"), Some("no-store"));
    assert_eq!((none.status, &*none.why()), (502, "aggregate.failed"));
    assert_eq!(
        (short.status, &*short.why()),
        (400, "aggregate.incomplete_request")
    );
    assert!(strict.stderr().contains("call \"orders\""));
}

#[test]
fn answers_that_cannot_be_merged_have_their_causes() {
    let users = json_after(Duration::ZERO, json!({"id": 7}));
    let text = Upstream::answering("no JSON");
    let large = json_after(Duration::ZERO, json!("x".repeat(2000)));
    let app = Upstream::answering("");

    let malformed = Proxy::http(&yaml(&users, &text, &app, "")).get("/page/7");
    let too_large = Proxy::http(&yaml(&users, &large, &app, ", max: 1KiB")).get("/page/7");

    assert_eq!(
        (malformed.status, &*malformed.why()),
        (502, "aggregate.malformed")
    );
    assert_eq!(
        (too_large.status, &*too_large.why()),
        (502, "aggregate.too_large")
    );
}

#[test]
fn explain_says_whom_it_would_ask_and_asks_nobody() {
    let (users, orders) = (
        json_after(Duration::ZERO, json!({})),
        json_after(Duration::ZERO, json!({})),
    );
    let app = Upstream::answering("");
    let proxy = Proxy::http(&yaml(&users, &orders, &app, ""));

    let file = proxy.config();
    let out = run(&[
        "explain",
        "GET",
        "http://a.test/page/7",
        "-c",
        file.to_str().unwrap(),
    ]);
    let told = String::from_utf8_lossy(&out.stdout).into_owned();

    assert!(
        told.contains("http://users.test/") && told.contains("http://orders.test/all"),
        "{told}"
    );
    assert_eq!(users.requests() + orders.requests(), 0);
}
