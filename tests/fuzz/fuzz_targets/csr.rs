//! Requests for certificates, from anyone: nothing panics, and a key that passes has a hash to be known by.
#![no_main]

use windrose::ca::keys;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(key) = keys::proven(text) {
        assert_eq!(keys::key_hash(&key).expect("a key has a hash").len(), 64);
    }
});
