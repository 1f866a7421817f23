//! Connections passed through as bytes: TLS by server name, and opaque protocols.
//! It must not know HTTP.
//! Called by `accept`; uses the same pools, balancing and ejection as requests do.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use windrose_plugins::contract::{causes, Cause, Principal};

use super::accept::{Arrival, Refusal};
use super::copy::{copy, silence, Counts};
use super::line::{self, Carrier, Line};
use super::tunnel::{self, Through, Tunnel};
use super::upstream::{enter_connection, hash_of_client, pay, pick, tell, Held, Outcome};
use super::{proxy_protocol, random, Shared};
use crate::decide::share_of_connection;
use crate::observe::access_log::Entry;
use crate::observe::clock;
use crate::observe::metrics::{RequestSample, RouteMetrics};
use crate::snapshot::balance::{self, Choice};
use crate::snapshot::endpoint::{Address, Endpoint, InFlight};
use crate::snapshot::incoming::Socket;
use crate::snapshot::lease::{Cut, Tenancy};
use crate::snapshot::listener::Listener;
use crate::snapshot::outlier::{Probe, Verdict};
use crate::snapshot::own;
use crate::snapshot::pool::{EndpointSet, Pool, PoolProtocol};
use crate::snapshot::route::{Action, Rule};

/// What a connection meets: a rule with its counters.
type Met<'l> = (&'l Arc<Rule>, &'l Arc<RouteMetrics>);

/// What a connection meets at its listener: a rule, or what there is for unknown destinations. `sni` is `None` for connections
/// without TLS, `Some(None)` for TLS without a name.
fn meets<'l>(
    listener: &'l Listener,
    client: SocketAddr,
    destination: SocketAddr,
    sni: Option<Option<&str>>,
) -> Result<Met<'l>, Refusal> {
    let asked = sni.flatten();
    if let Some(rule) = listener.tcp.find(client.ip(), destination, asked) {
        return Ok((&rule.rule, &rule.metrics));
    }
    let Some(capture) = &listener.capture else {
        return Err(unrouted(asked));
    };
    match capture.unknown(Some(destination)) {
        Ok(candidate) => Ok((&candidate.rule, &candidate.metrics)),
        Err(cause) => Err(Refusal::new(cause, format!("destination={destination}"))),
    }
}

fn unrouted(sni: Option<&str>) -> Refusal {
    let detail = format!("sni={:?}", sni.unwrap_or_default());
    Refusal::new(&causes::NO_TCP_ROUTE, detail)
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
pub(super) async fn dial_ahead(shared: &Arc<Shared>, arrival: &Arrival) -> Option<Dialled> {
    let listener = &arrival.listener;
    let (rule, metrics) = meets(listener, arrival.client, arrival.local, None).ok()?;
    let pool = pool(shared, rule, arrival).ok()?;
    let mut stream = Stream::new();
    let way = Way {
        shared,
        arrival,
        rule,
        metrics,
        pool: &pool,
    };
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
        Some(Line::Tls(_) | Line::Tunnel(_)) | None => std::future::pending().await,
    };
    // What is wrong with it shows when it is read.
    drop(ready);
}

/// Carries a connection to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    transport: Carrier,
    arrival: Arrival,
    sni: Option<Option<String>>,
) -> Result<(), Refusal> {
    Box::pin(through(shared, transport, arrival, sni, None)).await
}

/// Carries a connection for which there is one upstream already.
pub(super) async fn carry_on(
    shared: &Arc<Shared>,
    transport: Carrier,
    arrival: Arrival,
    dialled: Dialled,
) -> Result<(), Refusal> {
    Box::pin(through(shared, transport, arrival, None, Some(dialled))).await
}

async fn through(
    shared: &Arc<Shared>,
    transport: Carrier,
    arrival: Arrival,
    sni: Option<Option<String>>,
    dialled: Option<Dialled>,
) -> Result<(), Refusal> {
    let listener = arrival.listener.clone();
    let name = sni.as_ref().map(Option::as_deref);
    let (rule, metrics) = meets(&listener, arrival.client, arrival.local, name)?;
    if arrival.is_captured() && shared.own.has_made(arrival.client).await {
        return Err(super::capture::looped("it is the proxy's own connection"));
    }
    metrics.started();
    let pool = match (&dialled, admitted(shared, rule)) {
        (Some(dialled), Ok(())) => Ok(dialled.pool.clone()),
        (_, Err(refusal)) => Err(refusal),
        (None, Ok(())) => pool(shared, rule, &arrival),
    };
    let pool = pool.inspect_err(|refusal| {
        metrics.finished(&RequestSample {
            cause: Some(refusal.cause),
            ..RequestSample::default()
        });
    })?;
    let way = Way {
        shared,
        arrival: &arrival,
        rule,
        metrics,
        pool: &pool,
    };
    way.go(transport, dialled, sni.flatten().as_deref()).await;
    Ok(())
}

