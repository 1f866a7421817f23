//! Hosts and paths: the canonical form of a canonical form is itself.
#![no_main]

use windrose::decide::{canonical_host, canonical_path};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = canonical_host(text);
    if let Ok(once) = canonical_path(text) {
        assert_eq!(canonical_path(&once).as_deref(), Ok(&*once));
    }
});
