//! Certificates of workloads, good ones and each kind of bad one; and a TLS service that says who calls.
//! It must not know the proxy.
//! Used by tests of mutual TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509Extension, X509};

use super::tls::{begin, key, Authority, Pair};

/// What to make of a certificate.
pub(crate) struct Recipe<'a> {
    /// URIs and DNS names.
    names: &'a [&'a str],
    /// Seconds from now from and to which it is good.
    seconds: (i64, i64),
    /// Whether it is an authority's.
    is_authority: bool,
    /// Whether it signs itself.
    signs_itself: bool,
    /// The only host that names below it may have.
    permitted: Option<&'a str>,
}

impl<'a> Recipe<'a> {
    /// A good one for these names.
    pub(crate) fn of(names: &'a [&'a str]) -> Recipe<'a> {
        Recipe {
            names,
            seconds: (-DAY, DAY),
            is_authority: false,
            signs_itself: false,
            permitted: None,
        }
    }

    /// Good within these days from now.
    pub(crate) fn days(self, from: i64, to: i64) -> Recipe<'a> {
        Recipe {
            seconds: (from * DAY, to * DAY),
            ..self
        }
    }

    /// Good for this many seconds.
    pub(crate) fn lasting(self, seconds: i64) -> Recipe<'a> {
        Recipe {
            seconds: (-DAY, seconds),
            ..self
        }
    }

    /// An authority's.
    pub(crate) fn authority(self) -> Recipe<'a> {
        Recipe {
            is_authority: true,
            ..self
        }
    }

    /// Signed by itself.
    pub(crate) fn self_signed(self) -> Recipe<'a> {
        Recipe {
            signs_itself: true,
            ..self
        }
    }

    /// Only for names of this host below it.
    pub(crate) fn permitting(self, host: &'a str) -> Recipe<'a> {
        Recipe {
            permitted: Some(host),
            ..self
        }
    }
}

const DAY: i64 = 86_400;

impl Authority {
    /// A good certificate of a workload.
    pub(crate) fn svid(&self, id: &str) -> Pair {
        self.make(&Recipe::of(&[id]))
    }

    /// A certificate as wanted.
    pub(crate) fn make(&self, recipe: &Recipe<'_>) -> Pair {
        let key = key();
        let name = if recipe.is_authority {
            "middle"
        } else {
            "workload"
        };
        let mut builder = begin(name, &key);
        let issuer = (!recipe.signs_itself).then_some(&self.0);
        if let Some(issuer) = issuer {
            builder.set_issuer_name(issuer.cert.subject_name()).unwrap();
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap().as_secs() as i64;
        let at = |seconds: i64| Asn1Time::from_unix(now + seconds).unwrap();
        builder.set_not_before(&at(recipe.seconds.0)).unwrap();
        builder.set_not_after(&at(recipe.seconds.1)).unwrap();
        let mut usage = KeyUsage::new();
        usage.critical();
        if recipe.is_authority {
            let ca = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(ca).unwrap();
            usage.key_cert_sign().crl_sign();
        } else {
            usage.digital_signature();
        }
        builder.append_extension(usage.build().unwrap()).unwrap();
        if let Some(host) = recipe.permitted {
            builder.append_extension(permitted(host)).unwrap();
        }
        if !recipe.names.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for name in recipe.names {
                match name.contains("://") {
                    true => names.uri(name),
                    false => names.dns(name),
                };
            }
            let names = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        let signer = issuer.map_or(&key, |issuer| &issuer.key);
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        let cert = builder.build();
        Pair { cert, key }
    }

    /// Writes its certificate as a bundle.
    pub(crate) fn write_bundle(&self, folder: &Path, name: &str) {
        let part = folder.join(format!("{name}.part"));
        std::fs::write(&part, self.0.cert.to_pem().unwrap()).unwrap();
        std::fs::rename(part, folder.join(name)).unwrap();
    }
}

/// `NameConstraints { permittedSubtrees [0] { { uniformResourceIdentifier [6] host } } }`.
fn permitted(host: &str) -> X509Extension {
    let wrap = |tag: u8, inner: Vec<u8>| [vec![tag, inner.len() as u8], inner].concat();
    let name = wrap(0x86, host.as_bytes().to_vec());
    let der = wrap(0x30, wrap(0xa0, wrap(0x30, name)));
    let der = Asn1OctetString::new_from_bytes(&der).unwrap();
    let kind = Asn1Object::from_str("2.5.29.30").unwrap();
    X509Extension::new_from_der(&kind, true, &der).unwrap()
}

/// A certificate as a thief has it: with a key that claims to be its own, and signs with another.
pub(crate) fn stolen(pair: &Pair) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let other = EcKey::generate(&group).unwrap();
    let public = pair.key.ec_key().unwrap();
    let key = EcKey::from_private_components(&group, other.private_key(), public.public_key());
    Pair {
        cert: pair.cert.clone(),
        key: PKey::from_ec_key(key.unwrap()).unwrap(),
    }
}

/// A service over TLS that asks callers for a certificate, believes everybody, and answers with the caller's first URI name.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Service {
    pub(crate) fn start(pair: &Pair, chain: &[X509]) -> Service {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        builder.set_certificate(&pair.cert).unwrap();
        builder.set_private_key(&pair.key).unwrap();
        for link in chain {
            builder.add_extra_chain_cert(link.clone()).unwrap();
        }
        builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        let acceptor = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heard) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<u8>>>::default(),
        );
        let (counts, hears) = (connections.clone(), heard.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (acceptor, counts, hears) = (acceptor.clone(), counts.clone(), hears.clone());
                std::thread::spawn(move || {
                    if let Ok(stream) = acceptor.accept(socket) {
                        counts.fetch_add(1, SeqCst);
                        serve(stream, &hears);
                    }
                });
            }
        });
        Service {
            address,
            connections,
            heard,
        }
    }

    /// Connections whose handshake was completed.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Everything it was told after handshakes.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

fn serve(mut stream: SslStream<std::net::TcpStream>, heard: &Mutex<Vec<u8>>) {
    let names = stream
        .ssl()
        .peer_certificate()
        .and_then(|leaf| leaf.subject_alt_names());
    let uri = names
        .iter()
        .flatten()
        .find_map(|name| name.uri().map(str::to_owned));
    let caller = uri.unwrap_or_default();
    let mut piece = [0; 4096];
    while let Ok(read) = stream.read(&mut piece) {
        if read == 0 {
            return;
        }
        heard.lock().unwrap().extend_from_slice(&piece[..read]);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{caller}",
            caller.len()
        );
        if piece[..read].ends_with(b"\r\n\r\n") && stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
