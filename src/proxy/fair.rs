//! A workload's share of its node's proxy: taken for each connection and request, so that one cannot starve the others.
//! It must not know how workloads are told apart.
//! Called by `accept`, `request`, `forward` and `tcp`; without limits it does nothing.
//!
//! What is held is not measured but reckoned from above, since Pingora keeps it: a limit is then never passed, and a workload with
//! small messages is reckoned with little, as no direction holds more than went through it.

use std::sync::Arc;

use windrose_plugins::contract::{causes, Cause};

use super::request::Ctx;
use super::tunnel::STREAM_WINDOW;
use super::{copy, Shared};
use crate::observe::event;
use crate::snapshot::identity::{Reached, Share, Used, Workload};
use crate::snapshot::listener::{Listener, Role};
use crate::snapshot::pool::{PoolProtocol, H2_WINDOW};

/// Takes a share, if the caller is known and has limits.
///
/// # Errors
/// What to say of a workload that has all it may.
fn share(
    shared: &Shared,
    caller: Option<&Arc<Workload>>,
    used: Used,
    bytes: u64,
) -> Result<Option<Share>, String> {
    let Some(workload) = caller else {
        return Ok(None);
    };
    let taken = workload.take(used, bytes);
    taken.map_err(|reached| told(shared, &workload.name, reached))
}

/// Names the workload.
fn told(shared: &Shared, name: &str, Reached { what, most }: Reached) -> String {
    shared.metrics.identity().refused(name, what);
    event::warn("workload limit", name, || {
        format!("a workload has all it may: workload={name} {what}={most}")
    });
    format!("workload={name} {what}={most}")
}

/// Takes a share of what a workload has open.
///
/// # Errors
/// As for [`share`].
pub(super) fn connection(
    shared: &Shared,
    caller: Option<&Arc<Workload>>,
) -> Result<Option<Share>, String> {
    share(shared, caller, Used::Connections, CONNECTION)
}

/// Takes a share for what a workload's connection of bytes holds where it goes on through a tunnel.
///
/// # Errors
/// As for [`share`].
pub(super) fn tunnel(
    shared: &Shared,
    listener: &Listener,
    caller: Option<&Arc<Workload>>,
) -> Result<Option<Share>, String> {
    match listener.role {
        Role::MeshInbound => Ok(None),
        Role::MeshOutbound | Role::Ingress => {
            share(shared, caller, Used::Further, STREAM_WINDOW.into())
        }
    }
}

/// Takes a share of what is served for a workload, for a connection of bytes.
///
/// # Errors
/// As for [`share`].
pub(super) fn serves_bytes(
    shared: &Shared,
    listener: &Listener,
    callee: Option<&Arc<Workload>>,
    way: Way,
) -> Result<Option<Share>, String> {
    let window = match way {
        Way::Tunnel => STREAM_WINDOW.into(),
        Way::Line => 0,
    };
    serves_with(shared, listener, callee, CONNECTION + window)
}

/// How a connection of bytes comes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// By itself.
    Line,
    /// With others in a connection between nodes.
    Tunnel,
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
        Role::MeshOutbound | Role::Ingress => share(shared, caller, Used::Requests, REQUEST),
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
    serves_with(shared, listener, callee, REQUEST)
}

fn serves_with(
    shared: &Shared,
    listener: &Listener,
    callee: Option<&Arc<Workload>>,
    bytes: u64,
) -> Result<Option<Share>, String> {
    match listener.role {
        Role::MeshInbound => share(shared, callee, Used::Served, bytes),
        Role::MeshOutbound | Role::Ingress => Ok(None),
    }
}

/// Reckons what a request holds, now that more of it went through, or that its response says how long it is. What has been held
/// is counted until the end, as nobody tells when it was let go.
///
/// # Errors
/// The cause, where its workload has no room for that.
pub(super) fn holds(
    ctx: &mut Ctx,
    shared: &Shared,
    to_come: impl FnOnce() -> u64,
) -> Result<(), &'static Cause> {
    let kept = ctx.held_bytes();
    let share = ctx.share.as_mut().filter(|share| share.is_weighed());
    let Some(share) = share else {
        return Ok(());
    };
    let settings = ctx.pool.as_ref().map(|pool| &pool.settings);
    let multiplexed =
        settings.is_some_and(|it| it.protocol != PoolProtocol::Http1 || it.mtls.is_some());
    let window = if multiplexed { H2_WINDOW.into() } else { 0 };
    // Of a body that is held whole nothing else is kept: its pieces are parts of it.
    let up = match &ctx.gathered {
        Some(body) => body.held(),
        None => ctx.request_bytes.min(REPLAY + TRANSIT + PIECE),
    };
    let down = ctx.response_bytes.max(to_come()).min(TRANSIT + window);
    let down = down.max(kept);
    let copied = ctx.mirroring.as_ref().map_or(0, |copy| copy.longest_body());
    let copied = ctx.request_bytes.min(copied as u64);
    let held = share.hold(REQUEST + up + down + copied);
    held.map_err(|reached| {
        let workload = ctx.connection.as_ref().and_then(|it| it.caller.as_ref());
        told(shared, workload.map_or("", |it| &it.name), reached);
        &causes::WORKLOAD_LIMIT
    })
}

/// What a connection has: the buffers of both directions, of HTTP as of bytes.
const CONNECTION: u64 = 2 * copy::BUFFER as u64;
/// What a request has before any body: both its heads, its state, and the task that carries it.
const REQUEST: u64 = 16 * 1024;
/// Bytes of a request that Pingora keeps for another attempt (`BODY_BUF_LIMIT`).
const REPLAY: u64 = 64 * 1024;
/// What of one direction may be on its way through Pingora: four pieces in its channel (`TASK_BUFFER_SIZE`) and one in hand, each
/// as long as its buffer for reading (`BODY_BUFFER_SIZE`).
const TRANSIT: u64 = 5 * PIECE;
/// The longest piece; the window of a client's HTTP/2 is as long.
const PIECE: u64 = 64 * 1024;
