//! Fields that tell clients about a limit: those of the IETF draft and those that most clients read.
//! It must not know how is counted.
//! Called by plugins for answers of their own and for responses.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Standing;
use crate::contract::Response;

/// Which fields tell clients about the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// Those of the IETF draft and those that most clients read.
    #[default]
    Both,
    /// `RateLimit-Policy` and `RateLimit`.
    Draft,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
    Legacy,
    /// None.
    None,
}

/// What is told of a limit besides how a caller stands.
pub(crate) struct Teller<'n> {
    pub(crate) fields: Fields,
    /// What the draft calls the policy.
    name: Cow<'n, str>,
    /// The policy in the draft's words; the same for every request.
    policy: Option<HeaderValue>,
    limit: HeaderValue,
}

impl<'n> Teller<'n> {
    /// Tells of a limit of so many uses at once, and of the time in which all of them come back, so that limit and remainder have the
    /// same scale.
    pub(crate) fn of(
        fields: Fields,
        name: impl Into<Cow<'n, str>>,
        quota: u64,
        window: Duration,
    ) -> Teller<'n> {
        let name = name.into();
        let window = whole_seconds(window).max(1);
        let policy = matches!(fields, Fields::Both | Fields::Draft)
            .then(|| value(format_args!("\"{name}\";q={quota};w={window}")));
        Teller {
            fields,
            name,
            policy: policy.flatten(),
            limit: HeaderValue::from(quota),
        }
    }

    /// Tells the client, unless it was told of a limit that it will run into sooner.
    pub(crate) fn tell(&self, response: &mut Response<'_>, take: &Standing) {
        let told = response.head.headers.get(&X_REMAINING);
        let told = told.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|remaining| remaining < take.remaining) {
            return;
        }
        response.change(|fields| {
            self.each(take, |name, value| {
                fields.insert(name, value);
            });
        });
    }

    pub(crate) fn values(&self, take: &Standing) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = Vec::with_capacity(5);
        self.each(take, |name, value| fields.push((name, value)));
        fields
    }

    fn each(&self, take: &Standing, mut put: impl FnMut(HeaderName, HeaderValue)) {
        let reset = whole_seconds(take.full);
        if matches!(self.fields, Fields::Both | Fields::Draft) {
            let name = &self.name;
            let state = value(format_args!("\"{name}\";r={};t={reset}", take.remaining));
            if let (Some(policy), Some(state)) = (&self.policy, state) {
                put(POLICY, policy.clone());
                put(STATE, state);
            }
        }
        if matches!(self.fields, Fields::Both | Fields::Legacy) {
            put(X_LIMIT, self.limit.clone());
            put(X_REMAINING, HeaderValue::from(take.remaining));
            put(X_RESET, HeaderValue::from(reset));
        }
    }
}

/// Written without a copy. Names of limits have only characters that may stand in a field.
fn value(text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    let mut bytes = String::with_capacity(64);
    bytes.write_fmt(text).ok()?;
    HeaderValue::from_maybe_shared(Bytes::from(bytes)).ok()
}

/// Rounded up: a client that comes back a moment too early would only be refused again.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

// draft-ietf-httpapi-ratelimit-headers, from its eighth version on.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
