//! Bodies of gRPC-Web calls in text form: nothing panics, and no cut of the bytes matters.
#![no_main]

use bytes::Bytes;
use windrose_plugins::grpc_web::PLUGIN;
use windrose_plugins::testkit::{went_on, Exchange, Kit};

/// What the service gets; `None` where the call is refused.
fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> Option<Vec<u8>> {
    let plugin = Kit::new().instance(&PLUGIN, "{}");
    let mut exchange = Exchange::new("POST", "http://shop.test/demo.Echo/unary")
        .with("content-type", "application/grpc-web-text");
    plugin.request(&mut exchange);
    plugin.upstream_request(&mut exchange);
    let mut out = Vec::new();
    for bytes in pieces {
        let mut piece = Some(Bytes::copy_from_slice(bytes));
        went_on(&plugin.request_body(&mut exchange, &mut piece, false)).then_some(())?;
        out.extend(piece.unwrap_or_default());
    }
    let mut piece = None;
    went_on(&plugin.request_body(&mut exchange, &mut piece, true)).then_some(())?;
    out.extend(piece.unwrap_or_default());
    Some(out)
}

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = read(&mut std::iter::once(bytes));
    let pieces = read(&mut bytes.chunks(usize::from(cut).max(1)));
    assert_eq!(whole, pieces);
});
