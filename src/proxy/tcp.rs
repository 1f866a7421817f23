//! Connections passed through as bytes: TLS by server name, and opaque protocols.
//! It must not know HTTP.
//! Called by `accept`; uses the same pools, balancing and ejection as requests do.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use windrose_plugins::contract::{causes, Cause, Principal};

use super::accept::{Arrival, Refusal};
use super::copy::{copy, silence, Broken, Counts};
use super::line::{Arriving, Carrier, Line};
use super::reach::connect;
use super::upstream::Held;
use super::{edge, fair, permit, random, Shared};
use crate::decide::opaque::{Call, Met};
use crate::decide::policy::Ruled;
use crate::decide::share_of_connection;
use crate::observe::access_log::Entry;
use crate::observe::clock;
use crate::observe::metrics::RequestSample;
use crate::snapshot::endpoint::{Endpoint, InFlight};
use crate::snapshot::identity::{Proof, Share};
use crate::snapshot::incoming::Socket;
use crate::snapshot::lease::{Cut, Tenancy, Why};
use crate::snapshot::listener::Listener;
use crate::snapshot::pool::{Pool, PoolProtocol};
use crate::snapshot::route::{Action, Rule};

/// What a connection meets at its listener. `sni` is `None` for connections without TLS, `Some(None)` for TLS without a name.
fn meets<'l>(
    listener: &'l Listener,
    client: SocketAddr,
    destination: SocketAddr,
    sni: Option<Option<&'l str>>,
) -> Result<Met<'l>, Refusal> {
    let call = Call {
        listener,
        client: client.ip(),
        destination,
        sni: sni.flatten(),
        peer: None,
    };
    call.meets().map_err(|cause| {
        let detail = if *cause == causes::NO_TCP_ROUTE {
            format!("sni={:?}", call.sni.unwrap_or_default())
        } else if *cause == causes::PROTOCOL_MISMATCH {
            format!("only HTTP is spoken at destination={destination}")
        } else {
            format!("destination={destination}")
        };
        Refusal::new(cause, detail)
    })
}

/// A connection's pool and the connection made to it.
pub(super) struct Dialled {
    pool: Arc<Pool>,
    line: Line,
    in_flight: InFlight,
    held: Held,
    stream: Stream,
}

/// Connects before anybody has spoken; `None` where that cannot be, which then shows again without hurry.
pub(super) async fn dial_ahead(
    shared: &Arc<Shared>,
    arrival: &Arrival,
    sni: Option<Option<&str>>,
) -> Option<Dialled> {
    let listener = &arrival.listener;
    let met = meets(listener, arrival.client, arrival.local, sni).ok()?;
    let pool = pool(shared, met.rule, arrival).ok()?;
    let mut stream = Stream::new();
    let way = Way {
        shared,
        arrival,
        met,
        pool: &pool,
        sni,
    };
    // A service does not hear of callers who are refused.
    if !way.asked().may_pass(shared) {
        return None;
    }
    let connected = connect(std::future::pending(), &way, &mut stream).await;
    let (line, in_flight, held) = connected.ok()?;
    Some(Dialled {
        pool,
        line,
        in_flight,
        held,
        stream,
    })
}

/// Ends when the server has said something, or has closed.
pub(super) async fn spoke(dialled: Option<&Dialled>) {
    let ready = match dialled.map(|dialled| &dialled.line) {
        Some(Line::Plain(Socket::Tcp(socket))) => socket.readable().await,
        Some(Line::Plain(Socket::Unix(socket))) => socket.readable().await,
        // What comes in mutual TLS cannot be seen without reading it; the client decides, or the time.
        Some(Line::Tls(..) | Line::Tunnel(_)) | None => std::future::pending().await,
    };
    // What is wrong with it shows when it is read.
    drop(ready);
}

/// Carries a connection to its end, on the one there is upstream already if there is.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    transport: Arriving,
    arrival: Arrival,
    sni: Option<Option<String>>,
    dialled: Option<Box<Dialled>>,
) -> Result<(), Refusal> {
    Box::pin(through(shared, transport, arrival, sni, dialled)).await
}

async fn through(
    shared: &Arc<Shared>,
    transport: Arriving,
    arrival: Arrival,
    sni: Option<Option<String>>,
    dialled: Option<Box<Dialled>>,
) -> Result<(), Refusal> {
    let listener = arrival.listener.clone();
    let name = sni.as_ref().map(Option::as_deref);
    let met = meets(&listener, arrival.client, arrival.local, name)?;
    if arrival.is_captured() {
        super::capture::not_own(arrival.client, arrival.local)?;
    }
    met.metrics.started();
    let pool = match (&dialled, admitted(shared, met.rule)) {
        (Some(dialled), Ok(())) => Ok(dialled.pool.clone()),
        (_, Err(refusal)) => Err(refusal),
        (None, Ok(())) => pool(shared, met.rule, &arrival),
    };
    let pool = pool.inspect_err(|refusal| {
        met.metrics.finished(&RequestSample {
            cause: Some(refusal.cause),
            ..RequestSample::default()
        });
    })?;
    let way = Way {
        shared,
        arrival: &arrival,
        met,
        pool: &pool,
        sni: name,
    };
    way.go(transport, dialled).await;
    Ok(())
}

