//! Whole bodies of requests: read before they go upstream because a plugin wants to see them, held until the request is over.
//! It must not know plugins; it reads what a chain asks for, within the bounds of the process.
//! Called on the way from a header to a pool; `replay` hands the body on, as often as there are attempts.

mod replay;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::Version;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use windrose_plugins::contract::{causes, Answer, Cause, WholeBody};

use super::request::Ctx;
use super::retry;
use super::Shared;
use crate::decide::{framed, Next, Silent, Walk};
use crate::observe::metrics::IntGauge;
use crate::snapshot::chain::{BodyFuture, BodySource, Unread};
use crate::snapshot::route::Candidate;
use crate::snapshot::BodyBounds;
pub(super) use replay::{begin, end, Loan};

/// A body that was read, or the begin of one that turned out too large.
pub(super) struct Gathered {
    bytes: Bytes,
    /// Whether that is all of it.
    is_whole: bool,
    is_changed: bool,
    /// Whether the request has no body, so that nothing has to be handed on.
    is_none: bool,
    room: Room,
}

impl Gathered {
    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// What bodies take of the bytes that the process may hold.
pub(super) struct Room {
    held: IntGauge,
    bytes: i64,
}

impl Room {
    /// None of it yet.
    pub(super) fn new(held: &IntGauge) -> Room {
        Room {
            held: held.clone(),
            bytes: 0,
        }
    }

    /// Takes more, unless that would be too much for the process.
    pub(super) fn take(&mut self, bytes: usize, most: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let all = self.held.add(bytes);
        if u64::try_from(all).is_ok_and(|all| all > most) {
            self.held.add(-bytes);
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.add(-self.bytes);
    }
}

/// Reads the body of a request when a plugin asks for it.
struct Reading<'a> {
    session: &'a mut Session,
    gathered: &'a mut Option<Box<Gathered>>,
    bounds: BodyBounds,
    held: &'a IntGauge,
}

impl<'a> Reading<'a> {
    fn new(session: &'a mut Session, bodies: Bodies<'a>) -> Reading<'a> {
        let (gathered, bounds, shared) = bodies;
        Reading {
            session,
            gathered,
            bounds,
            held: shared.metrics.held_bodies(),
        }
    }

    async fn read(&mut self, most: u64) -> Result<Box<WholeBody>, Unread> {
        let known = self.gathered.as_deref();
        let announced = known
            .is_none()
            .then(|| announced(self.session.req_header()));
        if announced.flatten().is_some_and(|length| length > most) {
            return Err(Unread::TooLarge);
        }
        self.read_on(most).await?;
        match self.gathered.as_deref() {
            Some(all) if all.is_whole && all.bytes.len() as u64 <= most => {
                Ok(Box::new(WholeBody::new(all.bytes.clone())))
            }
            Some(_) | None => Err(Unread::TooLarge),
        }
    }

    /// What there is of it, or its first bytes.
    async fn read_begin(&mut self, most: u64) -> Result<Box<WholeBody>, Unread> {
        self.read_on(most).await?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let Some(all) = self.gathered.as_deref() else {
            return Err(Unread::Over(&causes::INTERNAL));
        };
        Ok(Box::new(match all.is_whole && all.bytes.len() <= most {
            true => WholeBody::new(all.bytes.clone()),
            false => WholeBody::cut(all.bytes.slice(..most.min(all.bytes.len()))),
        }))
    }

    /// Reads until its end, or until there is more than this of it.
    async fn read_on(&mut self, most: u64) -> Result<(), Unread> {
        let known = self.gathered.as_deref();
        // For a plugin that lets larger ones through, a part may have been read.
        if known.is_none_or(|body| !body.is_whole && body.bytes.len() as u64 <= most) {
            let time = self.bounds.time;
            let read = tokio::time::timeout(time, self.gather(most)).await;
            if let Err(cause) = read.unwrap_or(Err(&causes::BODY_TIMEOUT)) {
                // What the client still sends is of no use to anybody.
                self.session.set_keepalive(None);
                return Err(Unread::Over(cause));
            }
        }
        Ok(())
    }

