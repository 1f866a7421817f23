use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::json;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;

use super::*;
use crate::contract::{Held, Hold, Larger, WholeBody};
use crate::testkit::{answered, went_on, Exchange, Instance, Kit};

fn with(more: &str) -> Instance {
    kit().instance(&PLUGIN, &format!("descriptor: notes.pb\n{more}"))
}

fn kit() -> Kit {
    Kit::new().in_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/grpc_json"))
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(&include_bytes!("notes.pb")[..]).unwrap()
}

/// The message of a frame, as JSON.
fn read(frame: &[u8]) -> Value {
    let length = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
    assert_eq!((frame[0], frame.len()), (0, length + 5));
    let note = pool().get_message_by_name("demo.Note").unwrap();
    let note = DynamicMessage::decode(note, &frame[5..]).unwrap();
    serde_json::to_value(&note).unwrap()
}

/// A note in its frame.
fn note(fields: Value) -> Vec<u8> {
    let note = pool().get_message_by_name("demo.Note").unwrap();
    request::frame(
        &DynamicMessage::deserialize(note, fields)
            .unwrap()
            .encode_to_vec(),
    )
}

fn asked(method: &str, target: &str, body: &str) -> Exchange {
    let exchange = Exchange::new(method, &format!("http://notes.test{target}"));
    match body {
        "" => exchange,
        body => exchange
            .with("content-type", "application/json")
            .with_body(body.to_owned()),
    }
}

/// The message that a request becomes.
fn called(plugin: &Instance, method: &str, target: &str, body: &str) -> Value {
    let mut exchange = asked(method, target, body);
    assert!(went_on(&plugin.request(&mut exchange)), "{method} {target}");
    read(exchange.body())
}

fn why(plugin: &Instance, mut exchange: Exchange) -> (&'static str, String) {
    let answer = answered(plugin.request(&mut exchange));
    let (_, body) = answer.body.expect("it says what is wrong");
    let body: Value = serde_json::from_slice(&body).unwrap();
    let said = body["message"].as_str().unwrap_or_default().to_owned();
    (answer.cause.name, said)
}

#[test]
fn bodies_paths_and_parameters_become_one_message() {
    let plugin = with("");
    for (method, target, body, expected) in [
        (
            "POST",
            "/v1/notes",
            r#"{"name": "a", "size": "7", "author": {"name": "mia", "number": 5}}"#,
            json!({"name": "a", "size": "7", "author": {"name": "mia", "number": "5"}}),
        ),
        ("POST", "/v1/notes", "", json!({})),
        (
            "GET",
            "/v1/shelves/1/notes/a%20b?text=x+y&tags=1&tags=2&size=9007199254740993",
            "",
            json!({"name": "shelves/1/notes/a b", "text": "x y", "tags": ["1", "2"], "size": "9007199254740993"}),
        ),
        (
            "PUT",
            "/v1/files/a/b/c:write?pinned=true&weight=1.5",
            r#"{"name": "mia", "friend": {"name": "tom"}}"#,
            json!({"name": "files/a/b/c", "pinned": true, "weight": 1.5, "author": {"name": "mia", "friend": {"name": "tom"}}}),
        ),
        (
            "PATCH",
            "/v1/notes/n/tom",
            r#"{"name": "mia", "number": 3}"#,
            json!({"name": "n", "author": {"name": "tom", "number": "3"}}),
        ),
        (
            "LOCK",
            "/v1/notes/n?color=RED&colors=2&colors=RED&made_at=2026-01-02T03:04:05Z&keep=1.5s&rank=3&mask=text,author.name&blob=AQI&line=4",
            "",
            json!({"name": "n", "color": "RED", "colors": ["DARK_RED", "RED"], "madeAt": "2026-01-02T03:04:05Z", "keep": "1.500s", "rank": 3,
                "mask": "text,author.name", "blob": "AQI=", "line": 4}),
        ),
        (
            "GET",
            "/v1/missing?author.friend.name=x&author.number=4&twoWords=y&two_words=",
            "",
            json!(null),
        ),
    ] {
        if expected.is_null() {
            assert_eq!(why(&plugin, asked(method, target, body)).0, "grpc_json.parameter");
            continue;
        }
        assert_eq!(called(&plugin, method, target, body), expected, "{method} {target}");
    }
    let nested = called(
        &plugin,
        "GET",
        "/v1/missing?author.friend.name=x&author.number=4&twoWords=y",
        "",
    );
    assert_eq!(
        nested,
        json!({"author": {"friend": {"name": "x"}, "number": "4"}, "twoWords": "y"})
    );
}

