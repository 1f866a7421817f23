use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509Builder, X509NameBuilder, X509};
use proptest::prelude::*;
use windrose_plugins::contract::causes;

use super::proof::Judged;
use super::*;
use crate::snapshot::certs::unix_time;

/// Makes roots and certificates of a trust domain.
pub(crate) struct Maker {
    root: X509,
    key: PKey<Private>,
}

/// What to make.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// A good one.
    Svid(&'a str),
    /// With these names; those with `://` are URIs.
    Names(&'a [&'a str]),
    /// Another authority.
    Authority,
    /// Good within these days from now.
    Days(&'a str, i64, i64),
    /// With these usages: digitalSignature, keyCertSign, critical.
    Usage(&'a str, bool, bool, bool),
    /// With clientAuth only.
    ClientOnly(&'a str),
}

impl Maker {
    pub(crate) fn new(name: &str) -> Maker {
        let key = key();
        let mut builder = begin(name, (-1, 30), &key);
        authority(&mut builder);
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Maker {
            root: builder.build(),
            key,
        }
    }

    pub(crate) fn root(&self) -> X509 {
        self.root.clone()
    }

    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::new(Bundle::new(vec![self.root.clone()]).unwrap())
    }

    pub(crate) fn svid(&self, id: &str) -> Arc<Svid> {
        let (cert, key) = self.issue(Kind::Svid(id));
        Arc::new(Svid::new(vec![cert], key).unwrap())
    }

    pub(crate) fn issue(&self, kind: Kind<'_>) -> (X509, PKey<Private>) {
        let key = key();
        let days = match kind {
            Kind::Days(_, from, to) => (from, to),
            _ => (-1, 1),
        };
        let name = match kind {
            Kind::Authority => "middle",
            _ => "leaf",
        };
        let mut builder = begin(name, days, &key);
        builder.set_issuer_name(self.root.subject_name()).unwrap();
        let (names, usage) = match &kind {
            Kind::Svid(id) | Kind::Days(id, ..) | Kind::ClientOnly(id) => {
                (vec![*id], (true, false, true))
            }
            Kind::Names(names) => (names.to_vec(), (true, false, true)),
            Kind::Usage(id, sign, issue, critical) => (vec![*id], (*sign, *issue, *critical)),
            Kind::Authority => (Vec::new(), (false, false, false)),
        };
        match kind {
            Kind::Authority => authority(&mut builder),
            _ => add_usage(&mut builder, usage),
        }
        if matches!(kind, Kind::ClientOnly(_)) {
            builder
                .append_extension(ExtendedKeyUsage::new().client_auth().build().unwrap())
                .unwrap();
        }
        if !names.is_empty() {
            let mut alternative = SubjectAlternativeName::new();
            for name in names {
                match name.contains("://") {
                    true => alternative.uri(name),
                    false => alternative.dns(name),
                };
            }
            let alternative = alternative
                .build(&builder.x509v3_context(Some(&self.root), None))
                .unwrap();
            builder.append_extension(alternative).unwrap();
        }
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        (builder.build(), key)
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn begin(name: &str, (from, to): (i64, i64), key: &PKey<Private>) -> X509Builder {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut number = BigNum::new().unwrap();
    number.rand(120, MsbOption::ONE, false).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&Asn1Integer::from_bn(&number).unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(key).unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let at = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    builder.set_not_before(&at(from)).unwrap();
    builder.set_not_after(&at(to)).unwrap();
    builder
}

fn authority(builder: &mut X509Builder) {
    builder
        .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    let usage = KeyUsage::new()
        .critical()
        .key_cert_sign()
        .crl_sign()
        .build()
        .unwrap();
    builder.append_extension(usage).unwrap();
}

fn add_usage(builder: &mut X509Builder, (sign, issue, critical): (bool, bool, bool)) {
    let mut usage = KeyUsage::new();
    if sign {
        usage.digital_signature();
    } else {
        usage.key_encipherment();
    }
    if issue {
        usage.key_cert_sign();
    }
    if critical {
        usage.critical();
    }
    builder.append_extension(usage.build().unwrap()).unwrap();
}

fn trust(bundles: &[(&str, &Maker)]) -> Trust {
    let bundles = bundles
        .iter()
        .map(|(domain, maker)| (TrustDomain::parse(domain).unwrap(), maker.bundle()));
    Trust {
        since: None,
        generation: 1,
        bundles: bundles.collect(),
    }
}

fn cause(maker: &Maker, kind: Kind<'_>) -> &'static str {
    let (cert, _) = maker.issue(kind);
    let trust = trust(&[("td", maker)]);
    let verified = verify(&cert, None, &trust);
    verified.map_or_else(|rejection| rejection.cause.name, |_| "verified")
}

#[test]
fn what_is_refused_is_not_held_against_the_next_handshake() {
    let (maker, other) = (Maker::new("root"), Maker::new("root"));
    let (foreign, _) = other.issue(Kind::Svid("spiffe://td/web"));

    let refused = verify(&foreign, None, &trust(&[("td", &maker)]));

    assert!(refused.is_err());
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
}

#[test]
fn a_good_svid_proves_its_id() {
    let maker = Maker::new("root");
    let (cert, _) = maker.issue(Kind::Names(&["spiffe://td/ns/shop/sa/web", "web.shop.svc"]));

    let verified = verify(&cert, None, &trust(&[("td", &maker)])).unwrap();

    assert_eq!(verified.id.as_str(), "spiffe://td/ns/shop/sa/web");
    assert_eq!(verified.ends, unix_time(cert.not_after()));
}

#[test]
fn each_breach_has_its_own_cause() {
    let maker = Maker::new("root");
    let id = "spiffe://td/a";
    let not_an_svid = [
        Kind::Names(&["web.shop"]),
        Kind::Names(&["spiffe://td/a", "spiffe://td/b"]),
        Kind::Names(&["spiffe://td/a", "https://td/a"]),
        Kind::Names(&["https://td/a"]),
        Kind::Names(&["spiffe://td"]),
        Kind::Authority,
        Kind::Usage(id, false, false, true),
        Kind::Usage(id, true, true, true),
        Kind::Usage(id, true, false, false),
        Kind::ClientOnly(id),
    ];

    for kind in not_an_svid {
        assert_eq!(cause(&maker, kind), "mtls.not_an_svid");
    }
    assert_eq!(cause(&maker, Kind::Days(id, -3, -1)), "mtls.expired");
    assert_eq!(cause(&maker, Kind::Days(id, 1, 3)), "mtls.not_yet_valid");
    assert_eq!(
        cause(&maker, Kind::Svid("spiffe://other/a")),
        "mtls.trust_domain"
    );
}

#[test]
fn roots_of_one_domain_never_vouch_for_another() {
    let (one, other) = (Maker::new("one"), Maker::new("other"));
    let trust = trust(&[("td", &one), ("other", &other)]);
    let (forged, _) = one.issue(Kind::Svid("spiffe://other/a"));
    let (own, _) = other.issue(Kind::Svid("spiffe://other/a"));

    assert_eq!(
        verify(&forged, None, &trust).unwrap_err().cause.name,
        "mtls.untrusted"
    );
    assert!(verify(&own, None, &trust).is_ok());
}

#[test]
fn a_chain_needs_authorities_all_the_way() {
    let root = Maker::new("root");
    let (cert, key) = root.issue(Kind::Authority);
    let middle = Maker {
        root: cert.clone(),
        key,
    };
    let (leaf, key) = root.issue(Kind::Svid("spiffe://td/a"));
    let pretender = Maker {
        root: leaf.clone(),
        key,
    };
    let trust = trust(&[("td", &root)]);
    let judged = |maker: &Maker| {
        let mut chain = Stack::new().unwrap();
        chain.push(maker.root()).unwrap();
        let (cert, _) = maker.issue(Kind::Svid("spiffe://td/b"));
        verify(&cert, Some(&chain), &trust)
            .map_or_else(|rejection| rejection.cause.name, |_| "verified")
    };

    assert_eq!(judged(&middle), "verified");
    assert_eq!(judged(&pretender), "mtls.untrusted");
    assert_eq!(judged(&Maker::new("stranger")), "mtls.untrusted");
}

#[test]
fn bundles_are_read_from_pem_and_from_jwk_sets() {
    let maker = Maker::new("root");
    let der = maker.root().to_der().unwrap();
    let x5c = openssl::base64::encode_block(&der);
    let jwks = format!(
        r#"{{"spiffe_sequence": 1, "keys": [{{"kty": "EC", "use": "jwt-svid"}}, {{"kty": "EC", "use": "x509-svid", "x5c": ["{x5c}"]}}]}}"#
    );

    let pem = Bundle::read(&maker.root().to_pem().unwrap()).unwrap();
    let jwks = Bundle::read(jwks.as_bytes()).unwrap();

    assert_eq!(pem.fingerprint, jwks.fingerprint);
    let (leaf, _) = maker.issue(Kind::Svid("spiffe://td/a"));
    for bad in [&b"{}"[..], b"", b"{\"keys\": []}", &leaf.to_pem().unwrap()] {
        assert!(Bundle::read(bad).is_err());
    }
}

#[test]
fn what_a_workload_holds_outlives_its_generation() {
    let registry = Identities::default();
    let (one, other) = (
        SpiffeId::parse("spiffe://td/a").unwrap(),
        SpiffeId::parse("spiffe://td/b").unwrap(),
    );
    let held = registry.held("web", &one);
    held.put(Maker::new("root").svid("spiffe://td/a"), None);

    assert!(registry.held("web", &one).svid().is_some());
    assert!(registry.held("web", &other).svid().is_none());
    drop(held);
    assert!(registry.held("web", &one).svid().is_none());
}

#[test]
fn trust_changes_its_generation_only_when_it_changes() {
    let registry = Identities::default();
    let maker = Maker::new("root");
    let bundles = || HashMap::from([(TrustDomain::parse("td").unwrap(), maker.bundle())]);

    registry.set_source_bundles(bundles());
    registry.set_source_bundles(bundles());
    assert_eq!(registry.trust().generation, 1);
    registry.set_federated(HashMap::from([(
        TrustDomain::parse("x").unwrap(),
        maker.bundle(),
    )]));
    registry.set_source_bundles(HashMap::new());

    assert_eq!(registry.trust().generation, 3);
    assert_eq!(registry.trust().bundles.len(), 1);
}

fn believing(maker: &Maker) -> Identities {
    let registry = Identities::default();
    let own = (TrustDomain::parse("td").unwrap(), maker.bundle());
    registry.set_source_bundles(HashMap::from([own]));
    registry
}

const GRACE: OnExpiry = OnExpiry::Close {
    grace: Duration::from_secs(2),
};

#[test]
fn connections_fall_with_the_roots_that_proved_them_and_others_stay() {
    let (maker, other) = (Maker::new("root"), Maker::new("other"));
    let registry = believing(&maker);
    let (leaf, _) = maker.issue(Kind::Svid("spiffe://td/a"));
    let open = [OnExpiry::Keep, GRACE].map(|it| registry.prove(leaf.clone(), None, it).unwrap());
    let judge = |scope| registry.proofs().judge(scope, &registry.trust(), 0);
    let causes = || {
        open.each_ref()
            .map(|it| it.fallen().map(|cause| cause.name))
    };

    assert_eq!((judge(Scope::All), causes()), (0, [None, None]));
    let both = Bundle::new(vec![other.root(), maker.root()]).unwrap();
    let domain = TrustDomain::parse("td").unwrap();
    registry.set_source_bundles(HashMap::from([(domain.clone(), Arc::new(both))]));
    assert_eq!((judge(Scope::All), causes()), (0, [None, None]));
    registry.set_source_bundles(HashMap::from([(domain, other.bundle())]));

    assert_eq!(judge(Scope::Due), 0);
    assert_eq!(judge(Scope::All), 2);
    assert_eq!(causes(), [Some("mtls.untrusted"); 2]);
    assert_eq!(judge(Scope::All), 0, "they fall once");
    let (stranger, _) = other.issue(Kind::Svid("spiffe://td/b"));
    let kept = registry.prove(stranger, None, GRACE).unwrap();
    registry.set_source_bundles(HashMap::new());
    assert_eq!(judge(Scope::All), 1);
    assert_eq!(kept.fallen().unwrap().name, "mtls.trust_domain");
}

#[tokio::test]
async fn what_is_under_way_outlives_its_certificate_by_the_grace() {
    let maker = Maker::new("root");
    let registry = believing(&maker);
    let (leaf, _) = maker.issue(Kind::Svid("spiffe://td/a"));
    let proof = registry.prove(leaf.clone(), None, GRACE).unwrap();
    let kept = registry.prove(leaf, None, OnExpiry::Keep).unwrap();
    let ends = proof.retires();
    let expired: Judged = Err(&causes::MTLS_EXPIRED);
    let waiting = tokio::spawn({
        let proof = proof.clone();
        async move {
            proof.over().await;
            proof.fell().await.name
        }
    });

    assert_eq!(proof.take(&expired, ends), ends + 2000);
    assert!(proof.fallen().is_none());
    assert_eq!(proof.take(&expired, ends + 2000), i64::MAX);

    assert_eq!(waiting.await.unwrap(), "mtls.expired");
    assert_eq!(kept.take(&expired, ends + 9000), i64::MAX);
    assert_eq!((kept.retires(), kept.fallen()), (i64::MAX, None));
}

#[test]
fn proofs_are_forgotten_with_their_connections_and_the_first_to_end_is_next() {
    let maker = Maker::new("root");
    let registry = believing(&maker);
    let prove = |days| {
        let (leaf, _) = maker.issue(Kind::Days("spiffe://td/a", -1, days));
        registry.prove(leaf, None, GRACE).unwrap()
    };

    let (late, early) = (prove(9), prove(3));

    let next = || registry.proofs().next().map(|due| due / 1000);
    assert_eq!(next(), Some(early.retires() / 1000));
    drop(early);
    assert_eq!(next(), Some(late.retires() / 1000));
    drop(late);
    assert_eq!(next(), None);
}

#[tokio::test]
async fn a_first_certificate_is_waited_for() {
    let held = Arc::<Held>::default();
    let waiting = tokio::spawn({
        let held = held.clone();
        async move { held.wait(Duration::from_secs(20)).await.is_some() }
    });
    tokio::task::yield_now().await;
    held.put(Maker::new("root").svid("spiffe://td/a"), None);

    assert!(waiting.await.unwrap());
    assert!(Held::default()
        .wait(Duration::from_millis(1))
        .await
        .is_none());
}

#[test]
fn keys_are_not_shown() {
    let svid = Maker::new("root").svid("spiffe://td/a");

    let shown = format!("{svid:?} {:?}", svid.own());

    assert!(shown.contains("spiffe://td/a"));
    assert!(
        !shown.contains("PRIVATE") && !shown.contains("key: P") || shown.contains("public_key"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn broken_certificates_never_panic(at in 0usize..900, to in any::<u8>()) {
        let maker = Maker::new("root");
        let (cert, _) = maker.issue(Kind::Svid("spiffe://td/a"));
        let mut der = cert.to_der().unwrap();
        let at = at % der.len();
        let is_same = der[at] == to;
        der[at] = to;
        if let Ok(cert) = X509::from_der(&der) {
            let verified = verify(&cert, None, &trust(&[("td", &maker)]));
            prop_assert!(is_same || verified.is_err());
        }
    }
}

#[test]
fn certificates_end_with_the_leaf_or_its_issuer_and_with_nothing_else_of_the_chain() {
    let maker = Maker::new("root");
    let (middle, _) = maker.issue(Kind::Authority);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs() as i64;
    let end = |days, chain: &[X509]| {
        let (leaf, key) = maker.issue(Kind::Days("spiffe://td/web", -1, days));
        let chain = std::iter::once(leaf).chain(chain.iter().cloned());
        let ends = Svid::new(chain.collect(), key).unwrap().not_after;
        (ends - now + 43_200) / 86_400
    };

    assert_eq!(end(5, &[maker.root(), middle.clone()]), 5, "not the cross");
    assert_eq!(end(60, &[maker.root(), middle]), 30, "the issuer");
    assert_eq!(end(60, &[]), 60, "it is not sent along");
}
