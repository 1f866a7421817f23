//! Rules of `routes`: where they are attached, and that each rule has one action it can carry out.
//! It must not know conditions and the insides of actions; `matches` and `actions` check those.
//! Called by `config::rules::check`.

use super::listeners::word;
use super::subsets::Subsets;
use super::values::{accept, host_pattern, quoted};
use super::{actions, matches, mirror, protocol_of, retry, split, Names};
use crate::config::report::Report;
use crate::config::schema::{
    Config, Hold, Match, PoolProtocol, Protocol, Route, RouteProtocol, Rule,
};

/// Checks every route, and says which subsets they ask of pools.
pub(super) fn check<'a>(config: &'a Config, names: &Names<'a>, report: &mut Report) -> Subsets<'a> {
    let mut subsets = Subsets::default();
    subsets.has_broken_routes = config.gaps.within("routes");
    for (at, route) in config.routes.iter().enumerate() {
        let path = format!("routes[{at}]");
        attached(route, names, &path, report);
        hosts(route, &path, report);
        let rules = route.rules.iter().enumerate();
        let rules = rules.map(|(at, rule)| (format!("{path}.rules[{at}]"), rule));
        // Of a route that is quarantined only the place is left.
        if route.is_quarantined && !route.is_gap {
            subsets.has_broken_routes = true;
            rules
                .into_iter()
                .for_each(|(path, rule)| conditions(route, rule, &path, report));
            continue;
        }
        names.plugins(report, &format!("{path}.plugins"), &route.plugins);
        if !route.is_gap {
            settings(route, &path, report);
        }
        for (path, rule) in rules {
            one_rule(route, rule, names, &path, report);
            subsets.rule(rule, names, &path, report);
        }
    }
    subsets
}

fn hosts(route: &Route, path: &str, report: &mut Report) {
    for (at, host) in route.hosts.iter().enumerate() {
        let path = format!("{path}.hosts[{at}]");
        accept(report, &path, host_pattern(host));
        if route.hosts[..at].contains(host) {
            report.error(
                path,
                format!("\"{host}\" is in the list already"),
                "remove the repetition",
            );
        }
    }
}

fn settings(route: &Route, path: &str, report: &mut Report) {
    retry::timeouts(&route.timeouts, &format!("{path}.timeouts"), report);
    if let Some(it) = &route.retry {
        retry::retry(it, &format!("{path}.retry"), report);
    }
    if route.protocol == RouteProtocol::Tcp {
        let used = [
            ("plugins", !route.plugins.is_empty()),
            ("body_limit", route.body_limit.is_some()),
            (
                "timeouts.response_header",
                route.timeouts.response_header.is_some(),
            ),
            ("timeouts.request", route.timeouts.request.is_some()),
            ("timeouts.per_try", route.timeouts.per_try.is_some()),
            (
                "timeouts.client_deadline",
                route.timeouts.client_deadline.is_some(),
            ),
            ("retry", route.retry.is_some()),
        ];
        unused_by_tcp(&used, path, report);
    }
    if route.rules.is_empty() {
        report.error(
            format!("{path}.rules"),
            "must not be empty, found []",
            "add a rule with an action such as `pool`",
        );
    }
}

fn attached(route: &Route, names: &Names<'_>, path: &str, report: &mut Report) {
    let Some(listeners) = &route.listeners else {
        return;
    };
    // That services have no listener is said of all of them at once.
    if listeners.is_empty() && route.service.is_none() {
        report.error(
            format!("{path}.listeners"),
            "must not be empty, found []",
            "leave it out for every listener with role `ingress`",
        );
    }
    for (at, name) in listeners.iter().enumerate() {
        let path = format!("{path}.listeners[{at}]");
        if listeners[..at].contains(name) {
            report.error(
                &path,
                format!("\"{name}\" is in the list already"),
                "remove the repetition",
            );
        }
        let Some(listener) = names.listener(report, &path, name) else {
            continue;
        };
        if listener.hold == Hold::Out {
            continue;
        }
        let speaks = protocol_of(listener);
        match (route.protocol, speaks) {
            (RouteProtocol::Http, Protocol::Tcp | Protocol::TlsPassthrough) => report.error(
                path,
                format!("\"{name}\" has protocol \"{}\" and sees no requests", word(speaks)),
                "give this route `protocol: tcp`, or attach it to an `http`, `https` or `auto` listener",
            ),
            (RouteProtocol::Tcp, Protocol::Http | Protocol::Https) => report.error(
                path,
                format!("\"{name}\" has protocol \"{}\" and passes no bytes through", word(speaks)),
                "attach it to a `tcp`, `tls_passthrough` or `auto` listener",
            ),
            (RouteProtocol::Http, Protocol::Http | Protocol::Https | Protocol::Auto)
            | (RouteProtocol::Tcp, Protocol::Tcp | Protocol::TlsPassthrough | Protocol::Auto) => {}
        }
    }
}

