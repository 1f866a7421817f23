//! A ruling that is worth telling, kept for answers, logs and records after the policies themselves are let go of.
//! It must not decide.
//! Made where a request is refused, or would have been treated differently.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use windrose_plugins::contract::Cause;

use super::{By, Refusal, Ruling, Subject};
use crate::observe::metrics::{PolicyDecision, PolicyMetrics};
use crate::observe::policy::Example;

/// A ruling that refuses, or that policies in audit mode would change.
#[derive(Debug, Clone, Default)]
pub struct Ruled {
    /// Why it is refused, if it is.
    pub cause: Option<&'static Cause>,
    /// What refused it, as `NAME[RULE]`, `NAME` where no rule matched, or `default`; empty where nothing did.
    pub policy: String,
    /// Where that is written, as `file:line`.
    pub place: String,
    /// What would be different without audit mode, as `would_deny NAME[RULE]`; empty for nothing.
    pub audit: String,
    /// Where a stream that goes on learns that its caller is no longer allowed.
    pub fallen: Option<Arc<Refusal>>,
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Default(_) => f.write_str("default"),
            By::Rule(policy, rule) => write!(f, "{}[{rule}]", policy.name),
            By::Unmatched(policy) => f.write_str(&policy.name),
        }
    }
}

impl<'s> By<'s> {
    /// Where it is written, as `file:line`.
    pub fn place(&self) -> &'s str {
        match self {
            By::Default(set) => &set.default_place,
            By::Rule(policy, rule) => &policy.rules[*rule].place,
            By::Unmatched(policy) => &policy.place,
        }
    }

    fn metrics(&self) -> &'s Arc<PolicyMetrics> {
        match self {
            By::Default(set) => &set.unmatched,
            By::Rule(policy, rule) => &policy.rules[*rule].metrics,
            By::Unmatched(policy) => &policy.unmatched,
        }
    }

    /// What it says, in words.
    pub fn words(&self) -> String {
        match self {
            By::Default(set) => {
                let effect = set.default.as_str();
                format!("no policy that allows is for it, and the default is to {effect}")
            }
            By::Rule(policy, rule) => {
                let effect = policy.effect.as_str();
                format!(
                    "rule {rule} of policy \"{}\", which is to {effect}",
                    policy.name
                )
            }
            By::Unmatched(policy) => format!(
                "no rule of policy \"{}\", or of any other that allows, matches",
                policy.name
            ),
        }
    }
}

impl Ruling<'_> {
    /// Counts the ruling and keeps what is worth telling.
    pub fn account(&self, subject: &Subject<'_>) -> Option<Box<Ruled>> {
        let decision = By::decision(self.cause);
        // A default that lets through is no decision of anybody's.
        let is_idle = matches!(self.by, By::Default(_)) && self.cause.is_none();
        if !is_idle {
            self.by.metrics().decided(decision);
        }
        if self.cause.is_some() {
            let example = example(subject, decision);
            self.by.metrics().examples.add(example);
        }
        if let Some(would) = &self.would {
            let decision = audit_decision(would.cause);
            would.by.metrics().decided(decision);
            would.by.metrics().examples.add(example(subject, decision));
        }
        self.told()
    }

    /// What is worth telling of it.
    pub fn told(&self) -> Option<Box<Ruled>> {
        if self.cause.is_none() && self.would.is_none() {
            return None;
        }
        let refused = self.cause.is_some();
        let audit = self.would.as_ref().map_or(String::new(), |would| {
            format!("{} {}", audit_decision(would.cause).as_str(), would.by)
        });
        Some(Box::new(Ruled {
            cause: self.cause,
            policy: if refused {
                self.by.to_string()
            } else {
                String::new()
            },
            place: if refused {
                self.by.place().to_owned()
            } else {
                String::new()
            },
            audit,
            fallen: None,
        }))
    }

    /// Counts a stream that is ended by it.
    pub(super) fn cut(&self) {
        self.by.metrics().ended();
    }
}

impl Ruled {
    /// For callers who may know.
    pub fn detail(&self) -> String {
        match self.place.is_empty() {
            true => format!("Refused by policy {}.", self.policy),
            false => format!("Refused by policy {} ({}).", self.policy, self.place),
        }
    }
}

fn audit_decision(cause: Option<&'static Cause>) -> PolicyDecision {
    match cause {
        None => PolicyDecision::WouldAllow,
        Some(_) => PolicyDecision::WouldDeny,
    }
}

fn example(subject: &Subject<'_>, decision: PolicyDecision) -> Example {
    let http = subject.http.as_ref();
    Example {
        at: SystemTime::now(),
        decision: decision.as_str(),
        principal: subject.name(),
        client: subject.client.to_canonical().to_string(),
        listener: subject.listener.to_owned(),
        route: subject.route.to_owned(),
        method: http.map_or(String::new(), |head| head.method.to_string()),
        host: subject.host().unwrap_or_default().to_owned(),
        path: http.map_or(String::new(), |head| head.path.to_owned()),
    }
}
