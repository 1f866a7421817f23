//! What becomes of a request: pools, splits, redirects, answers, rewrites.
//! It must not know how a request came to its rule.
//! Part of a rule; built by `config::compile`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use windrose_plugins::contract::PathEdit;

use super::Split;
use crate::snapshot::pool::{Passthrough, Pool};

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
    /// On to where it was going.
    Passthrough(Arc<Passthrough>),
    /// Refused: the route is broken, or the pool it names.
    Quarantined,
}

impl Action {
    /// Whether requests go on to a pool, rather than being answered from the configuration.
    pub fn goes_on(&self) -> bool {
        matches!(
            self,
            Action::Pool(_) | Action::Split(_) | Action::Passthrough(_)
        )
    }

    /// The name of the one pool that requests go to; nothing where chance or the caller decides, or there is none.
    pub fn pool_name(&self) -> &str {
        match self {
            Action::Pool(pool) => &pool.name,
            Action::Split(_)
            | Action::Redirect(_)
            | Action::Respond(_)
            | Action::Passthrough(_)
            | Action::Quarantined => "",
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
    Regex(PathEdit),
}
