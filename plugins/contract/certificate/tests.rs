use super::*;
use crate::testkit::Authority;

const BILLING: &[(&str, &str)] = &[("O", "Example"), ("CN", "billing")];

#[test]
fn what_a_certificate_says_is_read_once() {
    let root = Authority::root("root");
    let names = [
        "dns:Billing.Example",
        "uri:spiffe://example/billing",
        "email:B@Example.com",
    ];
    let certificate = root.issue(BILLING, &names);

    let facts = certificate.facts();

    assert_eq!(facts.common_name, "billing");
    assert_eq!(facts.subject, "CN=billing,O=Example");
    assert_eq!(facts.issuer, "CN=root");
    assert_eq!(facts.dns, ["billing.example"]);
    assert_eq!(facts.uris, ["spiffe://example/billing"]);
    assert_eq!(facts.emails, ["B@example.com"]);
    assert_eq!((facts.fingerprint.len(), facts.serial.len()), (64, 30));
    assert!(facts.not_after > 1_700_000_000);
    assert!(std::ptr::eq(facts, certificate.facts()));
    assert_eq!(
        format!("{certificate:?}"),
        "ClientCertificate(CN=billing,O=Example)"
    );
}

#[test]
fn a_name_with_a_nul_is_nobodys() {
    let forged = Authority::root("root").issue(&[("CN", "ann\0.evil")], &[]);

    let facts = forged.facts();

    assert_eq!(facts.common_name, "");
    assert_eq!(facts.subject, "CN=ann\\00.evil");
}

#[test]
fn only_the_authorities_that_are_asked_for_vouch() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let certificate = root.issue(BILLING, &[]);
    let believed = Authorities::pem(&root.pem()).unwrap();
    let others = Authorities::pem(&other.pem()).unwrap();
    let now = Duration::ZERO;

    assert!(certificate.leads_to(&believed, now));
    assert!(!certificate.leads_to(&others, now));
    assert!(certificate.leads_to(&believed, now + HOLDS));
    // An authority of the same name is another one.
    let twin = Authorities::pem(&Authority::root("root").pem()).unwrap();
    assert!(!certificate.leads_to(&twin, now));
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
}

#[test]
fn links_come_from_the_client_or_from_the_files() {
    let root = Authority::root("root");
    let middle = root.below("middle");
    let sent = middle.issue(BILLING, &[]);
    let alone = ClientCertificate::pem(&sent.leaf().to_pem().unwrap()).unwrap();
    let only_root = Authorities::pem(&root.pem()).unwrap();
    let both = Authorities::pem(&[root.pem(), middle.pem()].concat()).unwrap();
    let only_middle = Authorities::pem(&middle.pem()).unwrap();

    let vouched = |one: &ClientCertificate, by: &Authorities| one.leads_to(by, Duration::ZERO);
    assert!(vouched(&sent, &only_root));
    assert!(!vouched(&alone, &only_root), "as in a resumed session");
    assert!(vouched(&alone, &both));
    assert!(!vouched(&alone, &only_middle));
}

#[test]
fn what_is_remembered_of_authorities_is_bounded() {
    let root = Authority::root("root");
    let certificate = root.issue(BILLING, &[]);

    for _ in 0..20 {
        let authorities = Authorities::pem(&root.pem()).unwrap();
        assert!(certificate.leads_to(&authorities, Duration::ZERO));
    }

    assert_eq!(certificate.judged.lock().unwrap().len(), MOST_JUDGED);
}

#[test]
fn what_is_no_certificate_is_refused() {
    for text in [
        &b""[..],
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ] {
        assert!(Authorities::pem(text).is_err());
        assert!(ClientCertificate::pem(text).is_err());
    }
}

#[test]
fn marks_are_brought_into_the_form_that_certificates_are_read_in() {
    let mark = |field, value| CertificateMark::new(field, value, None).map(|mark| mark.value);
    let hash = "AB:".repeat(31) + "AB";

    assert_eq!(
        mark(CertificateField::Fingerprint, &hash),
        Ok("ab".repeat(32))
    );
    assert_eq!(
        mark(CertificateField::Subject, "CN=a, O=b"),
        Ok("CN=a,O=b".to_owned())
    );
    assert_eq!(
        mark(CertificateField::Dns, "A.Test"),
        Ok("a.test".to_owned())
    );
    assert_eq!(
        mark(CertificateField::Email, "A@B.Test"),
        Ok("A@b.test".to_owned())
    );
    assert_eq!(
        mark(CertificateField::Uri, "spiffe://A/b"),
        Ok("spiffe://A/b".to_owned())
    );
    for (field, wrong) in [
        (CertificateField::Fingerprint, "abc"),
        (CertificateField::Subject, "billing"),
        (CertificateField::Issuer, ""),
        (CertificateField::Dns, ""),
        (CertificateField::CommonName, "a\nb"),
    ] {
        assert!(mark(field, wrong).is_err(), "{wrong}");
    }
    assert!(CertificateMark::new(CertificateField::Dns, "a", Some("root")).is_err());
}
