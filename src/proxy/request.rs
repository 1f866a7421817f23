//! The state of one request, and the steps from its header to a pool or an answer.
//! It must not know how answers are written.
//! Driven by the hooks in `proxy`; every step that can refuse says so with one cause.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use windrose_plugins::contract::{
    causes, Answer, Cause, ClientFacts, Effects, Principal, Request, Slots,
};

use super::connection::Connection;
use super::fields::Nature;
use super::finish::Unfinished;
use super::wire::WireText;
use super::{admit, finish, random};
use crate::decide::{self, Caller, Head, Silent};
use crate::observe::clock;
use crate::observe::trace::{AttemptSpan, TraceContext};
use crate::snapshot::endpoint::InFlight;
use crate::snapshot::lease::Lease;
use crate::snapshot::listener::Listener;
use crate::snapshot::pool::{EndpointSet, Pool, PoolProtocol};
use crate::snapshot::route::{Action, Candidate};
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
    pub(super) slots: Slots,
    pub(super) candidate: Option<Arc<Candidate>>,
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) attempt: Attempt,
    pub(super) cause: Option<&'static Cause>,
    pub(super) planned: Option<Box<Answer>>,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) grpc_status: Option<u16>,
    pub(super) lease: Option<Lease>,
    /// Set while it is a stream of HTTP/2, which may be dropped as it stands.
    pub(super) unfinished: Option<Box<Unfinished>>,
    /// Whether it begins something long-lived: other times and bounds hold for it.
    pub(super) is_stream: bool,
    /// Whether it asks for another protocol on its connection.
    pub(super) is_upgrade: bool,
    /// Whether it is gRPC for a pool that speaks it: messages may go on for ever, so the body has no bound.
    pub(super) is_grpc: bool,
}

/// What is known of the client and its wish once the header was admitted.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) client: Option<IpAddr>,
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
    pub(super) request_id: WireText,
    pub(super) trusted: bool,
    pub(super) authority: WireText,
}

/// The attempts on upstream.
#[derive(Default)]
pub(super) struct Attempt {
    pub(super) count: u8,
    pub(super) tried: Vec<u16>,
    pub(super) set: Option<Arc<EndpointSet>>,
    pub(super) member: usize,
    pub(super) in_flight: Option<InFlight>,
    pub(super) started: u64,
    pub(super) responded: Option<u64>,
    pub(super) first_started: u64,
    pub(super) reused: bool,
    pub(super) free_retry_used: bool,
    pub(super) status: u16,
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
        Ctx {
            snapshot,
            started: clock::now(),
            at: SystemTime::now(),
            connection: None,
            listener: None,
            facts: Facts::default(),
            trace: None,
            spans: Vec::new(),
            principal: None,
            slots: Slots::default(),
            candidate: None,
            pool: None,
            attempt: Attempt::default(),
            cause: None,
            planned: None,
            request_bytes: 0,
            response_bytes: 0,
            grpc_status: None,
            lease: None,
            unfinished: None,
            is_stream: false,
            is_upgrade: false,
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

    /// What plugins are told about the client.
    pub(super) fn client_facts<'a>(
        facts: &'a Facts,
        listener: &'a Listener,
        route: &'a str,
    ) -> ClientFacts<'a> {
        ClientFacts {
            address: facts.client.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            secure: facts.secure,
            listener: &listener.name,
            route,
            host: &facts.host,
            path: &facts.path,
            request_id: &facts.request_id,
            trusted_peer: facts.trusted,
        }
    }

    pub(super) fn route(&self) -> &str {
        self.candidate
            .as_ref()
            .map_or("", |candidate| &candidate.rule.route)
    }

    /// Remembers the gRPC status of a response, from its header or trailers.
    pub(super) fn note_grpc_status(&mut self, headers: &HeaderMap) {
        if !self.is_stream {
            return;
        }
        let status = headers
            .get(GRPC_STATUS)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        self.grpc_status = status.or(self.grpc_status);
    }
}

type Refused = Box<Answer>;

pub(super) fn refuse(cause: &'static Cause) -> Refused {
    Box::new(Answer::of(cause))
}

/// From a header to a pool: admission, listener plugins, decision, route plugins. An error is the answer to send.
pub(super) async fn route(session: &mut Session, ctx: &mut Ctx) -> Result<(), Refused> {
    let (Some(connection), Some(listener)) = (ctx.connection.clone(), ctx.listener.clone()) else {
        return Err(refuse(&causes::INTERNAL));
    };
    admit::admit(session, ctx, &connection, &listener).map_err(refuse)?;
    if listener.chain.has_request() {
        plugins(session, ctx, &listener, None).await?;
    }
    if is_misdirected(&connection, &ctx.facts.host) {
        return Err(refuse(&causes::MISDIRECTED));
    }
    let candidate =
        decide(session, ctx, &connection, &listener).ok_or_else(|| refuse(&causes::NO_ROUTE))?;
    candidate.metrics.started();
    ctx.candidate = Some(candidate.clone());
    if candidate.rule.chain.has_request() {
        plugins(session, ctx, &listener, Some(&candidate)).await?;
    }
    act(session, ctx, &candidate)
}

