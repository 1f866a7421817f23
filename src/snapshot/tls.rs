//! What is shown to and expected of endpoints over TLS.
//! It must not know files or pools; the compiler reads the files and hands over what is in them.
//! Speaks of OpenSSL as `certs`, `identity` and `mtls` do, and nothing else below `proxy`, so that another library could take its place.

use std::fmt;
use std::sync::Arc;

use pingora::tls::pkey::PKey;
use pingora::tls::x509::X509;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::CertKey;

/// What is checked of an endpoint's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Issuer and name.
    Full,
    /// The issuer.
    Issuer,
    /// Nothing.
    None,
}

/// TLS to the endpoints of a pool.
pub struct PeerTls {
    /// The name to ask for; never empty, since Pingora would verify nothing then.
    pub sni: String,
    /// What is checked.
    pub verify: Verify,
    /// Authorities to believe instead of the system's.
    pub ca: Option<Arc<Box<[X509]>>>,
    /// Certificate and key to show.
    pub own: Option<Arc<CertKey>>,
    /// Separates connections made with other material.
    pub fingerprint: String,
}

impl PartialEq for PeerTls {
    fn eq(&self, other: &PeerTls) -> bool {
        (&self.sni, self.verify, &self.fingerprint)
            == (&other.sni, other.verify, &other.fingerprint)
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls")
            .field("sni", &self.sni)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

impl PeerTls {
    /// Whether the system's authorities vouch for endpoints.
    pub fn believes_system(&self) -> bool {
        self.ca.is_none() && self.verify != Verify::None
    }

    /// Puts the settings into a Pingora peer.
    pub fn apply(&self, peer: &mut HttpPeer) {
        peer.options.verify_cert = self.verify != Verify::None;
        peer.options.verify_hostname = self.verify == Verify::Full;
        peer.options.ca = self.ca.clone();
        peer.client_cert_key = self.own.clone();
    }
}

/// Certificates of authorities from PEM text.
///
/// # Errors
/// What is wrong with the text.
pub fn authorities(pem: &[u8]) -> Result<Box<[X509]>, String> {
    let found = X509::stack_from_pem(pem)
        .map_err(|error| format!("no PEM certificates: {}", reason(&error)))?;
    match found.is_empty() {
        true => Err("no PEM certificates in it".into()),
        false => Ok(found.into()),
    }
}

/// A certificate chain and its key from PEM text.
///
/// # Errors
/// What is wrong with the text, or that the key is not the certificate's.
pub fn certificate_and_key(cert: &[u8], key: &[u8]) -> Result<CertKey, String> {
    let (chain, key) = chain_and_key(cert, key)?;
    Ok(CertKey::new(chain, key))
}

/// A certificate chain, leaf first, and its key.
pub(super) fn chain_and_key(
    cert: &[u8],
    key: &[u8],
) -> Result<(Vec<X509>, PKey<pingora::tls::pkey::Private>), String> {
    let chain = X509::stack_from_pem(cert)
        .map_err(|error| format!("no PEM certificate: {}", reason(&error)))?;
    let Some(leaf) = chain.first() else {
        return Err("no PEM certificate in it".into());
    };
    let key = PKey::private_key_from_pem(key)
        .map_err(|error| format!("no PEM private key: {}", reason(&error)))?;
    let public = leaf.public_key().map_err(|error| reason(&error))?;
    if !public.public_eq(&key) {
        return Err("the key is not the certificate's".into());
    }
    Ok((chain, key))
}

/// OpenSSL's reason without its internals.
pub fn reason(error: &pingora::tls::error::ErrorStack) -> String {
    let first = error.errors().first().and_then(|error| error.reason());
    first.unwrap_or("unknown").to_owned()
}
