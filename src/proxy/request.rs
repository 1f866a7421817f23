//! The state of one request, and the steps from its header to a pool or an answer.
//! It must not know how answers are written.
//! Driven by the hooks in `proxy`; every step that can refuse says so with one cause.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use smallvec::SmallVec;
use windrose_plugins::contract::{causes, Answer, Cause, Effects, Principal, Slots};

use super::cache::Caching;
use super::capture::is_own;
use super::connection::{Connection, TlsFacts};
use super::due::Due;
use super::finish::Unfinished;
use super::mirror::Mirroring;
use super::tunnel::Through;
use super::upstream::{Held, Watched};
use super::whole::{self, Gathered, Loan};
use super::{admit, fair, finish, inject, permit, random, serve, Shared};
use crate::decide::attempts::{self, Told};
use crate::decide::policy::Ruled;
use crate::decide::{class, Deadline, Facts, Injected, Next, Silent, Walk};
use crate::observe::clock;
use crate::observe::trace::{AttemptSpan, TraceContext};
use crate::snapshot::chain::{BodySource, NoBody};
use crate::snapshot::endpoint::{Endpoint, InFlight};
use crate::snapshot::identity::{Proof, Share};
use crate::snapshot::lease::{Cut, Lease};
use crate::snapshot::limits::Priority;
use crate::snapshot::listener::{Listener, Role};
use crate::snapshot::outlier::Probe;
use crate::snapshot::pool::{EndpointSet, Pool, PoolProtocol};
use crate::snapshot::route::Candidate;
use crate::snapshot::Snapshot;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// One request.
pub struct Ctx {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) started: u64,
    pub(super) at: SystemTime,
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) listener: Option<Arc<Listener>>,
    pub(super) facts: Facts,
    pub(super) trace: Option<TraceContext>,
    pub(super) spans: Vec<AttemptSpan>,
    pub(super) principal: Option<Principal>,
    /// What policies said, where that is worth telling.
    pub(super) ruled: Option<Box<Ruled>>,
    pub(super) slots: Slots,
    pub(super) candidate: Option<Arc<Candidate>>,
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) attempt: Attempt,
    /// Its body, where a plugin wanted to see it whole.
    pub(super) gathered: Option<Box<Gathered>>,
    /// The client's session, while Pingora has it in a cover; absent for most.
    pub(super) loan: Option<Box<Loan>>,
    /// What it holds of a pool with limits.
    pub(super) held: Option<Box<Held>>,
    pub(super) priority: Priority,
    pub(super) cause: Option<&'static Cause>,
    pub(super) planned: Option<Box<Answer>>,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) grpc_status: Option<u16>,
    pub(super) lease: Option<Lease>,
    /// The moment by which it must be over, if there is one.
    pub(super) due: Option<Box<Due>>,
    /// Set while it is a stream of HTTP/2, which may be dropped as it stands.
    pub(super) unfinished: Option<Box<Unfinished>>,
    /// The calling workload's, where it has limits.
    pub(super) share: Option<Box<Share>>,
    /// What is gathered for its copies; absent for most.
    pub(super) mirroring: Option<Box<Mirroring>>,
    /// What a cache has to do with it; absent for most.
    pub(super) caching: Option<Box<Caching>>,
    /// Whether it begins something long-lived: other times and bounds hold for it.
    pub(super) is_stream: bool,
    /// Whether the stream has had a response's header, and is counted as open.
    pub(super) is_open: bool,
    /// Whether it asks for another protocol on its connection.
    pub(super) is_upgrade: bool,
    /// Whether its deadline holds only until the response's header.
    pub(super) is_endless: bool,
    /// Whether it is gRPC for a pool that speaks it: messages may go on for ever, so the body has no bound.
    pub(super) is_grpc: bool,
}