fn decide(
    session: &Session,
    ctx: &Ctx,
    connection: &Connection,
    listener: &Listener,
) -> Option<Arc<Candidate>> {
    let request = session.req_header();
    let principal = ctx.principal.as_ref().map(Principal::id);
    let head = Head {
        method: &request.method,
        host: listener.service.as_deref().unwrap_or(&ctx.facts.host),
        path: &ctx.facts.path,
        query: request.uri.query(),
        headers: &request.headers,
    };
    let caller = Caller {
        address: ctx.facts.client?,
        sni: connection.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
        principal: principal.as_deref(),
    };
    decide::decide(&listener.routes, &head, &caller, &mut Silent).cloned()
}

/// Whether the connection was made for a name with another certificate than this host's (RFC 9110 section 15.5.20).
fn is_misdirected(connection: &Connection, host: &str) -> bool {
    let Some(tls) = &connection.tls else {
        return false;
    };
    let (Some(sni), Some(shown)) = (&tls.sni, &tls.cert) else {
        return false;
    };
    if **sni == *host {
        return false;
    }
    let certs = tls.termination.certs.load();
    // After a renewal the set holds new certificates; the same names mean the same one.
    certs
        .find(Some(host))
        .is_none_or(|cert| !Arc::ptr_eq(cert, shown) && cert.hosts != shown.hosts)
}

async fn plugins(
    session: &mut Session,
    ctx: &mut Ctx,
    listener: &Listener,
    candidate: Option<&Arc<Candidate>>,
) -> Result<(), Refused> {
    let route = candidate.map_or("", |candidate| &candidate.rule.route);
    let chain = candidate.map_or(&listener.chain, |candidate| &candidate.rule.chain);
    let client = Ctx::client_facts(&ctx.facts, listener, route);
    let mut request = Request {
        head: session.req_header_mut(),
        client: &client,
        principal: &mut ctx.principal,
        slots: &mut ctx.slots,
        effects: Effects::Live,
    };
    match chain.request(&mut request).await {
        Some((_, answer)) => Err(answer),
        None => Ok(()),
    }
}

/// Takes the rule's action.
fn act(session: &mut Session, ctx: &mut Ctx, candidate: &Arc<Candidate>) -> Result<(), Refused> {
    match &candidate.rule.action {
        Action::Redirect(redirect) => {
            let request = session.req_header();
            let head = Head {
                method: &request.method,
                host: &ctx.facts.host,
                path: &ctx.facts.path,
                query: request.uri.query(),
                headers: &request.headers,
            };
            let location =
                decide::location(redirect, candidate, &head, ctx.facts.port, ctx.facts.secure);
            let location = location.parse().map_err(|_| refuse(&causes::BAD_TARGET))?;
            let mut answer =
                Answer::of(&causes::ROUTE_REDIRECT).with(http::header::LOCATION, location);
            answer.status = redirect.status.as_u16();
            answer.body = Some((
                http::HeaderValue::from_static("text/plain"),
                bytes::Bytes::new(),
            ));
            Err(Box::new(answer))
        }
        Action::Respond(respond) => {
            let mut answer = Answer::of(&causes::ROUTE_RESPOND);
            answer.status = respond.status.as_u16();
            answer.body = Some((respond.content_type.clone(), respond.body.clone()));
            Err(Box::new(answer))
        }
        Action::Quarantined => Err(refuse(&causes::QUARANTINED)),
        Action::Pool(_) | Action::Split(_) => {
            let nature = Nature::of(&session.req_header().headers);
            if nature.length > candidate.rule.body_limit {
                return Err(refuse(&causes::BODY_TOO_LARGE));
            }
            // Pingora's own bound is a minute, whatever the route says.
            session.set_read_timeout(candidate.rule.timeouts.idle);
            let pool = decide::pool(candidate, random::bits());
            ctx.pool = Some(pool.ok_or_else(|| refuse(&causes::QUARANTINED))?.clone());
            ctx.is_stream = nature.is_stream();
            ctx.is_upgrade = nature.is_upgrade;
            ctx.is_grpc = nature.is_grpc
                && ctx
                    .pool
                    .as_ref()
                    .is_some_and(|pool| pool.settings.protocol != PoolProtocol::Http1);
            Ok(())
        }
    }
}
