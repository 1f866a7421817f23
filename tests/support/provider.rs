//! An OpenID Connect provider: logs everybody in as `ann`, and keeps to the standard where it matters for clients.
//! It must not know the proxy.
//! Used by tests of `oidc`.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{Engine, BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::sign::Signer;
use serde_json::json;

use super::client::Conn;
use super::upstream::{answer, Seen, Upstream};

/// A running provider.
pub(crate) struct Provider {
    pub(crate) service: Upstream,
    book: Arc<Mutex<Book>>,
}

struct Book {
    key: PKey<Private>,
    /// What a code is for: nonce, challenge and where it goes.
    codes: BTreeMap<String, [String; 3]>,
    /// The one refresh token that is good.
    refresh: String,
    given: u32,
    /// Seconds that access tokens last.
    lasts: u64,
}

impl Provider {
    /// Knows the client `shop` with the secret `s3cret`; access tokens last so many seconds.
    pub(crate) fn start(lasts: u64) -> Provider {
        let book = Arc::new(Mutex::new(Book {
            key: PKey::generate_ed25519().unwrap(),
            codes: BTreeMap::new(),
            refresh: String::new(),
            given: 0,
            lasts,
        }));
        let kept = book.clone();
        let serve =
            move |seen: &Seen, stream: &mut TcpStream| book.lock().unwrap().serve(seen, stream);
        Provider {
            service: Upstream::with(serve),
            book: kept,
        }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.service.address)
    }

    /// How often it gave tokens.
    pub(crate) fn given(&self) -> u32 {
        self.book.lock().unwrap().given
    }

    /// Withdraws what it gave.
    pub(crate) fn withdraw(&self) {
        self.book.lock().unwrap().refresh = "withdrawn".to_owned();
    }

    /// Goes where a browser was sent, and says where it is sent from there.
    pub(crate) fn visit(&self, location: &str) -> String {
        let path = location
            .strip_prefix(&self.issuer())
            .expect("a page of the provider");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n",
            self.service.address
        );
        let reply = Conn::open(self.service.address).ask(request);
        reply
            .header("location")
            .expect("it sends browsers on")
            .to_owned()
    }
}

impl Book {
    fn serve(&mut self, seen: &Seen, stream: &mut TcpStream) -> io::Result<bool> {
        let issuer = format!("http://{}", seen.header("host").unwrap_or_default());
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        let said = match path {
            "/.well-known/openid-configuration" => json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
                "end_session_endpoint": format!("{issuer}/bye"),
                "authorization_response_iss_parameter_supported": true,
            }),
            "/keys" => {
                let raw = BASE64_URL_SAFE_NO_PAD.encode(self.key.raw_public_key().unwrap());
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": raw}]})
            }
            "/authorize" => return send(stream, &self.authorize(query, &issuer)),
            "/bye" => return send(stream, &form(query)["post_logout_redirect_uri"]),
            "/token" => match self.token(seen, &form(&body), &issuer) {
                Some(given) => given,
                None => return answer(stream, 400, &[], br#"{"error":"invalid_grant"}"#),
            },
            _ => return answer(stream, 404, &[], b""),
        };
        let kind = [("content-type", "application/json")];
        answer(stream, 200, &kind, said.to_string().as_bytes())
    }

    fn authorize(&mut self, query: &str, issuer: &str) -> String {
        let asked = form(query);
        assert_eq!(
            (&*asked["client_id"], &*asked["code_challenge_method"]),
            ("shop", "S256")
        );
        let code = format!("code-{}", self.codes.len() + 1);
        let kept = ["nonce", "code_challenge", "redirect_uri"].map(|name| asked[name].clone());
        self.codes.insert(code.clone(), kept);
        let issuer = issuer.replace(':', "%3A").replace('/', "%2F");
        format!(
            "{}?code={code}&state={}&iss={issuer}",
            asked["redirect_uri"], asked["state"]
        )
    }

    /// RFC 6749 sections 4.1.3 and 6; codes and refresh tokens are good for once.
    fn token(
        &mut self,
        seen: &Seen,
        asked: &BTreeMap<String, String>,
        issuer: &str,
    ) -> Option<serde_json::Value> {
        let known = format!("Basic {}", BASE64_STANDARD.encode("shop:s3cret"));
        assert_eq!(seen.header("authorization"), Some(&*known));
        let mut nonce = None;
        match asked.get("code") {
            Some(code) => {
                let [own, challenge, redirect] = self.codes.remove(code)?;
                let proof = sha256(asked["code_verifier"].as_bytes());
                let proves = BASE64_URL_SAFE_NO_PAD.encode(proof) == challenge;
                if !proves || asked["redirect_uri"] != redirect {
                    return None;
                }
                nonce = Some(own);
            }
            None if asked["refresh_token"] != self.refresh => return None,
            None => {}
        }
        self.given += 1;
        self.refresh = format!("rt-{}", self.given);
        Some(json!({
            "access_token": format!("at-{}", self.given), "token_type": "Bearer",
            "expires_in": self.lasts, "refresh_token": self.refresh,
            "id_token": self.identity(issuer, nonce.as_deref()),
        }))
    }

    fn identity(&self, issuer: &str, nonce: Option<&str>) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": issuer, "aud": "shop", "sub": "ann", "email": "ann@shop.test", "groups": ["staff"],
            "iat": now, "exp": now + 300,
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let coded = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = json!({"alg": "EdDSA", "kid": "k1"});
        let signed = format!(
            "{}.{}",
            coded(header.to_string()),
            coded(claims.to_string())
        );
        let mut signer = Signer::new_without_digest(&self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn send(stream: &mut TcpStream, location: &str) -> io::Result<bool> {
    answer(stream, 302, &[("location", location)], b"")
}

/// A query or form, taken apart.
fn form(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), plain(value)))
        .collect()
}

fn plain(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        out.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        out.push_str(rest);
    }
    out
}
