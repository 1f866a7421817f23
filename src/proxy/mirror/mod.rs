//! Copies of requests for mirrors: gathered beside the request, and sent once its body is whole.
//! It must not hold up the request, nor change it; whatever becomes of a copy is only counted.
//! Called by the hooks in `proxy` for the few requests that were chosen.

mod compare;
mod exchange;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use tokio::sync::oneshot;

use super::exchange::Answer;
use super::request::Ctx;
use super::{upstream, Shared};
use crate::decide::{fields::Nature, Facts, MIRROR};
use crate::observe::clock;
use crate::observe::metrics::MirrorResult;
use crate::snapshot::identity::Workload;
use crate::snapshot::route::{Candidate, CompareBody, Mirror};

/// What is gathered of a request that is mirrored.
pub(super) struct Mirroring {
    candidate: Arc<Candidate>,
    /// The workload of this node that calls.
    caller: Option<Arc<Workload>>,
    /// The mirrors that were chosen, as bits.
    chosen: u8,
    copy: Copy,
    /// Who waits for the request's own response.
    comparing: Vec<oneshot::Sender<Arc<Response>>>,
    response: Option<Response>,
}

/// How far the copy is.
enum Copy {
    /// No endpoint was connected yet.
    Awaited,
    /// The body is coming.
    Gathered(Box<RequestHeader>, BytesMut),
    /// Sent, or given up.
    Over,
}

/// A response, as far as it is compared.
#[derive(Debug, Default)]
struct Response {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Whether the body went beyond what is kept of it.
    is_cut: bool,
    took: Duration,
}

impl Response {
    fn of(head: &ResponseHeader, took: Duration) -> Response {
        Response {
            status: head.status.as_u16(),
            headers: head.headers.clone(),
            took,
            ..Response::default()
        }
    }

    fn add(&mut self, piece: &[u8], most: usize) {
        let room = most.saturating_sub(self.body.len());
        self.is_cut |= piece.len() > room;
        self.body.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Response {
        Response {
            body: answer.body,
            is_cut: answer.is_cut,
            ..Response::of(&answer.head, answer.took)
        }
    }
}

/// A copy on its way to one mirror.
struct Job {
    shared: Arc<Shared>,
    candidate: Arc<Candidate>,
    caller: Option<Arc<Workload>>,
    at: usize,
    head: RequestHeader,
    body: Bytes,
    /// Of the request's key, for consistent hashing.
    hash: Option<u64>,
    request_id: String,
    /// The request's own response, where it is compared.
    response: Option<oneshot::Receiver<Arc<Response>>>,
}

impl Job {
    fn mirror(&self) -> Option<&Mirror> {
        mirrors(&self.candidate).get(self.at)
    }
}

fn mirrors(candidate: &Candidate) -> &[Mirror] {
    let experiments = candidate.rule.experiments.as_ref();
    experiments.map_or(&[], |experiments| &experiments.mirrors)
}

impl Mirroring {
    /// Gathers a request for these mirrors of its rule.
    pub(super) fn new(
        candidate: &Arc<Candidate>,
        caller: Option<Arc<Workload>>,
        chosen: u8,
    ) -> Box<Mirroring> {
        Box::new(Mirroring {
            caller,
            candidate: candidate.clone(),
            chosen,
            copy: Copy::Awaited,
            comparing: Vec::new(),
            response: None,
        })
    }

    fn chosen(&self) -> impl Iterator<Item = (usize, &Mirror)> {
        let all = mirrors(&self.candidate).iter().enumerate();
        all.filter(|(at, _)| self.chosen & (1 << at) != 0)
    }

    /// So much of the request is kept at most.
    pub(super) fn longest_body(&self) -> usize {
        let limits = self.chosen().map(|(_, mirror)| mirror.body_limit);
        limits.max().unwrap_or(0)
    }

    /// Of the request's response so much is kept; nothing where no body is compared.
    fn longest_response(&self) -> usize {
        let compared = self.chosen().filter_map(|(_, it)| it.compare.as_ref());
        let bodies = compared.filter(|compare| compare.body != CompareBody::None);
        bodies.map(|compare| compare.body_limit).max().unwrap_or(0)
    }

    fn give_up(&mut self, result: MirrorResult) {
        self.copy = Copy::Over;
        for (_, mirror) in self.chosen() {
            mirror.metrics.finished(result);
        }
    }

