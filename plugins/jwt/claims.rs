//! What a token's claims have to say (RFC 7519 section 4.1), and what becomes of them.
//! It must not know signatures: by now the issuer has said all this.
//! Asked by the gate for each token that is not remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::causes;
use super::settings::{By, Consumer};
use crate::contract::{Cause, Consumers};

/// What is asked of claims.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    /// Who may have issued it; empty for anybody.
    pub(crate) issuers: Vec<String>,
    /// Whom it may be for; empty for anybody.
    pub(crate) audiences: Vec<String>,
    pub(crate) skew: Duration,
    pub(crate) needs_end: bool,
    /// Claims that have to be there.
    pub(crate) required: Vec<String>,
    /// Claims that have to be, or hold, one of these.
    pub(crate) values: BTreeMap<String, Vec<String>>,
    pub(crate) scopes: Vec<String>,
}

/// From when to when claims hold, with the skew; as time since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) until: f64,
}

impl Span {
    /// # Errors
    /// Whether it is over or has not begun.
    pub(crate) fn holds(&self, now: Duration) -> Result<(), &'static Cause> {
        let now = now.as_secs_f64();
        match (now < self.until, now >= self.from) {
            (true, true) => Ok(()),
            (false, _) => Err(&causes::EXPIRED),
            (_, false) => Err(&causes::NOT_YET),
        }
    }
}

impl Demands {
    /// When the claims hold, if they say all that is asked.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn judge(&self, claims: &Map<String, Value>) -> Result<Span, &'static Cause> {
        let span = self.span(claims)?;
        let issuer = claims.get("iss").and_then(Value::as_str);
        let is_known = |issuer: &str| self.issuers.iter().any(|one| one == issuer);
        if !self.issuers.is_empty() && !issuer.is_some_and(is_known) {
            return Err(&causes::ISSUER);
        }
        if !self.audiences.is_empty() && !holds_any(claims.get("aud"), &self.audiences) {
            return Err(&causes::AUDIENCE);
        }
        let is_missing = |name: &&String| find(claims, name).is_none();
        let differs =
            |(name, values): (&String, &Vec<String>)| !holds_any(find(claims, name), values);
        if self.required.iter().any(|name| is_missing(&name)) || self.values.iter().any(differs) {
            return Err(&causes::CLAIM);
        }
        match self.scopes.is_empty() || self.reaches(claims) {
            true => Ok(span),
            false => Err(&causes::SCOPE),
        }
    }

    fn span(&self, claims: &Map<String, Value>) -> Result<Span, &'static Cause> {
        let skew = self.skew.as_secs_f64();
        let (end, begin) = (date(claims, "exp")?, date(claims, "nbf")?);
        let issued = date(claims, "iat")?;
        if self.needs_end && end.is_none() {
            return Err(&causes::CLAIM);
        }
        let from = [begin, issued].into_iter().flatten().fold(0.0, f64::max);
        Ok(Span {
            from: from - skew,
            until: end.map_or(f64::INFINITY, |end| end + skew),
        })
    }

    /// `scope` is words in one text (RFC 8693 section 4.2); some issuers write a list, or `scp`.
    fn reaches(&self, claims: &Map<String, Value>) -> bool {
        let claim = claims.get("scope").or_else(|| claims.get("scp"));
        let has = |wanted: &String| match claim {
            Some(Value::String(words)) => words.split(' ').any(|word| word == wanted),
            Some(Value::Array(words)) => words.iter().any(|word| word == wanted),
            _ => false,
        };
        self.scopes.iter().all(has)
    }
}

/// A date (RFC 7519 section 2): seconds since 1970, also with a fraction.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, &'static Cause> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if seconds >= 0.0 => Ok(Some(seconds)),
            Some(_) | None => Err(&causes::CLAIM),
        },
    }
}

/// A claim by its name, or, beginning with a slash, by where it is inside another one (RFC 6901).
pub(crate) fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let mut parts = path.split('/');
    let plain = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let first = claims.get(&plain(parts.next()?))?;
    parts.try_fold(first, |value, part| match value {
        Value::Object(members) => members.get(&plain(part)),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The name of the consumer whom the claims mean.
///
/// # Errors
/// That they name nobody, or nobody who is known.
pub(crate) fn who(
    consumer: &Consumer,
    consumers: &Consumers,
    claims: &Map<String, Value>,
) -> Result<String, &'static Cause> {
    let name = find(claims, &consumer.claim).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME);
    let name = name.filter(|name| !name.contains(char::is_control));
    let name = name.ok_or(&causes::CLAIM)?;
    match consumer.by {
        By::Name if !consumer.required => Ok(name.to_owned()),
        By::Name => match consumers.named(name) {
            Some(consumer) => Ok(consumer.name.clone()),
            None => Err(&causes::CONSUMER),
        },
        By::Subject => {
            let issuer = claims.get("iss").and_then(Value::as_str);
            let found = consumers.with_subject(issuer.unwrap_or_default(), name);
            found.map(|one| one.name.clone()).ok_or(&causes::CONSUMER)
        }
    }
}

/// Whether a claim is one of these texts, or a list that holds one.
pub(crate) fn holds_any(claim: Option<&Value>, values: &[String]) -> bool {
    let is_one = |value: &Value| match value {
        Value::String(text) => values.contains(text),
        Value::Bool(_) | Value::Number(_) => values.contains(&value.to_string()),
        _ => false,
    };
    match claim {
        Some(Value::Array(items)) => items.iter().any(is_one),
        Some(value) => is_one(value),
        None => false,
    }
}

/// The fields that claims become. A claim that no field can carry becomes none.
pub(crate) fn fields(
    claims: &Map<String, Value>,
    wanted: &[(HeaderName, String)],
) -> Vec<(HeaderName, HeaderValue)> {
    let field = |(name, claim): &(HeaderName, String)| {
        let value = HeaderValue::from_bytes(carried(find(claims, claim)?)?.as_bytes());
        Some((name.clone(), value.ok()?))
    };
    wanted.iter().filter_map(field).collect()
}

/// A claim as text: lists with commas between, without those of their texts that hold one; objects as JSON.
fn carried(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(claim.to_string()),
        Value::Array(items) => {
            let plain = |item: &Value| match item {
                Value::String(text) => {
                    let fits =
                        !text.is_empty() && !text.contains(|c: char| c == ',' || c.is_control());
                    fits.then(|| text.clone())
                }
                Value::Bool(_) | Value::Number(_) => Some(item.to_string()),
                _ => None,
            };
            Some(items.iter().filter_map(plain).collect::<Vec<_>>().join(","))
        }
    }
}

/// Bytes of a name: it goes into logs and metrics of later plugins.
const LONGEST_NAME: usize = 256;
