//! The certificate that a client proved itself with, and what consumers are known by in one.
//! It must not know how it was shown; what it says is read when somebody asks first, and kept as long as its connection.
//! Made by the proxy after a handshake, and by the test kit from PEM.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509PurposeId, X509Ref, X509StoreContext, X509};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{distinguished, Consumer};

/// A client's certificate, which the listener's authorities vouch for. One for each connection.
pub struct ClientCertificate {
    leaf: X509,
    /// What the client sent along. A session of TLS that is resumed brings none.
    chain: Vec<X509>,
    facts: OnceLock<CertificateFacts>,
    judged: Mutex<Vec<Judged>>,
}

/// What a certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The last common name of the subject; empty for none.
    pub common_name: String,
    /// The subject as RFC 4514 writes it, such as `CN=billing,O=Example`.
    pub subject: String,
    /// The issuer's name, likewise.
    pub issuer: String,
    /// Its number at the issuer, in lower-case hexadecimal digits.
    pub serial: String,
    /// The SHA-256 of the whole, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// Names of hosts it is for, in lower case.
    pub dns: Vec<String>,
    /// URIs it is for.
    pub uris: Vec<String>,
    /// Mail addresses it is for, their hosts in lower case.
    pub emails: Vec<String>,
    /// Seconds since 1970 after which it is over.
    pub not_after: i64,
}

/// Whether some authorities vouch for it, and until when that is not asked again.
struct Judged {
    authorities: u64,
    until: Duration,
    is_vouched: bool,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({})", self.facts().subject)
    }
}

impl ClientCertificate {
    /// A certificate with what the client sent along.
    pub fn new(leaf: X509, chain: Vec<X509>) -> ClientCertificate {
        ClientCertificate {
            leaf,
            chain,
            facts: OnceLock::new(),
            judged: Mutex::default(),
        }
    }

    /// Certificates in PEM, the client's first.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn pem(pem: &[u8]) -> Result<ClientCertificate, String> {
        let mut all = certificates(pem)?.into_iter();
        let leaf = all.next().ok_or("no PEM certificate in it")?;
        Ok(ClientCertificate::new(leaf, all.collect()))
    }

    /// The certificate itself.
    pub fn leaf(&self) -> &X509Ref {
        &self.leaf
    }

    /// What it says.
    pub fn facts(&self) -> &CertificateFacts {
        self.facts.get_or_init(|| read(&self.leaf))
    }

    /// Its encoding (DER); empty where it has none.
    pub fn der(&self) -> Vec<u8> {
        self.leaf.to_der().unwrap_or_default()
    }

    /// Whether one of these authorities vouches for it as a client's, by what was sent along and what is among them. What was
    /// found out holds for five minutes of the connection; `now` is the clock's.
    pub fn leads_to(&self, authorities: &Authorities, now: Duration) -> bool {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let known = judged
            .iter()
            .find(|one| one.authorities == authorities.id && now < one.until);
        if let Some(known) = known {
            return known.is_vouched;
        }
        let is_vouched = authorities.vouch_for(&self.leaf, &self.chain);
        judged.retain(|one| one.authorities != authorities.id);
        if judged.len() >= MOST_JUDGED {
            judged.remove(0);
        }
        judged.push(Judged {
            authorities: authorities.id,
            until: now + HOLDS,
            is_vouched,
        });
        is_vouched
    }
}

/// Authorities that a certificate may have to lead to.
pub struct Authorities {
    id: u64,
    store: X509Store,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.id)
    }
}

impl Authorities {
    /// Those in PEM. Ones that are no roots stand for links that clients do not send, and need their root among them.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn pem(pem: &[u8]) -> Result<Authorities, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let make = |all: Vec<X509>| -> Result<X509Store, ErrorStack> {
            let mut store = X509StoreBuilder::new()?;
            store.set_purpose(X509PurposeId::SSL_CLIENT)?;
            all.into_iter().try_for_each(|one| store.add_cert(one))?;
            Ok(store.build())
        };
        let store = make(certificates(pem)?);
        Ok(Authorities {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            store: store.map_err(|_| "a certificate in it cannot be used".to_owned())?,
        })
    }

    fn vouch_for(&self, leaf: &X509Ref, chain: &[X509]) -> bool {
        let judge = || -> Result<bool, ErrorStack> {
            let mut links = Stack::new()?;
            chain.iter().try_for_each(|link| links.push(link.clone()))?;
            let mut context = X509StoreContext::new()?;
            context.init(&self.store, leaf, &links, |context| context.verify_cert())
        };
        let is_vouched = judge().unwrap_or(false);
        // What a check that says no leaves there, the next handshake of the thread would take for its own.
        drop(ErrorStack::get());
        is_vouched
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<X509>, String> {
    match X509::stack_from_pem(pem) {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) | Err(_) => {
            drop(ErrorStack::get());
            Err("no PEM certificates in it".to_owned())
        }
    }
}

fn read(leaf: &X509Ref) -> CertificateFacts {
    let mut facts = CertificateFacts {
        common_name: common_name(leaf),
        subject: distinguished::text(leaf.subject_name()),
        issuer: distinguished::text(leaf.issuer_name()),
        serial: serial(leaf),
        fingerprint: hex(&leaf
            .digest(MessageDigest::sha256())
            .map(|it| it.to_vec())
            .unwrap_or_default()),
        not_after: unix_time(leaf.not_after()),
        ..CertificateFacts::default()
    };
    for name in leaf.subject_alt_names().iter().flatten() {
        let plain = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
        if let Some(dns) = name.dnsname().filter(plain) {
            facts.dns.push(dns.to_ascii_lowercase());
        } else if let Some(uri) = name.uri().filter(plain) {
            facts.uris.push(uri.to_owned());
        } else if let Some(email) = name.email().filter(plain) {
            facts.emails.push(normal_email(email));
        }
    }
    drop(ErrorStack::get());
    facts
}

