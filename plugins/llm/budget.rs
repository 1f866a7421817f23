//! A budget: what a caller has left in the window, taken before a request goes on and corrected when it is over.
//! It must not know models or answers; it counts tokens for keys.
//! Asked by `llm` once for each request, and told once.

use std::sync::Arc;
use std::time::Duration;

use super::causes::{NO_OUTCOME, STORE_UNAVAILABLE};
use super::settings::{self, below, Reserve, MOST};
use crate::contract::{
    Build, Clock, Counter, Effects, Granted, Life, Problem, Request, Shared, Store, StoreFailure,
    Verdict, Wish,
};
use crate::keyed::key::{Key, Settings, SharedKey};
use crate::keyed::lease::{Lease, Step, Terms};
use crate::keyed::owed::{Debt, Misses, Owed, Telling};
use crate::keyed::own::Own;
use crate::keyed::table::{Aged, Table, SHARDS};
use crate::keyed::OnStoreFailure;

/// The budget.
pub(super) struct Budget {
    key: Key,
    limit: u64,
    own: Own,
    /// Seconds in a window.
    per: u64,
    reserve: Reserve,
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
    /// Only for refusals: nothing is taken ahead.
    refusals: Shared<Table<Lease>>,
    on_failure: OnStoreFailure,
    failed: Counter,
    lost: Counter,
    owed: Shared<Arc<Owed>>,
}

/// What one key used in a window.
struct Count {
    /// When the window ends, in seconds since 1970, which tells it from others.
    ends: u64,
    tokens: u64,
    used: u64,
}

impl Aged for Count {
    fn used(&self) -> u64 {
        self.used
    }
}

/// How a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stood {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Time until the next window.
    pub(super) left: Duration,
}

/// What was taken for a request.
pub(super) struct Taken {
    pub(super) stood: Stood,
    pub(super) reserved: u64,
    key: SharedKey,
    /// The window it was reserved in.
    ends: u64,
    place: Place,
}

/// Where it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Store,
}

/// Why nothing was taken.
pub(super) enum NotTaken {
    /// There is not enough left.
    Refused(Stood),
    /// The store was not or cannot be asked.
    Otherwise(Verdict),
}

/// A question for tokens.
struct Ask {
    key: SharedKey,
    limit: u64,
    /// What is to be left at least.
    needs: u64,
    /// What counts from now on.
    reserves: u64,
    ends: u64,
    left: Duration,
}

impl Budget {
    pub(super) fn of(
        settings: &settings::Budget,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Budget> {
        let mut found = Vec::new();
        let key = Settings {
            key: &settings.key,
            ipv4_prefix: settings.ipv4_prefix,
            ipv6_prefix: settings.ipv6_prefix,
            consumers: build.consumers,
        };
        let key = Key::of(&key, &mut found);
        let entry = settings.limit_from.as_deref();
        let own = Own::of(entry, "limit_from", MOST, build, &mut found);
        let shared = settings
            .store
            .as_ref()
            .map(|store| InStore::of(store, settings, build));
        let shared = shared.transpose().map_err(|problem| found.push(problem));
        problems.extend(found.into_iter().map(below));
        Some(Budget {
            key,
            limit: settings.limit,
            own,
            per: settings.per.0.as_secs().max(1),
            reserve: settings.reserve,
            shared: shared.ok()?,
            local: build.shared("the local token budgets", Table::new),
            keys_per_shard: settings.max_keys.div_ceil(SHARDS),
            clock: build.clock.clone(),
            evicted: build.counter("evicted"),
        })
    }

    /// Whether there is a store.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Tells the store what is owed, again until it answers, and once more at the end.
    pub(super) async fn tell(&self, life: Life) {
        let Some(shared) = &self.shared else {
            return life.over().await;
        };
        let owed = shared.owed.with(Effects::Live, Arc::clone);
        let (Ok(owed), Ok(client)) = (owed, shared.store.live(Effects::Live)) else {
            return life.over().await;
        };
        let misses = Misses {
            failed: &shared.failed,
            lost: &shared.lost,
        };
        let tell = |key: String, debt: Debt| -> Telling<'_> {
            Box::pin(async move {
                let told = client.add_until(&key, debt.limit, debt.wish(), debt.until);
                told.await.is_ok()
            })
        };
        owed.settle(&life, misses, tell).await;
    }

