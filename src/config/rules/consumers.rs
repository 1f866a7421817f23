//! Rules of `consumers`: names and credentials that are one consumer's alone.
//! It must not know plugins; how a password is hashed is for `basic_auth` to judge.
//! Called by `config::rules::check`.

use std::collections::HashMap;

use windrose_plugins::contract::{CertificateField, CertificateMark, SigningKey};

use super::values::given;
use crate::config::report::Report;
use crate::config::schema::{self, Config, Consumer};

/// Checks every consumer.
pub(super) fn check(config: &Config, report: &mut Report) {
    let mut names = HashMap::new();
    let mut keys = HashMap::new();
    let mut subjects = HashMap::new();
    let mut signers = HashMap::new();
    let mut marks = HashMap::new();
    for (at, consumer) in config.consumers.iter().enumerate() {
        let path = format!("consumers[{at}]");
        name(consumer, &path, report);
        if let Some(before) = names.insert(&*consumer.name, at) {
            report.error(
                format!("{path}.name"),
                format!(
                    "the name \"{}\" is taken by consumers[{before}]",
                    consumer.name
                ),
                "give each consumer a name of its own, or make one of the two",
            );
        }
        for (nth, group) in consumer.groups.iter().enumerate() {
            given(report, &format!("{path}.groups[{nth}]"), group);
        }
        if consumer.metadata.len() > MOST_METADATA {
            report.error(
                format!("{path}.metadata"),
                format!(
                    "has {} entries; {MOST_METADATA} are the most",
                    consumer.metadata.len()
                ),
                "keep what plugins read",
            );
        }
        hashes(consumer, at, &mut keys, report);
        called(consumer, at, &mut subjects, report);
        signing(consumer, at, &mut signers, report);
        certificates(consumer, at, &mut marks, report);
    }
}

const MOST_METADATA: usize = 64;

/// Keys that are hashes, and one consumer's alone.
fn hashes(consumer: &Consumer, at: usize, keys: &mut HashMap<String, usize>, report: &mut Report) {
    for (nth, key) in consumer.keys.iter().enumerate() {
        let path = format!("consumers[{at}].keys[{nth}]");
        if key_of(key).is_none() {
            // Never quoted: it may be the key itself.
            report.error(
                &path,
                "is not the SHA-256 of a key: 64 hexadecimal digits",
                "`printf %s KEY | sha256sum` prints it; the key itself does not belong here",
            );
        } else if let Some(before) = keys.insert(key.to_ascii_lowercase(), at) {
            report.error(
                &path,
                format!("consumers[{before}] has the same key"),
                "a key proves one consumer; make another one",
            );
        }
    }
}

/// What issuers call it, which is one consumer's alone.
fn called<'c>(
    consumer: &'c Consumer,
    at: usize,
    subjects: &mut HashMap<(&'c str, &'c str), usize>,
    report: &mut Report,
) {
    for (nth, one) in consumer.subjects.iter().enumerate() {
        let path = format!("consumers[{at}].subjects[{nth}]");
        given(report, &format!("{path}.issuer"), &one.issuer);
        given(report, &format!("{path}.subject"), &one.subject);
        if let Some(before) = subjects.insert((&*one.issuer, &*one.subject), at) {
            report.error(
                &path,
                format!("consumers[{before}] is called the same by this issuer"),
                "what an issuer calls somebody proves one consumer; remove one of the two",
            );
        }
    }
}

/// Keys that it signs with, each with a name of its own.
fn signing<'c>(
    consumer: &'c Consumer,
    at: usize,
    signers: &mut HashMap<&'c str, usize>,
    report: &mut Report,
) {
    for (nth, one) in consumer.signing_keys.iter().enumerate() {
        let path = format!("consumers[{at}].signing_keys[{nth}]");
        given(report, &format!("{path}.id"), &one.id);
        if let Some(before) = signers.insert(&one.id, at) {
            report.error(
                format!("{path}.id"),
                format!("consumers[{before}] has a signing key of this name"),
                "signatures say which key it is by its name; give it another one",
            );
        }
        if let Err((below, fact)) = signing_key_of(one) {
            let remedy =
                "give a `secret` of at least 32 bytes in its `encoding`, or a `public_key` in PEM";
            report.error(format!("{path}{below}"), fact, remedy);
        }
    }
}

