use proptest::prelude::*;
use prost::Message;

use super::message::{
    framed, unframed, Allowed, CheckRequest, CheckResponse, Denied, Header, HeaderOption,
    HttpStatus, Status,
};
use super::*;
use crate::contract::{CallFailure, Reply};
use crate::testkit::{answered, field, fields, reply, went_on, Exchange, Instance, Kit};

const SERVICE: &str = "h2c://authz:9191/envoy.service.auth.v3.Authorization/Check";

fn instance(kit: &Kit, more: &str) -> Instance {
    kit.instance(&PLUGIN, &format!("service: h2c://authz:9191\n{more}"))
}

fn grpc(body: impl Into<bytes::Bytes>, status: &str) -> Reply {
    let mut reply = reply(200, &[("content-type", "application/grpc")], body);
    reply
        .trailers
        .insert("grpc-status", status.parse().unwrap());
    reply
}

fn says(response: &CheckResponse) -> Result<Reply, CallFailure> {
    Ok(grpc(framed(response), "0"))
}

fn option(key: &str, value: &str) -> HeaderOption {
    HeaderOption {
        header: Some(Header {
            key: key.to_owned(),
            value: value.to_owned(),
            raw: Vec::new(),
        }),
    }
}

fn allows(allowed: Allowed) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: 0 }),
        ok: Some(allowed),
        denied: None,
    }
}

fn denies(denied: Denied) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: 7 }),
        ok: None,
        denied: Some(denied),
    }
}

