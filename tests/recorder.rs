//! The flight recorder as an operator meets it: the id of an answer leads to the story of the request.
//! It must not know how records are kept.
//! Part of the test binary.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::wait::pause;
use crate::support::{frame, run, until, Proxy, Reply, Upstream};

/// A proxy whose recorder has these settings.
fn with(recorder: &str, yaml: &str) -> Proxy {
    Proxy::http(&settings(recorder, yaml))
}

fn settings(recorder: &str, yaml: &str) -> String {
    format!("{yaml}observe:\n  access_log: {{to: FOLDER/access.log}}\n  recorder: {recorder}\n")
}

/// Waits for the record of an answer: it is made after the answer was sent.
fn record(proxy: &Proxy, reply: &Reply) -> Value {
    let id = reply.header("x-request-id").expect("answers have an id");
    until("the record", || {
        let found = proxy.admin_reply(&format!("/recorder/{id}"));
        (found.status == 200).then(|| found.json()["records"][0].clone())
    })
}

/// Runs a command for this proxy: exit code, output, errors.
fn command(proxy: &Proxy, arguments: &[&str]) -> (i32, String, String) {
    let config = proxy.config();
    let output = run(&[arguments, &["-c", config.to_str().unwrap()]].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("an exit code");
    (code, text(&output.stdout), text(&output.stderr))
}

fn is_in_order(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn the_id_of_a_503_leads_to_the_line_of_the_configuration() {
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  discovery: {{file: {{path: FOLDER/none.yaml}}}}\n{ALL_TO_APP}"
    ));

    let reply = proxy.get("/cart");
    let record = record(&proxy, &reply);
    let id = reply.header("x-request-id").unwrap();
    let (code, story, _) = command(&proxy, &["why", id]);

    assert_eq!((reply.status, &*reply.why()), (503, "no_endpoint"));
    assert_eq!(record["kept"], "error");
    assert_eq!(record["answer"]["cause"], "no_endpoint");
    assert_eq!(record["decision"]["pool"], "app");
    let place = record["decision"]["place"].as_str().unwrap();
    assert!(place.ends_with("windrose.yaml:10"), "{place}");
    assert_eq!(code, 0);
    let lines = [
        "503 no_endpoint: GET http://test/cart HTTP/1.1",
        id,
        "127.0.0.1 through listener web (ingress)",
        "all, rule 0 at ",
        "windrose.yaml:10, generation 1",
        "no endpoint could be tried",
        "made by the proxy",
        "The pool has no endpoints",
        "Next: ",
    ];
    assert!(is_in_order(&story, &lines), "{story}");
}

#[test]
fn a_404_is_found_in_the_list_and_by_its_id() {
    let proxy = Proxy::http("routes: []\n");

    let reply = proxy.get("/nowhere");
    let record = record(&proxy, &reply);
    let (_, story, _) = command(&proxy, &["why", reply.header("x-request-id").unwrap()]);

    let of = |query: &str| proxy.admin(&format!("/recorder?{query}"))["records"].clone();
    assert_eq!(of("cause=no_route&status=404&limit=5")[0], record);
    assert_eq!(of("cause=no_endpoint"), Value::Array(Vec::new()));
    assert_eq!(of("limit=0"), Value::Array(Vec::new()));
    assert_eq!(proxy.admin_reply("/recorder?couse=x").status, 400);
    assert!(
        is_in_order(&story, &["404 no_route", "none matched", "none chosen"]),
        "{story}"
    );
}

#[test]
fn a_request_far_slower_than_the_others_is_kept() {
    let service = Upstream::with(|seen, stream| {
        if seen.target == "/slow" {
            pause(Duration::from_millis(500));
        }
        answer(stream, 200, &[], b"ok")
    });
    let app = format!("{}{ALL_TO_APP}", pool("app", &[&service]));
    let proxy = with("{sample: 0%}", &app);
    (0..20).for_each(|_| assert_eq!(proxy.get("/").status, 200));

    let reply = proxy.get("/slow");
    let record = record(&proxy, &reply);
    let (_, story, _) = command(&proxy, &["why", reply.header("x-request-id").unwrap()]);

    assert_eq!(
        (&record["kept"], &record["answer"]["status"]),
        (&"slowest".into(), &200.into())
    );
    assert!(
        record["durations"]["total_ms"].as_f64().unwrap() >= 500.0,
        "{record}"
    );
    assert!(
        record["durations"]["upstream_ms"].as_f64().unwrap() >= 400.0,
        "{record}"
    );
    assert!(
        is_in_order(
            &story,
            &["the slowest 1%", ": 200 after ", "from the endpoint"]
        ),
        "{story}"
    );
    assert_eq!(
        proxy.metric("windrose_recorder_records_total", &["sample"]),
        0.0
    );
}