/// A connection's way.
pub(super) struct Way<'w> {
    pub(super) shared: &'w Arc<Shared>,
    pub(super) arrival: &'w Arrival,
    pub(super) met: Met<'w>,
    pub(super) pool: &'w Arc<Pool>,
    /// As for [`meets`].
    sni: Option<Option<&'w str>>,
}

impl Way<'_> {
    /// What policies are asked.
    fn asked(&self) -> permit::Bytes<'_> {
        permit::Bytes {
            arrival: self.arrival,
            route: &self.met.rule.route,
            port: self.port(),
            policies: self.met.policies,
            pool: self.pool,
            sni: self.sni.flatten(),
        }
    }

    fn port(&self) -> Option<u16> {
        let listener = &self.arrival.listener;
        listener.known_port(self.arrival.local, self.met.destinations)
    }

    async fn go(&self, transport: Arriving, dialled: Option<Box<Dialled>>) {
        let mut stream = Stream::new();
        let cause = self.permitted(transport, dialled, &mut stream).await;
        let sample = RequestSample {
            status: 0,
            seconds: clock::between(stream.started, clock::now()).as_secs_f64(),
            request_bytes: stream.up,
            response_bytes: stream.down,
            cause,
            grpc_status: None,
        };
        self.met.metrics.finished(&sample);
        edge::connection(
            self.arrival,
            self.pool,
            &sample,
            self.sni.is_some(),
            self.shared,
        );
        self.log(&stream, cause);
    }

    /// Whether policies let it go on; its share of what its workload serves.
    fn admits(
        &self,
        asked: &permit::Bytes<'_>,
        way: fair::Way,
        ruled: &mut Option<Box<Ruled>>,
    ) -> Result<Option<Share>, &'static Cause> {
        asked.judge(self.shared, ruled)?;
        let callee = self.arrival.caller.as_ref();
        fair::serves_bytes(self.shared, &self.arrival.listener, callee, way)
            .map_err(|_| &causes::WORKLOAD_LIMIT)
    }

    /// What its tunnel adds to the share of its workload's connection.
    fn further(&self, line: &Line) -> Result<Option<Share>, &'static Cause> {
        if !matches!(line, Line::Tunnel(_)) {
            return Ok(None);
        }
        let (listener, caller) = (&self.arrival.listener, self.arrival.caller.as_ref());
        fair::tunnel(self.shared, listener, caller).map_err(|_| {
            listener.metrics.refused(&causes::WORKLOAD_LIMIT);
            &causes::WORKLOAD_LIMIT
        })
    }

    /// Carries a connection for as long as policies let it; why it ended early, if it did.
    async fn permitted(
        &self,
        mut transport: Arriving,
        dialled: Option<Box<Dialled>>,
        stream: &mut Stream,
    ) -> Option<&'static Cause> {
        let tenancy = Tenancy {
            listener: self.arrival.listener.name.clone(),
            route: self.met.rule.route.clone(),
            pool: self.pool.name.clone(),
        };
        // Entered before it is judged: a configuration that is published meanwhile judges it again.
        let asked = self.asked();
        let standing = asked.standing();
        let refusal = standing.refusal.clone();
        let leases = &self.shared.leases;
        let lease = leases.take_judged(tenancy, Arc::default(), Arc::new(standing));
        let way = transport.way();
        let _share = match self.admits(&asked, way, &mut stream.ruled) {
            Ok(share) => share,
            Err(cause) => {
                self.arrival.listener.metrics.refused(cause);
                transport.refuse(cause);
                return Some(cause);
            }
        };
        let upstream = match dialled {
            Some(dialled) => {
                let ruled = stream.ruled.take();
                *stream = Stream {
                    ruled,
                    ..dialled.stream
                };
                Ok((dialled.line, dialled.in_flight, dialled.held))
            }
            None => connect(transport.gone(), self, stream).await,
        };
        let further =
            upstream.and_then(|upstream| self.further(&upstream.0).map(|it| (upstream, it)));
        let carried = match further {
            Ok((upstream, _share)) => match transport.open() {
                Some(transport) => {
                    let proofs = [self.arrival.proof.clone(), upstream.0.proof()];
                    let ends = Ends {
                        cut: &lease.cut,
                        proofs: &proofs,
                    };
                    carry(transport, upstream, self.met.rule, &ends, stream).await
                }
                None => Err(&causes::CLIENT_CLOSED),
            },
            Err(cause) => {
                transport.refuse(cause);
                Err(cause)
            }
        };
        match (lease.cut.why(), refusal.ruled()) {
            (Some(Why::Denied), Some(ruled)) => {
                stream.ruled = Some(Box::new(ruled.clone()));
                ruled.cause
            }
            _ => carried.err(),
        }
    }
}

