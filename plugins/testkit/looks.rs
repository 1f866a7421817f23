//! Short ways to look at verdicts and fields.
//! They must not change anything.
//! Used by tests of plugins.

use crate::contract::{Answer, Verdict};

/// The answer of a hook that must have answered.
///
/// # Panics
/// When it said anything else.
pub fn answered(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Answer(answer) => *answer,
        other => panic!("expected an answer, got {other:?}"),
    }
}

/// Whether the hook let the request go on.
pub fn went_on(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Continue)
}

/// The value of a field the answer carries, as text.
pub fn field<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut fields = answer.headers.iter();
    let (_, value) = fields.find(|(candidate, _)| candidate.as_str().eq_ignore_ascii_case(name))?;
    value.to_str().ok()
}

/// Every value of a field of a head, as text and in order.
pub fn fields<'a>(headers: &'a http::HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values.filter_map(|value| value.to_str().ok()).collect()
}
