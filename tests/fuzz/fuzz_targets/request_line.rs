//! Headers of HTTP/1 as their bytes come: how they were cut into pieces never changes the verdict, and a request line that
//! passes has two spaces and nothing invisible.
#![no_main]

#[allow(dead_code, reason = "its unit tests are not built here")]
#[path = "../../../src/proxy/scan.rs"]
mod scan;

use scan::HeaderScan;

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (at, bytes) = input;
    let whole = HeaderScan::default().take(bytes);

    let (first, rest) = bytes.split_at(at % (bytes.len() + 1));
    let mut pieces = HeaderScan::default();
    let cut = match pieces.take(first) {
        Ok(None) => pieces.take(rest).map(|end| end.map(|end| end + first.len())),
        early => early,
    };
    assert_eq!(cut, whole);

    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let Some(end) = bytes[begin..].iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let line = &bytes[begin..begin + end];
    if whole.is_ok() {
        assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 2);
        assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r')));
    }
});
