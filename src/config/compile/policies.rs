//! Policies in matching form, and the set of them for each place.
//! It must not know requests.
//! Called by `compile`; tables of routes take their sets from [`Book`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::routes::{pattern_of_path, value};
use super::Means;
use crate::config::schema::{self, Config, PolicyAction, PolicyMode};
use crate::snapshot::net::NetSet;
use crate::snapshot::policy::{
    expression, Callers, Effect, From, Mode, Policies, Policy, PolicyRule, PolicySet, Services,
    Target, When, NO_POLICY,
};
use crate::snapshot::route::{HostPattern, PrincipalPattern};

/// Every policy, and the sets made so far.
pub(super) struct Book {
    pub(super) policies: Policies,
    default_metrics: Arc<crate::observe::metrics::PolicyMetrics>,
    /// By the positions of their policies: most places share one.
    sets: Mutex<HashMap<Vec<usize>, Arc<PolicySet>>>,
}

impl Book {
    pub(super) fn of(config: &Config, means: &Means<'_>) -> Book {
        let all = config.policies.iter().enumerate();
        let all = all.filter_map(|(at, one)| {
            let target = target(&one.to, config);
            policy(one, target, &format!("policies[{at}]"), means)
        });
        Book {
            policies: Policies {
                default: effect(config.authorization.default),
                default_place: (means.place)("authorization.default").into(),
                all: all.map(Arc::new).collect(),
                callers: callers(config),
            },
            default_metrics: means.metrics.policy(NO_POLICY, ""),
            sets: Mutex::default(),
        }
    }

    /// The policies for a listener and route; `None` where there are none and everybody may.
    pub(super) fn set(&self, listener: &str, route: &str) -> Option<Arc<PolicySet>> {
        let all = self.policies.all.iter().enumerate();
        let mine = all.filter(|(_, policy)| policy.target.is_for(listener, route));
        let mut mine: Vec<usize> = mine.map(|(at, _)| at).collect();
        if mine.is_empty() && self.policies.default == Effect::Allow {
            return None;
        }
        mine.sort_by_key(|at| self.policies.all[*at].effect == Effect::Allow);
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let policies = || -> Box<[Arc<Policy>]> {
            mine.iter()
                .map(|at| self.policies.all[*at].clone())
                .collect()
        };
        if let Some(set) = sets.get(&mine) {
            return Some(set.clone());
        }
        let policies = policies();
        let set = Arc::new(PolicySet {
            default: self.policies.default,
            default_place: self.policies.default_place.clone(),
            has_audit: policies.iter().any(|policy| policy.mode == Mode::Audit),
            policies,
            unmatched: self.default_metrics.clone(),
        });
        sets.insert(mine, set.clone());
        Some(set)
    }
}

/// Everybody whom the configuration names.
fn callers(config: &Config) -> Callers {
    let policies = config.policies.iter().flat_map(|policy| &policy.rules);
    let policies = policies.flat_map(|rule| &rule.from.principals);
    let routes = config.routes.iter().flat_map(|route| &route.rules);
    let routes = routes.flat_map(|rule| rule.matches.iter().flat_map(|it| &it.principals));
    let identity = config.identity.iter();
    let own = identity.flat_map(|identity| identity.workloads.iter().map(|it| &it.id));
    let all = policies.chain(routes).chain(own);
    Callers::new(all.map(String::as_str).filter(|name| *name != "*"))
}

fn effect(action: PolicyAction) -> Effect {
    match action {
        PolicyAction::Allow => Effect::Allow,
        PolicyAction::Deny => Effect::Deny,
    }
}

/// `None` where rules have found it impossible.
fn policy(
    policy: &schema::Policy,
    target: Target,
    path: &str,
    means: &Means<'_>,
) -> Option<Policy> {
    let rules = policy.rules.iter().enumerate().map(|(at, rule)| {
        let path = format!("{path}.rules[{at}]");
        Some(PolicyRule {
            place: (means.place)(&path).into(),
            from: from(&rule.from),
            when: when(&rule.when)?,
            metrics: means.metrics.policy(&policy.name, &at.to_string()),
            path: path.into(),
        })
    });
    Some(Policy {
        name: policy.name.as_str().into(),
        place: (means.place)(path).into(),
        effect: effect(policy.action),
        mode: match policy.mode {
            PolicyMode::Enforce => Mode::Enforce,
            PolicyMode::Audit => Mode::Audit,
        },
        target,
        rules: rules.collect::<Option<_>>()?,
        unmatched: means.metrics.policy(&policy.name, ""),
    })
}

