use super::*;
use crate::codec::encode::{Encoder, Flush};
use crate::testkit::{answered, field, fields, went_on, Exchange, Instance, Kit};

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

fn coded(coding: Coding, body: &[u8]) -> Bytes {
    let mut encoder = Encoder::new(coding, 3).unwrap();
    let first = encoder.piece(body, Flush::No).unwrap();
    Bytes::from([first, encoder.end().unwrap()].concat())
}

fn upload(coding: &str) -> Exchange {
    Exchange::new("POST", "http://shop.test/upload")
        .with("content-encoding", coding)
        .with("content-length", "999")
}

/// Sends a body in one piece; what the service gets.
fn sent(plugin: &Instance, exchange: &mut Exchange, body: Bytes) -> Result<Bytes, &'static str> {
    plugin.upstream_request(exchange);
    let mut piece = Some(body);
    match plugin.request_body(exchange, &mut piece, true) {
        Verdict::Continue => Ok(piece.unwrap()),
        verdict => Err(answered(verdict).cause.name),
    }
}

#[test]
fn a_request_body_goes_on_plain_with_a_head_that_says_so() {
    let plugin = plugin("{}");
    for (coding, name) in [
        (Coding::Gzip, "gzip"),
        (Coding::Br, "br"),
        (Coding::Zstd, "zstd"),
    ] {
        let mut exchange = upload(name);

        let body = sent(&plugin, &mut exchange, coded(coding, b"hello"));

        assert_eq!(body.as_deref(), Ok(&b"hello"[..]));
        for gone in ["content-encoding", "content-length"] {
            assert!(!exchange.upstream.headers.contains_key(gone), "{gone}");
        }
    }
}

#[test]
fn a_further_attempt_begins_anew() {
    let plugin = plugin("{}");
    let mut exchange = upload("gzip");
    let body = coded(Coding::Gzip, b"hello");
    plugin.upstream_request(&mut exchange);
    let mut half = Some(body.slice(..7));
    plugin.request_body(&mut exchange, &mut half, false);
    assert_eq!(
        half.as_deref(),
        Some(&b""[..]),
        "an empty piece, not an end"
    );

    assert_eq!(
        sent(&plugin, &mut exchange, body).as_deref(),
        Ok(&b"hello"[..])
    );
}

#[test]
fn what_is_plain_or_unknown_goes_on_as_it_is() {
    let plugin = plugin("algorithms: [gzip]");

    for name in ["identity", "br", "gzip, gzip", "deflate"] {
        let body = sent(&plugin, &mut upload(name), Bytes::from_static(b"as it is"));
        assert_eq!(body.as_deref(), Ok(&b"as it is"[..]), "{name}");
    }
}

#[test]
fn unknown_codings_are_refused_where_asked_and_told_what_is_known() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "algorithms: [gzip, br]\nrefuse_unknown: true");

    let answer = answered(plugin.request(&mut upload("gzip, gzip")));

    assert_eq!(
        (answer.status, answer.cause.name),
        (415, "decompress.unsupported")
    );
    assert_eq!(field(&answer, "accept-encoding"), Some("gzip, br"));
    assert!(went_on(&plugin.request(&mut upload("gzip"))));
    assert!(!went_on(&plugin.request(&mut upload("deflate").dry())));
    assert_eq!(kit.counted("refused"), 1);
}

#[test]
fn bombs_and_junk_end_the_request_each_with_its_cause() {
    let zeros = coded(Coding::Gzip, &vec![0; 1 << 20]);
    let by_size = plugin("max_size: 100KiB\nmax_ratio: 100000");
    let by_ratio = plugin("max_ratio: 10");

    assert_eq!(
        sent(&by_size, &mut upload("gzip"), zeros.clone()),
        Err("decompress.too_large")
    );
    assert_eq!(
        sent(&by_ratio, &mut upload("gzip"), zeros.clone()),
        Err("decompress.too_large")
    );
    let cut = zeros.slice(..zeros.len() - 1);
    assert_eq!(
        sent(&plugin("max_ratio: 9999"), &mut upload("gzip"), cut),
        Err("decompress.malformed")
    );
    let junk = Bytes::from_static(b"not gzip");
    assert_eq!(
        sent(&by_size, &mut upload("gzip"), junk),
        Err("decompress.malformed")
    );
}

