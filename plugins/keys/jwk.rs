//! Keys in JSON (JWK, RFC 7517 and 7518 section 6).
//! It must not know where a key comes from, and takes what verifies only: no private keys, none for encryption.
//! Used by `keys::set` and by settings that hold a key.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use serde_json::{Map, Value};

use super::{Algorithm, Key};

impl Key {
    /// A key that verifies.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not quote it.
    pub(crate) fn jwk(jwk: &Map<String, Value>) -> Result<Key, String> {
        for_signatures(jwk)?;
        let key = match text(jwk, "kty")? {
            "oct" => Key::secret(&bytes(jwk, "k")?)?,
            kind => {
                if jwk.contains_key("d") {
                    return Err("it is a private key, which must not leave its owner".to_owned());
                }
                let read = match kind {
                    "RSA" => rsa(jwk)?,
                    "EC" => ec(jwk)?,
                    "OKP" => edwards(jwk)?,
                    _ => return Err("its `kty` is none of RSA, EC, OKP, oct".to_owned()),
                };
                Key::public(read.map_err(|_| "its numbers make no key".to_owned())?)?
            }
        };
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err("its `kid` is no text".to_owned()),
        };
        let key = key.named(id);
        match jwk.get("alg") {
            None => Ok(key),
            Some(name) => {
                let name = name.as_str().and_then(Algorithm::named);
                key.only(name.ok_or("its `alg` is no algorithm of signatures that is known here")?)
            }
        }
    }
}

/// What its owner says that it is for.
fn for_signatures(jwk: &Map<String, Value>) -> Result<(), String> {
    let is_ours = jwk.get("use").is_none_or(|usage| usage == "sig");
    let verifies = jwk.get("key_ops").is_none_or(|all| {
        let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().any(|one| one == "verify")
    });
    match is_ours && verifies {
        true => Ok(()),
        false => Err("it is not for signatures (`use`, `key_ops`)".to_owned()),
    }
}

type Read = Result<PKey<Public>, ErrorStack>;

fn rsa(jwk: &Map<String, Value>) -> Result<Read, String> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let read = || {
        let key = Rsa::from_public_components(BigNum::from_slice(&n)?, BigNum::from_slice(&e)?)?;
        PKey::from_rsa(key)
    };
    Ok(read())
}

fn ec(jwk: &Map<String, Value>) -> Result<Read, String> {
    let (curve, length) = match text(jwk, "crv")? {
        "P-256" => (Nid::X9_62_PRIME256V1, 32),
        "P-384" => (Nid::SECP384R1, 48),
        "P-521" => (Nid::SECP521R1, 66),
        _ => return Err("its `crv` is none of P-256, P-384, P-521".to_owned()),
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err("its point is not as long as the curve's numbers".to_owned());
    }
    let read = || {
        let group = EcGroup::from_curve_name(curve)?;
        let (x, y) = (BigNum::from_slice(&x)?, BigNum::from_slice(&y)?);
        // Refuses a point that is not on the curve.
        let key = EcKey::from_public_key_affine_coordinates(&group, &x, &y)?;
        PKey::from_ec_key(key)
    };
    Ok(read())
}

fn edwards(jwk: &Map<String, Value>) -> Result<Read, String> {
    let curve = match text(jwk, "crv")? {
        "Ed25519" => Id::ED25519,
        "Ed448" => Id::ED448,
        _ => return Err("its `crv` is none of Ed25519, Ed448".to_owned()),
    };
    let x = bytes(jwk, "x")?;
    Ok(PKey::public_key_from_raw_bytes(&x, curve))
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let text = jwk.get(name).and_then(Value::as_str);
    text.ok_or_else(|| format!("it has no text `{name}`"))
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text(jwk, name)?);
    bytes.map_err(|_| format!("its `{name}` is not base64url"))
}