fn one_rule(route: &Route, rule: &Rule, names: &Names<'_>, path: &str, report: &mut Report) {
    names.plugins(report, &format!("{path}.plugins"), &rule.plugins);
    if rule.is_gap {
        return;
    }
    one_action(rule, path, report);
    pools(route, rule, names, path, report);
    conditions(route, rule, path, report);
    match route.protocol {
        RouteProtocol::Tcp => unused_by_tcp(&http_settings(rule), path, report),
        RouteProtocol::Http => actions::check(rule, path, report),
    }
    retry::timeouts(&rule.timeouts, &format!("{path}.timeouts"), report);
}

fn conditions(route: &Route, rule: &Rule, path: &str, report: &mut Report) {
    for (at, found) in rule.matches.iter().enumerate() {
        let path = format!("{path}.match[{at}]");
        matches::check(found, &path, report);
        if route.protocol == RouteProtocol::Tcp {
            unused_by_tcp(&http_conditions(found), &path, report);
        }
    }
}

fn one_action(rule: &Rule, path: &str, report: &mut Report) {
    let actions = [
        ("pool", rule.pool.is_some()),
        ("split", !rule.split.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("respond", rule.respond.is_some()),
    ];
    let given = quoted(&actions);
    match given.len() {
        1 => {}
        0 => report.error(
            path,
            "has no action",
            "give one of `pool`, `split`, `redirect` and `respond`",
        ),
        _ => report.error(
            path,
            format!("has {} actions: {}", given.len(), given.join(", ")),
            "keep one; write another rule for another action",
        ),
    }
}

fn pools(route: &Route, rule: &Rule, names: &Names<'_>, path: &str, report: &mut Report) {
    let one = rule.pool.iter().map(|name| (format!("{path}.pool"), name));
    let many = rule
        .split
        .iter()
        .enumerate()
        .map(|(at, target)| (format!("{path}.split[{at}].pool"), &target.pool));
    for (path, name) in one.chain(many) {
        let Some(pool) = names.pool(report, &path, name) else {
            continue;
        };
        if pool.is_quarantined {
            continue;
        }
        match (route.protocol, pool.protocol == PoolProtocol::Tcp) {
            (RouteProtocol::Http, true) => report.error(path, format!("the pool \"{name}\" has protocol \"tcp\", and this route carries requests"), "use a pool with protocol `http1`, `http2` or `auto`, or give the route `protocol: tcp`"),
            (RouteProtocol::Tcp, false) => report.error(path, format!("the pool \"{name}\" does not have protocol \"tcp\", and this route carries bytes"), "give the pool `protocol: tcp`, or the route `protocol: http`"),
            (RouteProtocol::Http, false) | (RouteProtocol::Tcp, true) => {}
        }
    }
    split::check(rule, route.protocol, path, report);
    mirror::check(&rule.mirror, names, path, report);
}

fn http_conditions(found: &Match) -> [(&'static str, bool); 5] {
    [
        ("path", found.path.is_some()),
        ("method", found.method.is_some()),
        ("headers", !found.headers.is_empty()),
        ("query", !found.query.is_empty()),
        ("principals", !found.principals.is_empty()),
    ]
}

fn http_settings(rule: &Rule) -> Vec<(&'static str, bool)> {
    vec![
        ("redirect", rule.redirect.is_some()),
        ("respond", rule.respond.is_some()),
        ("override", rule.overriding.is_some()),
        ("fault", rule.fault.is_some()),
        ("mirror", !rule.mirror.is_empty()),
        ("rewrite", rule.rewrite.is_some()),
        (
            "request_headers",
            rule.request_headers != Default::default(),
        ),
        (
            "response_headers",
            rule.response_headers != Default::default(),
        ),
        ("retry", rule.retry.is_some()),
        ("body_limit", rule.body_limit.is_some()),
        ("plugins", !rule.plugins.is_empty()),
        (
            "timeouts.response_header",
            rule.timeouts.response_header.is_some(),
        ),
        ("timeouts.request", rule.timeouts.request.is_some()),
        ("timeouts.per_try", rule.timeouts.per_try.is_some()),
        (
            "timeouts.client_deadline",
            rule.timeouts.client_deadline.is_some(),
        ),
    ]
}

fn unused_by_tcp(keys: &[(&str, bool)], path: &str, report: &mut Report) {
    for (key, _) in keys.iter().filter(|(_, given)| *given) {
        report.error(
            format!("{path}.{key}"),
            "is not used by a route with protocol \"tcp\"",
            "remove it; such rules match `clients`, `sni` and `destinations` and send to `pool` or `split`",
        );
    }
}
