//! Keys that verify what others signed: algorithms, keys, sets of them.
//! It must not know what was signed, nor where keys come from.
//! Used by plugins that verify signatures, such as `jwt` and `hmac_auth`.

mod algorithm;
mod jwk;
pub(crate) mod mac;
mod set;
mod weak;

use std::fmt;

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Verifier};
use openssl::x509::X509;

pub(crate) use algorithm::Algorithm;
use algorithm::Family;
use mac::Macs;
pub(crate) use set::{KeySet, Pick};

/// A key that verifies. Never shown: its `Debug` says its id and algorithms only.
#[derive(Clone)]
pub(crate) struct Key {
    /// What its owner calls it.
    pub(crate) id: Option<String>,
    /// What it may be used with; never algorithms of two families, which is what confusion needs.
    algorithms: Vec<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(Box<Macs>),
    Public(PKey<Public>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.algorithms)
    }
}

impl Key {
    /// A secret that both sides have.
    ///
    /// # Errors
    /// A secret shorter than the digest of the algorithm that it is for (RFC 7518 section 3.2), in words without it.
    pub(crate) fn secret(secret: &[u8]) -> Result<Key, String> {
        let fits = |one: &Algorithm| secret.len() >= one.digest_bytes();
        let algorithms: Vec<Algorithm> = Family::Secret.algorithms().filter(fits).collect();
        if algorithms.is_empty() {
            return Err(format!(
                "the secret has {} bytes; HS256 needs 32, HS384 48, HS512 64",
                secret.len()
            ));
        }
        if secret.len() > LONGEST_SECRET {
            return Err(format!("the secret has more than {LONGEST_SECRET} bytes"));
        }
        Ok(Key {
            id: None,
            algorithms,
            material: Material::Secret(Box::new(Macs::new(secret))),
        })
    }

    /// A public key in PEM: `PUBLIC KEY`, `RSA PUBLIC KEY` or the first `CERTIFICATE`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn pem(pem: &str) -> Result<Key, String> {
        if pem.contains("PRIVATE KEY") {
            return Err(
                "it is a private key, which verifies nothing and must not leave its owner"
                    .to_owned(),
            );
        }
        let bytes = pem.as_bytes();
        let read = if pem.contains("BEGIN CERTIFICATE") {
            X509::from_pem(bytes).and_then(|certificate| certificate.public_key())
        } else if pem.contains("BEGIN RSA PUBLIC KEY") {
            Rsa::public_key_from_pem_pkcs1(bytes).and_then(PKey::from_rsa)
        } else {
            PKey::public_key_from_pem(bytes)
        };
        let key = read.map_err(|_| "it is no public key in PEM".to_owned())?;
        Key::public(key)
    }

    /// A public key that OpenSSL has read.
    fn public(key: PKey<Public>) -> Result<Key, String> {
        let family = match key.id() {
            Id::RSA | Id::RSA_PSS => {
                let rsa = key.rsa().map_err(|_| "it is no RSA key".to_owned())?;
                weak::judge(&rsa)?;
                match key.id() {
                    Id::RSA_PSS => Family::RsaPss,
                    _ => Family::Rsa,
                }
            }
            Id::EC => {
                let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
                Family::of_curve(curve).ok_or("its curve is none of P-256, P-384, P-521")?
            }
            Id::ED25519 | Id::ED448 => Family::Edwards,
            _ => return Err("it is neither RSA, EC nor Ed25519 or Ed448".to_owned()),
        };
        Ok(Key {
            id: None,
            algorithms: family.algorithms().collect(),
            material: Material::Public(key),
        })
    }

    /// The same key under a name.
    pub(crate) fn named(mut self, id: Option<String>) -> Key {
        self.id = id;
        self
    }

    /// The same key for this algorithm only.
    ///
    /// # Errors
    /// An algorithm that is not for keys of its kind, in words.
    pub(crate) fn only(mut self, algorithm: Algorithm) -> Result<Key, String> {
        if !self.fits(algorithm) {
            let words: Vec<&str> = self.algorithms.iter().map(|one| one.name()).collect();
            let words = words.join(", ");
            return Err(format!(
                "{} is not for this key; {words} are",
                algorithm.name()
            ));
        }
        self.algorithms = vec![algorithm];
        Ok(self)
    }

    /// Whether it may be used with this algorithm.
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// What it may be used with.
    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Whether it is a secret that both sides have.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.material, Material::Secret(_))
    }

    /// Whether the signature is of this message and made with this key.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) || signature.len() > LONGEST_SIGNATURE {
            return false;
        }
        let outcome = match &self.material {
            Material::Secret(macs) => Ok(macs.verifies(algorithm, message, signature)),
            Material::Public(key) => match algorithm.family() {
                Family::Curve(bytes) => of_curve(key, algorithm, bytes, message, signature),
                Family::Edwards => Verifier::new_without_digest(key)
                    .and_then(|mut verifier| verifier.verify_oneshot(signature, message)),
                Family::Rsa | Family::RsaPss => of_rsa(key, algorithm, message, signature),
                Family::Secret => return false,
            },
        };
        // What OpenSSL cannot read is no signature; taking the error out of its list leaves none for others to find.
        outcome.unwrap_or(false)
    }
}

type Outcome = Result<bool, openssl::error::ErrorStack>;

fn of_rsa(key: &PKey<Public>, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Outcome {
    let digest = digest(algorithm);
    let mut verifier = Verifier::new(digest, key)?;
    if algorithm.is_pss() {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        verifier.set_rsa_mgf1_md(digest)?;
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
    }
    verifier.verify_oneshot(signature, message)
}

/// Both numbers in as many bytes as the curve's (RFC 7518 section 3.4); OpenSSL wants them in DER.
fn of_curve(
    key: &PKey<Public>,
    algorithm: Algorithm,
    bytes: usize,
    message: &[u8],
    signature: &[u8],
) -> Outcome {
    if signature.len() != 2 * bytes {
        return Ok(false);
    }
    let (r, s) = signature.split_at(bytes);
    let pair = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    let mut verifier = Verifier::new(digest(algorithm), key)?;
    verifier.verify_oneshot(&pair.to_der()?, message)
}

fn digest(algorithm: Algorithm) -> MessageDigest {
    match algorithm.digest_bytes() {
        32 => MessageDigest::sha256(),
        48 => MessageDigest::sha384(),
        _ => MessageDigest::sha512(),
    }
}

/// That of an RSA key of 16384 bits, the most that OpenSSL verifies with.
const LONGEST_SIGNATURE: usize = 2048;
const LONGEST_SECRET: usize = 4096;
