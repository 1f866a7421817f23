//! Routes: rules with their actions, edits and plugins, and the candidates each listener's table is made of.
//! It must not know listeners' sockets or TLS.
//! Called by `compile`.

use std::cmp::Reverse;
use std::sync::{Arc, LazyLock};

use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;
use windrose_plugins::contract::PathEdit;

use super::plugins::{self, Certificates, Named, Stand};
use super::policies::Book;
use super::pools::ByName;
use super::{retry, Means};
use crate::config::report::Report;
use crate::config::schema::{
    self, Config, PathMatch, RouteProtocol, ValueMatch, ValueRule, Widened,
};
use crate::snapshot::identity::Identity;
use crate::snapshot::limits::Priority;
use crate::snapshot::net::NetSet;
use crate::snapshot::pool::{Labels, Pool};
use crate::snapshot::route::{
    Action, Candidate, Conditions, DestinationPattern, HeaderOps, HostPattern, PathPattern,
    PathRewrite, PrincipalPattern, Redirect, Respond, Rewrite, RouteTable, Rule, TcpRule,
    TcpService, TcpTable, ValueCondition,
};

/// What routes are compiled with.
pub(super) struct Workshop<'a> {
    pub(super) config: &'a Config,
    pub(super) means: &'a Means<'a>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) pools: ByName<'a>,
    pub(super) instances: &'a Named<'a>,
    pub(super) book: &'a Book,
}

/// Rules by route; `None` where a rule could not be built.
pub(super) type Rules = Vec<Vec<Option<Arc<Rule>>>>;

const BODY_LIMIT: u64 = 64 << 20;

