//! The view of a retry budget.
//! It must not pay or spend.
//! Part of the views of routes and pools.

use serde::Serialize;

use super::state::millis;
use crate::observe::clock;
use crate::snapshot::budget::Budget;

#[derive(Serialize)]
pub(super) struct BudgetView {
    ratio: f64,
    min_per_second: u32,
    window_ms: f64,
    /// Further attempts it would pay for now.
    available: u64,
}

pub(super) fn budget(budget: &Budget) -> BudgetView {
    let allowance = &budget.allowance;
    BudgetView {
        ratio: allowance.ratio,
        min_per_second: allowance.min_per_second,
        window_ms: millis(allowance.window),
        available: budget.available(clock::now()),
    }
}
