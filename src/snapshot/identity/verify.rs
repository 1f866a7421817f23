//! Whether a certificate proves an identity: the rules of X.509-SVID, and a path to the roots of its own trust domain.
//! It must not know connections, nor which peers are wanted; one function judges both directions.
//! Called after each handshake, before the first byte of an application.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use openssl::error::ErrorStack;
use openssl::stack::StackRef;
use openssl::x509::{
    X509ExtendedKeyUsage, X509KeyUsage, X509Ref, X509StoreContext, X509VerifyResult, X509,
};
use windrose_plugins::contract::{causes, Cause};

use super::extensions::{self, Extensions};
use super::id::{SpiffeId, TrustDomain};
use super::svid::Bundle;
use crate::snapshot::certs::unix_time;

/// Whom to believe: the roots of each trust domain. Roots of one never vouch for another's names.
#[derive(Debug, Default)]
pub struct Trust {
    /// Counts up with every change.
    pub generation: u64,
    /// Roots by trust domain.
    pub bundles: HashMap<TrustDomain, Arc<Bundle>>,
    /// Since when these are in use; `None` for those that no source brought.
    pub since: Option<SystemTime>,
}

impl Trust {
    fn bundle(&self, id: &SpiffeId) -> Option<&Arc<Bundle>> {
        self.bundles.get(&id.trust_domain())
    }
}

/// Why a certificate proves nothing.
#[derive(Debug)]
pub struct Rejection {
    /// The word.
    pub cause: &'static Cause,
    /// More, for the log. Holds nothing secret, and of the peer's bytes only what is escaped and bounded.
    pub detail: String,
}

impl Rejection {
    fn new(cause: &'static Cause, detail: impl Into<String>) -> Rejection {
        Rejection {
            cause,
            detail: detail.into(),
        }
    }
}

/// What a certificate proves.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who its holder is.
    pub id: SpiffeId,
    /// Until when, in seconds since 1970: the end of the first certificate to end on the way to the root.
    pub ends: i64,
}

/// What the certificate proves of its holder. `chain` is what the peer sent; it may hold the leaf as well.
///
/// # Errors
/// The one reason why it proves nothing.
pub fn verify(
    leaf: &X509Ref,
    chain: Option<&StackRef<X509>>,
    trust: &Trust,
) -> Result<Verified, Rejection> {
    let verified = judged(leaf, chain, trust);
    forget_errors();
    verified
}

/// Empties OpenSSL's list of errors of this thread. What a check that says no leaves there is otherwise taken, by the next
/// handshake that waits for bytes on the same thread, for a failure of its own (`SSL_get_error`, Notes).
pub fn forget_errors() {
    drop(ErrorStack::get());
}

fn judged(
    leaf: &X509Ref,
    chain: Option<&StackRef<X509>>,
    trust: &Trust,
) -> Result<Verified, Rejection> {
    let id = leaf_id(leaf)?;
    let Some(bundle) = trust.bundle(&id) else {
        let mut known: Vec<&str> = trust.bundles.keys().map(TrustDomain::as_str).collect();
        known.sort_unstable();
        let detail = format!(
            "{id}: no bundle of this trust domain; there are: {}",
            known.join(", ")
        );
        return Err(Rejection::new(&causes::MTLS_TRUST_DOMAIN, detail));
    };
    match path(leaf, chain, bundle) {
        Ok(ends) => Ok(Verified { id, ends }),
        Err((cause, detail)) => Err(Rejection::new(cause, format!("{id}: {detail}"))),
    }
}

/// The ID in a certificate that has the form of an X.509-SVID (X509-SVID, sections 2 to 5.2). It is not proven by that.
///
/// # Errors
/// Which rule it breaks.
pub(super) fn leaf_id(leaf: &X509Ref) -> Result<SpiffeId, Rejection> {
    let no = |detail: String| Rejection::new(&causes::MTLS_NOT_AN_SVID, detail);
    let der = leaf
        .to_der()
        .map_err(|_| no("the certificate cannot be encoded".into()))?;
    let Some(found) = extensions::read(&der) else {
        return Err(no("the certificate's extensions cannot be read".into()));
    };
    let uri = match &*found.uris {
        [uri] => uri,
        uris => {
            return Err(no(format!(
                "it has {} URI names and not exactly one",
                uris.len()
            )))
        }
    };
    let id = std::str::from_utf8(uri)
        .map_err(|_| "it is not UTF-8")
        .and_then(SpiffeId::parse);
    let id = id.map_err(|fact| {
        no(format!(
            "its URI name \"{}\" is no SPIFFE ID: {fact}",
            shown(uri)
        ))
    })?;
    if id.path().is_empty() {
        return Err(no(format!("{id} names a trust domain and no workload")));
    }
    if found.is_authority {
        return Err(no(format!(
            "{id} is an authority's certificate, which proves no workload"
        )));
    }
    usage(leaf, &id, &found)?;
    if leaf.subject_name().entries().next().is_none() && !found.names_are_critical {
        return Err(no(format!(
            "{id}: without a subject, subjectAltName must be critical"
        )));
    }
    Ok(id)
}

