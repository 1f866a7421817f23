//! Plugins that authenticate with signatures, as a client meets them: through a real listener and route.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{Engine, BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::Request;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;

use crate::support::grpc::Client;
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{until, Proxy, Reply, Upstream};

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn token(key: &PKey<Private>, claims: &str) -> String {
    let coded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!(
        "{}.{}",
        coded(br#"{"alg":"EdDSA"}"#),
        coded(claims.as_bytes())
    );
    let mut signer = Signer::new_without_digest(key).unwrap();
    let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    format!("{signed}.{}", coded(&signature))
}

fn why(reply: &Reply) -> (u16, String) {
    (reply.status, reply.why())
}

#[test]
fn a_token_of_the_issuer_proves_a_consumer_and_gives_fields() {
    let service = Upstream::echo();
    let key = PKey::generate_ed25519().unwrap();
    let pem = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    let proxy = Proxy::http(&format!(
        "consumers: [{{name: ann, groups: [staff], subjects: [{{issuer: https://id.test, subject: '4711'}}]}}, {{name: bob, subjects: [{{issuer: https://id.test, subject: '4712'}}]}}]\n{}{ALL_TO_APP}  plugins:\n  - kind: jwt\n    config: {{issuer: https://id.test, audience: orders, keys: [{{pem: {pem:?}}}], consumer: {{by: subject}}, headers: {{x-mail: mail}}}}\n  - {{kind: acl, config: {{allow: {{groups: [staff]}}}}}}\n",
        pool("app", &[&service])
    ));
    let claims = |sub: &str, end: u64| {
        format!(
            r#"{{"iss":"https://id.test","aud":["orders"],"sub":"{sub}","exp":{end},"mail":"ann@shop.test"}}"#
        )
    };
    let ask = |token: &str| {
        let fields = format!("authorization: Bearer {token}\r\nx-mail: forged\r\n");
        proxy.ask("GET", "/", &fields)
    };

    let right = token(&key, &claims("4711", now() + 600));
    let replies = [
        proxy.get("/"),
        ask("a.b"),
        ask(&token(
            &PKey::generate_ed25519().unwrap(),
            &claims("4711", now() + 600),
        )),
        ask(&token(&key, &claims("4711", now() - 600))),
        ask(&token(&key, &claims("4713", now() + 600))),
        ask(&token(&key, &claims("4712", now() + 600))),
        ask(&right),
        ask(&right),
    ];

    let expected = [
        (401, "auth.jwt_missing"),
        (401, "auth.jwt_malformed"),
        (401, "auth.jwt_signature"),
        (401, "auth.jwt_expired"),
        (403, "auth.jwt_consumer"),
        (403, "policy_denied.acl"),
        (200, ""),
        (200, ""),
    ];
    let expected = expected.map(|(status, why)| (status, why.to_owned()));
    assert_eq!(replies.each_ref().map(why), expected);
    assert_eq!(
        replies[3].header("www-authenticate"),
        Some("Bearer realm=\"Restricted\", error=\"invalid_token\", error_description=\"The token has expired\"")
    );
    let seen = service.last();
    assert_eq!(seen.header("x-mail"), Some("ann@shop.test"));
    assert_eq!(seen.header("authorization"), None, "tokens end here");
    proxy.logged(|line| line["principal"] == "consumer:ann" && line["status"] == 200);
    let shown = proxy.admin_reply("/config").text();
    assert!(!shown.contains("PUBLIC KEY"), "{shown}");
}

#[test]
fn a_signed_request_is_let_through_once_and_only_as_it_was_signed() {
    let service = Upstream::echo();
    let secret = "0123456789abcdef0123456789abcdef";
    let proxy = Proxy::http(&format!(
        "consumers: [{{name: ann, signing_keys: [{{id: k1, secret: {secret}}}]}}]\n{}{ALL_TO_APP}  plugins:\n  - {{kind: hmac_auth, config: {{require_nonce: true}}}}\n  - kind: cel\n    config: {{deny: \"request.query == 'x=2'\", allow: \"source.consumer == 'ann' && (request.query == 'x=1' || request.headers['x-nope'] == 'a')\"}}\n",
        pool("app", &[&service])
    ));
    let sign = |target: &str, nonce: &str| {
        let (path, query) = target.split_once('?').unwrap();
        let input = format!(
            "(\"@method\" \"@authority\" \"@path\" \"@query\");created={};keyid=\"k1\";nonce=\"{nonce}\"",
            now()
        );
        let base = format!("\"@method\": GET\n\"@authority\": test\n\"@path\": {path}\n\"@query\": ?{query}\n\"@signature-params\": {input}");
        let key = PKey::hmac(secret.as_bytes()).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        let code = signer.sign_oneshot_to_vec(base.as_bytes()).unwrap();
        let code = BASE64_STANDARD.encode(code);
        format!("signature-input: s={input}\r\nsignature: s=:{code}:\r\n")
    };
    let ask = |target: &str, fields: &str| proxy.ask("GET", target, fields);

    let once = sign("/a?x=1", "n1");
    let replies = [
        proxy.get("/a?x=1"),
        ask("/a?x=2", &once),
        ask("/a?x=1", &once),
        ask("/a?x=1", &once),
        ask("/a?x=2", &sign("/a?x=2", "n2")),
        ask("/a?x=3", &sign("/a?x=3", "n3")),
    ];

    let expected = [
        (401, "auth.signature_missing"),
        (401, "auth.signature_wrong"),
        (200, ""),
        (401, "auth.signature_replayed"),
        (403, "policy_denied.cel"),
        (403, "policy_failed.cel"),
    ];
    let expected = expected.map(|(status, why)| (status, why.to_owned()));
    assert_eq!(replies.each_ref().map(why), expected);
    assert_eq!(service.requests(), 1);
    assert_eq!(service.last().header("signature"), None);
    let shown = proxy.admin_reply("/config").text();
    assert!(!shown.contains(secret), "{shown}");
}

#[tokio::test]
async fn a_body_that_http2_does_not_announce_has_to_be_signed() {
    let service = Upstream::echo();
    let secret = "0123456789abcdef0123456789abcdef";
    let proxy = Proxy::http(&format!(
        "consumers: [{{name: ann, signing_keys: [{{id: k1, secret: {secret}}}]}}]\n{}{ALL_TO_APP}  plugins: [{{kind: hmac_auth}}]\n",
        pool("app", &[&service])
    ));
    let input = format!(
        "(\"@method\" \"@authority\" \"@path\");created={};keyid=\"k1\"",
        now()
    );
    let base = format!(
        "\"@method\": POST\n\"@authority\": test\n\"@path\": /a\n\"@signature-params\": {input}"
    );
    let key = PKey::hmac(secret.as_bytes()).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let code = BASE64_STANDARD.encode(signer.sign_oneshot_to_vec(base.as_bytes()).unwrap());
    let client = Client::connect(proxy.address("web")).await;
    let ask = async |body: &'static str| {
        let request = Request::post("http://test/a")
            .header("signature-input", format!("s={input}"))
            .header("signature", format!("s=:{code}:"));
        let reply = client.ask(request.body(()).unwrap(), body.into()).await;
        reply.unwrap().head.status.as_u16()
    };

    assert_eq!([ask("").await, ask("unsigned").await], [200, 401]);
    assert_eq!(service.requests(), 1);
}