/// A name with control characters is none: a NUL in it was made to be read as two names.
fn common_name(leaf: &X509Ref) -> String {
    let entries = leaf.subject_name().entries_by_nid(Nid::COMMONNAME);
    let name = entries
        .last()
        .and_then(|entry| entry.data().to_string().ok());
    let name = name.filter(|name| !name.chars().any(char::is_control));
    name.unwrap_or_default()
}

fn serial(leaf: &X509Ref) -> String {
    let number = leaf.serial_number().to_bn();
    let text = number.and_then(|number| Ok(number.to_hex_str()?.to_ascii_lowercase()));
    text.unwrap_or_default()
}

fn unix_time(time: &Asn1TimeRef) -> i64 {
    let epoch = Asn1Time::from_unix(0);
    let since = epoch.and_then(|epoch| epoch.diff(time));
    since.map_or(0, |since| {
        i64::from(since.days) * 86_400 + i64::from(since.secs)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn normal_email(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((local, host)) => format!("{local}@{}", host.to_ascii_lowercase()),
        None => email.to_owned(),
    }
}

/// What somebody can be known by in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateField {
    /// The SHA-256 of the whole.
    Fingerprint,
    /// A URI it is for.
    Uri,
    /// The name of a host it is for.
    Dns,
    /// A mail address it is for.
    Email,
    /// The subject as a whole.
    Subject,
    /// The subject's common name.
    CommonName,
    /// The name of who issued it.
    Issuer,
}

impl CertificateField {
    /// All of them, those that say most first.
    pub const ALL: [CertificateField; 7] = [
        CertificateField::Fingerprint,
        CertificateField::Uri,
        CertificateField::Dns,
        CertificateField::Email,
        CertificateField::Subject,
        CertificateField::CommonName,
        CertificateField::Issuer,
    ];

    /// What a certificate says there.
    pub fn of(self, facts: &CertificateFacts) -> &[String] {
        let one = match self {
            CertificateField::Uri => return &facts.uris,
            CertificateField::Dns => return &facts.dns,
            CertificateField::Email => return &facts.emails,
            CertificateField::Fingerprint => &facts.fingerprint,
            CertificateField::Subject => &facts.subject,
            CertificateField::CommonName => &facts.common_name,
            CertificateField::Issuer => &facts.issuer,
        };
        match one.is_empty() {
            true => &[],
            false => std::slice::from_ref(one),
        }
    }
}

/// What a consumer is known by in a certificate. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateMark {
    field: CertificateField,
    value: String,
    issuer: Option<String>,
}

impl CertificateMark {
    /// A value of a field, perhaps of an issuer's certificates only.
    ///
    /// # Errors
    /// What is wrong with the value, or with the issuer, in words.
    pub fn new(
        field: CertificateField,
        value: &str,
        issuer: Option<&str>,
    ) -> Result<CertificateMark, String> {
        let value = match field {
            CertificateField::Fingerprint => {
                let digits = value.replace(':', "").to_ascii_lowercase();
                let is_hash =
                    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                is_hash
                    .then_some(digits)
                    .ok_or("a fingerprint is a SHA-256: 64 hexadecimal digits")?
            }
            CertificateField::Subject | CertificateField::Issuer => distinguished::normal(value)?,
            CertificateField::Dns => value.to_ascii_lowercase(),
            CertificateField::Email => normal_email(value),
            CertificateField::Uri | CertificateField::CommonName => value.to_owned(),
        };
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err("it is empty or has control characters, as no name has".to_owned());
        }
        let issuer = issuer.map(distinguished::normal).transpose()?;
        Ok(CertificateMark {
            field,
            value,
            issuer,
        })
    }
}

/// Consumers by what they are known by in certificates.
#[derive(Default)]
pub(super) struct Marked(HashMap<(CertificateField, String), Vec<OfIssuer>>);

/// A consumer, known by it in certificates of this issuer only, or of any.
type OfIssuer = (Option<String>, Arc<Consumer>);

impl Marked {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, mark: CertificateMark, consumer: &Arc<Consumer>) {
        let of_value = self.0.entry((mark.field, mark.value)).or_default();
        if !of_value.iter().any(|(issuer, _)| *issuer == mark.issuer) {
            of_value.push((mark.issuer, consumer.clone()));
        }
    }

    /// Whoever is known by it: of those whom only certificates of an issuer prove, that issuer's goes first.
    pub(super) fn find(
        &self,
        field: CertificateField,
        value: &str,
        issuer: &str,
    ) -> Option<&Arc<Consumer>> {
        let of_value = self.0.get(&(field, value.to_owned()))?;
        let own = of_value
            .iter()
            .find(|(own, _)| own.as_deref() == Some(issuer));
        let found = own.or_else(|| of_value.iter().find(|(own, _)| own.is_none()));
        found.map(|(_, consumer)| consumer)
    }
}

/// How long it holds that authorities vouch, or do not: their own certificates end as well.
const HOLDS: Duration = Duration::from_secs(300);
/// Sets of authorities that a connection remembers.
const MOST_JUDGED: usize = 8;

#[cfg(test)]
mod tests;
