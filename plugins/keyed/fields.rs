//! Fields that tell clients about a limit: those of the IETF draft and those that most clients read.
//! It must not know how is counted.
//! Called by plugins for answers of their own and for responses.

use std::time::Duration;

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
pub(crate) struct Teller {
    pub(crate) fields: Fields,
    /// What the draft calls the policy.
    pub(crate) name: String,
    /// The most uses at once.
    pub(crate) quota: u64,
    /// The time in which all of them come back, so that quota and remainder have the same scale.
    pub(crate) window: Duration,
}

impl Teller {
    /// Tells the client, unless it was told of a limit that it will run into sooner.
    pub(crate) fn tell(&self, response: &mut Response<'_>, take: &Standing) {
        let told = response.head.headers.get(&X_REMAINING);
        let told = told.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|remaining| remaining < take.remaining) {
            return;
        }
        for (name, value) in self.values(take) {
            // Cannot fail: name and value are parsed already.
            let _ = response.head.insert_header(name, value);
        }
    }

    pub(crate) fn values(&self, take: &Standing) -> Vec<(HeaderName, HeaderValue)> {
        let (name, quota) = (&self.name, self.quota);
        let window = whole_seconds(self.window).max(1);
        let reset = whole_seconds(take.full);
        let mut fields = Vec::with_capacity(5);
        if matches!(self.fields, Fields::Both | Fields::Draft) {
            let policy = format!("\"{name}\";q={quota};w={window}");
            let state = format!("\"{name}\";r={};t={reset}", take.remaining);
            fields.extend(HeaderValue::from_str(&policy).map(|value| (POLICY.clone(), value)));
            fields.extend(HeaderValue::from_str(&state).map(|value| (STATE.clone(), value)));
        }
        if matches!(self.fields, Fields::Both | Fields::Legacy) {
            fields.push((X_LIMIT.clone(), HeaderValue::from(quota)));
            fields.push((X_REMAINING.clone(), HeaderValue::from(take.remaining)));
            fields.push((X_RESET.clone(), HeaderValue::from(reset)));
        }
        fields
    }
}

/// Rounded up: a client that comes back a moment too early would only be refused again.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

// draft-ietf-httpapi-ratelimit-headers, from its eighth version on.
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static STATE: HeaderName = HeaderName::from_static("ratelimit");
static X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
