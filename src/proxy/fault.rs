//! Answers the proxy makes itself, written as the client prefers, with their one cause.
//! It must not know how the cause came about.
//! Called by the hooks for plugin answers, route answers and failures alike.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};
use windrose_plugins::contract::{causes, change_response, Answer, Cause, Effects, Response};

use super::request::Ctx;
use super::retry;
use crate::decide::{attempts, REQUEST_ID};
use crate::observe::answer;

const WHY: HeaderName = HeaderName::from_static("x-windrose-why");

/// Sends an answer of the proxy's own.
pub(super) async fn answer(session: &mut Session, ctx: &mut Ctx, answer: Answer) -> Result<()> {
    ctx.cause = Some(answer.cause);
    let sees_cause = sees_cause(ctx);
    let (mut head, mut body) = render(session, ctx, answer, sees_cause)?;
    ctx.note_own_grpc_status(&head.headers);
    respond_hooks(session, ctx, &mut head);
    let (status, told) = (head.status, ctx.told(ctx.cause));
    change_response(&mut head, |headers| {
        headers.insert(REQUEST_ID, ctx.facts.request_id.value());
        attempts::ask(headers, status, told);
    });
    if let (true, Some(cause)) = (sees_cause, ctx.cause) {
        head.insert_header(WHY, cause.name)?;
    }
    let bodiless =
        session.req_header().method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    if head.status.as_u16() == 204 {
        head.remove_header(&CONTENT_LENGTH);
    }
    if bodiless {
        body = Bytes::new();
    }
    // What follows a malformed request may be anything; and reading a large body only to drop it helps nobody.
    let malformed = ctx.cause.is_some_and(|cause| cause.status == 400);
    if malformed || (!session.is_body_done() && is_large(session)) {
        session.set_keepalive(None);
    }
    write(session, head, &body).await?;
    ctx.response_bytes += body.len() as u64;
    Ok(())
}

/// Whether the client may see causes.
fn sees_cause(ctx: &Ctx) -> bool {
    let client = ctx.facts.client;
    client.is_some_and(|client| ctx.snapshot.show_cause_to.contains(client))
}

/// An answer of the proxy's own in the place of a response whose hooks have run.
pub(super) fn rendered(
    session: &Session,
    ctx: &Ctx,
    answer: Answer,
) -> Result<(ResponseHeader, Bytes)> {
    let (sees_cause, cause) = (sees_cause(ctx), answer.cause);
    let (mut head, body) = render(session, ctx, answer, sees_cause)?;
    if sees_cause {
        head.insert_header(WHY, cause.name)?;
    }
    Ok((head, body))
}

/// Sends the answer for a request that gets no place in its pool, unless nobody is there to read it.
pub(super) async fn refused(
    session: &mut Session,
    ctx: &mut Ctx,
    cause: &'static Cause,
) -> Result<bool> {
    if *cause == causes::CLIENT_CLOSED {
        ctx.cause = Some(cause);
        let why = "closed while its request waited";
        return Err(Error::explain(ErrorType::ConnectionClosed, why).into_down());
    }
    answer(session, ctx, Answer::of(cause)).await?;
    Ok(true)
}

/// An answer without a body ends with its header: gRPC clients take nothing else for a status (a response of trailers only).
async fn write(session: &mut Session, head: ResponseHeader, body: &Bytes) -> Result<()> {
    if !body.is_empty() {
        session.write_response_header(Box::new(head), false).await?;
        return session.write_response_body(Some(body.clone()), true).await;
    }
    if session.is_http2() {
        session
            .write_response_tasks(vec![HttpTask::Header(Box::new(head), true)])
            .await?;
        return Ok(());
    }
    session.write_response_header(Box::new(head), true).await
}

fn is_large(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_none_or(|length| length > 64 * 1024)
}