impl Workshop<'_> {
    /// Every rule of every route.
    pub(super) fn rules(&self, report: &mut Report) -> Rules {
        let mut rules = Vec::new();
        let before = retry::Before::of(self.means.previous);
        for (at, route) in self.config.routes.iter().enumerate() {
            let budgets = retry::Budgets::of(route, &before);
            if route.rules.is_empty() {
                self.plugins_alone(at, route, report);
            }
            let of_route = (0..route.rules.len())
                .map(|index| self.rule(at, route, index, &budgets, report))
                .collect();
            rules.push(of_route);
        }
        rules
    }

    fn rule(
        &self,
        at: usize,
        route: &schema::Route,
        index: usize,
        budgets: &retry::Budgets<'_>,
        report: &mut Report,
    ) -> Option<Arc<Rule>> {
        let rule = &route.rules[index];
        let path = match &route.service {
            Some(service) => format!("services[{}]", service.at),
            None => format!("routes[{at}].rules[{index}]"),
        };
        let lists = [
            (&*format!("routes[{at}].plugins"), &*route.plugins),
            (&*format!("{path}.plugins"), &*rule.plugins),
        ];
        let owner = format!("{}.{index}", route.name);
        let stand = self.stand(at, route);
        let chain = plugins::chain(&lists, &owner, stand, self.instances, self.means, report);
        if rule.is_gap {
            return None;
        }
        Some(Arc::new(Rule {
            route: route.name.as_str().into(),
            index,
            place: (self.means.place)(&path).into(),
            action: match route.is_quarantined {
                true => Action::Quarantined,
                false => self.action(&route.name, rule)?,
            },
            experiments: self.experiments(route, rule),
            rewrite: rewrite(rule.rewrite.as_ref()),
            request_headers: ops(&rule.request_headers),
            response_headers: ops(&rule.response_headers),
            timeouts: retry::timeouts(&rule.timeouts, &route.timeouts),
            retry: budgets.retry(route, index),
            body_limit: rule
                .body_limit
                .or(route.body_limit)
                .map_or(BODY_LIMIT, |size| size.0),
            priority: priority(rule.priority.or(route.priority)),
            chain,
            path: path.into(),
        }))
    }

    /// The plugins of a route without rules, which is an error of its own.
    fn plugins_alone(&self, at: usize, route: &schema::Route, report: &mut Report) {
        let lists = [(&*format!("routes[{at}].plugins"), &*route.plugins)];
        let stand = self.stand(at, route);
        plugins::chain(
            &lists,
            &route.name,
            stand,
            self.instances,
            self.means,
            report,
        );
    }

    /// Where the plugins of a route stand.
    fn stand(&self, at: usize, route: &schema::Route) -> Stand {
        let gaps = &self.config.gaps;
        let is_unclear =
            gaps.within("listeners") || gaps.within(&format!("routes[{at}].listeners"));
        let listeners = self.config.listeners.iter();
        let serving = listeners.filter(|one| self.serves(one, route));
        match route.is_quarantined {
            true => Stand::Unknown,
            // A listener that is not understood may be the one that asks.
            false if is_unclear => Stand::Route(Certificates::Asked),
            false => Stand::Route(Certificates::of(serving)),
        }
    }

    /// `None` for a pool that is broken.
    pub(super) fn pool(&self, name: &str, subset: &Labels) -> Option<Arc<Pool>> {
        self.pools.get(name, subset)
    }

    fn action(&self, route: &str, rule: &schema::Rule) -> Option<Action> {
        if let Some(name) = &rule.pool {
            let pool = self.pool(name, &rule.subset);
            return Some(pool.map_or(Action::Quarantined, Action::Pool));
        }
        if let Some(redirect) = &rule.redirect {
            return Some(Action::Redirect(Redirect {
                scheme: redirect.scheme.as_deref().map(Into::into),
                host: redirect.host.as_deref().map(Into::into),
                port: redirect.port,
                path: path_rewrite(
                    redirect.path.as_deref(),
                    redirect.path_prefix.as_deref(),
                    None,
                ),
                status: StatusCode::from_u16(redirect.status).ok()?,
            }));
        }
        if let Some(respond) = &rule.respond {
            let media = respond
                .content_type
                .as_deref()
                .unwrap_or("text/plain; charset=utf-8");
            return Some(Action::Respond(Respond {
                status: StatusCode::from_u16(respond.status).ok()?,
                body: respond.body.clone().into(),
                content_type: HeaderValue::from_str(media).ok()?,
            }));
        }
        self.split(route, rule).map(Action::Split)
    }

    /// Whether a route is served by a listener: named, or by default every ingress listener that can.
    fn serves(&self, listener: &schema::Listener, route: &schema::Route) -> bool {
        let bytes_only = matches!(
            listener.protocol,
            Some(schema::Protocol::Tcp | schema::Protocol::TlsPassthrough)
        );
        let auto = matches!(listener.protocol, Some(schema::Protocol::Auto));
        let can = match route.protocol {
            RouteProtocol::Http => !bytes_only,
            RouteProtocol::Tcp => bytes_only || auto,
        };
        match &route.listeners {
            Some(names) => names.contains(&listener.name),
            None => can && listener.role == schema::Role::Ingress,
        }
    }

    /// The alternatives of every rule that a listener serves, in the order written.
    fn served<'r>(
        &'r self,
        listener: &'r schema::Listener,
        protocol: RouteProtocol,
        rules: &'r Rules,
    ) -> impl Iterator<Item = Alternative<'r>> {
        let routes = self.config.routes.iter().zip(rules);
        let served = routes
            .filter(move |(route, _)| route.protocol == protocol && self.serves(listener, route));
        served.flat_map(|(route, compiled)| {
            route
                .rules
                .iter()
                .zip(compiled)
                .filter_map(|(rule, compiled)| Some((rule, compiled.as_ref()?)))
                .flat_map(move |(rule, compiled)| {
                    let every = rule.matches.is_empty().then_some(&*EVERYTHING);
                    let conditions = rule.matches.iter().chain(every).enumerate();
                    conditions.map(move |(position, condition)| Alternative {
                        route,
                        compiled,
                        position,
                        condition,
                    })
                })
        })
    }

    /// A listener's table of requests.
    pub(super) fn table(
        &self,
        listener: &schema::Listener,
        role: &str,
        rules: &Rules,
    ) -> RouteTable {
        let mut candidates = Vec::new();
        let mut at = Vec::new();
        for (order, one) in (0..).zip(self.served(listener, RouteProtocol::Http, rules)) {
            let Some((path, mut conditions)) = conditions(one.condition) else {
                continue;
            };
            let service = one.route.service.as_ref();
            conditions.port = service
                .filter(|service| service.is_one_of_several)
                .map(|service| service.port);
            let conditions = Arc::new(conditions);
            let metrics = self
                .means
                .metrics
                .route(&listener.name, role, &one.route.name);
            let policies = self.book.set(&listener.name, &one.route.name);
            at.extend(service.into_iter().flat_map(|service| {
                let candidate = Candidate {
                    rule: one.compiled.clone(),
                    alternative: one.position,
                    host: "".into(),
                    path: path.clone(),
                    conditions: conditions.clone(),
                    policies: policies.clone(),
                    metrics: metrics.clone(),
                    order,
                };
                super::services::at(service, candidate)
            }));
            let any = one.route.hosts.is_empty().then_some("");
            let hosts = one.route.hosts.iter().map(String::as_str).chain(any);
            candidates.extend(hosts.map(|host| Candidate {
                rule: one.compiled.clone(),
                alternative: one.position,
                host: host.to_ascii_lowercase().into(),
                path: path.clone(),
                conditions: conditions.clone(),
                policies: policies.clone(),
                metrics: metrics.clone(),
                order,
            }));
        }
        RouteTable::new(candidates).at(at)
    }

    /// A listener's table of bytes. Of written rules exact names come before longer wildcards before shorter before any, and
    /// those with conditions on the destination or the client before those without.
    pub(super) fn tcp_table(
        &self,
        listener: &schema::Listener,
        role: &str,
        rules: &Rules,
    ) -> TcpTable {
        let mut found = Vec::new();
        let mut services = Vec::new();
        for one in self.served(listener, RouteProtocol::Tcp, rules) {
            let metrics = self
                .means
                .metrics
                .route(&listener.name, role, &one.route.name);
            let policies = self.book.set(&listener.name, &one.route.name);
            let rule = |sni: Option<HostPattern>| TcpRule {
                sni,
                clients: NetSet::new(one.condition.clients.iter().copied()),
                destinations: destinations(&one.condition.destinations),
                rule: one.compiled.clone(),
                policies: policies.clone(),
                metrics: metrics.clone(),
            };
            if let Some(service) = &one.route.service {
                let hosts = one.route.hosts.iter();
                services.push(TcpService {
                    hosts: hosts.map(|host| HostPattern::new(host)).collect(),
                    addresses: service.addresses.as_slice().into(),
                    port: service.port,
                    rule: rule(None),
                });
                continue;
            }
            let given = if one.condition.sni.is_empty() {
                &one.route.hosts
            } else {
                &one.condition.sni
            };
            let names = given.iter().map(|name| Some(HostPattern::new(name)));
            let any = given.is_empty().then_some(None);
            found.extend(names.chain(any).map(rule));
        }
        found.sort_by_key(|rule| {
            let rank = match &rule.sni {
                Some(HostPattern::Exact(_)) => (0, Reverse(0)),
                Some(HostPattern::Suffix(suffix)) => (1, Reverse(suffix.len())),
                None => (2, Reverse(0)),
            };
            (rank, rule.destinations.is_empty(), rule.clients.is_empty())
        });
        TcpTable::new(found, services, listener.service.as_deref())
    }
}

