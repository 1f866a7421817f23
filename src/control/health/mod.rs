//! Active health checks: one task for each pool, one timer for each endpoint.
//! It must not know how a check is made (`probe`, `grpc`), nor what its result means for an endpoint (`pools::slot`).
//! Called by `PoolKeeper`.

mod grpc;
mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::health_check::HealthCheck;
use pingora_load_balancing::Backend;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::discovery::Work;
use super::pools::slot::{Slot, Thresholds, Turn};
use super::pools::spread;
use crate::snapshot::endpoint::{Address, Endpoint};
use crate::snapshot::pool::{Health, PoolSettings};
use probe::Connectors;

/// A way to check endpoints.
type Check = Box<dyn HealthCheck + Send + Sync>;

/// Checks endpoints: what all pools of the process share.
pub(super) struct Prober {
    connectors: Arc<Connectors>,
    /// Bounds checks under way in the process. With many dead endpoints checks come later rather than more at once.
    turns: Semaphore,
}

impl Default for Prober {
    fn default() -> Prober {
        Prober {
            connectors: Arc::default(),
            turns: Semaphore::new(CHECKS_AT_ONCE),
        }
    }
}

impl Prober {
    /// Work that checks the endpoints of a pool, also those that come later, for as long as it runs.
    pub(super) fn follow(
        self: &Arc<Prober>,
        slot: &Arc<Slot>,
        settings: &PoolSettings,
        health: &Health,
        epoch: u64,
    ) -> Work {
        let watch = Arc::new(Watch {
            prober: self.clone(),
            slot: slot.clone(),
            check: probe::check(&self.connectors, settings, health),
            health: health.clone(),
            epoch,
        });
        Box::pin(watch.run())
    }
}

/// The health check of one pool.
struct Watch {
    prober: Arc<Prober>,
    slot: Arc<Slot>,
    check: Check,
    health: Health,
    epoch: u64,
}

impl Watch {
    async fn run(self: Arc<Watch>) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Address, AbortHandle> = HashMap::new();
        loop {
            self.reconcile(&mut tasks, &mut running);
            tokio::select! {
                () = self.slot.changed.notified() => {}
                Some(_) = tasks.join_next() => running.retain(|_, task| !task.is_finished()),
            }
        }
    }

    /// One task for each endpoint of the set: new ones start, those of endpoints that left end.
    fn reconcile(
        self: &Arc<Watch>,
        tasks: &mut JoinSet<()>,
        running: &mut HashMap<Address, AbortHandle>,
    ) {
        let pool = self.slot.pool();
        let set = pool.set.load();
        let mut gone = std::mem::take(running);
        for member in set.members.iter() {
            let address = &member.endpoint.address;
            if running.contains_key(address) {
                continue;
            }
            let task = gone
                .remove(address)
                .unwrap_or_else(|| tasks.spawn(self.clone().watch(member.endpoint.clone())));
            running.insert(address.clone(), task);
        }
        gone.values().for_each(AbortHandle::abort);
    }

    async fn watch(self: Arc<Watch>, endpoint: Arc<Endpoint>) {
        let Some(target) = self.target(&endpoint.address) else {
            return std::future::pending().await;
        };
        // All first checks within a tenth of the interval, so that a new pool is known soon but not asked all at once.
        tokio::time::sleep(spread::within(self.health.interval / 10)).await;
        loop {
            let turn = self.prober.turns.acquire().await;
            let started = Instant::now();
            let outcome = self.ask(&target).await;
            drop(turn);
            self.settle(&endpoint, &outcome);
            let next = spread::around(self.health.interval.max(SHORTEST));
            tokio::time::sleep_until(started + next).await;
        }
    }

    fn target(&self, address: &Address) -> Option<Backend> {
        let address = match address {
            Address::Tcp(address) => {
                let mut address = *address;
                address.set_port(self.health.port.unwrap_or(address.port()));
                SocketAddr::Inet(address)
            }
            // A socket file has no port to replace.
            Address::Unix(path) => {
                let address = std::os::unix::net::SocketAddr::from_pathname(path).ok()?;
                SocketAddr::Unix(address)
            }
        };
        Some(Backend {
            addr: address,
            weight: 1,
            ext: http::Extensions::new(),
        })
    }

    async fn ask(&self, target: &Backend) -> Result<(), String> {
        let checking = self.check.check(target);
        match tokio::time::timeout(self.health.timeout, checking).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(probe::reason(&error)),
            Err(_) => Err("no answer in time".into()),
        }
    }

    fn settle(&self, endpoint: &Endpoint, outcome: &Result<(), String>) {
        let rows = |passed| i64::try_from(self.check.health_threshold(passed)).unwrap_or(i64::MAX);
        let thresholds = Thresholds {
            rise: rows(true),
            fall: rows(false),
        };
        let turn = self.slot.settle(self.epoch, endpoint, outcome, thresholds);
        let reason = outcome.as_ref().err().map_or("", String::as_str);
        match turn {
            Turn::Same => {}
            Turn::Up => log::info!(
                "endpoint is healthy again: pool={} endpoint={}",
                self.slot.pool().name,
                endpoint.label
            ),
            Turn::Down => log::warn!(
                "endpoint fails its health check: pool={} endpoint={} cause={reason}",
                self.slot.pool().name,
                endpoint.label
            ),
        }
    }
}

const CHECKS_AT_ONCE: usize = 64;
/// A guard against a busy loop, below anything the configuration allows.
const SHORTEST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
