//! Answers of language models, as `llm` reads them: nothing panics, no cut of the bytes matters, and where nothing is to be taken out
//! the client gets what came.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use windrose_plugins::llm::PLUGIN;
use windrose_plugins::testkit::{Exchange, Kit};

/// What the client gets, and what was noted of it.
fn read(media: &str, asks: bool, pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<u8>, String) {
    let plugin = Kit::new().instance(&PLUGIN, "max_tokens: 9");
    let body = format!(r#"{{"model":"m","stream":true,"stream_options":{{"include_usage":{asks}}}}}"#);
    let request = Exchange::new("POST", "http://llm.test/v1/chat/completions").with_body(body);
    let mut exchange = request.with_response("content-type", media);
    plugin.request(&mut exchange);
    plugin.response(&mut exchange);
    let mut out = Vec::new();
    for bytes in pieces {
        let mut piece = Some(Bytes::copy_from_slice(bytes));
        plugin.response_body(&mut exchange, &mut piece, false);
        out.extend(piece.unwrap_or_default());
    }
    let mut piece = None;
    plugin.response_body(&mut exchange, &mut piece, true);
    out.extend(piece.unwrap_or_default());
    plugin.finish(&mut exchange, Duration::ZERO);
    (out, format!("{:?}", exchange.notes))
}

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let cut = usize::from(cut).max(1);
    for (media, asks) in [
        ("text/event-stream", true),
        ("text/event-stream", false),
        ("application/json", true),
    ] {
        let whole = read(media, asks, &mut std::iter::once(bytes));
        assert_eq!(whole, read(media, asks, &mut bytes.chunks(cut)));
        assert!(!asks || whole.0 == bytes);
    }
});
