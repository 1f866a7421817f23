//! PROXY headers: one that is read claims no more bytes than there are, is read alike without what follows it, and
//! what is written about its addresses reads back.
#![no_main]

use windrose::proxy::proxy_protocol::{read, write, Reading};
use windrose::snapshot::pool::ProxyVersion;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Reading::Header { length, addresses } = read(bytes) else {
        return;
    };
    assert_eq!(read(&bytes[..length]), Reading::Header { length, addresses });
    assert_eq!(read(&bytes[..length - 1]), Reading::Partial);
    let Some((client, target)) = addresses else {
        return;
    };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let written = write(version, client, target);
        match read(&written) {
            Reading::Header { length, addresses: Some(_) } => assert_eq!(length, written.len()),
            other => panic!("{other:?}"),
        }
    }
});