#[test]
fn every_attempt_is_told() {
    let (dead, live) = (Upstream::refusing(), Upstream::answering("hello"));
    let pool = pool("app", &[&dead, &live]);
    let proxy = with(
        "{sample: 100%, slowest: false}",
        &format!("{pool}  balance: {{algorithm: round_robin}}\n{ALL_TO_APP}"),
    );

    let record = until("a request that met the dead endpoint first", || {
        let record = record(&proxy, &proxy.get("/"));
        (record["attempts"].as_array().unwrap().len() == 2).then_some(record)
    });

    let [first, second] = [&record["attempts"][0], &record["attempts"][1]];
    assert_eq!(first["endpoint"], dead.address.to_string());
    assert_eq!(first["cause"], "connect_refused");
    assert_eq!(second["endpoint"], live.address.to_string());
    assert_eq!(
        (&second["status"], &second["cause"]),
        (&200.into(), &Value::Null)
    );
    assert_eq!(record["kept"], "sample");
}

#[test]
fn secrets_of_a_request_are_nowhere_in_what_is_told() {
    let proxy = Proxy::http("routes: []\n");
    let fields = "authorization: Bearer hush\r\nproxy-authorization: Basic hush\r\ncookie: a=hush; b=hush\r\n\
        x-api-key: hush\r\nx-session-token: hush\r\nreferer: http://u:hush@a/?p=hush\r\naccept: text/html\r\n";

    let reply = proxy.ask("GET", "/?token=hush&page=hush", fields);
    let record = record(&proxy, &reply);
    let id = reply.header("x-request-id").unwrap();

    let told = [
        proxy.admin_reply("/recorder").text(),
        proxy.admin_reply("/recorder/bundle").text(),
        command(&proxy, &["why", id]).1,
        command(&proxy, &["why", id, "--json"]).1,
        command(&proxy, &["bundle"]).1,
    ];
    for text in told {
        assert!(text.contains(id) && !text.contains("hush"), "{text}");
    }
    let fields = record["request"]["fields"].as_array().unwrap();
    let field = |name: &str| fields.iter().find(|field| field["name"] == name).unwrap();
    assert_eq!(field("cookie")["value"], "a=***; b=***");
    assert_eq!(field("cookie")["redacted"], true);
    assert_eq!(field("accept")["value"], "text/html");
    assert_eq!(field("accept").get("redacted"), None);
    assert_eq!(record["request"]["query"][1]["name"], "page");
}

#[test]
fn a_record_has_the_header_as_received_whatever_plugins_made_of_it() {
    let service = Upstream::answering("ok");
    let proxy = with(
        "{sample: 100%, slowest: false}",
        &format!(
            "{}routes:\n- name: all\n  plugins:\n  - kind: headers\n    config: {{request: {{set: {{x-mark: edited}}}}}}\n  rules:\n  - pool: app\n",
            pool("app", &[&service])
        ),
    );

    let reply = proxy.ask(
        "GET",
        "/",
        "X-Mark: one\r\nx-other: two\r\nX-Mark: three\r\n",
    );
    let record = record(&proxy, &reply);

    assert_eq!(service.last().all("x-mark"), ["edited"]);
    let fields = record["request"]["fields"].as_array().unwrap();
    let pair = |field: &Value| format!("{}={}", field["name"], field["value"]).replace('"', "");
    let fields: Vec<String> = fields.iter().map(pair).collect();
    assert_eq!(
        fields,
        ["host=test", "X-Mark=one", "x-other=two", "X-Mark=three"]
    );
    assert_eq!(record["request"]["seen"], "received");
}

#[tokio::test]
async fn http_2_has_records_too() {
    let dead = Upstream::refusing();
    let proxy = Proxy::http(&format!(
        "{}  protocol: http2\n{ALL_TO_APP}",
        pool("app", &[&dead])
    ));

    let client = Client::connect(proxy.address("web")).await;
    let mut request = call("/echo.Echo/Unary");
    let secret = http::HeaderValue::from_static("Bearer hush");
    request.headers_mut().insert("authorization", secret);
    client.ask(request, frame("hi")).await.unwrap();

    let record = until("the record", || {
        proxy.admin("/recorder")["records"].get(0).cloned()
    });
    assert_eq!(record["request"]["protocol"], "HTTP/2");
    assert_eq!(record["attempts"][0]["cause"], "connect_refused");
    let text = record.to_string();
    assert!(
        text.contains("Bearer ***") && !text.contains("hush"),
        "{text}"
    );
}

