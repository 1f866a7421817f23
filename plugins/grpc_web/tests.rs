use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use proptest::prelude::*;

use super::*;
use crate::testkit::{answered, fields, went_on, Exchange, Instance, Kit};

fn plugin() -> Instance {
    Kit::new().instance(&PLUGIN, "{}")
}

fn call(kind: &str) -> Exchange {
    Exchange::new("POST", "http://a.test/shop.Shop/Order")
        .with("content-type", kind)
        .with("x-grpc-web", "1")
        .with("content-length", "8")
}

/// A call that the plugin has seen both heads of.
fn under_way(plugin: &Instance, kind: &str) -> Exchange {
    let mut exchange = call(kind).with_response("content-type", "application/grpc+proto");
    assert!(went_on(&plugin.request(&mut exchange)));
    plugin.upstream_request(&mut exchange);
    plugin.response(&mut exchange);
    exchange
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static("ok"));
    trailers
}

const FRAME: &[u8] = b"\x80\0\0\0\x22grpc-status: 0\r\ngrpc-message: ok\r\n";

#[test]
fn a_binary_call_is_grpc_to_the_service_and_web_to_the_client() {
    let plugin = plugin();
    let mut exchange = under_way(&plugin, "application/grpc-web+proto");

    assert_eq!(
        exchange.upstream.headers["content-type"],
        "application/grpc+proto"
    );
    assert_eq!(exchange.upstream.headers["te"], "trailers");
    assert_eq!(exchange.upstream.headers["content-length"], "8");
    assert!(!exchange.upstream.headers.contains_key("x-grpc-web"));
    assert_eq!(
        exchange.response.headers["content-type"],
        "application/grpc-web+proto"
    );
    let mut piece = Some(Bytes::from_static(b"\0\0\0\0\x01x"));
    plugin.response_body(&mut exchange, &mut piece, false);
    assert_eq!(piece.as_deref(), Some(&b"\0\0\0\0\x01x"[..]));
    let end = plugin.response_trailers(&mut exchange, &mut status("0"));
    assert_eq!(end.as_deref(), Some(FRAME));
}

#[test]
fn a_call_in_text_is_decoded_and_answered_in_text() {
    let plugin = plugin();
    let mut exchange = under_way(&plugin, "application/grpc-web-text");

    assert_eq!(
        exchange.upstream.headers["content-type"],
        "application/grpc"
    );
    assert!(!exchange.upstream.headers.contains_key("content-length"));
    let mut first = Some(Bytes::from_static(b"AAAA"));
    let mut second = Some(Bytes::from_static(b"AAE=eA"));
    let mut third = Some(Bytes::from_static(b"=="));
    for (piece, last) in [
        (&mut first, false),
        (&mut second, false),
        (&mut third, true),
    ] {
        assert!(went_on(&plugin.request_body(&mut exchange, piece, last)));
    }
    let sent = [first.unwrap(), second.unwrap(), third.unwrap()].concat();
    assert_eq!(sent, b"\0\0\0\0\x01x");
    assert_eq!(
        exchange.response.headers["content-type"],
        "application/grpc-web-text+proto"
    );
    let mut piece = Some(Bytes::from_static(b"\0\0\0\0\x01x"));
    plugin.response_body(&mut exchange, &mut piece, false);
    assert_eq!(piece.as_deref(), Some(&b"AAAAAAF4"[..]));
    let end = plugin
        .response_trailers(&mut exchange, &mut status("0"))
        .unwrap();
    assert_eq!(STANDARD.decode(end).unwrap(), FRAME);
}

#[test]
fn accept_says_in_which_form_the_answer_comes() {
    let plugin = plugin();
    let mut exchange = call("application/grpc-web+proto")
        .with("accept", "application/grpc-web-text")
        .with_response("content-type", "application/grpc");

    plugin.request(&mut exchange);
    plugin.response(&mut exchange);

    assert_eq!(
        exchange.response.headers["content-type"],
        "application/grpc-web-text"
    );
}