/// The attempts on upstream.
#[derive(Default)]
pub(super) struct Attempt {
    pub(super) count: u8,
    /// The endpoints that were tried; most requests need one.
    pub(super) tried: SmallVec<[u16; 4]>,
    pub(super) set: Option<Arc<EndpointSet>>,
    pub(super) member: usize,
    pub(super) in_flight: Option<InFlight>,
    /// Set while it tries an endpoint that was ejected; given back when the attempt ends without a verdict.
    pub(super) probe: Option<Box<Probe>>,
    /// Whether a gRPC response began whose status is still to come.
    pub(super) verdict_due: bool,
    pub(super) started: u64,
    pub(super) responded: Option<u64>,
    pub(super) first_started: u64,
    pub(super) reused: bool,
    pub(super) free_retry_used: bool,
    /// Attempts that hops before made of this request.
    pub(super) before: u8,
    /// Whether a further attempt was refused here by a bound.
    pub(super) declined: bool,
    /// The connection's descriptor, where it is of a kind that is watched; 0 for none.
    pub(super) fd: i32,
    /// How long the connection had been idle, in milliseconds.
    pub(super) idle_ms: u32,
    /// Set where the connection that may be made is watched.
    pub(super) watched: Option<Arc<Watched>>,
    /// What the endpoint, or its node, proved itself with.
    pub(super) proof: Option<Arc<Proof>>,
    /// The way through its node, which knows that.
    pub(super) through: Option<Arc<Through>>,
    pub(super) status: u16,
    /// Whether all of the request is on its way.
    pub(super) sent: bool,
    /// Whether the response that came is dropped for another attempt.
    pub(super) again: bool,
    /// The wait before the next attempt, in nanoseconds.
    pub(super) wait: u64,
    /// Attempts that came to nothing; without an entry as long as none does.
    pub(super) past: Vec<Past>,
}

/// An attempt that came to nothing.
pub(super) struct Past {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) cause: Option<&'static Cause>,
    pub(super) status: Option<u16>,
    pub(super) reused: bool,
    pub(super) duration: Duration,
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if let Some(stream) = self.unfinished.take() {
            finish::cut_off(&stream, self);
        }
    }
}

impl Ctx {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Ctx {
        let started = clock::now();
        Ctx {
            snapshot,
            started,
            at: clock::wall(started),
            connection: None,
            listener: None,
            facts: Facts::default(),
            trace: None,
            spans: Vec::new(),
            principal: None,
            ruled: None,
            slots: Slots::default(),
            candidate: None,
            pool: None,
            attempt: Attempt::default(),
            gathered: None,
            loan: None,
            held: None,
            priority: Priority::Normal,
            cause: None,
            planned: None,
            request_bytes: 0,
            response_bytes: 0,
            grpc_status: None,
            lease: None,
            due: None,
            unfinished: None,
            mirroring: None,
            caching: None,
            share: None,
            is_stream: false,
            is_open: false,
            is_upgrade: false,
            is_endless: false,
            is_grpc: false,
        }
    }

    /// A header arrived: finds its connection and listener, and lets the header guard rest.
    pub(super) fn arrive(&mut self, session: &mut Session) -> Result<()> {
        let digest = session
            .digest()
            .and_then(|digest| digest.proxy_digest.as_ref());
        let connection =
            digest.and_then(|digest| digest.user_data.as_ref()?.downcast_ref::<Arc<Connection>>());
        let Some(connection) = connection.cloned() else {
            return Error::e_explain(ErrorType::InternalError, "a request without our connection");
        };
        connection.header_arrived(session.req_header());
        // A listener that was removed still serves the connections it has, with the settings they began with.
        let listener = self
            .snapshot
            .listener(&connection.listener.name)
            .unwrap_or(&connection.listener)
            .clone();
        session.set_write_timeout(Some(listener.limits.write_timeout));
        session
            .as_downstream_mut()
            .set_total_drain_timeout(Some(listener.limits.header_timeout));
        self.connection = Some(connection);
        self.listener = Some(listener);
        Ok(())
    }

    /// Whether its time is over.
    pub(super) fn is_late(&self, now: u64) -> bool {
        self.due.as_ref().is_some_and(|due| due.is_over(now))
    }

