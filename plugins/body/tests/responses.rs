use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::contract::{Held, Hold, Larger, Verdict, WholeBody};

const HIDE: &str = "response: {merge: {secret: null, by: gateway}}";

fn of(kind: &str) -> Exchange {
    Exchange::get("http://shop.test/orders/7")
        .with("accept-encoding", "br")
        .with("range", "bytes=0-9")
        .with_response("content-type", kind)
}

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

fn sent(plugin: &Instance, exchange: &mut Exchange, body: &str) -> Value {
    let sent = plugin.respond(exchange, body.to_owned()).expect("goes on");
    serde_json::from_slice(&sent).expect("it is JSON")
}

fn why(plugin: &Instance, mut exchange: Exchange, body: &[u8]) -> (u16, &'static str) {
    let refused = plugin.respond(&mut exchange, body.to_vec());
    let answer = answered(refused.expect_err("it is refused"));
    (answer.status, answer.cause.name)
}

#[test]
fn a_response_is_changed_and_its_head_tells_the_truth() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, HIDE);
    let mut exchange = of("application/json; charset=utf-8")
        .with_response("etag", "\"1\"")
        .with_response("content-length", "31")
        .with_response("content-md5", "Q2hlY2sgSW50ZWdyaXR5IQ==")
        .with_response("repr-digest", "sha-256=:YQ==:")
        .with_response("accept-ranges", "bytes");

    let body = sent(&plugin, &mut exchange, r#"{"id":7,"secret":"x"}"#);

    assert_eq!(body, json!({"id": 7, "by": "gateway"}));
    let head = &exchange.response.headers;
    assert_eq!(head["etag"], "W/\"1\"");
    for gone in [
        "content-length",
        "content-md5",
        "repr-digest",
        "accept-ranges",
    ] {
        assert!(!head.contains_key(gone), "{gone}");
    }
    assert_eq!(kit.counted("response_changed"), 1);
}

#[test]
fn no_part_and_no_coding_gets_past_a_change() {
    let plugin = plugin(&format!("{HIDE}\nothers: refuse"));
    let mut exchange = of("application/json").with("if-range", "\"1\"");

    plugin.upstream_request(&mut exchange);

    let sent = &exchange.upstream.headers;
    assert_eq!(sent["accept-encoding"], "identity");
    assert!(!sent.contains_key("range") && !sent.contains_key("if-range"));
    for (exchange, name) in [
        (of("text/html"), "another type"),
        (
            of("application/json").with_response("content-encoding", "deflate"),
            "a coding",
        ),
        (
            of("application/json").with_response("content-range", "bytes 0-9/20"),
            "a part",
        ),
        (of("application/json").with_status(206), "parts"),
        (
            of("application/json").with_response("cache-control", "no-transform"),
            "the origin's wish",
        ),
    ] {
        assert_eq!(
            why(&plugin, exchange, b"{}"),
            (502, "body.response_unsupported"),
            "{name}"
        );
    }
}

#[test]
fn others_go_on_where_they_may() {
    let plugin = plugin(HIDE);
    for (mut exchange, name) in [
        (of("text/html"), "another type"),
        (of("application/json").with_status(404), "another status"),
        (of("application/json").with_status(205), "none at all"),
        (of("text/event-stream"), "a stream"),
    ] {
        assert_eq!(plugin.wish(&mut exchange), Hold::Nothing, "{name}");
    }
    let all = PLUGIN;
    let plugin = Kit::new().instance(&all, "response: {merge: {a: 1}, statuses: [4xx]}");
    let mut exchange = of("application/problem+json").with_status(404);
    assert_eq!(
        sent(&plugin, &mut exchange, "{\"title\":\"x\"}"),
        json!({"a": 1, "title": "x"})
    );
}

#[test]
fn what_is_coded_is_decoded_first() {
    use crate::codec::encode::{Encoder, Flush};
    use crate::codec::Coding;
    let plugin = plugin(HIDE);
    let mut encoder = Encoder::new(Coding::Gzip, 3).unwrap();
    let first = encoder.piece(b"{\"secret\":1}", Flush::No).unwrap();
    let coded = [first, encoder.end().unwrap()].concat();
    let gzip = || of("application/json").with_response("content-encoding", "gzip");

    let mut exchange = gzip();
    let body = plugin.respond(&mut exchange, coded.clone()).unwrap();

    assert_eq!(&body[..], b"{\"by\":\"gateway\"}");
    assert!(!exchange.response.headers.contains_key("content-encoding"));
    assert_eq!(
        why(&plugin, gzip(), &coded[..coded.len() - 2]),
        (502, "body.response_malformed")
    );
    let small = Kit::new().instance(&PLUGIN, &format!("{HIDE}\nmax: 11B"));
    assert_eq!(
        why(&small, gzip(), &coded),
        (502, "body.response_too_large"),
        "a bomb"
    );
}

#[test]
fn bounds_and_shapes_have_their_causes() {
    let plugin = plugin(&format!("{HIDE}\nmax: 20B"));
    let json = || of("application/json");

    assert_eq!(
        plugin.wish(&mut json()),
        Hold::Within {
            most: 20,
            larger: Larger::Refuse(&RESPONSE_TOO_LARGE)
        }
    );
    let passing = Kit::new().instance(&PLUGIN, "response: {merge: {a: 1}, larger: pass}");
    assert_eq!(
        passing.wish(&mut json()),
        Hold::Within {
            most: 1 << 20,
            larger: Larger::Pass
        }
    );
    assert_eq!(
        why(&plugin, json(), b"{\"a\":1}"),
        (502, "body.response_too_large"),
        "it grows"
    );
    assert_eq!(why(&plugin, json(), b"{"), (502, "body.response_malformed"));
    let patch = Kit::new().instance(&PLUGIN, "response: {patch: [{op: remove, path: /a}]}");
    assert_eq!(why(&patch, json(), b"{}"), (502, "body.response_unfit"));
    assert!(plugin.respond(&mut json(), "").is_ok(), "nothing at all");
}

#[test]
fn a_response_to_head_says_what_one_to_get_would() {
    let plugin = plugin(HIDE);
    let mut exchange = Exchange::new("HEAD", "http://shop.test/")
        .with_response("content-type", "application/json")
        .with_response("content-length", "20")
        .with_response("etag", "\"1\"");

    plugin.response(&mut exchange);

    assert!(!exchange.response.headers.contains_key("content-length"));
    assert_eq!(exchange.response.headers["etag"], "W/\"1\"");
}

#[test]
fn trailers_stay() {
    let plugin = plugin(HIDE);
    let mut exchange = of("application/json");
    let mut held = Held {
        body: WholeBody::new(Bytes::from_static(b"{}")),
        is_whole: true,
        ..Held::default()
    };
    held.trailers
        .insert("server-timing", "db;dur=1".parse().unwrap());

    let verdict = plugin.held_response(&mut exchange, &mut held);

    assert!(matches!(verdict, Verdict::Continue));
    assert_eq!(held.trailers.len(), 1);
}

proptest! {
    #[test]
    fn any_response_is_changed_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let plugin = plugin(HIDE);
        let is_json = serde_json::from_slice::<Value>(&body).is_ok();

        let sent = plugin.respond(&mut of("application/json"), body.clone());

        prop_assert_eq!(sent.is_ok(), body.is_empty() || is_json);
    }
}
