//! Plugins that authenticate with signatures, as a client meets them: through a real listener and route.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{Proxy, Reply, Upstream};

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
