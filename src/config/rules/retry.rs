//! Rules of `timeouts`, `retry` and `retry_budget`.
//! It must not know what a rule does otherwise.
//! Called by the rules of routes and pools.

use windrose_plugins::contract::Time;

use super::values::{accept, method, positive, within};
use crate::config::report::Report;
use crate::config::schema::{Retry, RetryBudget, RouteTimeouts};

/// Checks the times of a route or rule.
pub(super) fn timeouts(times: &RouteTimeouts, path: &str, report: &mut Report) {
    let bounded: [(&str, Option<Time>); 2] = [
        ("response_header", times.response_header),
        ("idle", times.idle),
    ];
    for (key, time) in bounded {
        if let Some(time) = time {
            positive(report, &format!("{path}.{key}"), time);
        }
    }
}

/// Checks the retries of a route or rule.
pub(super) fn retry(it: &Retry, path: &str, report: &mut Report) {
    within(report, &format!("{path}.attempts"), it.attempts, 0, 5);
    let asks = !it.on.is_empty() || !it.statuses.is_empty() || !it.grpc.is_empty();
    if it.attempts > 0 && !asks {
        report.error(
            format!("{path}.on"),
            "must not be empty, found [], and neither `statuses` nor `grpc` names an answer",
            "name the failures to try again, or write `attempts: 0`",
        );
    }
    for (at, name) in it.methods.iter().enumerate() {
        accept(report, &format!("{path}.methods[{at}]"), method(name));
    }
    for (at, status) in it.statuses.iter().enumerate() {
        let path = format!("{path}.statuses[{at}]");
        within(report, &path, *status, 400, 599);
        if it.statuses[..at].contains(status) {
            repeated(&path, &status.to_string(), report);
        }
    }
    for (at, code) in it.grpc.iter().enumerate() {
        if it.grpc[..at].contains(code) {
            let number = *code as u32;
            repeated(&format!("{path}.grpc[{at}]"), &number.to_string(), report);
        }
    }
    positive(report, &format!("{path}.backoff.base"), it.backoff.base);
    if it.backoff.base > it.backoff.max {
        report.error(
            format!("{path}.backoff.base"),
            format!(
                "\"{}\" is longer than max \"{}\"",
                it.backoff.base, it.backoff.max
            ),
            "raise `max` or shorten `base`",
        );
    }
    if it.backoff.max > Time::secs(10) {
        report.error(
            format!("{path}.backoff.max"),
            format!("must be at most 10s, found {}", it.backoff.max),
            "clients do not wait longer between attempts; use `attempts` and `backoff.base` instead",
        );
    }
    if let Some(it) = &it.budget {
        budget(it, &format!("{path}.budget"), report);
    }
}

fn repeated(path: &str, value: &str, report: &mut Report) {
    report.error(
        path,
        format!("{value} is in the list already"),
        "remove the repetition",
    );
}

/// Checks a budget.
pub(super) fn budget(it: &RetryBudget, path: &str, report: &mut Report) {
    within(
        report,
        &format!("{path}.min_per_second"),
        it.min_per_second,
        0,
        1_000_000,
    );
    let (shortest, longest) = (Time::secs(1), Time::secs(60));
    if it.window < shortest || it.window > longest {
        report.error(
            format!("{path}.window"),
            format!("must be from 1s to 60s, found {}", it.window),
            "10s is what Linkerd uses",
        );
    }
}
