//! What a client asks of a model: read out of its body, and written anew as the provider gets it.
//! It must not know who asks, nor which provider gets it.
//! Part of `llm`.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::api::Api;
use crate::json::strict_object;

/// A request's body, taken apart.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) is_stream: bool,
    /// The most tokens that are made, where that is bounded.
    pub(super) most: Option<u64>,
    /// The other members.
    rest: Map<String, Value>,
    /// How many answers are made at once.
    answers: u64,
    is_changed: bool,
}

/// That the body is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// It is not what the API wants.
    pub(super) fn of(api: Api, body: &[u8]) -> Result<Asked, Malformed> {
        let mut rest = strict_object(body).map_err(|_| Malformed)?;
        let Some(Value::String(model)) = rest.remove("model") else {
            return Err(Malformed);
        };
        if model.len() > LONGEST_MODEL {
            return Err(Malformed);
        }
        let is_stream = match rest.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_stream)) => *is_stream,
            Some(_) => return Err(Malformed),
        };
        let mut most = None;
        for name in api.bounds() {
            if let Some(bound) = number(&rest, name)? {
                // Where both are given, which of them a provider believes is not known.
                most = most.max(Some(bound));
            }
        }
        let answers = match api {
            Api::Chat | Api::Completions => {
                let best_of = number(&rest, "best_of")?.unwrap_or(1);
                number(&rest, "n")?.unwrap_or(1).max(best_of).max(1)
            }
            Api::Responses | Api::Embeddings | Api::Messages => 1,
        };
        Ok(Asked {
            model,
            is_stream,
            most,
            rest,
            answers,
            is_changed: false,
        })
    }

    /// Lowers the bound of what is made, or sets it where there is none.
    pub(super) fn bound(&mut self, api: Api, most: u64, member: &str) {
        let names = api.bounds();
        let Some(first) = names.first() else {
            return;
        };
        for name in names {
            if self.rest.get(*name).and_then(Value::as_u64) > Some(most) {
                self.rest.insert((*name).to_owned(), most.into());
                self.is_changed = true;
            }
        }
        if self.most.is_none() {
            let name = if api == Api::Chat { member } else { first };
            self.rest.insert(name.to_owned(), most.into());
            self.is_changed = true;
        }
        self.most = Some(self.most.map_or(most, |given| given.min(most)));
    }

    /// Asks for usage at the end of a stream. Whether the client had not.
    pub(super) fn ask_for_usage(&mut self) -> bool {
        const OPTIONS: &str = "stream_options";
        let options = self.rest.entry(OPTIONS).or_insert(Value::Null);
        if options.is_null() {
            *options = Value::Object(Map::new());
        }
        // What is none is the provider's to refuse.
        let Value::Object(options) = options else {
            return false;
        };
        if options.get("include_usage") == Some(&Value::Bool(true)) {
            return false;
        }
        options.insert("include_usage".to_owned(), true.into());
        self.is_changed = true;
        true
    }

    /// Tokens that the request will take, as far as that can be told before: four bytes of its body are about one.
    pub(super) fn estimate(&self, api: Api, bytes: usize, assumed: u64) -> Estimate {
        let made = match api {
            Api::Embeddings => 0,
            _ => self.most.unwrap_or(assumed).saturating_mul(self.answers),
        };
        Estimate {
            prompt: (bytes as u64 / 4).max(1),
            completion: made,
        }
    }

    /// The body, if it is to be another one, as it asks for this model. It begins with [`prefix`].
    pub(super) fn written(&self, model: &str, anyway: Anyway) -> Option<Bytes> {
        if !self.is_changed && model == self.model && anyway == Anyway::No {
            return None;
        }
        let rest = serde_json::to_vec(&self.rest).ok()?;
        let mut body = prefix(model);
        match self.rest.is_empty() {
            true => body.push(b'}'),
            false => {
                body.push(b',');
                body.extend_from_slice(&rest[1..]);
            }
        }
        Some(body.into())
    }
}

/// Whether a body is written anew also where nothing of it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anyway {
    Yes,
    No,
}

/// Tokens that are expected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

impl Estimate {
    pub(super) fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// How a body that was written anew begins: with its model, so that another one can be put in its place without reading it again.
pub(super) fn prefix(model: &str) -> Vec<u8> {
    let model = Value::String(model.to_owned()).to_string();
    format!("{{\"model\":{model}").into_bytes()
}

fn number(members: &Map<String, Value>, name: &str) -> Result<Option<u64>, Malformed> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(number) => number.as_u64().map(Some).ok_or(Malformed),
    }
}

