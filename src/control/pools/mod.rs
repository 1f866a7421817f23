//! Keeps one discovery task and one health task for each pool of the snapshot in force.
//! It must not know how endpoints are found or checked; `discovery` and `health` do that for one pool at a time.
//! Called by `reload` before and after it publishes a snapshot, and asked by `admin`.

pub(super) mod slot;
pub(super) mod spread;
mod sweep;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use super::discovery::Finder;
use super::health::Prober;
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::{Address, Endpoint, Endpoints};
use crate::snapshot::limits::Limits;
use crate::snapshot::mtls::Outbound;
use crate::snapshot::pool::{EndpointSet, Health, Pool, PoolProtocol, ProxyVersion, Source};
use crate::snapshot::tls::PeerTls;
use crate::snapshot::Snapshot;
use slot::Slot;

/// Keeps discovery and health tasks in step with the snapshot in force.
pub struct PoolKeeper {
    me: Weak<PoolKeeper>,
    endpoints: Arc<Endpoints>,
    metrics: Arc<Metrics>,
    finder: Finder,
    prober: Arc<Prober>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pools: HashMap<Arc<str>, Followed>,
    gauges: Option<Task>,
}

/// A pool with its tasks; dropping it stops them.
struct Followed {
    slot: Arc<Slot>,
    source: Source,
    /// Held, not read.
    _discovery: Option<Task>,
    /// Apart: few pools have it, and all would hold its room.
    health: Option<Box<(HealthKey, Task)>>,
    /// The comparing of endpoints, by its interval.
    sweep: Option<(Duration, Task)>,
}

/// Everything a health task depends on; the task is replaced when any of it changes.
#[derive(PartialEq)]
struct HealthKey {
    health: Health,
    tls: Option<Arc<PeerTls>>,
    mtls: Option<Arc<Outbound>>,
    protocol: PoolProtocol,
    proxy_protocol: Option<ProxyVersion>,
}

