//! Counts that several proxies keep together in a store, with uses leased in batches so that most requests do not wait for it.
//! It must not know which store; it asks through the contract, once for a request at most.
//! Asked for each request where a store is named.

use std::sync::Arc;
use std::time::Duration;

use super::local::Local;
use super::{Algorithm, Config, STORE_UNAVAILABLE};
use crate::contract::{
    Build, Clock, Counter, Effects, Granted, Life, Problem, Shared, Store, StoreClient,
    StoreFailure, TokenLaw, Verdict, WindowLaw, Wish,
};
use crate::keyed::key::SharedKey;
use crate::keyed::lease::{Lease, Step, Terms};
use crate::keyed::owed::{Debt, Misses, Owed, Telling};
use crate::keyed::table::{Table, SHARDS};
use crate::keyed::{OnStoreFailure, Standing};

/// A limit that is kept in a store.
pub(super) struct Counts {
    store: Store,
    law: Law,
    /// What keys begin with.
    prefix: String,
    leases: Shared<Table<Lease>>,
    owed: Shared<Arc<Owed>>,
    terms: Terms,
    keys_per_shard: usize,
    on_failure: OnStoreFailure,
    clock: Clock,
    asked: Counter,
    failed: Counter,
    evicted: Counter,
    owed_lost: Counter,
}

/// How a request was counted.
pub(super) enum Taken {
    /// In the store, under this key.
    InStore(Standing, String),
    /// In this process, as the store did not answer.
    Here(Standing),
}

enum Law {
    Tokens(TokenLaw),
    Window(WindowLaw),
}

impl Counts {
    pub(super) fn new(config: &Config, name: &str, build: &Build<'_>) -> Result<Counts, Problem> {
        let burst = config.burst.unwrap_or(config.rate);
        let most = match config.algorithm {
            Algorithm::TokenBucket => burst,
            Algorithm::SlidingWindow => config.rate,
        };
        let (law, letter) = match config.algorithm {
            Algorithm::TokenBucket => {
                let law = TokenLaw {
                    rate: config.rate,
                    per: config.per.0,
                    burst,
                };
                (Law::Tokens(law), 't')
            }
            Algorithm::SlidingWindow => {
                let law = WindowLaw {
                    limit: config.rate,
                    per: config.per.0,
                };
                (Law::Window(law), 'w')
            }
        };
        let store = config.store.as_deref().unwrap_or_default();
        Ok(Counts {
            store: build.store("store", store)?,
            law,
            prefix: format!("rate_limit:{letter}:{name}:"),
            leases: build.shared("the leases of a shared limit", Table::new),
            owed: build.shared("what is owed to a shared limit", Arc::default),
            terms: Terms {
                batch: config.batch.unwrap_or((most / 10).clamp(1, 1000)),
                lasts: config.per.0.min(LONGEST_LEASE),
            },
            keys_per_shard: config.max_keys.div_ceil(SHARDS),
            on_failure: config.on_store_failure.unwrap_or_default(),
            clock: build.clock.clone(),
            asked: build.counter("store_asked"),
            failed: build.counter("store_failed"),
            evicted: build.counter("evicted"),
            owed_lost: build.counter("owed_lost"),
        })
    }

    /// Counts a request of this cost. `local` counts where the store does not and the settings say so.
    ///
    /// # Errors
    /// It is not counted, and this is to become of it.
    pub(super) async fn take(
        &self,
        key: &SharedKey,
        cost: u64,
        local: &Local,
        effects: Effects,
    ) -> Result<Taken, Verdict> {
        let client = self.store.live(effects).map_err(Verdict::Unknown)?;
        let cost = cost.min(self.most());
        let text = format!("{}{}", self.prefix, key.text);
        let now = self.clock.elapsed();
        let step = self.lease(key.number, effects, |lease| {
            lease.admit(now, cost, &self.terms)
        })?;
        let most = match step {
            Step::Known(standing) => return Ok(Taken::InStore(standing, text)),
            Step::Ask(most) => most,
        };
        (self.asked)(1);
        match self
            .ask(client, &text, Wish::Take { least: cost, most })
            .await
        {
            Ok(told) => {
                let now = self.clock.elapsed();
                let settle = |lease: &mut Lease| lease.settle(now, cost, told, &self.terms);
                let standing = self.lease(key.number, effects, settle)?;
                Ok(Taken::InStore(standing, text))
            }
            Err(failure) => {
                self.lease(key.number, effects, Lease::failed)?;
                (self.failed)(1);
                let standing = self.without_store(key.number, cost, local, effects, &failure)?;
                Ok(Taken::Here(standing))
            }
        }
    }

