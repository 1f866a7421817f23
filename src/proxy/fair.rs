//! A workload's share of its node's proxy: taken for each connection and request, so that one cannot starve the others.
//! It must not know how workloads are told apart.
//! Called by `accept`, `request` and `tcp`; without limits it does nothing.

use std::sync::Arc;

use super::Shared;
use crate::observe::event;
use crate::snapshot::identity::{Share, Used, Workload};
use crate::snapshot::listener::{Listener, Role};

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

/// Takes a share of what a workload calls, where the listener is for its calls.
///
/// # Errors
/// As for [`share`].
pub(super) fn calls(
    shared: &Shared,
    listener: &Listener,
    caller: Option<&Arc<Workload>>,
) -> Result<Option<Share>, String> {
    match listener.role {
        Role::MeshInbound => Ok(None),
        Role::MeshOutbound | Role::Ingress => share(shared, caller, Used::Requests),
    }
}

/// Takes a share of what is served for a workload, where the listener is for those who call it. Asked once policies let them: who
/// may not call cannot fill it.
///
/// # Errors
/// As for [`share`].
pub(super) fn serves(
    shared: &Shared,
    listener: &Listener,
    callee: Option<&Arc<Workload>>,
) -> Result<Option<Share>, String> {
    match listener.role {
        Role::MeshInbound => share(shared, callee, Used::Served),
        Role::MeshOutbound | Role::Ingress => Ok(None),
    }
}
