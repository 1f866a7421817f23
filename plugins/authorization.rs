//! What plugins share that ask an authorization service about each request: defaults, bounds, and the body that it gets.
//! It must not know any service's protocol; the manuals stay with the plugins.
//! Used by `ext_authz`, `forward_auth` and `opa`.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{Cause, Hooks, Problem, Request, Size, Time};

/// The body that goes with the question.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WithBody {
    /// The most bytes of it that the service gets; bodies are held in memory until their request is over. From 1B to 16MiB. There is no
    /// default.
    pub max_bytes: Size,
    /// Of a larger body sends the first `max_bytes`, with the field `x-envoy-auth-partial-body: true`; what follows goes on to the service
    /// behind the proxy without anybody having looked at it. Default: `false`, a larger one is refused with 413.
    #[serde(default)]
    pub allow_partial: bool,
}

impl WithBody {
    pub(crate) fn judge(&self, problems: &mut Vec<Problem>) {
        if !(Size(1)..=LARGEST_BODY).contains(&self.max_bytes) {
            let fact = format!("must be from 1B to 16MiB, found {}", self.max_bytes);
            let problem = Problem::at("with_request_body.max_bytes", fact);
            problems.push(problem.help("to send no body leave `with_request_body` out"));
        }
    }

    /// Lets the request hook see the body.
    pub(crate) fn attach(self, hooks: Hooks, too_large: &'static Cause) -> Hooks {
        match self.allow_partial {
            true => hooks.with_begin_of_body(self.max_bytes.0),
            false => hooks.with_whole_body(self.max_bytes.0, too_large),
        }
    }
}

/// The body of a request, and what its field says: whether it is only a part.
pub(crate) fn body(request: &Request<'_>) -> Option<(Bytes, HeaderValue)> {
    let body = request.body.as_deref()?;
    let is_cut = if body.is_cut() { "true" } else { "false" };
    Some((body.bytes().clone(), HeaderValue::from_static(is_cut)))
}

/// The field that says whether a body is only a part, as Envoy calls it.
pub(crate) const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// The time of a question.
pub(crate) fn judge_timeout(time: Time, otherwise: &str, problems: &mut Vec<Problem>) {
    if time > Time::secs(60) || time < Time::millis(1) {
        let fact = format!("must be from 1ms to 60s, found {time}");
        let remedy = format!("leave it out for {otherwise}");
        problems.push(Problem::at("timeout", fact).help(remedy));
    }
}

/// The length of an answer.
pub(crate) fn judge_answer(limit: Size, problems: &mut Vec<Problem>) {
    if limit > Size(1 << 20) {
        let fact = format!("must be at most 1MiB, found {limit}");
        problems.push(Problem::at("answer_limit", fact).help("leave it out for 64KiB"));
    }
}

/// Fields of a request that say who sends it.
pub(crate) fn credentials() -> Vec<String> {
    ["authorization", "cookie"].map(str::to_owned).into()
}

/// Fields of an answer that go to a client with it.
pub(crate) fn answers() -> Vec<String> {
    let names = [
        "location",
        "set-cookie",
        "www-authenticate",
        "cache-control",
        "retry-after",
    ];
    names.map(str::to_owned).into()
}

/// 64 KiB.
pub(crate) fn small() -> Size {
    Size(64 << 10)
}

const LARGEST_BODY: Size = Size(16 << 20);