fn target(to: &schema::PolicyTarget, config: &Config) -> Target {
    Target {
        listeners: names(&to.listeners),
        routes: names(&to.routes),
        services: (!to.services.is_empty()).then(|| services(&to.services, config)),
        pools: names(&to.pools),
    }
}

fn names(names: &[String]) -> Box<[Box<str>]> {
    names.iter().map(|name| name.as_str().into()).collect()
}

/// What services are to traffic. Whoever writes a route of his own to a service's pool has not left the service.
fn services(wanted: &[String], config: &Config) -> Services {
    let is_wanted = |route: &schema::Route| {
        let service = route.service.as_ref();
        let service = service.and_then(|service| config.services.get(service.at));
        service.is_some_and(|service| wanted.contains(&service.name))
    };
    let pools_of = |route: &schema::Route| -> Vec<String> {
        let rules = route.rules.iter();
        let pools = rules.flat_map(|rule| rule.destinations().map(|(pool, _)| pool.to_owned()));
        pools.collect()
    };
    let (own, other): (Vec<_>, Vec<_>) = config.routes.iter().partition(|it| is_wanted(it));
    let shared = other.iter().filter(|route| route.service.is_some());
    let shared: HashSet<String> = shared.flat_map(|route| pools_of(route)).collect();
    let mut pools: Vec<String> = own.iter().flat_map(|route| pools_of(route)).collect();
    pools.retain(|pool| !shared.contains(pool));
    let leads = |route: &&&schema::Route| pools_of(route).iter().any(|pool| pools.contains(pool));
    let named = |routes: &[&schema::Route]| -> Box<[Box<str>]> {
        let all = routes.iter().map(|route| route.name.as_str().into());
        all.collect()
    };
    let others: Vec<&schema::Route> = other.iter().filter(leads).copied().collect();
    Services {
        names: names(wanted),
        routes: named(&own),
        others: named(&others),
        pools: names(&pools),
    }
}

fn from(from: &schema::PolicyFrom) -> From {
    let patterns = |texts: &[String]| {
        let patterns = texts.iter().map(|text| PrincipalPattern::new(text));
        patterns.collect()
    };
    let words = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let account = |text: &String| match text.split_once('/') {
        Some((namespace, account)) => (Some(namespace.into()), PrincipalPattern::new(account)),
        None => (None, PrincipalPattern::new(text)),
    };
    From {
        principals: patterns(&from.principals),
        not_principals: patterns(&from.not_principals),
        trust_domains: words(&from.trust_domains),
        not_trust_domains: words(&from.not_trust_domains),
        namespaces: patterns(&from.namespaces),
        not_namespaces: patterns(&from.not_namespaces),
        service_accounts: from.service_accounts.iter().map(account).collect(),
        consumers: patterns(&from.consumers),
        clients: NetSet::new(from.clients.iter().copied()),
        not_clients: NetSet::new(from.not_clients.iter().copied()),
    }
}

fn when(when: &schema::PolicyWhen) -> Option<When> {
    let methods = |texts: &[String]| {
        let methods = texts.iter().map(|text| text.parse().ok());
        methods.collect::<Option<_>>()
    };
    let paths =
        |paths: &[schema::PathMatch]| paths.iter().map(pattern_of_path).collect::<Option<_>>();
    let hosts = |hosts: &[String]| hosts.iter().map(|host| HostPattern::new(host)).collect();
    let headers = when.headers.iter();
    let headers = headers.map(|(name, it)| Some((name.parse().ok()?, value(it)?)));
    let cel = when.cel.as_ref().map(|text| expression(text).ok());
    Some(When {
        methods: methods(&when.methods)?,
        not_methods: methods(&when.not_methods)?,
        paths: paths(&when.paths)?,
        not_paths: paths(&when.not_paths)?,
        hosts: hosts(&when.hosts),
        not_hosts: hosts(&when.not_hosts),
        headers: headers.collect::<Option<_>>()?,
        ports: when.ports.as_slice().into(),
        not_ports: when.not_ports.as_slice().into(),
        cel: match cel {
            Some(cel) => Some(cel?),
            None => None,
        },
    })
}
