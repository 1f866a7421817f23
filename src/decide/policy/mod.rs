//! Who may call what: the one ruling for requests, connections passed through as bytes, streams that are looked at again after a
//! reload, and dry runs. It must not know how a refusal is told; it reads the policies for a place and a subject.
//! Called by `Walk`, by `proxy::tcp` and for streams under way.

mod fit;
mod ruled;
mod standing;
mod subject;
#[cfg(test)]
mod tests;

pub use fit::{Fit, Unknown};
pub use ruled::Ruled;
pub use standing::{Asked, Refusal, Stood};
pub use subject::Subject;

use std::sync::Arc;

use windrose_plugins::contract::{causes, Cause};

use crate::observe::metrics::PolicyDecision;
use crate::snapshot::policy::{Effect, Mode, Policy, PolicySet};

/// What was ruled.
#[derive(Debug, Clone, Copy)]
pub struct Ruling<'s> {
    /// Why it is refused; `None` lets it through.
    pub cause: Option<&'static Cause>,
    /// What decided.
    pub by: By<'s>,
    /// What it would be if policies in audit mode decided too; only where that differs.
    pub would: Option<Would<'s>>,
}

/// What policies in audit mode would change.
#[derive(Debug, Clone, Copy)]
pub struct Would<'s> {
    /// Why it would be refused; `None` would let it through.
    pub cause: Option<&'static Cause>,
    /// What would decide.
    pub by: By<'s>,
}

/// What decided.
#[derive(Debug, Clone, Copy)]
pub enum By<'s> {
    /// No policy: the default.
    Default(&'s PolicySet),
    /// A rule of a policy.
    Rule(&'s Arc<Policy>, usize),
    /// The policy, and perhaps others, that allows, but no rule matched.
    Unmatched(&'s Arc<Policy>),
}

impl Ruling<'_> {
    /// Whether it may go on.
    pub fn allows(&self) -> bool {
        self.cause.is_none()
    }
}

/// Hears how each rule that is looked at fits.
pub trait Hear {
    /// Whether anyone listens: then every rule is looked at.
    const ON: bool;
    /// A rule of a policy was compared.
    fn rule(&mut self, policy: &Policy, rule: usize, fit: &Fit);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy)]
pub struct Deaf;

impl Hear for Deaf {
    const ON: bool = false;

    fn rule(&mut self, _: &Policy, _: usize, _: &Fit) {}
}

/// Rules on a subject: what denies, then what allows, then the default.
///
/// Policies in audit mode are left out, and asked in a second round for what they would change.
pub fn authorize<'s, H: Hear>(
    set: &'s PolicySet,
    subject: &Subject<'_>,
    hear: &mut H,
) -> Ruling<'s> {
    let (cause, by) = judge(set, subject, Round::Enforced, hear);
    let would = if set.has_audit {
        let (would, by) = judge(set, subject, Round::All, &mut Deaf);
        (would.is_some() != cause.is_some()).then_some(Would { cause: would, by })
    } else {
        None
    };
    if H::ON {
        tell_audit(set, subject, hear);
    }
    Ruling { cause, by, would }
}

/// Which policies are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Enforced,
    All,
}

impl Round {
    fn asks(self, policy: &Policy, subject: &Subject<'_>) -> bool {
        (self == Round::All || policy.mode == Mode::Enforce)
            && policy.target.is_with(subject.route, subject.pool)
    }
}

type Judged<'s> = (Option<&'static Cause>, By<'s>);

fn judge<'s, H: Hear>(
    set: &'s PolicySet,
    subject: &Subject<'_>,
    round: Round,
    hear: &mut H,
) -> Judged<'s> {
    let asked = || {
        let all = set.policies.iter();
        all.filter(move |policy| round.asks(policy, subject))
    };
    let denies = asked().filter(|policy| policy.effect == Effect::Deny);
    let denied = denied(denies, subject, hear);
    if let (Some(denied), false) = (denied, H::ON) {
        return denied;
    }
    let allows = asked().filter(|policy| policy.effect == Effect::Allow);
    let allowed = allowed(allows, subject, hear);
    denied.or(allowed).unwrap_or_else(|| {
        let cause = match set.default {
            Effect::Allow => None,
            Effect::Deny => Some(&causes::POLICY_DENIED),
        };
        (cause, By::Default(set))
    })
}

