//! Policies in matching form: who may call what, and which of them are for a place.
//! It must not judge a caller; `decide::policy` does that.
//! Built by `config::compile`; rules of routes hold those that are for them.

mod expression;

pub use expression::expression;
pub use windrose_plugins::expression::Expression;

use std::fmt;
use std::sync::Arc;

use ahash::AHashSet;
use http::{HeaderName, Method};

use super::net::NetSet;
use super::route::{HostPattern, PathPattern, PrincipalPattern, ValueCondition};
use crate::observe::metrics::{PolicyMetrics, NOBODY};

/// What is done with what matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effect {
    /// It may pass.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

impl Effect {
    /// The word in views and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }
    }
}

/// Whether a policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Enforce,
    /// It only says what it would decide.
    Audit,
}

impl Mode {
    /// The word in views.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Audit => "audit",
        }
    }
}

/// Every policy of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// What holds where none that allows is for a request.
    pub default: Effect,
    /// Where that is written, as `file:line`; empty where it is not.
    pub default_place: Box<str>,
    /// In the order written.
    pub all: Vec<Arc<Policy>>,
    /// Whom the configuration names.
    pub callers: Callers,
}

/// A policy.
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands, as `file:line`.
    pub place: Box<str>,
    /// What it does with what a rule matches.
    pub effect: Effect,
    /// Whether it decides.
    pub mode: Mode,
    /// What it guards.
    pub target: Target,
    /// Alternatives.
    pub rules: Box<[PolicyRule]>,
    /// Counts what was refused because no rule matched.
    pub unmatched: Arc<PolicyMetrics>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({})", self.name)
    }
}

/// What a policy guards; an empty list means everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// Listeners.
    pub listeners: Box<[Box<str>]>,
    /// Routes.
    pub routes: Box<[Box<str>]>,
    /// Services; `None` for any, and for what is none.
    pub services: Option<Services>,
    /// Pools.
    pub pools: Box<[Box<str>]>,
}

/// Services, as traffic meets them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Services {
    /// Their names.
    pub names: Box<[Box<str>]>,
    /// Their own routes.
    pub routes: Box<[Box<str>]>,
    /// Pools that are theirs alone.
    pub pools: Box<[Box<str>]>,
    /// Other routes that may lead to those pools.
    pub others: Box<[Box<str>]>,
}

impl Services {
    fn may_be(&self, route: &str) -> bool {
        has(&self.routes, route) || has(&self.others, route)
    }

    fn is(&self, route: &str, pool: &str) -> bool {
        has(&self.routes, route) || has(&self.pools, pool)
    }
}

fn has(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|one| **one == *name)
}

impl Target {
    /// Whether it may be meant at this listener and route, whatever the pool.
    pub fn is_for(&self, listener: &str, route: &str) -> bool {
        let named = |names: &[Box<str>], name: &str| names.is_empty() || has(names, name);
        let services = self.services.as_ref();
        named(&self.listeners, listener)
            && named(&self.routes, route)
            && services.is_none_or(|services| services.may_be(route))
    }

    /// Whether it is meant on this route with this pool; empty for none.
    pub fn is_with(&self, route: &str, pool: &str) -> bool {
        let services = self.services.as_ref();
        (self.pools.is_empty() || has(&self.pools, pool))
            && services.is_none_or(|services| services.is(route, pool))
    }
}

/// One alternative of a policy.
pub struct PolicyRule {
    /// Where it stands, as a path: `policies[3].rules[0]`.
    pub path: Box<str>,
    /// Where it stands, as `file:line`.
    pub place: Box<str>,
    /// Who calls.
    pub from: From,
    /// What is called, and how.
    pub when: When,
    /// Counters.
    pub metrics: Arc<PolicyMetrics>,
}

