//! What a configuration may do but hardly means: rules that never win, trust in everyone, retries that act twice.
//! It must not refuse anything; every finding here is a warning, and begins with the lint's name in brackets.
//! Called by `config::load` after `config::rules`, and by `windrose check`.

mod balance;
mod chains;
mod policies;
mod shadow;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use ipnet::IpNet;
use windrose_plugins::contract::Time;

use super::report::{Finding, Report};
use super::schema::{Config, Retry, RetryOn, Route, RouteTimeouts, Rule, Verify};

/// Reports every doubt.
pub fn check(config: &Config, report: &mut Report) {
    shadow::check(config, report);
    chains::check(config, report);
    balance::check(config, report);
    for (at, route) in config.routes.iter().enumerate() {
        routes(route, &format!("routes[{at}]"), report);
    }
    long_queues(config, report);
    trust(config, report);
    pools(config, report);
    // What nothing uses, nobody can be and nobody may is only known of the whole.
    if config.gaps.is_empty() {
        unused_pools(config, report);
        chains::unused(config, report);
        policies::check(config, report);
    }
}

/// Whether a finding is a lint's: those begin with its name in brackets.
pub(super) fn is_lint(finding: &Finding) -> bool {
    finding.fact.starts_with('[')
}

fn routes(route: &Route, path: &str, report: &mut Report) {
    let own = format!("{path}.timeouts");
    for (key, part) in parts(&route.timeouts) {
        longer(key, part, route.timeouts.request, &own, key, report);
    }
    if let Some(retry) = &route.retry {
        unsafe_retry(retry, path, report);
    }
    for (at, rule) in route.rules.iter().enumerate() {
        let path = format!("{path}.rules[{at}]");
        if let Some(retry) = &rule.retry {
            unsafe_retry(retry, &path, report);
        }
        times(rule, route, &format!("{path}.timeouts"), report);
    }
}

/// A rule's times beside those it takes over from its route. What is written at the rule is what is reported.
fn times(rule: &Rule, route: &Route, path: &str, report: &mut Report) {
    let whole = rule.timeouts.request;
    let outer = parts(&route.timeouts);
    for ((key, part), (_, outer)) in parts(&rule.timeouts).into_iter().zip(outer) {
        let written = match (part, whole) {
            (None, None) => continue,
            (Some(_), _) => key,
            (None, Some(_)) => "request",
        };
        let whole = whole.or(route.timeouts.request);
        longer(key, part.or(outer), whole, path, written, report);
    }
}

