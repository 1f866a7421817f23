//! Built-in plugins as a client meets them: through a real listener and route.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::{until, Proxy, Upstream};

/// A proxy to a service, with these plugins on the route.
fn on_route(service: &Upstream, plugins: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins:\n{plugins}",
        pool("app", &[service])
    ))
}

/// bcrypt of `U*U`, from the algorithm's own test vectors.
const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

#[test]
fn basic_auth_lets_known_users_in_and_names_them() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        &format!("  - kind: basic_auth\n    config: {{users: {{ann: '{HASH}'}}}}\n"),
    );
    let ask = |credentials: &str| {
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, credentials);
        proxy.ask("GET", "/", &format!("authorization: Basic {encoded}\r\n"))
    };

    let (none, wrong, right) = (proxy.get("/"), ask("ann:wrong"), ask("ann:U*U"));

    assert_eq!((none.status, wrong.status, right.status), (401, 401, 200));
    assert!(none
        .header("www-authenticate")
        .unwrap_or("")
        .starts_with("Basic "));
    assert_eq!(
        (&*none.why(), &*wrong.why()),
        ("auth.basic_missing", "auth.basic_wrong")
    );
    assert_eq!(service.requests(), 1);
    let line = proxy.logged(|line| line["status"] == 200);
    assert!(
        line["principal"].as_str().unwrap_or("").contains("ann"),
        "{line}"
    );
}

/// SHA-256 of `foo`, and of `bar`.
const FOO: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
const BAR: &str = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9";

#[test]
fn a_consumer_is_known_by_its_key_and_let_in_by_its_group() {
    let service = Upstream::echo();
    let proxy = Proxy::http(&format!(
        "consumers:\n- {{name: ann, groups: [staff], keys: ['{FOO}']}}\n- {{name: bob, groups: [guests], keys: ['{BAR}'], password: '{HASH}'}}\n{}{ALL_TO_APP}  plugins:\n  - {{kind: key_auth, config: {{from: [{{header: x-api-key}}, {{query: key}}]}}}}\n  - {{kind: acl, config: {{allow: {{groups: [staff]}}}}}}\n",
        pool("app", &[&service])
    ));
    let ask = |key: &str| proxy.ask("GET", "/a?x=1", &format!("x-api-key: {key}\r\n"));

    let replies = [proxy.get("/"), ask("baz"), ask("bar"), ask("foo")];

    let seen = replies.each_ref().map(|reply| (reply.status, reply.why()));
    let expected = [
        (401, "auth.key_missing"),
        (401, "auth.key_wrong"),
        (403, "policy_denied.acl"),
        (200, ""),
    ];
    assert_eq!(seen, expected.map(|(status, why)| (status, why.to_owned())));
    assert_eq!(service.last().header("x-api-key"), None, "keys end here");
    proxy.logged(|line| line["principal"] == "consumer:ann" && line["status"] == 200);
    let by_query = proxy.get("/a?key=foo");
    assert_eq!(by_query.status, 200);
    assert!(!service.last().raw.contains("foo"));
    let shown = proxy.admin_reply("/config").text();
    assert!(!shown.contains(FOO) && !shown.contains(HASH), "{shown}");
}

#[test]
fn a_reload_takes_a_key_and_a_group_away() {
    let service = Upstream::answering("ok");
    let config = |consumer: &str| {
        format!(
            "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\nconsumers: [{{name: ann, groups: [staff], keys: ['{FOO}', '{BAR}']}}, {consumer}]\n{}{ALL_TO_APP}  plugins: [{{kind: key_auth}}, {{kind: acl, config: {{allow: {{groups: [staff]}}}}}}]\n",
            pool("app", &[&service])
        )
    };
    let ask = |proxy: &Proxy, key: &str| {
        proxy
            .ask("GET", "/", &format!("x-api-key: {key}\r\n"))
            .status
    };
    let proxy = Proxy::start(&config("{name: bob}"));
    assert_eq!(["foo", "bar"].map(|key| ask(&proxy, key)), [200, 200]);

    proxy.reload(&config("{name: bob}").replace(&format!(", '{BAR}'"), ""));
    assert_eq!(["foo", "bar"].map(|key| ask(&proxy, key)), [200, 401]);
    proxy.reload(&config("{name: bob, groups: [staff]}").replace("ann, groups: [staff]", "ann"));
    assert_eq!(ask(&proxy, "foo"), 403);
}