/// Conditions on the caller; an empty list holds.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// Principals.
    pub principals: Box<[PrincipalPattern]>,
    /// Principals that are not meant.
    pub not_principals: Box<[PrincipalPattern]>,
    /// Trust domains.
    pub trust_domains: Box<[Box<str>]>,
    /// Trust domains that are not meant.
    pub not_trust_domains: Box<[Box<str>]>,
    /// Namespaces.
    pub namespaces: Box<[PrincipalPattern]>,
    /// Namespaces that are not meant.
    pub not_namespaces: Box<[PrincipalPattern]>,
    /// Service accounts, each with its namespace where one is given.
    pub service_accounts: Box<[(Option<Box<str>>, PrincipalPattern)]>,
    /// Consumers.
    pub consumers: Box<[PrincipalPattern]>,
    /// Networks.
    pub clients: NetSet,
    /// Networks that are not meant.
    pub not_clients: NetSet,
}

/// Conditions on what is called; an empty list holds.
#[derive(Default)]
pub struct When {
    /// Methods.
    pub methods: Box<[Method]>,
    /// Methods that are not meant.
    pub not_methods: Box<[Method]>,
    /// Paths.
    pub paths: Box<[PathPattern]>,
    /// Paths that are not meant.
    pub not_paths: Box<[PathPattern]>,
    /// Hosts.
    pub hosts: Box<[HostPattern]>,
    /// Hosts that are not meant.
    pub not_hosts: Box<[HostPattern]>,
    /// Fields.
    pub headers: Box<[(HeaderName, ValueCondition)]>,
    /// Ports.
    pub ports: Box<[u16]>,
    /// Ports that are not meant.
    pub not_ports: Box<[u16]>,
    /// An expression.
    pub cel: Option<Expression>,
}

/// The policies for one place, and what holds where none of them decides.
pub struct PolicySet {
    /// What holds where none that allows is for a request.
    pub default: Effect,
    /// Where that is written.
    pub default_place: Box<str>,
    /// Those that deny before those that allow, else in the order written.
    pub policies: Box<[Arc<Policy>]>,
    /// Whether any of them only says what it would decide.
    pub has_audit: bool,
    /// Counts what the default refused.
    pub unmatched: Arc<PolicyMetrics>,
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies = &self.policies;
        write!(f, "PolicySet({} {policies:?})", self.default.as_str())
    }
}

/// Most rules of one policy.
pub const MOST_RULES: usize = 512;

/// The callers that the configuration names: what metrics may be labelled with.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    exact: AHashSet<Box<str>>,
    /// Each with its `*`, the longest first.
    patterns: Vec<Box<str>>,
}

impl Callers {
    /// Principals, and prefixes that end in `*`.
    pub fn new<'n>(names: impl Iterator<Item = &'n str>) -> Callers {
        let (mut patterns, exact): (Vec<&str>, Vec<&str>) =
            names.partition(|name| name.ends_with('*'));
        patterns.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
        patterns.dedup();
        Callers {
            exact: exact.into_iter().map(Box::from).collect(),
            patterns: patterns.into_iter().map(Box::from).collect(),
        }
    }

    /// The name that stands for a caller in metrics.
    pub fn label<'s>(&'s self, id: Option<&str>) -> &'s str {
        let Some(id) = id else {
            return NOBODY;
        };
        let pattern = || {
            let mut all = self.patterns.iter();
            all.find(|it| id.starts_with(it.trim_end_matches('*')))
        };
        let found = self.exact.get(id).or_else(pattern);
        found.map_or(OTHER, |name| name)
    }
}

/// Who is proven, and named nowhere.
const OTHER: &str = "_other";

/// What the default is called in metrics.
pub const NO_POLICY: &str = "_default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_labelled_with_names_of_the_configuration_only() {
        let names = [
            "spiffe://a/x",
            "spiffe://a/*",
            "spiffe://a/ns/*",
            "consumer:ann",
        ];
        let callers = Callers::new(names.into_iter());

        let labels = [
            Some("spiffe://a/x"),
            Some("spiffe://a/ns/y"),
            Some("spiffe://a/z"),
            Some("consumer:bob"),
            None,
        ]
        .map(|id| callers.label(id));

        assert_eq!(
            labels,
            [
                "spiffe://a/x",
                "spiffe://a/ns/*",
                "spiffe://a/*",
                "_other",
                "_none"
            ]
        );
    }
}
