//! Keys, and requests for certificates: how a node makes them, and what of a stranger's request is believed.
//! It must not keep anything; a private key leaves this file only as OpenSSL's own, which clears it, or as text that clears itself.
//! Used by both sides of `wire`, and by the authority for its own keys.

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::sha::sha256;
use openssl::x509::{X509NameBuilder, X509Ref, X509Req, X509ReqBuilder};
use zeroize::Zeroizing;

use super::hex;
use crate::snapshot::identity::forget_errors;

/// A fresh P-256 key.
///
/// # Errors
/// OpenSSL's.
pub fn generate() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

/// A key as PEM text that clears itself.
///
/// # Errors
/// OpenSSL's.
pub fn to_pem(key: &PKeyRef<Private>) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    key.private_key_to_pem_pkcs8().map(Zeroizing::new)
}

/// A request for a certificate in PEM: the key, signed with itself. Who the certificate names is asked for beside it.
///
/// # Errors
/// OpenSSL's.
pub fn request(key: &PKeyRef<Private>) -> Result<String, ErrorStack> {
    let mut builder = X509ReqBuilder::new()?;
    builder.set_version(0)?;
    builder.set_subject_name(&X509NameBuilder::new()?.build())?;
    builder.set_pubkey(key)?;
    builder.sign(key, MessageDigest::sha256())?;
    let pem = builder.build().to_pem()?;
    Ok(String::from_utf8_lossy(&pem).into_owned())
}

/// The key of a stranger's request, once it proved to hold it. Names and extensions in the request count for nothing.
///
/// # Errors
/// Why no certificate may be made of it.
pub fn proven(pem: &str) -> Result<PKey<Public>, &'static str> {
    if pem.len() > LARGEST_REQUEST {
        return Err("the request is longer than 16 KiB");
    }
    let request =
        X509Req::from_pem(pem.as_bytes()).map_err(|_| "it is not a PKCS #10 request in PEM")?;
    let key = request
        .public_key()
        .map_err(|_| "the request holds no key that can be read")?;
    let is_strong = match key.id() {
        Id::EC => key.ec_key().is_ok_and(|key| {
            matches!(
                key.group().curve_name(),
                Some(Nid::X9_62_PRIME256V1 | Nid::SECP384R1)
            )
        }),
        Id::RSA => (2048..=4096).contains(&key.bits()),
        _ => false,
    };
    if !is_strong {
        return Err("the key is neither P-256, P-384, nor RSA of 2048 to 4096 bits");
    }
    let is_signed = request.verify(&key).unwrap_or(false);
    forget_errors();
    match is_signed {
        true => Ok(key),
        false => Err("the request is not signed with its own key"),
    }
}

/// The hash by which a public key is known.
///
/// # Errors
/// OpenSSL's.
pub fn key_hash<T: HasPublic>(key: &PKeyRef<T>) -> Result<String, ErrorStack> {
    Ok(hex(&sha256(&key.public_key_to_der()?)))
}

/// The hash by which a root is known and pinned: SHA-256 of the certificate, in hex.
///
/// # Errors
/// OpenSSL's.
pub fn cert_hash(cert: &X509Ref) -> Result<String, ErrorStack> {
    Ok(hex(&sha256(&cert.to_der()?)))
}

/// Random bytes in hex.
///
/// # Errors
/// OpenSSL's.
pub fn random_hex<const BYTES: usize>() -> Result<String, ErrorStack> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    openssl::rand::rand_bytes(&mut *bytes)?;
    Ok(hex(&*bytes))
}

const LARGEST_REQUEST: usize = 16 << 10;