    /// A piece of the body, as it goes to the endpoint.
    pub(super) fn piece(
        &mut self,
        piece: Option<&Bytes>,
        end: bool,
        facts: &Facts,
        shared: &Arc<Shared>,
    ) {
        let most = self.longest_body();
        let Copy::Gathered(_, body) = &mut self.copy else {
            return;
        };
        let piece = piece.map_or(&[][..], |piece| piece);
        if body.len() + piece.len() > most {
            self.give_up(MirrorResult::BodyTooLarge);
            return;
        }
        body.extend_from_slice(piece);
        if end {
            self.send(facts, shared);
        }
    }

    /// The body is whole: to every mirror that takes one so long.
    fn send(&mut self, facts: &Facts, shared: &Arc<Shared>) {
        let Copy::Gathered(head, body) = std::mem::replace(&mut self.copy, Copy::Over) else {
            return;
        };
        let body = body.freeze();
        let mut comparing = Vec::new();
        for (at, mirror) in self.chosen() {
            if body.len() > mirror.body_limit {
                mirror.metrics.finished(MirrorResult::BodyTooLarge);
                continue;
            }
            let response = mirror.compare.as_ref().map(|_| {
                let (sender, receiver) = oneshot::channel();
                comparing.push(sender);
                receiver
            });
            let settings = mirror.pool.as_ref().map(|pool| &pool.settings);
            let hash = settings.and_then(|it| upstream::hash(&it.balance, &head, facts));
            let mut head = RequestHeader::clone(&head);
            // Fields are plain here, and the mark is one.
            let _ = head.insert_header(MIRROR, &mirror.mark);
            exchange::dispatch(Job {
                shared: shared.clone(),
                candidate: self.candidate.clone(),
                caller: self.caller.clone(),
                at,
                head,
                body: body.clone(),
                hash,
                request_id: facts.request_id.to_string(),
                response,
            });
        }
        self.comparing = comparing;
    }

    /// The endpoint's response to the request itself.
    pub(super) fn responded(&mut self, head: &ResponseHeader, started: u64) {
        let is_final =
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS;
        let compares = || self.chosen().any(|(_, mirror)| mirror.compare.is_some());
        if is_final && compares() {
            let took = clock::between(started, clock::now());
            self.response = Some(Response::of(head, took));
        }
    }

    /// A piece of the response's body, as it came from the endpoint.
    pub(super) fn response_piece(&mut self, piece: Option<&Bytes>) {
        let most = self.longest_response();
        if let (Some(response), Some(piece)) = (&mut self.response, piece) {
            response.add(piece, most);
        }
    }

    /// The request is over. Without a whole response there is nothing to compare with.
    pub(super) fn close(mut self: Box<Mirroring>, is_whole: bool) {
        let response = self.response.take().filter(|_| is_whole).map(Arc::new);
        if let Some(response) = response {
            for waiting in self.comparing.drain(..) {
                // Whoever stopped waiting has counted why.
                let _ = waiting.send(response.clone());
            }
        }
    }
}

impl Drop for Mirroring {
    fn drop(&mut self) {
        if matches!(self.copy, Copy::Gathered(..)) {
            self.give_up(MirrorResult::Unfinished);
        }
    }
}

/// An endpoint is connected, and gets this header: the copy begins, again for each attempt until it was sent.
pub(super) fn begin(
    session: &mut Session,
    head: &RequestHeader,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
) {
    let Some(mirroring) = &mut ctx.mirroring else {
        return;
    };
    if matches!(mirroring.copy, Copy::Over) {
        return;
    }
    // Copies are worth less than any request that is refused.
    if ctx.snapshot.pressure.level() > 0.0 {
        mirroring.give_up(MirrorResult::Overloaded);
        return;
    }
    if Nature::of(&head.headers).length > mirroring.longest_body() as u64 {
        mirroring.give_up(MirrorResult::BodyTooLarge);
        return;
    }
    let mut copy = Box::new(head.clone());
    for name in [
        CONNECTION,
        TRANSFER_ENCODING,
        EXPECT,
        UPGRADE,
        CONTENT_LENGTH,
    ] {
        copy.remove_header(&name);
    }
    let is_empty = session.as_downstream_mut().is_body_empty();
    mirroring.copy = Copy::Gathered(copy, BytesMut::new());
    if is_empty {
        mirroring.send(&ctx.facts, shared);
    }
}
