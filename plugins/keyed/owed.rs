//! What keys still owe a store, or have to get back: known only with responses, and told to the store beside them.
//! It must not know the store; a task of the plugin asks it.
//! Kept over reloads by the plugins that count in stores.

use std::collections::HashMap;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use crate::contract::{Counter, Life, Wish};

/// Debts by the store's key, each a sum.
#[derive(Default)]
pub(crate) struct Owed {
    debts: Mutex<HashMap<String, Debt>>,
    some: Notify,
}

/// What one key owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Debt {
    /// The key in tables.
    pub(crate) number: u128,
    /// Uses; less than zero where some are to be given back.
    pub(crate) uses: i64,
    /// What bounds the key's count, where there are several.
    pub(crate) limit: u64,
    /// When the count ends, since 1970.
    pub(crate) until: Duration,
}

impl Debt {
    /// As stores are asked.
    pub(crate) fn wish(&self) -> Wish {
        match u64::try_from(self.uses) {
            Ok(uses) => Wish::Owe(uses),
            Err(_) => Wish::Return(self.uses.unsigned_abs()),
        }
    }
}

/// A store that is told of a debt.
pub(crate) type Telling<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What is counted when a store does not answer: that it did not, and debts that nobody will tell it of.
pub(crate) struct Misses<'a> {
    pub(crate) failed: &'a Counter,
    pub(crate) lost: &'a Counter,
}

impl Owed {
    /// Adds to what a key owes. `false` when too many owe something, and this is forgotten.
    pub(crate) fn add(&self, key: String, debt: Debt) -> bool {
        let mut debts = self.debts();
        if debts.len() >= MOST && !debts.contains_key(&key) {
            return false;
        }
        let known = debts.entry(key).or_insert(Debt { uses: 0, ..debt });
        known.uses = known.uses.saturating_add(debt.uses);
        drop(debts);
        self.some.notify_one();
        true
    }

    /// Tells a store of each debt while the task lives, again until it answers, and once more at the end. `tell` says whether it did.
    pub(crate) async fn settle<'a>(
        &self,
        life: &Life,
        misses: Misses<'_>,
        tell: impl Fn(String, Debt) -> Telling<'a> + Send + Sync,
    ) {
        while self.some(life).await {
            while !self.told(&misses, &tell).await {
                if !life.rest(AGAIN).await {
                    break;
                }
            }
        }
        self.told(&misses, &tell).await;
    }

    /// Whether the store has heard of all of them.
    async fn told<'a>(
        &self,
        misses: &Misses<'_>,
        tell: &(impl Fn(String, Debt) -> Telling<'a> + Send + Sync),
    ) -> bool {
        while let Some((key, debt)) = self.next() {
            if !tell(key.clone(), debt).await {
                (misses.failed)(1);
                if !self.add(key, debt) {
                    (misses.lost)(1);
                }
                return false;
            }
        }
        true
    }

    /// One debt, which is the caller's now.
    fn next(&self) -> Option<(String, Debt)> {
        let mut debts = self.debts();
        loop {
            let key = debts.keys().next()?.clone();
            let debt = debts.remove(&key)?;
            if debt.uses != 0 {
                return Some((key, debt));
            }
        }
    }

    /// Waits until somebody owes something. `false` when the task shall end.
    async fn some(&self, life: &Life) -> bool {
        let mut over = pin!(life.over());
        let mut some = pin!(self.some.notified());
        poll_fn(|cx| {
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            some.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    fn debts(&self) -> MutexGuard<'_, HashMap<String, Debt>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that may owe something at a time.
const MOST: usize = 100_000;
/// Time before a store that did not answer is told again.
const AGAIN: Duration = Duration::from_secs(1);