#[test]
fn rate_limit_lets_a_burst_through_and_says_when_to_come_back() {
    let service = Upstream::answering("ok");
    let proxy = on_route(
        &service,
        "  - kind: rate_limit\n    config: {rate: 1, per: 1h, burst: 3}\n",
    );

    let replies = [(); 5].map(|()| proxy.get("/"));

    assert_eq!(
        replies.each_ref().map(|reply| reply.status),
        [200, 200, 200, 429, 429]
    );
    assert_eq!(replies[4].why(), "rate_limited");
    assert!(replies[4].header("retry-after").is_some());
    assert!(
        replies[0].header("ratelimit").is_some()
            && replies[0].header("x-ratelimit-remaining").is_some()
    );
}

#[test]
fn rate_limit_remembers_over_a_reload() {
    let service = Upstream::answering("ok");
    let config = |name: &str| {
        format!(
            "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\n{}plugins: {{slow: {{kind: rate_limit, config: {{rate: 1, per: 1h, burst: 2}}}}}}\nroutes: [{{name: {name}, plugins: [slow], rules: [{{pool: app}}]}}]\n",
            pool("app", &[&service])
        )
    };
    let proxy = Proxy::start(&config("one"));
    assert_eq!([(); 2].map(|()| proxy.get("/").status), [200, 200]);

    proxy.reload(&config("two"));

    assert_eq!(proxy.get("/").status, 429);
}

#[test]
fn cors_answers_preflights_and_marks_responses() {
    let service = Upstream::answering("ok");
    let proxy = on_route(
        &service,
        "  - kind: cors\n    config: {origins: ['https://app.test'], methods: [GET, DELETE]}\n",
    );

    let preflight = proxy.ask(
        "OPTIONS",
        "/",
        "origin: https://app.test\r\naccess-control-request-method: DELETE\r\n",
    );
    let simple = proxy.ask("GET", "/", "origin: https://app.test\r\n");
    let foreign = proxy.ask("GET", "/", "origin: https://evil.test\r\n");

    assert!(
        matches!(preflight.status, 200 | 204),
        "{}",
        preflight.status
    );
    assert!(preflight
        .header("access-control-allow-methods")
        .unwrap_or("")
        .contains("DELETE"));
    assert_eq!(
        simple.header("access-control-allow-origin"),
        Some("https://app.test")
    );
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert_eq!(service.requests(), 2, "the preflight stays here");
}

#[test]
fn cors_marks_are_on_answers_of_the_proxy_too() {
    let dead = Upstream::refusing();
    let proxy = on_route(
        &dead,
        "  - kind: cors\n    config: {origins: ['https://app.test']}\n",
    );

    let reply = proxy.ask("GET", "/", "origin: https://app.test\r\n");

    assert_eq!(reply.status, 502);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://app.test")
    );
}

#[test]
fn ip_filter_refuses_requests_on_a_route_and_connections_on_a_listener() {
    let service = Upstream::answering("ok");
    let by_request = on_route(
        &service,
        "  - kind: ip_filter\n    config: {deny: [127.0.0.0/8]}\n",
    );
    let by_connection = Proxy::start(&format!(
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  plugins: [{{kind: ip_filter, config: {{deny: [127.0.0.0/8], at: connection}}}}]\n{}{ALL_TO_APP}",
        pool("app", &[&service])
    ));

    let reply = by_request.get("/");
    let mut conn = by_connection.connect();

    assert_eq!(
        (reply.status, &*reply.why()),
        (403, "policy_denied.ip_filter")
    );
    assert!(conn.ends());
    until("the refusal is counted", || {
        let marks = ["policy_denied.ip_filter"];
        (by_connection.metric("windrose_connection_failures_total", &marks) == 1.0).then_some(())
    });
    assert_eq!(service.requests(), 0);
}

#[test]
fn respond_answers_in_place_of_the_service() {
    let service = Upstream::answering("ok");
    let proxy = on_route(
        &service,
        "  - kind: respond\n    config: {status: 503, json: {error: maintenance}, retry_after: 10m}\n",
    );

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.why()), (503, "respond"));
    assert_eq!(reply.json()["error"], "maintenance");
    assert_eq!(reply.header("retry-after"), Some("600"));
}

#[test]
fn headers_edits_both_ways() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "  - kind: headers\n    config: {request: {set: {x-in: '1'}, remove: [x-secret]}, response: {set: {x-out: '2'}}}\n",
    );

    let reply = proxy.ask("GET", "/", "x-secret: s\r\n");

    assert_eq!(service.last().header("x-in"), Some("1"));
    assert_eq!(service.last().header("x-secret"), None);
    assert_eq!(reply.header("x-out"), Some("2"));
}

