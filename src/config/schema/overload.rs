//! Keys of `overload`, and the classes of requests.
//! It must not know how overload is measured.
//! Read by `config::compile`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Size, Time};

/// When the process counts as overloaded. Then requests that would go on to a pool are refused at once with 503 and `overloaded`: first a growing share of those with priority `low`, then of `normal`, then of `high`; never `critical` ones, never answers that the configuration gives (`respond`, `redirect`), never the admin address. A class is refused wholly after five seconds over a bound, or one at twice the bound, and let in again over ten seconds once the measure that called for it is below 90 % of its bound, over fifty while it is between that and the bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// How late a task runs that was due, smoothed over a second: the processor, or something that blocks, keeps connections waiting. Default: 500ms; 0s does not look at it.
    pub lag: Time,
    /// Share of the memory there is (`memory_limit`). Default: 95%; 0% does not look at it.
    pub memory: Percent,
    /// The memory there is; what the process holds in memory is compared with it. Default: what the control group (cgroup) allows, compared with what the group uses without file caches; without such a limit memory is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Size>,
    /// Share of the file descriptors that the process may open. Default: 95%; 0% does not look at it.
    pub descriptors: Percent,
    /// A request field in which peers of a listener's `trusted_proxies` name the class of a request; it wins over the route's `priority`. From others it is ignored and removed, so that no proxy behind this one believes it; words that are no class are ignored. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_header: Option<String>,
}

impl Default for Overload {
    fn default() -> Overload {
        Overload {
            lag: Time::millis(500),
            memory: MOST,
            memory_limit: None,
            descriptors: MOST,
            priority_header: None,
        }
    }
}

const MOST: Percent = match Percent::new(95) {
    Some(percent) => percent,
    None => unreachable!(),
};

/// Who goes first where requests wait, and who is refused last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Never refused because the process is overloaded.
    Critical,
    /// Before the most.
    High,
    /// As everything that says nothing.
    Normal,
    /// Can wait, or come again later.
    Low,
}
