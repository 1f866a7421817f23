//! An explanation as data: what `--json` prints and the terminal renders.
//! It must not know how it was found out.
//! Filled by `explain`; also read back by clients of a running process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Answer, Principal};

use super::mutual::{self, InboundSeen, OutboundSeen};
use super::ruling::{PolicySeen, RulingSeen};
use super::waterfall::{self, Step};
use super::{pool, words, Question};
use crate::decide::{rewritten_path, Deadline, Facts};
use crate::snapshot::certs::Cert;
use crate::snapshot::listener::{Listener, Protocol};
use crate::snapshot::pool::Pool;
use crate::snapshot::route::{Action, Candidate, Share};

/// Everything about one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The request as it was understood.
    pub request: Asked,
    /// Where it comes in.
    pub listener: ListenerSeen,
    /// What the reader should know of the question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Routes in order of precedence.
    pub candidates: Vec<CandidateSeen>,
    /// Plugins in order.
    pub plugins: Vec<PluginSeen>,
    /// What policies ruled, where any are for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruling: Option<RulingSeen>,
    /// Every rule of a policy that was looked at, those that deny first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicySeen>,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// The request as it was understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The method; `TCP` for a connection passed through as bytes.
    pub method: String,
    /// The address.
    pub url: String,
    /// Canonical host.
    pub host: String,
    /// Canonical path.
    pub path: String,
    /// The client, after trust.
    pub client: String,
    /// Whether the peer's forwarded fields are believed.
    pub trusted: bool,
    /// The principal in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerSeen {
    /// Its name.
    pub name: String,
    /// Where it is written, as `file:line`.
    pub place: String,
    /// Its role.
    pub role: String,
    /// Where it is bound.
    pub bind: String,
    /// What it speaks.
    pub protocol: String,
    /// The names of the certificate it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// What it asks of callers, where that is mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<InboundSeen>,
}

/// A route's rule that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateSeen {
    /// The route.
    pub route: String,
    /// Its rule, as a path in the configuration.
    pub rule: String,
    /// Where it is written.
    pub place: String,
    /// Host pattern.
    pub host: String,
    /// Path pattern.
    pub path: String,
    /// What places it before others.
    pub precedence: String,
    /// `chosen`, `in the shadow`, `fails` or `path differs`.
    pub verdict: String,
    /// Conditions that were compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionSeen>,
}

/// A condition that was compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionSeen {
    /// What it wants.
    pub condition: String,
    /// Whether it holds.
    pub holds: bool,
}

/// A plugin's turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginSeen {
    /// `listener`, `route` or `upstream`.
    pub stage: String,
    /// Its name.
    pub name: String,
    /// Which plugin.
    pub kind: String,
    /// Where it is written.
    pub place: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// What it says.
    pub says: String,
    /// The cause of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The status of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the plugins inside of it say, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartSeen>,
}

/// The turn of a plugin that is inside of another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartSeen {
    /// Which plugin.
    pub kind: String,
    /// Where it stands in the settings of the one around it.
    pub path: String,
    /// How many are around it, less one.
    pub depth: u8,
    /// What it says.
    pub says: String,
    /// The cause of its answer or failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The status of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The route it met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Where the rule is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The share of a split, where the request decides on it and not chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareSeen>,
    /// Its class, where that is not the usual one or is refused in part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Where it may go on to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolSeen>,
    /// What is injected on purpose, each with its chance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Pools that get copies, each with its chance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// The status of an answer made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The cause of an answer made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The policy and rule that refused it, as `NAME[RULE]`; `NAME` where no rule of it or any other allowed, `default` for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What the cause means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// The Host as sent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path as sent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where a redirect points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Fields as sent on, or of the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Times in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
}

/// A share that a request gets whenever it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareSeen {
    /// Its name.
    pub name: String,
    /// `sticky` or `override`.
    pub by: String,
}

