use std::sync::Arc;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use proptest::prelude::*;
use tempfile::TempDir;

use super::wire::{Ask, Join, Joined};
use super::*;
use crate::snapshot::identity::{verify, Bundle, SpiffeId, Trust, TrustDomain};

mod rotation;
mod service;

const WEB: &str = "spiffe://td/ns/shop/sa/web";
const API: &str = "spiffe://td/ns/shop/sa/api";

fn init() -> Init {
    Init {
        trust_domain: TrustDomain::parse("td").unwrap(),
        offline_root: None,
        leaf_seconds: 3600,
        node_seconds: 7200,
        skew_seconds: 60,
        refresh_seconds: 60,
    }
}

fn founded() -> (TempDir, Authority, Root) {
    let folder = TempDir::new().unwrap();
    let root = Authority::init(folder.path(), &init()).unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    (folder, authority, root)
}

fn grant(ids: &[&str]) -> Grant {
    let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
    Grant::new(&ids, &TrustDomain::parse("td").unwrap()).unwrap()
}

#[test]
fn what_stands_in_a_message_is_told_by_nothing() {
    let text = r#"{"token": "windrose-join-0a", "name": "n", "request": "", "trusts": []}"#;
    let join: Join = super::wire::read(text.as_bytes()).unwrap();
    assert_eq!(format!("{join:?}"), "Join(n)");

    let cut = super::wire::read::<Join>(text.replace('}', "").as_bytes());
    let wrong = super::wire::read::<Join>(text.replace("[]", "\"windrose-join-0a\"").as_bytes());

    for told in [cut, wrong].map(|read| read.err().unwrap()) {
        assert!(told.starts_with("not the JSON") && !told.contains("0a"));
    }
}

fn join_with(token: &str, key: &PKey<Private>) -> Join {
    Join {
        token: token.to_owned(),
        name: "node-a".into(),
        request: keys::request(key).unwrap(),
        trusts: Vec::new(),
    }
}

fn ask(id: &str) -> Ask {
    Ask {
        id: id.into(),
        request: keys::request(&keys::generate().unwrap()).unwrap(),
    }
}

/// A node that joined for an ID or a prefix.
fn joined(authority: &Authority, ids: &[&str]) -> (SpiffeId, Joined) {
    let token = authority.make_token(grant(ids), 60).unwrap();
    let joined = authority
        .join(&join_with(&token, &keys::generate().unwrap()))
        .unwrap();
    (SpiffeId::parse(&joined.node).unwrap(), joined)
}

fn chain(pem: &str) -> Vec<X509> {
    X509::stack_from_pem(pem.as_bytes()).unwrap()
}

/// What a peer that trusts these roots makes of a chain.
fn judged(pem: &str, roots: &[X509]) -> Result<String, &'static str> {
    let chain = chain(pem);
    let mut trust = Trust::default();
    trust.bundles.insert(
        TrustDomain::parse("td").unwrap(),
        Arc::new(Bundle::new(roots.to_vec()).unwrap()),
    );
    let mut others = openssl::stack::Stack::new().unwrap();
    chain[1..]
        .iter()
        .for_each(|link| others.push(link.clone()).unwrap());
    let verified = verify(&chain[0], Some(&others), &trust);
    verified
        .map(|verified| verified.id.to_string())
        .map_err(|rejection| rejection.cause.name)
}

#[test]
fn a_node_gets_what_it_joined_for_and_nothing_else() {
    let (_folder, authority, _) = founded();
    let (node, node_cert) = joined(&authority, &[WEB, "spiffe://td/ns/bank/*"]);
    let roots = authority.roots(&authority.state().unwrap()).unwrap();

    for id in [WEB, "spiffe://td/ns/bank/sa/any"] {
        let issued = authority.certificate(&node, &ask(id)).unwrap();
        assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(id));
    }
    assert_eq!(judged(&node_cert.certificate, &roots), Ok(node.to_string()));
    let own = authority.certificate(&node, &ask(node.as_str())).unwrap();
    assert_eq!(judged(&own.certificate, &roots), Ok(node.to_string()));
    for id in [
        API,
        "spiffe://td/windrose/ca",
        "spiffe://other/a",
        "spiffe://td/windrose/node/0123456789abcdef0123456789abcdef",
    ] {
        let refusal = authority.certificate(&node, &ask(id)).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.cause),
            (403, "ca.not_granted"),
            "{id}"
        );
    }
}