fn priority(priority: Option<schema::Priority>) -> Priority {
    match priority {
        Some(schema::Priority::Critical) => Priority::Critical,
        Some(schema::Priority::High) => Priority::High,
        None | Some(schema::Priority::Normal) => Priority::Normal,
        Some(schema::Priority::Low) => Priority::Low,
    }
}

/// One alternative of a rule.
struct Alternative<'r> {
    route: &'r schema::Route,
    compiled: &'r Arc<Rule>,
    position: usize,
    condition: &'r schema::Match,
}

/// What a rule without `match` takes.
static EVERYTHING: LazyLock<schema::Match> = LazyLock::new(schema::Match::default);

fn conditions(condition: &schema::Match) -> Option<(PathPattern, Conditions)> {
    let path = match &condition.path {
        None if condition.widened == Widened::Path => PathPattern::Unknown,
        None => PathPattern::Prefix("".into()),
        Some(path) => pattern_of_path(path)?,
    };
    let headers = condition
        .headers
        .iter()
        .map(|(name, value)| Some((name.parse().ok()?, self::value(value)?)));
    let query = condition
        .query
        .iter()
        .map(|(name, value)| Some((name.as_str().into(), self::value(value)?)));
    let conditions = Conditions {
        method: condition
            .method
            .as_ref()
            .and_then(|method| method.parse().ok()),
        headers: headers.collect::<Option<_>>()?,
        query: query.collect::<Option<_>>()?,
        clients: NetSet::new(condition.clients.iter().copied()),
        sni: condition
            .sni
            .iter()
            .map(|name| HostPattern::new(name))
            .collect(),
        principals: condition
            .principals
            .iter()
            .map(|id| PrincipalPattern::new(id))
            .collect(),
        destinations: destinations(&condition.destinations),
        port: None,
        is_widened: condition.widened != Widened::No,
    };
    Some((path, conditions))
}

