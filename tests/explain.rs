//! Explanations: that they agree with traffic and with the configuration's tests, and how they read.
//! It must not know how decisions are made.
//! Part of the test binary.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use windrose::config::{build_loaded, load_text, Built, Resources};
use windrose::explain::{explain, Explanation, Question};
use windrose::observe::metrics::Metrics;
use windrose::snapshot::endpoint::Endpoints;
use windrose_plugins::contract::StateRegistry;

use crate::support::proxy::{pool, WEB};
use crate::support::{run, until, Conn, Proxy, Upstream};

/// Choices that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, many: u64) -> u64 {
        // Knuth's MMIX generator; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % many
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn maybe(&mut self, text: impl FnOnce(&mut Dice) -> String) -> String {
        match self.below(2) {
            0 => String::new(),
            _ => text(self),
        }
    }
}

const HOSTS: [&str; 5] = ["a.test", "b.test", "x.a.test", "'*.a.test'", "'*.test'"];
const PATHS: [&str; 6] = ["/", "/one", "/one/two", "/one/two/three", "/other", "/ONE"];

/// Routes with conditions of every kind over few names, so that they compete.
fn routes(dice: &mut Dice) -> String {
    let mut text = "routes:\n".to_owned();
    for at in 0..3 + dice.below(10) {
        let hosts = dice.maybe(|dice| format!(", hosts: [{}]", dice.one(&HOSTS)));
        let _ = writeln!(text, "- {{name: r{at}{hosts}, rules: [");
        for _ in 0..1 + dice.below(2) {
            let rule = rule(dice);
            let _ = writeln!(text, "    {{{rule}}},");
        }
        text.push_str("  ]}\n");
    }
    text
}

fn rule(dice: &mut Dice) -> String {
    let kind = dice.one(&["exact", "prefix", "prefix", "regex"]);
    let path = dice.one(&PATHS);
    let method = dice.maybe(|dice| format!(", method: {}", dice.one(&["GET", "PUT"])));
    let header = dice.maybe(|dice| format!(", headers: {{x-kind: '{}'}}", dice.one(&["1", "2"])));
    let query = dice.maybe(|dice| format!(", query: {{q: '{}'}}", dice.one(&["1", "2"])));
    let plugins = match dice.below(6) {
        0 => "plugins: [{kind: respond, config: {status: 418}}], ",
        1 => "plugins: [{kind: ip_filter, config: {deny: [127.0.0.0/8]}}], ",
        2 => "plugins: [{kind: headers, config: {request: {set: {x-plugin: yes}}}}], ",
        _ => "",
    };
    let action = match dice.below(5) {
        0 => "redirect: {path: /moved, status: 302}",
        1 => "respond: {status: 201}",
        2 if kind == "prefix" => "rewrite: {path_prefix: /new, host: inner.test}, pool: app",
        3 => "request_headers: {set: {x-rule: yes}, remove: [x-kind]}, pool: app",
        _ => "pool: app",
    };
    format!("match: [{{path: {{{kind}: {path}}}{method}{header}{query}}}], {plugins}{action}")
}

fn question(dice: &mut Dice, at: usize) -> Question {
    let host = dice.one(&[
        "a.test",
        "b.test",
        "x.a.test",
        "y.x.a.test",
        "none",
        "A.test:80",
    ]);
    let path = dice.one(&PATHS);
    let rest = dice.one(&["", "/", "/more", "%2Fx", "/./z"]);
    let query = dice.maybe(|dice| format!("q={}&", dice.one(&["1", "2"])));
    let header = dice.maybe(|dice| dice.one(&["1", "2"]).to_owned());
    let header = Some(header).filter(|header| !header.is_empty());
    Question {
        method: dice.one(&["GET", "PUT"]).to_owned(),
        url: format!("http://{host}{path}{rest}?{query}n={at}"),
        headers: header
            .map(|value| ("x-kind".to_owned(), value))
            .into_iter()
            .collect(),
        from: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        listener: Some("web".to_owned()),
        ..Question::default()
    }
}

fn built(yaml: &str) -> Built {
    let resources = Resources {
        plugins: windrose_plugins::BUILTIN,
        metrics: Metrics::new(100),
        endpoints: &Endpoints::default(),
        identities: &Default::default(),
        states: &StateRegistry::default(),
        exchange: std::sync::Arc::new(windrose::snapshot::call::OutOfReach),
        previous: None,
    };
    let loaded = load_text("gw.yaml", yaml, windrose_plugins::BUILTIN);
    let built = loaded.and_then(|loaded| build_loaded(loaded, Path::new("gw.yaml"), &resources));
    built.unwrap_or_else(|report| panic!("{report}\n{yaml}"))
}

