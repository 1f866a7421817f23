//! Who the proxy is at the provider, and how it proves that (OpenID Connect Core section 9).
//! It must not know what it asks for; secrets and keys are never shown.
//! Dresses every call to the token endpoint.

use std::time::Duration;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::prelude::{Engine, BASE64_STANDARD};
use http::header::{ACCEPT, AUTHORIZATION};
use http::HeaderValue;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;
use serde_json::json;

use super::sealed::random_text;
use super::settings::{self, ClientProof};
use crate::contract::{Call, Caller, Problem};
use crate::query::encoded;

/// The proxy as a client of the provider.
pub(super) struct Client {
    pub(super) id: String,
    proof: Proof,
}

enum Proof {
    Nothing,
    Basic(HeaderValue),
    /// The secret, encoded.
    Post(String),
    Signed(Signing),
}

/// A private key, and how it signs.
struct Signing {
    key: PKey<Private>,
    key_id: Option<String>,
    algorithm: &'static str,
}

impl Client {
    pub(super) fn of(settings: &settings::Client, problems: &mut Vec<Problem>) -> Option<Client> {
        if settings.id.is_empty() {
            let problem = Problem::at("client.id", "is empty");
            problems.push(problem.help("write what the provider knows the proxy by"));
        }
        match Proof::of(settings) {
            Ok(proof) => Some(Client {
                id: settings.id.clone(),
                proof,
            }),
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    /// A call with these parameters, each encoded and joined. `None` where the system gives no random numbers.
    pub(super) fn dress(
        &self,
        caller: &Caller,
        mut form: String,
        audience: &str,
        now: Duration,
    ) -> Option<Call> {
        let id = encoded(&self.id);
        match &self.proof {
            Proof::Basic(_) => {}
            Proof::Nothing => form.push_str(&format!("&client_id={id}")),
            Proof::Post(secret) => {
                form.push_str(&format!("&client_id={id}&client_secret={secret}"));
            }
            Proof::Signed(signing) => {
                let proof = signing.proof(&self.id, audience, now)?;
                form.push_str(&format!(
                    "&client_id={id}&client_assertion_type={ASSERTION}&client_assertion={proof}"
                ));
            }
        }
        let call = caller.post("application/x-www-form-urlencoded", form);
        let call = call.with(ACCEPT, HeaderValue::from_static("application/json"));
        Some(match &self.proof {
            Proof::Basic(value) => call.with(AUTHORIZATION, value.clone()),
            Proof::Nothing | Proof::Post(_) | Proof::Signed(_) => call,
        })
    }
}

impl Proof {
    fn of(settings: &settings::Client) -> Result<Proof, Problem> {
        let (secret, key) = (settings.secret.as_deref(), settings.private_key.as_deref());
        let usual = match (secret, key) {
            (Some(_), _) => ClientProof::Basic,
            (None, Some(_)) => ClientProof::PrivateKeyJwt,
            (None, None) => ClientProof::None,
        };
        let send = settings.send.unwrap_or(usual);
        let unused = |path: &str| {
            let problem = Problem::at(path, "is not used with this `send`");
            Err(problem.help("remove it, or let `send` be what it is for"))
        };
        let needed = |path: &str| Problem::at(path, "is needed for this `send`");
        match (send, secret, key) {
            (ClientProof::Basic | ClientProof::Post | ClientProof::None, _, Some(_)) => {
                unused("client.private_key")
            }
            (ClientProof::PrivateKeyJwt | ClientProof::None, Some(_), _) => unused("client.secret"),
            (ClientProof::None, None, None) if settings.key_id.is_none() => Ok(Proof::Nothing),
            (ClientProof::Basic | ClientProof::Post | ClientProof::None, _, None)
                if settings.key_id.is_some() =>
            {
                unused("client.key_id")
            }
            (ClientProof::Basic, Some(secret), None) => basic(&settings.id, secret),
            (ClientProof::Post, Some(secret), None) if !secret.is_empty() => {
                Ok(Proof::Post(encoded(secret)))
            }
            (ClientProof::PrivateKeyJwt, None, Some(key)) => {
                let signing = Signing::of(key, settings.key_id.clone());
                let signing = signing.map_err(|fact| Problem::at("client.private_key", fact))?;
                Ok(Proof::Signed(signing))
            }
            (ClientProof::PrivateKeyJwt, None, None) => Err(needed("client.private_key")),
            (ClientProof::Basic | ClientProof::Post | ClientProof::None, _, None) => {
                Err(needed("client.secret"))
            }
        }
    }
}

/// Encoded before they are joined (RFC 6749 section 2.3.1): a colon may be part of either.
fn basic(id: &str, secret: &str) -> Result<Proof, Problem> {
    if secret.is_empty() {
        return Err(Problem::at("client.secret", "is empty"));
    }
    let pair = BASE64_STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
    let value = HeaderValue::from_str(&format!("Basic {pair}"));
    let mut value = value.map_err(|_| Problem::at("client", "cannot be sent in a field"))?;
    value.set_sensitive(true);
    Ok(Proof::Basic(value))
}

impl Signing {
    fn of(pem: &str, key_id: Option<String>) -> Result<Signing, String> {
        let key = PKey::private_key_from_pem(pem.as_bytes());
        let key = key.map_err(|_| "it is no private key in PEM".to_owned());
        drop(ErrorStack::get());
        let key = key?;
        let is_p256 = || {
            let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
            curve == Some(Nid::X9_62_PRIME256V1)
        };
        let algorithm = match key.id() {
            Id::RSA if key.bits() >= 2048 => "RS256",
            Id::EC if is_p256() => "ES256",
            Id::ED25519 => "EdDSA",
            _ => return Err("it is neither RSA of 2048 bits, P-256 nor Ed25519".to_owned()),
        };
        Ok(Signing {
            key,
            key_id,
            algorithm,
        })
    }

    /// A token of its own (RFC 7523 section 3), for one minute.
    fn proof(&self, id: &str, audience: &str, now: Duration) -> Option<String> {
        let mut header = json!({"alg": self.algorithm, "typ": "JWT"});
        if let (Some(key_id), Some(header)) = (&self.key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), key_id.as_str().into());
        }
        let now = now.as_secs();
        let claims = json!({
            "iss": id, "sub": id, "aud": audience, "jti": random_text(16)?, "iat": now, "exp": now + 60,
        });
        let coded = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", coded(header), coded(claims));
        let signature = self.sign(signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        if self.algorithm == "EdDSA" {
            return Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(message);
        }
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        let signature = signer.sign_oneshot_to_vec(message)?;
        if self.algorithm != "ES256" {
            return Ok(signature);
        }
        // Both numbers side by side (RFC 7518 section 3.4).
        let pair = EcdsaSig::from_der(&signature)?;
        Ok([pair.r().to_vec_padded(32)?, pair.s().to_vec_padded(32)?].concat())
    }
}

const ASSERTION: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