fn render(
    session: &Session,
    ctx: &Ctx,
    answer: Answer,
    sees_cause: bool,
) -> Result<(ResponseHeader, Bytes)> {
    let Answer {
        status,
        cause,
        headers,
        body,
        stands_in: _,
    } = answer;
    let mut head;
    let content = match body {
        Some((media, body)) => {
            head = ResponseHeader::build(status, Some(headers.len() + 4))?;
            if !body.is_empty() {
                head.insert_header(CONTENT_TYPE, media)?;
            }
            body
        }
        None => {
            let preference = answer::preference(&session.req_header().headers);
            let id = &ctx.facts.request_id;
            // Names are for those who may see causes.
            let detail = match sees_cause {
                true => detail(cause, ctx),
                false => None,
            };
            let rendered = match detail {
                Some(detail) => answer::render_with_detail(cause, status, preference, id, &detail),
                None => answer::render(cause, status, preference, id, None),
            };
            head = ResponseHeader::build(
                rendered.status,
                Some(headers.len() + rendered.headers.len() + 4),
            )?;
            for (name, value) in rendered.headers {
                head.insert_header(name, value)?;
            }
            rendered.body
        }
    };
    for (name, value) in headers {
        // The plugin's own field wins over the rendering's.
        match is_single(&name) {
            true => head.insert_header(name, value)?,
            false => {
                head.append_header(name, value)?;
            }
        }
    }
    head.insert_header(CONTENT_LENGTH, HeaderValue::from(content.len()))?;
    Ok((head, content))
}

/// What there is to say of an answer beyond its cause.
fn detail(cause: &'static Cause, ctx: &Ctx) -> Option<String> {
    if let Some(ruled) = ctx.ruled.as_ref().filter(|it| it.cause == Some(cause)) {
        return Some(ruled.detail());
    }
    let route = ctx.route();
    let is_broken = *cause == causes::QUARANTINED && !route.is_empty();
    is_broken.then(|| format!("The route \"{route}\" cannot serve this request."))
}

fn is_single(name: &HeaderName) -> bool {
    *name == http::header::RETRY_AFTER
        || *name == http::header::CACHE_CONTROL
        || *name == CONTENT_TYPE
}

/// Plugins see the proxy's own answers too, so that CORS marks and the like are on them. They cannot answer instead.
fn respond_hooks(session: &Session, ctx: &mut Ctx, head: &mut ResponseHeader) {
    let Some(listener) = ctx.listener.clone() else {
        return;
    };
    let candidate = ctx.candidate.clone();
    let chains = [
        candidate.as_ref().map(|candidate| &candidate.rule.chain),
        Some(&listener.chain),
    ];
    let route = candidate
        .as_ref()
        .map_or("", |candidate| &candidate.rule.route);
    for chain in chains
        .into_iter()
        .flatten()
        .filter(|chain| chain.has_response())
    {
        let client = ctx.facts.view(&listener, route);
        let mut response = Response {
            head,
            request: session.req_header(),
            client: &client,
            cause: ctx.cause,
            slots: &mut ctx.slots,
            effects: Effects::Live,
        };
        let _ = chain.response(&mut response);
    }
}

/// Answers for a request that failed on its way.
pub(super) async fn failed(session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
    let cause = settle(error, ctx);
    ctx.cause = Some(cause);
    let begun = session.response_written().is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    });
    if begun || matches!(cause.status, 0 | 499) {
        // Too late for an answer, or nobody is there to read it.
        return FailToProxy {
            error_code: cause.status,
            can_reuse_downstream: false,
        };
    }
    let planned = ctx
        .planned
        .take()
        .unwrap_or_else(|| Box::new(Answer::of(cause)));
    session.set_keepalive(None);
    if let Err(error) = answer(session, ctx, *planned).await {
        log::debug!("answer could not be sent: {error}");
    }
    FailToProxy {
        error_code: cause.status,
        can_reuse_downstream: false,
    }
}

fn settle(error: &Error, ctx: &Ctx) -> &'static Cause {
    if let Some(planned) = &ctx.planned {
        return planned.cause;
    }
    let known = ctx.cause;
    known.unwrap_or_else(|| match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, _) => retry::cause(error),
        (ErrorSource::Downstream, _) => retry::downstream_cause(error),
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            log::error!("a request failed inside: {error}");
            &causes::INTERNAL
        }
    })
}

/// An answer to a client whose request never became one.
pub(super) fn farewell(cause: &'static Cause) -> Vec<u8> {
    let rendered = answer::render(cause, cause.status, answer::Preference::Problem, "", None);
    let reason = http::StatusCode::from_u16(rendered.status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\n",
        rendered.status,
        reason.unwrap_or("Error")
    )
    .into_bytes();
    for (name, value) in &rendered.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"connection: close\r\n\r\n");
    bytes.extend_from_slice(&rendered.body);
    bytes
}
