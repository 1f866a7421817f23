//! The view of a pool's limits: what they are, and how full the pool is right now.
//! It must not know how places are given away.
//! Part of the view of pools.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::millis;
use crate::snapshot::limits::{Limited, Measure, Priority};
use crate::snapshot::Snapshot;

/// Limits of a pool, and what counts against them.
#[derive(Serialize)]
pub(super) struct LimitsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
    pending: u32,
    queue_timeout_ms: f64,
    /// How many may be under way right now.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptive: Option<AdaptiveView>,
    in_flight: u32,
    waiting: u32,
    retrying: u32,
}

#[derive(Serialize)]
struct AdaptiveView {
    min: u32,
    max: u32,
    limit: u32,
    /// Latency without queueing, as last measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_rtt_ms: Option<f64>,
    /// The median of the last window.
    #[serde(skip_serializing_if = "Option::is_none")]
    median_ms: Option<f64>,
}

/// How much of each bound of `overload` is used, and what share of each class is refused.
#[derive(Serialize)]
pub(super) struct OverloadView {
    level: f64,
    used_percent: BTreeMap<&'static str, f64>,
    refused_percent: BTreeMap<&'static str, f64>,
}

/// `None` when the configuration sets no bounds.
pub(super) fn overload(snapshot: &Snapshot) -> Option<OverloadView> {
    snapshot.overload.as_ref()?;
    let pressure = &snapshot.pressure;
    let used = Measure::ALL.map(|one| (one.as_str(), percent(pressure.used(one))));
    let refused = Priority::ALL.map(|one| (one.as_str(), percent(pressure.share(one))));
    Some(OverloadView {
        level: pressure.level(),
        used_percent: used.into(),
        refused_percent: refused.into(),
    })
}

fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

pub(super) fn view(limited: &Limited) -> LimitsView {
    let settings = &limited.settings;
    let load = limited.state.load();
    LimitsView {
        requests: settings.requests,
        endpoint_requests: settings.endpoint_requests,
        retries: settings.retries,
        pending: settings.pending,
        queue_timeout_ms: millis(settings.queue_timeout),
        limit: load.most,
        adaptive: adaptive(limited),
        in_flight: load.in_flight,
        waiting: load.waiting,
        retrying: load.retrying,
    }
}

fn adaptive(limited: &Limited) -> Option<AdaptiveView> {
    let settings = limited.settings.adaptive.as_ref()?;
    let reading = limited.state.reading()?;
    Some(AdaptiveView {
        min: settings.least,
        max: settings.most,
        limit: reading.limit,
        min_rtt_ms: reading.reference.map(millis),
        median_ms: reading.median.map(millis),
    })
}
