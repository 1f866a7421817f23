//! The first bytes of a connection, from anyone: more bytes never change a verdict that was given.
#![no_main]

use windrose::proxy::hello::{opening, Opening};

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (at, bytes) = input;
    let whole = opening(bytes);
    let early = opening(&bytes[..at % (bytes.len() + 1)]);
    if early != Opening::Unknown {
        assert_eq!(early, whole);
    }
});
