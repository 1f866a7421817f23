//! The question about a token, with what proves the proxy to the authorization server.
//! It must not know what comes of it; the secret is never shown.
//! Part of `oauth2_introspection`.

use base64::prelude::{Engine, BASE64_STANDARD};
use http::header::{ACCEPT, AUTHORIZATION};
use http::HeaderValue;

use super::{Client, SendAs};
use crate::contract::{Call, Caller, Problem};

/// What proves the proxy.
pub(super) enum Credentials {
    Nobody,
    Basic(HeaderValue),
    /// Parameters of the body, encoded.
    Post(String),
}

impl Credentials {
    pub(super) fn of(client: Option<&Client>) -> Result<Credentials, Problem> {
        let Some(client) = client else {
            return Ok(Credentials::Nobody);
        };
        for (key, value) in [("id", &client.id), ("secret", &client.secret)] {
            if value.is_empty() {
                let problem = Problem::at(format!("client.{key}"), "is empty");
                return Err(problem.help("write what the authorization server knows the proxy by"));
            }
        }
        let (id, secret) = (encoded(&client.id), encoded(&client.secret));
        match client.send {
            SendAs::Post => Ok(Credentials::Post(format!(
                "&client_id={id}&client_secret={secret}"
            ))),
            SendAs::Basic => {
                // Encoded before they are joined (RFC 6749 section 2.3.1): a colon may be part of either.
                let pair = BASE64_STANDARD.encode(format!("{id}:{secret}"));
                let mut value = HeaderValue::from_str(&format!("Basic {pair}"))
                    .map_err(|_| Problem::at("client", "cannot be sent in a field"))?;
                value.set_sensitive(true);
                Ok(Credentials::Basic(value))
            }
        }
    }

    /// RFC 7662 section 2.1.
    pub(super) fn question(&self, caller: &Caller, token: &str) -> Call {
        let mut body = format!("token={}&token_type_hint=access_token", encoded(token));
        if let Credentials::Post(parameters) = self {
            body.push_str(parameters);
        }
        let call = caller.post("application/x-www-form-urlencoded", body);
        let call = call
            .with(ACCEPT, HeaderValue::from_static("application/json"))
            .at_most(LARGEST)
            .repeatable();
        match self {
            Credentials::Basic(value) => call.with(AUTHORIZATION, value.clone()),
            Credentials::Nobody | Credentials::Post(_) => call,
        }
    }
}

/// As a form encodes it: everything but letters, digits and a few marks.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Bytes of an introspection response.
const LARGEST: usize = 64 << 10;
