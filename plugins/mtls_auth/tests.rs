use std::time::Duration;

use super::*;
use crate::contract::{CertificateMark, Credential, PrincipalKind};
use crate::testkit::{answered, field, fields, Authority, Exchange, Instance, Kit};

fn mark(field: CertificateField, value: &str, issuer: Option<&str>) -> Credential {
    Credential::Certificate(CertificateMark::new(field, value, issuer).unwrap())
}

fn consumer(name: &str) -> Consumer {
    Consumer {
        name: name.to_owned(),
        ..Consumer::default()
    }
}

/// `ann` by a name of a host, `bob` by his address, at one issuer only, `eve` by the other issuer.
fn kit() -> Kit {
    Kit::new()
        .with_consumer(
            consumer("ann"),
            [
                mark(CertificateField::Dns, "ann.example", None),
                mark(CertificateField::Subject, "CN=ann, O=Example", None),
            ],
        )
        .with_consumer(
            consumer("bob"),
            [mark(
                CertificateField::Email,
                "bob@example.com",
                Some("CN=root"),
            )],
        )
        .with_consumer(
            consumer("eve"),
            [mark(CertificateField::Issuer, "CN=other", None)],
        )
        .with_consumer(consumer("plain"), [])
}

fn who(plugin: &Instance, exchange: Exchange) -> Result<String, &'static str> {
    let mut exchange = exchange;
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(exchange.principal().map_or(String::new(), Principal::id)),
        Verdict::Unknown(_) => Err("unknown"),
        verdict => Err(answered(verdict).cause.name),
    }
}

fn get() -> Exchange {
    Exchange::get("https://shop.test/")
}

fn showing(certificate: &Arc<ClientCertificate>) -> Exchange {
    get().with_certificate(certificate.clone())
}

#[test]
fn consumers_are_known_by_what_their_certificates_say() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let plugin = kit().instance(&PLUGIN, "{}");
    let of = |authority: &Authority, subject: &[(&str, &str)], names: &[&str]| {
        who(&plugin, showing(&authority.issue(subject, names)))
    };
    let known = |name: &str| Ok(format!("consumer:{name}"));

    assert_eq!(
        of(&root, &[], &["dns:x.example", "dns:ANN.example"]),
        known("ann")
    );
    assert_eq!(
        of(&root, &[("O", "Example"), ("CN", "ann")], &[]),
        known("ann")
    );
    assert_eq!(
        of(&root, &[("CN", "x")], &["email:bob@EXAMPLE.com"]),
        known("bob")
    );
    assert_eq!(of(&other, &[("CN", "whoever")], &[]), known("eve"));
    assert_eq!(of(&root, &[("CN", "ann")], &[]), Err("auth.mtls_consumer"));
    let elsewhere = Authority::root("third").issue(&[], &["email:bob@example.com"]);
    assert_eq!(who(&plugin, showing(&elsewhere)), Err("auth.mtls_consumer"));
    let forged = root.issue(&[("CN", "ann,O=Example")], &[]);
    assert_eq!(who(&plugin, showing(&forged)), Err("auth.mtls_consumer"));
}

#[test]
fn the_kind_that_is_named_first_decides() {
    let root = Authority::root("root");
    let names = ["dns:ann.example", "email:bob@example.com"];
    let both = root.issue(&[("CN", "x")], &names);
    let with = |config: &str| who(&kit().instance(&PLUGIN, config), showing(&both));

    assert_eq!(with("{}"), Ok("consumer:ann".to_owned()));
    assert_eq!(with("by: [email, dns]"), Ok("consumer:bob".to_owned()));
    assert_eq!(with("by: [subject]"), Err("auth.mtls_consumer"));
}

#[test]
fn names_of_several_consumers_prove_none() {
    let two = [mark(CertificateField::Dns, "bob.example", None)];
    let kit = kit().with_consumer(consumer("bob2"), two);
    let plugin = kit.instance(&PLUGIN, "{}");
    let names = ["dns:ann.example", "dns:bob.example"];
    let ambiguous = Authority::root("root").issue(&[], &names);

    let refused = plugin.request(&mut showing(&ambiguous));

    let refused = answered(refused);
    assert_eq!(
        (refused.status, refused.cause.name),
        (403, "auth.mtls_ambiguous")
    );
}

#[test]
fn without_a_certificate_nobody_is_let_in_unless_that_is_meant() {
    let required = kit().instance(&PLUGIN, "{}");
    let optional = kit().instance(&PLUGIN, "optional: true");
    let wrong = Authority::root("root").issue(&[("CN", "x")], &[]);

    let refused = answered(required.request(&mut get()));
    assert_eq!(
        (refused.status, refused.cause.name),
        (401, "auth.mtls_missing")
    );
    let challenge = field(&refused, "www-authenticate");
    assert_eq!(challenge, Some("Certificate realm=\"Restricted\""));
    assert_eq!(who(&optional, get()), Ok(String::new()));
    assert_eq!(who(&optional, showing(&wrong)), Err("auth.mtls_consumer"));
    assert_eq!(who(&required, get().dry()), Err("unknown"));
    assert_eq!(who(&optional, get().dry()), Err("unknown"));
}

