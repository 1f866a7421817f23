use std::net::SocketAddr;
use std::sync::Arc;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use proptest::prelude::*;
use tempfile::TempDir;

use super::client::{Anchor, Client, Failure};
use super::wire::{Ask, Join, Joined, Sync};
use super::*;
use crate::snapshot::identity::{verify, Bundle, SpiffeId, Trust, TrustDomain};

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
    let id = verify(&chain[0], Some(&others), &trust);
    id.map(|id| id.to_string())
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

#[test]
fn a_change_of_roots_waits_for_nodes_and_for_leaves() {
    let (_folder, authority, first) = founded();
    let (node, _) = joined(&authority, &[WEB]);
    let old_leaf = authority.certificate(&node, &ask(WEB)).unwrap();
    let old_roots = authority.roots(&authority.state().unwrap()).unwrap();

    let second = authority.begin_rotation(None, None).unwrap();
    assert!(authority
        .begin_rotation(None, None)
        .unwrap_err()
        .contains("under way"));
    let early = authority.switch_rotation().unwrap_err();
    assert!(early.contains("node-a") && early.contains(WEB), "{early}");
    let trusted = authority
        .sync(&node, &[first.hash.clone(), second.hash.clone()])
        .unwrap();
    assert_eq!((trusted.roots.len(), &trusted.issuing), (2, &first.hash));
    assert!(authority.finish_rotation().unwrap_err().contains("switch"));
    authority.switch_rotation().unwrap();
    assert!(authority.abort_rotation().unwrap_err().contains("already"));

    // Who heard of neither root's end believes both.
    let new_leaf = authority
        .certificate(&node, &ask("spiffe://td/ns/shop/sa/web"))
        .unwrap();
    let both = authority.roots(&authority.state().unwrap()).unwrap();
    for (leaf, roots) in [
        (&old_leaf, &both),
        (&new_leaf, &both),
        (&new_leaf, &old_roots),
        (&old_leaf, &old_roots),
    ] {
        assert_eq!(judged(&leaf.certificate, roots).as_deref(), Ok(WEB));
    }
    let held_up = authority.finish_rotation().unwrap_err();
    assert!(
        held_up.contains(node.as_str()) && !held_up.contains(WEB),
        "{held_up}"
    );
    authority.certificate(&node, &ask(node.as_str())).unwrap();
    authority.finish_rotation().unwrap();

    let only = authority.roots(&authority.state().unwrap()).unwrap();
    assert_eq!(judged(&new_leaf.certificate, &only).as_deref(), Ok(WEB));
    assert_eq!(judged(&old_leaf.certificate, &only), Err("mtls.untrusted"));
    assert!(!state::root_key_path(&authority.folder, first.number).exists());
    let after = authority.certificate(&node, &ask(WEB)).unwrap();
    assert_eq!(chain(&after.certificate).len(), 2);
}

#[test]
fn a_change_can_be_aborted_before_it_issues() {
    let (_folder, authority, first) = founded();
    authority.begin_rotation(None, None).unwrap();
    authority.abort_rotation().unwrap();

    let state = authority.state().unwrap();
    assert_eq!(
        (state.roots.len(), state.issuing, state.sequence),
        (1, first.number, 3)
    );
    authority.begin_rotation(None, None).unwrap();
}

#[test]
fn a_root_that_was_moved_away_is_asked_for_when_it_is_needed() {
    let folder = TempDir::new().unwrap();
    let away = folder.path().join("safe");
    let authority_folder = folder.path().join("ca");
    Authority::init(
        &authority_folder,
        &Init {
            offline_root: Some(away.clone()),
            ..init()
        },
    )
    .unwrap();
    let authority = Authority::open(&authority_folder).unwrap();
    let key = folder.path().join("elsewhere.key");
    std::fs::rename(away.join("root-1.key"), &key).unwrap();
    let (node, _) = joined(&authority, &[WEB]);

    authority.certificate(&node, &ask(WEB)).unwrap();
    let problem = authority.begin_rotation(None, None).unwrap_err();
    assert!(problem.contains("--root-key"), "{problem}");
    assert!(authority.renew_issuer_with(None).is_err());
    authority.renew_issuer_with(Some(&key)).unwrap();
    let begun = authority.begin_rotation(Some(&key), Some(&away)).unwrap();

    assert!(away.join("root-2.key").exists());
    let other = state::Issuer::read(&authority_folder, begun.number).unwrap();
    assert_eq!(other.chain.len(), 2);
    let wrong = authority
        .renew_issuer_with(Some(&away.join("root-2.key")))
        .unwrap_err();
    assert!(wrong.contains("is not the key of root 1"), "{wrong}");
}

