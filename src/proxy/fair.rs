//! A workload's share of its node's proxy: taken for each connection and request, so that one cannot starve the others.
//! It must not know how workloads are told apart.
//! Called by `accept` and `request`; without limits it does nothing.

use std::sync::Arc;

use super::Shared;
use crate::observe::event;
use crate::snapshot::identity::{Share, Used, Workload};

/// Takes a share, if the caller is known and has limits.
///
/// # Errors
/// What to say of a workload that has all it may.
pub(super) fn share(
    shared: &Shared,
    caller: Option<&Arc<Workload>>,
    used: Used,
) -> Result<Option<Share>, String> {
    let Some(workload) = caller else {
        return Ok(None);
    };
    workload.take(used).map_err(|most| {
        let (name, what) = (&workload.name, used.as_str());
        shared.metrics.identity().refused(name, what);
        event::warn("workload limit", name, || {
            format!("a workload has all it may: workload={name} {what}={most}")
        });
        format!("workload={name} {what}={most}")
    })
}
