//! The view of identities: the clock of every certificate, how long their source may stay away, and who falls first.
//! It must not know sources; it reads what they left in the snapshot.
//! Called by `admin`; `windrose certs` renders it, readiness and the overview take its alarms.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::nid::Nid;
use openssl::x509::X509Ref;
use serde::Serialize;

use super::state::rfc3339;
use crate::control::identity::{level, within, Level};
use crate::snapshot::identity::{Identity, NodeClock, SourceState, Svid, Workload};
use crate::snapshot::Snapshot;

/// Every clock.
#[derive(Default, Serialize)]
pub(super) struct Clocks {
    /// Absent where nobody has an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceView>,
    /// How long the source may stay away until the first certificate ends.
    source_may_be_away_seconds: Option<i64>,
    /// Whose certificate that is.
    first_to_fall: Option<String>,
    /// Present where the node has one, which is with the built-in authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeView>,
    workloads: Vec<WorkloadClock>,
    roots: Vec<RootsClock>,
    /// Since when these roots are in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    roots_since: Option<String>,
    /// What has to be looked at, the worst first.
    alarms: Vec<String>,
}

#[derive(Serialize)]
struct SourceView {
    kind: &'static str,
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How far the built-in authority's clock was ahead of this node's when it last answered, to about a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_told_at: Option<String>,
}

#[derive(Serialize)]
struct WorkloadClock {
    name: String,
    id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewed_at: Option<String>,
    /// How long before it came it began: below zero says that this node's clock is behind the issuer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    began_before_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_at: Option<String>,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The node's own certificate.
#[derive(Serialize)]
struct NodeView {
    id: String,
    state: &'static str,
    not_after: String,
    left_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_at: Option<String>,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct RootsClock {
    trust_domain: String,
    roots: usize,
    first_ends: String,
    last_ends: String,
    /// Until the first of them ends.
    left_seconds: i64,
}

impl Clocks {
    pub(super) fn new(snapshot: &Snapshot) -> Clocks {
        snapshot
            .identity
            .as_deref()
            .map_or_else(Clocks::default, |identity| at(identity, unix_now()))
    }

