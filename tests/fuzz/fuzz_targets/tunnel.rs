//! Heads of tunnels (HBONE): where one goes is an address and a port, and reads back as the same.
#![no_main]

use http::{Method, Uri};

#[allow(dead_code, reason = "its unit tests are not built here")]
#[path = "../../../src/proxy/tunnel/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let mut words = text.splitn(2, |byte| *byte == b' ');
    let (Some(method), Some(uri)) = (words.next(), words.next()) else {
        return;
    };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(uri)) else {
        return;
    };
    if let Some(target) = head::target(&method, &uri) {
        assert!(method == Method::CONNECT && target.port() != 0);
        assert_eq!(target.ip(), target.ip().to_canonical());
        let again = target.to_string().parse().expect("an address is an authority");
        assert_eq!(head::target(&method, &again), Some(target));
    }
});
