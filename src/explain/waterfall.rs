//! The times of a request as a waterfall: each attempt at its latest, until the deadline cuts them off.
//! It must not know what an attempt is sent to.
//! Called by `view` for a request that goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decide::Deadline;
use crate::snapshot::route::{Retry, Rule};

/// An attempt at its latest: the worst case that the configuration allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which one, from 1.
    pub attempt: u8,
    /// The longest wait before it, in milliseconds.
    pub wait_ms: u64,
    /// When it begins at the latest, from the request's header on.
    pub begins_ms: u64,
    /// How long it may take to connect.
    pub connect_ms: u64,
    /// How long it may take from there to the response's header; `None` for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_ms: Option<u64>,
    /// When it has failed at the latest; `None` for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<u64>,
    /// Whether the deadline ends it, or comes before it begins.
    pub cut_by_deadline: bool,
}

/// Every attempt of a rule, in order, until one has no bound.
pub(super) fn steps(rule: &Rule, connect: Duration, deadline: Option<&Deadline>) -> Vec<Step> {
    let times = &rule.timeouts;
    let connect = shorter(Some(connect), times.per_try).unwrap_or(connect);
    let header = shorter(times.response_header, times.per_try);
    let whole = deadline.map(|deadline| deadline.time);
    let mut now = Some(Duration::ZERO);
    let mut steps = Vec::new();
    for attempt in 1..=rule.retry.attempts.saturating_add(1) {
        let Some(before) = now else { break };
        let wait = wait(&rule.retry, attempt);
        let begins = before + wait;
        let ends = header.map(|header| begins + connect + header);
        let cut = whole.is_some_and(|whole| ends.is_none_or(|ends| ends > whole));
        let ends = if cut { whole } else { ends };
        steps.push(Step {
            attempt,
            wait_ms: millis(wait),
            begins_ms: millis(shorter(Some(begins), whole).unwrap_or(begins)),
            connect_ms: millis(connect),
            header_ms: header.map(millis),
            ends_ms: ends.map(millis),
            cut_by_deadline: cut,
        });
        now = if cut { None } else { ends };
    }
    steps
}

fn wait(retry: &Retry, attempt: u8) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        more => retry.backoff.longest(more - 1),
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
