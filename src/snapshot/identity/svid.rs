//! X.509-SVIDs: a workload's certificate with its key, and the bundles of roots that trust domains publish.
//! It must not know where they come from, nor who shows them; it only refuses what could never be used.
//! Made by the compiler and by the sources in `control::identity`; keys stay in here and in Pingora's `CertKey`.

use std::fmt;
use std::sync::Arc;

use openssl::base64;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509Ref, X509VerifyResult, X509};
use pingora::utils::tls::CertKey;
use serde_json::Value;

use super::extensions;
use super::id::SpiffeId;
use super::verify::{leaf_id, Rejection};
use crate::snapshot::certs::unix_time;
use crate::snapshot::tls::{chain_and_key, reason};

/// A certificate that names a workload, with its chain and key.
pub struct Svid {
    /// Who it names.
    pub id: SpiffeId,
    /// From when on it is good, in seconds since 1970.
    pub not_before: i64,
    /// Until when, in seconds since 1970: the shorter of the leaf's and its issuer's, if that is in the chain. Crosses of roots go
    /// along for peers that do not know the new root, and end with the old one, which ends nothing for others.
    pub not_after: i64,
    /// Its number, in hex.
    pub serial: String,
    /// SHA-256 of the leaf.
    pub fingerprint: [u8; 32],
    /// Chain, leaf first, and key, as Pingora takes them. Its key is freed by OpenSSL, which clears it.
    own: Arc<CertKey>,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Svid({}, serial {})", self.id, self.serial)
    }
}

impl Svid {
    /// Reads chain and key from PEM text.
    ///
    /// # Errors
    /// What is wrong with the text, or why it is no X.509-SVID.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Svid, String> {
        let (chain, key) = chain_and_key(cert, key)?;
        Svid::new(chain, key)
    }

    /// From a chain, leaf first, and its key, which belongs to the leaf.
    ///
    /// # Errors
    /// Why it is no X.509-SVID.
    pub fn new(chain: Vec<X509>, key: PKey<Private>) -> Result<Svid, String> {
        let Some(leaf) = chain.first() else {
            return Err("it has no certificate".into());
        };
        let public = leaf.public_key().map_err(|error| reason(&error))?;
        if !public.public_eq(&key) {
            return Err("the key is not the certificate's".into());
        }
        let id = leaf_id(leaf).map_err(|rejection: Rejection| rejection.detail)?;
        let is_issuer = |link: &&X509| link.issued(leaf) == X509VerifyResult::OK;
        let end = |link: &X509| unix_time(link.not_after());
        let issuer_ends = chain.iter().skip(1).filter(is_issuer).map(end).max();
        let number = leaf
            .serial_number()
            .to_bn()
            .and_then(|number| number.to_hex_str());
        Ok(Svid {
            id,
            not_before: unix_time(leaf.not_before()),
            not_after: issuer_ends.map_or(end(leaf), |ends| ends.min(end(leaf))),
            serial: number.map_or_else(|_| String::new(), |number| number.to_lowercase()),
            fingerprint: fingerprint(leaf),
            own: Arc::new(CertKey::new(chain, key)),
        })
    }

    /// Certificate, chain and key for a Pingora peer.
    pub fn own(&self) -> &Arc<CertKey> {
        &self.own
    }

    /// The leaf.
    pub fn leaf(&self) -> &X509Ref {
        self.own.leaf()
    }
}

/// The roots of one trust domain, ready to verify with.
pub struct Bundle {
    /// SHA-256 over the roots in their order.
    pub fingerprint: [u8; 32],
    /// When the first and the last of the roots end, in seconds since 1970.
    pub ends: (i64, i64),
    roots: Box<[X509]>,
    pub(super) store: X509Store,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({} roots)", self.roots.len())
    }
}

impl Bundle {
    /// From these roots. They are anchors, whether self-signed or not.
    ///
    /// # Errors
    /// Why they cannot be believed.
    pub fn new(roots: Vec<X509>) -> Result<Bundle, String> {
        if roots.is_empty() {
            return Err("there are no certificates in it".into());
        }
        if roots.len() > MOST_ROOTS {
            return Err(format!(
                "has {} certificates; {MOST_ROOTS} are the most",
                roots.len()
            ));
        }
        let text = |error: openssl::error::ErrorStack| reason(&error);
        let mut builder = X509StoreBuilder::new().map_err(text)?;
        let mut hasher = openssl::sha::Sha256::new();
        for (at, root) in roots.iter().enumerate() {
            let der = root.to_der().map_err(text)?;
            if !extensions::read(&der).is_some_and(|found| found.is_authority) {
                return Err(format!(
                    "certificate {} is no authority (basicConstraints CA is not true)",
                    at + 1
                ));
            }
            hasher.update(&der);
            builder.add_cert(root.clone()).map_err(text)?;
        }
        let mut param = X509VerifyParam::new().map_err(text)?;
        param
            .set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::TRUSTED_FIRST)
            .map_err(text)?;
        // 112 bits of security: RSA of 2048, curves of 224, SHA-2.
        param.set_auth_level(2);
        param.set_depth(MOST_LINKS);
        builder.set_param(&param).map_err(text)?;
        let ends = || roots.iter().map(|root| unix_time(root.not_after()));
        Ok(Bundle {
            fingerprint: hasher.finish(),
            ends: (ends().min().unwrap_or(0), ends().max().unwrap_or(0)),
            store: builder.build(),
            roots: roots.into(),
        })
    }

    /// From a file's content: PEM certificates, or a SPIFFE bundle (a JWK set whose keys have `use: x509-svid`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(content: &[u8]) -> Result<Bundle, String> {
        let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
        match first {
            Some(b'{') => Bundle::new(from_jwks(content)?),
            _ => {
                let roots = X509::stack_from_pem(content);
                Bundle::new(
                    roots.map_err(|error| format!("no PEM certificates: {}", reason(&error)))?,
                )
            }
        }
    }

    /// The roots.
    pub fn roots(&self) -> &[X509] {
        &self.roots
    }
}

/// Roots of a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4). Keys for other uses are skipped, as the standard wants.
fn from_jwks(content: &[u8]) -> Result<Vec<X509>, String> {
    let set: Value =
        serde_json::from_slice(content).map_err(|error| format!("is no JSON: {error}"))?;
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        return Err("is no JWK set: it has no list `keys`".into());
    };
    let mut roots = Vec::new();
    for key in keys
        .iter()
        .filter(|key| key.get("use").and_then(Value::as_str) == Some("x509-svid"))
    {
        let chain = key.get("x5c").and_then(Value::as_array);
        let [root] = chain.map_or(&[][..], Vec::as_slice) else {
            return Err("a key for x509-svid has not exactly one certificate in `x5c`".into());
        };
        let der = root
            .as_str()
            .and_then(|text| base64::decode_block(text).ok());
        let root = der.and_then(|der| X509::from_der(&der).ok());
        roots.push(root.ok_or("a certificate in `x5c` cannot be read")?);
    }
    Ok(roots)
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(cert: &X509Ref) -> [u8; 32] {
    let digest = cert.digest(MessageDigest::sha256());
    digest
        .ok()
        .and_then(|digest| <[u8; 32]>::try_from(&*digest).ok())
        .unwrap_or_default()
}

const MOST_ROOTS: usize = 64;
/// Links between leaf and root.
const MOST_LINKS: i32 = 8;
