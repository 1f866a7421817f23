//! What operators see: metrics, the access log, the admin pages.
//! It must not know how any of it is gathered.
//! Part of the test binary.

use std::fs;

use serde_json::Value;

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{until, Proxy, Upstream};

#[test]
fn every_metric_has_help_and_a_unit_or_a_reason() {
    let service = Upstream::answering("ok");
    let proxy = Proxy::to(&[&service]);
    proxy.get("/");

    let text = proxy.admin_reply("/metrics").text();

    let names = |mark: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
        lines
            .filter_map(|rest| rest.split(' ').next().map(str::to_owned))
            .collect()
    };
    let (help, kinds) = (names("# HELP "), names("# TYPE "));
    assert!(kinds.len() > 20, "{kinds:?}");
    for name in &kinds {
        assert!(help.contains(name), "{name} has no HELP");
    }
    for line in text
        .lines()
        .filter(|line| line.starts_with("# TYPE ") && line.ends_with(" counter"))
    {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            name.ends_with("_total"),
            "{name} is a counter without _total"
        );
    }
    for line in text.lines().filter(|line| line.ends_with(" histogram")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            name.ends_with("_seconds") || name.ends_with("_bytes"),
            "{name} has no unit"
        );
    }
}

#[test]
fn a_request_is_counted_for_the_listener_the_route_and_the_endpoint() {
    let service = Upstream::answering("hello");
    let proxy = Proxy::to(&[&service]);

    proxy.ask("POST", "/", "content-length: 0\r\n");
    proxy.logged(|_| true);

    let of = |name: &str, marks: &[&str]| proxy.metric(name, marks);
    let route = ["listener=\"web\"", "route=\"all\""];
    assert_eq!(
        of(
            "windrose_requests_total",
            &[&route[..], &["code=\"200\""]].concat()
        ),
        1.0
    );
    assert_eq!(of("windrose_request_duration_seconds_count", &route), 1.0);
    assert_eq!(of("windrose_response_body_bytes_sum", &route), 5.0);
    assert_eq!(of("windrose_requests_in_flight", &route), 0.0);
    let endpoint = service.address.to_string();
    assert_eq!(
        of(
            "windrose_endpoint_attempts_total",
            &["pool=\"app\"", &endpoint, "ok"]
        ),
        1.0
    );
    assert_eq!(
        of("windrose_pool_endpoints_available", &["pool=\"app\""]),
        1.0
    );
    assert_eq!(of("windrose_pool_panics", &["pool=\"app\""]), 0.0);
    assert_eq!(of("windrose_connections_total", &["listener=\"web\""]), 1.0);
    assert_eq!(of("windrose_build_info", &[]), 1.0);
}

#[test]
fn no_part_of_a_request_becomes_a_label() {
    let proxy = Proxy::http("routes: []\n");

    for number in 0..20 {
        proxy.ask(
            "GET",
            &format!("/secret-path-{number}"),
            &format!("host: secret-host-{number}\r\n"),
        );
    }

    let text = proxy.admin_reply("/metrics").text();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(
        proxy.metric("windrose_request_causes_total", &["no_route"]),
        20.0
    );
}