/// Times and attempts in force, in milliseconds; none for no bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// To connect.
    pub connect_ms: u64,
    /// Until the response's header.
    pub response_header_ms: Option<u64>,
    /// Silence.
    pub idle_ms: Option<u64>,
    /// One attempt: to connect, and again until the response's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_ms: Option<u64>,
    /// Everything.
    pub request_ms: Option<u64>,
    /// Who set that: `route`, or a field of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_set_by: Option<String>,
    /// Further attempts.
    pub retries: u8,
    /// After what, and for which methods.
    pub retry_on: String,
    /// What the pool's budget allows.
    #[serde(default)]
    pub budget: String,
    /// Each attempt at its latest.
    #[serde(default)]
    pub waterfall: Vec<Step>,
    /// Largest body.
    pub body_limit_bytes: u64,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolSeen {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub place: String,
    /// Its part of the traffic, in percent.
    pub share_percent: f64,
    /// How an endpoint is chosen.
    pub balance: String,
    /// Who its endpoints have to be, where that is proven by mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<OutboundSeen>,
    /// The labels that the rule asks of endpoints.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
    /// What becomes of the request where none that has them can be used: `none` or `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset_fallback: Option<String>,
    /// What keeps the client at its endpoint, and what the request says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// Its levels in the order they are asked, where there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelSeen>,
    /// What bounds it and, in the running process, whether there is a place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointSeen>,
}

/// Endpoints of one priority and zone distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelSeen {
    /// Their priority.
    pub priority: u8,
    /// Their zone; `other` for all behind those that are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How many have a weight.
    pub total: usize,
    /// How many of them can be used now; with `live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<usize>,
    /// The level's part of the traffic, in percent; without `live` as if all were well.
    pub share_percent: f64,
    /// Whether health is ignored, because too few can be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panics: bool,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointSeen {
    /// Where it is.
    pub address: String,
    /// Its weight.
    pub weight: u32,
    /// Its priority, where it is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Its zone, in pools that know zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The part of its weight that it has, in percent, while its slow start lasts; with `live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start_percent: Option<u8>,
    /// Its part of new traffic by level, weight and slow start, in percent; with `live`. Load, latency and keys shift it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<f64>,
    /// Why it cannot be picked now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
}

pub(super) fn asked(question: &Question, facts: &Facts, principal: Option<&Principal>) -> Asked {
    Asked {
        method: question.method.clone(),
        url: question.url.clone(),
        host: facts.host.clone(),
        path: facts.path.clone(),
        client: facts
            .client
            .map_or(String::new(), |client| client.to_string()),
        trusted: facts.trusted,
        principal: principal.map(Principal::id),
    }
}

pub(super) fn listener(listener: &Listener, cert: Option<&Arc<Cert>>) -> ListenerSeen {
    let names = |cert: &Arc<Cert>| {
        let names = cert.hosts.iter().map(ToString::to_string);
        names.collect::<Vec<_>>().join(", ")
    };
    ListenerSeen {
        name: listener.name.to_string(),
        place: listener.place.to_string(),
        role: listener.role.as_str().to_owned(),
        bind: listener.bind.to_string(),
        protocol: listener.protocol.as_str().to_owned(),
        certificate: cert.map(names),
        mtls: listener.mtls.as_ref().map(|mtls| mutual::inbound(mtls)),
    }
}

/// What is odd about asking this of this listener.
pub(super) fn notes(listener: &Listener, question: &Question) -> Vec<String> {
    let note = match (&listener.protocol, question.is_tls()) {
        (Protocol::Tcp | Protocol::TlsPassthrough, _) => {
            "this listener passes bytes through; requests in them are not seen"
        }
        (Protocol::Https(_), false) => {
            "this listener speaks TLS only; a request in the clear is refused as protocol_mismatch"
        }
        (Protocol::Http, true) => {
            "this listener speaks in the clear; https means that something in front of it ends TLS"
        }
        _ => return Vec::new(),
    };
    vec![note.to_owned()]
}