#[test]
fn issuers_cannot_name_another_trust_domain() {
    let (folder, authority, _) = founded();
    let issuer = state::Issuer::read(folder.path(), 1).unwrap();
    let by = certify::Signer {
        cert: &issuer.chain[0],
        key: &issuer.key,
    };
    let now = unix_now();
    let span = certify::Span {
        from: now - 10,
        until: now + 100,
    };
    let key = keys::generate().unwrap();
    let forged = certify::leaf("spiffe://other/web", &key, by, span).unwrap();
    let roots = authority.roots(&authority.state().unwrap()).unwrap();
    let mut trust = Trust::default();
    // Even where the root is believed for the other domain as well.
    trust.bundles.insert(
        TrustDomain::parse("other").unwrap(),
        Arc::new(Bundle::new(roots).unwrap()),
    );
    let mut others = openssl::stack::Stack::new().unwrap();
    others.push(issuer.chain[0].clone()).unwrap();

    let rejection = verify(&forged, Some(&others), &trust).unwrap_err();

    assert_eq!(rejection.cause.name, "mtls.constraint");
}

#[test]
fn files_are_private_and_an_authority_is_not_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, authority, _) = founded();
    let (key, _) = (
        keys::generate().unwrap(),
        authority.make_token(grant(&[WEB]), 60).unwrap(),
    );
    let _ = key;

    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
            assert_eq!(mode, 0, "{}", entry.path().display());
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert!(Authority::init(folder.path(), &init())
        .unwrap_err()
        .contains("already"));
}

#[test]
fn an_issuer_that_ends_soon_is_renewed_where_the_roots_key_is() {
    let (folder, authority, _) = founded();
    let (node, _) = joined(&authority, &[WEB]);
    let root = state::root_cert(folder.path(), 1).unwrap();
    let root_key = state::key_at(&state::root_key_path(folder.path(), 1)).unwrap();
    let by = certify::Signer {
        cert: &root,
        key: &root_key,
    };
    let now = unix_now();
    let put = |until: u64| {
        let key = keys::generate().unwrap();
        let span = certify::Span {
            from: now - 10,
            until,
        };
        let cert = certify::issuer("td", 1, &key, by, span).unwrap();
        let issuer = state::Issuer {
            chain: vec![cert],
            key,
        };
        issuer.write(folder.path(), 1).unwrap();
    };
    let ends = || {
        authority
            .issuer_ends(&authority.state().unwrap())
            .unwrap()
            .0
    };

    put(now + 100);
    let roots = authority.roots(&authority.state().unwrap()).unwrap();
    let issued = authority.certificate(&node, &ask(WEB)).unwrap();
    assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(WEB));
    assert!(ends() > now + 80 * 86_400);

    std::fs::remove_file(state::root_key_path(folder.path(), 1)).unwrap();
    put(now + 100);
    let short = authority.certificate(&node, &ask(WEB)).unwrap();
    assert_eq!(
        certify::ends(&chain(&short.certificate)[0]).unwrap(),
        now + 100
    );
    put(now - 1);
    let refusal = authority.certificate(&node, &ask(WEB)).unwrap_err();
    assert_eq!((refusal.status, refusal.cause), (503, "ca.issuer_expired"));
}

#[test]
fn certificates_by_hand_hold_a_change_up_until_each_of_them_ends() {
    let (_folder, authority, _) = founded();
    let id = SpiffeId::parse(WEB).unwrap();
    // On two hosts.
    authority.issue(&id, Some(3600)).unwrap();
    authority.issue(&id, Some(1)).unwrap();
    authority.begin_rotation(None, None).unwrap();
    authority.switch_rotation().unwrap();
    // On one of them it is replaced.
    authority.issue(&id, Some(3600)).unwrap();

    let held_up = authority.finish_rotation().unwrap_err();

    assert!(held_up.contains(WEB), "{held_up}");
}

