//! Who called what, told when it is over.
//! It must not know how that is counted.
//! Called by `finish` for requests and by `tcp` for connections of mesh-inbound listeners.

use windrose_plugins::contract::{causes, Blame, Cause, Principal};

use super::accept::Arrival;
use super::request::Ctx;
use super::Shared;
use crate::observe::metrics::{EdgeSample, RequestSample, Transport};
use crate::snapshot::listener::Role;

/// A request is over.
pub(super) fn request(ctx: &Ctx, sample: &RequestSample, shared: &Shared) {
    let (Some(listener), Some(connection)) = (&ctx.listener, &ctx.connection) else {
        return;
    };
    if listener.role != Role::MeshInbound {
        return;
    }
    let tls = connection.tls.as_ref();
    let peer = tls.and_then(|tls| tls.principal.as_ref());
    let source = peer.map(Principal::id);
    let pool = ctx.pool.as_ref();
    shared.metrics.edges().finished(&EdgeSample {
        listener: &listener.name,
        source: source.as_deref().unwrap_or_default(),
        label: ctx.snapshot.policies.callers.label(source.as_deref()),
        destination: pool.map_or(NOWHERE, |pool| &pool.name),
        transport: match (tls, peer) {
            (Some(_), Some(_)) => Transport::Mutual,
            (Some(_), None) => Transport::Tls,
            (None, _) => Transport::Plain,
        },
        client: connection.client.ip().to_canonical(),
        success: is_success(sample),
        seconds: (!ctx.is_stream).then_some(sample.seconds),
        request_bytes: sample.request_bytes,
        response_bytes: sample.response_bytes,
    });
}

/// A connection passed through as bytes is over; `is_tls` says whether it was TLS from end to end.
pub(super) fn connection(
    arrival: &Arrival,
    pool: &str,
    sample: &RequestSample,
    is_tls: bool,
    shared: &Shared,
) {
    if arrival.listener.role != Role::MeshInbound {
        return;
    }
    let source = arrival.principal.as_deref().map(Principal::id);
    let current = shared.current.load();
    shared.metrics.edges().finished(&EdgeSample {
        listener: &arrival.listener.name,
        source: source.as_deref().unwrap_or_default(),
        label: current.policies.callers.label(source.as_deref()),
        destination: pool,
        transport: match (&source, is_tls) {
            (Some(_), _) => Transport::Mutual,
            (None, true) => Transport::Tls,
            (None, false) => Transport::Plain,
        },
        client: arrival.client.ip().to_canonical(),
        success: sample.cause.is_none_or(is_of_others),
        seconds: None,
        request_bytes: sample.request_bytes,
        response_bytes: sample.response_bytes,
    });
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
