use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;

use super::*;
use crate::testkit::{answered, Exchange, Instance, Kit};

mod claims;
mod hostile;
mod remote;
mod settings;
mod vectors;

/// Somebody who signs.
pub(crate) struct Issuer {
    algorithm: &'static str,
    key: PKey<Private>,
}

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl Issuer {
    pub(crate) fn of(algorithm: &'static str) -> Issuer {
        let curve = |curve| {
            let group = EcGroup::from_curve_name(curve).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        let key = match algorithm {
            "HS256" | "HS384" | "HS512" => PKey::hmac(SECRET.as_bytes()).unwrap(),
            "ES256" => curve(Nid::X9_62_PRIME256V1),
            "ES384" => curve(Nid::SECP384R1),
            "ES512" => curve(Nid::SECP521R1),
            "EdDSA" => PKey::generate_ed25519().unwrap(),
            _ => PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        };
        Issuer { algorithm, key }
    }

    /// The key as settings have it.
    fn setting(&self) -> String {
        match self.algorithm.starts_with("HS") {
            true => format!("{{secret: {SECRET}}}"),
            false => format!("{{pem: {:?}}}", self.pem()),
        }
    }

    /// Signs with a secret.
    pub(crate) fn with_secret(secret: &[u8]) -> Issuer {
        Issuer {
            algorithm: "HS256",
            key: PKey::hmac(secret).unwrap(),
        }
    }

    /// Its public key in a set, under this name.
    pub(crate) fn jwks(&self, kid: &str) -> String {
        let coded = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        let key = match self.key.rsa() {
            Ok(rsa) => {
                let (n, e) = (coded(rsa.n().to_vec()), coded(rsa.e().to_vec()));
                format!(r#""kty":"RSA","n":"{n}","e":"{e}""#)
            }
            Err(_) => {
                let x = coded(self.key.raw_public_key().unwrap());
                format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}""#)
            }
        };
        format!(r#"{{"keys":[{{{key},"kid":"{kid}","use":"sig"}}]}}"#)
    }

    pub(crate) fn pem(&self) -> String {
        String::from_utf8(self.key.public_key_to_pem().unwrap()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let digest = match &self.algorithm[2..] {
            "256" => MessageDigest::sha256(),
            "384" => MessageDigest::sha384(),
            _ => MessageDigest::sha512(),
        };
        if self.algorithm == "EdDSA" {
            let mut signer = Signer::new_without_digest(&self.key).unwrap();
            return signer.sign_oneshot_to_vec(message).unwrap();
        }
        let mut signer = Signer::new(digest, &self.key).unwrap();
        if self.algorithm.starts_with("PS") {
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            let length = RsaPssSaltlen::DIGEST_LENGTH;
            signer.set_rsa_pss_saltlen(length).unwrap();
        }
        let signature = signer.sign_oneshot_to_vec(message).unwrap();
        if !self.algorithm.starts_with("ES") {
            return signature;
        }
        let pair = EcdsaSig::from_der(&signature).unwrap();
        let length = i32::try_from(self.key.bits().div_ceil(8)).unwrap();
        let padded = |number: &openssl::bn::BigNumRef| number.to_vec_padded(length).unwrap();
        [padded(pair.r()), padded(pair.s())].concat()
    }

    /// A token of this header and these claims, whatever they are.
    pub(crate) fn raw(&self, header: &str, claims: &str) -> String {
        let coded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", coded(header), coded(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn token(&self, claims: &str) -> String {
        self.raw(&format!(r#"{{"alg":"{}"}}"#, self.algorithm), claims)
    }
}

/// Claims of a token that is right from 1000 to 2000.
const RIGHT: &str = r#"{"iss":"https://id.test","aud":"orders","sub":"ann","iat":1000,"exp":2000}"#;

fn at(seconds: u64) -> Kit {
    let kit = Kit::new();
    kit.advance(std::time::Duration::from_secs(seconds));
    kit
}

fn config(issuer: &Issuer, more: &str) -> String {
    let key = issuer.setting();
    format!("issuer: https://id.test\naudience: orders\nkeys: [{key}]\n{more}")
}

/// Who a token proves at 1500, or why not.
fn who(plugin: &Instance, token: &str) -> Result<String, &'static str> {
    let mut exchange = Exchange::get("https://shop.test/");
    exchange = exchange.with("authorization", &format!("Bearer {token}"));
    ask(plugin, &mut exchange)
}

fn ask(plugin: &Instance, exchange: &mut Exchange) -> Result<String, &'static str> {
    match plugin.request(exchange) {
        Verdict::Continue => Ok(exchange.principal().map_or(String::new(), Principal::id)),
        verdict => Err(answered(verdict).cause.name),
    }
}

fn ann() -> Result<String, &'static str> {
    Ok("consumer:ann".to_owned())
}

#[test]
fn every_algorithm_is_verified() {
    for algorithm in Algorithm::ALL {
        let issuer = Issuer::of(algorithm.name());
        let plugin = at(1500).instance(&PLUGIN, &config(&issuer, ""));

        let token = issuer.token(RIGHT);
        let changed = token.replacen(&token[token.len() - 12..token.len() - 8], "AAAA", 1);

        assert_eq!(who(&plugin, &token), ann(), "{}", algorithm.name());
        let expected = Err("auth.jwt_signature");
        assert_eq!(who(&plugin, &changed), expected, "{}", algorithm.name());
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
    }
}

#[test]
fn a_token_is_found_in_its_places_and_ends_here() {
    let issuer = Issuer::of("HS256");
    let token = issuer.token(RIGHT);
    let from = "from: [{header: authorization}, {cookie: token}, {query: token}]";
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, from));
    let get = || Exchange::get("https://shop.test/a");

    let mut in_cookie = get().with("cookie", &format!("a=b; token={token}"));
    let mut in_query = Exchange::get(&format!("https://shop.test/a?token={token}&b"));
    assert_eq!(ask(&plugin, &mut in_cookie), ann());
    assert_eq!(ask(&plugin, &mut in_query), ann());
    assert_eq!(ask(&plugin, &mut get()), Err("auth.jwt_missing"));
    let twice = format!("Bearer {token}");
    let mut twice = get()
        .with("authorization", &twice)
        .with("authorization", &twice);
    assert_eq!(ask(&plugin, &mut twice), Err("auth.jwt_malformed"));
    for exchange in [&mut in_cookie, &mut in_query, &mut twice] {
        plugin.upstream_request(exchange);
        let left = format!("{:?} {}", exchange.upstream.headers, exchange.upstream.uri);
        assert!(!left.contains(&token), "{left}");
    }
    let forwarding = format!("{}\nforward_credentials: true", config(&issuer, ""));
    let forwarding = at(1500).instance(&PLUGIN, &forwarding);
    assert!(forwarding.hooks.upstream_request.is_none());
}