#[test]
fn the_access_log_tells_the_story_of_a_request() {
    let service = Upstream::answering("hello");
    let proxy = Proxy::to(&[&service]);

    let reply = proxy.ask("GET", "/x?page=2&token=hush", "user-agent: probe/1\r\n");
    let line = proxy.logged(|_| true);

    let expected = [
        ("listener", "web"),
        ("role", "ingress"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("scheme", "http"),
        ("host", "test"),
        ("path", "/x"),
        ("protocol", "HTTP/1.1"),
        ("route", "all"),
        ("pool", "app"),
        ("user_agent", "probe/1"),
    ];
    for (field, value) in expected {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert_eq!(
        (&line["status"], &line["response_bytes"]),
        (&200.into(), &5.into())
    );
    assert_eq!(line["endpoint"], service.address.to_string());
    assert_eq!(line["request_id"].as_str(), reply.header("x-request-id"));
    assert!(
        line["duration_ms"].is_number() && line["upstream_ms"].is_number(),
        "{line}"
    );
    let query = line["query"].as_str().unwrap_or("");
    assert!(
        query.contains("page=2") && !query.contains("hush"),
        "{query}"
    );
    assert!(line.get("why").is_none(), "{line}");
}

#[test]
fn the_log_may_be_in_the_combined_form() {
    let proxy = Proxy::http(
        "routes: [{name: all, rules: [{respond: {status: 200, body: hello}}]}]\nobserve: {access_log: {to: FOLDER/combined.log, format: combined}}\n",
    );

    proxy.get("/x");

    let line = until("a line", || {
        let text = fs::read_to_string(proxy.file("combined.log")).ok()?;
        text.contains('\n').then_some(text)
    });
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("\"GET /x HTTP/1.1\" 200 5 "), "{line}");
}

#[test]
fn the_log_is_opened_anew_on_a_signal() {
    let proxy = Proxy::http("routes: [{name: all, rules: [{respond: {status: 200}}]}]\n");
    proxy.get("/before");
    proxy.logged(|line| line["path"] == "/before");
    fs::rename(proxy.file("access.log"), proxy.file("access.log.1")).unwrap();

    proxy.signal("USR1");
    until("the log is there again", || {
        proxy.file("access.log").exists().then_some(())
    });
    proxy.get("/after");

    proxy.logged(|line| line["path"] == "/after");
    let old = fs::read_to_string(proxy.file("access.log.1")).unwrap();
    assert!(old.contains("/before") && !old.contains("/after"), "{old}");
}

#[test]
fn the_admin_pages_show_what_runs() {
    let service = Upstream::answering("ok");
    let proxy = Proxy::to(&[&service]);

    assert_eq!(proxy.admin_reply("/livez").status, 200);
    assert_eq!(proxy.admin("/readyz")["ready"], true);
    assert!(proxy.admin_reply("/").text().contains("/pools"));
    let routes = proxy.admin("/routes");
    assert_eq!(routes["listeners"][0]["listener"], "web");
    assert!(routes.to_string().contains("\"route\":\"all\""), "{routes}");
    let pools = proxy.pool("app");
    assert_eq!(
        pools["endpoints"][0]["address"],
        service.address.to_string()
    );
    let listeners = proxy.admin("/listeners");
    assert_eq!(listeners["listeners"][0]["state"], "listening");
    assert!(proxy.admin_reply("/config").text().contains("name: web"));
    assert!(proxy.admin("/causes")["causes"].as_array().unwrap().len() > 30);
    assert_eq!(proxy.admin_reply("/nothing").status, 404);
}

#[test]
fn the_admin_address_changes_nothing_for_web_pages_of_strangers() {
    let proxy = Proxy::http("routes: []\n");

    let without = proxy
        .ask_admin("POST", "/reload", "content-length: 0\r\n")
        .unwrap();
    let by_get = proxy
        .ask_admin("GET", "/reload", "x-windrose-admin: reload\r\n")
        .unwrap();
    let with = proxy
        .ask_admin(
            "POST",
            "/reload",
            "content-length: 0\r\nx-windrose-admin: reload\r\n",
        )
        .unwrap();

    assert_eq!(
        (without.status, by_get.status, with.status),
        (403, 405, 200)
    );
}

#[test]
fn an_admin_port_answers_only_to_its_own_names() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("windrose.yaml");
    let text = format!(
        "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\nroutes: []\nadmin: {{bind: '{port}'}}\n"
    );
    fs::write(&config, text).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_windrose"))
        .args(["run", "-c"])
        .arg(&config)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("it answers", || std::net::TcpStream::connect(port).ok());
    let ask = |host: &str| {
        let request = format!("GET /livez HTTP/1.1\r\nhost: {host}\r\n\r\n");
        crate::support::Conn::open(port).ask(request).status
    };

    let seen = [ask("127.0.0.1"), ask("localhost:80"), ask("evil.test")];
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(seen, [200, 200, 403]);
}

