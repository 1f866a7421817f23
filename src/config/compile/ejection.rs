//! Passive ejection in final form.
//! It must not know the rest of a pool.
//! Called by `compile::pools`.

use crate::config::schema;
use crate::snapshot::pool::{Ejection, FailurePercentage, SuccessBelow, SuccessRate};

/// The settings of a pool's ejection.
pub(super) fn ejection(it: &schema::Ejection) -> Ejection {
    Ejection {
        consecutive_failures: it.consecutive_failures,
        consecutive_5xx: it.consecutive_5xx,
        success_rate: it.success_rate.as_ref().map(|rate| SuccessRate {
            minimum_endpoints: rate.minimum_endpoints,
            minimum_requests: rate.minimum_requests,
            deviations: rate.deviations,
        }),
        failure_percentage: it
            .failure_percentage
            .as_ref()
            .map(|share| FailurePercentage {
                at_least: share.at_least.fraction(),
                minimum_endpoints: share.minimum_endpoints,
                minimum_requests: share.minimum_requests,
            }),
        success_below: it.success_below.as_ref().map(|below| SuccessBelow {
            rate: below.rate.fraction(),
            window: below.window.0,
            minimum_requests: below.minimum_requests,
        }),
        interval: it.interval.0,
        base_time: it.base_time.0,
        max_time: it.max_time.0,
        jitter: it.jitter.fraction(),
        max_ejected: it.max_ejected.fraction(),
        probation: it.probation,
        ended_by_health: it.ended_by_health,
    }
}