/// The question and its explanation as a test of the configuration.
fn as_test(question: &Question, explanation: &Explanation) -> Value {
    let outcome = &explanation.outcome;
    let mut expect = serde_json::json!({
        "route": outcome.route, "status": outcome.status, "cause": outcome.cause,
        "pool": outcome.pools.first().map(|pool| &pool.name),
        "path": outcome.path, "host": outcome.host, "location": outcome.location,
    });
    let keys = expect.as_object_mut().unwrap();
    keys.retain(|_, value| !value.is_null());
    let headers: serde_json::Map<String, Value> = question
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    serde_json::json!({
        "request": {"method": question.method, "url": question.url, "headers": headers,
            "from": question.from, "listener": question.listener},
        "expect": expect,
    })
}

/// Sends the question; what the service saw of it, if it came there.
fn sent(conn: &mut Conn, question: &Question) -> Value {
    let (host, target) = question.url["http://".len()..].split_once('/').unwrap();
    let fields = question.headers.iter();
    let fields: String = fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let method = &question.method;
    let reply = conn.ask(format!(
        "{method} /{target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n{fields}\r\n"
    ));
    serde_json::from_str(&reply.text()).unwrap_or(Value::Null)
}

/// The access log's lines by the number at the end of their query, once there are this many.
fn lines(proxy: &Proxy, many: usize) -> HashMap<String, Value> {
    until("the lines of all requests", || {
        let lines = proxy.log().into_iter().filter_map(|line| {
            let number = line["query"].as_str()?.rsplit_once("n=")?.1.to_owned();
            Some((number, line))
        });
        Some(lines.collect::<HashMap<_, _>>()).filter(|lines| lines.len() == many)
    })
}

#[test]
fn explanations_traffic_and_tests_agree() {
    let service = Upstream::echo();
    let proxy = Proxy::http("routes: [{name: none, rules: [{respond: {status: 200}}]}]\n");
    let mut asked = 0;
    for seed in 0..25 {
        let mut dice = Dice(seed);
        let yaml = format!("{WEB}{}{}", routes(&mut dice), pool("app", &[&service]));
        let snapshot = built(&yaml).snapshot;
        proxy.reload(&yaml);
        let mut conn = proxy.connect();
        let mut all = Vec::new();
        for _ in 0..100 {
            asked += 1;
            let question = question(&mut dice, asked);
            let explanation = explain(&snapshot, &question, false).unwrap();

            let seen = sent(&mut conn, &question);

            all.push((asked, question, explanation, seen));
        }
        let lines = lines(&proxy, asked);
        for (number, question, explanation, seen) in &all {
            let context = format!("{question:?}\n{yaml}");
            agree(explanation, &lines[&number.to_string()], seen, &context);
        }
        let tests = all
            .iter()
            .map(|(_, question, explanation, _)| as_test(question, explanation));
        let tests = serde_json::to_string(&tests.collect::<Vec<_>>()).unwrap();
        built(&format!("{yaml}\ntests: {tests}\n"));
    }
}

#[test]
fn explanations_and_tests_agree_over_many_configurations() {
    for seed in 1_000..2_000 {
        let mut dice = Dice(seed);
        let routes = routes(&mut dice);
        let yaml = format!("{WEB}{routes}pools: [{{name: app, endpoints: [127.0.0.1:1]}}]\n");
        let snapshot = built(&yaml).snapshot;
        let tests = (0..5).map(|at| {
            let question = question(&mut dice, at);
            as_test(&question, &explain(&snapshot, &question, false).unwrap())
        });
        let tests = serde_json::to_string(&tests.collect::<Vec<_>>()).unwrap();

        built(&format!("{yaml}tests: {tests}\n"));
    }
}

