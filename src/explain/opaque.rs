//! Why a connection passed through as bytes goes where it goes: the rule it meets, what policies rule, and the pool.
//! It must not decide anything; it asks `decide::opaque` and `decide::policy`, as the data path does.
//! Called by `explain` for questions about connections.

use std::net::IpAddr;

use http::HeaderMap;
use windrose_plugins::contract::{causes, Answer, Cause, ConnectionView, Effects, Principal};

use super::hear::Heard;
use super::ruling::{self, PolicySeen};
use super::view::{self, Asked, CandidateSeen, ConditionSeen, Explanation, Outcome};
use super::{pool, words, Question};
use crate::decide::opaque::{Call, Met};
use crate::decide::policy::{authorize, Fit, Hear};
use crate::snapshot::listener::{Listener, Protocol};
use crate::snapshot::policy::Policy;
use crate::snapshot::pool::PoolProtocol;
use crate::snapshot::route::{Action, HostPattern, Rule, TcpRule};
use crate::snapshot::Snapshot;

/// Explains a connection.
///
/// # Errors
/// A sentence that says what is wrong with the question.
pub(super) fn explain(
    snapshot: &Snapshot,
    question: &Question,
    live: bool,
) -> Result<Explanation, String> {
    let listener = question.listener(snapshot)?;
    let principal = question.principal();
    let client = question.from.unwrap_or(IpAddr::from([192, 0, 2, 1]));
    let sni = question.sni.as_ref().map(|name| name.to_ascii_lowercase());
    let call = Call {
        listener,
        client,
        destination: question.going_to(listener),
        sni: sni.as_deref(),
        peer: principal.as_ref(),
    };
    let mut heard = Heard::default();
    let admitted = admitted(&call, live, &mut heard);
    let met = admitted.and_then(|()| call.meets());
    let mut ears = Ears::default();
    let outcome = match &met {
        Ok(met) => outcome(&call, met, live, &mut heard, &mut ears),
        Err(cause) => closed(cause, None),
    };
    Ok(Explanation {
        request: asked(&call, principal.as_ref()),
        listener: view::listener(listener, None),
        notes: notes(&call),
        candidates: candidates(&call, met.as_ref().ok()),
        plugins: heard.plugins(listener, None),
        ruling: heard.ruling,
        policies: ears.0,
        outcome,
    })
}

/// Whether such a connection can be carried here, and plugins let it in.
fn admitted(call: &Call<'_>, live: bool, heard: &mut Heard) -> Result<(), &'static Cause> {
    let listener = call.listener;
    let is_tls = call.sni.is_some();
    let carries = match &listener.protocol {
        Protocol::Tcp => true,
        Protocol::TlsPassthrough => is_tls,
        Protocol::Auto(termination) => {
            let is_ended = is_tls && listener.mtls.is_none() && termination.is_some();
            listener.takes_bytes()
                && (!is_ended || call.sni.is_some_and(|it| listener.tcp.names(it)))
        }
        Protocol::Http | Protocol::Https(_) => false,
    };
    if !carries {
        return Err(&causes::PROTOCOL_MISMATCH);
    }
    let view = ConnectionView {
        address: call.client,
        listener: &listener.name,
    };
    let effects = if live { Effects::Peek } else { Effects::Dry };
    let mut hear = |plugin: &_, turn: crate::snapshot::chain::Turn<'_>| {
        heard.turn(crate::decide::Stage::Listener, plugin, turn);
    };
    let answer: Option<Box<Answer>> = listener.chain.connection(&view, effects, &mut hear);
    answer.map_or(Ok(()), |answer| Err(answer.cause))
}

/// What policies say of it, and where it goes.
fn outcome(
    call: &Call<'_>,
    met: &Met<'_>,
    live: bool,
    heard: &mut Heard,
    ears: &mut Ears,
) -> Outcome {
    let pools = view::pools(&met.rule.action, live, &HeaderMap::new());
    let name = match &met.rule.action {
        Action::Passthrough(on) => on
            .pool(call.destination, PoolProtocol::Tcp)
            .name
            .to_string(),
        // Of shares by chance the first is asked about.
        _ => pools
            .first()
            .map_or(String::new(), |pool| pool.name.clone()),
    };
    if matches!(met.rule.action, Action::Quarantined) {
        return closed(&causes::QUARANTINED, Some(met.rule));
    }
    if let Some(set) = met.policies {
        let ruling = authorize(
            set,
            &call.subject(call.port(met), &met.rule.route, &name),
            ears,
        );
        heard.ruling = Some(ruling::ruling(&ruling));
        if let Some(cause) = ruling.cause {
            return Outcome {
                policy: Some(ruling.by.to_string()),
                ..closed(cause, Some(met.rule))
            };
        }
    }
    let passes = match &met.rule.action {
        Action::Passthrough(on) => {
            let on = on.pool(call.destination, PoolProtocol::Tcp);
            vec![pool::seen(&on, 100.0, live, &HeaderMap::new())]
        }
        _ => pools,
    };
    Outcome {
        pools: passes,
        ..of(Some(met.rule))
    }
}

