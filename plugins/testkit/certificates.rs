//! Client certificates for tests, and an authority that issues them.
//! It must not know who looks at them.
//! Part of the kit.

use std::sync::Arc;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509Name, X509NameBuilder, X509};

use crate::contract::ClientCertificate;

/// Issues certificates that hold from now until 30 days from now.
pub struct Authority {
    /// Its own certificate and those between it and a root.
    chain: Vec<X509>,
    key: PKey<Private>,
}

const MADE: &str = "a key and a certificate can be made";

impl Authority {
    /// A root of this common name.
    ///
    /// # Panics
    /// When the library makes no key.
    pub fn root(name: &str) -> Authority {
        let key = key().expect(MADE);
        let cert = sign(&[("CN", name)], None, None, (&key, &key)).expect(MADE);
        Authority {
            chain: vec![cert],
            key,
        }
    }

    /// An authority below this one.
    ///
    /// # Panics
    /// When the library makes no key.
    pub fn below(&self, name: &str) -> Authority {
        let key = key().expect(MADE);
        let issuer = Some(self.chain[0].subject_name());
        let cert = sign(&[("CN", name)], None, issuer, (&key, &self.key)).expect(MADE);
        let chain = [cert].into_iter().chain(self.chain.iter().cloned());
        Authority {
            chain: chain.collect(),
            key,
        }
    }

    /// A client's certificate for this subject and these names (`dns:…`, `uri:…`, `email:…`), sent with what leads to the root.
    ///
    /// # Panics
    /// When one of them is none.
    pub fn issue(&self, subject: &[(&str, &str)], names: &[&str]) -> Arc<ClientCertificate> {
        let key = key().expect(MADE);
        let issuer = Some(self.chain[0].subject_name());
        let cert = sign(subject, Some(names), issuer, (&key, &self.key)).expect(MADE);
        Arc::new(ClientCertificate::new(cert, self.chain.clone()))
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.chain[0].to_pem().unwrap_or_default()
    }
}

fn key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

/// A certificate: an authority's without `names`, its own issuer without `issuer`.
fn sign(
    subject: &[(&str, &str)],
    names: Option<&[&str]>,
    issuer: Option<&openssl::x509::X509NameRef>,
    (key, by): (&PKey<Private>, &PKey<Private>),
) -> Result<X509, ErrorStack> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let mut number = BigNum::new()?;
    number.rand(120, openssl::bn::MsbOption::ONE, false)?;
    let number = Asn1Integer::from_bn(&number)?;
    builder.set_serial_number(&number)?;
    let subject = name(subject)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(issuer.unwrap_or(&subject))?;
    builder.set_pubkey(key)?;
    let (from, to) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(30)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&to)?;
    match names {
        None => builder.append_extension(BasicConstraints::new().critical().ca().build()?)?,
        Some([]) => {}
        Some(names) => {
            let mut alternatives = SubjectAlternativeName::new();
            for one in names {
                match one.split_once(':') {
                    Some(("dns", name)) => alternatives.dns(name),
                    Some(("uri", name)) => alternatives.uri(name),
                    Some(("email", name)) => alternatives.email(name),
                    _ => &mut alternatives,
                };
            }
            let extension = alternatives.build(&builder.x509v3_context(None, None))?;
            builder.append_extension(extension)?;
        }
    }
    builder.sign(by, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn name(entries: &[(&str, &str)]) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    for (kind, value) in entries {
        builder.append_entry_by_text(kind, value)?;
    }
    Ok(builder.build())
}