#[test]
fn a_token_is_good_once_but_a_lost_answer_can_be_asked_for_again() {
    let (_folder, authority, _) = founded();
    let token = authority.make_token(grant(&[WEB]), 60).unwrap();
    let (mine, thief) = (keys::generate().unwrap(), keys::generate().unwrap());

    let first = authority.join(&join_with(&token, &mine)).unwrap();
    let again = authority.join(&join_with(&token, &mine)).unwrap();
    let stolen = authority.join(&join_with(&token, &thief)).unwrap_err();

    assert_eq!(first.node, again.node);
    assert_eq!((stolen.status, stolen.cause), (403, "ca.token_used"));
    assert_eq!(authority.nodes().unwrap().len(), 1);
    authority.forget("node-a").unwrap();
    let after = authority.join(&join_with(&token, &mine)).unwrap_err();
    assert_eq!(after.cause, "ca.token_unknown");
}

#[test]
fn tokens_expire_and_are_not_on_the_disk() {
    let (folder, authority, _) = founded();
    let token = authority.make_token(grant(&[WEB]), 0).unwrap();

    let late = authority
        .join(&join_with(&token, &keys::generate().unwrap()))
        .unwrap_err();
    let wrong = authority
        .join(&join_with("windrose-join-00", &keys::generate().unwrap()))
        .unwrap_err();

    assert_eq!(
        (late.cause, wrong.cause),
        ("ca.token_expired", "ca.token_unknown")
    );
    for file in std::fs::read_dir(folder.path().join("tokens"))
        .unwrap()
        .flatten()
    {
        assert!(!std::fs::read_to_string(file.path())
            .unwrap()
            .contains(&token[14..]));
    }
}

#[test]
fn requests_prove_their_key_and_keys_are_fresh() {
    let (_folder, authority, _) = founded();
    let (authority, _lock) = Authority::open_to_serve(&authority.folder).unwrap();
    let (node, _) = joined(&authority, &[WEB]);
    let once = ask(WEB);
    authority.certificate(&node, &once).unwrap();

    let twice = authority.certificate(&node, &once).unwrap_err();
    let weak = PKey::from_rsa(openssl::rsa::Rsa::generate(1024).unwrap()).unwrap();
    let weak = Ask {
        id: WEB.into(),
        request: keys::request(&weak).unwrap(),
    };
    let weak = authority.certificate(&node, &weak).unwrap_err();

    assert_eq!((twice.status, twice.cause), (409, "ca.key_reused"));
    assert_eq!((weak.status, weak.cause), (400, "ca.bad_request"));
    let mut der = openssl::x509::X509Req::from_pem(once.request.as_bytes())
        .unwrap()
        .to_der()
        .unwrap();
    *der.last_mut().unwrap() ^= 1;
    let forged = openssl::x509::X509Req::from_der(&der)
        .unwrap()
        .to_pem()
        .unwrap();
    assert!(keys::proven(std::str::from_utf8(&forged).unwrap()).is_err());
    let reopened = authority
        .valid()
        .unwrap()
        .iter()
        .filter(|entry| entry.id == WEB)
        .count();
    assert_eq!(reopened, 1);
}

#[test]
fn who_was_forgotten_or_never_joined_gets_nothing() {
    let (_folder, authority, _) = founded();
    let (node, _) = joined(&authority, &[WEB]);
    authority
        .forget(&node.as_str()[node.as_str().len() - 32..][..8])
        .unwrap();

    for peer in [node.as_str(), WEB, "spiffe://td/windrose/node/../x"] {
        let Ok(peer) = SpiffeId::parse(peer) else {
            continue;
        };
        let refusal = authority.certificate(&peer, &ask(WEB)).unwrap_err();
        assert_eq!((refusal.status, refusal.cause), (403, "ca.node_unknown"));
        assert_eq!(
            authority.sync(&peer, &[]).unwrap_err().cause,
            "ca.node_unknown"
        );
    }
}

proptest! {
    #[test]
    fn no_strangers_request_makes_a_panic_and_none_that_was_changed_is_proven(at in 0usize..2000, flip in 1u8..=255, cut in any::<bool>()) {
        let good = keys::request(&keys::generate().unwrap()).unwrap();
        let mut der = openssl::x509::X509Req::from_pem(good.as_bytes()).unwrap().to_der().unwrap();
        let at = at % der.len();
        if cut { der.truncate(at) } else { der[at] ^= flip }
        let body = openssl::base64::encode_block(&der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");

        prop_assert!(keys::proven(&pem).is_err());
    }

    #[test]
    fn no_text_makes_a_panic(text in "\\PC{0,200}") {
        let _ = (keys::proven(&text), serde_json::from_str::<Join>(&text), serde_json::from_str::<Ask>(&text));
    }
}
