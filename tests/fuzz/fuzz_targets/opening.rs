//! The first bytes of a connection, from anyone.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = windrose::proxy::hello::opening(bytes);
});
