//! The fast path: connections in, requests through, answers out. One short method for each Pingora hook, in their order.
//! It must not know configuration text or the slow path; everything it reads is in the snapshot.
//! `app` builds a [`Frontend`] and hands it every accepted connection.

mod accept;
mod admit;
mod aside;
mod cache;
mod call;
mod caller;
mod capture;
mod connection;
mod copy;
mod diag;
mod dial;
mod due;
mod edge;
mod engine;
mod exchange;
mod fair;
mod fault;
mod finish;
mod forward;
mod guard;
mod handshake;
pub mod hello;
mod hold;
mod inject;
mod inside;
mod line;
mod mirror;
mod permit;
pub mod proxy_protocol;
mod random;
mod reach;
mod record;
mod request;
mod retry;
mod scan;
mod serve;
#[cfg(test)]
mod sizes;
mod sniff;
mod tcp;
mod transport;
mod tunnel;
mod upstream;
mod way;
mod whole;

pub use accept::Frontend;
pub use call::Calls;
pub use engine::Engine;
pub use exchange::Connections;
pub use tunnel::Trunks;
pub use upstream::Kept;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora_proxy::{range_header_filter, RangeType};
use windrose_plugins::contract::causes;

use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::observe::recorder::Recorder;
use crate::observe::trace::Tracer;
use crate::snapshot::lease::Leases;
use crate::snapshot::{own, Current};
use request::Ctx;

/// What every part of the fast path shares.
pub struct Shared {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line for each request.
    pub access_log: AccessLog,
    /// Records of some requests.
    pub recorder: Arc<Recorder>,
    /// Spans, when a collector is set.
    pub tracer: ArcSwapOption<Tracer>,
    /// Long-lived streams.
    pub leases: Arc<Leases>,
    /// Connections for copies of requests, and for calls of plugins.
    pub exchanges: Arc<Connections>,
    /// Since when connections to endpoints are idle.
    pub kept: Arc<Kept>,
    /// Connections that carry tunnels to other nodes.
    pub trunks: Arc<Trunks>,
}

/// Our side of Pingora's hooks.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// The hooks over these shared parts.
    pub fn new(shared: Arc<Shared>) -> Gateway {
        Gateway { shared }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// In a box: Pingora moves it, and every future that holds it, several times for each request.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(self.shared.current.load()))
    }

    /// No modules: each would cost an allocation and four calls for every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<()> {
        ctx.arrive(session)
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        match request::route(session, ctx, &self.shared).await {
            Ok(()) => {}
            Err(answer) if *answer.cause == causes::CLIENT_CLOSED => return inject::left(ctx),
            Err(answer) => {
                // Rare and large: in place it would make every request's future as large.
                Box::pin(fault::answer(session, ctx, *answer)).await?;
                return Ok(true);
            }
        }
        // What may be answered from a store takes a place in the pool only when it is not.
        if cache::looks(ctx) {
            return Ok(false);
        }
        // Here and not where the endpoint is chosen, because after a refusal there Pingora closes the connection.
        match upstream::enter(session, ctx).await {
            Ok(()) => {
                whole::begin(session, ctx);
                Ok(false)
            }
            Err(cause) => Box::pin(fault::refused(session, ctx, cause)).await,
        }
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<()> {
        cache::enable(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, _: &Session, ctx: &mut Box<Ctx>) -> Result<CacheKey> {
        cache::key(ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        _: &CacheMeta,
        _: &mut HitHandler,
        _: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(cache::found(session, ctx, &self.shared).await)
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _: &mut Box<Ctx>,
    ) -> RangeType {
        match cache::is_weak_range(session.req_header(), response) {
            true => RangeType::None,
            false => range_header_filter(session.req_header(), response, Some(MOST_RANGES)),
        }
    }

    fn cache_miss(&self, session: &mut Session, ctx: &mut Box<Ctx>) {
        cache::missed(session, ctx);
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut Box<Ctx>,
    ) -> Result<bool> {
        cache::goes_on(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Box<Ctx>,
    ) -> Result<Box<HttpPeer>> {
        upstream::peer(session, ctx, &self.shared).await
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if !reused && own::is_watched() {
            capture::remember(fd, digest);
        }
        upstream::connected(ctx, &self.shared.kept, fd, reused);
        upstream::proven(ctx, digest)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut Box<Ctx>,
        e: Box<Error>,
    ) -> Box<Error> {
        retry::not_connected(session, ctx, e)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::request(upstream_request, ctx).await?;
        if ctx.mirroring.is_some() {
            mirror::begin(session, upstream_request, ctx, &self.shared);
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::request_body(body, end_of_stream, ctx, &self.shared)?;
        if let Some(mirroring) = &mut ctx.mirroring {
            mirroring.piece(body.as_ref(), end_of_stream, &ctx.facts, &self.shared);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        upstream::responded(upstream_response, ctx);
        if let Some(mirroring) = &mut ctx.mirroring {
            mirroring.responded(upstream_response, ctx.attempt.started);
        }
        cache::responded(session, upstream_response, ctx);
        retry::responded(session, upstream_response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        cache::piece(session, body.as_ref(), ctx);
        Ok(None)
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<RespCacheable> {
        Ok(cache::judge(response, ctx))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::response(session, response, ctx, &self.shared)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        if let Some(mirroring) = &mut ctx.mirroring {
            mirroring.response_piece(body.as_ref());
        }
        forward::response_body(session.req_header(), body, end_of_stream, ctx, &self.shared)
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut http::HeaderMap,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Bytes>> {
        upstream::trailers(trailers, ctx);
        Ok(forward::response_trailers(
            session.req_header(),
            trailers,
            ctx,
        ))
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Box<Ctx>,
        client_reused: bool,
    ) -> Box<Error> {
        retry::broken(session, ctx, e, client_reused)
    }

    fn should_serve_stale(
        &self,
        _: &mut Session,
        ctx: &mut Box<Ctx>,
        error: Option<&Error>,
    ) -> bool {
        cache::stands_in(ctx, error)
    }

    /// The access log and the cause say it; a second line for each attempt would only flood.
    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Box<Ctx>,
        _: &Error,
        _: pingora::proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        ctx: &mut Box<Ctx>,
    ) -> FailToProxy {
        if let Some(finished) = Box::pin(hold::ended(session, e, ctx)).await {
            return finished;
        }
        whole::end(session, ctx);
        fault::failed(session, e, ctx).await
    }

    fn suppress_error_log(&self, _: &Session, _: &Box<Ctx>, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Box<Ctx>) {
        whole::end(session, ctx);
        if let Some(mirroring) = ctx.mirroring.take() {
            mirroring.close(e.is_none());
        }
        finish::account(session, e, ctx, &self.shared);
    }
}

/// Ranges that one request may ask a stored response for; one that asks for more gets all of it.
const MOST_RANGES: usize = 16;