/// Whether the process takes it, overloaded as it may be.
fn admitted(shared: &Shared, rule: &Rule) -> Result<(), Refusal> {
    let class = rule.priority;
    if shared.current.peek().pressure.sheds(class, random::bits) {
        shared.metrics.overload().shed(class as usize);
        let detail = format!("route=\"{}\"", rule.route);
        return Err(Refusal::new(&causes::OVERLOADED, detail));
    }
    Ok(())
}

/// The pool a rule sends to.
fn pool(shared: &Shared, rule: &Rule, arrival: &Arrival) -> Result<Arc<Pool>, Refusal> {
    admitted(shared, rule)?;
    let client = arrival.client.ip();
    let chosen = match &rule.action {
        Action::Passthrough(on) => return Ok(on.pool(arrival.local, PoolProtocol::Tcp)),
        Action::Pool(pool) => Some(pool),
        Action::Split(split) => {
            let share = share_of_connection(split, client, random::bits());
            share.target.pool()
        }
        Action::Quarantined => None,
        Action::Redirect(_) | Action::Respond(_) => {
            return Err(Refusal::new(&causes::INTERNAL, ""))
        }
    };
    chosen.cloned().ok_or_else(|| {
        let detail = format!("route=\"{}\"", rule.route);
        Refusal::new(&causes::QUARANTINED, detail)
    })
}

/// What is to be told of a connection.
pub(super) struct Stream {
    started: u64,
    at: std::time::SystemTime,
    up: u64,
    down: u64,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) attempts: u8,
    /// What policies said, where that is worth telling.
    ruled: Option<Box<Ruled>>,
}

impl Stream {
    fn new() -> Stream {
        Stream {
            started: clock::now(),
            at: std::time::SystemTime::now(),
            up: 0,
            down: 0,
            endpoint: None,
            attempts: 0,
            ruled: None,
        }
    }
}

/// What may end a connection that is carried.
struct Ends<'e> {
    cut: &'e Cut,
    /// What both its ends proved themselves with.
    proofs: &'e [Option<Arc<Proof>>; 2],
}

impl Ends<'_> {
    /// Ends when one of the proofs is no longer good.
    async fn fell(&self) -> &'static Cause {
        let [one, other] = self.proofs.each_ref().map(|proof| async move {
            match proof {
                Some(proof) => proof.fell().await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            cause = one => cause,
            cause = other => cause,
        }
    }

    fn fallen(&self) -> Option<&'static Cause> {
        let mut proofs = self.proofs.iter().flatten();
        proofs.find_map(|proof| proof.fallen())
    }
}

async fn carry(
    transport: Carrier,
    upstream: (Line, InFlight, Held),
    rule: &Rule,
    ends: &Ends<'_>,
    stream: &mut Stream,
) -> Result<(), &'static Cause> {
    let (upstream, _in_flight, _held) = upstream;
    let counts = Counts::default();
    let idle = rule.timeouts.idle;
    let copied = tokio::select! {
        copied = Box::pin(copy(transport, upstream, &counts)) => copied.map_err(|broken| match broken {
            Broken::Downstream => &causes::CLIENT_CLOSED,
            Broken::Upstream => &causes::UPSTREAM_RESET,
        }),
        () = silence(&counts, idle) => Err(&causes::RESPONSE_TIMEOUT),
        () = ends.cut.revoked() => Err(&causes::DRAINED),
        cause = ends.fell() => Err(cause),
    };
    (stream.up, stream.down) = (counts.up.load(Relaxed), counts.down.load(Relaxed));
    // A tunnel may break before it is heard here why.
    copied.map_err(|cause| ends.fallen().unwrap_or(cause))
}

impl Way<'_> {
    fn log(&self, stream: &Stream, cause: Option<&'static Cause>) {
        let (shared, arrival, rule, pool) = (self.shared, self.arrival, self.met.rule, self.pool);
        let sni = self.sni.flatten();
        if !shared.access_log.enabled() {
            return;
        }
        let client = arrival.client.ip().to_canonical().to_string();
        let principal = arrival.peer().map(Principal::id);
        shared.access_log.log(&Entry {
            time: stream.at,
            client: &client,
            client_port: arrival.client.port(),
            destination: arrival.destination(),
            listener: &arrival.listener.name,
            role: arrival.listener.role.as_str(),
            route: &rule.route,
            rule: rule.index,
            pool: &pool.name,
            endpoint: stream
                .endpoint
                .as_ref()
                .map_or("", |endpoint| &endpoint.label),
            method: "",
            scheme: "tcp",
            host: sni.unwrap_or_default(),
            path: "",
            protocol: "TCP",
            status: 0,
            cause,
            request_bytes: stream.up,
            response_bytes: stream.down,
            duration: clock::between(stream.started, clock::now()),
            upstream_duration: None,
            attempts: stream.attempts,
            reused: false,
            request_id: "",
            trace_id: None,
            principal: principal.as_deref(),
            policy: stream.ruled.as_ref().map_or("", |ruled| &ruled.policy),
            audit: stream.ruled.as_ref().map_or("", |ruled| &ruled.audit),
            cache: "",
            user_agent: None,
            referer: None,
            notes: &[],
            tls_version: None,
            sni,
            grpc_status: None,
        });
    }
}
