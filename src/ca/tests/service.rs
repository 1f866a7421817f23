use std::net::SocketAddr;

use super::*;
use crate::ca::client::{Anchor, Client, Failure};
use crate::ca::wire::Sync;

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
        clock: None,
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
