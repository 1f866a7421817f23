//! The refusal of a message that does not fit: a problem (RFC 9457) that says where.
//! It must not repeat values; pointers and the words of the schema are all a client sees.
//! Made by plugins that validate.

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::HeaderValue;
use serde_json::{json, Value};

use super::Finding;
use crate::contract::{Answer, Cause};

/// Why a message is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    cause: &'static Cause,
    status: u16,
    errors: Vec<Value>,
    is_more: bool,
    headers: Vec<(http::HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with a cause and nothing more to say.
    pub(crate) fn of(cause: &'static Cause) -> Refusal {
        Refusal {
            cause,
            status: cause.status,
            errors: Vec::new(),
            is_more: false,
            headers: Vec::new(),
        }
    }

    /// With another status than the cause's.
    pub(crate) fn with_status(mut self, status: u16) -> Refusal {
        self.status = status;
        self
    }

    /// With a field.
    pub(crate) fn with_header(mut self, name: http::HeaderName, value: HeaderValue) -> Refusal {
        self.headers.push((name, value));
        self
    }

    /// Says what is wrong with the body.
    pub(crate) fn with_findings(mut self, findings: Vec<Finding>, is_more: bool) -> Refusal {
        let errors = findings.into_iter();
        self.errors.extend(errors.map(
            |finding| json!({"pointer": format!("#{}", finding.pointer), "detail": finding.detail}),
        ));
        self.is_more |= is_more;
        self
    }

    /// Says what is wrong with a parameter, which is named as the document names it.
    pub(crate) fn with_parameter(mut self, parameter: &str, detail: &str) -> Refusal {
        self.errors
            .push(json!({"parameter": parameter, "detail": detail}));
        self
    }

    /// The answer. Without anything to list, the proxy renders the cause in the form that the client prefers.
    pub(crate) fn answer(self, request_id: &str) -> Answer {
        let mut answer = Answer::of(self.cause);
        answer.status = self.status;
        answer.headers = self.headers;
        if self.errors.is_empty() {
            return answer;
        }
        let mut problem = json!({
            "type": format!("urn:windrose:cause:{}", self.cause.name),
            "title": self.cause.title,
            "status": self.status,
            "why": self.cause.name,
            "request_id": request_id,
            "errors": self.errors,
        });
        if self.is_more {
            problem["more"] = Value::Bool(true);
        }
        let kind = HeaderValue::from_static("application/problem+json");
        answer.body = Some((kind, Bytes::from(problem.to_string())));
        answer.with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }
}