#[test]
fn body_limit_bounds_announced_and_growing_bodies() {
    let service = Upstream::echo();
    let proxy = on_route(&service, "  - kind: body_limit\n    config: {max: 1KiB}\n");
    let chunk = format!("800\r\n{}\r\n0\r\n\r\n", "a".repeat(2048));

    let announced = proxy.ask("POST", "/", "content-length: 2048\r\n");
    let growing = proxy.connect().ask(format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    ));
    let small = proxy
        .connect()
        .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");

    assert_eq!(
        (announced.status, growing.status, small.status),
        (413, 413, 200)
    );
}

#[test]
fn request_id_may_have_another_form_and_name() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "  - kind: request_id\n    config: {header: X-Correlation-Id, format: uuid7, prefix: edge-}\n",
    );

    let reply = proxy.get("/");

    let id = reply.header("x-correlation-id").unwrap_or("").to_owned();
    assert!(id.starts_with("edge-") && id.len() == 41, "{id}");
    assert_eq!(service.last().header("x-correlation-id"), Some(&*id));
}

#[test]
fn a_plugin_in_shadow_only_counts() {
    let service = Upstream::answering("ok");
    let proxy = on_route(
        &service,
        "  - kind: respond\n    mode: shadow\n    config: {status: 503}\n",
    );

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.text()), (200, "ok"));
    let counted = proxy.metric("windrose_plugin_events_total", &[]);
    assert!(counted >= 1.0, "{counted}");
}

#[test]
fn a_plugin_in_shadow_changes_nothing_and_shows_what_it_would_refuse() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "  - kind: headers\n    mode: shadow\n    config: {request: {set: {x-shadow: '1'}}, response: {set: {x-shadow: '1'}}}\n  - kind: ip_filter\n    mode: shadow\n    config: {allow: ['10.0.0.0/8']}\n",
    );

    let reply = proxy.get("/");
    let view = proxy.admin("/plugins");

    assert_eq!((reply.status, reply.header("x-shadow")), (200, None));
    assert_eq!(service.last().header("x-shadow"), None);
    let filter = &view["plugins"][1];
    assert_eq!(
        (&filter["kind"], &filter["mode"]),
        (&"ip_filter".into(), &"shadow".into())
    );
    assert_eq!(
        (&filter["answers"], &filter["would_answers"]),
        (&0.into(), &1.into())
    );
    assert_eq!(filter["used_by"][0], "route all");
    let example = &filter["examples"][0];
    assert_eq!(example["cause"], "policy_denied.ip_filter");
    assert_eq!(example["request_id"].as_str(), reply.header("x-request-id"));
}

#[test]
fn listener_plugins_come_before_route_plugins() {
    let service = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  plugins: [{{kind: respond, config: {{status: 401}}}}]\n{}{ALL_TO_APP}  plugins: [{{kind: respond, config: {{status: 402}}}}]\n",
        pool("app", &[&service])
    ));

    assert_eq!(proxy.get("/").status, 401);
}

/// A proxy to a service, with a plugin that panics at this moment.
fn failing(service: &Upstream, moment: &str, on_error: &str) -> Proxy {
    Proxy::with_failing_plugin(&format!(
        "{WEB}{}{ALL_TO_APP}  plugins:\n  - {{kind: failing, {on_error}config: {{at: {moment}}}}}\n",
        pool("app", &[service])
    ))
}

#[test]
fn a_plugin_that_panics_fails_closed_with_an_answer() {
    let service = Upstream::answering("ok");
    for moment in ["request", "waiting", "response"] {
        let proxy = failing(&service, moment, "");

        let replies = [(); 2].map(|()| proxy.get("/"));

        for reply in replies {
            assert_eq!(
                (reply.status, &*reply.why()),
                (500, "plugin_failed"),
                "{moment}"
            );
        }
        assert!(proxy.stderr().contains("panicked: "), "{moment}");
    }
}

#[test]
fn a_plugin_that_panics_but_fails_open_stops_nothing() {
    let service = Upstream::answering("ok");
    let proxy = failing(&service, "request", "on_error: open, ");

    let reply = proxy.get("/");

    assert_eq!((reply.status, &*reply.text()), (200, "ok"));
    let marks = ["failing", "event=\"failed\""];
    assert_eq!(proxy.metric("windrose_plugin_events_total", &marks), 1.0);
}
