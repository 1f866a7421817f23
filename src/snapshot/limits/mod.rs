//! How much a pool takes at a time, who waits for a place in it, and who is refused first when there is too much of it all.
//! It must not know sockets, requests or why a limit was chosen: numbers, classes and moments come in, places go out.
//! The proxy asks it for every request to a pool with `limits`; `control` keeps it in step with the configuration.

mod gradient;
mod limiter;
mod queue;
mod shed;

pub use gradient::{Adaptive, Gradient};
pub use limiter::{Limiter, Limiters, Load, Permit, Reading, Retrying, Waiting};
pub use queue::{Choosiness, Lack};
pub use shed::{Bounds, Measure, Overload, Shedder};

use std::sync::Arc;
use std::time::Duration;

/// The class of a request: who goes first in a queue, and who is refused last. In order of rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Never refused because the process is overloaded.
    Critical,
    /// Before the most.
    High,
    /// Everything that says nothing of itself.
    #[default]
    Normal,
    /// Can wait, or come again later.
    Low,
}

impl Priority {
    /// All classes, the highest first.
    pub const ALL: [Priority; 4] = [
        Priority::Critical,
        Priority::High,
        Priority::Normal,
        Priority::Low,
    ];

    /// The word in configurations, fields and views.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// The class of this name.
    pub fn named(name: &[u8]) -> Option<Priority> {
        Priority::ALL
            .into_iter()
            .find(|class| class.as_str().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Bounds of a pool; `None` for no bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Requests or connections under way in the pool.
    pub requests: Option<u32>,
    /// The same at one endpoint.
    pub endpoint_requests: Option<u32>,
    /// Retries under way in the pool.
    pub retries: Option<u32>,
    /// Requests that may wait for a place.
    pub pending: u32,
    /// How long each may.
    pub queue_timeout: Duration,
    /// A bound that follows latency, within `requests`.
    pub adaptive: Option<Adaptive>,
}

/// A pool's bounds, and what counts against them.
#[derive(Debug, Clone)]
pub struct Limited {
    /// As written.
    pub settings: Limits,
    /// Outlives reloads.
    pub state: Arc<Limiter>,
}

#[cfg(test)]
mod tests;
