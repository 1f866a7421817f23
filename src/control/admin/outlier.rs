//! The view of passive health: a pool's settings, an endpoint's state and counts, and endpoints that left.
//! It must not judge endpoints.
//! Called by `pools`.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::state::millis;
use crate::control::pools::PoolKeeper;
use crate::snapshot::outlier::{Phase, Seen};
use crate::snapshot::pool::{Ejection, Member, Pool};

#[derive(Serialize)]
pub(super) struct EjectionView {
    consecutive_failures: u32,
    consecutive_5xx: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_rate: Option<SuccessRateView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_percentage: Option<FailurePercentageView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_below: Option<SuccessBelowView>,
    interval_ms: f64,
    base_time_ms: f64,
    max_time_ms: f64,
    jitter: f64,
    max_ejected: f64,
    probation: bool,
    ended_by_health: bool,
}

#[derive(Serialize)]
struct SuccessRateView {
    minimum_endpoints: u32,
    minimum_requests: u32,
    deviations: f64,
}

#[derive(Serialize)]
struct FailurePercentageView {
    at_least: f64,
    minimum_endpoints: u32,
    minimum_requests: u32,
}

#[derive(Serialize)]
struct SuccessBelowView {
    rate: f64,
    window_ms: f64,
    minimum_requests: u32,
}

/// An endpoint's part; its fields stand beside the others of the endpoint.
#[derive(Serialize)]
pub(super) struct OutlierView {
    /// One word for what the endpoint does now.
    state: &'static str,
    ejected: bool,
    /// The key of `ejection` that it was ejected by; `probation` for a request that tried it in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_seconds_left: Option<u64>,
    failures: u32,
    failures_5xx: u32,
    /// Ejections in a row that count for the next time.
    ejections: u32,
    next_ejection_ms: f64,
    /// Requests since the last look, when shares are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<TallyView>,
}

#[derive(Serialize)]
struct TallyView {
    requests: u32,
    failed: u32,
}

#[derive(Serialize)]
pub(super) struct DrainingView {
    address: String,
    in_flight: u32,
}

pub(super) fn rules(it: &Ejection) -> EjectionView {
    EjectionView {
        consecutive_failures: it.consecutive_failures,
        consecutive_5xx: it.consecutive_5xx,
        success_rate: it.success_rate.as_ref().map(|rate| SuccessRateView {
            minimum_endpoints: rate.minimum_endpoints,
            minimum_requests: rate.minimum_requests,
            deviations: rate.deviations,
        }),
        failure_percentage: it
            .failure_percentage
            .as_ref()
            .map(|share| FailurePercentageView {
                at_least: share.at_least,
                minimum_endpoints: share.minimum_endpoints,
                minimum_requests: share.minimum_requests,
            }),
        success_below: it.success_below.as_ref().map(|below| SuccessBelowView {
            rate: below.rate,
            window_ms: millis(below.window),
            minimum_requests: below.minimum_requests,
        }),
        interval_ms: millis(it.interval),
        base_time_ms: millis(it.base_time),
        max_time_ms: millis(it.max_time),
        jitter: it.jitter,
        max_ejected: it.max_ejected,
        probation: it.probation,
        ended_by_health: it.ended_by_health,
    }
}

pub(super) fn view(seen: &Seen, member: &Member, healthy: bool) -> OutlierView {
    let is_ejected = seen.phase != Phase::Open;
    let seconds_left = Some(seen.left).filter(|_| seen.phase == Phase::Shut);
    OutlierView {
        state: match seen.phase {
            _ if member.weight == 0 => "draining",
            _ if !healthy => "unhealthy",
            Phase::Open => "open",
            Phase::Shut => "ejected",
            Phase::Awaiting => "probation",
            Phase::Trying => "tried",
        },
        ejected: is_ejected,
        ejected_by: seen.reason.map(|reason| reason.as_str()),
        ejected_seconds_left: seconds_left.map(|left| left.as_secs().max(1)),
        failures: seen.failures,
        failures_5xx: seen.failures_5xx,
        ejections: seen.ejections,
        next_ejection_ms: millis(seen.next),
        interval: seen.interval.map(|tally| TallyView {
            requests: tally.requests,
            failed: tally.failed,
        }),
    }
}

/// Endpoints that a reload or discovery took away while they had requests.
pub(super) fn draining(pool: &Pool, keeper: &PoolKeeper) -> Vec<DrainingView> {
    let left = keeper.draining(pool).into_iter();
    left.map(|endpoint| DrainingView {
        address: endpoint.label.to_string(),
        in_flight: endpoint.state.in_flight.load(Relaxed),
    })
    .collect()
}