#[test]
fn an_empty_body_stays_empty() {
    assert_eq!(
        sent(&plugin("{}"), &mut upload("gzip"), Bytes::new()).as_deref(),
        Ok(&b""[..])
    );
}

/// A response in gzip for a client that takes these codings.
fn response(accept: &str) -> Exchange {
    Exchange::get("http://shop.test/")
        .with("accept-encoding", accept)
        .with_response("content-encoding", "gzip")
        .with_response("content-length", "99")
        .with_response("etag", "\"a\"")
}

fn received(
    plugin: &Instance,
    exchange: &mut Exchange,
    body: Bytes,
) -> Result<Bytes, &'static str> {
    plugin.response(exchange);
    let mut piece = Some(body);
    match plugin.response_body(exchange, &mut piece, true) {
        Verdict::Continue => Ok(piece.unwrap()),
        verdict => Err(answered(verdict).cause.name),
    }
}

#[test]
fn responses_are_decoded_for_those_who_do_not_take_the_coding() {
    let plugin = plugin("responses: unless_accepted");
    let body = coded(Coding::Gzip, b"hello");

    let (mut plain, mut takes) = (response("br"), response("gzip"));

    assert_eq!(
        received(&plugin, &mut plain, body.clone()).as_deref(),
        Ok(&b"hello"[..])
    );
    assert_eq!(received(&plugin, &mut takes, body.clone()), Ok(body));
    let headers = &plain.response.headers;
    assert_eq!(fields(headers, "etag"), ["W/\"a\""]);
    assert!(!headers.contains_key("content-encoding") && !headers.contains_key("content-length"));
    for exchange in [&plain, &takes] {
        assert_eq!(
            fields(&exchange.response.headers, "vary"),
            ["Accept-Encoding"]
        );
    }
}

#[test]
fn responses_are_bounded_too() {
    let plugin = plugin("responses: always\nmax_response_size: 100KiB\nmax_ratio: 100000");
    let bomb = coded(Coding::Gzip, &vec![0; 1 << 20]);

    assert_eq!(
        received(&plugin, &mut response("gzip"), bomb),
        Err("decompress.response_too_large")
    );
    let junk = Bytes::from_static(b"junk, not gzip");
    assert_eq!(
        received(&plugin, &mut response("gzip"), junk),
        Err("decompress.response_malformed")
    );
}

#[test]
fn responses_that_must_stay_stay() {
    let plugin = plugin("responses: always");
    let stays = |mut exchange: Exchange| {
        plugin.response(&mut exchange);
        exchange.response.headers.contains_key("content-encoding")
    };

    assert!(stays(response("br").with_status(206)));
    assert!(stays(response("br").with_status(304)));
    assert!(stays(
        response("br").with_response("cache-control", "no-transform")
    ));
    assert!(
        stays(response("br").with_response("content-encoding", "br")),
        "two codings"
    );
    assert!(!stays(response("gzip")));
}

#[test]
fn a_response_to_head_says_what_the_one_to_get_does() {
    let plugin = plugin("responses: always");
    let mut exchange = response("gzip").with_response("content-length", "212");
    exchange.request.set_method(http::Method::HEAD);

    plugin.response(&mut exchange);

    let headers = &exchange.response.headers;
    assert!(!headers.contains_key("content-encoding") && !headers.contains_key("content-length"));
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(paths("requests: false"), [""]);
    assert_eq!(
        paths("requests: false\nresponses: always\nrefuse_unknown: true"),
        ["refuse_unknown"]
    );
    assert_eq!(
        paths("algorithms: []\nmax_ratio: 0"),
        ["algorithms", "max_ratio"]
    );
    assert_eq!(paths("responses: sometimes"), ["responses"]);
}
