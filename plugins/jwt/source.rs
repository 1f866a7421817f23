//! Where a plugin's keys come from.
//! It must not know tokens.
//! Made from settings while a plugin is built; asked by the gate for each token.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::contract::{Build, Encoding, Problem};
use crate::keys::{Algorithm, Key, KeySet};

/// A key of the issuer, or several.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// A secret that the issuer has as well, for HS256, HS384 and HS512: at least 32, 48 and 64 bytes. Write it as
    /// `${env:NAME}` or `${file:path}`.
    #[serde(default)]
    pub secret: Option<String>,
    /// How `secret` is written. Default: `text`.
    #[serde(default)]
    pub encoding: Encoding,
    /// A public key or certificate in PEM. The dates of a certificate are not looked at.
    #[serde(default)]
    pub pem: Option<String>,
    /// A file with a public key or certificate in PEM, relative to the configuration's folder. Read on load and reload only.
    #[serde(default)]
    pub pem_file: Option<String>,
    /// A key in JSON (RFC 7517), such as `{kty: OKP, crv: Ed25519, x: …}`; its `kid` and `alg` count.
    #[serde(default)]
    pub jwk: Option<Map<String, Value>>,
    /// A file with a set of keys in JSON (RFC 7517 section 5), relative to the configuration's folder. Read on load and
    /// reload only. Keys in it that are not for signatures, or of kinds that are not known here, are passed over.
    #[serde(default)]
    pub jwks_file: Option<String>,
    /// The name that tokens give the key (`kid`), for `secret`, `pem` and `pem_file`. Default: any.
    #[serde(default)]
    pub kid: Option<String>,
    /// The only algorithm it is used with, for `secret`, `pem` and `pem_file`. Default: all that fit it.
    #[serde(default)]
    pub alg: Option<Algorithm>,
}

/// The keys of these, as one set.
pub(super) fn fixed(
    sources: &[KeySource],
    build: &Build<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<KeySet>> {
    let mut keys = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        match source.read(build) {
            Ok(more) => keys.extend(more),
            Err((below, fact)) => {
                let path = format!("keys[{at}]{below}");
                problems.push(Problem::at(path, fact).help(remedy(below)));
            }
        }
    }
    match KeySet::new(keys) {
        Ok(set) => Some(Arc::new(set)),
        Err(fact) => {
            let remedy = "give each key a `kid` of its own, and put secrets and public keys into plugins of their own";
            problems.push(Problem::at("keys", fact).help(remedy));
            None
        }
    }
}

fn remedy(below: &str) -> &'static str {
    match below {
        "" => "give exactly one of `secret`, `pem`, `pem_file`, `jwk` and `jwks_file`",
        ".secret" => "`openssl rand -base64 64` prints one; the issuer needs the same, and `encoding` says how it is written",
        ".alg" => "leave it out for all that fit the key",
        _ => "copy the public key, or the set of keys, as the issuer publishes it",
    }
}

/// Where below the source, and what is wrong.
type Wrong = (&'static str, String);

impl KeySource {
    fn read(&self, build: &Build<'_>) -> Result<Vec<Key>, Wrong> {
        let kinds = [
            self.secret.is_some(),
            self.pem.is_some(),
            self.pem_file.is_some(),
            self.jwk.is_some(),
            self.jwks_file.is_some(),
        ];
        let given = kinds.into_iter().filter(|is_given| *is_given).count();
        if given != 1 {
            return Err(("", format!("gives {given} keys")));
        }
        let names = self.kid.is_some() || self.alg.is_some();
        if names && (self.jwk.is_some() || self.jwks_file.is_some()) {
            let fact = "`kid` and `alg` of a key in JSON stand inside it".to_owned();
            return Err(("", fact));
        }
        if self.encoding != Encoding::Text && self.secret.is_none() {
            return Err((".encoding", "is for `secret` only".to_owned()));
        }
        if let Some(jwk) = &self.jwk {
            return Key::jwk(jwk)
                .map(|key| vec![key])
                .map_err(|fact| (".jwk", fact));
        }
        if let Some(file) = &self.jwks_file {
            let text = read_file(build, file).map_err(|fact| (".jwks_file", fact))?;
            let set = KeySet::jwks(&text).map_err(|fact| (".jwks_file", fact))?;
            return Ok(set.into_keys());
        }
        let (below, key) = self.one(build)?;
        let key = key.map_err(|fact| (below, fact))?.named(self.kid.clone());
        match self.alg {
            None => Ok(vec![key]),
            Some(alg) => key
                .only(alg)
                .map(|key| vec![key])
                .map_err(|fact| (".alg", fact)),
        }
    }

    fn one(&self, build: &Build<'_>) -> Result<(&'static str, Result<Key, String>), Wrong> {
        if let Some(secret) = &self.secret {
            let secret = self.encoding.decode(secret);
            let secret =
                secret.ok_or((".secret", "is not written in its `encoding`".to_owned()))?;
            return Ok((".secret", Key::secret(&secret)));
        }
        if let Some(pem) = &self.pem {
            return Ok((".pem", Key::pem(pem)));
        }
        let file = self.pem_file.as_deref().unwrap_or_default();
        let text = read_file(build, file).map_err(|fact| (".pem_file", fact))?;
        Ok((".pem_file", Key::pem(&String::from_utf8_lossy(&text))))
    }
}

fn read_file(build: &Build<'_>, file: &str) -> Result<Vec<u8>, String> {
    let path = build.path(file);
    std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}
