//! What the flight recorder is told about a request.
//! It must not know how records are kept.
//! Called by `finish`: `outcome` for every request, `told` for the few that get a record.

use pingora::proxy::Session;
use windrose_plugins::contract::{Cause, Principal};

use super::connection::Connection;
use super::finish::Ended;
use super::request::{Ctx, Past};
use super::{random, upstream};
use crate::observe::access_log::Entry;
use crate::observe::clock;
use crate::observe::recorder::{millis, Attempt, Head, Outcome, Seen, Told};

/// What decides whether a request gets a record.
pub(super) fn outcome(ctx: &Ctx, status: u16, now: u64) -> Outcome {
    // A stream is as long as its client wants.
    let end = match ctx.is_stream {
        true => ctx.attempt.responded.unwrap_or(now),
        false => now,
    };
    Outcome {
        status,
        cause: ctx.cause,
        grpc_status: ctx.grpc_status,
        audited: ctx
            .ruled
            .as_ref()
            .is_some_and(|ruled| !ruled.audit.is_empty()),
        duration: clock::between(ctx.started, end),
        now,
        random: random::bits(),
    }
}

/// What there is to keep of a request.
pub(super) fn told<'a>(entry: &'a Entry<'a>, ended: &Ended<'a>, ctx: &'a Ctx) -> Told<'a> {
    let connection = ctx.connection.as_deref();
    let raw = ended.session.and_then(raw);
    let first = Some(ctx.attempt.first_started).filter(|first| *first > 0);
    Told {
        entry,
        seen: seen(raw.is_some(), ctx),
        head: raw.map_or(
            Head::Parsed {
                target: entry.path,
                fields: &ended.request.headers,
            },
            Head::Raw,
        ),
        authority: &ctx.facts.authority,
        peer: connection.map(|connection| connection.client),
        certificate: connection.and_then(certificate),
        generation: ctx.snapshot.generation,
        place: ctx.candidate.as_ref().map_or("", |it| &it.rule.place),
        attempts: attempts(ctx),
        before_upstream: first.map(|first| clock::between(ctx.started, first)),
    }
}

/// The header's bytes as they came in; HTTP/2 has none to show.
fn raw(session: &Session) -> Option<bytes::Bytes> {
    (!session.is_http2()).then(|| session.as_downstream().to_h1_raw())
}

/// Plugins edit the header in place, so only its bytes are sure to be what was received.
fn seen(is_raw: bool, ctx: &Ctx) -> Seen {
    let listener = ctx.listener.as_ref().map(|listener| &listener.chain);
    let rule = ctx.candidate.as_ref().map(|it| &it.rule.chain);
    let edits = [listener, rule]
        .into_iter()
        .flatten()
        .any(|chain| chain.has_request());
    match edits && !is_raw {
        true => Seen::AfterPlugins,
        false => Seen::Received,
    }
}

fn certificate(connection: &Connection) -> Option<String> {
    let tls = connection.tls.as_ref()?;
    tls.principal.as_ref().map(Principal::id)
}

fn attempts(ctx: &Ctx) -> Vec<Attempt> {
    let past = ctx.attempt.past.iter().map(failed);
    past.chain(last(ctx)).collect()
}

fn failed(past: &Past) -> Attempt {
    Attempt {
        endpoint: past.endpoint.label.to_string(),
        status: past.status,
        cause: past.cause.map(name),
        reused: past.reused,
        ms: millis(past.duration),
    }
}

/// The attempt that was under way at the end.
fn last(ctx: &Ctx) -> Option<Attempt> {
    let attempt = &ctx.attempt;
    attempt.in_flight.as_ref()?;
    let end = attempt.responded.unwrap_or_else(clock::now);
    Some(Attempt {
        endpoint: upstream::endpoint(ctx)?.label.to_string(),
        status: attempt.responded.map(|_| attempt.status),
        cause: ctx.cause.map(name),
        reused: attempt.reused,
        ms: millis(clock::between(attempt.started, end)),
    })
}

fn name(cause: &'static Cause) -> String {
    cause.name.to_owned()
}
