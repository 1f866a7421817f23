//! The view of a pool's limits: what they are, and how full the pool is right now.
//! It must not know how places are given away.
//! Part of the view of pools.

use serde::Serialize;

use super::state::millis;
use crate::snapshot::limits::Limited;

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
    in_flight: u32,
    waiting: u32,
    retrying: u32,
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
        in_flight: load.in_flight,
        waiting: load.waiting,
        retrying: load.retrying,
    }
}
