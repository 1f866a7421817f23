//! What a certificate says, as fields of a request carry it.
//! It must not know which fields.
//! Part of `mtls_auth`.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::prelude::{Engine, BASE64_STANDARD};
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::ClientCertificate;

/// Something that a certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// The subject's common name.
    CommonName,
    /// The subject.
    Subject,
    /// Who issued it.
    Issuer,
    /// Its number at the issuer, in hexadecimal digits.
    Serial,
    /// Its SHA-256, in hexadecimal digits.
    Fingerprint,
    /// Names of hosts.
    Dns,
    /// URIs.
    Uris,
    /// Mail addresses.
    Emails,
    /// The whole, as RFC 9440 section 2.1 writes it.
    Der,
}

impl Says {
    /// A field's value; none where the certificate says nothing of it, or too much.
    pub(super) fn of(self, certificate: &ClientCertificate) -> Option<HeaderValue> {
        let facts = certificate.facts();
        let text = match self {
            Says::CommonName => Cow::Borrowed(&*facts.common_name),
            Says::Subject => Cow::Borrowed(&*facts.subject),
            Says::Issuer => Cow::Borrowed(&*facts.issuer),
            Says::Serial => Cow::Borrowed(&*facts.serial),
            Says::Fingerprint => Cow::Borrowed(&*facts.fingerprint),
            Says::Dns => Cow::Owned(listed(&facts.dns)),
            Says::Uris => Cow::Owned(listed(&facts.uris)),
            Says::Emails => Cow::Owned(listed(&facts.emails)),
            Says::Der => Cow::Owned(format!(":{}:", BASE64_STANDARD.encode(certificate.der()))),
        };
        let carried = carried(&text);
        let fits = (1..=LONGEST).contains(&carried.len());
        HeaderValue::from_str(&carried).ok().filter(|_| fits)
    }
}

/// Without those that hold a comma, which would be read as two.
fn listed(names: &[String]) -> String {
    let plain = names.iter().filter(|name| !name.contains(','));
    plain.map(String::as_str).collect::<Vec<_>>().join(",")
}

/// Percent-encodes what is not visible ASCII, and what would be taken for an encoding.
fn carried(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// Bytes of a value: a certificate has a few thousand at most.
const LONGEST: usize = 8 << 10;
