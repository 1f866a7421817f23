use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::testkit::{fields, Exchange, Instance, Kit};

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

/// A response of JSON for a client that takes these codings.
fn exchange(accept: &str) -> Exchange {
    Exchange::get("http://shop.test/")
        .with("accept-encoding", accept)
        .with_response("content-type", "application/json; charset=utf-8")
}

/// Runs a response through; the body as the client gets it.
fn through(plugin: &Instance, exchange: &mut Exchange, pieces: &[&'static [u8]]) -> Vec<u8> {
    plugin.response(exchange);
    let mut out = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let mut piece = Some(Bytes::from_static(piece));
        plugin.response_body(exchange, &mut piece, index + 1 == pieces.len());
        out.extend(piece.unwrap());
    }
    out
}

fn coded_as(exchange: &Exchange) -> Option<&str> {
    fields(&exchange.response.headers, "content-encoding")
        .first()
        .copied()
}

fn gunzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_string(&mut text)
        .unwrap();
    text
}

const BODY: &[u8] = &[b'a'; 2000];

#[test]
fn a_body_is_compressed_in_the_best_coding_and_its_head_says_so() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "{}");
    let mut exchange = exchange("gzip")
        .with_response("content-length", "4000")
        .with_response("etag", "\"v1\"")
        .with_response("accept-ranges", "bytes")
        .with_response("content-digest", "sha-256=:x:");

    let body = through(&plugin, &mut exchange, &[BODY, BODY]);

    assert_eq!(gunzipped(&body), "a".repeat(4000));
    let headers = &exchange.response.headers;
    assert_eq!(fields(headers, "content-encoding"), ["gzip"]);
    assert_eq!(fields(headers, "vary"), ["Accept-Encoding"]);
    assert_eq!(fields(headers, "etag"), ["W/\"v1\""]);
    for gone in ["content-length", "accept-ranges", "content-digest"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(
        (kit.counted("compressed"), kit.counted("bytes_in")),
        (1, 4000)
    );
    assert_eq!(kit.counted("bytes_out"), body.len() as u64);
}

#[test]
fn the_order_of_settings_decides_between_equals() {
    let chosen = |config: &str, accept: &str| {
        let mut exchange = exchange(accept);
        plugin(config).response(&mut exchange);
        coded_as(&exchange).map(str::to_owned)
    };

    assert_eq!(chosen("{}", "gzip, br, zstd").as_deref(), Some("zstd"));
    assert_eq!(
        chosen("algorithms: [br, gzip]", "gzip, br, zstd").as_deref(),
        Some("br")
    );
    assert_eq!(chosen("{}", "br;q=0.5, gzip").as_deref(), Some("gzip"));
    assert_eq!(chosen("{}", "deflate"), None);
}

#[test]
fn a_client_that_takes_none_still_hears_that_others_do() {
    let plugin = plugin("{}");
    let mut plain = Exchange::get("http://a.test/").with_response("content-type", "text/html");

    let body = through(&plugin, &mut plain, &[BODY]);

    assert_eq!((coded_as(&plain), body.len()), (None, 2000));
    assert_eq!(fields(&plain.response.headers, "vary"), ["Accept-Encoding"]);
}

#[test]
fn what_must_stay_as_it_is_stays() {
    let plugin = plugin("{}");
    let of = |change: &dyn Fn(Exchange) -> Exchange| {
        let mut exchange = change(exchange("gzip"));
        plugin.response(&mut exchange);
        coded_as(&exchange).map(str::to_owned)
    };

    assert_eq!(of(&|it| it).as_deref(), Some("gzip"));
    for status in [204, 205, 206, 304, 101] {
        assert_eq!(of(&|it| it.with_status(status)), None, "{status}");
    }
    assert_eq!(of(&|it| it.with_response("content-length", "1023")), None);
    assert_eq!(of(&|it| it.with_response("content-length", "0")), None);
    assert_eq!(
        of(&|it| it.with_response("content-range", "bytes 0-1/2")),
        None
    );
    assert_eq!(
        of(&|it| it.with_response("cache-control", "private, No-Transform")),
        None
    );
    assert_eq!(
        of(&|it| it.with_response("content-encoding", "br")).as_deref(),
        Some("br")
    );
    assert_eq!(
        of(&|it| it.with_response("content-encoding", "identity")).as_deref(),
        Some("gzip")
    );
    let own = |mut it: Exchange| {
        it.cause = Some(&causes::NO_ROUTE);
        it
    };
    assert_eq!(of(&own), None, "an answer of the proxy");
    let old = |mut it: Exchange| {
        it.request.set_version(http::Version::HTTP_10);
        it
    };
    assert_eq!(of(&old), None, "HTTP/1.0 has no chunks");
}

