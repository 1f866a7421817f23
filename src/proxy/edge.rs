//! Who called what, told when it is over: what came in from other nodes, and what workloads here sent out.
//! It must not know how that is counted.
//! Called by `finish` for requests and by `tcp` for connections.

use std::borrow::Cow;

use windrose_plugins::contract::{causes, Blame, Cause, Principal};

use super::accept::Arrival;
use super::request::Ctx;
use super::Shared;
use crate::observe::metrics::{EdgeSample, Kind, RequestSample, Side, Transport};
use crate::snapshot::identity::Workload;
use crate::snapshot::listener::{Listener, Role};
use crate::snapshot::pool::Pool;

/// A request is over.
pub(super) fn request(ctx: &Ctx, sample: &RequestSample, shared: &Shared) {
    let (Some(listener), Some(connection)) = (&ctx.listener, &ctx.connection) else {
        return;
    };
    let pool = ctx.pool.as_deref();
    let Some(side) = side(listener, pool) else {
        return;
    };
    let tls = connection.tls.as_ref();
    let peer = tls.and_then(|tls| tls.principal.as_ref());
    let source = source(side, peer, connection.caller.as_deref());
    shared.metrics.edges().finished(&EdgeSample {
        side,
        kind: Kind::Request,
        source: source.as_deref().unwrap_or_default(),
        label: ctx.snapshot.policies.callers.label(source.as_deref()),
        destination: pool.map_or(NOWHERE, |pool| &pool.name),
        transport: match side {
            Side::Inbound => came(peer.is_some(), tls.is_some()),
            Side::Outbound => goes(pool, false),
        },
        success: is_success(sample),
        seconds: (!ctx.is_stream).then_some(sample.seconds),
        request_bytes: sample.request_bytes,
        response_bytes: sample.response_bytes,
    });
}

/// A connection passed through as bytes is over; `is_tls` says whether it was TLS from end to end.
pub(super) fn connection(
    arrival: &Arrival,
    pool: &Pool,
    sample: &RequestSample,
    is_tls: bool,
    shared: &Shared,
) {
    let Some(side) = side(&arrival.listener, Some(pool)) else {
        return;
    };
    let peer = arrival.principal.as_deref();
    let source = source(side, peer, arrival.caller.as_deref());
    let current = shared.current.load();
    shared.metrics.edges().finished(&EdgeSample {
        side,
        kind: Kind::Connection,
        source: source.as_deref().unwrap_or_default(),
        label: current.policies.callers.label(source.as_deref()),
        destination: &pool.name,
        transport: match side {
            Side::Inbound => came(peer.is_some(), is_tls),
            Side::Outbound => goes(Some(pool), is_tls),
        },
        success: sample.cause.is_none_or(is_of_others),
        seconds: None,
        request_bytes: sample.request_bytes,
        response_bytes: sample.response_bytes,
    });
}

/// A connection came in that is not mutual TLS.
pub(super) fn in_the_clear(arrival: &Arrival, shared: &Shared) {
    let (listener, client) = (&arrival.listener, arrival.client.ip().to_canonical());
    if listener.role == Role::MeshInbound {
        shared.metrics.edges().in_the_clear(&listener.name, client);
    }
}

/// Which side of an edge this node is; `None` for what is no mesh's. An ingress is the calling side of what it sends into the mesh.
fn side(listener: &Listener, pool: Option<&Pool>) -> Option<Side> {
    let is_mesh = || pool.is_some_and(|pool| pool.settings.mtls.is_some());
    match listener.role {
        Role::MeshInbound => Some(Side::Inbound),
        Role::MeshOutbound => Some(Side::Outbound),
        Role::Ingress => is_mesh().then_some(Side::Outbound),
    }
}

/// Who called: whom TLS proved, or the workload of this node.
fn source<'a>(
    side: Side,
    peer: Option<&Principal>,
    caller: Option<&'a Workload>,
) -> Option<Cow<'a, str>> {
    match side {
        Side::Inbound => peer.map(|peer| Cow::Owned(peer.id())),
        Side::Outbound => caller.map(|caller| Cow::Borrowed(caller.id.as_str())),
    }
}

fn came(is_proven: bool, is_tls: bool) -> Transport {
    match (is_proven, is_tls) {
        (true, _) => Transport::Mutual,
        (false, true) => Transport::Tls,
        (false, false) => Transport::Plain,
    }
}

/// Nothing is sent to endpoints that have to prove themselves and do not, so what the pool asks is what there was.
fn goes(pool: Option<&Pool>, is_tls: bool) -> Transport {
    let settings = pool.map(|pool| &pool.settings);
    let is_mutual = settings.is_some_and(|settings| settings.mtls.is_some());
    let is_tls = is_tls || settings.is_some_and(|settings| settings.tls.is_some());
    came(is_mutual, is_tls)
}

/// Whether the service did its part: what a caller did wrong is no failure of the service.
fn is_success(sample: &RequestSample) -> bool {
    let is_grpc_failure = matches!(sample.grpc_status, Some(2 | 4 | 13 | 14 | 15));
    (100..500).contains(&sample.status) && !is_grpc_failure
}

/// Whether a connection ended as it did for a reason that is not the service's: its client's, policy's, or that nobody had
/// anything to say for as long as the route allows.
fn is_of_others(cause: &Cause) -> bool {
    cause.blame != Blame::Upstream || *cause == causes::RESPONSE_TIMEOUT
}

/// Where a request goes that is answered or refused before a pool is chosen.
const NOWHERE: &str = "_none";
