//! What the tasks of one pool share: the pool of the newest generation, what was found for it and why endpoints are out.
//! It must not know how endpoints are found or checked.
//! Discovery publishes into it, health checks settle into it, `PoolKeeper` hands it the pool of each new generation.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::observe::clock;
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::{Address, Endpoint, Endpoints};
use crate::snapshot::outlier::{self, Change};
use crate::snapshot::pool::{EndpointSet, EndpointSpec, Pool};

/// What the tasks of one pool share.
pub(in crate::control) struct Slot {
    endpoints: Arc<Endpoints>,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    /// Wakes the health task when the set is another one.
    pub(in crate::control) changed: Notify,
}

struct Inner {
    pool: Arc<Pool>,
    /// The last good answer of the source; `None` before the first.
    found: Option<Vec<EndpointSpec>>,
    problem: Option<String>,
    reasons: HashMap<Address, String>,
    epoch: u64,
}

/// What a health check changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Turn {
    /// Nothing.
    Same,
    /// The endpoint takes traffic again.
    Up,
    /// The endpoint is out.
    Down,
}

impl Slot {
    pub(in crate::control) fn new(
        pool: &Arc<Pool>,
        endpoints: &Arc<Endpoints>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Slot> {
        let slot = Slot {
            endpoints: endpoints.clone(),
            metrics: metrics.clone(),
            inner: Mutex::new(Inner {
                pool: pool.clone(),
                found: None,
                problem: None,
                reasons: HashMap::new(),
                epoch: 0,
            }),
            changed: Notify::new(),
        };
        heal(pool);
        Arc::new(slot)
    }

    /// The pool of the newest generation.
    pub(in crate::control) fn pool(&self) -> Arc<Pool> {
        self.inner().pool.clone()
    }

    /// What the pool's set holds now.
    pub(in crate::control) fn specs(&self) -> Vec<EndpointSpec> {
        self.inner().pool.set.load().specs()
    }

    /// Goes on with the pool of a new generation: what was found for the last one goes into its set.
    pub(in crate::control) fn adopt(&self, pool: &Arc<Pool>) {
        let mut inner = self.inner();
        inner.pool = pool.clone();
        if let Some(found) = inner.found.take() {
            self.store(&inner.pool, &found);
            inner.found = Some(found);
        }
        heal(pool);
        drop(inner);
        self.changed.notify_one();
    }

    /// Takes an answer of the source. Whether the set is another one now.
    pub(in crate::control) fn publish(&self, found: Vec<EndpointSpec>) -> bool {
        let mut inner = self.inner();
        inner.problem = None;
        let is_other = self.store(&inner.pool, &found);
        let known: HashSet<&Address> = found.iter().map(|spec| &spec.address).collect();
        inner.reasons.retain(|address, _| known.contains(address));
        inner.found = Some(found);
        heal(&inner.pool);
        let pool = inner.pool.clone();
        drop(inner);
        if is_other {
            self.changed.notify_one();
            gauge(&pool);
        }
        is_other
    }

    fn store(&self, pool: &Pool, specs: &[EndpointSpec]) -> bool {
        if pool.set.load().specs() == specs {
            return false;
        }
        let mut set = EndpointSet::new(
            &pool.name,
            &pool.settings,
            specs,
            &self.endpoints,
            &self.metrics,
        );
        // A pool that has lost its endpoints is not one that waits for its first.
        set.birth = None;
        set.greet(&pool.set.load(), clock::now());
        let before = pool.set.swap(Arc::new(set));
        if let Some(birth) = &before.birth {
            birth.is_over();
        }
        true
    }

    /// Takes note of what is wrong with the source. Whether that is news.
    pub(in crate::control) fn trouble(&self, problem: String) -> bool {
        let mut inner = self.inner();
        let is_news = inner.problem.as_ref() != Some(&problem);
        inner.problem = Some(problem);
        is_news
    }

    /// What is wrong with the source.
    pub(in crate::control) fn problem(&self) -> Option<String> {
        self.inner().problem.clone()
    }

    /// Begins another way to check health, or none: results of checks begun before no longer count.
    pub(in crate::control) fn new_epoch(&self) -> u64 {
        let mut inner = self.inner();
        inner.epoch += 1;
        inner.reasons.clear();
        heal_unchecked(&inner.pool);
        inner.epoch
    }

    /// Takes the result of a health check of this epoch. The first check of an endpoint decides at once, as in HAProxy:
    /// a node that just started should not send traffic to a dead endpoint for `fall` intervals. Later `rise` and `fall` count.
    pub(in crate::control) fn settle(
        &self,
        epoch: u64,
        endpoint: &Endpoint,
        outcome: &Result<(), String>,
        thresholds: Thresholds,
    ) -> Turn {
        let mut inner = self.inner();
        if inner.epoch != epoch {
            return Turn::Same;
        }
        let state = &endpoint.state;
        let before = state.healthy.load(Relaxed);
        let checks = state.checks.load(Relaxed);
        let (checks, healthy) = judge(checks, before, outcome.is_ok(), thresholds);
        state.checks.store(checks, Relaxed);
        if healthy && !before {
            state.came(clock::now());
        }
        state.healthy.store(healthy, Relaxed);
        match outcome {
            Ok(()) => inner.reasons.remove(&endpoint.address),
            Err(reason) => inner
                .reasons
                .insert(endpoint.address.clone(), reason.clone()),
        };
        let pool = inner.pool.clone();
        drop(inner);
        endpoint.metrics.check(outcome.is_ok());
        if outcome.is_ok() && healthy && pool.settings.ejection.ended_by_health {
            open(&pool, endpoint);
        }
        if before == healthy {
            return Turn::Same;
        }
        endpoint.metrics.healthy(healthy);
        gauge(&pool);
        if healthy {
            Turn::Up
        } else {
            Turn::Down
        }
    }

    /// Why the last check of an endpoint failed, if it did.
    pub(in crate::control) fn reason(&self, address: &Address) -> Option<String> {
        self.inner().reasons.get(address).cloned()
    }

    /// Brings the gauges of the pool up to date, and lets who waits for an endpoint look again: one may have become well, or
    /// be ejected no longer.
    pub(in crate::control) fn gauge(&self) {
        let pool = self.pool();
        gauge(&pool);
        if let Some(limited) = &pool.limits {
            limited.state.ring();
            let load = limited.state.load();
            let metrics = &limited.state.metrics;
            metrics.load(load.in_flight, load.waiting, load.most);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks in a row that change an endpoint's health.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct Thresholds {
    /// Successes that bring it back.
    pub(in crate::control) rise: i64,
    /// Failures that take it out.
    pub(in crate::control) fall: i64,
}

/// The new row of checks and the new health. A row of zero means that the endpoint was never checked.
fn judge(checks: i64, healthy: bool, passed: bool, thresholds: Thresholds) -> (i64, bool) {
    let row = if passed {
        checks.max(0).saturating_add(1)
    } else {
        checks.min(0).saturating_sub(1)
    };
    let healthy = match (checks, passed) {
        (0, _) => passed,
        (_, true) => healthy || row >= thresholds.rise,
        (_, false) => healthy && row.saturating_neg() < thresholds.fall,
    };
    (row, healthy)
}

/// Ends what the pool's settings, or its set, no longer give a reason for.
fn heal(pool: &Pool) {
    heal_unchecked(pool);
    let set = pool.set.load();
    let may_eject = pool.settings.ejection.is_on() && outlier::is_one_of_several(&set.members);
    if !may_eject {
        for member in set.members.iter() {
            open(pool, &member.endpoint);
        }
    }
}

/// Ends an ejection.
fn open(pool: &Pool, endpoint: &Endpoint) {
    if endpoint.state.outlier.open(clock::now()) {
        Change::Back.report(&pool.name, endpoint);
    }
}

/// Endpoints outlive generations, so one may still carry the verdict of a check that the pool no longer has.
fn heal_unchecked(pool: &Pool) {
    if pool.settings.health.is_some() {
        return;
    }
    for member in pool.set.load().members.iter() {
        let state = &member.endpoint.state;
        state.checks.store(0, Relaxed);
        if !state.healthy.swap(true, Relaxed) {
            member.endpoint.metrics.healthy(true);
        }
    }
}

fn gauge(pool: &Pool) {
    let now = clock::now();
    let set = pool.set.load();
    let mut available = 0;
    for member in set.members.iter() {
        let (state, metrics) = (&member.endpoint.state, &member.endpoint.metrics);
        metrics.healthy(state.healthy.load(Relaxed));
        if !state.is_ejected(now) {
            metrics.not_ejected();
        }
        if member.weight > 0 && state.is_available(now) {
            available += 1;
        }
    }
    pool.metrics.endpoints(set.members.len(), available);
    pool.metrics
        .panics(set.table.is_panicking(&set.members, now));
    pool.metrics.retry_budget(pool.retry_budget.available(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { rise: 2, fall: 3 };

    fn after(results: &[bool]) -> bool {
        let begin = (0, true);
        let step = |(checks, healthy), passed: &bool| judge(checks, healthy, *passed, THRESHOLDS);
        results.iter().fold(begin, step).1
    }

    #[test]
    fn the_first_check_decides_at_once() {
        assert!(!after(&[false]));
        assert!(after(&[true]));
    }

    #[test]
    fn later_checks_need_a_row_of_rise_or_fall() {
        assert!(after(&[true, false, false]));
        assert!(!after(&[true, false, false, false]));
        assert!(after(&[true, false, false, true, false, false]));
        assert!(!after(&[false, true]));
        assert!(after(&[false, true, true]));
        assert!(!after(&[false, true, false, true]));
    }

    #[test]
    fn a_long_row_does_not_overflow() {
        let (row, healthy) = judge(i64::MIN, false, false, THRESHOLDS);

        assert_eq!((row, healthy), (i64::MIN, false));
    }
}
