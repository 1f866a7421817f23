//! An authority of the test's own, certificates from it, and TLS clients that trust it.
//! It must not know the proxy.
//! Used by tests of TLS on either side.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509NameBuilder, X509};

use super::client::{dial, Conn};

/// Signs certificates.
pub(crate) struct Authority(pub(crate) Pair);

/// A certificate with its key.
pub(crate) struct Pair {
    pub(crate) cert: X509,
    pub(crate) key: PKey<Private>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::named("test authority")
    }

    /// Another one has another name: issuers are looked for by their names.
    pub(crate) fn named(name: &str) -> Authority {
        let key = key();
        let mut builder = begin(name, &key);
        let ca = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(ca).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let cert = builder.build();
        Authority(Pair { cert, key })
    }

    /// A certificate for these names; those with `://` become URIs.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        let key = key();
        let mut builder = begin(names[0], &key);
        builder.set_issuer_name(self.0.cert.subject_name()).unwrap();
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            match name.contains("://") {
                true => alternatives.uri(name),
                false => alternatives.dns(name),
            };
        }
        let context = builder.x509v3_context(Some(&self.0.cert), None);
        let alternatives = alternatives.build(&context).unwrap();
        builder.append_extension(alternatives).unwrap();
        builder.sign(&self.0.key, MessageDigest::sha256()).unwrap();
        let cert = builder.build();
        Pair { cert, key }
    }
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        let key = self.key.private_key_to_pem_pkcs8().unwrap();
        let cert = self.cert.to_pem().unwrap();
        for (kind, text) in [("key", key), ("crt", cert)] {
            let part = folder.join(format!("{name}.{kind}.part"));
            fs::write(&part, text).unwrap();
            fs::rename(part, folder.join(format!("{name}.{kind}"))).unwrap();
        }
    }

    /// SHA-256 of the certificate, as applications are told it.
    pub(crate) fn hash(&self) -> String {
        let hash = self.cert.digest(MessageDigest::sha256()).unwrap();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn serial(&self) -> String {
        serial(&self.cert)
    }
}

/// A certificate's number.
pub(crate) fn serial(cert: &X509) -> String {
    let number = cert.serial_number().to_bn().unwrap();
    number.to_hex_str().unwrap().to_string()
}

/// What a TLS client brings and wants.
#[derive(Default)]
pub(crate) struct Wish<'a> {
    pub(crate) sni: Option<&'a str>,
    pub(crate) certificate: Option<&'a Pair>,
    /// Issuers sent with the certificate.
    pub(crate) chain: &'a [X509],
    pub(crate) version: Option<SslVersion>,
    pub(crate) alpn: &'a [u8],
}

/// A TLS connection; not verified, as tests look at what was shown.
pub(crate) fn connect(
    address: SocketAddr,
    wish: &Wish<'_>,
) -> Result<Conn<SslStream<std::net::TcpStream>>, String> {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    if let Some(pair) = wish.certificate {
        builder.set_certificate(&pair.cert).unwrap();
        builder.set_private_key(&pair.key).unwrap();
    }
    for link in wish.chain {
        builder.add_extra_chain_cert(link.clone()).unwrap();
    }
    if let Some(version) = wish.version {
        builder.set_min_proto_version(Some(version)).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
    }
    if !wish.alpn.is_empty() {
        builder.set_alpn_protos(wish.alpn).unwrap();
    }
    let mut config = builder.build().configure().unwrap();
    config = config.verify_hostname(false);
    let sni = wish.sni.unwrap_or("none.invalid");
    config = config.use_server_name_indication(wish.sni.is_some());
    let stream = config.connect(sni, dial(address));
    stream.map(Conn::new).map_err(|error| error.to_string())
}

pub(super) fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

pub(super) fn begin(name: &str, key: &PKey<Private>) -> X509Builder {
    let mut subject = X509NameBuilder::new().unwrap();
    let short: String = name.chars().take(60).collect();
    subject.append_entry_by_text("CN", &short).unwrap();
    let subject = subject.build();
    let mut number = BigNum::new().unwrap();
    number.rand(120, MsbOption::ONE, false).unwrap();
    let number = Asn1Integer::from_bn(&number).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&number).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(key).unwrap();
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(30));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    builder
}