fn failed(verdict: Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Failed { cause, reason } => (cause.name, reason),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn the_service_is_told_of_the_request_as_envoy_tells_it() {
    let kit = Kit::new();
    kit.answer(SERVICE, says(&allows(Allowed::default())));
    let plugin = instance(&kit, "send: [cookie, x-a]\ncontext: {policy: orders}");
    let mut exchange = Exchange::new("POST", "https://Shop.test/raw?a=b")
        .with_path("/canonical")
        .as_consumer("ann")
        .with("cookie", "a=1")
        .with("cookie", "b=2")
        .with("x-a", "1")
        .with("x-a", "2")
        .with("authorization", "secret")
        .with("content-length", "5");

    assert!(went_on(&plugin.request(&mut exchange)));

    let asked = kit.asked().remove(0);
    assert_eq!((&*asked.method, &*asked.url), ("POST", SERVICE));
    assert_eq!(asked.header("content-type"), Some("application/grpc"));
    assert_eq!(asked.header("te"), Some("trailers"));
    let message: CheckRequest = unframed(&asked.body).unwrap();
    let attributes = message.attributes.unwrap();
    assert_eq!(attributes.context["policy"], "orders");
    let source = attributes.source.unwrap();
    assert_eq!(source.principal, "consumer:ann");
    assert_eq!(source.address.unwrap().socket.unwrap().address, "192.0.2.1");
    let http = attributes.request.unwrap().http.unwrap();
    let told = [
        &http.id,
        &http.method,
        &http.path,
        &http.host,
        &http.scheme,
        &http.protocol,
    ];
    let expected = [
        "test-request-id",
        "POST",
        "/canonical?a=b",
        "shop.test",
        "https",
        "HTTP/1.1",
    ];
    assert_eq!(told.map(String::as_str), expected);
    assert_eq!(http.size, 5);
    let headers: Vec<_> = http
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(headers, [("cookie", "a=1; b=2"), ("x-a", "1,2")]);
}

#[test]
fn a_request_that_may_go_on_is_changed_as_the_service_says() {
    let kit = Kit::new();
    kit.answer(
        SERVICE,
        says(&allows(Allowed {
            headers: vec![option("X-User", "ann")],
            remove: vec!["authorization".to_owned()],
            response_headers: vec![option("set-cookie", "a=1"), option("set-cookie", "b=2")],
            ..Allowed::default()
        })),
    );
    let plugin = instance(&kit, "request_headers: [x-user]");
    let mut exchange = Exchange::get("http://shop.test/")
        .with("x-user", "mallory")
        .with("x_user", "mallory")
        .with("authorization", "secret");

    assert!(went_on(&plugin.request(&mut exchange)));
    exchange.request.remove_header("x-user");
    assert!(went_on(&plugin.upstream_request(&mut exchange)));
    assert!(went_on(&plugin.response(&mut exchange)));

    assert_eq!(fields(&exchange.upstream.headers, "x-user"), ["ann"]);
    for name in ["x_user", "authorization"] {
        assert!(exchange.upstream.headers.get(name).is_none(), "{name}");
    }
    assert_eq!(
        fields(&exchange.response.headers, "set-cookie"),
        ["a=1", "b=2"]
    );
}

#[test]
fn a_denial_has_the_status_fields_and_body_that_the_service_chose() {
    let kit = Kit::new();
    kit.answer(SERVICE, says(&denies(Denied::default())));
    kit.answer(
        SERVICE,
        says(&denies(Denied {
            status: Some(HttpStatus { code: 401 }),
            headers: vec![
                option("www-authenticate", "Bearer"),
                option("content-type", "text/html"),
            ],
            body: "<p>".to_owned(),
        })),
    );
    let plugin = instance(&kit, "");
    let ask = || answered(plugin.request(&mut Exchange::get("http://shop.test/")));

    let (plain, whole) = (ask(), ask());

    assert_eq!(
        (plain.status, plain.cause.name, plain.body),
        (403, "auth.ext_authz_denied", None)
    );
    assert_eq!((whole.status, whole.headers.len()), (401, 1));
    assert_eq!(field(&whole, "www-authenticate"), Some("Bearer"));
    let (media, body) = whole.body.unwrap();
    assert_eq!(
        (media.to_str().unwrap(), &body[..]),
        ("text/html", &b"<p>"[..])
    );
    assert_eq!(kit.counted("denied"), 2);
}

/// Asserts that an answer is a failure, which is told so, and never a denial.
fn assert_unusable(given: Result<Reply, CallFailure>, expected: &str) {
    let kit = Kit::new();
    kit.answer(SERVICE, given);
    let plugin = instance(&kit, "request_headers: [x-user]");
    let mut exchange = Exchange::get("http://shop.test/").with("x-user", "mallory");

    let (cause, reason) = failed(plugin.request(&mut exchange));

    assert_eq!(cause, "auth.ext_authz_unavailable", "{expected}");
    assert!(reason.contains(expected), "{expected}: {reason}");
    assert!(exchange.request.headers.get("x-user").is_none());
}

#[test]
fn what_is_no_answer_of_grpc_is_a_failure() {
    let good = framed(&allows(Allowed::default()));
    let mut compressed = good.to_vec();
    compressed[0] = 1;
    let twice = [&good[..], &good[..]].concat();
    let mut at_once = reply(200, &[("grpc-status", "12")], "");
    at_once.trailers.clear();
    for (given, expected) in [
        (Err(CallFailure::TimedOut), "in time"),
        (Ok(reply(503, &[], "")), "HTTP status 503"),
        (Ok(reply(200, &[], good.clone())), "without a gRPC status"),
        (Ok(at_once), "gRPC status 12"),
        (Ok(grpc(good.clone(), "14")), "gRPC status 14"),
        (Ok(grpc(good.clone(), "none")), "without a gRPC status"),
        (Ok(grpc("", "0")), "without a message"),
        (Ok(grpc(compressed, "0")), "compressed"),
        (Ok(grpc(twice, "0")), "another length"),
        (
            Ok(grpc(good.slice(..good.len() - 1), "0")),
            "another length",
        ),
        (
            Ok(grpc(&b"\0\0\0\0\x02\xff\xff"[..], "0")),
            "cannot be read",
        ),
        (says(&CheckResponse::default()), "without a decision"),
    ] {
        assert_unusable(given, expected);
    }
}

#[test]
fn a_decision_that_sets_what_it_may_not_is_a_failure() {
    let grants = |key: &str, value: &str| {
        allows(Allowed {
            headers: vec![option(key, value)],
            ..Allowed::default()
        })
    };
    let both = CheckResponse {
        denied: Some(Denied::default()),
        ..allows(Allowed::default())
    };
    let long = "x".repeat(20_000);
    for (given, expected) in [
        (grants("x-admin", "1"), "`request_headers`"),
        (grants("x-user", &long), "16 KiB"),
        (grants("x-user", "a\r\nb: c"), "cannot carry"),
        (grants("transfer-encoding", "chunked"), "cannot be set"),
        (grants(":path", "/"), "cannot be set"),
        (
            allows(Allowed {
                response_headers: vec![option("x-a", "1")],
                ..Allowed::default()
            }),
            "`response_headers`",
        ),
        (
            allows(Allowed {
                remove: vec!["host".to_owned()],
                ..Allowed::default()
            }),
            "cannot be removed",
        ),
        (
            allows(Allowed {
                query_remove: vec!["a".to_owned()],
                ..Allowed::default()
            }),
            "not supported",
        ),
        (
            denies(Denied {
                headers: vec![option("x-a", "1")],
                ..Denied::default()
            }),
            "`answer_headers`",
        ),
        (
            denies(Denied {
                status: Some(HttpStatus { code: 200 }),
                ..Denied::default()
            }),
            "300 to 599",
        ),
        (both, "yes and no"),
    ] {
        assert_unusable(says(&given), expected);
    }
}

#[test]
fn a_dry_run_asks_nobody() {
    let kit = Kit::new();

    let verdict = instance(&kit, "").request(&mut Exchange::get("http://shop.test/").dry());

    assert!(matches!(verdict, Verdict::Unknown(what) if what.0.contains("authz:9191")));
    assert!(kit.asked().is_empty());
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, path) in [
        ("service: 'http://a/'", "service"),
        ("{service: 'h2c://a/', timeout: 0s}", "timeout"),
        ("{service: 'h2c://a/', answer_limit: 2MiB}", "answer_limit"),
        ("{service: 'h2c://a/', send: ['*']}", "send[0]"),
        (
            "{service: 'h2c://a/', request_headers: [te]}",
            "request_headers[0]",
        ),
    ] {
        assert_eq!(
            Kit::new().problem_paths(&PLUGIN, config),
            [path],
            "{config}"
        );
    }
}

