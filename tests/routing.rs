//! Which rule a request meets, and what the rule's action makes of it.
//! It must not know how decisions are made; the unit tests of `decide` do.
//! Part of the test binary.

use serde_json::Value;

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{Proxy, Upstream};

/// A proxy whose rules answer with their own names.
fn naming(routes: &str) -> Proxy {
    Proxy::http(&format!("routes:\n{routes}"))
}

fn says(name: &str) -> String {
    format!("respond: {{status: 200, body: {name}}}")
}

fn host(proxy: &Proxy, host: &str) -> (u16, String) {
    let reply = proxy.ask("GET", "/", &format!("host: {host}\r\n"));
    (reply.status, reply.text())
}

#[test]
fn an_exact_host_is_preferred_to_a_wildcard_and_a_wildcard_to_none() {
    let proxy = naming(&format!(
        "- {{name: any, rules: [{{{}}}]}}\n- {{name: wild, hosts: ['*.example.com'], rules: [{{{}}}]}}\n- {{name: exact, hosts: [a.example.com], rules: [{{{}}}]}}\n",
        says("any"), says("wild"), says("exact")
    ));

    let seen = [
        "a.example.com",
        "A.EXAMPLE.com.:80",
        "x.y.example.com",
        "example.com",
    ]
    .map(|name| host(&proxy, name).1);

    assert_eq!(seen, ["exact", "exact", "wild", "any"]);
}

#[test]
fn an_exact_path_is_preferred_to_the_longer_prefix_and_prefixes_to_a_regex() {
    let rule = |kind: &str, path: &str, name: &str| {
        format!(
            "  - match: [{{path: {{{kind}: '{path}'}}}}]\n    {}\n",
            says(name)
        )
    };
    let proxy = naming(&format!(
        "- name: paths\n  rules:\n{}{}{}{}",
        rule("regex", "/a/[0-9]+", "regex"),
        rule("prefix", "/a", "short"),
        rule("prefix", "/a/b", "long"),
        rule("exact", "/a/b/c", "exact")
    ));

    let seen = ["/a/b/c", "/a/b/c/d", "/a/b", "/a/x", "/a/1", "/ab"].map(|path| {
        let reply = proxy.get(path);
        match reply.status {
            200 => reply.text(),
            status => status.to_string(),
        }
    });

    assert_eq!(seen, ["exact", "long", "long", "short", "short", "404"]);
}

#[test]
fn a_regex_matches_the_whole_path() {
    let proxy = naming(&format!(
        "- name: paths\n  rules:\n  - match: [{{path: {{regex: '/v[0-9]+/.*'}}}}]\n    {}\n",
        says("versioned")
    ));

    let seen = ["/v1/x", "/x/v1/x", "/vx/x"].map(|path| proxy.get(path).status);

    assert_eq!(seen, [200, 404, 404]);
}

#[test]
fn method_headers_and_query_decide_between_equal_paths() {
    let rule =
        |condition: &str, name: &str| format!("  - match: [{{{condition}}}]\n    {}\n", says(name));
    let proxy = naming(&format!(
        "- name: all\n  rules:\n{}{}{}{}{}",
        rule("", "none"),
        rule("query: {v: '2'}", "query"),
        rule("headers: {x-env: canary}", "header"),
        rule(
            "headers: {x-env: canary, x-user: {regex: 'u[0-9]+'}}",
            "headers"
        ),
        rule("method: POST", "method"),
    ));

    let ask = |method: &str, target: &str, fields: &str| proxy.ask(method, target, fields).text();

    assert_eq!(ask("GET", "/", ""), "none");
    assert_eq!(ask("GET", "/?v=2", ""), "query");
    assert_eq!(ask("GET", "/?v=3", ""), "none");
    assert_eq!(ask("GET", "/?v=2", "X-Env: canary\r\n"), "header");
    assert_eq!(
        ask("GET", "/", "x-env: canary\r\nx-user: u12\r\n"),
        "headers"
    );
    assert_eq!(
        ask("GET", "/", "x-env: canary\r\nx-user: v12\r\n"),
        "header"
    );
    assert_eq!(
        ask("POST", "/?v=2", "x-env: canary\r\ncontent-length: 0\r\n"),
        "method"
    );
}

#[test]
fn a_clients_network_decides() {
    let proxy = naming(&format!(
        "- name: all\n  rules:\n  - match: [{{clients: [127.0.0.0/8]}}]\n    {}\n  - {}\n",
        says("local"),
        says("other")
    ));

    assert_eq!(proxy.get("/").text(), "local");
}

#[test]
fn a_split_follows_its_weights() {
    let (stable, canary) = (Upstream::answering("stable"), Upstream::answering("canary"));
    let proxy = Proxy::http(&format!(
        "pools:\n- {{name: stable, endpoints: ['{}']}}\n- {{name: canary, endpoints: ['{}']}}\n- {{name: none, endpoints: ['{}']}}\nroutes:\n- name: all\n  rules:\n  - split: [{{pool: stable, weight: 3}}, {{pool: canary, weight: 1}}, {{pool: none, weight: 0}}]\n",
        stable.address, canary.address, canary.address
    ));
    let mut conn = proxy.connect();

    for _ in 0..400 {
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n").status, 200);
    }

    // Six standard deviations of 400 draws at one quarter are 52.
    let share = canary.requests();
    assert!((48..=152).contains(&share), "{share} of 400");
    assert_eq!(stable.requests() + share, 400);
}

