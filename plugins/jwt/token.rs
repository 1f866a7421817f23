//! A token as it came (JWS compact serialization, RFC 7515 section 7.1), taken apart without believing any of it.
//! It must not know keys or claims; what its header says about where keys are (`jku`, `x5u`, `jwk`, `x5c`) is never read.
//! Used by the gate before a key is picked.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde_json::{Map, Value};

use super::causes;
use crate::contract::Cause;
use crate::json;
use crate::keys::{Algorithm, Key, KeySet, Pick};

/// A token, taken apart.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    pub(crate) algorithm: Algorithm,
    /// What the signer calls its key. Compared with names of keys that are there, and used for nothing else.
    pub(crate) key: Option<String>,
    /// What kind of token it says to be.
    pub(crate) kind: Option<String>,
    /// What was signed.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes one apart.
    ///
    /// # Errors
    /// Whatever is no token, or asks for what is not done here.
    pub(crate) fn read(text: &'a [u8]) -> Result<Token<'a>, &'static Cause> {
        let mut parts = text.split(|byte| *byte == b'.');
        // Five parts are an encrypted token (JWE).
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(&causes::MALFORMED);
        };
        let signed = &text[..header.len() + 1 + payload.len()];
        let header = json::strict_object(&decoded(header)?).map_err(|_| &causes::MALFORMED)?;
        // Extensions that must be understood: none is (RFC 7515 section 4.1.11). An empty list is wrong as well.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(&causes::MALFORMED);
        }
        let kind = text_of(&header, "typ")?;
        let content = text_of(&header, "cty")?;
        // A token inside another one.
        if content.is_some_and(|content| same_type(content, "jwt")) {
            return Err(&causes::MALFORMED);
        }
        let key = text_of(&header, "kid")?;
        if key.is_some_and(|key| key.len() > LONGEST_NAME) {
            return Err(&causes::MALFORMED);
        }
        let algorithm = text_of(&header, "alg")?.ok_or(&causes::MALFORMED)?;
        Ok(Token {
            algorithm: Algorithm::named(algorithm).ok_or(&causes::ALGORITHM)?,
            key: key.map(str::to_owned),
            kind: kind.map(str::to_owned),
            signed,
            signature: decoded(signature)?,
            payload: decoded(payload)?,
        })
    }

    /// Takes one apart whose signature one of these keys has made, by one of these algorithms; by any where none is named.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn signed(
        text: &'a [u8],
        keys: &KeySet,
        algorithms: &[Algorithm],
    ) -> Result<Token<'a>, &'static Cause> {
        let token = Token::read(text)?;
        if !algorithms.is_empty() && !algorithms.contains(&token.algorithm) {
            return Err(&causes::ALGORITHM);
        }
        let picked = match keys.pick(token.algorithm, token.key.as_deref()) {
            Pick::Keys(keys) => keys,
            Pick::NotForThis => return Err(&causes::ALGORITHM),
            Pick::NoSuchId | Pick::TooMany => return Err(&causes::KEY_UNKNOWN),
        };
        let signs = |key: &&Key| key.verifies(token.algorithm, token.signed, &token.signature);
        match picked.iter().any(signs) {
            true => Ok(token),
            false => Err(&causes::SIGNATURE),
        }
    }

    /// Its claims. Only to be read once the signature is known to be right.
    ///
    /// # Errors
    /// A payload that is no object, or has a member twice.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, &'static Cause> {
        json::strict_object(&self.payload).map_err(|_| &causes::MALFORMED)
    }
}

/// Whether both mean the same type: case does not matter, nor does `application/` (RFC 7515 section 4.1.9).
pub(crate) fn same_type(one: &str, other: &str) -> bool {
    let bare = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower
            .strip_prefix("application/")
            .map_or(lower.clone(), str::to_owned)
    };
    bare(one) == bare(other)
}

fn text_of<'h>(
    header: &'h Map<String, Value>,
    name: &str,
) -> Result<Option<&'h str>, &'static Cause> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(&causes::MALFORMED),
    }
}

/// Without padding, without line breaks, without bits left over: one token has one spelling.
fn decoded(part: &[u8]) -> Result<Vec<u8>, &'static Cause> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| &causes::MALFORMED)
}

const LONGEST_NAME: usize = 1024;