#[test]
fn keys_are_written_down_nowhere_whatever_carries_them() {
    let service = Upstream::echo();
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let proxy = Proxy::http(&format!(
        "consumers: [{{name: ann, keys: [{hash}]}}]\n{}{ALL_TO_APP}  plugins:\n  - {{kind: key_auth, config: {{from: [{{header: x-client}}, {{query: who}}]}}}}\n",
        pool("app", &[&service])
    ));

    let replies = [
        proxy.ask("GET", "/a?b=1&who=hush", ""),
        proxy.ask("GET", "/b?wh%6F=hush", ""),
        proxy.ask("GET", "/c", "x-client: hush\r\n"),
        proxy.ask("GET", "/d?who=foo", ""),
    ];

    assert_eq!(replies.each_ref().map(|it| it.status), [401, 401, 401, 200]);
    let line = proxy.logged(|line| line["path"] == "/a");
    assert_eq!(line["query"], "b=1&who=***");
    let line = proxy.logged(|line| line["path"] == "/b");
    assert_eq!(line["query"], "wh%6F=***");
    let id = replies[2].header("x-request-id").unwrap();
    let record = until("the record", || {
        let found = proxy.admin_reply(&format!("/recorder/{id}"));
        (found.status == 200).then(|| found.text())
    });
    assert!(
        record.contains("x-client") && !record.contains("hush"),
        "{record}"
    );
}

