//! The end of a request: counted, logged, traced, once.
//! It must not change the request any more.
//! Called by Pingora's logging hook whatever happened before.

use std::borrow::Cow;
use std::sync::Arc;

use http::Version;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource};
use windrose_plugins::contract::{causes, CacheResult, Cause, Finished, Principal, Said, Slots};

use super::request::Ctx;
use super::Shared;
use super::{edge, permit, record};
use crate::observe::access_log::Entry;
use crate::observe::clock;
use crate::observe::metrics::RequestSample;
use crate::observe::trace::{FinishedSpan, TraceContext};
use crate::snapshot::chain::Chain;
use crate::snapshot::lease::Why;

/// Accounts for a request.
pub(super) fn account(
    session: &mut Session,
    error: Option<&Error>,
    ctx: &mut Ctx,
    shared: &Shared,
) {
    let status = session
        .response_written()
        .map_or(0, |head| head.status.as_u16());
    if error.is_some_and(|error| *error.esource() == ErrorSource::Downstream) && ctx.cause.is_none()
    {
        ctx.cause = Some(&causes::CLIENT_CLOSED);
    }
    if error.is_none() && ctx.attempt.responded.is_some() && ctx.planned.is_none() {
        ctx.cause = None;
    }
    // A deadline that comes as the response ends cuts nothing.
    let late = |cause: &&Cause| **cause == causes::DEADLINE_EXCEEDED;
    let cut = cut_short(ctx).filter(|cause| error.is_some() || !late(cause));
    if let Some(cause) = cut.or_else(|| error.and_then(|_| disowned(ctx))) {
        ctx.cause = Some(cause);
    }
    let status = match status {
        0 => ctx.cause.map_or(0, |cause| cause.status),
        status => status,
    };
    ctx.unfinished = None;
    let ended = Ended {
        request: session.req_header(),
        session: Some(session),
        status,
    };
    close(&ended, ctx, shared);
}

/// Why the request was cut short, if it was.
pub(super) fn cut_short(ctx: &Ctx) -> Option<&'static Cause> {
    let leased = ctx.lease.as_ref().and_then(|lease| lease.cut.why());
    match leased {
        Some(Why::Drained) => Some(&causes::DRAINED),
        Some(Why::Deadline) => Some(&causes::DEADLINE_EXCEEDED),
        Some(Why::Denied) => {
            let cause = permit::fallen(ctx).and_then(|ruled| ruled.cause);
            cause.or(Some(&causes::POLICY_DENIED))
        }
        Some(Why::Unproven) => {
            let endpoint = ctx.attempt.proof.as_ref();
            disowned(ctx).or_else(|| endpoint?.fallen())
        }
        None if ctx.due.as_ref().is_some_and(|due| due.has_cut()) => {
            Some(&causes::DEADLINE_EXCEEDED)
        }
        None => None,
    }
}

/// What is wrong by now with what the caller proved itself with: its connection has ended then.
fn disowned(ctx: &Ctx) -> Option<&'static Cause> {
    ctx.connection.as_ref()?.proof.as_ref()?.fallen()
}

/// A request that is over.
pub(super) struct Ended<'a> {
    pub(super) request: &'a RequestHeader,
    /// Absent when a stream was dropped.
    pub(super) session: Option<&'a Session>,
    pub(super) status: u16,
}

/// What there is to say of a stream that is dropped before its end: a deadline, a reload, or the end of the process does that.
pub(super) struct Unfinished {
    pub(super) head: RequestHeader,
    pub(super) status: u16,
    pub(super) shared: Arc<Shared>,
}

/// Accounts for a stream that is dropped.
pub(super) fn cut_off(stream: &Unfinished, ctx: &mut Ctx) {
    let cut = cut_short(ctx).or_else(|| disowned(ctx));
    ctx.cause = Some(cut.unwrap_or(&causes::DRAINED));
    let ended = Ended {
        request: &stream.head,
        session: None,
        status: stream.status,
    };
    close(&ended, ctx, &stream.shared);
}

