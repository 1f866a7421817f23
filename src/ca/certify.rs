//! Certificates: roots, issuers with a name constraint, crosses between roots, and leaves that are X.509-SVIDs.
//! It must not know files, tokens or who may ask; whoever calls has decided.
//! Called by `authority` and `rotation`.

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKeyRef, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509Builder, X509Extension, X509Name, X509NameBuilder, X509Ref, X509};

/// From when until when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// Somebody who signs.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) cert: &'a X509Ref,
    pub(super) key: &'a PKeyRef<Private>,
}

/// A root that signs itself.
pub(super) fn root(
    domain: &str,
    number: u32,
    key: &PKeyRef<Private>,
    span: Span,
) -> Result<X509, ErrorStack> {
    let name = name(domain, &format!("root {number}"))?;
    let mut builder = begin(key, span)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    authority_marks(&mut builder, domain)?;
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(own)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// The certificate another root gives to a new one, so that who trusts only the old one believes the new one's issuers.
pub(super) fn cross(
    new: &X509Ref,
    domain: &str,
    by: Signer<'_>,
    span: Span,
) -> Result<X509, ErrorStack> {
    let key = new.public_key()?;
    let mut builder = begin(&key, span)?;
    builder.set_subject_name(new.subject_name())?;
    builder.set_issuer_name(by.cert.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(1).build()?)?;
    authority_marks(&mut builder, domain)?;
    builder.append_extension(only_below(domain)?)?;
    identifiers(&mut builder, by)?;
    builder.sign(by.key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// An issuer: signs leaves, and only with names of this trust domain.
pub(super) fn issuer(
    domain: &str,
    number: u32,
    key: &PKeyRef<Private>,
    by: Signer<'_>,
    span: Span,
) -> Result<X509, ErrorStack> {
    let mut builder = begin(key, span)?;
    let name = name(domain, &format!("issuer of root {number}"))?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(by.cert.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    authority_marks(&mut builder, domain)?;
    builder.append_extension(only_below(domain)?)?;
    identifiers(&mut builder, by)?;
    builder.sign(by.key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// A leaf as X509-SVID wants it: one URI, no authority, a key that only signs handshakes.
pub(super) fn leaf<T: HasPublic>(
    id: &str,
    key: &PKeyRef<T>,
    by: Signer<'_>,
    span: Span,
) -> Result<X509, ErrorStack> {
    let mut builder = begin(key, span)?;
    // No subject: then the name has to be critical (X509-SVID, section 2).
    builder.set_subject_name(&X509NameBuilder::new()?.build())?;
    builder.set_issuer_name(by.cert.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(
        ExtendedKeyUsage::new()
            .server_auth()
            .client_auth()
            .build()?,
    )?;
    let names = SubjectAlternativeName::new()
        .critical()
        .uri(id)
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    identifiers(&mut builder, by)?;
    builder.sign(by.key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// A certificate's number in hex, as every view of it is written.
pub(super) fn serial(cert: &X509Ref) -> Result<String, ErrorStack> {
    Ok(cert.serial_number().to_bn()?.to_hex_str()?.to_lowercase())
}

/// When a certificate ends, in seconds since 1970.
pub(crate) fn ends(cert: &X509Ref) -> Result<u64, ErrorStack> {
    moment(cert.not_after())
}

/// When a certificate begins, in seconds since 1970.
pub(crate) fn begins(cert: &X509Ref) -> Result<u64, ErrorStack> {
    moment(cert.not_before())
}

fn moment(time: &Asn1TimeRef) -> Result<u64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    Ok(u64::try_from(seconds).unwrap_or(0))
}

fn begin<T: HasPublic>(key: &PKeyRef<T>, span: Span) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    // Random, so that no count has to survive a crash. 127 bits: the number stays positive.
    let mut number = BigNum::new()?;
    number.rand(127, MsbOption::ONE, false)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&number)?)?;
    let time = |at: u64| Asn1Time::from_unix(i64::try_from(at).unwrap_or(i64::MAX));
    builder.set_not_before(&*time(span.from)?)?;
    builder.set_not_after(&*time(span.until)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn authority_marks(builder: &mut X509Builder, domain: &str) -> Result<(), ErrorStack> {
    builder.append_extension(
        KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build()?,
    )?;
    // Its own ID is the trust domain's: no path (X509-SVID, section 3.1).
    let id = format!("spiffe://{domain}");
    let names = SubjectAlternativeName::new()
        .uri(&id)
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)
}

fn identifiers(builder: &mut X509Builder, by: Signer<'_>) -> Result<(), ErrorStack> {
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(Some(by.cert), None))?;
    builder.append_extension(own)?;
    let others = AuthorityKeyIdentifier::new()
        .keyid(true)
        .build(&builder.x509v3_context(Some(by.cert), None))?;
    builder.append_extension(others)
}

/// Name constraints that permit URIs of this host alone (RFC 5280, section 4.2.1.10).
fn only_below(domain: &str) -> Result<X509Extension, ErrorStack> {
    let base = tagged(URI, domain.as_bytes());
    let subtree = tagged(SEQUENCE, &base);
    let permitted = tagged(PERMITTED, &subtree);
    let der = tagged(SEQUENCE, &permitted);
    X509Extension::new_from_der(
        &*Asn1Object::from_str("2.5.29.30")?,
        true,
        &*Asn1OctetString::new_from_bytes(&der)?,
    )
}

/// DER of one value; a trust domain and what is around it stay below 512 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=127) => der.push(short),
        Ok(long) => der.extend([0x81, long]),
        Err(_) => {
            der.push(0x82);
            der.extend(
                u16::try_from(content.len())
                    .unwrap_or(u16::MAX)
                    .to_be_bytes(),
            );
        }
    }
    der.extend(content);
    der
}

fn name(domain: &str, what: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    // The field's bound is 64 characters; longer names of trust domains are in the URI.
    let shown: String = domain.chars().take(64).collect();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, &shown)?;
    name.append_entry_by_nid(Nid::COMMONNAME, &format!("windrose {what}"))?;
    Ok(name.build())
}

const SEQUENCE: u8 = 0x30;
/// Context tag 0, constructed.
const PERMITTED: u8 = 0xa0;
/// Context tag 6: `uniformResourceIdentifier`.
const URI: u8 = 0x86;