/// A connection's way.
struct Way<'w> {
    shared: &'w Arc<Shared>,
    arrival: &'w Arrival,
    rule: &'w Arc<Rule>,
    metrics: &'w Arc<RouteMetrics>,
    pool: &'w Arc<Pool>,
}

impl Way<'_> {
    async fn go(&self, transport: Carrier, dialled: Option<Dialled>, sni: Option<&str>) {
        let tenancy = Tenancy {
            listener: self.arrival.listener.name.clone(),
            route: self.rule.route.clone(),
            pool: self.pool.name.clone(),
        };
        let lease = self.shared.leases.take(tenancy, Arc::default());
        let mut stream = Stream::new();
        let upstream = match dialled {
            Some(dialled) => {
                stream = dialled.stream;
                Ok((dialled.line, dialled.in_flight, dialled.held))
            }
            None => connect(transport.left(), self, &mut stream).await,
        };
        let cause = match upstream {
            Ok(upstream) => carry(transport, upstream, self.rule, &lease.cut, &mut stream).await,
            Err(cause) => Err(cause),
        };
        let cause = cause.err();
        self.metrics.finished(&RequestSample {
            status: 0,
            seconds: clock::between(stream.started, clock::now()).as_secs_f64(),
            request_bytes: stream.up,
            response_bytes: stream.down,
            cause,
            grpc_status: None,
        });
        self.log(sni, &stream, cause);
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

struct Stream {
    started: u64,
    at: std::time::SystemTime,
    up: u64,
    down: u64,
    endpoint: Option<Arc<Endpoint>>,
    attempts: u8,
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
        }
    }
}

async fn carry(
    transport: Carrier,
    upstream: (Line, InFlight, Held),
    rule: &Rule,
    cut: &Cut,
    stream: &mut Stream,
) -> Result<(), &'static Cause> {
    let (upstream, _in_flight, _held) = upstream;
    let counts = Counts::default();
    let idle = rule.timeouts.idle;
    let copied = tokio::select! {
        copied = Box::pin(copy(transport, upstream, &counts)) => copied.map_err(|_| &causes::UPSTREAM_RESET),
        () = silence(&counts, idle) => Err(&causes::RESPONSE_TIMEOUT),
        () = cut.revoked() => Err(&causes::DRAINED),
    };
    (stream.up, stream.down) = (counts.up.load(Relaxed), counts.down.load(Relaxed));
    copied
}

/// Connects to an endpoint, trying others when one does not answer.
async fn connect(
    left: impl Future<Output = ()>,
    way: &Way<'_>,
    stream: &mut Stream,
) -> Result<(Line, InFlight, Held), &'static Cause> {
    let (arrival, rule, pool) = (way.arrival, way.rule, &**way.pool);
    let mut tried = Vec::new();
    let mut failed: Option<&'static Cause> = None;
    let mut tried_of: Option<Arc<EndpointSet>> = None;
    let hash = hash_of_client(&pool.settings.balance, arrival.client.ip());
    pay(pool, &rule.retry, clock::now());
    // Endpoints may come and go while a connection waits.
    let choose = |set: Arc<EndpointSet>, tried: &[u16]| {
        if set.members.is_empty() {
            return Outcome::Nobody(&causes::NO_ENDPOINT);
        }
        let choice = Choice {
            hash,
            tried,
            now: clock::now(),
            random: random::bits(),
            subset: pool.subset,
        };
        pick(pool, set, &choice)
    };
    let first = || choose(pool.set.load_full(), &[]);
    let entering = enter_connection(pool, rule.priority, left, first);
    let mut held = Box::pin(entering).await?;
    for _ in 0..=rule.retry.attempts {
        let mut chosen = match held.first.take() {
            Some(chosen) => chosen,
            None => {
                let set = pool.set.load_full();
                if tried_of.as_ref().is_some_and(|of| !Arc::ptr_eq(of, &set)) {
                    tried.clear();
                }
                match choose(set, &tried) {
                    Outcome::Chosen(chosen) => chosen,
                    Outcome::Nobody(none) if failed.is_none() => return Err(nobody(pool, none)),
                    Outcome::Nobody(_) | Outcome::Full => break,
                }
            }
        };
        if let Some(cause) = failed {
            if !pool.retry_budget.withdraw(clock::now()) {
                failed = Some(&causes::RETRY_BUDGET_SPENT);
                break;
            }
            way.metrics.retried(cause.name);
        }
        tried.push(u16::try_from(chosen.at).unwrap_or(u16::MAX));
        let set = &*tried_of.insert(chosen.set);
        let endpoint = &set.members[chosen.at].endpoint;
        pool.count_zone(set, chosen.at);
        stream.attempts += 1;
        stream.endpoint = Some(endpoint.clone());
        let probe = chosen.probe.take();
        match attempt(way, set, endpoint, probe).await {
            Ok(socket) => return Ok((socket, chosen.in_flight, held)),
            Err(failure) => failed = Some(failure),
        }
    }
    Err(nobody(pool, failed.unwrap_or(&causes::NO_HEALTHY_ENDPOINT)))
}