#[test]
fn the_call_goes_upstream_as_grpc() {
    let plugin = with("");
    let mut exchange = asked("GET", "/v1/notes/n:copies?text=x", "")
        .with("accept", "application/json")
        .with("accept-encoding", "gzip")
        .with("grpc-encoding", "gzip");

    assert!(went_on(&plugin.request(&mut exchange)));
    plugin.upstream_request(&mut exchange);

    let head = &exchange.upstream;
    assert_eq!(
        (head.method.as_str(), head.uri.path(), head.uri.query()),
        ("POST", "/demo.Echo/server", None)
    );
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["grpc-accept-encoding"], "identity");
    for gone in ["accept", "accept-encoding", "grpc-encoding"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
}

/// Requests that become no message: method, target, body, the cause, and what is said.
const UNFIT: [(&str, &str, &str, &str, &str); 16] = [
    ("POST", "/v1/notes", "{", "grpc_json.malformed", "not JSON"),
    (
        "POST",
        "/v1/notes",
        "[]",
        "grpc_json.malformed",
        "no object",
    ),
    (
        "POST",
        "/v1/notes",
        r#"{"nme": 1}"#,
        "grpc_json.malformed",
        "nme",
    ),
    (
        "POST",
        "/v1/notes",
        r#"{"size": "x"}"#,
        "grpc_json.malformed",
        "invalid digit",
    ),
    (
        "POST",
        "/v1/notes",
        r#"{"line": -1}"#,
        "grpc_json.malformed",
        "",
    ),
    (
        "POST",
        "/v1/notes",
        r#"{"page": "a", "line": 1}"#,
        "grpc_json.malformed",
        "oneof",
    ),
    (
        "POST",
        "/v1/notes?text=x",
        "{}",
        "grpc_json.parameter",
        "text",
    ),
    ("GET", "/v1/missing?nme=1", "", "grpc_json.parameter", "nme"),
    (
        "GET",
        "/v1/missing?text=1&text=2",
        "",
        "grpc_json.parameter",
        "twice",
    ),
    (
        "GET",
        "/v1/missing?author=1",
        "",
        "grpc_json.parameter",
        "author",
    ),
    (
        "GET",
        "/v1/missing?counts=1",
        "",
        "grpc_json.parameter",
        "counts",
    ),
    (
        "GET",
        "/v1/missing?pinned=yes",
        "",
        "grpc_json.parameter",
        "pinned",
    ),
    ("GET", "/v1/missing?size=x", "", "grpc_json.parameter", ""),
    (
        "GET",
        "/v1/missing?text=%ff",
        "",
        "grpc_json.parameter",
        "query",
    ),
    (
        "LOCK",
        "/v1/notes/n?name=m",
        "",
        "grpc_json.parameter",
        "path",
    ),
    (
        "PUT",
        "/v1/files/a:write?author.name=x",
        "{}",
        "grpc_json.parameter",
        "body",
    ),
];