proptest! {
    /// Whatever bytes come back, they are a decision or a failure, and never a panic.
    #[test]
    fn strangers_bytes_are_a_decision_or_a_failure(bytes in proptest::collection::vec(any::<u8>(), 0..200), prefixed in any::<bool>()) {
        let body = if prefixed {
            let mut body = vec![0; 5];
            body[4] = u8::try_from(bytes.len()).unwrap();
            [body, bytes].concat()
        } else {
            bytes
        };
        let _ = Decision::of(&grpc(body, "0"));
    }

    /// An answer that was cut or changed in one byte is never taken for a yes with other fields than the service may set.
    #[test]
    fn a_changed_answer_grants_nothing_else(at in 0_usize..64, byte in any::<u8>()) {
        let mut body = framed(&allows(Allowed { headers: vec![option("x-user", "ann")], ..Allowed::default() })).to_vec();
        let at = at % body.len();
        body[at] = byte;
        let kit = Kit::new();
        kit.answer(SERVICE, Ok(grpc(body, "0")));
        let mut exchange = Exchange::get("http://shop.test/");

        instance(&kit, "request_headers: [x-user]").request(&mut exchange);

        let names = exchange.request.headers.keys().filter(|name| *name != "host");
        prop_assert!(names.into_iter().all(|name| *name == "x-user"));
    }
}

#[test]
fn an_encoded_question_is_what_the_protocol_wants() {
    // By hand: attributes (1), request (4), http (2), method (2) "GET".
    let bytes = [0x0a, 9, 0x22, 7, 0x12, 5, 0x12, 3, b'G', b'E', b'T'];

    let message = CheckRequest::decode(&bytes[..]).unwrap();

    let http = message.attributes.unwrap().request.unwrap().http.unwrap();
    assert_eq!(http.method, "GET");
}