#[test]
fn only_authorities_of_the_plugin_count_where_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    std::fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
    let kit = kit().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "ca: root.pem");
    let names = ["dns:ann.example"];

    assert_eq!(
        who(&plugin, showing(&root.issue(&[], &names))),
        Ok("consumer:ann".to_owned())
    );
    let below = root.below("middle").issue(&[], &names);
    assert_eq!(who(&plugin, showing(&below)), Ok("consumer:ann".to_owned()));
    assert_eq!(
        who(&plugin, showing(&other.issue(&[], &names))),
        Err("auth.mtls_untrusted")
    );
    assert_eq!(kit.counted("refused"), 1);
}

#[test]
fn a_certificate_that_ended_meanwhile_is_refused() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "{}");
    let certificate = Authority::root("root").issue(&[], &["dns:ann.example"]);
    let end = u64::try_from(certificate.facts().not_after).unwrap();

    kit.advance(Duration::from_secs(end));
    assert_eq!(
        who(&plugin, showing(&certificate)),
        Ok("consumer:ann".to_owned())
    );
    kit.advance(Duration::from_secs(1));
    assert_eq!(
        who(&plugin, showing(&certificate)),
        Err("auth.mtls_expired")
    );
}

#[test]
fn a_name_or_nobody_may_do_where_that_is_meant() {
    let named = kit().instance(&PLUGIN, "name: common_name");
    let passing = kit().instance(&PLUGIN, "unknown: pass");
    let root = Authority::root("root");
    let (plain, nobody) = (
        root.issue(&[("CN", "plain")], &[]),
        root.issue(&[("CN", "x")], &[]),
    );
    let connection = || Principal::new(PrincipalKind::Certificate, "x");

    assert_eq!(
        who(&named, showing(&plain)),
        Ok("consumer:plain".to_owned())
    );
    assert_eq!(who(&named, showing(&nobody)), Err("auth.mtls_consumer"));
    let passed = who(&passing, showing(&nobody).proven(connection()));
    assert_eq!(passed, Ok("certificate:x".to_owned()));
}

#[test]
fn the_service_gets_what_the_certificate_says_and_nothing_of_the_client() {
    let config = "headers: {x-subject: subject, x-mail: emails, x-uri: uris, client-cert: der}";
    let plugin = kit().instance(&PLUGIN, config);
    let names = ["dns:ann.example", "email:a@x.test", "email:b@x.test"];
    let certificate = Authority::root("root").issue(&[("CN", "\u{e4}%")], &names);
    let forging = |exchange: Exchange| {
        let exchange = exchange
            .with("x-subject", "CN=admin")
            .with("x_mail", "root@x.test");
        exchange.with("x-uri", "spiffe://admin")
    };
    let mut exchange = forging(showing(&certificate));

    assert!(matches!(plugin.request(&mut exchange), Verdict::Continue));
    plugin.upstream_request(&mut exchange);

    let sent = &exchange.upstream.headers;
    assert_eq!(fields(sent, "x-subject"), ["CN=%C3%A4%25"]);
    assert_eq!(fields(sent, "x-mail"), ["a@x.test,b@x.test"]);
    assert!(fields(sent, "x-uri").is_empty() && fields(sent, "x_mail").is_empty());
    let der = BASE64.encode(certificate.der());
    assert_eq!(fields(sent, "client-cert"), [format!(":{der}:")]);
    let optional = kit().instance(&PLUGIN, &format!("{config}\noptional: true"));
    let mut without = forging(get());
    assert!(matches!(optional.request(&mut without), Verdict::Continue));
    optional.upstream_request(&mut without);
    assert!(fields(&without.upstream.headers, "x-subject").is_empty());
}

use base64::prelude::{Engine, BASE64_STANDARD as BASE64};

#[test]
fn settings_without_effect_or_sense_are_problems() {
    let paths = |config: &str| kit().problem_paths(&PLUGIN, config);

    assert_eq!(paths("by: [dns, dns]"), ["by[1]"]);
    assert_eq!(paths("name: fingerprint"), ["name"]);
    assert_eq!(paths("ca: missing.pem"), ["ca[0]"]);
    assert_eq!(
        paths("headers: {host: subject, a b: subject}"),
        ["headers.a b", "headers.host"]
    );
    assert_eq!(paths("realm: \"a\\nb\""), ["realm"]);
    let many: Vec<String> = (0..17).map(|at| format!("x-{at}: subject")).collect();
    assert_eq!(
        paths(&format!("headers: {{{}}}", many.join(", "))),
        ["headers"]
    );
    let many = vec!["a"; 17].join(", ");
    assert_eq!(paths(&format!("ca: [{many}]")), ["ca"]);
    let nobody = Kit::new();
    assert_eq!(nobody.problem_paths(&PLUGIN, "{}"), [""]);
    assert!(nobody.problem_paths(&PLUGIN, "unknown: pass").is_empty());
    assert!(nobody.problem_paths(&PLUGIN, "name: dns").is_empty());
}

#[test]
fn only_the_listener_knows_whether_certificates_are_asked_for() {
    let nested = "of: [{kind: mtls_auth}, {kind: key_auth}]";
    let key = Credential::Key(crate::contract::key_hash(b"k"));
    let kit = kit().with_consumer(consumer("key"), [key]);

    assert!(kit.instance(&PLUGIN, "{}").hooks.client_certificates);
    let auth = kit.instance(&crate::auth::PLUGIN, nested);
    assert!(auth.hooks.client_certificates);
    let ann = Authority::root("root").issue(&[], &["dns:ann.example"]);
    assert_eq!(who(&auth, showing(&ann)), Ok("consumer:ann".to_owned()));
    assert_eq!(who(&auth, get()), Err("auth.mtls_missing"));
}
