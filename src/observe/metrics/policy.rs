//! What is counted about the rules of policies: decisions, when the last one was, and a few examples.
//! It must not know how a rule matches.
//! The fast path calls it for requests that policies are for; `Metrics` makes the handles.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::family::{Counters, Maker};
use super::series::IntCounter;
use crate::observe::policy::Examples;

/// The families that policies feed.
pub(super) struct PolicyFamilies {
    decisions: Counters,
    cut: Counters,
}

impl PolicyFamilies {
    pub(super) fn new(make: &Maker<'_>) -> PolicyFamilies {
        PolicyFamilies {
            decisions: make.counters(
                "windrose_policy_decisions_total",
                "What rules of policies decided: allow, deny, identity_missing and unevaluable refuse; would_allow and would_deny are what policies in audit mode would have changed. The rule is empty where none matched.",
                &["policy", "rule", "decision"],
            ),
            cut: make.counters(
                "windrose_policy_streams_cut_total",
                "Streams and connections under way that were ended after a reload, because their caller is no longer allowed.",
                &["policy"],
            ),
        }
    }

    /// Drops the series of policies that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0]);
        self.decisions.retain(&by_name);
        self.cut.retain(&by_name);
    }
}

/// What a rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyDecision {
    /// It let through.
    Allow,
    /// It refused.
    Deny,
    /// It refused a caller of whom nothing is proven.
    IdentityMissing,
    /// It refused because its expression has no outcome.
    Unevaluable,
    /// In audit mode: it would have let through what was refused.
    WouldAllow,
    /// In audit mode: it would have refused what was let through.
    WouldDeny,
}

impl PolicyDecision {
    /// All, in the order of their numbers.
    pub const ALL: [PolicyDecision; 6] = [
        PolicyDecision::Allow,
        PolicyDecision::Deny,
        PolicyDecision::IdentityMissing,
        PolicyDecision::Unevaluable,
        PolicyDecision::WouldAllow,
        PolicyDecision::WouldDeny,
    ];

    /// The word in metrics, logs and views.
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyDecision::Allow => "allow",
            PolicyDecision::Deny => "deny",
            PolicyDecision::IdentityMissing => "identity_missing",
            PolicyDecision::Unevaluable => "unevaluable",
            PolicyDecision::WouldAllow => "would_allow",
            PolicyDecision::WouldDeny => "would_deny",
        }
    }
}

/// Counters of a rule, or of a policy none of whose rules matched. Series appear at first use.
pub struct PolicyMetrics {
    labels: [Arc<str>; 2],
    families: Arc<PolicyFamilies>,
    decisions: [OnceLock<IntCounter>; 6],
    cut: OnceLock<IntCounter>,
    /// Seconds since 1970; 0 for never.
    last: AtomicU64,
    /// The last callers that were refused, or would have been treated differently.
    pub examples: Examples,
}

impl PolicyMetrics {
    pub(super) fn new(families: &Arc<PolicyFamilies>, labels: [Arc<str>; 2]) -> PolicyMetrics {
        PolicyMetrics {
            labels,
            families: families.clone(),
            decisions: Default::default(),
            cut: OnceLock::new(),
            last: AtomicU64::new(0),
            examples: Examples::default(),
        }
    }

    /// The rule decided.
    pub fn decided(&self, decision: PolicyDecision) {
        let [policy, rule] = &self.labels;
        let made = || {
            let families = &self.families;
            families.decisions.with(&[policy, rule, decision.as_str()])
        };
        self.decisions[decision as usize].get_or_init(made).inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.last
            .store(now.map_or(0, |since| since.as_secs()), Relaxed);
    }

    /// A stream was ended.
    pub fn ended(&self) {
        let made = || self.families.cut.with(&[&self.labels[0]]);
        self.cut.get_or_init(made).inc();
    }

    /// How often it decided what, in the order of [`PolicyDecision::ALL`]; only what happened.
    pub fn decisions(&self) -> Vec<(&'static str, u64)> {
        let all = PolicyDecision::ALL.iter().zip(&self.decisions);
        all.filter_map(|(decision, counter)| Some((decision.as_str(), counter.get()?.get())))
            .collect()
    }

    /// When it decided last.
    pub fn last(&self) -> Option<SystemTime> {
        match self.last.load(Relaxed) {
            0 => None,
            seconds => Some(UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }
}