#[test]
fn what_fits_no_message_says_so() {
    let plugin = with("");
    for (method, target, body, cause, said) in UNFIT {
        let refused = why(&plugin, asked(method, target, body));
        assert_eq!(refused.0, cause, "{target}");
        assert!(refused.1.contains(said), "{target}: {}", refused.1);
    }
    let text = Exchange::new("POST", "http://notes.test/v1/notes")
        .with("content-type", "text/plain")
        .with_body("x");
    assert_eq!(why(&plugin, text).0, "grpc_json.unsupported");
    let coded = asked("POST", "/v1/notes", "{}").with("content-encoding", "gzip");
    assert_eq!(why(&plugin, coded).0, "grpc_json.unsupported");
}

#[test]
fn settings_say_what_is_let_through() {
    let plugin =
        with("unknown_fields: ignore\nunknown_parameters: ignore\nignored_parameters: [text]");

    assert_eq!(
        called(&plugin, "POST", "/v1/notes?x=1", r#"{"nme": 1}"#),
        json!({})
    );
    let kept = called(&plugin, "GET", "/v1/missing?text=secret&nme=1&size=1", "");
    assert_eq!(kept, json!({"size": "1"}));
}

#[test]
fn others_go_on_or_are_refused() {
    let (open, strict) = (with(""), with("unmatched: refuse"));
    let grpc = || {
        Exchange::new("POST", "http://notes.test/demo.Echo/unary")
            .with("content-type", "application/grpc+proto")
    };
    for (method, target) in [
        ("GET", "/v1/notes"),
        ("GET", "/"),
        ("POST", "/v1/collected"),
        ("POST", "/demo.Echo/held"),
    ] {
        let mut exchange = asked(method, target, "{}");
        assert!(went_on(&open.request(&mut exchange)));
        assert_eq!(&exchange.body()[..], b"{}");
        assert_eq!(
            why(&strict, asked(method, target, "")).0,
            "grpc_json.no_binding"
        );
    }
    assert!(went_on(&strict.request(&mut grpc())));
    let auto = with("unannotated: true");
    assert_eq!(
        called(&auto, "POST", "/demo.Echo/held", r#"{"text": "x"}"#),
        json!({"text": "x"})
    );
}

/// A call that went upstream, and its service's head.
fn under_way(plugin: &Instance, method: &str, target: &str) -> Exchange {
    let mut exchange = asked(method, target, "").with_response("content-type", "application/grpc");
    assert!(went_on(&plugin.request(&mut exchange)));
    plugin.upstream_request(&mut exchange);
    exchange
}

fn ended(body: Vec<u8>, code: &'static str) -> Held {
    let mut held = Held {
        body: WholeBody::new(body.into()),
        is_whole: true,
        ..Held::default()
    };
    held.trailers
        .insert("grpc-status", HeaderValue::from_static(code));
    held
}

fn got(exchange: &Exchange, held: &Held) -> (u16, Value) {
    assert!(held.trailers.is_empty());
    assert!(!exchange.response.headers.contains_key("grpc-status"));
    let status = exchange.response.status.as_u16();
    (
        status,
        serde_json::from_slice(held.body.bytes()).expect("it is JSON"),
    )
}

#[test]
fn one_message_becomes_json_with_the_status_of_http() {
    let fields = json!({"name": "n", "size": "7", "tags": ["a"], "color": "DARK_RED", "author": {"name": "mia"}});
    for (settings, method, target, expected) in [
        ("", "GET", "/v1/missing", fields.clone()),
        ("", "DELETE", "/v1/notes/n", json!(["a"])),
        ("", "PATCH", "/v1/notes/n/m", json!({"name": "mia"})),
        (
            "print: {proto_names: true, enums_as_numbers: true, integers_as_numbers: true}",
            "GET",
            "/v1/missing",
            json!({"name": "n", "size": 7, "tags": ["a"], "color": 2, "author": {"name": "mia"}}),
        ),
    ] {
        let plugin = with(settings);
        let mut exchange = under_way(&plugin, method, target);
        assert!(matches!(
            plugin.wish(&mut exchange),
            Hold::Within {
                larger: Larger::Refuse(_),
                ..
            }
        ));
        let mut held = ended(note(fields.clone()), "0");

        assert!(went_on(&plugin.held_response(&mut exchange, &mut held)));

        assert_eq!(got(&exchange, &held), (200, expected));
        assert_eq!(
            exchange.response.headers["content-type"],
            "application/json"
        );
    }
    let plugin = with("print: {defaults: true}");
    let mut exchange = under_way(&plugin, "DELETE", "/v1/notes/n");
    let mut held = ended(note(json!({})), "0");
    plugin.held_response(&mut exchange, &mut held);
    assert_eq!(got(&exchange, &held).1, json!([]));
}

#[test]
fn every_status_has_one_of_http_and_tells_its_message() {
    for (code, http) in [
        ("1", 499),
        ("2", 500),
        ("3", 400),
        ("4", 504),
        ("5", 404),
        ("6", 409),
        ("7", 403),
        ("8", 429),
        ("9", 400),
        ("10", 409),
        ("11", 400),
        ("12", 501),
        ("13", 500),
        ("14", 503),
        ("15", 500),
        ("16", 401),
        ("99", 500),
        ("x", 500),
    ] {
        let plugin = with("");
        let mut exchange = under_way(&plugin, "GET", "/v1/missing");
        let mut held = ended(Vec::new(), code);
        held.trailers
            .insert("grpc-message", HeaderValue::from_static("a%20b%C3%A9%zz+"));

        assert!(went_on(&plugin.held_response(&mut exchange, &mut held)));

        let (status, body) = got(&exchange, &held);
        assert_eq!(status, http, "{code}");
        assert_eq!(body["message"], "a bé%zz+");
        assert_eq!(body["code"], code.parse().unwrap_or(2));
    }
}

#[test]
fn a_status_in_the_head_and_its_details_are_told() {
    let plugin = with("");
    let duration = prost_types_duration();
    let details = [
        duration,
        detail("type.googleapis.com/who.Knows", b"\x08\x01"),
    ]
    .concat();
    let mut exchange = under_way(&plugin, "GET", "/v1/notes/n:copies")
        .with_response("grpc-status", "5")
        .with_response("grpc-message", "gone")
        .with_response(
            "grpc-status-details-bin",
            STANDARD.encode(details).trim_end_matches('='),
        );
    let mut held = Held {
        is_whole: true,
        ..Held::default()
    };

    assert!(went_on(&plugin.held_response(&mut exchange, &mut held)));

    let expected = json!({"code": 5, "message": "gone", "details": [
        {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"},
        {"@type": "type.googleapis.com/who.Knows"},
    ]});
    assert_eq!(got(&exchange, &held), (404, expected));
}

fn prost_types_duration() -> Vec<u8> {
    detail("type.googleapis.com/google.protobuf.Duration", b"\x08\x03")
}

/// A detail as `google.rpc.Status` has it.
fn detail(kind: &str, value: &[u8]) -> Vec<u8> {
    let mut any = vec![0x0a, u8::try_from(kind.len()).unwrap()];
    any.extend_from_slice(kind.as_bytes());
    any.extend([0x12, u8::try_from(value.len()).unwrap()]);
    any.extend_from_slice(value);
    let mut field = vec![0x1a, u8::try_from(any.len()).unwrap()];
    field.extend(any);
    field
}

/// What a stream becomes that comes in pieces of this size.
fn streamed(settings: &str, frames: &[u8], step: usize, code: &'static str) -> String {
    let plugin = with(settings);
    let mut exchange = under_way(&plugin, "GET", "/v1/notes/n:copies");
    assert_eq!(
        plugin.wish(&mut exchange),
        Hold::Within {
            most: 0,
            larger: Larger::Begin
        }
    );
    let mut pieces = frames.chunks(step);
    let mut held = Held {
        body: WholeBody::new(Bytes::copy_from_slice(pieces.next().unwrap())),
        ..Held::default()
    };
    assert!(went_on(&plugin.held_response(&mut exchange, &mut held)));
    let mut out = held.body.bytes().to_vec();
    for piece in pieces {
        let mut piece = Some(Bytes::copy_from_slice(piece));
        assert!(went_on(&plugin.response_body(
            &mut exchange,
            &mut piece,
            false
        )));
        out.extend(piece.unwrap());
    }
    let mut trailers = ended(Vec::new(), code).trailers;
    out.extend(
        plugin
            .response_trailers(&mut exchange, &mut trailers)
            .unwrap(),
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn a_stream_is_lines_or_an_array_however_it_is_cut() {
    let frames = [
        note(json!({"name": "a"})),
        note(json!({})),
        note(json!({"name": "b"})),
    ]
    .concat();
    for step in [1, 3, 7, 100] {
        assert_eq!(
            streamed("", &frames, step, "0"),
            "{\"name\":\"a\"}\n{}\n{\"name\":\"b\"}\n"
        );
        assert_eq!(
            streamed("stream: array", &frames, step, "0"),
            "[{\"name\":\"a\"},{},{\"name\":\"b\"}]"
        );
    }
    let error = streamed("", &frames, 5, "8");
    let last: Value = serde_json::from_str(error.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], 8);
    let array: Value = serde_json::from_str(&streamed("stream: array", &frames, 9, "8")).unwrap();
    assert_eq!(
        (array.as_array().map(Vec::len), &array[3]["error"]["code"]),
        (Some(4), &json!(8))
    );
    let half = streamed("", &frames[..frames.len() - 1], 50, "0");
    assert!(
        half.ends_with("a status\",\"details\":[]}}\n") || half.contains("\"code\":2"),
        "{half}"
    );
}

#[test]
fn a_stream_that_is_over_at_once_has_its_status() {
    let plugin = with("stream: array");
    let mut failed = under_way(&plugin, "GET", "/v1/notes/n:copies");
    let mut empty = under_way(&plugin, "GET", "/v1/notes/n:copies");
    let (mut no, mut nothing) = (ended(Vec::new(), "7"), ended(Vec::new(), "0"));

    plugin.held_response(&mut failed, &mut no);
    plugin.held_response(&mut empty, &mut nothing);

    assert_eq!(got(&failed, &no).0, 403);
    assert_eq!(got(&empty, &nothing), (200, json!([])));
}

#[test]
fn messages_that_are_compressed_unasked_are_read() {
    use crate::codec::encode::{Encoder, Flush};
    let mut encoder = Encoder::new(crate::codec::Coding::Gzip, 3).unwrap();
    let plain = note(json!({"name": "n"}));
    let first = encoder.piece(&plain[5..], Flush::No).unwrap();
    let mut frame = request::frame(&[first, encoder.end().unwrap()].concat());
    frame[0] = 1;
    let plugin = with("");
    let mut exchange =
        under_way(&plugin, "GET", "/v1/missing").with_response("grpc-encoding", "gzip");
    let mut held = ended(frame.clone(), "0");

    assert!(went_on(&plugin.held_response(&mut exchange, &mut held)));

    assert_eq!(got(&exchange, &held), (200, json!({"name": "n"})));
    assert!(!exchange.response.headers.contains_key("grpc-encoding"));
    let small = with("max_response: 9B");
    let mut bomb = under_way(&small, "GET", "/v1/missing").with_response("grpc-encoding", "gzip");
    frame[1..5].copy_from_slice(&9_u32.to_be_bytes());
    let verdict = small.held_response(&mut bomb, &mut ended(frame[..14].to_vec(), "0"));
    assert_eq!(answered(verdict).cause.name, "grpc_json.response_malformed");
}

#[test]
fn responses_that_cannot_be_read_have_their_cause() {
    let plugin = with("max_response: 50B");
    let bad = |body: Vec<u8>, code| {
        let mut exchange = under_way(&plugin, "GET", "/v1/missing");
        let verdict = plugin.held_response(&mut exchange, &mut ended(body, code));
        answered(verdict).cause.name
    };
    let good = note(json!({"name": "a"}));
    let compressed = [&[1], &good[1..]].concat();

    for (body, name) in [
        (Vec::new(), "no message"),
        ([good.clone(), good.clone()].concat(), "two"),
        (good[..6].to_vec(), "half of one"),
        (compressed, "a coding"),
        (request::frame(b"\xff\xff\xff"), "no message at all"),
    ] {
        assert_eq!(bad(body, "0"), "grpc_json.response_malformed", "{name}");
    }
    let large = note(json!({"text": "x".repeat(60)}));
    assert_eq!(bad(large, "0"), "grpc_json.response_too_large");
    let grows =
        note(json!({"tags": ["", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""]}));
    assert_eq!(bad(grows, "0"), "grpc_json.response_too_large", "it grows");
    let mut exchange = under_way(&plugin, "GET", "/v1/missing");
    let mut held = Held {
        body: WholeBody::new(good.into()),
        is_whole: true,
        ..Held::default()
    };
    let verdict = plugin.held_response(&mut exchange, &mut held);
    assert_eq!(
        answered(verdict).cause.name,
        "grpc_json.response_malformed",
        "no status"
    );
    let mut html = asked("GET", "/v1/missing", "").with_response("content-type", "text/html");
    plugin.request(&mut html);
    assert_eq!(plugin.wish(&mut html), Hold::Nothing);
}

#[test]
fn wrong_settings_are_located() {
    let kit = kit();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("descriptor: nowhere.pb\nmax_request: 0"),
        ["max_request", "descriptor"]
    );
    assert_eq!(paths("descriptor: notes.proto"), ["descriptor"]);
    assert_eq!(paths("descriptor: 'data:;base64,!!'"), ["descriptor"]);
    assert_eq!(
        paths("descriptor: notes.pb\nservices: [demo.Eco]"),
        ["services"]
    );
    let example = PLUGIN.example.lines().next().unwrap();
    assert_eq!(paths(example), ["descriptor"], "no method has an option");
}

#[test]
fn a_dry_run_calls_nobody_and_counts_nothing() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "descriptor: notes.pb");

    assert!(went_on(
        &plugin.request(&mut asked("POST", "/v1/notes", "{}").dry())
    ));
    assert_eq!(kit.counted("calls"), 0);
    assert!(went_on(&plugin.request(&mut asked(
        "POST",
        "/v1/notes",
        "{}"
    ))));
    assert_eq!(kit.counted("calls"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_request_breaks_it(path in "/v1/(notes|missing|files)(/[ -~&&[^?# ]]{0,12}){0,3}", query in "[a-z_.]{0,9}=[!-~&&[^#]]{0,12}(&[a-z.=%]{0,9}){0,3}", body in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        let plugin = with("");
        for method in ["GET", "POST", "PUT", "LOCK", "PATCH"] {
            let target = format!("http://notes.test{path}?{query}");
            if target.parse::<http::Uri>().is_err() {
                continue;
            }
            let _ = plugin.request(&mut Exchange::new(method, &target).with_body(body.clone()));
        }
    }

    #[test]
    fn no_response_breaks_it(body in prop::collection::vec(any::<u8>(), 0..200), code in "[0-9]{0,3}") {
        let plugin = with("");
        for target in ["/v1/missing", "/v1/notes/n:copies"] {
            let mut exchange = under_way(&plugin, "GET", target);
            let mut held = Held { body: WholeBody::new(body.clone().into()), is_whole: true, ..Held::default() };
            held.trailers.insert("grpc-status", code.parse().unwrap());
            let _ = plugin.held_response(&mut exchange, &mut held);
        }
    }
}
