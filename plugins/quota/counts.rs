//! Where quotas are counted: in a store, in this process, or in this process while the store does not answer.
//! It must not know requests; keys are digests.
//! Called by `quota` once for each request.

use std::sync::Arc;
use std::time::Duration;

use super::calendar::Span;
use super::{Config, STORE_UNAVAILABLE};
use crate::contract::{
    Build, Clock, Counter, Effects, Granted, Life, Problem, Shared, Store, StoreFailure, Verdict,
    Wish,
};
use crate::keyed::lease::{Lease, Step, Terms};
use crate::keyed::owed::{Debt, Misses, Owed, Telling};
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
    owed: Shared<Arc<Owed>>,
    on_failure: OnStoreFailure,
    failed: Counter,
    owed_lost: Counter,
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

/// A request for uses.
pub(super) struct Ask<'a> {
    /// The key in tables.
    pub(super) number: u128,
    /// The key as stores have it.
    pub(super) text: &'a str,
    pub(super) limit: u64,
    /// At most the limit.
    pub(super) cost: u64,
    pub(super) span: &'a Span,
}

/// How a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the store.
    Store,
    /// In this process.
    Here,
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
                    owed: build.shared("what is owed to a shared quota", Arc::default),
                    on_failure: config.on_store_failure.unwrap_or_default(),
                    failed: build.counter("store_failed"),
                    owed_lost: build.counter("owed_lost"),
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

    /// Whether there is a store.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Takes what a request costs.
    ///
    /// # Errors
    /// Nothing is counted, and this is to become of the request.
    pub(super) async fn take(
        &self,
        ask: &Ask<'_>,
        effects: Effects,
    ) -> Result<(Standing, Place), Verdict> {
        match &self.shared {
            Some(shared) => self.take_shared(shared, ask, effects).await,
            None => Ok((self.take_here(ask, effects)?, Place::Here)),
        }
    }

    /// Takes more for a response than was taken for its request, or gives some back.
    pub(super) fn owe(&self, ask: &Ask<'_>, place: Place, uses: i64, effects: Effects) {
        let Some(shared) = self.shared.as_ref().filter(|_| place == Place::Store) else {
            return self.owe_here(ask, uses, effects);
        };
        let debt = Debt {
            number: ask.number,
            uses,
            limit: ask.limit,
            until: ask.span.ends + GRACE,
        };
        let add = |owed: &Arc<Owed>| owed.add(shared.key(ask), debt);
        if shared.owed.with(effects, add) == Ok(false) {
            (shared.owed_lost)(1);
        }
    }

    fn owe_here(&self, ask: &Ask<'_>, uses: i64, effects: Effects) {
        let ends = ask.span.ends.as_secs();
        let new = || Count {
            ends,
            uses: 0,
            used: 0,
        };
        // Another period has begun meanwhile: this one does not matter any more.
        let act = |count: &mut Count| {
            if count.ends == ends {
                count.uses = count.uses.saturating_add_signed(uses);
            }
        };
        // Only traffic has responses.
        let _ = self.local.with(effects, |all| {
            self.counted(all.with(ask.number, self.keys_per_shard, new, act));
        });
    }

    /// Tells the store what is owed, again until it answers, and once more at the end.
    pub(super) async fn settle(&self, life: Life) {
        let Some(shared) = &self.shared else {
            return life.over().await;
        };
        let owed = shared.owed.with(Effects::Live, Arc::clone);
        let (Ok(owed), Ok(client)) = (owed, shared.store.live(Effects::Live)) else {
            return life.over().await;
        };
        let misses = Misses {
            failed: &shared.failed,
            lost: &shared.owed_lost,
        };
        let tell = |key: String, debt: Debt| -> Telling<'_> {
            Box::pin(async move {
                let told = client.add_until(&key, debt.limit, debt.wish(), debt.until);
                told.await.is_ok()
            })
        };
        owed.settle(&life, misses, tell).await;
    }

    async fn take_shared(
        &self,
        shared: &InStore,
        ask: &Ask<'_>,
        effects: Effects,
    ) -> Result<(Standing, Place), Verdict> {
        let client = shared.store.live(effects).map_err(Verdict::Unknown)?;
        let now = self.clock.elapsed();
        let step = self.lease(shared, ask, effects, |lease| {
            lease.admit(now, ask.cost, &ONE)
        })?;
        if let Step::Known(standing) = step {
            return Ok((self.whole(standing, ask), Place::Store));
        }
        let wish = Wish::Take {
            least: ask.cost,
            most: ask.cost,
        };
        // Longer than the period: the clocks of proxies and of the store differ.
        let until = ask.span.ends + GRACE;
        match client
            .add_until(&shared.key(ask), ask.limit, wish, until)
            .await
        {
            Ok(told) => {
                let next = match told.granted == 0 || told.remaining == 0 {
                    true => ask.span.left(self.clock.unix()),
                    false => Duration::ZERO,
                };
                let told = Granted { next, ..told };
                let now = self.clock.elapsed();
                let settle = |lease: &mut Lease| lease.settle(now, ask.cost, told, &ONE);
                let standing = self.lease(shared, ask, effects, settle)?;
                Ok((self.whole(standing, ask), Place::Store))
            }
            Err(failure) => {
                self.lease(shared, ask, effects, Lease::failed)?;
                (shared.failed)(1);
                let standing = self.without_store(shared, ask, effects, &failure)?;
                Ok((standing, Place::Here))
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
            all.with(ask.number, self.keys_per_shard, Lease::default, act)
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
            let admitted = fits(count.uses, ask);
            if admitted {
                count.uses += ask.cost;
            }
            (admitted, count.uses)
        };
        let taken = match effects.is_live() {
            true => self.local.with(effects, |all| {
                self.counted(all.with(ask.number, self.keys_per_shard, new, act))
            }),
            false => self.local.peek(effects, |all| {
                all.peek(ask.number, |count| {
                    let current = count.filter(|count| count.ends >= ends);
                    let uses = current.map_or(0, |count| count.uses);
                    (fits(uses, ask), uses)
                })
            }),
        };
        let (admitted, uses) = taken.map_err(Verdict::Unknown)?;
        let left = ask.span.left(self.clock.unix());
        let remaining = ask.limit.saturating_sub(uses);
        Ok(Standing {
            admitted,
            remaining,
            next: match admitted && remaining > 0 {
                true => Duration::ZERO,
                false => left,
            },
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

impl InStore {
    /// The key of a request's period in the store.
    fn key(&self, ask: &Ask<'_>) -> String {
        format!("{}{}:{}", self.prefix, ask.span.name, ask.text)
    }
}

/// Whether there is room for what a request costs.
fn fits(uses: u64, ask: &Ask<'_>) -> bool {
    ask.limit.saturating_sub(uses) >= ask.cost
}

const ONE: Terms = Terms {
    batch: 1,
    lasts: Duration::from_secs(1),
};
const GRACE: Duration = Duration::from_secs(3600);