#[test]
fn any_of_several_authentications_lets_in_and_all_challenge() {
    let service = Upstream::echo();
    let key = PKey::generate_ed25519().unwrap();
    let pem = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    // SHA-256 of `foo`.
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let proxy = Proxy::http(&format!(
        "consumers: [{{name: ann, keys: [{hash}]}}]\n{}{ALL_TO_APP}  plugins:\n  - kind: auth\n    config: {{of: [{{kind: jwt, config: {{issuer: any, audience: any, keys: [{{pem: {pem:?}}}]}}}}, {{kind: key_auth}}]}}\n",
        pool("app", &[&service])
    ));
    let right = token(&key, &format!(r#"{{"sub":"bob","exp":{}}}"#, now() + 600));

    let none = proxy.get("/");
    let wrong = proxy.ask("GET", "/", "x-api-key: bar\r\n");
    let by_token = proxy.ask("GET", "/", &format!("authorization: Bearer {right}\r\n"));
    let by_key = proxy.ask(
        "GET",
        "/",
        "x-api-key: foo\r\nauthorization: Bearer a.b\r\n",
    );

    assert_eq!(why(&none), (401, "auth.jwt_missing".to_owned()));
    assert_eq!(why(&wrong), (401, "auth.key_wrong".to_owned()));
    assert_eq!((by_token.status, by_key.status), (200, 200));
    let seen = service.last();
    assert_eq!(
        (seen.header("x-api-key"), seen.header("authorization")),
        (None, None)
    );
    proxy.logged(|line| line["principal"] == "consumer:bob");
    proxy.logged(|line| line["principal"] == "consumer:ann");
}

#[test]
fn requests_of_other_sites_pages_and_programs_are_refused_by_their_plugins() {
    let service = Upstream::answering("ok");
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins:\n  - {{kind: bot_filter, config: {{known: [scanners]}}}}\n  - {{kind: referer, config: {{allow: ['*.shop.test']}}}}\n  - {{kind: csrf, config: {{double_submit: {{cookie: t, header: x-token}}}}}}\n",
        pool("app", &[&service])
    ));
    let post = |fields: &str| proxy.ask("POST", "/", &format!("content-length: 0\r\n{fields}"));
    let token = "cookie: t=0123456789abcdef\r\nx-token: 0123456789abcdef\r\n";

    let replies = [
        proxy.ask("GET", "/", "user-agent: sqlmap/1.8\r\n"),
        proxy.ask("GET", "/", "referer: https://evil.test/\r\n"),
        post("sec-fetch-site: cross-site\r\n"),
        post("sec-fetch-site: same-origin\r\n"),
        post(token),
        proxy.ask(
            "GET",
            "/",
            "referer: https://a.shop.test/\r\nsec-fetch-site: cross-site\r\n",
        ),
    ];

    let expected = [
        (403, "policy_denied.bot"),
        (403, "policy_denied.referer"),
        (403, "csrf.cross_origin"),
        (403, "csrf.token"),
        (200, ""),
        (200, ""),
    ];
    let expected = expected.map(|(status, why)| (status, why.to_owned()));
    assert_eq!(replies.each_ref().map(why), expected);
    assert_eq!(service.requests(), 2);
}

#[test]
fn an_issuers_keys_come_by_url_and_change() {
    let (service, old, new) = (
        Upstream::answering("ok"),
        PKey::generate_ed25519().unwrap(),
        PKey::generate_ed25519().unwrap(),
    );
    let set = |key: &PKey<Private>| {
        let raw = BASE64_URL_SAFE_NO_PAD.encode(key.raw_public_key().unwrap());
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{raw}"}}]}}"#)
    };
    let config = |issuer: &Upstream| {
        format!(
            "listeners: [{{name: web, bind: '127.0.0.1:0'}}]\n{}{ALL_TO_APP}  plugins:\n  - kind: jwt\n    config: {{issuer: https://id.test, audience: orders, jwks: {{url: 'http://{}/keys'}}}}\n",
            pool("app", &[&service]),
            issuer.address
        )
    };
    let claims = format!(
        r#"{{"iss":"https://id.test","aud":"orders","sub":"ann","exp":{}}}"#,
        now() + 600
    );
    let ask = |proxy: &Proxy, key: &PKey<Private>| {
        let token = token(key, &claims);
        why(&proxy.ask("GET", "/", &format!("authorization: Bearer {token}\r\n")))
    };
    let right = (200, String::new());

    let issuer = Upstream::answering(&set(&old));
    let proxy = Proxy::start(&config(&issuer));
    until("keys have come", || {
        (ask(&proxy, &old) == right).then_some(())
    });
    assert_eq!(ask(&proxy, &new), (401, "auth.jwt_signature".to_owned()));
    let next = Upstream::answering(&set(&new));
    proxy.reload(&config(&next));
    until("other keys have come", || {
        (ask(&proxy, &new) == right).then_some(())
    });
    assert_eq!(ask(&proxy, &old), (401, "auth.jwt_signature".to_owned()));
    let nobody = Upstream::refusing();
    proxy.reload(&config(&nobody));
    let failed = (503, "auth.keys_unavailable".to_owned());
    until("nobody is let in without keys", || {
        (ask(&proxy, &new) == failed).then_some(())
    });
}
