//! The APIs that are known, by their paths, and what differs between them: names of members, and how errors are written.
//! It must not know budgets or providers.
//! Part of `llm`.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

use super::causes::{LIMITED, MODEL_REFUSED, NO_PROVIDER, UNKNOWN_API};
use crate::contract::{Answer, Cause};

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's first one.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's embeddings: nothing is made.
    Embeddings,
    /// Anthropic's messages.
    Messages,
}

impl Api {
    /// The API that a request is for, by the end of its canonical path.
    pub(super) fn of(method: &Method, path: &str) -> Option<Api> {
        let known = [
            ("/chat/completions", Api::Chat),
            ("/completions", Api::Completions),
            ("/responses", Api::Responses),
            ("/embeddings", Api::Embeddings),
            ("/messages", Api::Messages),
        ];
        let mut known = known.into_iter().filter(|_| method == Method::POST);
        let found = known.find(|(end, _)| path.ends_with(end));
        found.map(|(_, api)| api)
    }

    /// The members that bound what is made; the first is the one that is set where none is given.
    pub(super) fn bounds(self) -> &'static [&'static str] {
        match self {
            Api::Chat => &["max_tokens", "max_completion_tokens"],
            Api::Completions | Api::Messages => &["max_tokens"],
            Api::Responses => &["max_output_tokens"],
            Api::Embeddings => &[],
        }
    }

    /// Whether a stream tells of usage only when it is asked to.
    pub(super) fn tells_when_asked(self) -> bool {
        matches!(self, Api::Chat | Api::Completions)
    }
}

/// An answer in the form that clients of these APIs read, unless this one wants no JSON.
pub(super) fn refusal(api: Option<Api>, cause: &'static Cause, headers: &HeaderMap) -> Answer {
    let mut answer = Answer::of(cause);
    if !takes_json(headers) {
        return answer;
    }
    let (kind, code) = words(api, cause);
    let body = match api {
        Some(Api::Messages) => {
            json!({"type": "error", "error": {"type": kind, "message": cause.title}})
        }
        _ => json!({"error": {"message": cause.title, "type": kind, "param": null, "code": code}}),
    };
    let media = HeaderValue::from_static("application/json");
    answer.body = Some((media, Bytes::from(body.to_string())));
    answer
}

/// What the APIs call it: a type, and OpenAI's code.
fn words(api: Option<Api>, cause: &'static Cause) -> (&'static str, Option<&'static str>) {
    let is_anthropic = api == Some(Api::Messages);
    let is = |one: &Cause| cause == one;
    match is_anthropic {
        true if is(&LIMITED) => ("rate_limit_error", None),
        true if is(&MODEL_REFUSED) => ("not_found_error", None),
        true if is(&NO_PROVIDER) => ("api_error", None),
        false if is(&LIMITED) => ("tokens", Some("rate_limit_exceeded")),
        false if is(&MODEL_REFUSED) => ("invalid_request_error", Some("model_not_found")),
        false if is(&UNKNOWN_API) => ("invalid_request_error", Some("unknown_url")),
        false if is(&NO_PROVIDER) => ("server_error", None),
        _ => ("invalid_request_error", None),
    }
}

/// Whether the client takes JSON, as far as it says.
fn takes_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    let takes = |text: &str| {
        let text = text.to_ascii_lowercase();
        // Whoever wants a stream reads JSON in it.
        text.contains("json") || text.contains("*/*") || text.contains("text/event-stream")
    };
    values.any(|value| value.to_str().is_ok_and(takes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_known_by_the_end_of_its_path() {
        let of = |path| Api::of(&Method::POST, path);

        assert_eq!(of("/v1/chat/completions"), Some(Api::Chat));
        assert_eq!(of("/openai/v1/completions"), Some(Api::Completions));
        assert_eq!(of("/v1/responses"), Some(Api::Responses));
        assert_eq!(of("/v1/embeddings"), Some(Api::Embeddings));
        assert_eq!(of("/v1/messages"), Some(Api::Messages));
        for other in [
            "/v1/models",
            "/v1/chat/completions/",
            "/v1/chat/completions/x",
            "/",
            "/v1/responses/r1/cancel",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(Api::of(&Method::GET, "/v1/chat/completions"), None);
    }

    #[test]
    fn whoever_takes_no_json_gets_the_proxys_own_form() {
        let body = |accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            refusal(Some(Api::Chat), &LIMITED, &headers).body.is_some()
        };

        assert!(body(None) && body(Some("*/*")) && body(Some("application/json")));
        assert!(body(Some("text/event-stream")));
        assert!(!body(Some("text/html")));
    }
}