fn destinations(given: &[schema::DestinationMatch]) -> Box<[DestinationPattern]> {
    let pattern = |one: &schema::DestinationMatch| DestinationPattern {
        net: one.net,
        ports: one.ports.as_slice().into(),
    };
    given.iter().map(pattern).collect()
}

/// `None` where rules have found it impossible.
pub(super) fn pattern_of_path(path: &PathMatch) -> Option<PathPattern> {
    Some(match path {
        PathMatch::Exact(path) => PathPattern::Exact(path.as_str().into()),
        PathMatch::Prefix(path) => PathPattern::Prefix(path.trim_end_matches('/').into()),
        PathMatch::Regex(regex) => PathPattern::Regex(whole(regex)?),
    })
}

pub(super) fn value(value: &ValueMatch) -> Option<ValueCondition> {
    Some(match value {
        ValueMatch::Exact(exact) => ValueCondition::Exact(exact.as_str().into()),
        ValueMatch::By(ValueRule::Regex(regex)) => ValueCondition::Regex(whole(regex)?),
        ValueMatch::By(ValueRule::Present(present)) => ValueCondition::Present(*present),
    })
}

/// A pattern for the whole text.
fn whole(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).ok()
}

fn rewrite(rewrite: Option<&schema::Rewrite>) -> Rewrite {
    let Some(rewrite) = rewrite else {
        return Rewrite::default();
    };
    Rewrite {
        host: rewrite
            .host
            .as_deref()
            .and_then(|host| HeaderValue::from_str(host).ok()),
        path: path_rewrite(
            rewrite.path.as_deref(),
            rewrite.path_prefix.as_deref(),
            rewrite.path_regex.as_ref(),
        ),
    }
}

fn path_rewrite(
    whole: Option<&str>,
    prefix: Option<&str>,
    regex: Option<&schema::PathRegex>,
) -> PathRewrite {
    match (whole, prefix, regex) {
        (Some(path), _, _) => PathRewrite::Whole(path.into()),
        (None, Some(prefix), _) => PathRewrite::Prefix(prefix.into()),
        (None, None, Some(regex)) => match Regex::new(&regex.pattern) {
            Ok(pattern) => PathRewrite::Regex(PathEdit::new(pattern, &regex.replace)),
            Err(_) => PathRewrite::Keep,
        },
        (None, None, None) => PathRewrite::Keep,
    }
}

fn ops(edits: &schema::HeaderEdits) -> HeaderOps {
    let pair = |(name, value): (&String, &String)| {
        Some((
            name.parse::<HeaderName>().ok()?,
            HeaderValue::from_str(value).ok()?,
        ))
    };
    HeaderOps {
        remove: edits
            .remove
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        set: edits.set.iter().filter_map(pair).collect(),
        add: edits.add.iter().filter_map(pair).collect(),
    }
}
