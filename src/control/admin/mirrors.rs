//! The view of mirrors: what became of copies, what came of comparisons, and examples of responses that differ.
//! It must not know how copies are sent or compared.
//! Called by `admin`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::{millis, rfc3339};
use crate::observe::mirror::Difference;
use crate::snapshot::route::{Mirror, Rule};
use crate::snapshot::Snapshot;

#[derive(Serialize)]
pub(super) struct Mirrors {
    mirrors: Vec<MirrorView>,
}

#[derive(Serialize)]
struct MirrorView {
    route: String,
    rule: String,
    place: String,
    pool: String,
    percent: f64,
    /// Copies under way to the pool, of all rules, and those that wait.
    under_way: usize,
    waiting: usize,
    /// Of the route since the process started, as the next one.
    requests: BTreeMap<&'static str, u64>,
    compared: BTreeMap<&'static str, u64>,
    /// The last responses that differed, newest first.
    differences: Vec<DifferenceView>,
}

#[derive(Serialize)]
struct DifferenceView {
    at: String,
    request_id: String,
    method: String,
    path: String,
    endpoint: String,
    what: Vec<String>,
    ms: f64,
    mirror_ms: f64,
}

/// Every mirror, in the order of rules.
pub(super) fn view(snapshot: &Snapshot) -> Mirrors {
    let of_rule = |rule: &std::sync::Arc<Rule>| {
        let experiments = rule.experiments.as_ref();
        let mirrors = experiments.map_or(&[][..], |experiments| &experiments.mirrors);
        let views: Vec<MirrorView> = mirrors.iter().map(|it| mirror(rule, it)).collect();
        views
    };
    Mirrors {
        mirrors: snapshot.rules.iter().flat_map(of_rule).collect(),
    }
}

fn mirror(rule: &Rule, mirror: &Mirror) -> MirrorView {
    let pool = mirror.pool.as_ref();
    let (under_way, waiting) = pool.map_or((0, 0), |pool| pool.gate.count());
    let metrics = &mirror.metrics;
    MirrorView {
        route: rule.route.to_string(),
        rule: rule.path.to_string(),
        place: rule.place.to_string(),
        pool: mirror.name.to_string(),
        percent: mirror.chance.percent(),
        under_way,
        waiting,
        requests: metrics.requests().into_iter().collect(),
        compared: metrics.comparisons().into_iter().collect(),
        differences: metrics.differences.all().iter().map(difference).collect(),
    }
}

fn difference(difference: &Difference) -> DifferenceView {
    DifferenceView {
        at: rfc3339(difference.at),
        request_id: difference.request_id.clone(),
        method: difference.method.clone(),
        path: difference.path.clone(),
        endpoint: difference.endpoint.clone(),
        what: difference.what.clone(),
        ms: millis(difference.took),
        mirror_ms: millis(difference.mirror_took),
    }
}
