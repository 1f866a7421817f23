//! How a connection passed through as bytes reaches an endpoint: one after the other until one answers, plainly, in mutual TLS or
//! in a tunnel. It must not know what is carried, nor who may.
//! Called by `tcp`, for connections and ahead of them.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use windrose_plugins::contract::{causes, Cause};

use super::line::{self, Line};
use super::tcp::{Stream, Way};
use super::tunnel::{self, Through, Tunnel};
use super::upstream::{
    enter_connection, first_endpoints, hash_of_client, is_of_endpoint, pay, pick, tell, Held,
    Outcome,
};
use super::{proxy_protocol, random};
use crate::observe::clock;
use crate::snapshot::balance::{self, Choice};
use crate::snapshot::endpoint::{Address, Endpoint, InFlight};
use crate::snapshot::incoming::Socket;
use crate::snapshot::mtls::Caller;
use crate::snapshot::outlier::{Probe, Verdict};
use crate::snapshot::own;
use crate::snapshot::pool::{EndpointSet, Pool};

/// Connects to an endpoint, trying others when one does not answer.
pub(super) async fn connect(
    left: impl Future<Output = ()>,
    way: &Way<'_>,
    stream: &mut Stream,
) -> Result<(Line, InFlight, Held), &'static Cause> {
    let (rule, pool) = (way.met.rule, &**way.pool);
    let mut tried = Vec::new();
    let mut failed: Option<&'static Cause> = None;
    let mut tried_of: Option<Arc<EndpointSet>> = None;
    tokio::pin!(left);
    let going = Going {
        way,
        caller: caller(way, &mut left).await?,
        hash: hash_of_client(&pool.settings.balance, way.arrival.client.ip()),
    };
    pay(pool, &rule.retry, clock::now());
    // Endpoints may come and go while a connection waits.
    let first = || going.choose(pool.set.load_full(), &[]);
    first_endpoints(pool, &way.shared.current.load(), &mut left).await?;
    let mut held = Box::pin(enter_connection(pool, rule.priority, left, first)).await?;
    for _ in 0..=rule.retry.attempts {
        let mut chosen = match held.first.take() {
            Some(chosen) => chosen,
            None => {
                let set = pool.set.load_full();
                if tried_of.as_ref().is_some_and(|of| !Arc::ptr_eq(of, &set)) {
                    tried.clear();
                }
                match going.choose(set, &tried) {
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
            way.met.metrics.retried(cause.name);
        }
        tried.push(u16::try_from(chosen.at).unwrap_or(u16::MAX));
        let set = &*tried_of.insert(chosen.set);
        let endpoint = &set.members[chosen.at].endpoint;
        pool.count_zone(set, chosen.at);
        stream.attempts += 1;
        stream.endpoint = Some(endpoint.clone());
        let probe = chosen.probe.take();
        match attempt(&going, set, endpoint, probe).await {
            Ok(socket) => return Ok((socket, chosen.in_flight, held)),
            // Whom one node denies, the others deny as well.
            Err(denied) if *denied == causes::TUNNEL_REFUSED => return Err(denied),
            Err(failure) => failed = Some(failure),
        }
    }
    Err(nobody(pool, failed.unwrap_or(&causes::NO_HEALTHY_ENDPOINT)))
}

fn nobody(pool: &Pool, cause: &'static Cause) -> &'static Cause {
    pool.metrics.no_endpoint(cause);
    cause
}

/// A connection's way, and who goes it where the pool wants mutual TLS.
struct Going<'w> {
    way: &'w Way<'w>,
    caller: Option<Caller>,
    /// The client's, where the pool balances by it.
    hash: Option<u64>,
}

async fn caller(
    way: &Way<'_>,
    left: impl Future<Output = ()>,
) -> Result<Option<Caller>, &'static Cause> {
    tokio::select! {
        biased;
        caller = line::caller(way.pool, way.arrival.caller.as_ref()) => caller,
        () = left => Err(&causes::CLIENT_CLOSED),
    }
}

/// Connects to an endpoint, which learns from it.
async fn attempt(
    going: &Going<'_>,
    set: &EndpointSet,
    endpoint: &Endpoint,
    probe: Option<Box<Probe>>,
) -> Result<Line, &'static Cause> {
    let started = clock::now();
    let connected = going.dial(endpoint).await;
    let now = clock::now();
    let took = clock::between(started, now);
    let seconds = took.as_secs_f64();
    endpoint.metrics.attempt(connected.is_ok(), seconds);
    if let Some(verdict) = verdict(&connected) {
        tell((going.way.pool, set), endpoint, verdict, probe, now);
    }
    if connected.is_ok() {
        balance::observe(&endpoint.state, now, took);
        endpoint.metrics.connect(Some(seconds));
    }
    connected
}

fn verdict<S>(connected: &Result<S, &'static Cause>) -> Option<Verdict> {
    match connected {
        Ok(_) => Some(Verdict::Ok),
        Err(cause) => is_of_endpoint(cause).then_some(Verdict::Gateway),
    }
}

impl Going<'_> {
    fn choose(&self, set: Arc<EndpointSet>, tried: &[u16]) -> Outcome {
        if set.members.is_empty() {
            return Outcome::Nobody(set.nobody());
        }
        let pool = self.way.pool;
        let choice = Choice {
            hash: self.hash,
            tried,
            now: clock::now(),
            random: random::bits(),
            subset: pool.subset,
        };
        pick(pool, set, &choice)
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Line, &'static Cause> {
        let way = self.way;
        let (arrival, pool) = (way.arrival, way.pool);
        if let Some(tunnel) = self.tunnel(endpoint).await {
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
            Ok(Ok(socket)) => line::secure(socket, pool, self.caller.as_ref()).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(&causes::CONNECT_REFUSED)
            }
            Ok(Err(_)) => Err(&causes::CONNECT_FAILED),
            Err(_) => Err(&causes::CONNECT_TIMEOUT),
        }
    }

    /// A tunnel to the endpoint, where its pool wants one.
    async fn tunnel(&self, endpoint: &Endpoint) -> Option<Result<Tunnel, &'static Cause>> {
        let pool = self.way.pool;
        let mtls = pool.settings.mtls.as_ref();
        let (Some(mtls), Some(caller), Address::Tcp(address)) = (
            mtls.filter(|it| it.hbone.is_some()),
            &self.caller,
            &endpoint.address,
        ) else {
            return None;
        };
        let through = Through {
            shared: self.way.shared.clone(),
            mtls: mtls.clone(),
            caller: caller.clone(),
            pool: pool.name.clone(),
            timeout: pool.settings.connect_timeout,
            upgrade: false,
            proof: OnceLock::new(),
        };
        Some(tunnel::through(&through, *address).await)
    }
}