#[test]
fn a_change_that_is_killed_between_two_writes_goes_on() {
    let (folder, authority, first) = founded();
    let state = folder.path().join("ca.json");
    let (node, _) = joined(&authority, &[WEB]);
    // Each act is done, and then the last write of it undone, which is what a kill before it leaves.
    let again = |act: &dyn Fn() -> Result<(), String>| {
        let before = std::fs::read(&state).unwrap();
        act().unwrap();
        std::fs::write(&state, before).unwrap();
        let issued = authority.certificate(&node, &ask(WEB)).unwrap();
        let roots = authority.roots(&authority.state().unwrap()).unwrap();
        assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(WEB));
        act().unwrap();
    };

    again(&|| authority.begin_rotation(None, None).map(drop));
    let second = authority.state().unwrap().roots[1].hash.clone();
    authority.sync(&node, &[first.hash, second]).unwrap();
    again(&|| authority.switch_rotation());
    authority.certificate(&node, &ask(WEB)).unwrap();
    authority.certificate(&node, &ask(node.as_str())).unwrap();
    // Finishing writes first and tidies then: here it is killed before it tidied.
    let crossed = std::fs::read(state::Issuer::path(folder.path(), 2)).unwrap();
    authority.finish_rotation().unwrap();
    std::fs::write(state::Issuer::path(folder.path(), 2), crossed).unwrap();
    let with_cross = authority.certificate(&node, &ask(WEB)).unwrap();
    authority.begin_rotation(None, None).unwrap();
    let without = authority.certificate(&node, &ask(WEB)).unwrap();

    assert_eq!(chain(&with_cross.certificate).len(), 3);
    assert_eq!(chain(&without.certificate).len(), 2);
    let roots = authority.roots(&authority.state().unwrap()).unwrap();
    for issued in [with_cross, without] {
        assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(WEB));
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