#[test]
fn a_redirect_keeps_what_it_does_not_replace() {
    let proxy = naming(
        "- name: all\n  rules:\n  - match: [{path: {prefix: /old}}]\n    redirect: {path_prefix: /new, status: 301}\n  - match: [{path: {exact: /tls}}]\n    redirect: {scheme: https, status: 308}\n  - redirect: {host: other.test, port: 8443, path: /x}\n",
    );

    let seen = |target: &str| {
        let reply = proxy.ask("GET", target, "host: test:8080\r\n");
        let location = reply.header("location").unwrap_or("").to_owned();
        assert_eq!(reply.why(), "route.redirect");
        (reply.status, location)
    };

    assert_eq!(
        seen("/old/a?b=c"),
        (301, "http://test:8080/new/a?b=c".into())
    );
    assert_eq!(seen("/tls"), (308, "https://test/tls".into()));
    assert_eq!(seen("/y"), (302, "http://other.test:8443/x".into()));
}

#[test]
fn a_respond_rule_answers_without_a_service() {
    let proxy = naming("- name: all\n  rules:\n  - respond: {status: 418, body: '{\"tea\": true}', content_type: application/json}\n");

    let reply = proxy.get("/");

    assert_eq!(reply.status, 418);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json()["tea"], true);
    assert_eq!(reply.why(), "route.respond");
}

#[test]
fn a_rewrite_changes_host_and_path_upstream() {
    let service = Upstream::echo();
    let proxy = Proxy::http(&format!(
        "{}routes:\n- name: all\n  rules:\n  - match: [{{path: {{prefix: /api}}}}]\n    rewrite: {{host: inner.test, path_prefix: /v2}}\n    pool: app\n  - match: [{{path: {{prefix: /users}}}}]\n    rewrite: {{path_regex: {{pattern: '^/users/([0-9]+)', replace: '/u/$1'}}}}\n    pool: app\n  - rewrite: {{path: /fixed}}\n    pool: app\n",
        pool("app", &[&service])
    ));

    let seen = |target: &str| {
        proxy.get(target);
        let last = service.last();
        (
            last.target.clone(),
            last.header("host").unwrap_or("").to_owned(),
        )
    };

    assert_eq!(
        seen("/api/a?q=1"),
        ("/v2/a?q=1".into(), "inner.test".into())
    );
    assert_eq!(seen("/users/42/x"), ("/u/42/x".into(), "test".into()));
    assert_eq!(seen("/z?q"), ("/fixed?q".into(), "test".into()));
    assert_eq!(service.last().header("x-forwarded-host"), Some("test"));
}

#[test]
fn header_edits_remove_then_set_then_add() {
    let service = Upstream::with(|_, stream| {
        let fields = [("x-inner", "secret"), ("x-kept", "1"), ("x-old", "1")];
        crate::support::upstream::answer(stream, 200, &fields, b"")
    });
    let proxy = Proxy::http(&format!(
        "{}routes:\n- name: all\n  rules:\n  - pool: app\n    request_headers: {{remove: [x-secret], set: {{x-env: prod}}, add: {{x-tag: b}}}}\n    response_headers: {{remove: [x-inner], set: {{x-old: '2'}}, add: {{x-kept: '2'}}}}\n",
        pool("app", &[&service])
    ));

    let reply = proxy.ask("GET", "/", "x-secret: s\r\nx-env: dev\r\nx-tag: a\r\n");

    let seen = service.last();
    assert_eq!(seen.header("x-secret"), None);
    assert_eq!(seen.all("x-env"), ["prod"]);
    assert_eq!(seen.all("x-tag"), ["a", "b"]);
    assert_eq!(reply.header("x-inner"), None);
    assert_eq!(reply.all("x-old"), ["2"]);
    assert_eq!(reply.all("x-kept"), ["1", "2"]);
}

#[test]
fn a_request_without_a_route_gets_a_problem_that_says_so() {
    let service = Upstream::answering("");
    let proxy = Proxy::http(&format!(
        "{}routes:\n- name: one\n  hosts: [one.test]\n  rules:\n  - pool: app\n",
        pool("app", &[&service])
    ));

    let reply = proxy.ask("GET", "/x", "accept: application/json\r\n");

    assert_eq!((reply.status, &*reply.why()), (404, "no_route"));
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    let problem = reply.json();
    assert_eq!(problem["why"], "no_route");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"));
    let line = proxy.logged(|line| line["status"] == 404);
    assert_eq!(
        (&line["why"], &line["route"]),
        (&"no_route".into(), &Value::Null)
    );
}

#[test]
fn a_pool_is_balanced_over_its_endpoints() {
    let services = [0; 3].map(|_| Upstream::answering("ok"));
    let all: Vec<&Upstream> = services.iter().collect();
    let proxy = Proxy::http(&format!(
        "{}  balance: {{algorithm: round_robin}}\n{ALL_TO_APP}",
        pool("app", &all)
    ));

    for _ in 0..9 {
        proxy.get("/");
    }

    let shares = services.each_ref().map(Upstream::requests);
    assert_eq!(shares, [3, 3, 3]);
}

#[test]
fn consistent_hashing_keeps_a_key_on_its_endpoint() {
    let services = [0; 4].map(|_| Upstream::answering("ok"));
    let all: Vec<&Upstream> = services.iter().collect();
    let proxy = Proxy::http(&format!(
        "{}  balance: {{algorithm: maglev, hash: {{header: x-user}}}}\n{ALL_TO_APP}",
        pool("app", &all)
    ));

    for _ in 0..8 {
        proxy.ask("GET", "/", "x-user: ada\r\n");
    }

    let mut shares = services.each_ref().map(Upstream::requests);
    shares.sort_unstable();
    assert_eq!(shares, [0, 0, 0, 8]);
}
