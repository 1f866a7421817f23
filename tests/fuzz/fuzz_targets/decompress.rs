//! Compressed uploads: nothing panics, and no more comes out than may.
#![no_main]

use bytes::Bytes;
use windrose_plugins::decompress::PLUGIN;
use windrose_plugins::testkit::{went_on, Exchange, Kit};

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    for coding in ["gzip", "br", "zstd"] {
        let plugin = Kit::new().instance(&PLUGIN, "requests: true\nmax_size: 64KiB");
        let mut exchange =
            Exchange::new("POST", "http://shop.test/").with("content-encoding", coding);
        plugin.request(&mut exchange);
        plugin.upstream_request(&mut exchange);
        let mut out = 0;
        for bytes in bytes.chunks(usize::from(cut).max(1)) {
            let mut piece = Some(Bytes::copy_from_slice(bytes));
            if !went_on(&plugin.request_body(&mut exchange, &mut piece, false)) {
                break;
            }
            out += piece.map_or(0, |piece| piece.len());
            assert!(out <= 64 << 10);
        }
    }
});
