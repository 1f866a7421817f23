use proptest::prelude::*;
use prost::Message;

use super::message::{
    framed, unframed, Allowed, CheckRequest, CheckResponse, Denied, Header, HeaderOption,
    HttpStatus, Parameter, Status,
};
use super::metadata::{Items, Kind, Member, Members};
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
        ..CheckResponse::default()
    }
}

fn denies(denied: Denied) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: 7 }),
        denied: Some(denied),
        ..CheckResponse::default()
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
            "`query`",
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

fn told_http(kit: &Kit) -> super::message::HttpRequest {
    let message: CheckRequest = unframed(&kit.asked().remove(0).body).unwrap();
    message.attributes.unwrap().request.unwrap().http.unwrap()
}

#[test]
fn the_service_gets_the_body_as_text_or_as_bytes() {
    for (more, body, text, raw) in [
        ("", &b"a=1"[..], "a=1", &b""[..]),
        (", as_bytes: true", b"a=1", "", b"a=1"),
        ("", b"\xff\x00", "", b"\xff\x00"),
        ("", b"", "", b""),
    ] {
        let kit = Kit::new();
        kit.answer(SERVICE, says(&allows(Allowed::default())));
        let config =
            format!("{{service: 'h2c://authz:9191', with_request_body: {{max_bytes: 4B}}{more}}}");
        let plugin = kit.instance(&PLUGIN, &config);
        let mut exchange = Exchange::new("POST", "http://shop.test/").with_body(body);

        assert!(went_on(&plugin.request(&mut exchange)));

        let http = told_http(&kit);
        assert_eq!((&*http.body, &http.raw_body[..]), (text, raw), "{body:?}");
        assert_eq!(http.headers["x-envoy-auth-partial-body"], "false");
        assert_eq!(exchange.body(), body, "it goes on as it came");
    }
}

#[test]
fn a_larger_body_is_refused_or_sent_in_part_as_the_settings_say() {
    let kit = Kit::new();
    kit.answer(SERVICE, says(&allows(Allowed::default())));
    let build = |partial: bool| {
        let config = format!(
            "with_request_body: {{max_bytes: 4B, allow_partial: {partial}}}\nsend: ['x-envoy-*']"
        );
        instance(&kit, &config)
    };
    let post = || {
        Exchange::new("POST", "http://shop.test/")
            .with_body("12345")
            .with("x-envoy-auth-partial-body", "false")
    };

    let refused = answered(build(false).request(&mut post()));
    assert_eq!(
        (refused.status, refused.cause.name),
        (413, "auth.ext_authz_too_large")
    );
    assert!(kit.asked().is_empty());
    let mut exchange = post();
    assert!(went_on(&build(true).request(&mut exchange)));

    let http = told_http(&kit);
    assert_eq!(http.body, "1234");
    assert_eq!(
        http.headers["x-envoy-auth-partial-body"], "true",
        "whatever the client says"
    );
    assert_eq!(exchange.body(), "12345");
}

fn parameter(key: &str, value: &str) -> Parameter {
    Parameter {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn parameters_of_the_query_are_set_and_removed() {
    for (query, set, removed, expected) in [
        (
            "?a=1&b=2",
            vec![parameter("a", "x y&z")],
            vec![],
            "/p?b=2&a=x%20y%26z",
        ),
        (
            "?a=1&a=2&%61=3&c",
            vec![parameter("a", "1"), parameter("a", "2")],
            vec![],
            "/p?c&a=2",
        ),
        ("?a=1&%61=2&b", vec![], vec!["a"], "/p?b"),
        ("?a=1", vec![parameter("a", "2")], vec!["a"], "/p"),
        ("", vec![parameter("a", "")], vec![], "/p?a="),
        ("?b=%zz", vec![], vec![], "/p?b=%zz"),
    ] {
        let kit = Kit::new();
        let allowed = Allowed {
            query_set: set,
            query_remove: removed.into_iter().map(str::to_owned).collect(),
            ..Allowed::default()
        };
        kit.answer(SERVICE, says(&allows(allowed)));
        let mut exchange = Exchange::get(&format!("http://shop.test/p{query}"));

        assert!(went_on(
            &instance(&kit, "query: [a]").request(&mut exchange)
        ));

        assert_eq!(exchange.request.uri, expected, "{query}");
    }
}

fn text(text: &str) -> Member {
    Member {
        kind: Some(Kind::Text(text.to_owned())),
    }
}

fn members(pairs: Vec<(&str, Member)>) -> Members {
    Members {
        members: pairs
            .into_iter()
            .map(|(name, member)| (name.to_owned(), member))
            .collect(),
    }
}

#[test]
fn metadata_name_the_consumer_and_are_its_claims() {
    let user = |id: Member| {
        let number = Member {
            kind: Some(Kind::Number(7.0)),
        };
        let list = Member {
            kind: Some(Kind::List(Items {
                items: vec![text("a")],
            })),
        };
        let inner = members(vec![("id", id), ("level", number), ("groups", list)]);
        members(vec![(
            "user",
            Member {
                kind: Some(Kind::Object(inner)),
            },
        )])
    };
    let ask = |metadata: Option<Members>| {
        let kit = Kit::new();
        let response = CheckResponse {
            metadata,
            ..allows(Allowed::default())
        };
        kit.answer(SERVICE, says(&response));
        let mut exchange = Exchange::get("http://shop.test/");
        let verdict = instance(&kit, "principal: [user, id]").request(&mut exchange);
        (verdict, exchange.principal().cloned())
    };

    let (verdict, principal) = ask(Some(user(text("ann"))));
    assert!(went_on(&verdict));
    let principal = principal.unwrap();
    assert_eq!(principal.id(), "consumer:ann");
    let claims = serde_json::json!({"user": {"id": "ann", "level": 7, "groups": ["a"]}});
    assert_eq!(
        serde_json::Value::Object((*principal.claims.unwrap()).clone()),
        claims
    );
    for nobody in [
        None,
        Some(Members::default()),
        Some(user(Member { kind: None })),
    ] {
        let (verdict, principal) = ask(nobody);
        assert!(went_on(&verdict) && principal.is_none());
    }
    for wrong in [
        text(""),
        text("a\nb"),
        Member {
            kind: Some(Kind::Truth(true)),
        },
    ] {
        let (verdict, principal) = ask(Some(user(wrong)));
        assert!(failed(verdict).1.contains("no name") && principal.is_none());
    }
}

#[test]
fn settings_of_bodies_and_changes_are_judged_where_they_stand() {
    for (config, path) in [
        (
            "{service: 'h2c://a/', with_request_body: {max_bytes: 0B}}",
            "with_request_body.max_bytes",
        ),
        (
            "{service: 'h2c://a/', with_request_body: {max_bytes: 17MiB}}",
            "with_request_body.max_bytes",
        ),
        ("{service: 'h2c://a/', as_bytes: true}", "as_bytes"),
        ("{service: 'h2c://a/', principal: []}", "principal"),
        ("{service: 'h2c://a/', principal: [a, '']}", "principal[1]"),
    ] {
        assert_eq!(
            Kit::new().problem_paths(&PLUGIN, config),
            [path],
            "{config}"
        );
    }
}