/// What it is known by in certificates, which is one consumer's alone.
fn certificates(
    consumer: &Consumer,
    at: usize,
    marks: &mut HashMap<CertificateMark, usize>,
    report: &mut Report,
) {
    for (nth, one) in consumer.certificates.iter().enumerate() {
        let path = format!("consumers[{at}].certificates[{nth}]");
        match mark_of(one) {
            Err((below, fact)) => {
                let remedy = "give one of `fingerprint`, `uri`, `dns`, `email`, `subject` and `common_name`, perhaps with an `issuer`, or `issuer` alone";
                report.error(format!("{path}{below}"), fact, remedy);
            }
            Ok(mark) => {
                if let Some(before) = marks.insert(mark, at) {
                    report.error(
                        &path,
                        format!("consumers[{before}] is known by the same"),
                        "a certificate proves one consumer; say more in one of the two, such as the `issuer`",
                    );
                }
            }
        }
    }
}

/// What a consumer is known by; or where below it something is wrong, and what.
pub(in crate::config) fn mark_of(
    one: &schema::KnownCertificate,
) -> Result<CertificateMark, (&'static str, String)> {
    let fields = [
        (
            CertificateField::Fingerprint,
            ".fingerprint",
            &one.fingerprint,
        ),
        (CertificateField::Uri, ".uri", &one.uri),
        (CertificateField::Dns, ".dns", &one.dns),
        (CertificateField::Email, ".email", &one.email),
        (CertificateField::Subject, ".subject", &one.subject),
        (
            CertificateField::CommonName,
            ".common_name",
            &one.common_name,
        ),
    ];
    let mut given = fields
        .into_iter()
        .filter_map(|(field, below, value)| Some((field, below, value.as_deref()?)));
    let issuer = one.issuer.as_deref();
    match (given.next(), given.next(), issuer) {
        (Some((field, below, value)), None, issuer) => {
            if let Some(issuer) = issuer {
                // Its own words where it is the issuer that is wrong.
                CertificateMark::new(CertificateField::Issuer, issuer, None)
                    .map_err(|fact| (".issuer", fact))?;
            }
            CertificateMark::new(field, value, issuer).map_err(|fact| (below, fact))
        }
        (None, _, Some(issuer)) => CertificateMark::new(CertificateField::Issuer, issuer, None)
            .map_err(|fact| (".issuer", fact)),
        (None, _, None) => Err(("", "says nothing of a certificate".to_owned())),
        (Some(_), Some(_), _) => Err(("", "says several things of a certificate".to_owned())),
    }
}

/// What verifies a consumer's signatures; or where below it something is wrong, and what.
pub(in crate::config) fn signing_key_of(
    one: &schema::SigningKey,
) -> Result<SigningKey, (&'static str, String)> {
    match (&one.secret, &one.public_key) {
        (Some(secret), None) => {
            let secret = one.encoding.decode(secret);
            let secret =
                secret.ok_or((".secret", "is not written in its `encoding`".to_owned()))?;
            SigningKey::secret(&secret).map_err(|fact| (".secret", fact))
        }
        (None, Some(_)) if !one.encoding.is_text() => {
            Err((".encoding", "is for `secret` only".to_owned()))
        }
        (None, Some(pem)) => SigningKey::pem(pem).map_err(|fact| (".public_key", fact)),
        (None, None) => Err(("", "has neither `secret` nor `public_key`".to_owned())),
        (Some(_), Some(_)) => Err(("", "has both `secret` and `public_key`".to_owned())),
    }
}

fn name(consumer: &Consumer, path: &str, report: &mut Report) {
    let path = format!("{path}.name");
    given(report, &path, &consumer.name);
    if consumer
        .name
        .contains(|c: char| c == ':' || c == '*' || c.is_control())
    {
        report.error(
            path,
            format!("{:?} cannot be a consumer's name", consumer.name),
            "names have no control characters, no \":\" and no \"*\"",
        );
    }
}

/// The hash of a key that is written as it should be.
pub(in crate::config) fn key_of(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        let digits = text.get(at..at + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    text.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(hash)
}