/// The times that are part of the whole request's. A time of zero is a decision too: no bound.
fn parts(times: &RouteTimeouts) -> [(&'static str, Option<Time>); 2] {
    [
        ("response_header", times.response_header),
        ("per_try", times.per_try),
    ]
}

fn longer(
    key: &str,
    part: Option<Time>,
    whole: Option<Time>,
    path: &str,
    written: &str,
    report: &mut Report,
) {
    let (Some(part), Some(whole)) = (part, whole) else {
        return;
    };
    if whole > Time::secs(0) && part > whole {
        report.warning(
            format!("{path}.{written}"),
            format!("[timeout_longer_than_parent] {key} ({part}) is longer than request ({whole}), which ends first"),
            format!("lower `{key}`, or raise `request`"),
        );
    }
}

/// A queue in which the request's own time always ends first.
fn long_queues(config: &Config, report: &mut Report) {
    let waits = config.pools.iter().filter_map(|pool| {
        let wait = pool.limits.as_ref()?.queue_timeout?;
        Some((pool.name.as_str(), wait))
    });
    let waits: HashMap<&str, Time> = waits.collect();
    for (at, route) in config.routes.iter().enumerate() {
        for (index, rule) in route.rules.iter().enumerate() {
            let whole = rule.timeouts.request.or(route.timeouts.request);
            let Some(whole) = whole.filter(|whole| *whole > Time::secs(0)) else {
                continue;
            };
            let names: BTreeSet<&str> = rule.destinations().map(|(name, _)| name).collect();
            for name in names {
                let wait = waits.get(name).filter(|wait| **wait > whole);
                if let Some(wait) = wait {
                    report.warning(
                        format!("routes[{at}].rules[{index}]"),
                        format!("[timeout_longer_than_parent] queue_timeout ({wait}) of pool \"{name}\" is longer than request ({whole}), which ends first"),
                        "lower `limits.queue_timeout`, or raise `timeouts.request`",
                    );
                }
            }
        }
    }
}

fn unsafe_retry(retry: &Retry, path: &str, report: &mut Report) {
    let repeats = [RetryOn::Reset, RetryOn::PerTryTimeout];
    let repeats = repeats.iter().any(|failure| retry.on.contains(failure));
    if retry.attempts == 0 || (!repeats && retry.statuses.is_empty()) {
        return;
    }
    for (at, method) in retry.methods.iter().enumerate() {
        if matches!(method.as_str(), "POST" | "PATCH") {
            report.warning(
                format!("{path}.retry.methods[{at}]"),
                format!("[unsafe_retry] \"{method}\" is sent again after a failure, when the first one may have been carried out"),
                "remove it, or make sure that the service recognises repetitions (an idempotency key)",
            );
        }
    }
}

fn trust(config: &Config, report: &mut Report) {
    for (at, listener) in config.listeners.iter().enumerate() {
        everyone(
            &listener.trusted_proxies,
            &format!("listeners[{at}].trusted_proxies"),
            report,
        );
        everyone(
            &listener.proxy_protocol.trusted,
            &format!("listeners[{at}].proxy_protocol.trusted"),
            report,
        );
    }
}

fn everyone(networks: &[IpNet], path: &str, report: &mut Report) {
    for (at, network) in networks
        .iter()
        .enumerate()
        .filter(|(_, network)| network.prefix_len() == 0)
    {
        report.warning(
            format!("{path}[{at}]"),
            format!("[trust_everyone] \"{network}\" lets every client choose the address it seems to come from"),
            "name the networks of the proxies in front, such as \"10.0.0.0/8\"",
        );
    }
}

/// Pools that the settings of a plugin name: all that are called by `pool`, at any depth.
fn called(config: &serde_yaml::Value) -> Vec<&str> {
    match config {
        serde_yaml::Value::Mapping(map) => {
            let own = map.get("pool").and_then(serde_yaml::Value::as_str);
            let below = map.values().flat_map(called);
            own.into_iter().chain(below).collect()
        }
        serde_yaml::Value::Sequence(list) => list.iter().flat_map(called).collect(),
        _ => Vec::new(),
    }
}

fn unused_pools(config: &Config, report: &mut Report) {
    let rules = || config.routes.iter().flat_map(|route| &route.rules);
    let one = rules().filter_map(|rule| rule.pool.as_deref());
    let many = rules()
        .flat_map(|rule| &rule.split)
        .map(|target| target.pool.as_str());
    let mirrors = rules().flat_map(|rule| &rule.mirror);
    let mirrors = mirrors.map(|mirror| mirror.pool.as_str());
    let called = chains::everywhere(config)
        .into_iter()
        .flat_map(|(_, plugin)| called(&plugin.config));
    let used: HashSet<&str> = one.chain(many).chain(mirrors).chain(called).collect();
    for (at, pool) in config.pools.iter().enumerate() {
        let (path, name) = (format!("pools[{at}]"), &pool.name);
        if !used.contains(name.as_str()) {
            report.warning(
                &path,
                format!("[unused_pool] no rule sends anything to \"{name}\""),
                "remove it, or use it in a rule",
            );
        }
    }
}

fn pools(config: &Config, report: &mut Report) {
    for (at, pool) in config.pools.iter().enumerate() {
        let (path, name) = (format!("pools[{at}]"), &pool.name);
        if pool.endpoints.len() == 1 && pool.discovery.is_none() && pool.health.is_none() {
            report.warning(
                &path,
                format!("[lonely_pool] \"{name}\" has one endpoint and no health check"),
                "add an endpoint to turn to, or `health` to see it fail before clients do",
            );
        }
        if pool
            .tls
            .as_ref()
            .is_some_and(|tls| tls.verify == Verify::None)
        {
            report.warning(
                format!("{path}.tls.verify"),
                "[verify_none] anyone on the path to the endpoints can read and change the traffic",
                "use `full`, and `ca` for an authority of your own",
            );
        }
    }
}