    /// What decides whether who gets the response is asked for no further attempt.
    pub(super) fn told(&self, cause: Option<&'static Cause>) -> Told {
        let tls = self.connection.as_ref().and_then(|it| it.tls.as_ref());
        let peer = tls.and_then(|tls| tls.principal.as_ref());
        Told {
            trusted: attempts::is_believed(self.facts.trusted, peer),
            tried: self.attempt.count > 1 || self.attempt.declined,
            cause,
        }
    }

    pub(super) fn route(&self) -> &str {
        self.candidate
            .as_ref()
            .map_or("", |candidate| &candidate.rule.route)
    }

    /// Remembers the gRPC status of a response, from its header or trailers.
    pub(super) fn note_grpc_status(&mut self, headers: &HeaderMap) {
        if self.is_stream {
            self.note_own_grpc_status(headers);
        }
    }

    /// The same for an answer of the proxy's own, which is known to be looked at.
    pub(super) fn note_own_grpc_status(&mut self, headers: &HeaderMap) {
        self.grpc_status = grpc_status(headers).or(self.grpc_status);
    }
}

/// The gRPC status in a header or in trailers.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let value = headers.get(GRPC_STATUS)?;
    value.to_str().ok()?.parse().ok()
}

type Refused = Box<Answer>;

pub(super) fn refuse(cause: &'static Cause) -> Refused {
    Box::new(Answer::of(cause))
}

/// A request's way in traffic. It takes parts of the state, so that the others can change meanwhile.
pub(super) fn walk<'a>(
    connection: &'a Connection,
    listener: &'a Listener,
    facts: &'a Facts,
    principal: &'a mut Option<Principal>,
    ruled: &'a mut Option<Box<Ruled>>,
    slots: &'a mut Slots,
) -> Walk<'a> {
    let tls = connection.tls.as_ref();
    Walk {
        listener,
        tls: tls.map(TlsFacts::view),
        facts,
        principal,
        peer: connection.peer(),
        local_port: Some(connection.local.port()),
        ruled,
        slots,
        effects: Effects::Live,
    }
}

/// From a header to a pool: admission, listener plugins, decision, route plugins. An error is the answer to send.
pub(super) async fn route(
    session: &mut Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
) -> Result<(), Refused> {
    let (Some(connection), Some(listener)) = (ctx.connection.clone(), ctx.listener.clone()) else {
        return Err(refuse(&causes::INTERNAL));
    };
    admit::admit(session, ctx, &connection, &listener).map_err(refuse)?;
    let workload = connection.caller.as_ref();
    let share = fair::calls(shared, &listener, workload);
    let share = share.map_err(|_| refuse(&causes::WORKLOAD_LIMIT))?;
    ctx.share = share.map(Box::new);
    // Only now is it certain that the other end knows its connection as its own, should that be us; for further requests as well.
    let is_captured = connection.listener.capture.is_some();
    if is_captured && connection.is_first() && is_own(connection.client, connection.local) {
        return Err(refuse(&causes::CAPTURE_LOOP));
    }
    let (principal, ruled, slots) = (&mut ctx.principal, &mut ctx.ruled, &mut ctx.slots);
    let mut walk = walk(&connection, &listener, &ctx.facts, principal, ruled, slots);
    let candidate = match listener.chain.wants_body() {
        false => {
            let head = session.req_header_mut();
            walk.find(head, &mut NoBody, &mut Silent).await?
        }
        true => {
            let bodies = (&mut ctx.gathered, ctx.snapshot.bodies, shared);
            Box::pin(whole::find(session, &mut walk, bodies)).await?
        }
    };
    let head = session.req_header_mut();
    candidate.metrics.started();
    // Before the plugins: whatever ends the request from here on is counted for its route.
    ctx.candidate = Some(candidate.clone());
    let header = ctx.snapshot.priority_header();
    let believed = is_believed(&connection, &ctx.facts);
    ctx.attempt.before = attempts::before(&head.headers, believed);
    ctx.priority = class(&candidate.rule, header, &ctx.facts, head);
    if candidate.rule.action.goes_on() && ctx.snapshot.pressure.sheds(ctx.priority, random::bits) {
        return Err(refuse(&causes::OVERLOADED));
    }
    let random = random::bits();
    let next = match candidate.rule.chain.wants_body() {
        false => {
            let asking = (head, &mut NoBody as &mut dyn BodySource);
            walk.act(&candidate, asking, random, &mut Silent).await?
        }
        true => {
            let bodies = (&mut ctx.gathered, ctx.snapshot.bodies, shared);
            Box::pin(whole::act(session, &mut walk, (&candidate, random), bodies)).await?
        }
    };
    if ctx.gathered.is_some() {
        let framed = whole::frame(session.req_header_mut(), ctx.gathered.as_deref());
        framed.map_err(|_| refuse(&causes::INTERNAL))?;
    }
    let about = (&*connection, &*listener, &candidate);
    match settle(session, ctx, shared, about, next)? {
        None => Ok(()),
        // Rare, and it must not make every request's future larger.
        Some(injected) => Box::pin(inject::carry_out(session, ctx, injected)).await,
    }
}