    /// Takes what a request is expected to use.
    ///
    /// # Errors
    /// Nothing is counted, and why.
    pub(super) async fn take(
        &self,
        request: &Request<'_>,
        estimate: u64,
    ) -> Result<Taken, NotTaken> {
        let said = self.key.said(request).map_err(|reason| {
            NotTaken::Otherwise(Verdict::Failed {
                cause: &NO_OUTCOME,
                reason,
            })
        })?;
        let (ends, left) = self.window();
        let (needs, reserves) = match self.reserve {
            Reserve::Estimate => (estimate.max(1), estimate),
            Reserve::Nothing => (1, 0),
        };
        let ask = Ask {
            key: self.key.shared(request, &said),
            limit: self.own.limit(request).unwrap_or(self.limit),
            needs,
            reserves,
            ends,
            left,
        };
        match &self.shared {
            Some(shared) => self.take_shared(shared, ask, request.effects).await,
            None => self.take_here(ask, request.effects),
        }
    }

    /// When the window ends, in seconds since 1970, and how long that is.
    fn window(&self) -> (u64, Duration) {
        let now = self.clock.unix();
        let ends = (now.as_secs() / self.per + 1).saturating_mul(self.per);
        (ends, Duration::from_secs(ends).saturating_sub(now))
    }

    fn take_here(&self, ask: Ask, effects: Effects) -> Result<Taken, NotTaken> {
        let act = |tokens: u64| {
            let room = ask.limit.saturating_sub(tokens);
            (ask.needs <= room, room)
        };
        let judged = match effects.is_live() {
            true => self.local.with(effects, |all| {
                self.counted(all, ask.key.number, ask.ends, |count| {
                    let (admitted, room) = act(count.tokens);
                    if admitted {
                        count.tokens = count.tokens.saturating_add(ask.reserves);
                    }
                    (admitted, room)
                })
            }),
            false => self.local.peek(effects, |all| {
                all.peek(ask.key.number, |count| {
                    let current = count.filter(|count| count.ends >= ask.ends);
                    act(current.map_or(0, |count| count.tokens))
                })
            }),
        };
        match judged {
            Err(unknown) => Err(NotTaken::Otherwise(Verdict::Unknown(unknown))),
            Ok((false, room)) => Err(NotTaken::Refused(ask.stood(room))),
            Ok((true, room)) => Ok(ask.taken(room, Place::Here)),
        }
    }

    /// Runs `act` on what a key used in the window that ends then, or in a later one.
    fn counted<R>(
        &self,
        all: &Table<Count>,
        key: u128,
        ends: u64,
        act: impl FnOnce(&mut Count) -> R,
    ) -> R {
        let now = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let new = || Count {
            ends,
            tokens: 0,
            used: now,
        };
        let (done, evicted) = all.with(key, self.keys_per_shard, new, |count| {
            count.used = now;
            // A clock that was set back does not begin an old window anew.
            if count.ends < ends {
                (count.ends, count.tokens) = (ends, 0);
            }
            act(count)
        });
        if evicted > 0 {
            (self.evicted)(evicted);
        }
        done
    }

    async fn take_shared(
        &self,
        shared: &InStore,
        ask: Ask,
        effects: Effects,
    ) -> Result<Taken, NotTaken> {
        let unknown = |unknown| NotTaken::Otherwise(Verdict::Unknown(unknown));
        let client = shared.store.live(effects).map_err(unknown)?;
        let number = ask.key.number;
        let now = self.clock.elapsed();
        let known = self.refusals(shared, number, effects, |lease| {
            lease.admit(now, ask.needs, &ONE)
        })?;
        if let Step::Known(standing) = known {
            return Err(NotTaken::Refused(ask.stood(standing.remaining)));
        }
        let key = shared.key(ask.ends, &ask.key.text);
        let wish = match ask.reserves {
            // To know what is left.
            0 => Wish::Owe(0),
            all => Wish::Take {
                least: all,
                most: all,
            },
        };
        let until = Duration::from_secs(ask.ends) + GRACE;
        let told = match client.add_until(&key, ask.limit, wish, until).await {
            Ok(told) => told,
            Err(failure) => {
                self.refusals(shared, number, effects, Lease::failed)?;
                (shared.failed)(1);
                return self.without_store(shared, ask, effects, &failure);
            }
        };
        let room = told.remaining.saturating_add(told.granted);
        let is_enough = room >= ask.needs && told.granted == ask.reserves;
        let known = Granted {
            granted: if is_enough { ask.needs } else { 0 },
            remaining: room,
            next: if is_enough { Duration::ZERO } else { ask.left },
            full: ask.left,
        };
        let now = self.clock.elapsed();
        self.refusals(shared, number, effects, |lease| {
            lease.settle(now, ask.needs, known, &ONE)
        })?;
        match is_enough {
            true => Ok(ask.taken(room, Place::Store)),
            false => Err(NotTaken::Refused(ask.stood(room))),
        }
    }

