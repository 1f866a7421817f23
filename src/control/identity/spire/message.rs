//! The messages of the Workload API that are needed, by their field numbers in `workload.proto`.
//! It must not know gRPC.
//! Decoded by `call`, read by `spire`.

use std::collections::HashMap;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use zeroize::{Zeroize, Zeroizing};

/// The complete state.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
    /// DER of roots by the ID of their trust domain.
    #[prost(map = "string, bytes", tag = "3")]
    pub(super) federated_bundles: HashMap<String, Vec<u8>>,
}

/// One identity.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// DER of the chain, leaf first, one after another.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) x509_svid: Vec<u8>,
    /// PKCS #8.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) x509_svid_key: Vec<u8>,
    /// DER of the roots of its trust domain.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) bundle: Vec<u8>,
    /// Tells several with one ID apart. The first of an ID is used.
    #[prost(string, tag = "5")]
    pub(super) hint: String,
}

impl std::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "X509Svid({})", self.spiffe_id)
    }
}

impl X509Svid {
    /// Chain and key; the bytes of the key are cleared.
    pub(super) fn into_pair(mut self) -> Result<(Vec<X509>, PKey<Private>), String> {
        let key = Zeroizing::new(std::mem::take(&mut self.x509_svid_key));
        let key = PKey::private_key_from_pkcs8(&key).map_err(|_| "its key is not PKCS #8")?;
        Ok((certificates(&self.x509_svid)?, key))
    }
}

impl Drop for X509Svid {
    fn drop(&mut self) {
        self.x509_svid_key.zeroize();
    }
}

/// Certificates that follow each other.
pub(super) fn certificates(der: &[u8]) -> Result<Vec<X509>, String> {
    let mut rest = der;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = length(rest).ok_or("certificates that end too early")?;
        let (one, after) = rest
            .split_at_checked(length)
            .ok_or("certificates that end too early")?;
        found.push(X509::from_der(one).map_err(|_| "bytes that are no certificate")?);
        if found.len() > MOST {
            return Err(format!("more than {MOST} certificates"));
        }
        rest = after;
    }
    Ok(found)
}

/// The length of the first DER value: a sequence of at most 64 KiB.
fn length(der: &[u8]) -> Option<usize> {
    match *der {
        [0x30, short @ 0..=0x7f, ..] => Some(2 + usize::from(short)),
        [0x30, 0x81, long, ..] => Some(3 + usize::from(long)),
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

const MOST: usize = 64;