fn agree(explanation: &Explanation, line: &Value, seen: &Value, context: &str) {
    let outcome = &explanation.outcome;
    let route = line["route"].as_str().map(str::to_owned);
    assert_eq!(outcome.route, route, "route: {line}\n{context}");
    let why = line["why"].as_str().map(str::to_owned);
    assert_eq!(outcome.cause, why, "cause: {line}\n{context}");
    let pool = outcome.pools.first().map(|pool| pool.name.as_str());
    assert_eq!(pool, line["pool"].as_str(), "pool: {line}\n{context}");
    if let Some(status) = outcome.status {
        assert_eq!(line["status"], status, "status: {line}\n{context}");
    }
    let Some(path) = &outcome.path else { return };
    let target = seen["target"].as_str().unwrap_or_default();
    let sent = target.split_once('?').map_or(target, |(path, _)| path);
    assert_eq!(path, sent, "path: {context}");
    // The id is each request's own; the rest of the fields is the same, in any order.
    let ours = outcome.headers.iter();
    let ours = ours.map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let theirs = seen["headers"].as_array().into_iter().flatten();
    let theirs = theirs.map(|pair| {
        let text = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
        (text(0).to_ascii_lowercase(), text(1))
    });
    let of_the_request = |(name, _): &(String, String)| {
        !matches!(
            name.as_str(),
            "x-request-id" | "connection" | "content-length"
        )
    };
    let mut ours: Vec<_> = ours.filter(of_the_request).collect();
    let mut theirs: Vec<_> = theirs.filter(of_the_request).collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs, "{context}");
}

const SHOP: &str = "\
listeners:
- {name: edge, role: ingress, bind: 127.0.0.1:8080}
- {name: node, role: mesh-inbound, bind: 127.0.0.1:9090}
plugins:
  guard: {kind: ip_filter, config: {deny: [10.0.0.0/8]}}
routes:
- name: shop
  listeners: [edge]
  hosts: [shop.test]
  plugins: [guard]
  rules:
  - match: [{path: {prefix: /cart}, headers: {x-beta: '1'}}]
    rewrite: {path_prefix: /basket, host: basket.test}
    split: [{pool: web, weight: 90}, {pool: beta, weight: 10}]
  - match: [{path: {prefix: /cart}}]
    rewrite: {path_prefix: /basket, host: basket.test}
    plugins: [{kind: rate_limit, config: {rate: 1}}]
    pool: web
- name: basket
  listeners: [node]
  hosts: [basket.test]
  rules: [{pool: beta}]
pools:
- {name: web, endpoints: [127.0.0.1:1, 127.0.0.1:2], health: {tcp: {}}}
- {name: beta, endpoints: [{address: 127.0.0.1:3, weight: 0}, 127.0.0.1:4], health: {tcp: {}}}
";

/// Runs the command on the shop; its output and exit code.
fn shop(arguments: &[&str]) -> (String, i32) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.yaml");
    fs::write(&path, SHOP).unwrap();
    let config = ["explain", "-c", path.to_str().unwrap()];
    let output = run(&[&config, arguments].concat());
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let text = text.replace(&format!("{}/", folder.path().display()), "");
    (text, output.status.code().unwrap())
}

#[test]
fn the_page_reads_as_written_down() {
    let golden = include_str!("golden/explain.txt");
    let asked: [&[&str]; 3] = [
        &["GET", "http://shop.test/cart/1?id=2"],
        &[
            "GET",
            "http://shop.test/cart",
            "--from",
            "10.1.1.1",
            "-H",
            "X-Beta: 1",
        ],
        &["GET", "http://shop.test/none"],
    ];

    let said = asked.map(|arguments| {
        let (text, code) = shop(arguments);
        format!(
            "$ windrose explain {}\n{text}exit code {code}\n\n",
            arguments.join(" ")
        )
    });

    let said = said.concat();
    if said != golden {
        fs::write(std::env::temp_dir().join("explain.txt"), &said).unwrap();
    }
    assert_eq!(said, golden);
}