    /// Takes more for a response than was taken for its request, or gives some back: from the lease, or beside the response.
    pub(super) fn owe(&self, text: &str, number: u128, uses: i64, effects: Effects) {
        let now = self.clock.elapsed();
        let Ok(uses) = self.lease(number, effects, |lease| lease.owe(now, uses)) else {
            return;
        };
        let debt = Debt {
            number,
            uses,
            limit: 0,
            until: Duration::ZERO,
        };
        let add = |owed: &Arc<Owed>| uses == 0 || owed.add(text.to_owned(), debt);
        if self.owed.with(effects, add) == Ok(false) {
            (self.owed_lost)(1);
        }
    }

    /// Tells the store what is owed, again until it answers, and once more at the end.
    pub(super) async fn settle(&self, life: Life) {
        let owed = self.owed.with(Effects::Live, Arc::clone);
        let (Ok(owed), Ok(client)) = (owed, self.store.live(Effects::Live)) else {
            return life.over().await;
        };
        let misses = Misses {
            failed: &self.failed,
            lost: &self.owed_lost,
        };
        let tell = |key: String, debt: Debt| -> Telling<'_> {
            Box::pin(async move {
                let Ok(told) = self.ask(client, &key, debt.wish()).await else {
                    return false;
                };
                let now = self.clock.elapsed();
                // Traffic's own table: it is there.
                let _ = self.lease(debt.number, Effects::Live, |lease| lease.owed(now, told));
                true
            })
        };
        owed.settle(&life, misses, tell).await;
    }

    /// What there is at once.
    fn most(&self) -> u64 {
        match self.law {
            Law::Tokens(law) => law.burst,
            Law::Window(law) => law.limit,
        }
    }

    fn lease<R>(
        &self,
        number: u128,
        effects: Effects,
        act: impl FnOnce(&mut Lease) -> R,
    ) -> Result<R, Verdict> {
        let done = self.leases.with(effects, |all| {
            all.with(number, self.keys_per_shard, Lease::default, act)
        });
        let (done, evicted) = done.map_err(Verdict::Unknown)?;
        if evicted > 0 {
            (self.evicted)(evicted);
        }
        Ok(done)
    }

    async fn ask(
        &self,
        client: &dyn StoreClient,
        key: &str,
        wish: Wish,
    ) -> Result<Granted, StoreFailure> {
        match self.law {
            Law::Tokens(law) => client.take_tokens(key, law, wish).await,
            Law::Window(law) => client.add_in_window(key, law, wish).await,
        }
    }

    fn without_store(
        &self,
        number: u128,
        cost: u64,
        local: &Local,
        effects: Effects,
        failure: &StoreFailure,
    ) -> Result<Standing, Verdict> {
        match self.on_failure {
            OnStoreFailure::Local => {
                let now = self.clock.elapsed();
                let taken = local.take(number, now, cost, effects);
                let (take, evicted) = taken.map_err(Verdict::Unknown)?;
                if evicted > 0 {
                    (self.evicted)(evicted);
                }
                Ok(take)
            }
            OnStoreFailure::Open => Err(Verdict::Continue),
            OnStoreFailure::Closed => Err(Verdict::Failed {
                cause: &STORE_UNAVAILABLE,
                reason: format!("store \"{}\": {failure}", self.store.name()),
            }),
        }
    }
}

/// Uses that were taken and not used within this time are lost to everybody, so it is short.
const LONGEST_LEASE: Duration = Duration::from_secs(1);
