//! What an authorization server says of a token: members of a JSON object (RFC 7662 section 2.2).
//! It must not know what is required of it.
//! Part of `oauth2_introspection`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;

use crate::contract::{Claims, Reply};
use crate::json::strict_object;

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) members: Arc<Claims>,
    active: bool,
}

impl Said {
    /// Reads a response.
    ///
    /// # Errors
    /// What is wrong with it, without what is in it.
    pub(super) fn of(reply: &Reply) -> Result<Said, String> {
        match reply.status {
            200 => {}
            401 | 403 => {
                return Err(format!(
                    "the server refuses the proxy with status {}",
                    reply.status
                ))
            }
            status => return Err(format!("the server answered with status {status}")),
        }
        // A member that is there twice could be both.
        let members = strict_object(&reply.body)
            .map_err(|_| "the server's answer is no JSON object".to_owned())?;
        // A text "true" is no proof; a server that answers otherwise than the standard says is not understood.
        match members.get("active") {
            Some(Value::Bool(active)) => Ok(Said {
                active: *active,
                members: Arc::new(members),
            }),
            Some(_) | None => {
                Err("the server's answer does not say whether the token is active".to_owned())
            }
        }
    }

    /// How long the token is still active; `None` if it is not. Without an end that is for ever.
    pub(super) fn left(&self, unix: Duration) -> Option<Duration> {
        if !self.active {
            return None;
        }
        let now = unix.as_secs_f64();
        let begins = self.members.get("nbf").map(Value::as_f64);
        let ends = self.members.get("exp").map(Value::as_f64);
        match begins {
            None => {}
            Some(Some(begins)) if begins <= now => {}
            Some(_) => return None,
        }
        match ends {
            None => Some(Duration::MAX),
            Some(Some(ends)) if ends > now => {
                Some(Duration::try_from_secs_f64(ends - now).unwrap_or(Duration::MAX))
            }
            Some(_) => None,
        }
    }

    pub(super) fn text(&self, member: &str) -> Option<&str> {
        self.members.get(member)?.as_str()
    }

    /// `scope` is a text with spaces between (RFC 8693 section 4.2); some servers send a list.
    pub(super) fn has_scope(&self, wanted: &str) -> bool {
        match self.members.get("scope") {
            Some(Value::String(scopes)) => scopes.split(' ').any(|scope| scope == wanted),
            Some(Value::Array(scopes)) => scopes.iter().any(|scope| scope == wanted),
            Some(_) | None => false,
        }
    }

    /// `aud` is a text or a list of texts.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.members.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            Some(_) | None => false,
        }
    }

    /// A member that can be a consumer's name.
    pub(super) fn name(&self, member: &str) -> Option<String> {
        let name = match self.members.get(member)? {
            Value::String(name) => name.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        let is_plain = !name.chars().any(char::is_control);
        (is_plain && (1..=256).contains(&name.len())).then_some(name)
    }

    /// A member as a field says it.
    pub(super) fn field(&self, member: &str) -> Option<HeaderValue> {
        let text = match self.members.get(member)? {
            Value::Array(items) => {
                let items: Option<Vec<String>> = items.iter().map(plain).collect();
                items?.join(" ")
            }
            value => plain(value)?,
        };
        let mut carried = String::with_capacity(text.len());
        for byte in text.bytes() {
            if (b' '..=b'~').contains(&byte) && byte != b'%' {
                carried.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(carried, "%{byte:02X}");
            }
        }
        let carried = carried.trim();
        if carried.is_empty() || carried.len() > LONGEST {
            return None;
        }
        HeaderValue::from_str(carried).ok()
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

const LONGEST: usize = 4 << 10;
