//! Request lines of HTTP/1: how the bytes were cut into pieces never changes the verdict, and a line that passes has
//! two spaces and nothing invisible.
#![no_main]

#[allow(dead_code, reason = "its unit tests are not built here")]
#[path = "../../../src/proxy/line.rs"]
mod line;

use line::RequestLine;

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (at, bytes) = input;
    let whole = RequestLine::default().take(bytes);

    let (first, rest) = bytes.split_at(at % (bytes.len() + 1));
    let mut pieces = RequestLine::default();
    assert_eq!(pieces.take(first) && pieces.take(rest), whole);

    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let Some(end) = bytes[begin..].iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let line = &bytes[begin..begin + end];
    if whole {
        assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 2);
        assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r')));
    }
});
