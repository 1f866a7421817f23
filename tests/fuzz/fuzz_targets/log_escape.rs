//! Text from requests in the access log: JSON reads back, the other forms stay one printable field.
#![no_main]

#[allow(dead_code, reason = "its unit tests are not built here")]
#[path = "../../../src/observe/access_log/escape.rs"]
mod escape;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let mut json = b"\"".to_vec();
    escape::json(&mut json, text);
    json.push(b'"');
    let read: String = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(read, String::from_utf8_lossy(text));
    let shown = String::from_utf8(json).expect("UTF-8");
    assert!(!shown.contains(|c: char| c.is_control() || "\u{2028}\u{202e}\u{2066}".contains(c)));

    let mut quoted = Vec::new();
    escape::quoted(&mut quoted, text);
    assert!(quoted.iter().all(|byte| matches!(byte, b' '..=b'~')));
    assert!(!ends_early(&quoted));

    let mut bare = Vec::new();
    escape::bare(&mut bare, text);
    assert!(bare.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'"'));
});

/// Whether a quote inside would end the field for its reader, or a last backslash would hide the real end.
fn ends_early(field: &[u8]) -> bool {
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        let escaped = *byte != b'\\' || bytes.next().is_some();
        if *byte == b'"' || !escaped {
            return true;
        }
    }
    false
}
