//! Plugins that check messages against a description of them, as a client and a service meet them.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use crate::support::client::Reply;
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{until, Proxy, Upstream};

/// A proxy to a service, with these plugins on the route.
fn on_route(service: &Upstream, plugins: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins: [{plugins}]\n",
        pool("app", &[service])
    ))
}

fn post(proxy: &Proxy, target: &str, kind: &str, body: &str) -> Reply {
    let length = body.len();
    proxy.connect().ask(format!(
        "POST {target} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

const ORDER: &str = "schema: {type: object, required: [sku], properties: {count: {type: integer}}}";

#[test]
fn json_schema_lets_through_what_fits_and_tells_where_the_rest_does_not() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        &format!("{{kind: json_schema, config: {{{ORDER}, max: 1KiB, depth: 4}}}}"),
    );
    let json = |body: &str| post(&proxy, "/", "application/json", body);

    let fits = json(r#"{"sku": "a", "count": 1}"#);
    let unfit = json(r#"{"count": "hidden"}"#);

    assert_eq!(fits.status, 200);
    assert_eq!((unfit.status, &*unfit.why()), (422, "json_schema.mismatch"));
    assert_eq!(
        unfit.header("content-type"),
        Some("application/problem+json")
    );
    let problem: serde_json::Value = serde_json::from_slice(&unfit.body).unwrap();
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert!(pointers.contains(&&"#/count".into()), "{problem}");
    assert!(!unfit.text().contains("hidden"));
    proxy.logged(|line| line["why"] == "json_schema.mismatch");
    for (body, status, why) in [
        ("{", 400, "json_schema.malformed"),
        (r#"{"sku": 1, "sku": 2}"#, 400, "json_schema.duplicate"),
        ("[[[[[]]]]]", 400, "json_schema.too_deep"),
        (&*" ".repeat(2000), 413, "json_schema.too_large"),
    ] {
        let reply = json(body);
        assert_eq!((reply.status, &*reply.why()), (status, why), "{body:.20}");
    }
    let other = post(&proxy, "/", "text/plain", "{}");
    assert_eq!(
        (other.status, &*other.why()),
        (415, "json_schema.unsupported")
    );
    assert_eq!(service.requests(), 1);
}

#[test]
fn bodies_that_json_schema_does_not_want_stream_on() {
    let service = Upstream::answering("ok");
    let proxy = on_route(
        &service,
        &format!("{{kind: json_schema, config: {{{ORDER}, max: 1KiB, others: pass}}}}"),
    );

    let large = post(&proxy, "/", "video/mp4", &"a".repeat(100_000));
    let none = proxy.get("/");

    assert_eq!((large.status, none.status), (200, 200));
}

#[test]
fn in_the_shadow_json_schema_only_counts() {
    let service = Upstream::answering("ok");
    let plugin =
        format!("{{kind: json_schema, mode: shadow, config: {{{ORDER}, required: true}}}}");
    let proxy = on_route(&service, &plugin);

    assert_eq!(post(&proxy, "/", "application/json", "[]").status, 200);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn responses_that_do_not_fit_are_counted_or_cut() {
    let service = Upstream::with(|_, stream| {
        let head = [("content-type", "application/json")];
        crate::support::upstream::answer(stream, 200, &head, b"[1]")
    });
    let plugin = |on_mismatch: &str| {
        format!("{{kind: json_schema, config: {{response: {{schema: {{type: object}}, on_mismatch: {on_mismatch}}}}}}}")
    };
    let (report, cut) = (
        on_route(&service, &plugin("report")),
        on_route(&service, &plugin("cut")),
    );

    let reported = report.get("/");
    let mut conn = cut.connect();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let broken = conn.reply();

    assert_eq!((reported.status, &*reported.text()), (200, "[1]"));
    until("it is counted", || {
        let marks = ["event=\"response_mismatch\""];
        (report.metric("windrose_plugin_events_total", &marks) == 1.0).then_some(())
    });
    // A response that comes in one piece has not begun when it is cut, and has an answer in its place.
    assert!(broken.map_or(true, |reply| reply.status == 502));
    cut.logged(|line| line["why"] == "json_schema.response");
}

#[test]
fn graphql_limits_refuses_what_asks_for_too_much() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "{kind: graphql_limits, config: {depth: 3, cost: 100}}",
    );
    let ask = |query: &str| {
        post(
            &proxy,
            "/graphql",
            "application/json",
            &serde_json::json!({"query": query}).to_string(),
        )
    };

    assert_eq!(ask("{a{b{c}}}").status, 200);
    assert_eq!(proxy.get("/graphql?query=%7Ba%7D").status, 200);
    for (query, why) in [
        ("{a{b{c{d}}}}", "graphql.depth"),
        ("{a(first: 1000){b}}", "graphql.cost"),
        ("{...F} fragment F on X{...F}", "graphql.fragment"),
        ("{__schema{types{name}}}", "graphql.introspection"),
        ("{", "graphql.malformed"),
    ] {
        let reply = ask(query);
        assert_eq!((reply.status, &*reply.why()), (400, why), "{query}");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["errors"][0]["extensions"]["code"], why);
    }
    assert_eq!(service.requests(), 2);
    proxy.logged(|line| line["why"] == "graphql.depth");
}