/// What the key may be used for.
fn usage(leaf: &X509Ref, id: &SpiffeId, found: &Extensions<'_>) -> Result<(), Rejection> {
    let no = |detail: String| Rejection::new(&causes::MTLS_NOT_AN_SVID, detail);
    let Some(usage) = leaf.key_usage() else {
        return Err(no(format!("{id} has no keyUsage")));
    };
    if !found.key_usage_is_critical || !usage.contains(X509KeyUsage::DIGITAL_SIGNATURE) {
        return Err(no(format!(
            "{id}: keyUsage must be critical and allow digitalSignature"
        )));
    }
    if usage.intersects(X509KeyUsage::KEY_CERT_SIGN | X509KeyUsage::CRL_SIGN) {
        return Err(no(format!(
            "{id}: keyUsage allows signing certificates, as only an authority's may"
        )));
    }
    let both = X509ExtendedKeyUsage::SSL_SERVER | X509ExtendedKeyUsage::SSL_CLIENT;
    if leaf
        .extended_key_usage()
        .is_some_and(|extended| !extended.contains(both))
    {
        return Err(no(format!(
            "{id}: extendedKeyUsage must have both serverAuth and clientAuth"
        )));
    }
    Ok(())
}

/// RFC 5280 section 6, against the roots of one trust domain; when the path that was found ends.
fn path(
    leaf: &X509Ref,
    chain: Option<&StackRef<X509>>,
    bundle: &Bundle,
) -> Result<i64, (&'static Cause, String)> {
    let broken = |_| {
        (
            &causes::MTLS_UNTRUSTED,
            "the certificate cannot be verified".to_owned(),
        )
    };
    let empty;
    let chain = match chain {
        Some(chain) => chain,
        None => {
            empty = openssl::stack::Stack::new().map_err(broken)?;
            &empty
        }
    };
    let mut context = X509StoreContext::new().map_err(broken)?;
    let judged = context.init(&bundle.store, leaf, chain, |context| {
        if !context.verify_cert()? {
            return Ok(Err(told(context.error(), context.error_depth())));
        }
        // OpenSSL takes keyUsage alone for an authority's mark.
        let links = context.chain().into_iter().flatten().skip(1);
        let is_authority = |link: &X509Ref| {
            let der = link.to_der().ok();
            der.is_some_and(|der| extensions::read(&der).is_some_and(|found| found.is_authority))
        };
        let all = || context.chain().into_iter().flatten();
        let ends = all().map(|link| unix_time(link.not_after())).min();
        Ok(match links.into_iter().all(is_authority) {
            true => Ok(ends.unwrap_or(0)),
            false => Err((
                &causes::MTLS_UNTRUSTED,
                "an issuer in the chain is no authority".to_owned(),
            )),
        })
    });
    judged.map_err(broken)?
}

fn told(error: X509VerifyResult, depth: u32) -> (&'static Cause, String) {
    let cause = match error.as_raw() {
        EXPIRED => &causes::MTLS_EXPIRED,
        NOT_YET_VALID => &causes::MTLS_NOT_YET_VALID,
        code if CONSTRAINTS.contains(&code) => &causes::MTLS_CONSTRAINT,
        _ => &causes::MTLS_UNTRUSTED,
    };
    let link = match depth {
        0 => "the certificate".to_owned(),
        depth => format!("issuer {depth} of it"),
    };
    (cause, format!("{} ({link})", error.error_string()))
}

/// Bytes of the peer's, escaped and bounded.
fn shown(bytes: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    text.chars()
        .take(80)
        .flat_map(char::escape_default)
        .collect()
}

/// `X509_V_ERR_…` of OpenSSL's `x509_vfy.h`, which the binding does not name.
const EXPIRED: i32 = 10;
const NOT_YET_VALID: i32 = 9;
/// From `PERMITTED_VIOLATION` to `UNSUPPORTED_NAME_SYNTAX`, without those of path validation.
const CONSTRAINTS: std::ops::RangeInclusive<i32> = 47..=53;
