//! What becomes of a request: pools, splits, redirects, answers, rewrites.
//! It must not know how a request came to its rule.
//! Part of a rule; built by `config::compile`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use regex::Regex;

use crate::snapshot::pool::Pool;

/// What becomes of a request.
pub enum Action {
    /// To one pool.
    Pool(Arc<Pool>),
    /// To one of several pools.
    Split(Split),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered from the configuration.
    Respond(Respond),
    /// Refused: the route is broken, or the pool it names.
    Quarantined,
}

/// Pools by weight.
pub struct Split {
    /// Pools with the running sum of weights up to and including their own.
    pub targets: Box<[(u64, Target)]>,
    /// Sum of all weights; above zero.
    pub total: u64,
}

impl Split {
    /// The target for a random number.
    pub fn choose(&self, random: u64) -> &Target {
        let point = random % self.total;
        let at = self.targets.partition_point(|(sum, _)| *sum <= point);
        &self.targets[at.min(self.targets.len() - 1)].1
    }
}

/// Where a share of a split goes.
pub enum Target {
    /// To this pool.
    Pool(Arc<Pool>),
    /// Nowhere: the pool of this name is broken. Its share is refused, not moved to the others.
    Quarantined(Arc<str>),
}

impl Target {
    /// The pool, unless it is broken.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match self {
            Target::Pool(pool) => Some(pool),
            Target::Quarantined(_) => None,
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        match self {
            Target::Pool(pool) => &pool.name,
            Target::Quarantined(name) => name,
        }
    }
}

/// A redirect; `None` keeps the request's own.
#[derive(Debug, Clone, Default)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// Host.
    pub host: Option<Box<str>>,
    /// Port.
    pub port: Option<u16>,
    /// New path.
    pub path: PathRewrite,
    /// Status.
    pub status: StatusCode,
}

/// A fixed answer.
#[derive(Debug, Clone)]
pub struct Respond {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Bytes,
    /// Media type.
    pub content_type: HeaderValue,
}

/// Changes of host and path.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// Host to send.
    pub host: Option<HeaderValue>,
    /// Path to send.
    pub path: PathRewrite,
}

/// How a path changes.
#[derive(Debug, Clone, Default)]
pub enum PathRewrite {
    /// Not at all.
    #[default]
    Keep,
    /// Replaced whole.
    Whole(Box<str>),
    /// The matched prefix is replaced.
    Prefix(Box<str>),
    /// What the pattern finds is replaced.
    Regex(Regex, Box<str>),
}
