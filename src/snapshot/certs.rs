//! TLS termination: the certificates of a listener by name, and the context every handshake starts from.
//! It must not know files; the compiler and `control::certs` read them and swap new sets in.
//! The only place beside `tls` that speaks of OpenSSL; `proxy::handshake` calls it for each connection.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use pingora::tls::ext;
use pingora::tls::pkey::{PKey, Private};
use pingora::tls::ssl::{
    select_next_proto, AlpnError, SslAcceptor, SslMethod, SslOptions, SslRef, SslSessionCacheMode,
    SslVerifyMode, SslVersion,
};
use pingora::tls::x509::store::X509StoreBuilder;
use pingora::tls::x509::{X509Ref, X509};
use windrose_plugins::contract::{Principal, PrincipalKind};

use super::tls::{authorities, chain_and_key, reason};

/// A certificate with its key, ready for handshakes.
pub struct Cert {
    /// Names it is served for: exact or `*.example.com`.
    pub hosts: Vec<String>,
    /// Whether it is served when no name matches.
    pub default: bool,
    /// Seconds since 1970 after which clients refuse it.
    pub not_after: i64,
    /// The leaf's subject or first name, for views.
    pub subject: String,
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl fmt::Debug for Cert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cert({})", self.subject)
    }
}

impl Cert {
    /// Reads a certificate from PEM text. `hosts` replaces the names in the certificate unless empty.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn new(cert: &[u8], key: &[u8], hosts: &[String], default: bool) -> Result<Cert, String> {
        let (chain, key) = chain_and_key(cert, key)?;
        let leaf = &chain[0];
        let names = if hosts.is_empty() {
            names(leaf)
        } else {
            hosts.to_vec()
        };
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if names.is_empty() && !default {
            return Err("it holds no DNS names, so nothing would be served with it; set `hosts` or `default`".into());
        }
        let subject = names
            .first()
            .cloned()
            .or_else(|| common_name(leaf))
            .unwrap_or_default();
        Ok(Cert {
            not_after: unix_time(leaf.not_after()),
            hosts: names,
            default,
            subject,
            chain,
            key,
        })
    }

    fn install(&self, ssl: &mut SslRef) -> Result<(), pingora::tls::error::ErrorStack> {
        ext::ssl_use_certificate(ssl, &self.chain[0])?;
        ext::ssl_use_private_key(ssl, &self.key)?;
        self.chain[1..]
            .iter()
            .try_for_each(|link| ext::ssl_add_chain_cert(ssl, link))
    }
}

fn names(leaf: &X509Ref) -> Vec<String> {
    let alternative = leaf.subject_alt_names();
    let names = alternative
        .iter()
        .flatten()
        .filter_map(|name| name.dnsname().map(str::to_owned));
    names.collect()
}

fn common_name(leaf: &X509Ref) -> Option<String> {
    let entry = leaf
        .subject_name()
        .entries_by_nid(pingora::tls::nid::Nid::COMMONNAME)
        .next()?;
    Some(entry.data().to_string().ok()?.to_owned())
}

/// Seconds since 1970.
pub(super) fn unix_time(time: &Asn1TimeRef) -> i64 {
    let epoch = Asn1Time::from_unix(0);
    let since = epoch.and_then(|epoch| epoch.diff(time));
    since.map_or(0, |since| {
        i64::from(since.days) * 86_400 + i64::from(since.secs)
    })
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// PEM file with the certificate and its chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// Names it is served for; empty for those in the certificate.
    pub hosts: Vec<String>,
    /// Whether it is served when no name matches.
    pub default: bool,
}

/// The certificates of a listener by name.
#[derive(Debug, Default)]
pub struct CertSet {
    /// Every certificate, in the order written.
    pub all: Vec<Arc<Cert>>,
    exact: AHashMap<Box<str>, Arc<Cert>>,
    wildcard: AHashMap<Box<str>, Arc<Cert>>,
    default: Option<Arc<Cert>>,
}

impl CertSet {
    /// A set of these certificates; of several for one name the first is used.
    pub fn new(all: Vec<Arc<Cert>>) -> CertSet {
        let mut set = CertSet {
            default: all.iter().find(|cert| cert.default).cloned(),
            ..CertSet::default()
        };
        for cert in &all {
            for host in &cert.hosts {
                let (names, name) = match host.strip_prefix('*') {
                    Some(suffix) => (&mut set.wildcard, suffix),
                    None => (&mut set.exact, host.as_str()),
                };
                names.entry(name.into()).or_insert_with(|| cert.clone());
            }
        }
        set.all = all;
        set
    }

    /// The certificate for a name: exact, then wildcard over one label (RFC 6125 section 6.4.3), then the default.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<Cert>> {
        let by_name = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || {
                name.find('.')
                    .and_then(|dot| self.wildcard.get(&name[dot..]))
            };
            self.exact.get(&*name).or_else(wildcard)
        });
        by_name.or(self.default.as_ref())
    }
}

/// Whether clients show certificates.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientAuth {
    /// Not asked.
    None,
    /// May; a bad one is refused. Holds the authorities as PEM text.
    Optional(Vec<u8>),
    /// Must. Holds the authorities as PEM text.
    Required(Vec<u8>),
}

