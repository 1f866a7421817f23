//! What plugins that count share: whose requests are counted together, bounded tables, counts leased from a store, and fields.
//! It must not know what is counted.
//! Used by `rate_limit`, `quota`, `concurrency_limit` and `llm`.

pub(crate) mod cost;
pub(crate) mod fields;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod owed;
pub(crate) mod own;
pub(crate) mod settings;
pub(crate) mod table;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// How a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) admitted: bool,
    /// Whole uses left.
    pub(crate) remaining: u64,
    /// Time until there is one.
    pub(crate) next: Duration,
    /// Time until all are there again.
    pub(crate) full: Duration,
}

impl Standing {
    /// How the caller stands once so many more are taken, or given back, somewhere else.
    pub(crate) fn less(self, uses: i64) -> Standing {
        let remaining = match u64::try_from(uses) {
            Ok(uses) => self.remaining.saturating_sub(uses),
            Err(_) => self.remaining.saturating_add(uses.unsigned_abs()),
        };
        Standing { remaining, ..self }
    }
}

/// What becomes of requests that the store cannot count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// Counted in this process.
    #[default]
    Local,
    /// Let through.
    Open,
    /// Refused.
    Closed,
}

/// Whether a text can name a limit in fields and in keys of a store.
pub(crate) fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 64 && name.chars().all(is_good)
}
