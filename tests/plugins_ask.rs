//! Plugins that ask a service about each request, or tell one of it, as clients and services meet them.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use std::sync::{Arc, Barrier};

use serde_json::json;

use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Upstream};

/// A proxy to `app` with one plugin that asks.
fn proxy(app: &Upstream, kind: &str, settings: &str) -> Proxy {
    Proxy::start(&configuration(app, kind, settings))
}

fn configuration(app: &Upstream, kind: &str, settings: &str) -> String {
    let plugins = format!("  plugins:\n  - {{kind: {kind}, {settings}}}\n");
    format!("{WEB}{}{ALL_TO_APP}{plugins}", pool("app", &[app]))
}

/// Lets in whoever has a cookie `user`, and sends everybody else to a login.
fn gatekeeper() -> Upstream {
    Upstream::with(|seen, stream| {
        let cookie = seen.header("cookie").unwrap_or_default();
        match cookie.strip_prefix("user=") {
            Some("broken") => answer(stream, 500, &[], b"oops"),
            Some(user) => {
                let fields = [
                    ("x-user", user),
                    ("set-cookie", "seen=1"),
                    ("x-inside", "1"),
                ];
                answer(stream, 200, &fields, b"")
            }
            None => {
                let to = format!(
                    "https://login.test/?rd={}",
                    seen.header("x-original-url").unwrap_or("")
                );
                let fields = [
                    ("location", &*to),
                    ("set-cookie", "a=1; Path=/"),
                    ("set-cookie", "b=2"),
                    ("content-type", "text/html"),
                    ("x-inside", "1"),
                ];
                answer(stream, 302, &fields, b"<a>log in</a>")
            }
        }
    })
}

