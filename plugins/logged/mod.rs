//! What plugins share that tell somebody of requests: which are told, what is said of them, and a bounded queue.
//! It must not know who is told, or how.
//! Used by `log_file`, `log_http` and `log_syslog`.

pub(crate) mod entry;
pub(crate) mod queue;

use schemars::JsonSchema;
use serde::Deserialize;

/// Which requests are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Every one.
    #[default]
    All,
    /// Those that were refused or failed.
    Errors,
    /// Those that failed.
    Failures,
}

impl Only {
    /// Whether a request with this status is among them.
    pub(crate) fn takes(self, status: u16) -> bool {
        match self {
            Only::All => true,
            Only::Errors => status == 0 || status >= 400,
            Only::Failures => status == 0 || status >= 500,
        }
    }
}
