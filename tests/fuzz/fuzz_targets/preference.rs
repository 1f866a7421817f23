//! `accept` and `content-type`, from anyone: some form of answer is always chosen.
#![no_main]

use http::{HeaderMap, HeaderValue};
use windrose::observe::answer::preference;

libfuzzer_sys::fuzz_target!(|fields: (&[u8], &[u8])| {
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", fields.0), ("content-type", fields.1)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let _ = preference(&headers);
});