#[test]
fn requests_of_one_trace_are_told_together_and_any_id_can_be_asked_for() {
    let proxy = Proxy::start(
        "listeners:\n- {name: web, bind: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8]}\nroutes: []\n",
    );
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let fields =
        |id: &str| format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\nx-request-id: {id}\r\n");

    for (target, id, records) in [("/one", "a/b?c%20d", 1), ("/two", "two", 2)] {
        proxy.ask("GET", target, &fields(id));
        until("the record", || {
            (proxy.admin("/recorder")["records"].as_array()?.len() == records).then_some(())
        });
    }

    let (_, both, _) = command(&proxy, &["why", trace]);
    let (code, odd, _) = command(&proxy, &["why", "a/b?c%20d"]);
    assert!(
        is_in_order(&both, &["http://test/two", "http://test/one"]),
        "{both}"
    );
    assert!(code == 0 && odd.contains("http://test/one"), "{odd}");
}

#[test]
fn a_reload_changes_what_is_recorded() {
    let service = Upstream::answering("ok");
    let app = format!("{}{ALL_TO_APP}", pool("app", &[&service]));
    let web = |recorder: &str| settings(recorder, &format!("{}{app}", crate::support::proxy::WEB));
    let proxy = Proxy::start(&web("{sample: 0%, slowest: false}"));
    proxy.get("/before");
    proxy.logged(|line| line["path"] == "/before");
    assert_eq!(
        proxy.admin("/recorder")["records"],
        Value::Array(Vec::new())
    );

    proxy.reload(&web("{sample: 100%, slowest: false}"));
    let sampled = record(&proxy, &proxy.get("/during"));
    proxy.reload(&web("{enabled: false}"));

    assert_eq!(sampled["request"]["path"], "/during");
    assert_eq!(sampled["decision"]["generation"], 2);
    assert_eq!(
        proxy.admin("/recorder")["records"],
        Value::Array(Vec::new())
    );
}

#[test]
fn an_id_without_a_record_is_told_in_a_line_and_so_is_a_process_that_is_gone() {
    let proxy = Proxy::http("routes: []\n");

    let (unknown, _, said) = command(&proxy, &["why", "0123abc"]);
    let output = run(&["why", "0123abc", "-c", "nowhere.yaml"]);
    let listed = run(&["why"]);

    assert_eq!((unknown, output.status.code()), (1, Some(1)));
    assert!(
        said.contains("0123abc: no record has this") && said.contains("slowest 1%"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.contains("no_route ") && listed.contains("rate_limited "),
        "{listed}"
    );
}

#[test]
fn a_bundle_is_one_document_for_its_owner_only() {
    let proxy = Proxy::http("routes: []\n");
    let kept = record(&proxy, &proxy.get("/nowhere"));
    let file = proxy.file("bundle.json");

    let (code, _, said) = command(&proxy, &["bundle", "-o", file.to_str().unwrap()]);

    assert_eq!(code, 0, "{said}");
    assert!(said.contains("bundle.json: 1 records"), "{said}");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bundle: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&bundle["format"], &bundle["generation"]),
        (&1.into(), &1.into())
    );
    assert_eq!(bundle["windrose"], env!("CARGO_PKG_VERSION"));
    assert_eq!(bundle["records"][0], kept);
}

#[test]
fn what_a_cache_did_is_told_as_the_access_log_does() {
    let says = &[("cache-control", "max-age=60")];
    let service = Upstream::with(|_, stream| answer(stream, 200, says, b"good"));
    let proxy = with(
        "{sample: 100%, slowest: false}",
        &crate::cache::route(&service, "", ""),
    );

    let stories = [(); 2].map(|()| {
        let reply = proxy.get("/a");
        let record = record(&proxy, &reply);
        let id = reply.header("x-request-id").unwrap();
        let line = proxy.logged(|line| line["request_id"] == id);
        assert_eq!(record["answer"]["cache"], line["cache"]);
        command(&proxy, &["why", id]).1
    });

    assert!(
        is_in_order(&stories[0], &["cache", "miss", "from the endpoint"]),
        "{}",
        stories[0]
    );
    assert!(
        is_in_order(&stories[1], &["cache", "hit", "from the cache"]),
        "{}",
        stories[1]
    );
}
