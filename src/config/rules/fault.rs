//! Rules of `fault`: what can be injected, and that nobody is hit by accident.
//! It must not know actions; `actions` says for which a fault is used.
//! Called by `config::rules::actions` for each rule that has one.

use windrose_plugins::contract::Time;

use super::matches::{principals, values};
use super::values::{accept, positive, quoted, some_share, token, within};
use crate::config::report::Report;
use crate::config::schema::{Fault, FaultAbort};

/// Checks a fault.
pub(super) fn check(it: &Fault, path: &str, report: &mut Report) {
    if it.delay.is_none() && it.abort.is_none() && !it.by_header {
        report.error(
            path,
            "injects nothing",
            "give `delay`, `abort` or `by_header: true`",
        );
    }
    if let Some(delay) = &it.delay {
        some_share(report, &format!("{path}.delay.percent"), delay.percent);
        let path = format!("{path}.delay.time");
        positive(report, &path, delay.time);
        if delay.time > LONGEST {
            let fact = format!("must be at most {LONGEST}, found {}", delay.time);
            report.error(path, fact, "write a shorter time");
        }
    }
    if let Some(it) = &it.abort {
        abort(it, &format!("{path}.abort"), report);
    }
    for name in it.when.headers.keys() {
        let path = format!("{path}.when.headers.{name}");
        accept(report, &path, token(name, "header name"));
    }
    values(&it.when.headers, &format!("{path}.when.headers"), report);
    principals(&it.principals, path, report);
    guarded(it, path, report);
}

fn abort(it: &FaultAbort, path: &str, report: &mut Report) {
    some_share(report, &format!("{path}.percent"), it.percent);
    let given = quoted(&[
        ("status", it.status.is_some()),
        ("grpc_status", it.grpc_status.is_some()),
    ]);
    if given.len() != 1 {
        let count = ["no status", "", "2 statuses"][given.len()];
        report.error(
            path,
            format!("answers with {count}"),
            "give one of `status` and `grpc_status`",
        );
    }
    if let Some(status) = it.status {
        within(report, &format!("{path}.status"), status, 400, 599);
    }
    if let Some(status) = it.grpc_status {
        within(report, &format!("{path}.grpc_status"), status, 1, 16);
    }
}

/// A fault hits whom it is meant for: everybody only on purpose, and nobody who is a stranger may make one.
fn guarded(it: &Fault, path: &str, report: &mut Report) {
    let knows_callers = !it.principals.is_empty() || !it.clients.is_empty();
    let is_guarded = knows_callers || !it.when.headers.is_empty();
    match (is_guarded, it.everyone) {
        (false, false) => report.error(
            path,
            "nothing guards it, so every request could be hit",
            "give `when`, `principals` or `clients`, or write `everyone: true` if that is meant",
        ),
        (true, true) => report.error(
            format!("{path}.everyone"),
            "is said of a fault that is guarded",
            "remove it, or remove `when`, `principals` and `clients`",
        ),
        (true, false) | (false, true) => {}
    }
    if it.by_header && !knows_callers {
        report.error(
            format!("{path}.by_header"),
            "lets strangers delay and abort requests",
            "say with `principals` or `clients` who may",
        );
    }
}

const LONGEST: Time = Time::secs(300);
