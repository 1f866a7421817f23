//! How many tokens an answer says to have used, in the words of OpenAI's and Anthropic's APIs.
//! It must not believe everything: a number that none can be spoils the object that it is in.
//! Filled by `scan`.

use serde_json::{Map, Value};

use crate::json::strict_object;

/// Tokens of one exchange. Where it is told more than once, such as by each event of a stream, the most counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) completion: u64,
    /// Whether any object could be believed.
    pub(super) is_told: bool,
    /// Whether any could not.
    pub(super) is_dismissed: bool,
}

impl Usage {
    /// Hears a `usage` object.
    pub(super) fn hear(&mut self, text: &[u8]) {
        match strict_object(text).ok().as_ref().and_then(numbers) {
            Some(Some((prompt, completion))) => {
                self.prompt = self.prompt.max(prompt);
                self.completion = self.completion.max(completion);
                self.is_told = true;
            }
            // Such as one with nothing but details.
            Some(None) => {}
            None => self.dismiss(),
        }
    }

    pub(super) fn dismiss(&mut self) {
        self.is_dismissed = true;
    }
}

/// Tokens in and out, if there are any; `None` where a number cannot be one.
fn numbers(usage: &Map<String, Value>) -> Option<Option<(u64, u64)>> {
    let one = |name: &str| match usage.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(number) => number.as_u64().filter(|it| *it <= MOST).map(Some),
    };
    let prompt = one("prompt_tokens")?.or(one("input_tokens")?);
    let completion = one("completion_tokens")?.or(one("output_tokens")?);
    let total = one("total_tokens")?;
    // Anthropic tells these beside `input_tokens`, where OpenAI tells of parts of `prompt_tokens` in an object.
    let cached = one("cache_creation_input_tokens")?
        .unwrap_or(0)
        .saturating_add(one("cache_read_input_tokens")?.unwrap_or(0));
    if prompt.is_none() && completion.is_none() && total.is_none() {
        return Some(None);
    }
    let prompt = match (prompt, completion) {
        (None, None) => total.unwrap_or(0),
        _ => prompt.unwrap_or(0).saturating_add(cached),
    };
    let completion = completion.unwrap_or(0);
    // Some count what a model thinks in the total only.
    let hidden = total
        .unwrap_or(0)
        .saturating_sub(prompt.saturating_add(completion));
    Some(Some((prompt, completion.saturating_add(hidden))))
}

/// No model takes or makes as many at once.
const MOST: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(texts: &[&str]) -> (u64, u64, bool, bool) {
        let mut usage = Usage::default();
        texts.iter().for_each(|text| usage.hear(text.as_bytes()));
        (
            usage.prompt,
            usage.completion,
            usage.is_told,
            usage.is_dismissed,
        )
    }

    #[test]
    fn tokens_are_told_in_several_words() {
        for (text, expected) in [
            (
                r#"{"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}"#,
                (3, 4),
            ),
            (r#"{"prompt_tokens": 3, "total_tokens": 3}"#, (3, 0)),
            (r#"{"total_tokens": 9}"#, (9, 0)),
            (
                r#"{"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 17}"#,
                (3, 14),
            ),
            (
                r#"{"input_tokens": 5, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 2}}"#,
                (5, 6),
            ),
            (
                r#"{"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 20}"#,
                (35, 1),
            ),
            (r#"{"prompt_tokens": null, "output_tokens": 1}"#, (0, 1)),
        ] {
            let (prompt, completion) = expected;
            assert_eq!(heard(&[text]), (prompt, completion, true, false), "{text}");
        }
        assert_eq!(heard(&["{\"details\": {}}"]), (0, 0, false, false));
    }

    #[test]
    fn what_is_told_again_counts_once() {
        let usage = heard(&[
            r#"{"input_tokens": 25, "output_tokens": 1}"#,
            r#"{"output_tokens": 15}"#,
            r#"{"output_tokens": 3}"#,
        ]);

        assert_eq!(usage, (25, 15, true, false));
    }

    #[test]
    fn lies_spoil_the_object_they_are_in_and_no_other() {
        for lie in [
            r#"{"prompt_tokens": -1}"#,
            r#"{"prompt_tokens": 1.5}"#,
            r#"{"prompt_tokens": "3"}"#,
            r#"{"prompt_tokens": 100000001}"#,
            r#"{"prompt_tokens": 99999999999999999999}"#,
            r#"{"total_tokens": [1]}"#,
            r#"{"prompt_tokens": 1, "prompt_tokens": 2}"#,
            r#"{"prompt_tokens": 1"#,
        ] {
            assert_eq!(heard(&[lie]), (0, 0, false, true), "{lie}");
            assert_eq!(heard(&[lie, r#"{"total_tokens": 2}"#]), (2, 0, true, true));
        }
    }
}