/// A task that ends when its handle goes.
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(work))
    }

    pub(super) fn is_running(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PoolKeeper {
    /// A keeper of no pools yet.
    pub fn new(endpoints: Arc<Endpoints>, metrics: Arc<Metrics>) -> Arc<PoolKeeper> {
        Arc::new_cyclic(|me| PoolKeeper {
            me: me.clone(),
            endpoints,
            metrics,
            finder: Finder::default(),
            prober: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// Finds the first endpoints of discovered pools that have none, all pools at once, for at most `patience`.
    /// Call it before publishing. It never fails: a pool whose source does not answer stays empty and its task goes on asking.
    pub async fn prepare(&self, snapshot: &Snapshot, patience: Duration) {
        let mut asking = JoinSet::new();
        for pool in &snapshot.pools {
            if pool.settings.source == Source::Static || !pool.set.load().members.is_empty() {
                continue;
            }
            let question = self.finder.ask(&pool.settings.source);
            let pool = pool.clone();
            asking.spawn(async move { (pool, question.await) });
        }
        let answers = async {
            while let Some(answer) = asking.join_next().await {
                if let Ok((pool, Ok(specs))) = answer {
                    let set = EndpointSet::new(
                        &pool.name,
                        &pool.settings,
                        &specs,
                        &self.endpoints,
                        &self.metrics,
                    );
                    pool.set.store(Arc::new(set));
                }
            }
        };
        // Running out of patience is no event of its own: the pool's task will say why its source does not answer.
        let _ = tokio::time::timeout(patience, answers).await;
    }

    /// Starts, changes and stops tasks so that they fit the snapshot. Call it after publishing, on the runtime that is to run them.
    /// Pools that did not change keep their tasks; pools whose source stays keep what was found, also under new settings.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn follow(&self, snapshot: &Arc<Snapshot>) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.pools);
        for pool in &snapshot.pools {
            let known = before
                .remove(&pool.name)
                .filter(|followed| followed.source == pool.settings.source);
            let mut followed = match known {
                Some(followed) => {
                    followed.slot.adopt(pool);
                    followed
                }
                None => self.start(pool),
            };
            self.follow_health(&mut followed, pool);
            self.follow_limits(pool);
            follow_sweep(&mut followed, pool);
            followed.slot.gauge();
            state.pools.insert(pool.name.clone(), followed);
        }
        if !state.gauges.as_ref().is_some_and(Task::is_running) {
            state.gauges = Some(Task::spawn(refresh(self.me.clone())));
        }
    }

    /// Why the health check keeps an endpoint out, if it does.
    pub fn reason(&self, pool: &str, address: &Address) -> Option<String> {
        let state = self.state();
        state.pools.get(pool)?.slot.reason(address)
    }

    /// Endpoints that are no longer in the pool's set and still have requests.
    pub fn draining(&self, pool: &Pool) -> Vec<Arc<Endpoint>> {
        let set = pool.set.load();
        let is_member = |endpoint: &Arc<Endpoint>| {
            let mut members = set.members.iter();
            members.any(|member| Arc::ptr_eq(&member.endpoint, endpoint))
        };
        let mut busy = self.endpoints.busy(&pool.name);
        busy.retain(|endpoint| !is_member(endpoint));
        busy
    }

    /// What is wrong with the source of a pool right now, if anything is.
    pub fn problem(&self, pool: &str) -> Option<String> {
        let state = self.state();
        state.pools.get(pool)?.slot.problem()
    }

    fn start(&self, pool: &Arc<Pool>) -> Followed {
        let slot = Slot::new(pool, &self.endpoints, &self.metrics);
        let task = self.finder.follow(&slot, &pool.settings.source);
        Followed {
            _discovery: task.map(Task::spawn),
            slot,
            source: pool.settings.source.clone(),
            health: None,
            sweep: None,
        }
    }

    fn follow_health(&self, followed: &mut Followed, pool: &Arc<Pool>) {
        let settings = &pool.settings;
        let key = settings.health.clone().map(|health| HealthKey {
            health,
            tls: settings.tls.clone(),
            mtls: settings.mtls.clone(),
            protocol: settings.protocol,
            proxy_protocol: settings.proxy_protocol,
        });
        if key.as_ref() == followed.health.as_ref().map(|health| &health.0) {
            return;
        }
        followed.health = None;
        let epoch = followed.slot.new_epoch();
        followed.health = key.map(|key| {
            let task = self
                .prober
                .follow(&followed.slot, settings, &key.health, epoch);
            Box::new((key, Task::spawn(task)))
        });
    }

    /// Bounds change with the snapshot in force. Those who wait under bounds that are gone go on without.
    fn follow_limits(&self, pool: &Pool) {
        match &pool.limits {
            Some(limited) => limited.state.resize(&limited.settings),
            None => {
                if let Some(limiter) = self.endpoints.limiters.known(&pool.name) {
                    limiter.resize(&Limits::default());
                    // An older snapshot may keep it for long, and its gauges with it.
                    limiter.metrics.load(0, 0, None);
                }
            }
        }
    }

    fn refresh_gauges(&self) {
        for followed in self.state().pools.values() {
            followed.slot.gauge();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool that compares its endpoints has a task for it.
fn follow_sweep(followed: &mut Followed, pool: &Pool) {
    let ejection = &pool.settings.ejection;
    let interval = ejection.has_sweep().then_some(ejection.interval);
    if interval != followed.sweep.as_ref().map(|(interval, _)| *interval) {
        followed.sweep = interval.map(|interval| {
            let task = sweep::follow(followed.slot.clone(), interval);
            (interval, Task::spawn(task))
        });
    }
}

/// Ejections end by themselves when their time is over, so the gauges must be read again without an event.
async fn refresh(keeper: Weak<PoolKeeper>) {
    loop {
        tokio::time::sleep(GAUGE_INTERVAL).await;
        match keeper.upgrade() {
            Some(keeper) => keeper.refresh_gauges(),
            None => return,
        }
    }
}

const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(super) mod tests;
