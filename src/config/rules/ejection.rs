//! Rules of `pools[].ejection`: times that fit, and kinds that can act on this pool.
//! It must not know how endpoints are judged.
//! Called by `rules::pools`.

use std::time::Duration;

use windrose_plugins::contract::Percent;

use super::values::{positive, within};
use crate::config::report::Report;
use crate::config::schema::{Ejection, Pool, PoolProtocol, SuccessRate};

/// Checks the ejection of a pool.
pub(super) fn check(pool: &Pool, path: &str, report: &mut Report) {
    let it = &pool.ejection;
    times(it, path, report);
    if pool.protocol == PoolProtocol::Tcp && it.consecutive_5xx > 0 {
        report.error(
            format!("{path}.consecutive_5xx"),
            "needs answers with a status, and protocol \"tcp\" has none",
            "use `consecutive_failures`, which counts connections that fail",
        );
    }
    if pool.health.is_none() && !it.ended_by_health {
        report.error(
            format!("{path}.ended_by_health"),
            "is false, but the pool has no health check that could end an ejection",
            "remove it, or give `health`",
        );
    }
    // What is found later is not known here.
    let known = Some(pool.endpoints.len()).filter(|_| pool.discovery.is_none());
    let known = known.and_then(|known| u32::try_from(known).ok());
    if let Some(rate) = &it.success_rate {
        success_rate(rate, known, &format!("{path}.success_rate"), report);
    }
    if let Some(share) = &it.failure_percentage {
        let path = format!("{path}.failure_percentage");
        some(report, &format!("{path}.at_least"), share.at_least);
        let requests = share.minimum_requests;
        within(
            report,
            &format!("{path}.minimum_requests"),
            requests,
            1,
            MOST,
        );
        let endpoints = share.minimum_endpoints;
        within(
            report,
            &format!("{path}.minimum_endpoints"),
            endpoints,
            2,
            MOST,
        );
        are_enough(endpoints, known, &path, report);
    }
    if let Some(below) = &it.success_below {
        let path = format!("{path}.success_below");
        some(report, &format!("{path}.rate"), below.rate);
        let requests = below.minimum_requests;
        within(
            report,
            &format!("{path}.minimum_requests"),
            requests,
            1,
            MOST,
        );
        at_least(
            report,
            &format!("{path}.window"),
            below.window.0,
            SHORTEST_WINDOW,
        );
    }
}

fn times(it: &Ejection, path: &str, report: &mut Report) {
    positive(report, &format!("{path}.base_time"), it.base_time);
    if it.base_time > it.max_time {
        report.error(
            format!("{path}.base_time"),
            format!(
                "\"{}\" is longer than max_time \"{}\"",
                it.base_time, it.max_time
            ),
            "raise `max_time` or shorten `base_time`",
        );
    }
    at_least(
        report,
        &format!("{path}.interval"),
        it.interval.0,
        SHORTEST_INTERVAL,
    );
}

fn success_rate(it: &SuccessRate, known: Option<u32>, path: &str, report: &mut Report) {
    let (endpoints, requests) = (it.minimum_endpoints, it.minimum_requests);
    within(
        report,
        &format!("{path}.minimum_endpoints"),
        endpoints,
        3,
        MOST,
    );
    within(
        report,
        &format!("{path}.minimum_requests"),
        requests,
        1,
        MOST,
    );
    are_enough(endpoints, known, path, report);
    let path = format!("{path}.deviations");
    // A number that is none fails every comparison.
    if !(it.deviations > 0.0 && it.deviations <= 100.0) {
        report.error(
            path,
            format!("must be above 0 and at most 100, found {}", it.deviations),
            "1.9 ejects what stands out clearly",
        );
        return;
    }
    let Some(known) = known.filter(|known| *known >= endpoints) else {
        return;
    };
    let farthest = f64::from(known.saturating_sub(1)).sqrt();
    if it.deviations >= farthest {
        report.error(
            path,
            format!(
                "{} is out of reach: of {known} endpoints none can be more than {farthest:.2} standard deviations below the mean",
                it.deviations
            ),
            "lower it, or use `failure_percentage` or `success_below`",
        );
    }
}

/// A pool that can never have enough endpoints would never be compared.
fn are_enough(minimum: u32, known: Option<u32>, path: &str, report: &mut Report) {
    if let Some(known) = known.filter(|known| *known < minimum) {
        report.error(
            format!("{path}.minimum_endpoints"),
            format!("is {minimum}, but the pool has {known}"),
            "lower it, or use `success_below`, which compares with nobody",
        );
    }
}

/// A share of nothing would mean always, or never.
fn some(report: &mut Report, path: &str, share: Percent) {
    if share.fraction() <= 0.0 {
        report.error(
            path,
            "must be more than 0%",
            "remove the block to turn it off",
        );
    }
}

fn at_least(report: &mut Report, path: &str, time: Duration, shortest: Duration) {
    if time < shortest {
        report.error(
            path,
            format!(
                "must be at least {}ms, found {}ms",
                shortest.as_millis(),
                time.as_millis()
            ),
            "shorter ones see too few requests to judge by",
        );
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);
/// As many requests as a bucket counts.
const MOST: u32 = 1_000_000;
