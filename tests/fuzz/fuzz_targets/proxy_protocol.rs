//! PROXY headers: a header that is read never claims more bytes than there are.
#![no_main]

use windrose::proxy::proxy_protocol::{read, Reading};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Reading::Header { length, .. } = read(bytes) {
        assert!(length <= bytes.len());
    }
});