#[test]
fn without_a_token_an_optional_one_lets_go_on_unproven() {
    let issuer = Issuer::of("HS256");
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, "optional: true"));

    let none = ask(&plugin, &mut Exchange::get("https://shop.test/"));

    assert_eq!(none, Ok(String::new()));
    assert_eq!(who(&plugin, "x.y.z"), Err("auth.jwt_malformed"));
}

#[test]
fn a_token_is_verified_once_and_forgotten_when_it_is_over() {
    let issuer = Issuer::of("ES256");
    let kit = at(1500);
    let plugin = kit.instance(&PLUGIN, &config(&issuer, "remember: 100"));
    let token = issuer.token(RIGHT);

    let before = [who(&plugin, &token), who(&plugin, &token)];
    assert_eq!((before, kit.counted("verified")), ([ann(), ann()], 1));
    kit.advance(std::time::Duration::from_secs(531));
    assert_eq!(who(&plugin, &token), Err("auth.jwt_expired"));
    // What was wrong is not remembered; what is remembered is bounded.
    assert_eq!(who(&plugin, &token), Err("auth.jwt_expired"));
    assert_eq!(kit.counted("verified"), 3);
    for at in 0..300 {
        let claims = RIGHT
            .replace("\"ann\"", &format!("\"user-{at}\""))
            .replace("2000", "9000");
        assert_eq!(
            who(&plugin, &issuer.token(&claims)),
            Ok(format!("consumer:user-{at}"))
        );
    }
}

#[test]
fn a_dry_run_decides_the_same_counts_and_remembers_nothing() {
    let issuer = Issuer::of("EdDSA");
    let kit = at(1500);
    let plugin = kit.instance(&PLUGIN, &config(&issuer, ""));
    let token = format!("Bearer {}", issuer.token(RIGHT));
    let mut right = Exchange::get("https://shop.test/")
        .with("authorization", &token)
        .dry();

    assert_eq!(ask(&plugin, &mut right), ann());
    let wrong = ask(&plugin, &mut Exchange::get("https://shop.test/").dry());
    assert_eq!(wrong, Err("auth.jwt_missing"));
    assert_eq!((kit.counted("verified"), kit.counted("refused")), (0, 0));
}
