//! Counts that several proxies keep together in a store, with uses leased in batches so that most requests do not wait for it.
//! It must not know which store; it asks through the contract, once for a request at most.
//! Asked for each request where a store is named.

use std::time::Duration;

use super::local::Local;
use super::{Algorithm, Config, STORE_UNAVAILABLE};
use crate::contract::{
    Build, Clock, Counter, Granted, Problem, Request, Shared, Store, StoreClient, StoreFailure,
    TokenLaw, Verdict, WindowLaw,
};
use crate::keyed::key::{Key, SharedKey};
use crate::keyed::lease::{Lease, Step, Terms};
use crate::keyed::table::{Table, SHARDS};
use crate::keyed::{OnStoreFailure, Standing};

/// A limit that is kept in a store.
pub(super) struct Counts {
    store: Store,
    law: Law,
    /// What keys begin with.
    prefix: String,
    leases: Shared<Table<Lease>>,
    terms: Terms,
    keys_per_shard: usize,
    on_failure: OnStoreFailure,
    clock: Clock,
    asked: Counter,
    failed: Counter,
    evicted: Counter,
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
        })
    }

    /// Counts a request. `local` counts where the store does not and the settings say so.
    ///
    /// # Errors
    /// It is not counted, and this is to become of it.
    pub(super) async fn take(
        &self,
        key: &Key,
        local: &Local,
        request: &Request<'_>,
    ) -> Result<Standing, Verdict> {
        let client = self.store.live(request.effects).map_err(Verdict::Unknown)?;
        let key = key.shared(request);
        let now = self.clock.elapsed();
        let step = self.lease(request, &key, |lease| lease.admit(now, &self.terms))?;
        let want = match step {
            Step::Known(standing) => return Ok(standing),
            Step::Ask(want) => want,
        };
        (self.asked)(1);
        match self.ask(client, &key, want).await {
            Ok(told) => {
                let now = self.clock.elapsed();
                let settle = |lease: &mut Lease| lease.settle(now, told, &self.terms);
                self.lease(request, &key, settle)
            }
            Err(failure) => {
                self.lease(request, &key, Lease::failed)?;
                (self.failed)(1);
                self.without_store(&key, local, request, &failure)
            }
        }
    }

    fn lease<R>(
        &self,
        request: &Request<'_>,
        key: &SharedKey,
        act: impl FnOnce(&mut Lease) -> R,
    ) -> Result<R, Verdict> {
        let done = self.leases.with(request.effects, |all| {
            all.with(key.number, self.keys_per_shard, Lease::default, act)
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
        key: &SharedKey,
        want: u64,
    ) -> Result<Granted, StoreFailure> {
        let key = format!("{}{}", self.prefix, key.text);
        match self.law {
            Law::Tokens(law) => client.take_tokens(&key, law, want).await,
            Law::Window(law) => client.add_in_window(&key, law, want).await,
        }
    }

    fn without_store(
        &self,
        key: &SharedKey,
        local: &Local,
        request: &Request<'_>,
        failure: &StoreFailure,
    ) -> Result<Standing, Verdict> {
        match self.on_failure {
            OnStoreFailure::Local => {
                let now = self.clock.elapsed();
                let taken = local.take(key.number, now, request.effects);
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
