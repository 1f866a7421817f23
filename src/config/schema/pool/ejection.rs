//! Keys of `pools[].ejection`: taking endpoints out that fail real requests.
//! It must not know how failures are counted.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

/// Taking an endpoint out for a while after failures of real requests. Running requests go on. Gateway failures are answers of 502,
/// 503 and 504, connections that fail, responses that do not come, and the gRPC statuses UNAVAILABLE and
/// DEADLINE_EXCEEDED; INTERNAL and DATA_LOSS count as 500. Responses that break after their header count in shares, not in a row.
/// A pool of one endpoint is never ejected; the only endpoint of a subset or level of a larger pool may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Gateway failures in a row that eject. Default: 5; 0 turns this kind off.
    pub consecutive_failures: u32,
    /// Answers of 5xx and gateway failures in a row that eject. Default: 0, off: a service that fails one of its requests may
    /// well serve the others.
    pub consecutive_5xx: u32,
    /// Ejects endpoints that succeed far more seldom than the others do, compared every `interval`. 5xx, gateway failures and
    /// refusals for rate (429, RESOURCE_EXHAUSTED) count against them. Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// Ejects endpoints of which a share of requests failed, looked at every `interval`; the same counts against them.
    /// Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_percentage: Option<FailurePercentage>,
    /// Ejects an endpoint at once when its own share of successes falls too low, whatever the others do; the same counts against
    /// it. Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_below: Option<SuccessBelow>,
    /// Time between looks at shares; each that passes without an ejection also takes one doubling of the time back. Default: 10s,
    /// at least 1s.
    pub interval: Time,
    /// How long the first time; doubles with each ejection in a row. Default: 10s.
    pub base_time: Time,
    /// Longest time, before `jitter`. Default: 300s.
    pub max_time: Time,
    /// By how much a time is lengthened at most, by chance, so that endpoints that were ejected together do not come back
    /// together. Default: 10%.
    pub jitter: Percent,
    /// Share of the endpoints that may be out at once by ejection; one may always be. For silence (no answer in time, 504) it is at most 10%, because that is how overload shows. Default: 50%.
    pub max_ejected: Percent,
    /// Whether one request tries an endpoint whose time is over, and no other goes there until it is known how that went: success
    /// opens it, failure ejects it for twice the time. Of a stream of gRPC that goes on for long the endpoint opens `base_time`
    /// after the response began. Without it the endpoint is simply open again, and fails as many requests as it takes. Default: true.
    pub probation: bool,
    /// Whether a passed health check ends an ejection, also one of a row that just began. A check that asks for less than requests
    /// do brings back what cannot serve them; then set false. Only with `health`. Default: true.
    pub ended_by_health: bool,
}

/// Endpoints that succeed far more seldom than the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SuccessRate {
    /// Fewest endpoints with enough requests to compare. Default: 5, at least 3.
    pub minimum_endpoints: u32,
    /// Fewest requests of an endpoint within an interval. Default: 100.
    pub minimum_requests: u32,
    /// How many standard deviations below the mean. Among n endpoints none can be more than √(n-1) below. Default: 1.9.
    pub deviations: f64,
}

/// Endpoints of which too much fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailurePercentage {
    /// Share of failures that is too much. Default: 85%.
    pub at_least: Percent,
    /// Fewest endpoints with enough requests. Default: 5.
    pub minimum_endpoints: u32,
    /// Fewest requests of an endpoint within an interval. Default: 50.
    pub minimum_requests: u32,
}

/// An endpoint that succeeds too seldom by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SuccessBelow {
    /// Share of successes; fewer are too few. Default: 80%.
    pub rate: Percent,
    /// How far back, in ten steps. Default: 10s, at least 100ms.
    pub window: Time,
    /// Fewest requests within the window. Default: 5.
    pub minimum_requests: u32,
}

impl Default for Ejection {
    fn default() -> Ejection {
        Ejection {
            consecutive_failures: 5,
            consecutive_5xx: 0,
            success_rate: None,
            failure_percentage: None,
            success_below: None,
            interval: Time::secs(10),
            base_time: Time::secs(10),
            max_time: Time::secs(300),
            jitter: percent(10),
            max_ejected: percent(50),
            probation: true,
            ended_by_health: true,
        }
    }
}

impl Default for SuccessRate {
    fn default() -> SuccessRate {
        SuccessRate {
            minimum_endpoints: 5,
            minimum_requests: 100,
            deviations: 1.9,
        }
    }
}

impl Default for FailurePercentage {
    fn default() -> FailurePercentage {
        FailurePercentage {
            at_least: percent(85),
            minimum_endpoints: 5,
            minimum_requests: 50,
        }
    }
}

impl Default for SuccessBelow {
    fn default() -> SuccessBelow {
        SuccessBelow {
            rate: percent(80),
            window: Time::secs(10),
            minimum_requests: 5,
        }
    }
}

fn percent(percent: u8) -> Percent {
    Percent::new(percent).expect("the numbers above are at most 100")
}
