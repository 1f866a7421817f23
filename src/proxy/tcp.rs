//! Connections passed through as bytes: TLS by server name, and opaque protocols.
//! It must not know HTTP.
//! Called by `accept`; uses the same pools, balancing and ejection as requests do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use windrose_plugins::contract::{causes, Cause, Principal};

use super::accept::{Arrival, Refusal};
use super::line::{self, Carrier, Line};
use super::upstream::{enter_connection, hash_of_client, pay, pick, tell, Held, Outcome};
use super::{proxy_protocol, random, Shared};
use crate::decide::share_of_connection;
use crate::observe::access_log::Entry;
use crate::observe::clock;
use crate::observe::metrics::RequestSample;
use crate::snapshot::balance::{self, Choice};
use crate::snapshot::endpoint::{Address, Endpoint, InFlight};
use crate::snapshot::incoming::Socket;
use crate::snapshot::lease::{Cut, Tenancy};
use crate::snapshot::outlier::{Probe, Verdict};
use crate::snapshot::pool::{EndpointSet, Pool};
use crate::snapshot::route::{Action, TcpRule, TcpTable};

/// Bytes moved at a time in each direction of a connection.
const BUFFER: usize = 16 * 1024;

/// Whether a rule names this server name, rather than taking whatever comes.
pub(super) fn names(table: &TcpTable, sni: Option<&str>) -> bool {
    let Some(sni) = sni else { return false };
    let is_named = |rule: &TcpRule| {
        rule.sni
            .as_ref()
            .is_some_and(|pattern| pattern.matches(sni))
    };
    table.0.iter().any(is_named)
}

/// The first rule for a connection; `sni` is `None` for connections without TLS, `Some(None)` for TLS without a name.
fn rule<'t>(
    table: &'t TcpTable,
    client: SocketAddr,
    destination: SocketAddr,
    sni: Option<Option<&str>>,
) -> Option<&'t TcpRule> {
    let asked = sni.flatten();
    table.0.iter().find(|rule| {
        let is_named = match &rule.sni {
            Some(pattern) => asked.is_some_and(|sni| pattern.matches(sni)),
            None => true,
        };
        let mut destinations = rule.destinations.iter();
        is_named
            && (rule.clients.is_empty() || rule.clients.contains(client.ip()))
            && (rule.destinations.is_empty() || destinations.any(|one| one.matches(destination)))
    })
}

/// Carries a connection to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    transport: Carrier,
    arrival: Arrival,
    sni: Option<Option<String>>,
) -> Result<(), Refusal> {
    let listener = arrival.listener.clone();
    let rule = rule(
        &listener.tcp,
        arrival.client,
        arrival.local,
        sni.as_ref().map(Option::as_deref),
    )
    .ok_or_else(|| unrouted(&sni))?;
    rule.metrics.started();
    let pool = match pool(shared, rule, arrival.client.ip()) {
        Ok(pool) => pool,
        Err(refusal) => {
            rule.metrics.finished(&RequestSample {
                cause: Some(refusal.cause),
                ..RequestSample::default()
            });
            return Err(refusal);
        }
    };
    let mut stream = Stream {
        started: clock::now(),
        at: std::time::SystemTime::now(),
        up: 0,
        down: 0,
        endpoint: None,
        attempts: 0,
    };
    let tenancy = Tenancy {
        listener: listener.name.clone(),
        route: rule.rule.route.clone(),
        pool: pool.name.clone(),
    };
    let lease = shared.leases.take(tenancy, Arc::default());
    let cause = carry(transport, &arrival, rule, &pool, &lease.cut, &mut stream)
        .await
        .err();
    rule.metrics.finished(&RequestSample {
        status: 0,
        seconds: clock::between(stream.started, clock::now()).as_secs_f64(),
        request_bytes: stream.up,
        response_bytes: stream.down,
        cause,
        grpc_status: None,
    });
    log(
        shared,
        &arrival,
        rule,
        &pool,
        sni.flatten().as_deref(),
        &stream,
        cause,
    );
    Ok(())
}

fn unrouted(sni: &Option<Option<String>>) -> Refusal {
    let name = sni.iter().flatten().next().map_or("", String::as_str);
    Refusal::new(&causes::NO_TCP_ROUTE, format!("sni={name:?}"))
}

/// Whether the process takes it, overloaded as it may be.
fn admitted(shared: &Shared, rule: &TcpRule) -> Result<(), Refusal> {
    let class = rule.rule.priority;
    if shared.current.peek().pressure.sheds(class, random::bits) {
        shared.metrics.overload().shed(class as usize);
        let detail = format!("route=\"{}\"", rule.rule.route);
        return Err(Refusal::new(&causes::OVERLOADED, detail));
    }
    Ok(())
}

