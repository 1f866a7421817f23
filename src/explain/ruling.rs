//! What policies ruled, as data and in words.
//! It must not judge.
//! Heard by `hear`; part of an explanation.

use serde::{Deserialize, Serialize};

use crate::decide::policy::{Fit, Ruling};
use crate::snapshot::policy::Policy;

/// What policies ruled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RulingSeen {
    /// `allow` or `deny`.
    pub verdict: String,
    /// What decided, as `NAME[RULE]`, `NAME` where no rule matched, or `default`.
    pub by: String,
    /// The same in words.
    pub says: String,
    /// Where that is written; empty for a default that is not written.
    pub place: String,
    /// What policies in audit mode would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
}

/// A rule of a policy that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySeen {
    /// The policy.
    pub policy: String,
    /// The rule's position.
    pub rule: usize,
    /// Where the rule is written.
    pub place: String,
    /// `allow` or `deny`.
    pub action: String,
    /// `enforce` or `audit`.
    pub mode: String,
    /// `matches`, `does not match`, or why it is not known.
    pub verdict: String,
}

/// A rule of a policy, with how it fits.
pub(super) fn seen(policy: &Policy, rule: usize, fit: &Fit) -> PolicySeen {
    PolicySeen {
        policy: policy.name.to_string(),
        rule,
        place: policy.rules[rule].place.to_string(),
        action: policy.effect.as_str().to_owned(),
        mode: policy.mode.as_str().to_owned(),
        verdict: self::fit(fit),
    }
}

/// How a rule of a policy fits.
fn fit(fit: &Fit) -> String {
    match fit {
        Fit::Yes => "matches".to_owned(),
        Fit::No(condition) => format!("does not match: `{condition}`"),
        Fit::Unknown(why) => why.to_string(),
    }
}

/// What policies ruled.
pub(super) fn ruling(ruling: &Ruling<'_>) -> RulingSeen {
    let audit = ruling.would.as_ref().map(|would| {
        let verdict = if would.cause.is_some() {
            "deny"
        } else {
            "allow"
        };
        format!("would {verdict} by {}: {}", would.by, would.by.words())
    });
    RulingSeen {
        verdict: if ruling.allows() { "allow" } else { "deny" }.to_owned(),
        by: ruling.by.to_string(),
        says: ruling.by.words(),
        place: ruling.by.place().to_owned(),
        audit,
    }
}
