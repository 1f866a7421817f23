//! Fields of signed requests, as `hmac_auth` reads them: nothing panics, and nobody is proven by chance.
#![no_main]

use http::HeaderValue;
use windrose_plugins::contract::{Consumer, Credential, SigningKey};
use windrose_plugins::hmac_auth::PLUGIN;
use windrose_plugins::testkit::{went_on, Exchange, Kit};

libfuzzer_sys::fuzz_target!(|fields: (&[u8], &[u8], &[u8])| {
    let key = SigningKey::secret(b"0123456789abcdef0123456789abcdef").expect("it is long enough");
    let id = "k".to_owned();
    let kit = Kit::new().with_consumer(Consumer::default(), [Credential::Signing { id, key }]);
    let plugin = kit.instance(&PLUGIN, "{}");
    let mut exchange = Exchange::get("http://shop.test/a?b=c");
    let (input, signature, digest) = fields;
    for (name, value) in [
        ("signature-input", input),
        ("signature", signature),
        ("content-digest", digest),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            let _ = exchange.request.append_header(name, value);
        }
    }
    assert!(!went_on(&plugin.request(&mut exchange)));
});