    /// What has to be looked at, the worst first.
    pub(super) fn alarms(self) -> Vec<String> {
        self.alarms
    }
}

fn at(identity: &Identity, now: i64) -> Clocks {
    let held: Vec<_> = identity
        .workloads
        .iter()
        .map(|one| (one, one.held.svid()))
        .collect();
    let ends = held
        .iter()
        .filter_map(|(one, svid)| Some((svid.as_ref()?.not_after, &one.name)));
    let first = ends.min();
    let mut alarms: Vec<(Level, String)> = Vec::new();
    for (one, svid) in &held {
        let level = level(svid.as_deref(), now);
        let left = svid.as_ref().map_or(0, |svid| svid.not_after - now);
        alarms.extend(alarm(one, level, left).map(|told| (level, told)));
    }
    // Later levels are worse.
    alarms.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let mut alarms: Vec<String> = alarms.into_iter().map(|(_, told)| told).collect();
    let state = identity.registry.source();
    let node = (identity.source.kind() == "ca").then(|| identity.registry.node());
    let node = node.flatten();
    alarms.extend(node.as_ref().and_then(|node| node_alarm(node, now)));
    alarms.extend(
        state
            .error
            .as_ref()
            .map(|error| format!("the source `{}` fails: {error}", state.kind)),
    );
    let trust = identity.registry.trust();
    let mut roots: Vec<RootsClock> = trust
        .bundles
        .iter()
        .map(|(domain, bundle)| RootsClock {
            trust_domain: domain.to_string(),
            roots: bundle.roots().len(),
            first_ends: moment(bundle.ends.0),
            last_ends: moment(bundle.ends.1),
            left_seconds: bundle.ends.0 - now,
        })
        .collect();
    roots.sort_by(|one, other| one.trust_domain.cmp(&other.trust_domain));
    Clocks {
        source: Some(source(identity, &state)),
        source_may_be_away_seconds: first.map(|(ends, _)| (ends - now).max(0)),
        first_to_fall: first.map(|(_, name)| name.to_string()),
        node: node.map(|node| node_view(node, now)),
        workloads: held
            .iter()
            .map(|(one, svid)| workload(one, svid.as_deref(), now))
            .collect(),
        roots,
        roots_since: trust.since.map(rfc3339),
        alarms,
    }
}

fn alarm(one: &Workload, level: Level, left: i64) -> Option<String> {
    let name = &one.name;
    Some(match level {
        Level::Well => return None,
        Level::Missing => format!("workload {name} has no certificate"),
        Level::Late => {
            format!("the certificate of workload {name} is not renewed and ends in {left} s")
        }
        Level::Expired => format!("the certificate of workload {name} has ended; peers refuse it"),
    })
}

fn node_alarm(node: &NodeClock, now: i64) -> Option<String> {
    let left = node.not_after - now;
    let cause = node.error.as_deref().unwrap_or("no answer came");
    Some(match within(node.not_before, node.not_after, now) {
        Level::Expired => {
            format!("the node's own certificate has ended: it has to join again: {cause}")
        }
        Level::Late => {
            format!("the node's own certificate is not renewed and ends in {left} s: {cause}")
        }
        _ => format!(
            "the node's own certificate is not renewed: {}",
            node.error.as_ref()?
        ),
    })
}

fn node_view(node: NodeClock, now: i64) -> NodeView {
    NodeView {
        state: word(within(node.not_before, node.not_after, now)),
        id: node.id,
        not_after: moment(node.not_after),
        left_seconds: node.not_after - now,
        renew_at: node.renew_at.map(rfc3339),
        failures: node.failures,
        error: node.error,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Well => "good",
        Level::Missing => "missing",
        Level::Late => "late",
        Level::Expired => "expired",
    }
}

fn source(identity: &Identity, state: &SourceState) -> SourceView {
    let ahead = identity.registry.authority_ahead();
    let ahead = ahead.filter(|_| identity.source.kind() == "ca");
    SourceView {
        kind: identity.source.kind(),
        answers: state.answered_at.is_some() && state.failing_since.is_none(),
        answered_at: state.answered_at.map(rfc3339),
        failing_since: state.failing_since.map(rfc3339),
        error: state.error.clone(),
        clock_ahead_seconds: ahead.map(|ahead| ahead.seconds),
        clock_told_at: ahead.map(|ahead| rfc3339(ahead.at)),
    }
}

fn workload(one: &Workload, svid: Option<&Svid>, now: i64) -> WorkloadClock {
    let clock = one.held.clock();
    WorkloadClock {
        name: one.name.to_string(),
        id: one.id.to_string(),
        state: word(level(svid, now)),
        serial: svid.map(|svid| svid.serial.clone()),
        issuer: svid.map(|svid| issuer(svid.leaf())),
        not_before: svid.map(|svid| moment(svid.not_before)),
        not_after: svid.map(|svid| moment(svid.not_after)),
        left_seconds: svid.map(|svid| svid.not_after - now),
        renewed_at: clock.renewed_at.map(rfc3339),
        began_before_seconds: svid
            .zip(clock.renewed_at)
            .map(|(svid, came)| unix(came) - svid.not_before),
        renew_at: clock.renew_at.map(rfc3339),
        failures: clock.failures,
        error: clock.error,
    }
}

fn issuer(leaf: &X509Ref) -> String {
    let mut names = leaf.issuer_name().entries_by_nid(Nid::COMMONNAME);
    let name = names.next().and_then(|name| name.data().to_string().ok());
    name.unwrap_or_default()
}

fn moment(seconds: i64) -> String {
    rfc3339(UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn unix_now() -> i64 {
    unix(SystemTime::now())
}

fn unix(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
