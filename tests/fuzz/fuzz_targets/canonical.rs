//! Hosts and paths: the canonical form of a canonical form is itself, and holds nothing that routing would miss.
#![no_main]

use windrose::decide::{canonical_host, canonical_path};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(host) = canonical_host(text) {
        let again = canonical_host(&host.name).expect("a canonical host is a host");
        assert_eq!((&again.name, again.port), (&host.name, None));
    }
    if let Ok(once) = canonical_path(text) {
        assert_eq!(canonical_path(&once).as_deref(), Ok(&*once));
        assert!(once.starts_with('/') && !once.contains("//"));
        assert!(!once.split('/').any(|segment| segment == ".." || segment == "."));
    }
});
