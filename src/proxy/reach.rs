//! How a connection passed through as bytes reaches an endpoint: one after the other until one answers, plainly, in mutual TLS or
//! in a tunnel. It must not know what is carried, nor who may.
//! Called by `tcp`, for connections and ahead of them.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use windrose_plugins::contract::{causes, Cause};

use super::line::{self, Line};
use super::tcp::{Stream, Way};
use super::tunnel::{self, Through, Tunnel};
use super::upstream::{
    enter_connection, first_endpoints, hash_of_client, pay, pick, tell, Held, Outcome,
};
use super::{proxy_protocol, random};
use crate::observe::clock;
use crate::snapshot::balance::{self, Choice};
use crate::snapshot::endpoint::{Address, Endpoint, InFlight};
use crate::snapshot::incoming::Socket;
use crate::snapshot::outlier::{Probe, Verdict};
use crate::snapshot::own;
use crate::snapshot::pool::{EndpointSet, Pool};

/// Connects to an endpoint, trying others when one does not answer.
pub(super) async fn connect(
    left: impl Future<Output = ()>,
    way: &Way<'_>,
    stream: &mut Stream,
) -> Result<(Line, InFlight, Held), &'static Cause> {
    let (arrival, rule, pool) = (way.arrival, way.met.rule, &**way.pool);
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
    tokio::pin!(left);
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
            way.met.metrics.retried(cause.name);
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
}
