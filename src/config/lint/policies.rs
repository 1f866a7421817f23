//! Lints of policies that hardly do what was meant: rules that never decide, refusals of everything, callers nobody can be.
//! It must not guess: only lists that are equal, or absent in the wider rule, count.
//! Called by `config::lint::check`.

use crate::config::report::Report;
use crate::config::rules::protocol_of;
use crate::config::schema::{
    Config, Endpoint, Listener, Policy, PolicyAction, PolicyFrom, PolicyMode, PolicyRule,
    PolicyTarget, PolicyWhen, PortHint, Protocol, Role, Route, RouteProtocol, Unknown,
};

/// Warns of what policies hardly mean.
pub(super) fn check(config: &Config, report: &mut Report) {
    for (at, policy) in config.policies.iter().enumerate() {
        let path = format!("policies[{at}]");
        extent(policy, &path, report);
        bytes(config, policy, &path, report);
        passed_by(config, policy, &path, report);
        nowhere(config, policy, &path, report);
        for (nth, rule) in policy.rules.iter().enumerate() {
            let path = format!("{path}.rules[{nth}]");
            if let Some(wider) = wider(config, at, nth) {
                report.warning(
                    &path,
                    format!("[unreachable_policy_rule] never decides: {wider} covers everything it matches"),
                    "remove it, or narrow the other",
                );
            }
            strangers(policy, rule, &path, report);
            foreign(config, rule, &path, report);
        }
    }
    all_denied(config, report);
}

/// Policies that mean everything or nothing.
fn extent(policy: &Policy, path: &str, report: &mut Report) {
    let is_everything = policy
        .rules
        .iter()
        .any(|rule| *rule == PolicyRule::default());
    let whole = policy.to == PolicyTarget::default();
    match (policy.action, policy.rules.is_empty(), is_everything) {
        (PolicyAction::Allow, true, _) => report.warning(
            format!("{path}.rules"),
            "[policy_without_rules] a policy that allows and has no rules refuses everyone",
            "add a rule; to refuse on purpose write `action: deny` and `rules: [{}]`",
        ),
        (PolicyAction::Deny, true, _) => report.warning(
            format!("{path}.rules"),
            "[policy_without_rules] a policy that denies and has no rules does nothing",
            "add a rule, or remove the policy",
        ),
        (PolicyAction::Deny, false, true) if whole && policy.mode == PolicyMode::Enforce => {
            report.warning(
                path,
                "[deny_everything] refuses every request of every route, whatever other policies allow",
                "name what it guards in `to`, or whom it is for in a rule's `from`",
            );
        }
        _ => {}
    }
}

/// Conditions on HTTP where connections are passed through as bytes.
fn bytes(config: &Config, policy: &Policy, path: &str, report: &mut Report) {
    let is_meant = |route: &&Route| {
        route.protocol == RouteProtocol::Tcp
            && (policy.to.routes.is_empty() || policy.to.routes.contains(&route.name))
            && (policy.to.services.is_empty() || is_of(config, &policy.to.services, route))
            && (policy.to.pools.is_empty()
                || route.rules.iter().any(|rule| {
                    rule.destinations()
                        .any(|(pool, _)| policy.to.pools.iter().any(|name| name == pool))
                }))
    };
    let Some(route) = config.routes.iter().find(is_meant) else {
        return;
    };
    for (nth, rule) in policy.rules.iter().enumerate() {
        if !asks_http(&rule.when) {
            continue;
        }
        let effect = match policy.action {
            PolicyAction::Deny => "so it refuses every connection of its callers there",
            PolicyAction::Allow => "so it lets no connection through there",
        };
        report.warning(
            format!("{path}.rules[{nth}].when"),
            format!("[http_policy_on_bytes] asks about HTTP, and route \"{}\" passes bytes through, {effect}", route.name),
            "name in `to` the routes and listeners it is for, and give connections a policy of their own",
        );
    }
}

/// Policies of routes for requests whose endpoints the same listener also reaches with bytes, which such policies do not see.
fn passed_by(config: &Config, policy: &Policy, path: &str, report: &mut Report) {
    let named = |route: &&Route| policy.to.routes.contains(&route.name);
    let is_asked = |listener: &&Listener| {
        let listeners = &policy.to.listeners;
        listeners.is_empty() || listeners.contains(&listener.name)
    };
    let requests = config.routes.iter().filter(named);
    for route in requests.filter(|route| route.protocol == RouteProtocol::Http) {
        let listeners = config.listeners.iter().filter(is_asked);
        let mut looking = listeners.filter(|one| protocol_of(one) == Protocol::Auto);
        let around = looking.find_map(|listener| {
            let way = around(config, listener, route, policy)?;
            Some((listener, way))
        });
        if let Some((listener, way)) = around {
            report.warning(
                format!("{path}.to.routes"),
                format!("[policy_passed_by] route \"{}\" is for requests, and listener \"{}\" leads to the same place with bytes, by {way}, which this policy is not for", route.name, listener.name),
                "name that route in `to.routes` as well, or let the listener take only requests: `protocol: http`, or the hint `http` in its `ports`",
            );
        }
    }
}

