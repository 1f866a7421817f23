//! Certificates as a peer sends them, leaf and issuer one after the other, and bundles as others publish them: nothing panics, and
//! nothing is believed that leads to a root whose key nobody has.
#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use openssl::stack::Stack;
use openssl::x509::X509;
use windrose::snapshot::identity::{verify, Bundle, Trust, TrustDomain};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Bundle::read(bytes);
    let Ok(leaf) = X509::from_der(bytes) else {
        return;
    };
    let length = leaf.to_der().map_or(bytes.len(), |der| der.len());
    let mut chain = Stack::new().expect("memory");
    if let Some(Ok(issuer)) = bytes.get(length..).map(X509::from_der) {
        chain.push(issuer).expect("memory");
    }
    assert!(verify(&leaf, Some(&chain), &TRUST).is_err());
});

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let bundle = Bundle::read(include_bytes!("svid/root.pem")).expect("a root");
    let domain = TrustDomain::parse("td").expect("a name");
    Trust {
        generation: 1,
        bundles: HashMap::from([(domain, Arc::new(bundle))]),
        since: None,
    }
});
