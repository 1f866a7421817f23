//! Keys of `pools[].ejection`: taking endpoints out that fail real requests.
//! It must not know how failures are counted.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

/// Taking an endpoint out for a while after failures of real requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Failures in a row (502, 503, 504, and connections that fail) that eject. Default: 5; 0 turns ejection off.
    pub consecutive_failures: u32,
    /// How long the first time; doubles each time. Default: 10s.
    pub base_time: Time,
    /// Longest time. Default: 300s.
    pub max_time: Time,
    /// Share of the endpoints that may be out at once by ejection; one may always be. Default: 50%.
    pub max_ejected: Percent,
}

impl Default for Ejection {
    fn default() -> Ejection {
        Ejection {
            consecutive_failures: 5,
            base_time: Time::secs(10),
            max_time: Time::secs(300),
            max_ejected: HALF,
        }
    }
}

const HALF: Percent = match Percent::new(50) {
    Some(half) => half,
    None => unreachable!(),
};
