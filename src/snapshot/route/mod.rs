//! Rules in matching form and the tables that find candidates for a request.
//! It must not know how a request came in, nor evaluate conditions: `decide` walks these tables.
//! Built by `config::compile`, one table for each listener.

mod action;
mod conditions;
mod experiment;
mod mirror;
mod retry;
mod split;
mod table;
mod tcp;

pub use action::*;
pub use conditions::*;
pub use experiment::*;
pub use mirror::*;
pub use retry::*;
pub use split::*;
pub use table::*;
pub use tcp::*;

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::chain::Chain;
use super::limits::Priority;
use super::policy::PolicySet;
use crate::observe::metrics::RouteMetrics;

/// A rule of a route, compiled.
pub struct Rule {
    /// The route's name.
    pub route: Arc<str>,
    /// Position of the rule in its route.
    pub index: usize,
    /// Where it stands, as a path: `routes[3].rules[0]`.
    pub path: Box<str>,
    /// Where it stands, as `file:line`.
    pub place: Box<str>,
    /// What becomes of the request.
    pub action: Action,
    /// What is tried out on its requests; absent for most.
    pub experiments: Option<Box<Experiments>>,
    /// Changes of host and path.
    pub rewrite: Rewrite,
    /// Edits of the request's fields.
    pub request_headers: HeaderOps,
    /// Edits of the response's fields.
    pub response_headers: HeaderOps,
    /// Times.
    pub timeouts: Timeouts,
    /// Attempts after a failure.
    pub retry: Retry,
    /// Largest request body in bytes.
    pub body_limit: u64,
    /// The class of its requests.
    pub priority: Priority,
    /// Plugins, the route's before the rule's.
    pub chain: Chain,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({}[{}])", self.route, self.index)
    }
}

/// Edits of fields: removed, then set, then added.
#[derive(Debug, Clone, Default)]
pub struct HeaderOps {
    /// Taken away.
    pub remove: Box<[HeaderName]>,
    /// Replaced or created.
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Appended.
    pub add: Box<[(HeaderName, HeaderValue)]>,
}

impl HeaderOps {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// One alternative of a rule, ready to be compared with a request.
#[derive(Clone)]
pub struct Candidate {
    /// The rule it belongs to.
    pub rule: Arc<Rule>,
    /// Position of the alternative in the rule's `match`.
    pub alternative: usize,
    /// The host pattern it stands under; empty for any.
    pub host: Arc<str>,
    /// The path pattern.
    pub path: PathPattern,
    /// The other conditions.
    pub conditions: Arc<Conditions>,
    /// Who may use it; absent where no policy is for it and everybody may.
    pub policies: Option<Arc<PolicySet>>,
    /// Counters of the listener and route.
    pub metrics: Arc<RouteMetrics>,
    /// Order written, over all rules.
    pub order: u32,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Candidate({:?} {} {:?})",
            self.rule, self.host, self.path
        )
    }
}
