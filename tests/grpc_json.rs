//! REST and JSON to a gRPC service and back, through a real listener: statuses, streams and what passes beside them.
//! It must not know protobuf; the service sends back the frames it gets, and the plugin's own tests know the rest.
//! Part of the test binary.

use bytes::Bytes;
use http::Request;
use serde_json::{json, Value};

use crate::support::grpc::{call, Client};
use crate::support::proxy::ALL_TO_APP;
use crate::support::{frame, Grpc, Proxy, Reply, Upstream};

fn proxy(service: &str, settings: &str) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let set = include_bytes!("../plugins/grpc_json/notes.pb");
    std::fs::write(folder.path().join("notes.pb"), set).unwrap();
    let yaml = format!(
        "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\npools: [{{name: app, protocol: http2, endpoints: ['{service}']}}]\n{ALL_TO_APP}  plugins: [{{kind: headers, config: {{response: {{set: {{x-seen: '${{path}}'}}}}}}}}, {{kind: grpc_json, config: {{descriptor: notes.pb{settings}}}}}]\n"
    );
    Proxy::start_in(folder, &yaml)
}

fn ask(proxy: &Proxy, method: &str, target: &str, body: &str) -> Reply {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    proxy.connect().ask(head)
}

#[tokio::test]
async fn a_message_comes_back_as_json_with_the_status_of_the_call() {
    let service = Grpc::start();
    let proxy = proxy(&service.address.to_string(), "");

    let posted = ask(&proxy, "POST", "/v1/notes", r#"{"text": "hi", "size": 5}"#);
    let got = proxy.get("/v1/shelves/1/notes/2?tags=a&tags=b");
    service.set_status(7);
    let denied = proxy.get("/v1/shelves/1/notes/2");
    service.set_status(0);
    let client = Client::connect(proxy.address("web")).await;
    let request = Request::get("http://test/v1/shelves/1/notes/3")
        .body(())
        .unwrap();
    let over_http2 = client.ask(request, Bytes::new()).await.unwrap();

    assert_eq!(
        (posted.status, posted.json()),
        (200, json!({"text": "hi", "size": "5"}))
    );
    assert_eq!(posted.header("content-type"), Some("application/json"));
    assert_eq!(
        posted.header("content-length"),
        Some(&*posted.body.len().to_string())
    );
    assert_eq!(
        posted.header("x-seen"),
        Some("/v1/notes"),
        "others see the new head"
    );
    assert_eq!(
        got.json(),
        json!({"name": "shelves/1/notes/2", "tags": ["a", "b"]})
    );
    assert_eq!((denied.status, &denied.json()["code"]), (403, &json!(7)));
    assert_eq!(over_http2.head.status, 200);
    let body: Value = serde_json::from_slice(&over_http2.body).unwrap();
    assert_eq!(body["name"], "shelves/1/notes/3");
    assert!(over_http2.trailers.is_empty());
    proxy.logged(|line| line["status"] == 403 && line["why"].is_null());
}

#[tokio::test]
async fn a_status_in_the_head_is_the_whole_response() {
    let service = Grpc::start();
    let proxy = proxy(&service.address.to_string(), "");
    let mut conn = proxy.connect();
    for _ in 0..2 {
        let reply = conn.ask("GET /v1/missing HTTP/1.1\r\nhost: a\r\n\r\n");

        assert_eq!((reply.status, &reply.json()["code"]), (501, &json!(12)));
        assert_eq!(reply.header("grpc-status"), None);
    }
}

#[tokio::test]
async fn a_stream_comes_as_lines_or_as_an_array() {
    let service = Grpc::start();
    let lines = proxy(&service.address.to_string(), "");
    let array = proxy(&service.address.to_string(), ", stream: array");

    let three = lines.get("/v1/notes/n:copies");
    let all = array.get("/v1/notes/n:copies?text=x");
    service.set_status(8);
    let failed = array.get("/v1/notes/n:copies");

    assert_eq!(three.text(), "{\"name\":\"n\"}\n".repeat(3));
    assert_eq!(three.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(
        all.json(),
        json!([{"name": "n", "text": "x"}, {"name": "n", "text": "x"}, {"name": "n", "text": "x"}])
    );
    let failed = failed.json();
    assert_eq!(
        (failed.as_array().map(Vec::len), &failed[3]["error"]["code"]),
        (Some(4), &json!(8))
    );
}

#[tokio::test]
async fn what_is_no_call_of_it_is_told_or_passes() {
    let service = Grpc::start();
    let open = proxy(&service.address.to_string(), "");
    let strict = proxy(
        &service.address.to_string(),
        ", unmatched: refuse, max_request: 100B",
    );
    let client = Client::connect(strict.address("web")).await;

    let grpc = client.ask(call("unary"), frame("hi")).await.unwrap();
    let (nowhere, unfit) = (strict.get("/v2"), strict.get("/v1/missing?x=1"));
    let malformed = ask(&strict, "POST", "/v1/notes", "{");
    let large = ask(&strict, "POST", "/v1/notes", &format!("{:200}", "{}"));
    let text = strict.connect().ask("POST /v1/notes HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}");

    assert_eq!(
        (grpc.field("grpc-status"), &*grpc.body),
        (Some("0"), &*frame("hi"))
    );
    assert_eq!(
        (nowhere.status, &*nowhere.why()),
        (404, "grpc_json.no_binding")
    );
    assert_eq!((unfit.status, &*unfit.why()), (400, "grpc_json.parameter"));
    assert!(unfit.json()["message"].as_str().unwrap().contains("\"x\""));
    assert_eq!(
        (malformed.status, &*malformed.why()),
        (400, "grpc_json.malformed")
    );
    assert_eq!((large.status, &*large.why()), (413, "grpc_json.too_large"));
    assert_eq!((text.status, &*text.why()), (415, "grpc_json.unsupported"));
    assert_eq!(service.calls(), 1);
    assert_eq!(open.get("/unary").status, 200, "it passes as it is");
}

#[tokio::test]
async fn a_service_that_is_away_or_talks_of_something_else_has_its_cause() {
    let refusing = Upstream::refusing();
    let dead = proxy(&refusing.address.to_string(), "");
    let service = Grpc::start();
    let small = proxy(&service.address.to_string(), ", max_response: 10B");

    let down = dead.get("/v1/missing");
    let large = ask(
        &small,
        "POST",
        "/v1/notes",
        r#"{"text": "more than ten bytes"}"#,
    );

    assert_eq!((down.status, &*down.why()), (502, "connect_refused"));
    assert_eq!(
        (large.status, &*large.why()),
        (502, "grpc_json.response_too_large")
    );
}