#[test]
fn forward_auth_passes_the_services_answer_on_and_believes_only_its_fields() {
    let (app, gate) = (Upstream::echo(), gatekeeper());
    let settings = format!(
        "config: {{service: 'http://{}/verify', request_headers: [x-user], response_headers: [set-cookie], principal: x-user}}",
        gate.address
    );
    let proxy = proxy(&app, "forward_auth", &settings);

    let stranger = proxy.ask("GET", "/a%2e/b?c=d", "x-user: root\r\n");
    assert_eq!(
        (stranger.status, &*stranger.why()),
        (302, "auth.forward_denied")
    );
    assert_eq!(
        stranger.header("location"),
        Some("https://login.test/?rd=http://test/a./b?c=d")
    );
    assert_eq!(stranger.all("set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(
        (&*stranger.text(), stranger.header("content-type")),
        ("<a>log in</a>", Some("text/html"))
    );
    assert_eq!(stranger.header("x-inside"), None);
    assert_eq!(app.requests(), 0);

    let ann = proxy.ask(
        "POST",
        "/",
        "cookie: user=ann\r\nx-user: root\r\nx_user: root\r\nconnection: x-user, keep-alive\r\ncontent-length: 0\r\n",
    );
    assert_eq!((ann.status, ann.all("set-cookie")), (200, vec!["seen=1"]));
    assert_eq!(app.last().all("x-user"), ["ann"]);
    assert_eq!(app.last().header("x_user"), None);
    assert_eq!(app.last().header("x-inside"), None);
    let asked = gate.last();
    assert_eq!((&*asked.method, &*asked.target), ("GET", "/verify"));
    assert_eq!(asked.header("x-forwarded-method"), Some("POST"));
    assert_eq!(asked.header("x-user"), None);
    proxy.logged(|line| line["principal"] == "consumer:ann" && line["status"] == 200);
}

#[test]
fn forward_auth_without_a_service_is_no_denial_and_does_what_on_error_says() {
    let app = Upstream::echo();
    for (gate, more) in [
        (Upstream::refusing(), ""),
        (gatekeeper(), ""),
        (Upstream::silent(), "timeout: 200ms, "),
    ] {
        let settings = format!(
            "config: {{{more}service: 'http://{}/', request_headers: [x-user]}}",
            gate.address
        );
        let closed = proxy(&app, "forward_auth", &settings);
        let reply = closed.ask("GET", "/", "cookie: user=broken\r\n");
        assert_eq!(
            (reply.status, &*reply.why()),
            (503, "auth.forward_unavailable")
        );
    }
    assert_eq!(app.requests(), 0);

    let gate = Upstream::refusing();
    let settings = format!(
        "on_error: open, config: {{service: 'http://{}/', request_headers: [x-user]}}",
        gate.address
    );
    let open = proxy(&app, "forward_auth", &settings);
    assert_eq!(open.ask("GET", "/", "x-user: root\r\n").status, 200);
    assert_eq!(app.last().header("x-user"), None, "nobody else may say it");
}

/// Knows the token `good`.
fn authorization_server() -> Upstream {
    Upstream::with(|seen, stream| {
        let body = String::from_utf8_lossy(&seen.body);
        let knows = seen.header("authorization") == Some("Basic Z2F0ZTpzZWNyZXQ=");
        let said = match body.starts_with("token=good&") {
            true => json!({"active": true, "sub": "ann", "scope": "read"}),
            false => json!({"active": false}),
        };
        let status = if knows { 200 } else { 401 };
        answer(
            stream,
            status,
            &[("content-type", "application/json")],
            said.to_string().as_bytes(),
        )
    })
}

const CLIENT: &str = "client: {id: gate, secret: '${env:WINDROSE_UNSET:-secret}'}";

#[test]
fn tokens_are_asked_for_once_and_prove_who_calls() {
    let (app, idp) = (Upstream::echo(), authorization_server());
    let settings = format!(
        "config: {{service: 'http://{}/introspect', {CLIENT}, scopes: [read], claims: {{x-user: sub}}}}",
        idp.address
    );
    let proxy = proxy(&app, "oauth2_introspection", &settings);
    let ask = |token: &str| {
        proxy.ask(
            "GET",
            "/",
            &format!("authorization: Bearer {token}\r\nx-user: root\r\n"),
        )
    };

    let (none, wrong, right) = (proxy.get("/"), ask("wrong"), ask("good"));

    assert_eq!(
        (none.status, &*none.why()),
        (401, "auth.introspection_missing")
    );
    assert_eq!(
        (wrong.status, &*wrong.why()),
        (401, "auth.introspection_inactive")
    );
    assert!(wrong
        .header("www-authenticate")
        .unwrap_or("")
        .contains("error=\"invalid_token\""));
    assert_eq!(right.status, 200);
    assert_eq!(app.last().all("x-user"), ["ann"]);
    assert_eq!(app.last().header("authorization"), None);
    proxy.logged(|line| line["principal"] == "consumer:ann");
    assert_eq!(
        (ask("good").status, ask("wrong").status, idp.requests()),
        (200, 401, 2)
    );
    let shown = proxy.admin_reply("/config").text();
    assert!(
        !shown.contains("secret: secret") && !proxy.stderr().contains("good"),
        "{shown}"
    );
}

#[test]
fn a_token_lacks_a_scope_and_a_server_refuses_the_proxy() {
    let (app, idp) = (Upstream::echo(), authorization_server());
    let ask = |settings: &str| {
        let settings = format!("config: {{service: 'http://{}/', {settings}}}", idp.address);
        let proxy = proxy(&app, "oauth2_introspection", &settings);
        let reply = proxy.ask("GET", "/", "authorization: Bearer good\r\n");
        (reply.status, reply.why())
    };

    let lacks = ask(&format!("{CLIENT}, scopes: [read, write]"));
    let refused = ask("client: {id: gate, secret: wrong}");

    assert_eq!(lacks, (403, "auth.introspection_scope".to_owned()));
    assert_eq!(refused, (503, "auth.introspection_unavailable".to_owned()));
    assert_eq!(app.requests(), 0);
}

#[test]
fn many_requests_with_one_token_ask_once() {
    const MANY: usize = 20;
    let app = Upstream::answering("ok");
    let idp = Upstream::with(|_, stream| {
        crate::support::wait::pause(std::time::Duration::from_millis(200));
        answer(stream, 200, &[], b"{\"active\": true}")
    });
    let settings = format!("config: {{service: 'http://{}/'}}", idp.address);
    let proxy = Arc::new(proxy(&app, "oauth2_introspection", &settings));
    let together = Arc::new(Barrier::new(MANY));
    let all: Vec<_> = (0..MANY)
        .map(|_| {
            let (proxy, together, mut conn) = (proxy.clone(), together.clone(), proxy.connect());
            std::thread::spawn(move || {
                together.wait();
                let status = conn
                    .ask("GET / HTTP/1.1\r\nhost: test\r\nauthorization: Bearer t\r\n\r\n")
                    .status;
                drop(proxy);
                status
            })
        })
        .collect();

    let statuses: Vec<u16> = all.into_iter().map(|one| one.join().unwrap()).collect();

    assert_eq!(statuses, [200; MANY]);
    assert_eq!(idp.requests(), 1);
}

#[test]
fn a_policy_agent_allows_refuses_and_has_no_word() {
    let app = Upstream::echo();
    let agent = Upstream::with(|seen, stream| {
        let asked: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let said = match asked["input"]["path"].as_str() {
            Some("/yes") => json!({"result": {"allow": true, "headers": {"x-role": "reader"}}}),
            Some("/no") => json!({"result": {"allow": false, "status": 451, "body": "not here"}}),
            Some("/plain") => json!({"result": false}),
            Some("/odd") => json!({"result": "yes"}),
            _ => json!({}),
        };
        answer(stream, 200, &[], said.to_string().as_bytes())
    });
    let settings = format!(
        "config: {{service: 'http://{}/v1/data/authz', request_headers: [x-role]}}",
        agent.address
    );
    let proxy = proxy(&app, "opa", &settings);
    let ask = |path: &str| {
        let reply = proxy.ask("GET", path, "x-role: admin\r\n");
        (reply.status, reply.why())
    };

    assert_eq!(ask("/yes"), (200, String::new()));
    assert_eq!(app.last().all("x-role"), ["reader"]);
    assert_eq!(ask("/no"), (451, "policy_denied.opa".to_owned()));
    assert_eq!(proxy.get("/no").text(), "not here");
    assert_eq!(ask("/plain"), (403, "policy_denied.opa".to_owned()));
    assert_eq!(ask("/none"), (500, "opa.undefined".to_owned()));
    assert_eq!(ask("/odd"), (503, "opa.unavailable".to_owned()));
    assert_eq!(app.requests(), 1);
}

/// What a collector was told, over all batches.
fn told(collector: &Upstream) -> Vec<serde_json::Value> {
    let batches = collector.seen().into_iter();
    let texts = batches.map(|seen| String::from_utf8_lossy(&seen.body).into_owned());
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_collector_hears_of_every_request_also_of_the_last_before_a_reload_and_before_the_end() {
    let (app, collector) = (Upstream::answering("ok"), Upstream::statuses(&[503, 204]));
    let config = |wait: &str| {
        let settings = format!(
            "config: {{service: 'http://{}/in', wait: {wait}, request_headers: [user-agent, cookie]}}",
            collector.address
        );
        configuration(&app, "log_http", &settings)
    };
    let mut proxy = Proxy::start(&config("50ms"));
    proxy.ask(
        "GET",
        "/a?token=hidden",
        "user-agent: test\r\ncookie: hidden\r\n",
    );
    until("the first batch", || {
        (told(&collector).len() >= 2).then_some(())
    });

    proxy.reload(&config("1m"));
    proxy.ask("GET", "/b", "");
    proxy.reload(&config("59s"));
    until("what waited", || {
        told(&collector)
            .iter()
            .any(|line| line["path"] == "/b")
            .then_some(())
    });
    proxy.ask("GET", "/c", "");
    proxy.signal("TERM");
    proxy.wait_exit();

    let told = told(&collector);
    let paths: Vec<_> = told
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        ["/a", "/a", "/b", "/c"],
        "the first batch was sent again"
    );
    let first = &told[0];
    assert_eq!(
        (&first["status"], &first["method"]),
        (&200.into(), &"GET".into())
    );
    assert_eq!(
        first["headers"],
        json!({"user-agent": ["test"], "cookie": ["***"]})
    );
    assert!(!format!("{told:?}").contains("hidden"));
}

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let (app, collector) = (Upstream::answering("ok"), Upstream::silent());
    let settings = format!(
        "config: {{service: 'http://{}/', batch: 1, queue: 2, timeout: 100ms}}",
        collector.address
    );
    let proxy = proxy(&app, "log_http", &settings);

    let statuses: Vec<u16> = (0..10).map(|_| proxy.get("/").status).collect();

    assert_eq!(statuses, [200; 10]);
    let dropped = || proxy.metric("windrose_plugin_events_total", &["event=\"dropped\""]);
    until("they are dropped", || (dropped() == 8.0).then_some(()));
}

