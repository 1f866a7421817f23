//! Mutual TLS with the endpoint of an attempt: who calls, through which node, and what the endpoint has proven.
//! It must not know how endpoints are chosen.
//! Called for each attempt, before it connects and once a connection is there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::{endpoint, gave_up};
use crate::proxy::line;
use crate::proxy::request::Ctx;
use crate::proxy::tunnel::Through;
use crate::snapshot::balance;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::identity::{Proof, Workload};

/// The workload that calls, where that is known.
pub(super) fn calls(ctx: &Ctx) -> Option<&Arc<Workload>> {
    ctx.connection.as_ref()?.caller.as_ref()
}

/// Reaches the endpoint through its node. Each request has a tunnel of its own, which costs no more than a stream of a connection
/// that is there: nobody finds it for another request, who might be another workload, nor under other roots.
pub(super) fn tunnel(peer: &mut HttpPeer, ctx: &mut Ctx, through: Through) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    peer.group_key ^= balance::mix(NEXT.fetch_add(1, Relaxed));
    let options = &mut peer.options;
    options.idle_timeout = Some(Duration::ZERO);
    options.max_h2_streams = 1;
    let through = Arc::new(through);
    ctx.attempt.through = Some(through.clone());
    options.custom_l4 = Some(through);
}

/// What keeps requests off connections that were made with a certificate of the endpoint's that has ended.
pub(in crate::proxy) fn round(endpoint: &Endpoint) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX);
    u64::from(endpoint.state.kept.round(now)).rotate_left(23)
}

/// Ends what is a stream with what its endpoint proved itself with.
fn rest_on(ctx: &mut Ctx, proof: Option<Arc<Proof>>) {
    if let (Some(lease), Some(proof)) = (&ctx.lease, &proof) {
        lease.rest_on(proof);
    }
    ctx.attempt.proof = proof;
}

/// Whether the endpoint is who it should be. Nothing of the request was sent yet, on a new or a kept connection alike.
pub(in crate::proxy) fn proven(ctx: &mut Ctx, digest: Option<&Digest>) -> Result<()> {
    let Some(pool) = ctx.pool.clone() else {
        return Ok(());
    };
    let through = ctx.attempt.through.take();
    rest_on(
        ctx,
        through.and_then(|through| through.proof.get().cloned()),
    );
    let mtls = pool.settings.mtls.as_ref();
    // A tunnel was opened only after its node had proven itself.
    let Some(mtls) = mtls.filter(|mtls| mtls.hbone.is_none()) else {
        return Ok(());
    };
    let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
    let (cause, detail) = match mtls.check(tls) {
        Ok(proof) => {
            if let Some(endpoint) = endpoint(ctx).filter(|_| !ctx.attempt.reused) {
                endpoint.state.kept.made(proof.retires());
            }
            rest_on(ctx, Some(proof.clone()));
            return Ok(());
        }
        Err(refused) => refused,
    };
    let fell = mtls.proof(tls).is_some_and(|it| it.fallen().is_some());
    if fell && ctx.attempt.reused {
        // It was found a moment before. The next one is not: what keeps connections apart has changed with what was proven.
        gave_up(ctx, false);
        ctx.attempt.again = true;
        let error = Error::explain(ErrorType::ConnectionClosed, cause.name);
        return Err(error.into_up());
    }
    line::tell(&pool.name, cause, &detail);
    ctx.cause = Some(cause);
    let mut error = Error::explain(ErrorType::InvalidCert, cause.name).into_up();
    error.set_retry(false);
    Err(error)
}
