//! Consumers: who calls APIs under a name of their own, whichever plugin proves it.
//! It must not know how a credential travels; plugins look up what they found in a request.
//! Made from the configuration's `consumers` once per snapshot; plugins get all of them while they are built.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::certificate::Marked;
use super::{CertificateField, CertificateMark};
use crate::keys::{Algorithm, Key};

/// Somebody who calls APIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Its name: that of the principal whom plugins prove.
    pub name: String,
    /// The groups it belongs to, for `acl` and the like.
    pub groups: BTreeSet<String>,
    /// What else is known of it, such as a plan; plugins and expressions read it.
    pub metadata: BTreeMap<String, String>,
}

/// What verifies a consumer's signatures, by one algorithm. Never shown.
#[derive(Clone)]
pub struct SigningKey {
    key: Key,
    algorithm: Algorithm,
}

impl SigningKey {
    /// A secret that the consumer has as well, of at least 32 bytes: for `hmac-sha256`.
    ///
    /// # Errors
    /// What is wrong with it, in words without it.
    pub fn secret(secret: &[u8]) -> Result<SigningKey, String> {
        SigningKey::of(Key::secret(secret)?)
    }

    /// A public key in PEM: for `ed25519`, `ecdsa-p256-sha256`, `ecdsa-p384-sha384` or `rsa-pss-sha512`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn pem(pem: &str) -> Result<SigningKey, String> {
        SigningKey::of(Key::pem(pem)?)
    }

    fn of(key: Key) -> Result<SigningKey, String> {
        let mut known = SIGNING.iter().map(|(one, _)| *one);
        let algorithm = known.find(|one| key.fits(*one));
        let algorithm = algorithm.ok_or("no algorithm of RFC 9421 is for keys of its kind")?;
        let key = key.only(algorithm)?;
        Ok(SigningKey { key, algorithm })
    }

    /// What its algorithm is called in signatures (RFC 9421 section 6.2).
    pub fn algorithm(&self) -> &'static str {
        let mut known = SIGNING.iter();
        let name = known.find(|(one, _)| *one == self.algorithm);
        name.map_or("", |(_, name)| name)
    }

    /// Whether the signature is of this message and made with this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verifies(self.algorithm, message, signature)
    }
}

const SIGNING: [(Algorithm, &str); 5] = [
    (Algorithm::HS256, "hmac-sha256"),
    (Algorithm::EdDSA, "ed25519"),
    (Algorithm::ES256, "ecdsa-p256-sha256"),
    (Algorithm::ES384, "ecdsa-p384-sha384"),
    (Algorithm::PS512, "rsa-pss-sha512"),
];

/// What proves a consumer. Never shown: its `Debug` says the kind only.
#[derive(Clone)]
pub enum Credential {
    /// The SHA-256 of an API key.
    Key([u8; 32]),
    /// A password's hash, in the form of its algorithm; the consumer's name is the user's.
    Password(String),
    /// Whom an issuer of tokens calls so.
    Subject {
        /// The issuer, as its tokens write it.
        issuer: String,
        /// What it calls the consumer.
        subject: String,
    },
    /// A key that the consumer signs requests with, under the name that signatures give it.
    Signing {
        /// The name.
        id: String,
        /// What verifies.
        key: SigningKey,
    },
    /// What it is known by in client certificates.
    Certificate(CertificateMark),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Key(_) => "Key",
            Credential::Password(_) => "Password",
            Credential::Subject { .. } => "Subject",
            Credential::Signing { .. } => "Signing",
            Credential::Certificate(_) => "Certificate",
        })
    }
}

/// The SHA-256 of an API key, as [`Credential::Key`] has it.
pub fn key_hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Every consumer of a configuration.
#[derive(Default)]
pub struct Consumers {
    names: BTreeMap<String, Arc<Consumer>>,
    keys: HashMap<[u8; 32], Arc<Consumer>>,
    passwords: BTreeMap<String, String>,
    /// By issuer, then by what it calls them.
    subjects: HashMap<String, HashMap<String, Arc<Consumer>>>,
    signing: HashMap<String, (Arc<Consumer>, SigningKey)>,
    marked: Marked,
    is_incomplete: bool,
}

impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumers({})", self.names.len())
    }
}