/// How bytes get where a route's requests go.
fn around(config: &Config, listener: &Listener, route: &Route, policy: &Policy) -> Option<String> {
    let is_served = |route: &Route| match &route.listeners {
        Some(names) => names.contains(&listener.name),
        None => listener.role == Role::Ingress,
    };
    if !is_served(route) {
        return None;
    }
    let is_http = |hint: &PortHint| matches!(hint, PortHint::Http);
    let passes = listener.unknown == Some(Unknown::Passthrough);
    if listener.role == Role::MeshInbound && passes && !listener.ports.values().any(is_http) {
        return Some("`unknown: passthrough`".to_owned());
    }
    let ends = ends(config, route);
    let mut others = config.routes.iter().filter(|other| {
        other.protocol == RouteProtocol::Tcp
            && is_served(other)
            && !policy.to.routes.contains(&other.name)
    });
    let same = |other: &&Route| {
        self::ends(config, other)
            .iter()
            .any(|end| ends.contains(end))
    };
    Some(format!("route \"{}\"", others.find(same)?.name))
}

/// The pools of a route, and the addresses of their endpoints.
fn ends<'c>(config: &'c Config, route: &'c Route) -> Vec<&'c str> {
    let pools = route.rules.iter().flat_map(|rule| rule.destinations());
    let mut ends: Vec<&str> = pools.map(|(pool, _)| pool).collect();
    let pools = config.pools.iter();
    let of_route = pools.filter(|pool| ends.contains(&&*pool.name));
    let endpoints: Vec<&str> = of_route
        .flat_map(|pool| pool.endpoints.iter().map(address))
        .collect();
    ends.extend(endpoints);
    ends
}

fn address(endpoint: &Endpoint) -> &str {
    match endpoint {
        Endpoint::Address(address) => address,
        Endpoint::Full(settings) => &settings.address,
    }
}

/// Services that nothing leads to where the policy is for.
fn nowhere(config: &Config, policy: &Policy, path: &str, report: &mut Report) {
    let to = &policy.to;
    let own = || {
        let routes = config.routes.iter();
        routes.filter(|route| is_of(config, &to.services, route))
    };
    // Those that are not there are an error already.
    if own().next().is_none() {
        return;
    }
    let pools = |route: &Route| -> Vec<String> {
        let rules = route.rules.iter();
        let all = rules.flat_map(|rule| rule.destinations());
        all.map(|(pool, _)| pool.to_owned()).collect()
    };
    let own_pools: Vec<String> = own().flat_map(pools).collect();
    let is_met = |route: &&Route| {
        let pools = pools(route);
        let listeners = route.listeners.as_deref();
        let is_there = |names: &[String]| match to.listeners.is_empty() {
            true => !names.is_empty(),
            false => names.iter().any(|name| to.listeners.contains(name)),
        };
        (is_of(config, &to.services, route) || pools.iter().any(|it| own_pools.contains(it)))
            && (to.routes.is_empty() || to.routes.contains(&route.name))
            && (to.pools.is_empty() || pools.iter().any(|it| to.pools.contains(it)))
            && listeners.is_none_or(is_there)
    };
    if !config.routes.iter().any(|route| is_met(&route)) {
        report.warning(
            format!("{path}.to"),
            "[policy_for_nothing] no route of these services is at a listener that the policy is for, so it never decides",
            "every key of `to` has to fit; services are called at mesh-outbound listeners",
        );
    }
}

/// Whether a route is one of these services' own.
fn is_of(config: &Config, services: &[String], route: &Route) -> bool {
    let service = route.service.as_ref();
    let service = service.and_then(|service| config.services.get(service.at));
    service.is_some_and(|service| services.contains(&service.name))
}

fn asks_http(when: &PolicyWhen) -> bool {
    let is_of_request = |text: &String| text.contains("request.");
    !(when.methods.is_empty()
        && when.not_methods.is_empty()
        && when.paths.is_empty()
        && when.not_paths.is_empty()
        && when.headers.is_empty())
        || when.cel.as_ref().is_some_and(is_of_request)
}

/// Rules for callers who cannot be told apart from anyone: only fields, which callers write themselves.
fn strangers(policy: &Policy, rule: &PolicyRule, path: &str, report: &mut Report) {
    let anyone = rule.from == PolicyFrom::default();
    if policy.action == PolicyAction::Allow && anyone && !rule.when.headers.is_empty() {
        report.warning(
            format!("{path}.when.headers"),
            "[header_as_proof] lets in whoever sends these fields, and callers send what they like",
            "add who may call under `from`",
        );
    }
}