/// An answer made here.
pub(super) fn answered(candidate: Option<&Arc<Candidate>>, answer: &Answer) -> Outcome {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers.iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect();
    let location = headers.iter().find(|(name, _)| name == "location");
    Outcome {
        status: Some(answer.status),
        cause: Some(answer.cause.name.to_owned()),
        meaning: Some(answer.cause.explanation.to_owned()),
        location: location.map(|(_, value)| value.clone()),
        headers,
        ..met(candidate)
    }
}

/// A request that goes on.
pub(super) struct Onward<'a> {
    /// The pool, if it is not chance that chooses.
    pub(super) decided: Option<&'a Pool>,
    /// What is known of the request.
    pub(super) facts: &'a Facts,
    /// The request as it came, which decides on its endpoint.
    pub(super) came: &'a HeaderMap,
    /// The request as it is sent.
    pub(super) sent: &'a RequestHeader,
    /// Its deadline.
    pub(super) deadline: Option<&'a Deadline>,
    /// Whether the process is asked that has the traffic.
    pub(super) live: bool,
}

/// A request that goes on.
pub(super) fn forwarded(candidate: Option<&Arc<Candidate>>, onward: &Onward<'_>) -> Outcome {
    let Some(one) = candidate else {
        return Outcome::default();
    };
    let headers = onward.sent.headers.iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        })
        .collect();
    let host = headers.iter().find(|(name, _)| name == "host");
    Outcome {
        pools: match onward.decided {
            Some(one) => vec![pool::seen(one, 100.0, onward.live, onward.came)],
            None => pools(&one.rule.action, onward.live, onward.came),
        },
        host: host.map(|(_, value)| value.clone()),
        path: Some(rewritten_path(one, &onward.facts.path).into_owned()),
        headers,
        times: times(one, onward.decided, onward.deadline),
        ..met(candidate)
    }
}

fn met(candidate: Option<&Arc<Candidate>>) -> Outcome {
    let rule = candidate.map(|candidate| &candidate.rule);
    Outcome {
        route: rule.map(|rule| rule.route.to_string()),
        place: rule.map(|rule| rule.place.to_string()),
        ..Outcome::default()
    }
}

pub(super) fn pools(action: &Action, live: bool, came: &HeaderMap) -> Vec<PoolSeen> {
    match action {
        Action::Pool(one) => vec![pool::seen(one, 100.0, live, came)],
        Action::Split(split) => {
            let share = |share: &Share| {
                let percent = f64::from(share.weight) * 100.0 / split.total as f64;
                Some(pool::seen(share.target.pool()?, percent, live, came))
            };
            split.shares.iter().filter_map(share).collect()
        }
        Action::Redirect(_) | Action::Respond(_) | Action::Quarantined | Action::Passthrough(_) => {
            Vec::new()
        }
    }
}

/// Of shares by chance the first is told.
fn times(
    candidate: &Candidate,
    decided: Option<&Pool>,
    deadline: Option<&Deadline>,
) -> Option<Times> {
    let rule = &candidate.rule;
    let pool = match (decided, &rule.action) {
        (Some(pool), _) => pool,
        (None, Action::Pool(pool)) => pool,
        (None, Action::Split(split)) => {
            split.shares.iter().find_map(|share| share.target.pool())?
        }
        (None, Action::Passthrough(on)) => on.prototype(),
        (None, Action::Redirect(_) | Action::Respond(_) | Action::Quarantined) => return None,
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Some(Times {
        connect_ms: millis(pool.settings.connect_timeout),
        response_header_ms: rule.timeouts.response_header.map(millis),
        per_try_ms: rule.timeouts.per_try.map(millis),
        idle_ms: rule.timeouts.idle.map(millis),
        request_ms: deadline.map(|deadline| millis(deadline.time)),
        request_set_by: deadline.map(|deadline| deadline.by.as_str().to_owned()),
        retries: rule.retry.attempts,
        retry_on: words::retry_on(&rule.retry),
        budget: words::budget(&pool.retry_budget.allowance),
        waterfall: waterfall::steps(rule, pool.settings.connect_timeout, deadline),
        body_limit_bytes: rule.body_limit,
    })
}