/// The pool a rule sends to.
fn pool(shared: &Shared, rule: &TcpRule, client: IpAddr) -> Result<Arc<Pool>, Refusal> {
    admitted(shared, rule)?;
    let chosen = match &rule.rule.action {
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
        let detail = format!("route=\"{}\"", rule.rule.route);
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

async fn carry(
    transport: Carrier,
    arrival: &Arrival,
    rule: &TcpRule,
    pool: &Pool,
    cut: &Cut,
    stream: &mut Stream,
) -> Result<(), &'static Cause> {
    let (upstream, _in_flight, _held) = connect(&transport, arrival, rule, pool, stream).await?;
    let counts = Counts::default();
    let idle = rule.rule.timeouts.idle;
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
    transport: &Carrier,
    arrival: &Arrival,
    rule: &TcpRule,
    pool: &Pool,
    stream: &mut Stream,
) -> Result<(Line, InFlight, Held), &'static Cause> {
    let mut tried = Vec::new();
    let mut failed: Option<&'static Cause> = None;
    let mut tried_of: Option<Arc<EndpointSet>> = None;
    let hash = hash_of_client(&pool.settings.balance, arrival.client.ip());
    pay(pool, &rule.rule.retry, clock::now());
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
    let entering = enter_connection(pool, rule.rule.priority, transport.left(), first);
    let mut held = Box::pin(entering).await?;
    for _ in 0..=rule.rule.retry.attempts {
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
            rule.metrics.retried(cause.name);
        }
        tried.push(u16::try_from(chosen.at).unwrap_or(u16::MAX));
        let set = &*tried_of.insert(chosen.set);
        let endpoint = &set.members[chosen.at].endpoint;
        pool.count_zone(set, chosen.at);
        stream.attempts += 1;
        stream.endpoint = Some(endpoint.clone());
        let probe = chosen.probe.take();
        match attempt(arrival, (pool, set), endpoint, probe).await {
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
    arrival: &Arrival,
    of: (&Pool, &EndpointSet),
    endpoint: &Endpoint,
    probe: Option<Box<Probe>>,
) -> Result<Line, &'static Cause> {
    let started = clock::now();
    let connected = dial(arrival, of.0, endpoint).await;
    let now = clock::now();
    let took = clock::between(started, now);
    let seconds = took.as_secs_f64();
    endpoint.metrics.attempt(connected.is_ok(), seconds);
    tell(of, endpoint, verdict(&connected), probe, now);
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

async fn dial(arrival: &Arrival, pool: &Pool, endpoint: &Endpoint) -> Result<Line, &'static Cause> {
    let header = pool
        .settings
        .proxy_protocol
        .map(|version| proxy_protocol::write(version, arrival.client, arrival.local));
    let connecting = async {
        match &endpoint.address {
            Address::Tcp(address) => {
                let mut socket = TcpStream::connect(address).await?;
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

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

/// Moves bytes both ways. An end of one direction is passed on as a half-close while the other goes on.
async fn copy(transport: Carrier, upstream: Line, counts: &Counts) -> io::Result<()> {
    let (down_read, down_write) = match transport {
        Carrier::Plain(transport) => halves(transport),
        Carrier::Tls(stream) => halves(stream),
    };
    match upstream {
        Line::Plain(Socket::Tcp(upstream)) => {
            let (up_read, up_write) = upstream.into_split();
            both(down_read, down_write, up_read, up_write, counts).await
        }
        Line::Plain(Socket::Unix(upstream)) => {
            let (up_read, up_write) = upstream.into_split();
            both(down_read, down_write, up_read, up_write, counts).await
        }
        Line::Tls(upstream) => {
            let (up_read, up_write) = halves(upstream);
            both(down_read, down_write, up_read, up_write, counts).await
        }
    }
}

type Halves = (
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
);

/// One type for streams of several, so that the copying is compiled once.
fn halves(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Halves {
    let (read, write) = tokio::io::split(stream);
    (Box::new(read), Box::new(write))
}

async fn both(
    down_read: impl AsyncRead + Unpin,
    down_write: impl AsyncWrite + Unpin,
    up_read: impl AsyncRead + Unpin,
    up_write: impl AsyncWrite + Unpin,
    counts: &Counts,
) -> io::Result<()> {
    let up = one_way(down_read, up_write, &counts.up);
    let down = one_way(up_read, down_write, &counts.down);
    tokio::try_join!(up, down).map(|_| ())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        count.fetch_add(read as u64, Relaxed);
    }
}

/// Ends when nothing moved for the idle time; looks four times in it.
async fn silence(counts: &Counts, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    let mut seen = (0, 0);
    let mut quiet = 0;
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_millis(10)));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (counts.up.load(Relaxed), counts.down.load(Relaxed));
        quiet = if now == seen { quiet + 1 } else { 0 };
        if quiet >= 4 {
            return;
        }
        seen = now;
    }
}

fn log(
    shared: &Shared,
    arrival: &Arrival,
    rule: &TcpRule,
    pool: &Pool,
    sni: Option<&str>,
    stream: &Stream,
    cause: Option<&'static Cause>,
) {
    if !shared.access_log.enabled() {
        return;
    }
    let client = arrival.client.ip().to_string();
    let principal = arrival.principal.as_deref().map(Principal::id);
    shared.access_log.log(&Entry {
        time: stream.at,
        client: &client,
        client_port: arrival.client.port(),
        destination: arrival.listener.capture.as_ref().map(|_| arrival.local),
        listener: &arrival.listener.name,
        role: arrival.listener.role.as_str(),
        route: &rule.rule.route,
        rule: rule.rule.index,
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
