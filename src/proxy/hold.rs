//! Responses that a plugin holds back: their head and what came of their body, until it lets them go on, and the way they take then.
//! It must not know what plugins do with them; bounds are theirs and those of the process, and a response that fails meanwhile becomes
//! a whole answer, as nothing of it was sent. Called by `forward` with heads, pieces and trailers of rules that have such a plugin.

mod outlet;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, Result};
use windrose_plugins::contract::{causes, Answer, Effects, Held, Larger, Response, WholeBody};

use super::forward;
use super::request::{grpc_status, refuse, Ctx};
use super::whole::{self, Room};
use super::Shared;
use crate::snapshot::chain::{Met, Way};
pub(super) use outlet::{is_end, Outlet};

/// What is held of one response.
pub(super) struct Hold {
    outlet: Outlet,
    holding: Option<Holding>,
    /// Whether a response began: another attempt would show plugins a second one.
    has_begun: bool,
}

/// A response at the place of the plugin that holds it.
struct Holding {
    head: ResponseHeader,
    at: usize,
    most: u64,
    larger: Larger,
    bytes: BytesMut,
    room: Room,
}

/// What goes on from a place: what there is of a body by now, and whether and with what it has ended.
struct Flow {
    head: ResponseHeader,
    bytes: Bytes,
    is_whole: bool,
    trailers: HeaderMap,
    room: Room,
}

/// What becomes of the trailers of a response.
pub(super) enum Ending {
    /// Nothing was held.
    Free,
    /// They go on as they are, behind what the outlet has.
    Trailers,
    /// This is the end of the body, in their place.
    Piece(Bytes),
}

impl Hold {
    /// Nothing yet.
    pub(super) fn new(outlet: Outlet) -> Hold {
        Hold {
            outlet,
            holding: None,
            has_begun: false,
        }
    }
}

impl Ctx {
    /// Whether a plugin may hold the response back.
    pub(super) fn may_hold(&self) -> bool {
        let (Some(candidate), Some(listener)) = (&self.candidate, &self.listener) else {
            return false;
        };
        Way::new(&candidate.rule.chain, &listener.chain).may_hold()
    }

    /// Whether a response is held back now.
    pub(super) fn is_holding(&self) -> bool {
        let hold = self.loan.as_ref().and_then(|loan| loan.hold.as_ref());
        hold.is_some_and(|hold| hold.holding.is_some())
    }

    /// Whether plugins have seen a response that is held back, or was.
    pub(super) fn has_held(&self) -> bool {
        let hold = self.loan.as_ref().and_then(|loan| loan.hold.as_ref());
        hold.is_some_and(|hold| hold.has_begun)
    }

    /// Bytes of a response that are held.
    pub(super) fn held_bytes(&self) -> u64 {
        let hold = self.loan.as_ref().and_then(|loan| loan.hold.as_ref());
        let holding = hold.and_then(|hold| hold.holding.as_ref());
        holding.map_or(0, |holding| holding.bytes.len() as u64)
    }

    fn hold(&mut self) -> Option<&mut Hold> {
        self.loan.as_mut()?.hold.as_mut()
    }

    fn holding(&mut self) -> Option<&mut Holding> {
        self.hold()?.holding.as_mut()
    }
}

