//! Interpolation in a quoted scalar: nothing panics, text without `${` stays as it is, and what came from a file or
//! a secret variable is never shown.
#![no_main]

use windrose::config::source::Document;

libfuzzer_sys::fuzz_target!(|text: &str| {
    std::env::set_var("FUZZ_TOKEN", SECRET);
    let yaml = format!("key: {}\n", serde_json::Value::from(text));
    let Ok(document) = Document::read_text("fuzz.yaml", &yaml) else {
        return;
    };
    let read = document.node("key").and_then(|node| node.text());
    if !text.contains("${") {
        assert_eq!(read, Some(text));
    }
    let shown = format!("{:?}", document.redacted());
    assert!(text.contains(SECRET) || !shown.contains(SECRET));
});

const SECRET: &str = "swordfish-0f2a";