#[test]
fn secrets_are_not_shown() {
    let service = Upstream::answering("ok");
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("secret"), "hush-hush").unwrap();
    let proxy = Proxy::start_in(
        folder,
        &format!(
            "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\n{}routes:\n- name: all\n  rules:\n  - pool: app\n    request_headers: {{set: {{authorization: '${{file:secret}}'}}}}\n",
            pool("app", &[&service])
        ),
    );

    proxy.get("/");

    assert_eq!(service.last().header("authorization"), Some("hush-hush"));
    assert!(!proxy.admin_reply("/config").text().contains("hush-hush"));
    assert!(!proxy
        .admin_reply("/config?format=json")
        .text()
        .contains("hush-hush"));
}

#[test]
fn views_of_pools_and_mirrors_show_no_secret() {
    let service = Upstream::answering("ok");
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("secret"), "hush-hush").unwrap();
    let proxy = Proxy::start_in(
        folder,
        &format!(
            "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\npools:\n- name: app\n  endpoints: [{{address: '{}', labels: {{key: '${{file:secret}}'}}}}]\n{}routes: [{{name: 'all', rules: [{{pool: app, mirror: [{{pool: copy, percent: 100%}}], match: [{{path: {{prefix: '/'}}}}]}}]}}]\n",
            service.address,
            pool("copy", &[&service]).trim_start_matches("pools:\n"),
        ),
    );

    let pools = proxy.admin_reply("/pools").text();
    let mirrors = proxy.admin_reply("/mirrors");

    assert!(pools.contains("\"key\""), "{pools}");
    assert!(!pools.contains("hush-hush"), "{pools}");
    assert_eq!(mirrors.status, 200);
}

#[test]
fn responses_say_no_version() {
    let service = Upstream::answering("ok");
    let proxy = Proxy::to(&[&service]);

    let (own, passed) = (proxy.ask("GET", "//../..", ""), proxy.get("/"));

    for reply in [own, passed] {
        let server = reply.header("server").unwrap_or("");
        assert!(!server.contains(|c: char| c.is_ascii_digit()), "{server}");
        assert!(!server.to_ascii_lowercase().contains("pingora"), "{server}");
    }
}

#[test]
fn spans_reach_a_collector() {
    let (collector, service) = (Upstream::answering(""), Upstream::echo());
    let proxy = Proxy::http(&format!(
        "{}routes: [{{name: all, rules: [{{pool: app}}]}}]\nobserve: {{access_log: {{to: FOLDER/access.log}}, traces: {{otlp: 'http://{}/v1/traces', sample: 100%, interval: 100ms}}}}\n",
        pool("app", &[&service]),
        collector.address
    ));

    proxy.get("/traced");

    until("a span arrives", || {
        (collector.requests() > 0).then_some(())
    });
    let sent = collector.last();
    assert_eq!((&*sent.method, &*sent.target), ("POST", "/v1/traces"));
    let text = String::from_utf8_lossy(&sent.body).into_owned();
    assert!(
        text.contains("/traced") && text.contains("windrose"),
        "{text}"
    );
    let parent = service
        .last()
        .header("traceparent")
        .unwrap_or("")
        .to_owned();
    assert!(parent.ends_with("-01"), "sampled: {parent}");
}

#[test]
fn a_route_may_have_a_log_of_its_own() {
    let service = Upstream::answering("ok");
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins: [{{kind: log_file, config: {{path: own.jsonl}}}}, {{kind: log_file, config: {{path: errors.jsonl, only: errors}}}}]\n",
        pool("app", &[&service])
    ));

    proxy.get("/a?token=hidden");

    let line = until("a line", || {
        let text = std::fs::read_to_string(proxy.file("own.jsonl")).unwrap_or_default();
        text.lines().next().map(str::to_owned)
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    let logged = proxy.logged(|line| line["status"] == 200);
    assert_eq!(line, logged, "the access log's own words");
    assert!(!line.to_string().contains("hidden"), "{line}");
    assert!(!proxy.file("errors.jsonl").exists());
}
