//! Rules of `split`, `sticky` and `override`: shares that can be told apart, and keys that can decide between them.
//! It must not know pools; `routes` checks references.
//! Called by `config::rules::routes` for each rule.

use std::collections::HashSet;

use super::matches::principals;
use super::values::{accept, given, quoted, token, within};
use super::well_formed;
use crate::config::report::Report;
use crate::config::schema::{Override, RouteProtocol, Rule, SplitTarget, Sticky};

/// Checks the split of a rule and what stands beside it.
pub(super) fn check(rule: &Rule, protocol: RouteProtocol, path: &str, report: &mut Report) {
    shares(&rule.split, &format!("{path}.split"), report);
    if let Some(key) = &rule.sticky {
        let path = format!("{path}.sticky");
        sticky(key, &path, report);
        if protocol == RouteProtocol::Tcp && *key != Sticky::ClientIp {
            report.error(
                &path,
                "reads requests, and this route carries bytes",
                "use `sticky: client_ip`",
            );
        }
    }
    if let Some(it) = &rule.overriding {
        overriding(it, &format!("{path}.override"), report);
    }
    let beside = [
        ("sticky", rule.sticky.is_some()),
        ("override", rule.overriding.is_some()),
    ];
    for (key, _) in beside.iter().filter(|(_, given)| *given) {
        if rule.split.is_empty() {
            report.error(
                format!("{path}.{key}"),
                "is used only with `split`",
                "remove it, or divide the requests with `split`",
            );
        }
    }
}

fn shares(split: &[SplitTarget], path: &str, report: &mut Report) {
    let (mut pools, mut names) = (HashSet::new(), HashSet::new());
    for (at, target) in split.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let weight = format!("{path}.weight");
        within(report, &weight, target.weight, 0, 1_000_000);
        let name = target.name.as_ref();
        if let Some(name) = name {
            well_formed(report, &format!("{path}.name"), "-_.", name);
        }
        if !pools.insert((&target.pool, &target.subset)) {
            report.error(
                format!("{path}.pool"),
                format!("\"{}\" has a share already", target.pool),
                "add the weights together in one entry, or give each its own `subset`",
            );
        } else if !names.insert(name.unwrap_or(&target.pool)) {
            report.error(
                format!("{path}.name"),
                format!(
                    "a share is named \"{}\" already",
                    name.unwrap_or(&target.pool)
                ),
                "names of shares are unique in their split; without one the pool's name counts",
            );
        }
    }
    if split.len() > MOST_SHARES {
        report.error(
            path,
            format!("has {} entries, more than {MOST_SHARES}", split.len()),
            "each request with a key looks at every share; use several rules",
        );
    }
    if !split.is_empty() && split.iter().all(|target| target.weight == 0) {
        report.error(
            path,
            "the weights add up to 0, so no request can go anywhere",
            "give one pool a weight above 0",
        );
    }
}

fn sticky(key: &Sticky, path: &str, report: &mut Report) {
    match key {
        Sticky::ClientIp | Sticky::Principal => {}
        Sticky::Header(name) => {
            accept(
                report,
                &format!("{path}.header"),
                token(name, "header name"),
            );
        }
        Sticky::Cookie(name) => {
            accept(
                report,
                &format!("{path}.cookie"),
                token(name, "cookie name"),
            );
        }
        Sticky::Query(name) => given(report, &format!("{path}.query"), name),
    }
}

fn overriding(it: &Override, path: &str, report: &mut Report) {
    let by = [
        ("header", it.header.is_some()),
        ("cookie", it.cookie.is_some()),
    ];
    let found = quoted(&by);
    if found.len() != 1 {
        report.error(
            path,
            format!(
                "names {} places for the name of a share",
                ["no", "", "2"][found.len()]
            ),
            "give one of `header` and `cookie`",
        );
    }
    if let Some(name) = &it.header {
        let path = format!("{path}.header");
        accept(report, &path, token(name, "header name"));
    }
    if let Some(name) = &it.cookie {
        let path = format!("{path}.cookie");
        accept(report, &path, token(name, "cookie name"));
    }
    principals(&it.principals, path, report);
    let is_guarded = !it.principals.is_empty() || !it.clients.is_empty();
    match (is_guarded, it.everyone) {
        (false, false) => report.error(
            path,
            "nothing guards it, so every stranger could choose a share",
            "give `principals` or `clients`, or write `everyone: true` if that is meant",
        ),
        (true, true) => report.error(
            format!("{path}.everyone"),
            "is said of an override that is guarded",
            "remove it, or remove `principals` and `clients`",
        ),
        (true, false) | (false, true) => {}
    }
}

/// Far more than anybody deals between.
const MOST_SHARES: usize = 64;