/// Bytes of a model's name.
const LONGEST_MODEL: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(api: Api, body: &str) -> Asked {
        Asked::of(api, body.as_bytes()).expect("a body that is one")
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let long = format!(r#"{{"model": "{}"}}"#, "m".repeat(257));
        for body in [
            &long,
            "",
            "[]",
            "{}",
            r#"{"model": 1}"#,
            r#"{"model": "a", "model": "b"}"#,
            r#"{"model": "a", "stream": "true"}"#,
            r#"{"model": "a", "max_tokens": "10"}"#,
            r#"{"model": "a", "max_tokens": -1}"#,
            r#"{"model": "a", "n": 1.5}"#,
        ] {
            assert_eq!(
                Asked::of(Api::Chat, body.as_bytes()).err(),
                Some(Malformed),
                "{body}"
            );
        }
    }

    #[test]
    fn a_body_that_need_not_change_stays_as_it_came() {
        let asked = asked(Api::Chat, r#"{"max_tokens": 5, "model": "a"}"#);

        assert_eq!(asked.written("a", Anyway::No), None);
        let anew = asked.written("a", Anyway::Yes);
        assert_eq!(
            anew.as_deref(),
            Some(&br#"{"model":"a","max_tokens":5}"#[..])
        );
    }

    #[test]
    fn a_bound_is_lowered_set_and_never_raised() {
        let bounded = |api, body: &str| {
            let mut asked = asked(api, body);
            asked.bound(api, 10, "max_completion_tokens");
            let body = asked.written("m", Anyway::Yes).expect("written");
            String::from_utf8(body.to_vec()).expect("JSON is text")
        };

        for (api, body, expected) in [
            (
                Api::Chat,
                r#"{"model":"m","max_tokens":11}"#,
                r#"{"model":"m","max_tokens":10}"#,
            ),
            (
                Api::Chat,
                r#"{"model":"m","max_tokens":5}"#,
                r#"{"model":"m","max_tokens":5}"#,
            ),
            (
                Api::Chat,
                r#"{"model":"m","max_tokens":5,"max_completion_tokens":99}"#,
                r#"{"model":"m","max_completion_tokens":10,"max_tokens":5}"#,
            ),
            (
                Api::Chat,
                r#"{"model":"m"}"#,
                r#"{"model":"m","max_completion_tokens":10}"#,
            ),
            (
                Api::Responses,
                r#"{"model":"m","max_output_tokens":null}"#,
                r#"{"model":"m","max_output_tokens":10}"#,
            ),
            (
                Api::Messages,
                r#"{"model":"m","max_tokens":18446744073709551615}"#,
                r#"{"model":"m","max_tokens":10}"#,
            ),
            (
                Api::Embeddings,
                r#"{"model":"m","input":"x"}"#,
                r#"{"model":"m","input":"x"}"#,
            ),
        ] {
            assert_eq!(bounded(api, body), expected);
        }
    }

    #[test]
    fn usage_is_asked_for_where_the_client_did_not() {
        for (body, expected) in [
            (r#"{"model":"m"}"#, true),
            (r#"{"model":"m","stream_options":null}"#, true),
            (
                r#"{"model":"m","stream_options":{"include_usage":false}}"#,
                true,
            ),
            (
                r#"{"model":"m","stream_options":{"include_usage":true}}"#,
                false,
            ),
            (r#"{"model":"m","stream_options":7}"#, false),
        ] {
            assert_eq!(asked(Api::Chat, body).ask_for_usage(), expected, "{body}");
        }
    }

    #[test]
    fn an_estimate_is_the_body_and_what_may_be_made() {
        let of = |api, body: &str| asked(api, body).estimate(api, 400, 50);

        let expected = |completion| Estimate {
            prompt: 100,
            completion,
        };
        assert_eq!(of(Api::Chat, r#"{"model":"m"}"#), expected(50));
        assert_eq!(
            of(Api::Chat, r#"{"model":"m","max_tokens":7,"n":3}"#),
            expected(21)
        );
        assert_eq!(
            of(Api::Completions, r#"{"model":"m","best_of":4}"#),
            expected(200)
        );
        assert_eq!(of(Api::Embeddings, r#"{"model":"m"}"#), expected(0));
        let huge = r#"{"model":"m","max_tokens":18446744073709551615,"n":2}"#;
        assert_eq!(of(Api::Chat, huge).total(), u64::MAX);
    }
}