#[test]
fn what_is_no_grpc_web_goes_on_as_it_is_unless_only_that_is_taken() {
    let kit = Kit::new();
    let (open, only) = (plugin(), kit.instance(&PLUGIN, "only: true"));
    for kind in [
        "application/json",
        "application/grpc-webby",
        "application/grpc-web-texts",
    ] {
        let mut exchange = call(kind);
        assert!(went_on(&open.request(&mut exchange)));
        assert_eq!(fields(&exchange.request.headers, "content-type"), [kind]);
        let answer = answered(only.request(&mut call(kind)));
        assert_eq!(
            (answer.status, answer.cause.name),
            (415, "grpc_web.expected")
        );
    }

    assert!(went_on(&only.request(&mut call("application/grpc"))));
    assert!(went_on(
        &only.request(&mut call("Application/GRPC-Web+proto"))
    ));
    assert!(went_on(
        &only.request(&mut Exchange::new("OPTIONS", "http://a.test/"))
    ));
}

#[test]
fn an_answer_of_the_proxy_has_the_clients_media_type_and_no_frame() {
    let plugin = plugin();
    let mut exchange =
        call("application/grpc-web").with_response("content-type", "application/grpc");
    exchange.cause = Some(&crate::contract::causes::NO_HEALTHY_ENDPOINT);

    plugin.request(&mut exchange);
    plugin.response(&mut exchange);

    assert_eq!(
        exchange.response.headers["content-type"],
        "application/grpc-web"
    );
    assert_eq!(
        plugin.response_trailers(&mut exchange, &mut status("14")),
        None
    );
}

#[test]
fn a_response_that_is_no_grpc_is_passed_on() {
    let plugin = plugin();
    let mut exchange = call("application/grpc-web-text").with_response("content-type", "text/html");
    plugin.request(&mut exchange);
    plugin.response(&mut exchange);
    let mut piece = Some(Bytes::from_static(b"<html>"));

    plugin.response_body(&mut exchange, &mut piece, true);

    assert_eq!(piece.as_deref(), Some(&b"<html>"[..]));
    assert_eq!(exchange.response.headers["content-type"], "text/html");
}

#[test]
fn text_that_is_no_base64_is_refused() {
    for (pieces, name) in [
        (&["AA!A"][..], "a foreign character"),
        (&["AAA"][..], "a group that breaks off"),
        (&["A=AA"][..], "padding in the wrong place"),
        (&["AA", "A=", "="][..], "padding that goes on"),
        (&["AAAA\r\n"][..], "a line break"),
    ] {
        let plugin = plugin();
        let mut exchange = under_way(&plugin, "application/grpc-web-text");
        let last = pieces.len() - 1;
        let verdicts: Vec<Verdict> = pieces
            .iter()
            .enumerate()
            .map(|(at, piece)| {
                plugin.request_body(
                    &mut exchange,
                    &mut Some(Bytes::from_static(piece.as_bytes())),
                    at == last,
                )
            })
            .collect();
        let refused = verdicts.into_iter().find(|verdict| !went_on(verdict));
        assert_eq!(
            answered(refused.expect(name)).cause.name,
            "grpc_web.malformed"
        );
    }
}

proptest! {
    #[test]
    fn bodies_survive_any_flushing_and_any_pieces(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6), step in 1_usize..17) {
        let text: String = parts.iter().map(|part| STANDARD.encode(part)).collect();
        let mut decoding = Decoding::default();
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            out.extend(decoding.piece(piece, false).expect("base64"));
        }
        out.extend(decoding.piece(b"", true).expect("whole groups"));
        prop_assert_eq!(out, parts.concat());
    }

    #[test]
    fn junk_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), step in 1_usize..9) {
        let mut decoding = Decoding::default();
        for piece in bytes.chunks(step) {
            if decoding.piece(piece, false).is_none() {
                break;
            }
        }
    }
}