fn close(ended: &Ended<'_>, ctx: &mut Ctx, shared: &Shared) {
    // What ended it is worth more than what let it through.
    if let Some(ruled) = permit::fallen(ctx).cloned() {
        ctx.ruled = Some(Box::new(ruled));
    }
    let status = ended.status;
    let now = clock::now();
    let duration = clock::between(ctx.started, now);
    super::upstream::close_span(ctx, None);
    super::upstream::ended(ctx);
    if ctx.attempt.fd != 0 {
        shared.kept.leave(ctx.attempt.fd, now);
    }
    count(ctx, shared, status, duration.as_secs_f64());
    if ctx.cause == Some(&causes::OVERLOADED) {
        shared.metrics.overload().shed(ctx.priority as usize);
    }
    let kept = shared.recorder.wants(&record::outcome(ctx, status, now));
    let hooks = has_finish_hooks(ctx);
    if kept.is_some() || hooks || shared.access_log.enabled() {
        let mut slots = std::mem::take(&mut ctx.slots);
        let notes = slots.take_notes();
        tell((ended, &notes), ctx, duration, |entry| {
            shared.access_log.log(entry);
            if let Some(reason) = kept {
                let told = record::told(entry, ended, ctx);
                shared.recorder.keep(reason, &told);
            }
            if hooks {
                finish_hooks(ended, ctx, entry, &mut slots);
            }
        });
    }
    span(ended.request, ctx, shared, status, duration);
    ctx.lease = None;
    if std::mem::take(&mut ctx.is_open) {
        if let Some(candidate) = &ctx.candidate {
            candidate.metrics.stream_closed();
        }
    }
    ctx.attempt.in_flight = None;
    // Pingora may still drain the request's body; that is not the request's time any more.
    ctx.due = None;
    ctx.held = None;
}

/// The chains whose plugins hear of the end: the rule's, then the listener's.
fn chains(ctx: &Ctx) -> impl Iterator<Item = &Chain> {
    let of_rule = ctx
        .candidate
        .as_ref()
        .map(|candidate| &candidate.rule.chain);
    let of_listener = ctx.listener.as_ref().map(|listener| &listener.chain);
    let all = [of_rule, of_listener].into_iter().flatten();
    all.filter(|chain| chain.has_finish())
}

fn has_finish_hooks(ctx: &Ctx) -> bool {
    chains(ctx).next().is_some()
}

fn finish_hooks(ended: &Ended<'_>, ctx: &Ctx, entry: &Entry<'_>, slots: &mut Slots) {
    let Some(listener) = &ctx.listener else {
        return;
    };
    let client = ctx.facts.view(listener, ctx.route());
    let mut finished = Finished {
        status: entry.status,
        cause: entry.cause,
        at: entry.time,
        duration: entry.duration,
        client: &client,
        principal: ctx.principal.as_ref(),
        request: ended.request,
        response: ended.session.and_then(|session| session.response_written()),
        request_bytes: entry.request_bytes,
        response_bytes: entry.response_bytes,
        pool: entry.pool,
        endpoint: entry.endpoint,
        attempts: entry.attempts,
        upstream_duration: entry.upstream_duration,
        trace_id: entry.trace_id,
        notes: entry.notes,
        line: &|out| entry.json(out),
        slots,
    };
    chains(ctx).for_each(|chain| chain.finish(&mut finished));
}

fn count(ctx: &Ctx, shared: &Shared, status: u16, seconds: f64) {
    let sample = RequestSample {
        status,
        seconds,
        request_bytes: ctx.request_bytes,
        response_bytes: ctx.response_bytes,
        cause: ctx.cause,
        grpc_status: ctx.grpc_status,
    };
    edge::request(ctx, &sample, shared);
    match (&ctx.candidate, &ctx.listener) {
        (Some(candidate), _) => candidate.metrics.finished(&sample),
        (None, Some(listener)) => {
            // Requests that met no route are counted under the listener with an empty route.
            listener.unrouted.started();
            listener.unrouted.finished(&sample);
        }
        (None, None) => {}
    }
}

