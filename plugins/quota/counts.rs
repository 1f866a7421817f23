//! Where quotas are counted: in a store, in this process, or in this process while the store does not answer.
//! It must not know requests; keys are digests.
//! Called by `quota` once for each request.

use std::time::Duration;

use super::calendar::Span;
use super::{Config, STORE_UNAVAILABLE};
use crate::contract::{
    Build, Clock, Counter, Effects, Granted, Problem, Shared, Store, StoreFailure, Verdict,
};
use crate::keyed::key::SharedKey;
use crate::keyed::lease::{Lease, Step, Terms};
use crate::keyed::table::{Aged, Table, SHARDS};
use crate::keyed::{OnStoreFailure, Standing};

/// The counts.
pub(super) struct Counts {
    shared: Option<InStore>,
    local: Shared<Table<Count>>,
    keys_per_shard: usize,
    clock: Clock,
    evicted: Counter,
}

struct InStore {
    store: Store,
    /// What keys begin with.
    prefix: String,
    /// Only for refusals: uses are not taken ahead, as what is not used would be lost to the caller.
    leases: Shared<Table<Lease>>,
    on_failure: OnStoreFailure,
    failed: Counter,
}

/// What one key used in a period.
struct Count {
    /// When the period ends, in seconds since 1970, which tells it from others.
    ends: u64,
    uses: u64,
    used: u64,
}

impl Aged for Count {
    fn used(&self) -> u64 {
        self.used
    }
}

/// A request for one use.
pub(super) struct Ask<'a> {
    pub(super) key: SharedKey,
    pub(super) limit: u64,
    pub(super) span: &'a Span,
}

impl Counts {
    pub(super) fn new(config: &Config, build: &Build<'_>) -> Result<Counts, Problem> {
        let shared = match &config.store {
            None => None,
            Some(store) => {
                let name = config.name.as_deref().unwrap_or(build.instance);
                Some(InStore {
                    store: build.store("store", store)?,
                    prefix: format!("quota:{name}:"),
                    leases: build.shared("the refusals of a shared quota", Table::new),
                    on_failure: config.on_store_failure.unwrap_or_default(),
                    failed: build.counter("store_failed"),
                })
            }
        };
        Ok(Counts {
            shared,
            local: build.shared("the local quotas", Table::new),
            keys_per_shard: config.max_keys.div_ceil(SHARDS),
            clock: build.clock.clone(),
            evicted: build.counter("evicted"),
        })
    }

    /// Takes a use.
    ///
    /// # Errors
    /// Nothing is counted, and this is to become of the request.
    pub(super) async fn take(&self, ask: &Ask<'_>, effects: Effects) -> Result<Standing, Verdict> {
        match &self.shared {
            Some(shared) => self.take_shared(shared, ask, effects).await,
            None => self.take_here(ask, effects),
        }
    }

    async fn take_shared(
        &self,
        shared: &InStore,
        ask: &Ask<'_>,
        effects: Effects,
    ) -> Result<Standing, Verdict> {
        let client = shared.store.live(effects).map_err(Verdict::Unknown)?;
        let now = self.clock.elapsed();
        let step = self.lease(shared, ask, effects, |lease| lease.admit(now, &ONE))?;
        if let Step::Known(standing) = step {
            return Ok(self.whole(standing, ask));
        }
        let key = format!("{}{}:{}", shared.prefix, ask.span.name, ask.key.text);
        // Longer than the period: the clocks of proxies and of the store differ.
        let until = ask.span.ends + GRACE;
        match client.add_until(&key, ask.limit, 1, until).await {
            Ok(told) => {
                let next = match told.remaining {
                    0 => ask.span.left(self.clock.unix()),
                    _ => Duration::ZERO,
                };
                let told = Granted { next, ..told };
                let now = self.clock.elapsed();
                let settle = |lease: &mut Lease| lease.settle(now, told, &ONE);
                let standing = self.lease(shared, ask, effects, settle)?;
                Ok(self.whole(standing, ask))
            }
            Err(failure) => {
                self.lease(shared, ask, effects, Lease::failed)?;
                (shared.failed)(1);
                self.without_store(shared, ask, effects, &failure)
            }
        }
    }

    /// All uses are there again when the next period begins.
    fn whole(&self, standing: Standing, ask: &Ask<'_>) -> Standing {
        Standing {
            full: ask.span.left(self.clock.unix()),
            ..standing
        }
    }

    fn lease<R>(
        &self,
        shared: &InStore,
        ask: &Ask<'_>,
        effects: Effects,
        act: impl FnOnce(&mut Lease) -> R,
    ) -> Result<R, Verdict> {
        let done = shared.leases.with(effects, |all| {
            all.with(ask.key.number, self.keys_per_shard, Lease::default, act)
        });
        Ok(self.counted(done.map_err(Verdict::Unknown)?))
    }

    fn counted<R>(&self, (done, evicted): (R, u64)) -> R {
        if evicted > 0 {
            (self.evicted)(evicted);
        }
        done
    }

    fn take_here(&self, ask: &Ask<'_>, effects: Effects) -> Result<Standing, Verdict> {
        let ends = ask.span.ends.as_secs();
        let now = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let new = || Count {
            ends,
            uses: 0,
            used: now,
        };
        let act = |count: &mut Count| {
            count.used = now;
            // A clock that was set back does not begin an old period anew.
            if count.ends < ends {
                (count.ends, count.uses) = (ends, 0);
            }
            let admitted = count.uses < ask.limit;
            count.uses += u64::from(admitted);
            (admitted, count.uses)
        };
        let taken = match effects.is_live() {
            true => self.local.with(effects, |all| {
                self.counted(all.with(ask.key.number, self.keys_per_shard, new, act))
            }),
            false => self.local.peek(effects, |all| {
                all.peek(ask.key.number, |count| {
                    let current = count.filter(|count| count.ends >= ends);
                    let uses = current.map_or(0, |count| count.uses);
                    (uses < ask.limit, uses)
                })
            }),
        };
        let (admitted, uses) = taken.map_err(Verdict::Unknown)?;
        let left = ask.span.left(self.clock.unix());
        let remaining = ask.limit.saturating_sub(uses);
        Ok(Standing {
            admitted,
            remaining,
            next: if remaining == 0 { left } else { Duration::ZERO },
            full: left,
        })
    }

    fn without_store(
        &self,
        shared: &InStore,
        ask: &Ask<'_>,
        effects: Effects,
        failure: &StoreFailure,
    ) -> Result<Standing, Verdict> {
        match shared.on_failure {
            OnStoreFailure::Local => self.take_here(ask, effects),
            OnStoreFailure::Open => Err(Verdict::Continue),
            OnStoreFailure::Closed => Err(Verdict::Failed {
                cause: &STORE_UNAVAILABLE,
                reason: format!("store \"{}\": {failure}", shared.store.name()),
            }),
        }
    }
}

const ONE: Terms = Terms {
    batch: 1,
    lasts: Duration::from_secs(1),
};
const GRACE: Duration = Duration::from_secs(3600);
