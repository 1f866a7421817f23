//! Rules of `pools[].limits`: bounds that can be counted, and queues that somebody could wait in.
//! It must not know how places are given away.
//! Called by `config::rules::pools`.

use windrose_plugins::contract::Time;

use super::values::{positive, within};
use crate::config::report::Report;
use crate::config::schema::{AdaptiveLimit, Pool, PoolLimits, PoolProtocol};

/// Checks a pool's limits.
pub(super) fn check(pool: &Pool, path: &str, report: &mut Report) {
    let Some(it) = &pool.limits else {
        return;
    };
    let path = format!("{path}.limits");
    let bounds = [
        ("connections", it.connections, 1),
        ("requests", it.requests, 1),
        ("endpoint_requests", it.endpoint_requests, 1),
        ("retries", it.retries, 0),
    ];
    for (key, bound, least) in bounds {
        if let Some(bound) = bound {
            within(report, &format!("{path}.{key}"), bound, least, MOST);
        }
    }
    counts(it, pool.protocol, &path, report);
    if let Some(it) = &it.adaptive {
        adaptive(it, pool.protocol, &format!("{path}.adaptive"), report);
    }
    queue(it, &path, report);
}

/// Whether what is to be bounded is something that the protocol has, and that is known.
fn counts(it: &PoolLimits, protocol: PoolProtocol, path: &str, report: &mut Report) {
    match (protocol, it.connections, it.requests) {
        (PoolProtocol::Http2 | PoolProtocol::Auto, Some(_), _) => report.error(
            format!("{path}.connections"),
            "cannot be counted on HTTP/2, whose connections carry many requests",
            "bound `requests`",
        ),
        (PoolProtocol::Http1, Some(_), Some(_)) => report.error(
            format!("{path}.connections"),
            "bounds the same as `requests`: with protocol \"http1\" each request uses one connection",
            "keep the lower one, as `requests`",
        ),
        (PoolProtocol::Tcp, _, Some(_)) => report.error(
            format!("{path}.requests"),
            "is not used: a pool with protocol \"tcp\" has connections",
            "bound `connections`",
        ),
        _ => {}
    }
    if protocol == PoolProtocol::Tcp && it.retries.is_some() {
        report.error(
            format!("{path}.retries"),
            "is not used: connections of a pool with protocol \"tcp\" are not counted by attempts",
            "remove it; `retry.attempts` of the rule bounds them",
        );
    }
}

fn adaptive(it: &AdaptiveLimit, protocol: PoolProtocol, path: &str, report: &mut Report) {
    if protocol == PoolProtocol::Tcp {
        report.error(
            path,
            "cannot follow the latency of a pool with protocol \"tcp\", which has no answers",
            "bound `connections`",
        );
    }
    within(report, &format!("{path}.min"), it.min, 1, MOST);
    within(report, &format!("{path}.max"), it.max, 1, MOST);
    if it.min > it.max {
        report.error(
            format!("{path}.min"),
            format!("{} is above max, {}", it.min, it.max),
            "lower `min` or raise `max`",
        );
    }
    let times = [
        ("window", it.window, SHORTEST_WINDOW),
        ("measure_every", it.measure_every, Time::secs(1)),
    ];
    for (key, time, least) in times {
        if !(least..=LONGEST).contains(&time) {
            report.error(
                format!("{path}.{key}"),
                format!("must be from {least} to {LONGEST}, found \"{time}\""),
                "write a time in these bounds",
            );
        }
    }
    within(
        report,
        &format!("{path}.measure_requests"),
        it.measure_requests,
        1,
        500,
    );
}

fn queue(it: &PoolLimits, path: &str, report: &mut Report) {
    let has_bound = it.connections.or(it.requests).or(it.endpoint_requests);
    let has_bound = has_bound.or(it.adaptive.as_ref().map(|adaptive| adaptive.max));
    if let Some(pending) = it.pending {
        within(report, &format!("{path}.pending"), pending, 0, MOST_PENDING);
        if pending > 0 && has_bound.is_none() {
            report.error(
                format!("{path}.pending"),
                "is not used: without a bound there is always a place",
                "give `requests`, `connections` or `endpoint_requests` too, or remove it",
            );
        }
    }
    let Some(time) = it.queue_timeout else {
        return;
    };
    let path = format!("{path}.queue_timeout");
    positive(report, &path, time);
    if time > LONGEST {
        report.error(
            &path,
            format!("must be at most 1h, found \"{time}\""),
            "shorten it; clients give up long before",
        );
    }
    if it.pending.unwrap_or(0) == 0 {
        report.error(
            &path,
            "is not used: nobody may wait",
            "let requests wait with `pending`, or remove it",
        );
    }
}

/// Above, a number is more likely a slip than a bound.
const MOST: u32 = 1_000_000;
/// Each one that waits holds a request with its connection.
const MOST_PENDING: u32 = 100_000;
const LONGEST: Time = Time::secs(3600);
/// Shorter windows see noise.
const SHORTEST_WINDOW: Time = Time::millis(10);