/// The refusal of a policy that denies: of a rule that matches, else of one of which that cannot be ruled out.
fn denied<'s, H: Hear>(
    policies: impl Iterator<Item = &'s Arc<Policy>>,
    subject: &Subject<'_>,
    hear: &mut H,
) -> Option<Judged<'s>> {
    let mut certain = None;
    let mut doubtful = None;
    for policy in policies {
        for (at, rule) in policy.rules.iter().enumerate() {
            let fit = fit::fit(rule, Effect::Deny, subject);
            if H::ON {
                hear.rule(policy, at, &fit);
            }
            match fit {
                Fit::No(_) => {}
                Fit::Yes => {
                    let _ =
                        certain.get_or_insert((Some(&causes::POLICY_DENIED), By::Rule(policy, at)));
                    if !H::ON {
                        return certain;
                    }
                }
                Fit::Unknown(unknown) => {
                    let _ =
                        doubtful.get_or_insert((Some(cause_of(&unknown)), By::Rule(policy, at)));
                }
            }
        }
    }
    certain.or(doubtful)
}

/// What policies that allow say; `None` where there are none.
fn allowed<'s, H: Hear>(
    policies: impl Iterator<Item = &'s Arc<Policy>>,
    subject: &Subject<'_>,
    hear: &mut H,
) -> Option<Judged<'s>> {
    let mut first = None;
    let mut matched = None;
    let mut doubtful: Option<Judged<'s>> = None;
    for policy in policies {
        first = first.or(Some(policy));
        for (at, rule) in policy.rules.iter().enumerate() {
            let fit = fit::fit(rule, Effect::Allow, subject);
            if H::ON {
                hear.rule(policy, at, &fit);
            }
            match fit {
                Fit::Yes => {
                    matched = matched.or(Some((None, By::Rule(policy, at))));
                    if !H::ON {
                        return matched;
                    }
                }
                Fit::Unknown(unknown) => {
                    // What cannot be evaluated has to be repaired, so it is told before what the caller lacks.
                    let cause = cause_of(&unknown);
                    let worse = *cause == causes::POLICY_UNEVALUABLE
                        && doubtful.is_some_and(|(before, _)| before != Some(cause));
                    if doubtful.is_none() || worse {
                        doubtful = Some((Some(cause), By::Rule(policy, at)));
                    }
                }
                Fit::No(_) => {}
            }
        }
    }
    let unmatched = (Some(&causes::POLICY_DENIED), By::Unmatched(first?));
    matched.or(doubtful).or(Some(unmatched))
}

fn cause_of(unknown: &Unknown) -> &'static Cause {
    match unknown {
        Unknown::Identity => &causes::IDENTITY_MISSING,
        Unknown::Part | Unknown::Http | Unknown::Port => &causes::POLICY_DENIED,
        Unknown::Expression(_) => &causes::POLICY_UNEVALUABLE,
    }
}

/// Lets a listener hear of the policies in audit mode, which do not decide.
fn tell_audit<H: Hear>(set: &PolicySet, subject: &Subject<'_>, hear: &mut H) {
    let audits = set
        .policies
        .iter()
        .filter(|policy| policy.mode == Mode::Audit)
        .filter(|policy| policy.target.is_with(subject.route, subject.pool));
    for policy in audits {
        for (at, rule) in policy.rules.iter().enumerate() {
            hear.rule(policy, at, &fit::fit(rule, policy.effect, subject));
        }
    }
}

impl By<'_> {
    /// The decision's word for a cause.
    fn decision(cause: Option<&'static Cause>) -> PolicyDecision {
        match cause {
            None => PolicyDecision::Allow,
            Some(cause) if *cause == causes::IDENTITY_MISSING => PolicyDecision::IdentityMissing,
            Some(cause) if *cause == causes::POLICY_UNEVALUABLE => PolicyDecision::Unevaluable,
            Some(_) => PolicyDecision::Deny,
        }
    }
}
