//! The view of routes: for each listener its hosts, and for each host the rules in the order they are tried.
//! It must not decide anything; the order comes from the same ranks that `decide` walks.
//! Called by `admin`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::budget::{budget, BudgetView};
use super::state::{millis, quarantined, QuarantinedView};
use crate::explain::words;
use crate::snapshot::chain::{Chain, Mode};
use crate::snapshot::listener::Listener;
use crate::snapshot::pool::{Labels, Pool};
use crate::snapshot::quarantine::Kind;
use crate::snapshot::route::{Action, Candidate, PathPattern, Rule, Share, TcpRule, TcpService};
use crate::snapshot::Snapshot;

#[derive(Serialize)]
pub(super) struct Routes {
    listeners: Vec<ListenerView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<QuarantinedView>,
}

#[derive(Serialize)]
struct ListenerView {
    listener: String,
    plugins: Vec<PluginView>,
    hosts: Vec<HostView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcp: Vec<TcpView>,
}

#[derive(Serialize)]
struct HostView {
    /// `*` for any host.
    host: String,
    rules: Vec<CandidateView>,
}

#[derive(Serialize)]
struct CandidateView {
    path: PathView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<String>,
    #[serde(flatten)]
    rule: RuleView,
}

#[derive(Serialize)]
struct TcpView {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<String>,
    #[serde(flatten)]
    rule: RuleView,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum PathView {
    Exact(String),
    Prefix(String),
    Regex(String),
    Unknown,
}

#[derive(Serialize)]
struct RuleView {
    /// Labels asked of the pool's endpoints.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subset: Labels,
    action: ActionView,
    route: String,
    rule: String,
    place: String,
    plugins: Vec<PluginView>,
    timeouts: TimeoutsView,
    retry_attempts: u8,
    retry_on: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_budget: Option<BudgetView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fault: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirror: Vec<String>,
    body_limit_bytes: u64,
    priority: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ActionView {
    Pool(String),
    Split(SplitView),
    Redirect { status: u16 },
    Respond { status: u16 },
    Quarantined,
}

#[derive(Serialize)]
struct SplitView {
    shares: Vec<ShareView>,
    /// What decides instead of chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<String>,
    /// How a request may name its share.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overriding: Option<String>,
}

#[derive(Serialize)]
struct ShareView {
    name: String,
    pool: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subset: Labels,
    weight: u32,
    #[serde(rename = "quarantined", skip_serializing_if = "std::ops::Not::not")]
    is_quarantined: bool,
}

#[derive(Serialize)]
struct PluginView {
    name: String,
    kind: &'static str,
    mode: &'static str,
}

/// Milliseconds; null for no bound.
#[derive(Serialize)]
struct TimeoutsView {
    response_header_ms: Option<f64>,
    per_try_ms: Option<f64>,
    idle_ms: Option<f64>,
    request_ms: Option<f64>,
}

/// The rules of every listener.
pub(super) fn view(snapshot: &Snapshot) -> Routes {
    Routes {
        listeners: snapshot.listeners.iter().map(|one| listener(one)).collect(),
        quarantined: quarantined(snapshot, &[Kind::Route, Kind::Plugin, Kind::Service]),
    }
}

fn listener(listener: &Listener) -> ListenerView {
    let mut candidates: Vec<&Candidate> = listener
        .routes
        .all()
        .map(|candidate| &**candidate)
        .collect();
    candidates.sort_by(|one, other| words::rank(one).cmp(&words::rank(other)));
    let mut hosts: Vec<HostView> = Vec::new();
    for one in candidates {
        let name = if one.host.is_empty() { "*" } else { &one.host };
        if hosts.last().is_none_or(|host| host.host != name) {
            hosts.push(HostView {
                host: name.to_owned(),
                rules: Vec::new(),
            });
        }
        if let Some(host) = hosts.last_mut() {
            host.rules.push(candidate(one));
        }
    }
    ListenerView {
        listener: listener.name.to_string(),
        plugins: plugins(&listener.chain),
        hosts,
        tcp: listener
            .tcp
            .rules
            .iter()
            .map(tcp)
            .chain(listener.tcp.services.iter().map(service))
            .collect(),
    }
}

fn candidate(candidate: &Candidate) -> CandidateView {
    CandidateView {
        path: match &candidate.path {
            PathPattern::Exact(path) => PathView::Exact(path.to_string()),
            PathPattern::Prefix(path) if path.is_empty() => PathView::Prefix("/".into()),
            PathPattern::Prefix(path) => PathView::Prefix(path.to_string()),
            PathPattern::Regex(regex) => PathView::Regex(regex.as_str().into()),
            PathPattern::Unknown => PathView::Unknown,
        },
        conditions: words::conditions(&candidate.conditions),
        rule: rule(&candidate.rule),
    }
}

fn tcp(tcp: &TcpRule) -> TcpView {
    let mut conditions = words::hosts(tcp.sni.as_slice());
    let clients = tcp.clients.nets().iter();
    conditions.extend(clients.map(|net| format!("client {net}")));
    conditions.extend(words::destinations(&tcp.destinations));
    TcpView {
        conditions,
        rule: rule(&tcp.rule),
    }
}

fn service(service: &TcpService) -> TcpView {
    let port = service.port;
    let addresses = service.addresses.iter();
    let mut conditions: Vec<String> = addresses
        .map(|address| format!("destination {address} port {port}"))
        .collect();
    conditions.extend(words::hosts(&service.hosts));
    TcpView {
        conditions,
        rule: rule(&service.rule.rule),
    }
}

fn rule(rule: &Rule) -> RuleView {
    let time = |time: Option<Duration>| time.map(millis);
    let experiments = rule.experiments.as_ref();
    RuleView {
        subset: match &rule.action {
            Action::Pool(pool) => subset(Some(pool)),
            Action::Split(_)
            | Action::Redirect(_)
            | Action::Respond(_)
            | Action::Passthrough(_)
            | Action::Quarantined => Labels::new(),
        },
        action: action(&rule.action),
        route: rule.route.to_string(),
        rule: rule.path.to_string(),
        place: rule.place.to_string(),
        plugins: plugins(&rule.chain),
        timeouts: TimeoutsView {
            response_header_ms: time(rule.timeouts.response_header),
            per_try_ms: time(rule.timeouts.per_try),
            idle_ms: time(rule.timeouts.idle),
            request_ms: time(rule.timeouts.request),
        },
        retry_attempts: rule.retry.attempts,
        retry_on: words::retry_on(&rule.retry),
        retry_budget: rule.retry.budget.as_ref().map(budget),
        fault: experiments
            .and_then(|it| it.fault.as_ref())
            .map_or(Vec::new(), words::fault),
        mirror: experiments.map_or(Vec::new(), |it| {
            it.mirrors.iter().map(words::mirror).collect()
        }),
        body_limit_bytes: rule.body_limit,
        priority: rule.priority.as_str(),
    }
}

fn subset(pool: Option<&Arc<Pool>>) -> Labels {
    let labels = pool.and_then(|pool| pool.subset_labels());
    labels.cloned().unwrap_or_default()
}

fn action(action: &Action) -> ActionView {
    match action {
        Action::Pool(pool) => ActionView::Pool(pool.name.to_string()),
        Action::Split(split) => {
            let share = |share: &Share| ShareView {
                name: share.name.to_string(),
                pool: share.target.name().to_owned(),
                subset: subset(share.target.pool()),
                weight: share.weight,
                is_quarantined: share.target.pool().is_none(),
            };
            ActionView::Split(SplitView {
                shares: split.shares.iter().map(share).collect(),
                sticky: split.sticky.as_ref().map(words::sticky),
                overriding: split.overriding.as_ref().map(words::overriding),
            })
        }
        Action::Redirect(redirect) => ActionView::Redirect {
            status: redirect.status.as_u16(),
        },
        Action::Respond(respond) => ActionView::Respond {
            status: respond.status.as_u16(),
        },
        Action::Passthrough(on) => ActionView::Pool(on.prototype().name.to_string()),
        Action::Quarantined => ActionView::Quarantined,
    }
}

fn plugins(chain: &Chain) -> Vec<PluginView> {
    let view = |one: &std::sync::Arc<crate::snapshot::chain::Instance>| PluginView {
        name: one.name.to_string(),
        kind: one.kind,
        mode: match one.mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
    };
    chain.all.iter().map(view).collect()
}