/// Gathers what there is to tell of a request, for the access log and the recorder.
fn tell(
    (ended, notes): (&Ended<'_>, &[(&'static str, Said)]),
    ctx: &Ctx,
    duration: std::time::Duration,
    told: impl FnOnce(&Entry<'_>),
) {
    let request = ended.request;
    let bytes = |name: http::HeaderName| request.headers.get(name).map(http::HeaderValue::as_bytes);
    let trace_id = ctx.trace.as_ref().map(TraceContext::trace_id_hex);
    let principal = ctx.principal.as_ref().map(Principal::id);
    let connection = ctx.connection.as_ref();
    let tls = connection.and_then(|connection| connection.tls.as_ref());
    let member = ctx
        .attempt
        .set
        .as_ref()
        .and_then(|set| set.members.get(ctx.attempt.member));
    let responded = ctx.attempt.responded;
    told(&Entry {
        time: ctx.at,
        client: &client(ctx),
        client_port: connection.map_or(0, |connection| connection.client.port()),
        destination: connection.and_then(|connection| connection.destination()),
        listener: ctx.listener.as_ref().map_or("", |listener| &listener.name),
        role: ctx
            .listener
            .as_ref()
            .map_or("", |listener| listener.role.as_str()),
        route: ctx.route(),
        rule: ctx
            .candidate
            .as_ref()
            .map_or(0, |candidate| candidate.rule.index),
        pool: ctx.pool.as_ref().map_or("", |pool| &pool.name),
        endpoint: member.map_or("", |member| &member.endpoint.label),
        method: request.method.as_str(),
        scheme: if ctx.facts.secure { "https" } else { "http" },
        host: &ctx.facts.host,
        path: request
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str()),
        protocol: protocol(request.version),
        status: ended.status,
        cause: ctx.cause,
        request_bytes: ctx.request_bytes,
        response_bytes: ctx.response_bytes,
        duration,
        upstream_duration: responded.map(|at| clock::between(ctx.attempt.first_started, at)),
        attempts: ctx.attempt.count,
        reused: ctx.attempt.reused,
        request_id: &ctx.facts.request_id,
        trace_id: trace_id.as_deref(),
        principal: principal.as_deref(),
        policy: ctx.ruled.as_ref().map_or("", |ruled| &ruled.policy),
        audit: ctx.ruled.as_ref().map_or("", |ruled| &ruled.audit),
        cache: cached(ctx),
        user_agent: bytes(http::header::USER_AGENT),
        referer: bytes(http::header::REFERER),
        tls_version: tls.map(|tls| tls.version),
        sni: tls.and_then(|tls| tls.sni.as_deref()),
        grpc_status: ctx.grpc_status,
        notes,
    });
}

/// What a cache did.
fn cached(ctx: &Ctx) -> &'static str {
    let result = ctx.caching.as_ref().and_then(|caching| caching.result);
    result.map_or("", CacheResult::as_str)
}

/// The client as text: made with the connection, unless a trusted peer named another one.
fn client(ctx: &Ctx) -> Cow<'_, str> {
    match (&ctx.connection, ctx.facts.client) {
        (Some(connection), client)
            if client.is_none_or(|client| client == connection.client.ip().to_canonical()) =>
        {
            Cow::Borrowed(&connection.address)
        }
        (_, Some(client)) => Cow::Owned(client.to_string()),
        (_, None) => Cow::Borrowed("-"),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn span(
    request: &RequestHeader,
    ctx: &mut Ctx,
    shared: &Shared,
    status: u16,
    duration: std::time::Duration,
) {
    let Some(context) = ctx.trace.take_if(|trace| trace.sampled) else {
        return;
    };
    let tracer = shared.tracer.load();
    let Some(tracer) = tracer.as_ref() else {
        return;
    };
    let agent = request
        .headers
        .get(http::header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    tracer.span(FinishedSpan {
        context,
        start: ctx.at,
        duration,
        method: request.method.to_string(),
        scheme: if ctx.facts.secure { "https" } else { "http" },
        host: ctx.facts.host.clone(),
        path: ctx.facts.path.clone(),
        protocol_version: protocol(request.version).trim_start_matches("HTTP/"),
        client: ctx
            .facts
            .client
            .unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
        user_agent: agent.map(str::to_owned),
        status,
        cause: ctx.cause,
        listener: ctx
            .listener
            .as_ref()
            .map_or(String::new(), |listener| listener.name.to_string()),
        route: ctx.route().to_owned(),
        pool: ctx
            .pool
            .as_ref()
            .map_or(String::new(), |pool| pool.name.to_string()),
        request_id: ctx.facts.request_id.to_string(),
        principal: ctx.principal.as_ref().map(Principal::id),
        policy: ctx.ruled.as_ref().map(|ruled| ruled.policy.clone()),
        attempts: std::mem::take(&mut ctx.spans),
    });
}