/// The head of a response. What is held goes on later; the rest, as edited by all plugins, at once.
pub(super) fn head(
    request: &RequestHeader,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<()> {
    let can_be_held = has_body(request, head) && ctx.hold().is_some();
    let met = meet(request, head, ctx, 0, can_be_held)?;
    let Some((at, most, larger)) = met else {
        return forward::sent(request, head, ctx);
    };
    let is_whole = is_bodiless(head);
    let mut kept = head.clone();
    // Pingora does this when the hook is over, and writes no other version to a client of HTTP/1.
    kept.set_version(Version::HTTP_11);
    if let Some(hold) = ctx.hold() {
        hold.has_begun = true;
        hold.outlet.hold();
        hold.holding = Some(Holding {
            head: kept,
            at,
            most,
            larger,
            bytes: BytesMut::new(),
            room: Room::new(shared.metrics.held_bodies()),
        });
    }
    if is_whole {
        if let Some(flow) = go_on(request, ctx, true, HeaderMap::new())? {
            release(ctx, flow.head, Some(flow.bytes));
        }
    }
    Ok(())
}

/// Shows a head to the plugins from a place on; where one holds it, with what bounds.
fn meet(
    request: &RequestHeader,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    from: usize,
    can_be_held: bool,
) -> Result<Option<(usize, u64, Larger)>> {
    let met = with(request, head, ctx, |way, response| {
        way.head(from, response, can_be_held)
    });
    match met {
        None | Some(Met::All) => Ok(None),
        Some(Met::Hold { at, most, larger }) => Ok(Some((at, most, larger))),
        Some(Met::Answer(answer)) => forward::plan(ctx, answer),
    }
}

/// Lends plugins a response.
fn with<T>(
    request: &RequestHeader,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
    work: impl FnOnce(Way<'_>, &mut Response<'_>) -> T,
) -> Option<T> {
    let (candidate, listener) = (ctx.candidate.as_ref()?, ctx.listener.as_ref()?);
    let client = ctx.facts.view(listener, &candidate.rule.route);
    let mut response = Response {
        head,
        request,
        client: &client,
        cause: None,
        slots: &mut ctx.slots,
        effects: Effects::Live,
    };
    let way = Way::new(&candidate.rule.chain, &listener.chain);
    Some(work(way, &mut response))
}

/// A piece of the body of a response that is held. What goes on of it, or nothing, is left in its place.
pub(super) fn piece(
    request: &RequestHeader,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    let at = ctx.holding().map_or(0, |holding| holding.at);
    seen(ctx, 0..at, body, end)?;
    let most = ctx.snapshot.bodies.most;
    let piece = body.take().unwrap_or_default();
    if !gather(ctx, &piece, most) {
        return forward::plan(ctx, refuse(&causes::BODIES_HELD));
    }
    *body = Some(Bytes::new());
    let is_full = ctx
        .holding()
        .is_some_and(|holding| holding.bytes.len() as u64 > holding.most);
    if !end && !is_full {
        return Ok(());
    }
    if let Some(flow) = go_on(request, ctx, end, HeaderMap::new())? {
        *body = Some(flow.bytes);
        release(ctx, flow.head, None);
    }
    Ok(())
}

/// Keeps a piece, if the process has room for it.
fn gather(ctx: &mut Ctx, piece: &Bytes, most: u64) -> bool {
    let Some(holding) = ctx.holding() else {
        return true;
    };
    let has_room = piece.is_empty() || holding.room.take(piece.len(), most);
    holding.bytes.extend_from_slice(piece);
    has_room
}

/// Shows a piece to the plugins at some places.
fn seen(
    ctx: &mut Ctx,
    places: std::ops::Range<usize>,
    piece: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    let (Some(candidate), Some(listener)) = (ctx.candidate.clone(), ctx.listener.clone()) else {
        return Ok(());
    };
    let way = Way::new(&candidate.rule.chain, &listener.chain);
    match way.body(places, &mut ctx.slots, piece, end) {
        Some(answer) => forward::plan(ctx, answer),
        None => Ok(()),
    }
}

/// The trailers of a response that is held. Where it is refused now, the outlet ends the exchange: Pingora would only log an error of this hook.
pub(super) fn trailers(request: &RequestHeader, trailers: &mut HeaderMap, ctx: &mut Ctx) -> Ending {
    if !ctx.is_holding() {
        return Ending::Free;
    }
    let at = ctx.holding().map_or(0, |holding| holding.at);
    let tail = ends(ctx, 0..at, trailers);
    let most = ctx.snapshot.bodies.most;
    if !gather(ctx, &tail.unwrap_or_default(), most) {
        let _ = forward::plan::<()>(ctx, refuse(&causes::BODIES_HELD));
        return Ending::Trailers;
    }
    let Ok(Some(flow)) = go_on(request, ctx, true, std::mem::take(trailers)) else {
        return Ending::Trailers;
    };
    if flow.trailers.is_empty() {
        release(ctx, flow.head, None);
        return Ending::Piece(flow.bytes);
    }
    *trailers = flow.trailers;
    release(ctx, flow.head, Some(flow.bytes));
    Ending::Trailers
}

/// Shows trailers to the plugins at some places. What they make of them ends the body in their place.
fn ends(ctx: &mut Ctx, places: std::ops::Range<usize>, trailers: &mut HeaderMap) -> Option<Bytes> {
    let (candidate, listener) = (ctx.candidate.clone()?, ctx.listener.clone()?);
    let way = Way::new(&candidate.rule.chain, &listener.chain);
    let mut piece = None;
    way.trailers(places, &mut ctx.slots, trailers, &mut piece);
    if piece.is_some() {
        trailers.clear();
    }
    piece
}

/// The way on from the plugin that holds a response, to the next one that does, or to its end. `None` where one holds it still.
fn go_on(
    request: &RequestHeader,
    ctx: &mut Ctx,
    is_whole: bool,
    trailers: HeaderMap,
) -> Result<Option<Flow>> {
    let mut holding = ctx.hold().and_then(|hold| hold.holding.take());
    let mut ending = (is_whole, trailers);
    while let Some(held) = holding.take() {
        let at = held.at;
        let mut flow = turn(request, ctx, held, ending)?;
        let met = meet(request, &mut flow.head, ctx, at + 1, true)?;
        let next = met.map_or(usize::MAX, |(next, _, _)| next);
        between(ctx, at + 1..next, &mut flow)?;
        let Some((at, most, larger)) = met else {
            forward::sent(request, &mut flow.head, ctx)?;
            return Ok(Some(flow));
        };
        let held = Holding {
            head: flow.head,
            at,
            most,
            larger,
            bytes: BytesMut::from(flow.bytes),
            room: flow.room,
        };
        if !flow.is_whole && held.bytes.len() as u64 <= most {
            if let Some(hold) = ctx.hold() {
                hold.holding = Some(held);
            }
            return Ok(None);
        }
        ending = (flow.is_whole, flow.trailers);
        holding = Some(held);
    }
    Ok(None)
}

/// The turn of the plugin that holds the response.
fn turn(
    request: &RequestHeader,
    ctx: &mut Ctx,
    held: Holding,
    (is_whole, trailers): (bool, HeaderMap),
) -> Result<Flow> {
    let is_larger = held.bytes.len() as u64 > held.most;
    let mut flow = Flow {
        head: held.head,
        bytes: held.bytes.freeze(),
        is_whole,
        trailers,
        room: held.room,
    };
    match held.larger {
        Larger::Pass if is_larger => return Ok(flow),
        Larger::Refuse(cause) if is_larger => {
            let answer = with(request, &mut flow.head, ctx, |way, response| {
                way.refuse(held.at, Answer::of(cause), response.client.request_id)
            });
            return match answer.flatten() {
                Some(answer) => forward::plan(ctx, answer),
                None => Ok(flow),
            };
        }
        Larger::Pass | Larger::Refuse(_) | Larger::Begin => {}
    }
    let mut shown = Held {
        body: WholeBody::new(flow.bytes),
        is_whole,
        trailers: flow.trailers,
    };
    let answer = with(request, &mut flow.head, ctx, |way, response| {
        way.held(held.at, response, &mut shown)
    });
    if let Some(answer) = answer.flatten() {
        return forward::plan(ctx, answer);
    }
    if shown.body.is_changed() {
        flow.head.remove_header(&CONTENT_LENGTH);
        if is_whole {
            flow.head.remove_header(&TRANSFER_ENCODING);
            let length = shown.body.bytes().len();
            flow.head.insert_header(CONTENT_LENGTH, length)?;
        }
        // What takes the place of a body was made by a plugin, which bounds it; it is counted all the same.
        flow.room.take(shown.body.bytes().len(), u64::MAX);
    }
    flow.bytes = shown.body.bytes().clone();
    flow.trailers = shown.trailers;
    Ok(flow)
}

/// Shows what goes on to the plugins between one that held it and the next, or the end.
fn between(ctx: &mut Ctx, places: std::ops::Range<usize>, flow: &mut Flow) -> Result<()> {
    let ends_here = flow.is_whole && flow.trailers.is_empty();
    if ends_here || !flow.bytes.is_empty() {
        let mut piece = Some(std::mem::take(&mut flow.bytes));
        seen(ctx, places.clone(), &mut piece, ends_here)?;
        flow.bytes = piece.unwrap_or_default();
    }
    if flow.is_whole && !ends_here {
        if let Some(tail) = ends(ctx, places, &mut flow.trailers) {
            flow.bytes = Bytes::from([&flow.bytes[..], &tail].concat());
        }
    }
    Ok(())
}

/// Lets the response go: its head, and what of its body is no piece that Pingora hands on.
fn release(ctx: &mut Ctx, head: ResponseHeader, before: Option<Bytes>) {
    if let Some(hold) = ctx.hold() {
        let before = before.filter(|bytes| !bytes.is_empty());
        hold.outlet.release(head, before);
    }
}

/// Finishes a response that was held and ended without a last piece, as one that is a head only does: just the outlet could see that.
pub(super) async fn ended(
    session: &mut Session,
    error: &Error,
    ctx: &mut Ctx,
) -> Option<FailToProxy> {
    if !is_end(error) || !ctx.is_holding() {
        return None;
    }
    let request = session.req_header().clone();
    let flow = go_on(&request, ctx, true, HeaderMap::new()).ok()??;
    let status = flow.head.status.as_u16();
    ctx.response_bytes += flow.bytes.len() as u64;
    // From here on it is written as an answer of our own is. To Pingora the exchange failed: it keeps no connection after that.
    whole::end(session, ctx);
    session.set_keepalive(None);
    let is_bare = flow.bytes.is_empty();
    let mut tasks = vec![HttpTask::Header(Box::new(flow.head), is_bare)];
    if !is_bare {
        tasks.push(HttpTask::Body(Some(flow.bytes), true));
    }
    if session.write_response_tasks(tasks).await.is_ok() {
        // Where this fails the client has left.
        let _ = session.as_downstream_mut().finish_body().await;
    }
    Some(FailToProxy {
        error_code: status,
        can_reuse_downstream: false,
    })
}

/// Whether a response may have a body, by what was asked and its status.
fn has_body(request: &RequestHeader, head: &ResponseHeader) -> bool {
    request.method != Method::HEAD
        && !head.status.is_informational()
        && !matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// Whether the head alone says that the body is empty. A gRPC status in it means that the response is nothing else.
fn is_bodiless(head: &ResponseHeader) -> bool {
    let length = head.headers.get(CONTENT_LENGTH);
    length.is_some_and(|length| length.as_bytes() == b"0") || grpc_status(&head.headers).is_some()
}
