//! Callers who prove who they are, each in the way one plugin wants.
//! Keys and tokens must be made before turns are counted, and mean nothing anywhere else.
//! Part of the scenes.

use std::time::Duration;

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine as _;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use serde_json::json;
use sha2::{Digest, Sha256};
use windrose_plugins::contract::Verdict;
use windrose_plugins::testkit::{field, fields, reply, Authority, Exchange, Instance};

use crate::bodies;
use crate::scenes::{get, has, post};
use crate::stage::Stage;

pub(crate) fn set(mut stage: Stage, what: &str) -> Stage {
    stage.works = |_, done| done.exchange.principal().is_some();
    match stage.plugin.kind {
        "basic_auth" => basic(stage),
        "hmac_auth" => signed(stage, what),
        "jwt" => {
            // RFC 7515, appendix A.1.
            stage.settings = format!("issuer: joe\naudience: any\nconsumer: {{claim: iss}}\nkeys: [{{jwk: {{kty: oct, k: {SECRET}}}}}]");
            stage.request = Box::new(|| get().with("authorization", TOKEN));
            stage
        }
        "mtls_auth" => {
            let authority = Authority::root("clients");
            let certificate =
                authority.issue(&[("O", "Example"), ("CN", "ann")], &["dns:ann.example"]);
            stage.request = Box::new(move || get().with_certificate(certificate.clone()));
            stage
        }
        "oidc" => session(stage),
        _ => {
            stage.request = Box::new(|| get().with("x-api-key", "an example"));
            stage
        }
    }
}

/// The password is verified once, by the cheapest bcrypt there is: the number has nothing of it, whatever the hash.
fn basic(mut stage: Stage) -> Stage {
    let hash = bcrypt::hash("secret", 4).unwrap_or_default();
    stage.settings = format!("users: {{ann: '{hash}'}}");
    let field = format!("Basic {}", STANDARD.encode("ann:secret"));
    stage.request = Box::new(move || get().with("authorization", &field));
    stage
}

/// As RFC 9421 has it, with the key of the kit's consumer; the body by its digest.
fn signed(mut stage: Stage, what: &str) -> Stage {
    stage.kit.advance(Duration::from_secs(1000));
    stage.settings = "cover: ['@method', '@authority', '@path', '@query']\nmax_age: 2m".to_owned();
    let body = bodies::order();
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&body)));
    let is_post = what == "body";
    let mut lines = vec![
        ("\"@method\"", if is_post { "POST" } else { "GET" }),
        ("\"@authority\"", "api.example.com"),
        ("\"@path\"", "/api/orders/4711"),
        ("\"@query\"", "?limit=20&sort=date"),
    ];
    if is_post {
        lines.push(("\"content-digest\"", &digest));
        stage.sent = Some(body);
    }
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    let input = format!("({});created=1000;keyid=\"ann\"", names.join(" "));
    let base: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    let base = format!("{base}\"@signature-params\": {input}");
    let key = PKey::hmac(b"an example, known to both sides.").expect("any bytes are a key");
    let code = STANDARD.encode(sign(Some(MessageDigest::sha256()), &key, base.as_bytes()));
    stage.request = Box::new(move || {
        let request = match is_post {
            true => post().with("content-digest", &digest),
            false => get(),
        };
        let request = request.with("signature-input", &format!("s={input}"));
        request.with("signature", &format!("s=:{code}:"))
    });
    stage
}

/// A browser that has logged in.
fn session(mut stage: Stage) -> Stage {
    let kit = &stage.kit;
    kit.advance(Duration::from_secs(1_000_000));
    let key = PKey::generate_ed25519().expect("a key can be made");
    let x = URL_SAFE_NO_PAD.encode(key.raw_public_key().unwrap_or_default());
    let keys =
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1", "use": "sig"}]});
    let description = json!({"issuer": ISSUER, "authorization_endpoint": format!("{ISSUER}/auth"), "token_endpoint": format!("{ISSUER}/token"),
        "jwks_uri": format!("{ISSUER}/keys")});
    let says = |path: &str, body: String| {
        kit.answer(&format!("{ISSUER}{path}"), Ok(reply(200, &[], body)))
    };
    says("/.well-known/openid-configuration", description.to_string());
    says("/keys", keys.to_string());
    stage.settings.push_str("\nalgorithms: [EdDSA]");
    let plugin = kit.instance(stage.plugin, &stage.settings);
    let _task = kit.task(&plugin, "provider");

    let (away, login) = visit(&plugin, page("/page"));
    let parameter = |name: &str| {
        let query = away.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(one, _)| *one == name)
            .map_or("", |(_, value)| value)
            .to_owned()
    };
    let claims = json!({"iss": ISSUER, "aud": "shop", "sub": "ann", "email": "ann@example.com", "iat": 1_000_000, "exp": 1_000_300,
        "nonce": parameter("nonce")});
    let identity = token(&key, &claims.to_string());
    says("/token", json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt-1", "id_token": identity}).to_string());
    let back = format!("/oauth2/callback?state={}&code=c-1", parameter("state"));
    let (_, session) = visit(&plugin, page(&back).with("cookie", &login));

    stage.request = Box::new(move || page("/page").with("cookie", &session));
    stage.works = |_, done| has(&done.exchange.upstream.headers, "x-user");
    stage
}

fn page(target: &str) -> Exchange {
    Exchange::get(&format!("https://shop.example.com{target}"))
        .with("accept", "text/html,*/*")
        .with("sec-fetch-mode", "navigate")
}

/// Where a browser is sent, and with which cookies.
fn visit(plugin: &Instance, mut exchange: Exchange) -> (String, String) {
    let Verdict::Answer(answer) = plugin.request(&mut exchange) else {
        return (String::new(), String::new());
    };
    exchange.answer(&answer);
    plugin.response(&mut exchange);
    let set = fields(&exchange.response.headers, "set-cookie").into_iter();
    let kept = set.filter(|field| !field.contains("Max-Age=0;"));
    let pairs: Vec<&str> = kept.filter_map(|field| field.split(';').next()).collect();
    let place = field(&answer, "location").unwrap_or_default();
    (place.to_owned(), pairs.join("; "))
}

fn token(key: &PKey<Private>, claims: &str) -> String {
    let coded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        coded(r#"{"alg":"EdDSA","kid":"k1"}"#),
        coded(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(sign(None, key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn sign(digest: Option<MessageDigest>, key: &PKey<Private>, text: &[u8]) -> Vec<u8> {
    let signer = match digest {
        Some(digest) => Signer::new(digest, key),
        None => Signer::new_without_digest(key),
    };
    let signature = signer.and_then(|mut signer| signer.sign_oneshot_to_vec(text));
    signature.expect("the key is one for this")
}

const ISSUER: &str = "https://id.example.com";
const SECRET: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const TOKEN: &str = "Bearer eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