#[test]
fn forward_auth_gets_the_body_and_the_service_behind_gets_all_of_it() {
    let app = Upstream::echo();
    let gate = Upstream::with(|seen, stream| {
        let status = if seen.body.starts_with(b"please") {
            200
        } else {
            403
        };
        answer(stream, status, &[], b"")
    });
    let settings = |partial: bool| {
        format!("config: {{service: 'http://{}/', method: original, with_request_body: {{max_bytes: 16B, allow_partial: {partial}}}}}", gate.address)
    };
    let (whole, partial) = (
        proxy(&app, "forward_auth", &settings(false)),
        proxy(&app, "forward_auth", &settings(true)),
    );
    let post = |proxy: &Proxy, body: &str| {
        let length = body.len();
        let mut client = proxy.connect();
        client.ask(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"))
    };

    assert_eq!(post(&whole, "please").status, 200);
    let asked = gate.last();
    assert_eq!(
        (&*asked.method, asked.header("content-type")),
        ("POST", Some("text/plain"))
    );
    assert_eq!(asked.header("x-envoy-auth-partial-body"), Some("false"));
    assert_eq!(post(&whole, "give me").status, 403);
    let long = format!("please{}", "x".repeat(300_000));
    let refused = post(&whole, &long);
    assert_eq!(
        (refused.status, &*refused.why()),
        (413, "auth.forward_too_large")
    );
    assert_eq!(post(&partial, &long).status, 200);
    assert_eq!(
        gate.last().header("x-envoy-auth-partial-body"),
        Some("true")
    );
    assert_eq!((gate.last().length, app.last().length), (16, long.len()));
}
