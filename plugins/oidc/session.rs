//! A session as its cookie holds it: what the provider gave, and since when.
//! It must not know cookies; sealing keeps it from everybody else.
//! Made by a login, changed by a refresh, read for every request.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde::{Deserialize, Serialize};

use super::causes;
use crate::contract::{Cause, Claims};
use crate::json;

/// Somebody who is logged in. Short names: it travels with every request.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    /// What it is known by once it was logged out of.
    #[serde(rename = "s")]
    pub(super) name: String,
    /// Seconds since 1970 when the login was completed.
    #[serde(rename = "b")]
    pub(super) began: u64,
    /// When its cookie was written last.
    #[serde(rename = "w")]
    pub(super) written: u64,
    #[serde(flatten)]
    pub(super) tokens: Tokens,
    /// What the provider says of the user besides the identity.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(super) userinfo: Option<Claims>,
}

/// What a provider gives. Never shown.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tokens {
    /// The identity as it came; its signature was verified before.
    #[serde(rename = "i")]
    pub(super) identity: String,
    /// Only where it is used.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<String>,
    /// When the access token ends, where that is known.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<u64>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh: Option<String>,
    /// What was granted, where the provider says so.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<String>,
}

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) idle: u64,
    pub(super) absolute: u64,
}

impl Session {
    /// # Errors
    /// That it is over.
    pub(super) fn holds(&self, times: Times, now: u64) -> Result<(), &'static Cause> {
        let age = now.saturating_sub(self.began);
        let unused = now.saturating_sub(self.written);
        match age < times.absolute && unused < times.idle {
            true => Ok(()),
            false => Err(&causes::SESSION_EXPIRED),
        }
    }

    /// Whether its access token is over, or will be in a moment.
    pub(super) fn is_stale(&self, now: u64) -> bool {
        self.tokens.ends.is_some_and(|ends| now + LEEWAY >= ends)
    }

    /// Seconds that its cookie has to be kept.
    pub(super) fn left(&self, times: Times, now: u64) -> u64 {
        let absolute = (self.began + times.absolute).saturating_sub(now);
        absolute.min(times.idle)
    }

    /// Whether its cookie is to be written anew.
    pub(super) fn is_worn(&self, times: Times, now: u64) -> bool {
        now.saturating_sub(self.written) >= (times.idle / 10).max(1)
    }

    /// Everything that is said of the user. What the identity says goes first.
    pub(super) fn claims(&self) -> Option<Claims> {
        let mut claims = payload(&self.tokens.identity)?;
        for (name, value) in self.userinfo.iter().flatten() {
            if !claims.contains_key(name) {
                claims.insert(name.clone(), value.clone());
            }
        }
        Some(claims)
    }

    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn read(text: &[u8]) -> Option<Session> {
        serde_json::from_slice(text).ok()
    }
}

/// What a token says whose signature was verified before it was sealed.
pub(super) fn payload(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    json::strict_object(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// An access token that ends in so many seconds is not sent on any more.
const LEEWAY: u64 = 10;
