//! What tests of the slow path share: an authority that issues certificates and serves TLS with them.
//! It must not know what is tested.
//! Called by the tests of `certs` and `health`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509NameBuilder, X509};
use pingora::protocols::tls::SslStream;
use tokio::net::{TcpListener, TcpStream};

use crate::snapshot::endpoint::Address;

/// Issues certificates for tests.
pub(super) struct Authority {
    cert: X509,
    key: PKey<Private>,
}

/// A certificate and key as PEM text.
pub(super) struct Issued {
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let key = new_key();
        let mut builder = builder("authority", &key, 30);
        let constraint = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraint).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Authority {
            cert: builder.build(),
            key,
        }
    }

    pub(super) fn pem(&self) -> Vec<u8> {
        self.cert.to_pem().unwrap()
    }

    /// A certificate for a host, valid for some days.
    pub(super) fn issue(&self, host: &str, days: u32) -> Issued {
        let (cert, key) = self.issue_parts(host, days);
        Issued {
            cert: cert.to_pem().unwrap(),
            key: key.private_key_to_pem_pkcs8().unwrap(),
        }
    }

    fn issue_parts(&self, host: &str, days: u32) -> (X509, PKey<Private>) {
        let key = new_key();
        let mut builder = builder(host, &key, days);
        builder.set_issuer_name(self.cert.subject_name()).unwrap();
        let context = builder.x509v3_context(Some(&self.cert), None);
        let names = SubjectAlternativeName::new()
            .dns(host)
            .build(&context)
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        (builder.build(), key)
    }

    /// Serves TLS for a host, with these ALPN protocols, each with its length in front. Returns where.
    pub(super) async fn serve<F, W>(&self, host: &str, alpn: &'static [u8], answer: F) -> Address
    where
        F: Fn(SslStream<TcpStream>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let (cert, key) = self.issue_parts(host, 30);
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        builder.set_certificate(&cert).unwrap();
        builder.set_private_key(&key).unwrap();
        builder.set_alpn_select_callback(move |_, offered| {
            openssl::ssl::select_next_proto(alpn, offered).ok_or(AlpnError::NOACK)
        });
        let acceptor = Arc::new(builder.build());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ssl = Ssl::new(acceptor.context()).unwrap();
                let mut stream = SslStream::new(ssl, stream).unwrap();
                if Pin::new(&mut stream).accept().await.is_ok() {
                    tokio::spawn(answer(stream));
                }
            }
        });
        address
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn builder(name: &str, key: &PKey<Private>, days: u32) -> X509Builder {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(days).unwrap())
        .unwrap();
    builder
}