/// Callers of trust domains that nobody here believes, where it is known whom one believes.
fn foreign(config: &Config, rule: &PolicyRule, path: &str, report: &mut Report) {
    let Some(identity) = &config.identity else {
        return;
    };
    let federated = identity.federated.iter().map(|it| &*it.trust_domain);
    let known: Vec<&str> = federated.chain([&*identity.trust_domain]).collect();
    let of_id = |id: &String| {
        let (domain, _) = id.strip_prefix("spiffe://")?.split_once('/')?;
        Some(domain.to_owned())
    };
    let from = &rule.from;
    let ids = from.principals.iter().enumerate();
    let ids = ids.filter_map(|(at, id)| Some((format!("principals[{at}]"), of_id(id)?)));
    let domains = from.trust_domains.iter().enumerate();
    let domains = domains.map(|(at, domain)| (format!("trust_domains[{at}]"), domain.clone()));
    for (key, domain) in ids.chain(domains) {
        if !known.contains(&&*domain) {
            report.warning(
                format!("{path}.from.{key}"),
                format!("[unknown_trust_domain] nobody of \"{domain}\" can prove who they are: it is neither `identity.trust_domain` nor federated"),
                format!("known: {}; add it to `identity.federated`, or correct the name", known.join(", ")),
            );
        }
    }
}

/// The default that refuses, with nothing that allows.
fn all_denied(config: &Config, report: &mut Report) {
    let allows = |policy: &Policy| {
        policy.action == PolicyAction::Allow && policy.mode == PolicyMode::Enforce
    };
    let is_denied = config.authorization.default == PolicyAction::Deny;
    if is_denied && !config.policies.iter().any(allows) {
        report.warning(
            "authorization.default",
            "[deny_everything] no policy allows anything, so every request is refused",
            "add a policy with `action: allow`, in mode `enforce`",
        );
    }
}

/// An earlier rule of the same action, or any of one that denies, that takes everything this one does.
fn wider(config: &Config, at: usize, nth: usize) -> Option<String> {
    let late = &config.policies[at];
    let rule = &late.rules[nth];
    let others = config
        .policies
        .iter()
        .enumerate()
        .flat_map(|(other, policy)| {
            let rules = policy.rules.iter().enumerate();
            rules.map(move |(index, rule)| (other, index, policy, rule))
        });
    let covers = |(other, index, policy, wide): &(usize, usize, &Policy, &PolicyRule)| {
        let is_itself = *other == at && *index == nth;
        let is_before = (*other, *index) < (at, nth);
        let decides_first = match (policy.action, late.action) {
            (PolicyAction::Deny, PolicyAction::Allow) => true,
            (one, other) => one == other && is_before,
        };
        !is_itself
            && decides_first
            && policy.mode == late.mode
            && is_target(&policy.to, &late.to)
            && is_within(&wide.from, &rule.from)
            && is_called(&wide.when, &rule.when)
    };
    let found = others.into_iter().find(covers)?;
    Some(format!("policies[{}].rules[{}]", found.0, found.1))
}

fn is_target(wide: &PolicyTarget, narrow: &PolicyTarget) -> bool {
    covers(&wide.listeners, &narrow.listeners)
        && covers(&wide.routes, &narrow.routes)
        && covers(&wide.services, &narrow.services)
        && covers(&wide.pools, &narrow.pools)
}

fn is_within(wide: &PolicyFrom, narrow: &PolicyFrom) -> bool {
    covers(&wide.principals, &narrow.principals)
        && covers(&wide.trust_domains, &narrow.trust_domains)
        && covers(&wide.namespaces, &narrow.namespaces)
        && covers(&wide.service_accounts, &narrow.service_accounts)
        && covers(&wide.consumers, &narrow.consumers)
        && covers(&wide.clients, &narrow.clients)
        && excludes(&wide.not_principals, &narrow.not_principals)
        && excludes(&wide.not_trust_domains, &narrow.not_trust_domains)
        && excludes(&wide.not_namespaces, &narrow.not_namespaces)
        && excludes(&wide.not_clients, &narrow.not_clients)
}

fn is_called(wide: &PolicyWhen, narrow: &PolicyWhen) -> bool {
    covers(&wide.methods, &narrow.methods)
        && covers(&wide.paths, &narrow.paths)
        && covers(&wide.hosts, &narrow.hosts)
        && covers(&wide.ports, &narrow.ports)
        && excludes(&wide.not_methods, &narrow.not_methods)
        && excludes(&wide.not_paths, &narrow.not_paths)
        && excludes(&wide.not_hosts, &narrow.not_hosts)
        && excludes(&wide.not_ports, &narrow.not_ports)
        && (wide.headers.is_empty() || wide.headers == narrow.headers)
        && (wide.cel.is_none() || wide.cel == narrow.cel)
}

/// Whether every value of the second list passes the first; none means any.
fn covers<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|value| wide.contains(value)))
}

/// Whether what the first list takes away, the second takes away as well.
fn excludes<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.iter().all(|value| narrow.contains(value))
}