#[test]
fn a_response_to_head_only_says_what_it_depends_on() {
    let mut exchange = Exchange::new("HEAD", "http://a.test/")
        .with("accept-encoding", "gzip")
        .with_response("content-type", "text/html")
        .with_response("content-length", "5000");

    plugin("{}").response(&mut exchange);

    assert_eq!(coded_as(&exchange), None);
    assert_eq!(
        fields(&exchange.response.headers, "content-length"),
        ["5000"]
    );
    assert_eq!(
        fields(&exchange.response.headers, "vary"),
        ["Accept-Encoding"]
    );
}

#[test]
fn media_types_are_chosen_by_pattern() {
    let is = |config: &str, kind: &str| {
        let mut exchange = Exchange::get("http://a.test/")
            .with("accept-encoding", "gzip")
            .with_response("content-type", kind);
        plugin(config).response(&mut exchange);
        coded_as(&exchange).is_some()
    };

    for kind in [
        "text/html;charset=utf-8",
        "TEXT/CSS",
        "application/problem+json",
        "image/svg+xml",
        "application/wasm",
    ] {
        assert!(is("{}", kind), "{kind}");
    }
    for kind in [
        "image/png",
        "application/octet-stream",
        "application/zip",
        "text/event-stream",
        "application/grpc+json",
        "application/json-seqx",
        "",
        "text",
    ] {
        assert!(!is("{}", kind), "{kind}");
    }
    assert!(is("flush: true", "text/event-stream"));
    assert!(is("types: ['application/*']", "application/zip"));
    assert!(!is("types: ['application/*']", "application/grpc"));
}

#[test]
fn with_flush_each_piece_can_be_read_at_once() {
    let plugin = plugin("{flush: true, algorithms: [gzip]}");
    let mut exchange = Exchange::get("http://a.test/")
        .with("accept-encoding", "gzip")
        .with_response("content-type", "text/event-stream");
    plugin.response(&mut exchange);
    let mut piece = Some(Bytes::from_static(b"data: 1\n\n"));

    plugin.response_body(&mut exchange, &mut piece, false);

    let bytes = piece.unwrap();
    let mut text = [0; 9];
    flate2::read::GzDecoder::new(&bytes[..])
        .read_exact(&mut text)
        .unwrap();
    assert_eq!(&text, b"data: 1\n\n");
}

#[test]
fn trailers_end_the_stream() {
    let plugin = plugin("algorithms: [gzip]");
    let mut exchange = exchange("gzip");
    plugin.response(&mut exchange);
    let mut piece = Some(Bytes::from_static(BODY));
    plugin.response_body(&mut exchange, &mut piece, false);

    let end = plugin.response_trailers(&mut exchange, &mut http::HeaderMap::new());

    let whole = [piece.unwrap(), end.unwrap()].concat();
    assert_eq!(gunzipped(&whole), "a".repeat(2000));
    let mut other = Exchange::get("http://a.test/");
    plugin.response(&mut other);
    assert_eq!(
        plugin.response_trailers(&mut other, &mut http::HeaderMap::new()),
        None
    );
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("gzip_level: 0\nbr_quality: 11\nzstd_level: 19"),
        ["gzip_level", "br_quality", "zstd_level"]
    );
    assert_eq!(paths("algorithms: []"), ["algorithms"]);
    assert_eq!(paths("algorithms: [gzip, gzip]"), ["algorithms[1]"]);
    assert_eq!(paths("algorithms: [deflate]"), ["algorithms[0]"]);
    assert_eq!(paths("types: []"), ["types"]);
    assert_eq!(
        paths("types: [text, 'a/*b*', 'a b/c', '/x']"),
        ["types[0]", "types[1]", "types[2]", "types[3]"]
    );
}

proptest! {
    #[test]
    fn whatever_fields_come_nothing_breaks(accept in "[ -~]{0,60}", kind in "[ -~]{0,60}", length in "[ -~]{0,12}") {
        let mut exchange = exchange(&accept)
            .with_response("content-type", &kind)
            .with_response("content-length", &length);
        let plugin = plugin("{}");
        plugin.response(&mut exchange);
        let mut piece = Some(Bytes::from_static(b"x"));
        plugin.response_body(&mut exchange, &mut piece, true);
        prop_assert_eq!(coded_as(&exchange).is_some(), !exchange.response.headers.contains_key("content-length"));
    }
}