impl Consumers {
    /// Adds one with what proves it. A credential that somebody has already stays with whoever had it first; the configuration's
    /// rules refuse that before.
    pub fn add(&mut self, consumer: Consumer, credentials: impl IntoIterator<Item = Credential>) {
        let consumer = Arc::new(consumer);
        for credential in credentials {
            match credential {
                Credential::Key(hash) => {
                    self.keys.entry(hash).or_insert_with(|| consumer.clone());
                }
                Credential::Password(hash) => {
                    let name = consumer.name.clone();
                    self.passwords.entry(name).or_insert(hash);
                }
                Credential::Subject { issuer, subject } => {
                    let of_issuer = self.subjects.entry(issuer).or_default();
                    of_issuer.entry(subject).or_insert_with(|| consumer.clone());
                }
                Credential::Signing { id, key } => {
                    let entry = self.signing.entry(id);
                    entry.or_insert_with(|| (consumer.clone(), key));
                }
                Credential::Certificate(mark) => self.marked.add(mark, &consumer),
            }
        }
        self.names.entry(consumer.name.clone()).or_insert(consumer);
    }

    /// Says that some of them could not be read: they may have the names, groups and credentials that nobody else has.
    pub fn are_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// Whether all of them are known. Only then is something wrong with settings that name somebody unknown.
    pub fn are_complete(&self) -> bool {
        !self.is_incomplete
    }

    /// The consumer of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Consumer>> {
        self.names.get(name)
    }

    /// Whose key has this hash. A lookup of the whole hash: how long it takes tells nothing of any key.
    pub fn with_key(&self, hash: &[u8; 32]) -> Option<&Arc<Consumer>> {
        self.keys.get(hash)
    }

    /// Whether anybody has a key, or may have one.
    pub fn have_keys(&self) -> bool {
        self.is_incomplete || !self.keys.is_empty()
    }

    /// Whom this issuer calls so.
    pub fn with_subject(&self, issuer: &str, subject: &str) -> Option<&Arc<Consumer>> {
        self.subjects.get(issuer)?.get(subject)
    }

    /// Whether an issuer has a name for anybody.
    pub fn have_subjects(&self) -> bool {
        self.is_incomplete || !self.subjects.is_empty()
    }

    /// Who signs with the key of this name, and the key.
    pub fn with_signing_key(&self, id: &str) -> Option<(&Arc<Consumer>, &SigningKey)> {
        self.signing.get(id).map(|(consumer, key)| (consumer, key))
    }

    /// Whether anybody has a signing key.
    pub fn have_signing_keys(&self) -> bool {
        self.is_incomplete || !self.signing.is_empty()
    }

    /// Who is known by this in a certificate of this issuer.
    pub fn with_certificate(
        &self,
        field: CertificateField,
        value: &str,
        issuer: &str,
    ) -> Option<&Arc<Consumer>> {
        self.marked.find(field, value, issuer)
    }

    /// Whether anybody is known by a certificate.
    pub fn have_certificates(&self) -> bool {
        self.is_incomplete || !self.marked.is_empty()
    }

    /// The names of those who have a password, with its hash.
    pub fn passwords(&self) -> impl Iterator<Item = (&str, &str)> {
        self.passwords.iter().map(|(name, hash)| (&**name, &**hash))
    }

    /// The names of all of them, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Every group that somebody belongs to.
    pub fn groups(&self) -> BTreeSet<&str> {
        let all = self.names.values();
        all.flat_map(|one| one.groups.iter().map(String::as_str))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str, groups: &[&str]) -> Consumer {
        Consumer {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn consumers_are_found_by_name_and_by_what_proves_them() {
        let mut all = Consumers::default();
        all.add(
            consumer("ann", &["staff"]),
            [Credential::Key(key_hash(b"k1"))],
        );
        all.add(
            consumer("bob", &["staff", "ops"]),
            [Credential::Password("$2y$".to_owned())],
        );

        assert_eq!(all.with_key(&key_hash(b"k1")).unwrap().name, "ann");
        assert_eq!(all.with_key(&key_hash(b"k2")), None);
        assert_eq!(all.passwords().collect::<Vec<_>>(), [("bob", "$2y$")]);
        assert_eq!(all.named("bob").unwrap().groups.len(), 2);
        assert_eq!(all.groups(), BTreeSet::from(["ops", "staff"]));
    }

    #[test]
    fn what_proves_somebody_is_not_shown() {
        let mut all = Consumers::default();
        all.add(
            consumer("ann", &[]),
            [Credential::Password("$2y$x".to_owned())],
        );

        let shown = format!("{all:?} {:?}", Credential::Password("$2y$x".to_owned()));

        assert!(!shown.contains("$2y$x"), "{shown}");
    }

    #[test]
    fn a_key_is_hashed_as_everybody_does() {
        // FIPS 180-2, appendix B.1.
        let hash = key_hash(b"abc");
        assert_eq!(hash[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