/// Whether what the request says of itself is believed: it is a trusted peer's, or a workload's.
fn is_believed(connection: &Connection, facts: &Facts) -> bool {
    let tls = connection.tls.as_ref();
    let peer = tls.and_then(|tls| tls.principal.as_ref());
    attempts::is_believed(facts.trusted, peer)
}

/// Takes note of where the request goes, and how long it may take; returns what is done to it on purpose before.
fn settle(
    session: &mut Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
    (connection, listener, candidate): (&Connection, &Listener, &Arc<Candidate>),
    next: Next,
) -> Result<Option<Box<Injected>>, Refused> {
    if listener.role == Role::MeshInbound {
        let share = fair::serves(shared, listener, connection.caller.as_ref());
        let share = share.map_err(|_| refuse(&causes::WORKLOAD_LIMIT))?;
        ctx.share = share.map(Box::new);
    }
    if ctx.gathered.is_some() {
        fair::holds(ctx, shared, || 0).map_err(refuse)?;
    }
    // Pingora's own bound is a minute, whatever the route says.
    session.set_read_timeout(candidate.rule.timeouts.idle);
    ctx.is_stream = next.nature.is_stream();
    ctx.is_upgrade = next.nature.is_upgrade;
    ctx.is_endless = next.nature.is_endless();
    ctx.is_grpc = next.nature.is_grpc && next.pool.settings.protocol != PoolProtocol::Http1;
    ctx.pool = Some(next.pool);
    if let Some(deadline) = next.deadline {
        limit(session, ctx, shared, connection, deadline);
    }
    if ctx.is_stream {
        permit::lease(session, ctx, shared);
    }
    if next.mirrors != 0 {
        ctx.mirroring = Some(Mirroring::new(
            candidate,
            connection.caller.clone(),
            next.mirrors,
        ));
    }
    if let Some(caching) = next.caching {
        ctx.caching = Some(Caching::new(*caching, session.req_header()));
    }
    Ok(next.injected)
}

/// Gives a request its deadline.
fn limit(
    session: &Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
    connection: &Connection,
    deadline: Deadline,
) {
    let cut = ending(session, ctx, shared, connection);
    ctx.due = Some(Due::arm(deadline, ctx.started, cut));
}

/// What ends a request early: on HTTP/1 its connection ends with it, a stream of HTTP/2 is dropped as it stands and accounted for
/// then.
pub(super) fn ending(
    session: &Session,
    ctx: &mut Ctx,
    shared: &Arc<Shared>,
    connection: &Connection,
) -> Arc<Cut> {
    if !connection.http2 {
        return connection.cut.clone();
    }
    if ctx.unfinished.is_none() {
        ctx.unfinished = Some(Box::new(Unfinished {
            head: session.req_header().clone(),
            status: 0,
            shared: shared.clone(),
        }));
    }
    serve::stream_cut()
}