    fn refusals<R>(
        &self,
        shared: &InStore,
        key: u128,
        effects: Effects,
        act: impl FnOnce(&mut Lease) -> R,
    ) -> Result<R, NotTaken> {
        let done = shared.refusals.with(effects, |all| {
            all.with(key, self.keys_per_shard, Lease::default, act)
        });
        let (done, evicted) =
            done.map_err(|unknown| NotTaken::Otherwise(Verdict::Unknown(unknown)))?;
        if evicted > 0 {
            (self.evicted)(evicted);
        }
        Ok(done)
    }

    fn without_store(
        &self,
        shared: &InStore,
        ask: Ask,
        effects: Effects,
        failure: &StoreFailure,
    ) -> Result<Taken, NotTaken> {
        match shared.on_failure {
            OnStoreFailure::Local => self.take_here(ask, effects),
            OnStoreFailure::Open => {
                let room = ask.limit;
                let ask = Ask { reserves: 0, ..ask };
                Ok(ask.taken(room, Place::Store))
            }
            OnStoreFailure::Closed => Err(NotTaken::Otherwise(Verdict::Failed {
                cause: &STORE_UNAVAILABLE,
                reason: format!("store \"{}\": {failure}", shared.store.name()),
            })),
        }
    }

    /// A request is over, and has used so many.
    pub(super) fn settle(&self, taken: &Taken, used: u64) {
        let (ends, _) = self.window();
        let more = used.saturating_sub(taken.reserved);
        // What was reserved in a window that is over is gone with it.
        let less = match taken.ends == ends {
            true => taken.reserved.saturating_sub(used),
            false => 0,
        };
        if more == 0 && less == 0 {
            return;
        }
        match (taken.place, &self.shared) {
            (Place::Store, Some(shared)) => {
                let owes = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
                let debt = Debt {
                    number: taken.key.number,
                    uses: owes(more) - owes(less),
                    limit: taken.stood.limit,
                    until: Duration::from_secs(ends) + GRACE,
                };
                shared.owe(shared.key(ends, &taken.key.text), debt);
            }
            (Place::Here, _) | (Place::Store, None) => {
                // Live, as only traffic takes anything.
                let _ = self.local.with(Effects::Live, |all| {
                    self.counted(all, taken.key.number, ends, |count| {
                        count.tokens = count.tokens.saturating_add(more).saturating_sub(less);
                    });
                });
            }
        }
    }
}

impl InStore {
    fn of(store: &str, settings: &settings::Budget, build: &Build<'_>) -> Result<InStore, Problem> {
        let name = settings.name.as_deref().unwrap_or(build.instance);
        Ok(InStore {
            store: build.store("store", store)?,
            prefix: format!("llm:{name}:"),
            refusals: build.shared("the refusals of a shared budget", Table::new),
            on_failure: settings.on_store_failure.unwrap_or_default(),
            failed: build.counter("store_failed"),
            lost: build.counter("owed_lost"),
            owed: build.shared("what is owed to a shared budget", Arc::default),
        })
    }

    fn key(&self, ends: u64, key: &str) -> String {
        format!("{}{ends}:{key}", self.prefix)
    }

    fn owe(&self, key: String, debt: Debt) {
        // Live, as only traffic takes anything.
        if self.owed.with(Effects::Live, |owed| owed.add(key, debt)) == Ok(false) {
            (self.lost)(1);
        }
    }
}

impl Ask {
    fn stood(&self, remaining: u64) -> Stood {
        Stood {
            limit: self.limit,
            remaining,
            left: self.left,
        }
    }

    fn taken(self, room: u64, place: Place) -> Taken {
        Taken {
            stood: self.stood(room.saturating_sub(self.reserves)),
            reserved: self.reserves,
            key: self.key,
            ends: self.ends,
            place,
        }
    }
}

const ONE: Terms = Terms {
    batch: 1,
    lasts: Duration::from_secs(1),
};
/// The clocks of proxies and of the store differ.
const GRACE: Duration = Duration::from_secs(60);