/// Settings a context is made from; the same settings keep the context, and so its session tickets, over a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct TerminationSettings {
    /// Oldest version is 1.3 instead of 1.2.
    pub only_tls13: bool,
    /// Newest version is 1.2 instead of 1.3.
    pub only_tls12: bool,
    /// ALPN protocols by preference, each with its length in front (RFC 7301 section 3.1).
    pub alpn: &'static [u8],
    /// OpenSSL cipher list for TLS 1.2.
    pub ciphers: Option<String>,
    /// Client certificates.
    pub client: ClientAuth,
    /// Whether sessions can be resumed with tickets.
    pub resumption: bool,
    /// Time for a handshake.
    pub handshake_timeout: Duration,
}

/// TLS termination of a listener.
pub struct Termination {
    /// Settings it was made from.
    pub settings: TerminationSettings,
    /// Where the certificates come from.
    pub files: Vec<CertFiles>,
    /// Certificates right now.
    pub certs: ArcSwap<CertSet>,
    /// The context of every handshake.
    pub acceptor: SslAcceptor,
}

impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Termination")
            .field("certs", &self.certs.load().all)
            .finish_non_exhaustive()
    }
}

impl Termination {
    /// Makes the context, or keeps that of `previous` with its session tickets when the settings are the same.
    ///
    /// # Errors
    /// What OpenSSL refuses: a cipher list, or the authorities' text.
    pub fn new(
        settings: TerminationSettings,
        files: Vec<CertFiles>,
        certs: CertSet,
        previous: Option<&Termination>,
    ) -> Result<Termination, String> {
        let kept = previous.filter(|previous| previous.settings == settings);
        let acceptor = kept.map_or_else(
            || acceptor(&settings),
            |previous| Ok(previous.acceptor.clone()),
        )?;
        Ok(Termination {
            settings,
            files,
            certs: ArcSwap::from_pointee(certs),
            acceptor,
        })
    }

    /// Puts the certificate for the name the client asked for into a handshake.
    pub fn install(&self, ssl: &mut SslRef) -> Option<Arc<Cert>> {
        let certs = self.certs.load();
        let name = ssl.servername(pingora::tls::ssl::NameType::HOST_NAME);
        let cert = certs.find(name)?.clone();
        cert.install(ssl).ok()?;
        Some(cert)
    }
}

fn acceptor(settings: &TerminationSettings) -> Result<SslAcceptor, String> {
    let text = |error: pingora::tls::error::ErrorStack| reason(&error);
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(text)?;
    let oldest = if settings.only_tls13 {
        SslVersion::TLS1_3
    } else {
        SslVersion::TLS1_2
    };
    let newest = if settings.only_tls12 {
        SslVersion::TLS1_2
    } else {
        SslVersion::TLS1_3
    };
    builder.set_min_proto_version(Some(oldest)).map_err(text)?;
    builder.set_max_proto_version(Some(newest)).map_err(text)?;
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    if let Some(ciphers) = &settings.ciphers {
        builder
            .set_cipher_list(ciphers)
            .map_err(|error| format!("ciphers: {}", reason(&error)))?;
    }
    let alpn = settings.alpn;
    builder.set_alpn_select_callback(move |_, offered| {
        select_next_proto(alpn, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    builder.set_session_id_context(b"windrose").map_err(text)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    if !settings.resumption {
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_num_tickets(0).map_err(text)?;
    }
    match &settings.client {
        ClientAuth::None => builder.set_verify(SslVerifyMode::NONE),
        ClientAuth::Optional(pem) => believe(&mut builder, pem, SslVerifyMode::PEER)?,
        ClientAuth::Required(pem) => {
            believe(
                &mut builder,
                pem,
                SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
            )?;
        }
    }
    Ok(builder.build())
}

fn believe(
    builder: &mut pingora::tls::ssl::SslAcceptorBuilder,
    pem: &[u8],
    mode: SslVerifyMode,
) -> Result<(), String> {
    let text = |error: pingora::tls::error::ErrorStack| reason(&error);
    let mut store = X509StoreBuilder::new().map_err(text)?;
    for authority in authorities(pem)? {
        builder.add_client_ca(&authority).map_err(text)?;
        store.add_cert(authority).map_err(text)?;
    }
    builder.set_verify_cert_store(store.build()).map_err(text)?;
    builder.set_verify(mode);
    Ok(())
}

/// Who a client certificate names: a SPIFFE ID if it is an X.509-SVID (exactly one URI name, not an authority), else its common name.
pub fn principal(leaf: &X509Ref) -> Option<Principal> {
    let alternative = leaf.subject_alt_names();
    let uris: Vec<String> = alternative
        .iter()
        .flatten()
        .filter_map(|name| name.uri().map(str::to_owned))
        .collect();
    match uris.as_slice() {
        [uri] if uri.starts_with("spiffe://") => {
            Some(Principal::new(PrincipalKind::Workload, uri.clone()))
        }
        _ => common_name(leaf).map(|name| Principal::new(PrincipalKind::Certificate, name)),
    }
}