fn closed(cause: &'static Cause, rule: Option<&std::sync::Arc<Rule>>) -> Outcome {
    Outcome {
        cause: Some(cause.name.to_owned()),
        meaning: Some(cause.explanation.to_owned()),
        ..of(rule)
    }
}

fn of(rule: Option<&std::sync::Arc<Rule>>) -> Outcome {
    Outcome {
        route: rule.map(|rule| rule.route.to_string()),
        place: rule.map(|rule| rule.place.to_string()),
        ..Outcome::default()
    }
}

fn asked(call: &Call<'_>, principal: Option<&Principal>) -> Asked {
    Asked {
        method: super::question::TCP.to_owned(),
        url: call.destination.to_string(),
        host: call.sni.unwrap_or_default().to_owned(),
        path: String::new(),
        client: call.client.to_string(),
        trusted: false,
        principal: principal.map(Principal::id),
    }
}

fn notes(call: &Call<'_>) -> Vec<String> {
    let listener: &Listener = call.listener;
    let note = match (&listener.protocol, &listener.mtls) {
        (_, Some(_)) if call.peer.is_none() => {
            "callers in the clear are asked about; a `strict` port refuses them before"
        }
        (Protocol::Auto(_), _) => {
            "taken for bytes if what the client says first is no protocol known here"
        }
        _ => return Vec::new(),
    };
    vec![note.to_owned()]
}

/// Rules for bytes in their order, each with whether it is for this; of services only the one that was met.
fn candidates(call: &Call<'_>, met: Option<&Met<'_>>) -> Vec<CandidateSeen> {
    let table = &call.listener.tcp;
    let mut is_over = false;
    let mut all: Vec<CandidateSeen> = Vec::new();
    for rule in table.rules.iter().take(MOST) {
        let is_met = !is_over && met.is_some_and(|met| std::ptr::eq(met.metrics, &rule.metrics));
        let is_for = rule.is_for(call.client, call.destination, call.sni);
        let verdict = match (is_met && is_for, is_for) {
            (true, _) => "chosen",
            (false, true) => "in the shadow",
            (false, false) => "fails",
        };
        is_over |= verdict == "chosen";
        all.push(seen(rule, verdict));
    }
    let mut services = table.services.iter().map(|service| &service.rule);
    let service =
        services.find(|rule| met.is_some_and(|met| std::ptr::eq(met.metrics, &rule.metrics)));
    if let Some(service) = service {
        all.insert(0, seen(service, "chosen"));
    }
    all
}

fn seen(rule: &TcpRule, verdict: &str) -> CandidateSeen {
    let name = match &rule.sni {
        Some(HostPattern::Exact(name)) => name.to_string(),
        Some(HostPattern::Suffix(suffix)) => format!("*{suffix}"),
        None => "any".to_owned(),
    };
    let destinations = words::destinations(&rule.destinations);
    CandidateSeen {
        route: rule.rule.route.to_string(),
        rule: rule.rule.path.to_string(),
        place: rule.rule.place.to_string(),
        host: name,
        path: String::new(),
        precedence: "bytes".to_owned(),
        verdict: verdict.to_owned(),
        conditions: destinations
            .into_iter()
            .map(|condition| ConditionSeen {
                condition: format!("destination {condition}"),
                holds: verdict != "fails",
            })
            .collect(),
    }
}

/// Hears how each rule of a policy fits.
#[derive(Default)]
struct Ears(Vec<PolicySeen>);

impl Hear for Ears {
    const ON: bool = true;

    fn rule(&mut self, policy: &Policy, rule: usize, fit: &Fit) {
        self.0.push(ruling::seen(policy, rule, fit));
    }
}

/// Written rules that are told.
const MOST: usize = 50;
