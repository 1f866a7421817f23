//! How a listener captures, and the rule for what nothing else is for.
//! It must not know the kernel's rules.
//! Called by `compile::listeners`.

use std::sync::Arc;
use std::time::Duration;

use windrose_plugins::contract::Time;

use super::pools;
use super::routes::Workshop;
use crate::config::report::Report;
use crate::config::schema::{self, Role};
use crate::snapshot::capture::{Capture, Hint, How, Unknown};
use crate::snapshot::chain::Chain;
use crate::snapshot::limits::Priority;
use crate::snapshot::pool::{Passthrough, PASSTHROUGH};
use crate::snapshot::route::{
    Action, Candidate, Conditions, HeaderOps, PathPattern, Retry, Rewrite, Rule, Timeouts,
};
use crate::snapshot::ssrf::Guard;

/// `None` for listeners that do not capture.
pub(super) fn capture(
    workshop: &Workshop<'_>,
    listener: &schema::Listener,
    path: &str,
    report: &mut Report,
) -> Option<Capture> {
    let how = match listener.capture? {
        schema::Capture::Redirect => How::Redirect,
        schema::Capture::Tproxy => How::Transparent,
    };
    let previous = workshop.means.previous;
    let previous = previous.and_then(|it| it.listener(&listener.name)?.capture.as_ref());
    let unknown = match unknown(listener) {
        schema::Unknown::Block => Unknown::Block,
        schema::Unknown::Passthrough => {
            let before = previous.and_then(before);
            let made = passthrough(workshop, listener, path, before, report);
            Unknown::Passthrough(Arc::new(made))
        }
    };
    let hints = listener.ports.iter().map(|(port, hint)| {
        let hint = match hint {
            schema::PortHint::Http => Hint::Http,
            schema::PortHint::Tcp => Hint::Tcp,
        };
        (*port, hint)
    });
    Some(Capture {
        how,
        unknown,
        detect_timeout: listener.detect_timeout.map_or(DETECT, |time| time.0),
        hints: Arc::new(hints.collect()),
        guard: guard(workshop),
        learned: previous.map_or_else(Arc::default, |it| it.learned.clone()),
    })
}

/// How a broken listener captures on: as before, under the policies of now.
pub(super) fn kept(workshop: &Workshop<'_>, name: &str, running: &Capture) -> Capture {
    let unknown = match &running.unknown {
        Unknown::Block => Unknown::Block,
        Unknown::Passthrough(same) => Unknown::Passthrough(Arc::new(Candidate {
            policies: workshop.book.set(name, PASSTHROUGH),
            ..(**same).clone()
        })),
    };
    Capture {
        unknown,
        guard: guard(workshop),
        ..running.clone()
    }
}

fn guard(workshop: &Workshop<'_>) -> Option<Arc<Guard>> {
    workshop.means.guard.of_kind(schema::Guarded::Passthrough)
}

/// What knows the destinations so far.
fn before(previous: &Capture) -> Option<&Passthrough> {
    match &previous.unknown {
        Unknown::Passthrough(candidate) => match &candidate.rule.action {
            Action::Passthrough(before) => Some(before),
            _ => None,
        },
        Unknown::Block => None,
    }
}

/// Applications that are captured go on to reach what the proxy knows nothing of; what comes from other nodes is let in only as
/// written.
fn unknown(listener: &schema::Listener) -> schema::Unknown {
    listener.unknown.unwrap_or(match listener.role {
        Role::MeshOutbound => schema::Unknown::Passthrough,
        Role::MeshInbound | Role::Ingress => schema::Unknown::Block,
    })
}

/// Server-first protocols do not wait for it, as the server is asked beside the client. It only ends the silence of both, and a
/// client that is silent longer than this has a connection it keeps in reserve, or no HTTP.
const DETECT: Duration = Duration::from_secs(2);

/// For bytes whose owners may be silent for long: databases keep such connections.
pub(in crate::config) const LONG_IDLE: Time = Time(Duration::from_secs(3600));

fn passthrough(
    workshop: &Workshop<'_>,
    listener: &schema::Listener,
    path: &str,
    before: Option<&Passthrough>,
    report: &mut Report,
) -> Candidate {
    let means = workshop.means;
    let path = format!("{path}.unknown");
    let mut prototype = |protocol| {
        let pool = schema::Pool {
            name: PASSTHROUGH.to_owned(),
            protocol,
            // There is no other endpoint to turn to.
            ejection: schema::Ejection {
                consecutive_failures: 0,
                ..schema::Ejection::default()
            },
            ..schema::Pool::default()
        };
        pools::prototype(&pool, &path, means, report)
    };
    let prototypes = [
        prototype(schema::PoolProtocol::Http1),
        prototype(schema::PoolProtocol::Http2),
        prototype(schema::PoolProtocol::Tcp),
    ];
    let metrics = means.metrics.endpoint(PASSTHROUGH, "original destination");
    let rule = Rule {
        route: PASSTHROUGH.into(),
        index: 0,
        place: (means.place)(&path).into(),
        path: path.into(),
        action: Action::Passthrough(Arc::new(Passthrough::new(prototypes, metrics, before))),
        experiments: None,
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        // As if the proxy were not there, but for connections that both sides have forgotten.
        timeouts: Timeouts {
            idle: Some(LONG_IDLE.0),
            ..Timeouts::default()
        },
        retry: Retry::default(),
        body_limit: u64::MAX,
        priority: Priority::Normal,
        chain: Chain::default(),
    };
    let role = match listener.role {
        Role::MeshOutbound => "mesh-outbound",
        Role::MeshInbound => "mesh-inbound",
        Role::Ingress => "ingress",
    };
    Candidate {
        rule: Arc::new(rule),
        alternative: 0,
        host: "".into(),
        path: PathPattern::Prefix("".into()),
        conditions: Arc::new(Conditions::default()),
        policies: workshop.book.set(&listener.name, PASSTHROUGH),
        metrics: means.metrics.route(&listener.name, role, PASSTHROUGH),
        order: u32::MAX,
    }
}