/// An authority that serves in this process.
async fn served(folder: &std::path::Path) -> SocketAddr {
    let serving = serve(folder, ([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = serving.address().unwrap();
    tokio::spawn(serving.until(std::future::pending()));
    address
}

fn client(address: SocketAddr, anchor: Anchor) -> Client {
    Client {
        address: address.to_string(),
        domain: TrustDomain::parse("td").unwrap(),
        anchor,
        own: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_and_renews_over_the_wire() {
    let (folder, authority, root) = founded();
    let address = served(folder.path()).await;
    let token = authority.make_token(grant(&[WEB]), 60).unwrap();
    let key = keys::generate().unwrap();
    let mut client = client(address, Anchor::Pinned(root.hash.clone()));

    let joined = client.join(&join_with(&token, &key)).await.unwrap();
    let unproven = client.certificate(&ask(WEB)).await.unwrap_err();
    let roots = joined
        .bundle
        .roots
        .iter()
        .flat_map(|pem| chain(pem))
        .collect();
    client.anchor = Anchor::Roots(Arc::new(Bundle::new(roots).unwrap()));
    client.own = Some((chain(&joined.certificate), key));
    let issued = client.certificate(&ask(WEB)).await.unwrap();
    let synced = client
        .sync(&Sync {
            trusts: vec![root.hash.clone()],
        })
        .await
        .unwrap();

    assert!(matches!(unproven, Failure::Refused { cause, .. } if cause == "ca.no_certificate"));
    assert_eq!(chain(&issued.certificate).len(), 2);
    assert_eq!(synced, joined.bundle);
    assert_eq!(authority.nodes().unwrap()[0].trusts, [root.hash]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_root_hears_no_token() {
    let (folder, authority, _) = founded();
    let address = served(folder.path()).await;
    let token = authority.make_token(grant(&[WEB]), 60).unwrap();
    let (_elsewhere, _, other) = founded();

    let failure = client(address, Anchor::Pinned(other.hash))
        .join(&join_with(&token, &keys::generate().unwrap()))
        .await
        .unwrap_err();

    assert!(matches!(failure, Failure::Unreachable(problem) if problem.contains("pinned hash")));
    assert_eq!(authority.tokens().unwrap()[0].used, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_cannot_pass_for_the_authority_nor_call_as_a_node() {
    let (folder, authority, root) = founded();
    let address = served(folder.path()).await;
    let (chain_text, key) = authority
        .issue(&SpiffeId::parse(WEB).unwrap(), None)
        .unwrap();
    let key = PKey::private_key_from_pem(&key).unwrap();
    let mut client = client(address, Anchor::Pinned(root.hash));
    client.own = Some((chain(&chain_text), key));

    let failure = client.certificate(&ask(WEB)).await.unwrap_err();

    assert!(matches!(failure, Failure::Refused { cause, .. } if cause == "ca.node_unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_not_known_or_too_many_are_refused_by_name() {
    let (folder, _, root) = founded();
    let address = served(folder.path()).await;
    let client = client(address, Anchor::Pinned(root.hash));
    let wrong = join_with("windrose-join-00", &keys::generate().unwrap());

    let unknown = client
        .post::<serde_json::Value>("/v1/none", &wrong)
        .await
        .unwrap_err();
    let mut causes = Vec::new();
    for _ in 0..40 {
        let Err(Failure::Refused { cause, .. }) = client.join(&wrong).await else {
            panic!("it is refused");
        };
        causes.push(cause);
    }

    assert!(matches!(unknown, Failure::Refused { cause, .. } if cause == "ca.no_such_call"));
    assert!(causes[..20].iter().all(|cause| cause == "ca.token_unknown"));
    assert!(causes[20..].iter().any(|cause| cause == "ca.rate_limited"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_usable_issuer_it_starts_and_says_so() {
    let (folder, authority, root) = founded();
    let certificate = state::root_cert(folder.path(), 1).unwrap();
    let path = state::root_key_path(folder.path(), 1);
    let root_key = state::key_at(&path).unwrap();
    let by = certify::Signer {
        cert: &certificate,
        key: &root_key,
    };
    let key = keys::generate().unwrap();
    let span = certify::Span {
        from: unix_now() - 10,
        until: unix_now() - 1,
    };
    let chain = vec![certify::issuer("td", 1, &key, by, span).unwrap()];
    let ended = state::Issuer { chain, key };
    ended.write(folder.path(), 1).unwrap();
    std::fs::rename(&path, folder.path().join("away.key")).unwrap();

    let serving = serve(folder.path(), ([127, 0, 0, 1], 0).into())
        .await
        .expect("it starts");
    let address = serving.address().unwrap();
    tokio::spawn(serving.until(std::future::pending()));
    let told = tokio::task::spawn_blocking(move || health(address))
        .await
        .unwrap();
    let failure = client(address, Anchor::Pinned(root.hash))
        .join(&join_with("x", &keys::generate().unwrap()))
        .await
        .unwrap_err();

    assert!(
        told.starts_with("HTTP/1.1 503 ") && told.contains("ca.issuer_expired"),
        "{told}"
    );
    // Nobody believes it.
    assert!(matches!(failure, Failure::Unreachable(problem) if problem.contains("refused")));
    authority
        .renew_issuer_with(Some(&folder.path().join("away.key")))
        .unwrap();
}

/// What somebody hears who asks for its health and believes anyone.
fn health(address: SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut connector =
        openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls()).unwrap();
    connector.set_verify(openssl::ssl::SslVerifyMode::NONE);
    let stream = std::net::TcpStream::connect(address).unwrap();
    let mut stream = connector.build().connect("ca", stream).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: ca\r\n\r\n")
        .unwrap();
    let mut told = String::new();
    // Strangers get one answer, and then the end.
    let _ = stream.read_to_string(&mut told);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn one_folder_is_served_by_one_process() {
    let (folder, _, _) = founded();
    let _address = served(folder.path()).await;

    let second = serve(folder.path(), ([127, 0, 0, 1], 0).into())
        .await
        .err()
        .unwrap();

    assert!(second.contains("another process"));
}