    /// Reads on until the end, or until it is more than it may be.
    async fn gather(&mut self, most: u64) -> Result<(), &'static Cause> {
        let mut gathered = match self.gathered.take() {
            Some(begun) => begun,
            None => self.invited().await?,
        };
        let mut bytes = BytesMut::from(std::mem::take(&mut gathered.bytes));
        while !gathered.is_whole && bytes.len() as u64 <= most {
            let piece = self.session.as_downstream_mut().read_request_body().await;
            match piece.map_err(|error| retry::downstream_cause(&error.into_down()))? {
                Some(piece) if !gathered.room.take(piece.len(), self.bounds.most) => {
                    return Err(&causes::BODIES_HELD);
                }
                Some(piece) => bytes.extend_from_slice(&piece),
                None => gathered.is_whole = true,
            }
        }
        gathered.bytes = bytes.freeze();
        *self.gathered = Some(gathered);
        Ok(())
    }

    /// Nothing yet; a client that waits to be asked is asked.
    async fn invited(&mut self) -> Result<Box<Gathered>, &'static Cause> {
        let session = self.session.as_downstream_mut();
        let is_none = session.is_upgrade_req() || session.is_body_empty();
        if !is_none {
            invite(self.session).await?;
        }
        Ok(Box::new(Gathered {
            bytes: Bytes::new(),
            is_whole: is_none,
            is_changed: false,
            is_none,
            room: Room::new(self.held),
        }))
    }
}

/// What the request says its body's length is.
fn announced(head: &RequestHeader) -> Option<u64> {
    head.headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Asks a client for the body that waits to be asked (RFC 9110 section 10.1.1).
async fn invite(session: &mut Session) -> Result<(), &'static Cause> {
    let head = session.req_header();
    let expects = head.headers.get(EXPECT);
    let waits = expects.is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits && head.version != Version::HTTP_10 {
        let written = session.as_downstream_mut().write_continue_response().await;
        written.map_err(|_| &causes::CLIENT_CLOSED)?;
    }
    Ok(())
}

impl BodySource for Reading<'_> {
    fn whole(&mut self, most: u64) -> BodyFuture<'_> {
        Box::pin(self.read(most))
    }

    fn begin(&mut self, most: u64) -> BodyFuture<'_> {
        Box::pin(self.read_begin(most))
    }

    fn replace(&mut self, body: Box<WholeBody>) {
        if let Some(gathered) = self.gathered {
            // What takes the place of a body was made by a plugin, which bounds it; it is counted all the same.
            let bytes = body.bytes();
            gathered.room.take(bytes.len(), u64::MAX);
            gathered.bytes = bytes.clone();
            (gathered.is_whole, gathered.is_changed) = (true, true);
        }
    }
}

/// Where a body is kept, how much may be, and who counts it.
pub(super) type Bodies<'a> = (&'a mut Option<Box<Gathered>>, BodyBounds, &'a Arc<Shared>);

/// [`Walk::find`] for a listener with plugins that want the body: on a copy of the head, as the session is needed for reading.
///
/// # Errors
/// The answer instead.
pub(super) async fn find(
    session: &mut Session,
    walk: &mut Walk<'_>,
    bodies: Bodies<'_>,
) -> Result<Arc<Candidate>, Box<Answer>> {
    let mut head = session.req_header().clone();
    let mut reading = Reading::new(session, bodies);
    let found = walk.find(&mut head, &mut reading, &mut Silent).await;
    *session.req_header_mut() = head;
    found
}

/// [`Walk::act`] for a rule with plugins that want the body.
///
/// # Errors
/// The answer instead.
pub(super) async fn act(
    session: &mut Session,
    walk: &mut Walk<'_>,
    (candidate, random): (&Candidate, u64),
    bodies: Bodies<'_>,
) -> Result<Next, Box<Answer>> {
    let mut head = session.req_header().clone();
    let mut reading = Reading::new(session, bodies);
    let asking = (&mut head, &mut reading as &mut dyn BodySource);
    let next = walk.act(candidate, asking, random, &mut Silent).await;
    *session.req_header_mut() = head;
    next
}

/// Writes the length of the body into the head that goes on, once no plugin changes it any more.
pub(super) fn frame(head: &mut RequestHeader, body: Option<&Gathered>) -> pingora::Result<()> {
    match body {
        Some(body) if body.is_whole && (body.is_changed || !body.is_none) => {
            framed(head, body.bytes.len())
        }
        Some(_) | None => Ok(()),
    }
}

/// The bounds of bodies that are held for plugins.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_for_all_together_and_comes_back() {
        let held = IntGauge::default();
        let room = || Room::new(&held);
        let (mut one, mut other) = (room(), room());

        assert!(one.take(60, 100) && other.take(40, 100));
        assert!(!other.take(1, 100));
        drop(one);
        assert!(other.take(60, 100));
        drop(other);

        assert_eq!(held.get(), 0);
    }
}