#[test]
fn what_cannot_be_asked_is_told_in_one_line() {
    let asked: [(&[&str], &str); 5] = [
        (&["GET", "shop.test"], "http://"),
        (&["G T", "http://shop.test/"], "no method"),
        (
            &["GET", "http://shop.test/", "-H", "nonsense"],
            "Name: value",
        ),
        (
            &["GET", "http://shop.test/", "--listener", "x"],
            "there are edge, node",
        ),
        (
            &["GET", "http://shop.test/", "--body", "/no/such"],
            "cannot be read",
        ),
    ];
    for (arguments, wanted) in asked {
        let (text, code) = shop(arguments);

        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn several_hops_are_walked_with_what_each_sends_on() {
    let (text, code) = shop(&[
        "GET",
        "http://shop.test/cart/1",
        "--path",
        "edge,node",
        "--json",
    ]);

    let hops: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    assert_eq!(hops[1]["listener"]["name"], "node");
    assert_eq!(hops[1]["request"]["host"], "basket.test");
    assert_eq!(hops[1]["outcome"]["route"], "basket");
    assert_eq!(hops[1]["outcome"]["path"], "/basket/1");
}

#[test]
fn a_running_process_tells_who_is_out_and_why() {
    let (up, down) = (Upstream::answering("hello"), Upstream::refusing());
    let pools = pool("app", &[&up, &down])
        + "  health: {tcp: {}, interval: 100ms, timeout: 100ms, fall: 1}\n";
    let proxy = Proxy::http(&format!(
        "routes: [{{name: all, rules: [{{pool: app}}]}}]\n{pools}"
    ));
    let config = proxy.config();
    let ask = || {
        let config = config.to_str().unwrap();
        let live = ["explain", "--live", "GET", "http://test/", "-c", config];
        String::from_utf8(run(&live).stdout).unwrap()
    };

    let text = until("the endpoint is out", || {
        Some(ask()).filter(|text| text.contains("out: its health check fails"))
    });

    let line = format!("{}, out: its health check fails", down.address);
    assert!(text.contains(&line), "{text}");
    assert!(!text.contains(&format!("{}, out", up.address)), "{text}");
}

#[test]
fn a_running_process_tells_what_its_limits_would_do_and_takes_nothing() {
    let service = Upstream::answering("hello");
    let limit = "plugins: [{kind: rate_limit, config: {rate: 1, per: 1h, burst: 2}}]";
    let routes = format!("routes: [{{name: all, {limit}, rules: [{{pool: app}}]}}]\n");
    let proxy = Proxy::http(&(routes + &pool("app", &[&service])));
    let config = proxy.config();
    let ask = || {
        let config = config.to_str().unwrap();
        let live = ["explain", "--live", "--from", "127.0.0.1"];
        let output = run(&[&live[..], &["GET", "http://test/", "-c", config]].concat());
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.code(),
        )
    };

    let before = (0..3).map(|_| ask().1).collect::<Vec<_>>();
    assert_eq!(before, [Some(0); 3], "{}", ask().0);
    let sent = (0..2).map(|_| proxy.get("/").status).collect::<Vec<_>>();
    assert_eq!(sent, [200; 2]);
    let (text, code) = ask();

    assert_eq!(code, Some(1));
    assert!(text.contains("answers 429 `rate_limited`"), "{text}");
}

#[test]
fn passwords_are_checked_also_where_a_process_explains() {
    let service = Upstream::answering("hello");
    // bcrypt of `secret` at its lowest cost.
    let users = "users: {ann: '$2b$04$abcdefghijklmnopqrstuu5nyRrk0iPQC0Mc1jpk/LpNqiQhjW12m'}";
    let login = format!("plugins: [{{kind: basic_auth, config: {{{users}}}}}]");
    let routes = format!("routes: [{{name: all, {login}, rules: [{{pool: app}}]}}]\n");
    let proxy = Proxy::http(&(routes + &pool("app", &[&service])));
    let config = proxy.config();

    let config = config.to_str().unwrap();
    let wrong = ["-H", "Authorization: Basic YW5uOndyb25n", "-c", config];
    let output = run(&[&["explain", "--live", "GET", "http://test/"][..], &wrong].concat());

    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("answers 401 `auth.basic_wrong`"), "{text}");
}

#[test]
fn each_plugin_inside_of_auth_has_its_line() {
    let service = Upstream::answering("hello");
    let users = "users: {ann: '$2b$04$abcdefghijklmnopqrstuu5nyRrk0iPQC0Mc1jpk/LpNqiQhjW12m'}";
    let auth = format!("{{kind: auth, config: {{of: [{{kind: basic_auth, config: {{{users}}}}}, {{kind: oauth2_introspection, config: {{service: 'http://{}/'}}}}]}}}}", service.address);
    let routes = format!("routes: [{{name: all, plugins: [{auth}], rules: [{{pool: app}}]}}]\n");
    let proxy = Proxy::http(&(routes + &pool("app", &[&service])));
    let config = proxy.config();
    let explain = |field: &str| {
        let config = config.to_str().unwrap();
        let output = run(&["explain", "GET", "http://test/", "-H", field, "-c", config]);
        String::from_utf8(output.stdout).unwrap()
    };

    let nobody = explain("x-a: 1");
    assert!(
        nobody.contains("    of[0] (basic_auth) would answer 401 `auth.basic_missing`\n"),
        "{nobody}"
    );
    assert!(
        nobody.contains(
            "    of[1] (oauth2_introspection) would answer 401 `auth.introspection_missing`\n"
        ),
        "{nobody}"
    );
    assert!(
        nobody.contains("(auth) answers 401 `auth.basic_missing`"),
        "{nobody}"
    );
    let token = explain("authorization: Bearer abc");
    assert!(
        token.contains("(oauth2_introspection) is unknown here: asks http://"),
        "{token}"
    );
    assert_eq!(service.requests(), 0);
}