fn nobody(pool: &Pool, cause: &'static Cause) -> &'static Cause {
    pool.metrics.no_endpoint(cause);
    cause
}

/// Connects to an endpoint, which learns from it.
async fn attempt(
    way: &Way<'_>,
    set: &EndpointSet,
    endpoint: &Endpoint,
    probe: Option<Box<Probe>>,
) -> Result<Line, &'static Cause> {
    let started = clock::now();
    let connected = dial(way, endpoint).await;
    let now = clock::now();
    let took = clock::between(started, now);
    let seconds = took.as_secs_f64();
    endpoint.metrics.attempt(connected.is_ok(), seconds);
    tell((way.pool, set), endpoint, verdict(&connected), probe, now);
    if connected.is_ok() {
        balance::observe(&endpoint.state, now, took);
        endpoint.metrics.connect(Some(seconds));
    }
    connected
}

fn verdict<S>(connected: &Result<S, &'static Cause>) -> Verdict {
    match connected {
        Ok(_) => Verdict::Ok,
        Err(_) => Verdict::Gateway,
    }
}

async fn dial(way: &Way<'_>, endpoint: &Endpoint) -> Result<Line, &'static Cause> {
    let (arrival, pool) = (way.arrival, way.pool);
    if let Some(tunnel) = way.tunnel(endpoint).await {
        return tunnel.map(|tunnel| Line::Tunnel(Box::new(tunnel)));
    }
    let header = pool
        .settings
        .proxy_protocol
        .map(|version| proxy_protocol::write(version, arrival.client, arrival.local));
    let connecting = async {
        match &endpoint.address {
            Address::Tcp(address) => {
                let mut socket = own::connect(*address).await?;
                way.remember(&socket);
                socket.set_nodelay(true)?;
                if let Some(header) = &header {
                    socket.write_all(header).await?;
                }
                Ok::<_, io::Error>(Socket::Tcp(socket))
            }
            Address::Unix(path) => {
                let mut socket = UnixStream::connect(path).await?;
                if let Some(header) = &header {
                    socket.write_all(header).await?;
                }
                Ok(Socket::Unix(socket))
            }
        }
    };
    match tokio::time::timeout(pool.settings.connect_timeout, connecting).await {
        Ok(Ok(socket)) => line::secure(socket, pool, arrival.caller.as_ref()).await,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(&causes::CONNECT_REFUSED)
        }
        Ok(Err(_)) => Err(&causes::CONNECT_FAILED),
        Err(_) => Err(&causes::CONNECT_TIMEOUT),
    }
}

impl Way<'_> {
    /// A tunnel to the endpoint, where its pool wants one.
    async fn tunnel(&self, endpoint: &Endpoint) -> Option<Result<Tunnel, &'static Cause>> {
        let mtls = self.pool.settings.mtls.as_ref();
        let (Some(mtls), Address::Tcp(address)) =
            (mtls.filter(|it| it.hbone.is_some()), &endpoint.address)
        else {
            return None;
        };
        let through = Through {
            shared: self.shared.clone(),
            mtls: mtls.clone(),
            caller: self.arrival.caller.clone(),
            pool: self.pool.name.clone(),
            timeout: self.pool.settings.connect_timeout,
            upgrade: false,
        };
        Some(tunnel::through(&through, *address).await)
    }

    /// The connection may be captured itself, and has to be known then.
    fn remember(&self, socket: &TcpStream) {
        if !self.shared.current.peek().captures() {
            return;
        }
        if let Ok(local) = socket.local_addr() {
            self.shared.own.made(local);
        }
    }

    fn log(&self, sni: Option<&str>, stream: &Stream, cause: Option<&'static Cause>) {
        let (shared, arrival, rule, pool) = (self.shared, self.arrival, self.rule, self.pool);
        if !shared.access_log.enabled() {
            return;
        }
        let client = arrival.client.ip().to_string();
        let principal = arrival.principal.as_deref().map(Principal::id);
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
            user_agent: None,
            referer: None,
            tls_version: None,
            sni,
            grpc_status: None,
        });
    }
}
