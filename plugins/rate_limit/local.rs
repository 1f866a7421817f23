//! Counts of this process alone, by either algorithm.
//! It must not know requests; keys are numbers.
//! Asked for each request where no store is named, and where a store does not answer and the settings say `local`.

use std::time::Duration;

use super::bucket::{self, Bucket};
use super::window::{self, Window};
use super::{Algorithm, Config};
use crate::contract::{Build, Effects, Shared, Unknown};
use crate::keyed::table::{Table, SHARDS};
use crate::keyed::Standing;

/// Counts by key. They survive a reload; those of the other algorithm begin anew.
pub(super) struct Local {
    counts: Counts,
    keys_per_shard: usize,
}

enum Counts {
    Buckets(bucket::Law, Shared<Table<Bucket>>),
    Windows(window::Law, Shared<Table<Window>>),
}

impl Local {
    pub(super) fn new(config: &Config, law: bucket::Law, build: &Build<'_>) -> Local {
        let counts = match config.algorithm {
            Algorithm::TokenBucket => {
                Counts::Buckets(law, build.shared("the local token buckets", Table::new))
            }
            Algorithm::SlidingWindow => {
                let law = window::Law::new(config.rate, config.per.0);
                Counts::Windows(law, build.shared("the local windows", Table::new))
            }
        };
        Local {
            counts,
            keys_per_shard: config.max_keys.div_ceil(SHARDS),
        }
    }

    /// The number of a key, of what `feed` writes.
    pub(super) fn hash(
        &self,
        effects: Effects,
        feed: impl Fn(&mut std::hash::DefaultHasher),
    ) -> Result<u128, Unknown> {
        match &self.counts {
            Counts::Buckets(_, all) => all.peek(effects, |all| all.hash(feed)),
            Counts::Windows(_, all) => all.peek(effects, |all| all.hash(feed)),
        }
    }

    /// Counts a request of this cost; also says how many other keys were forgotten for it. In a dry run it only looks.
    pub(super) fn take(
        &self,
        key: u128,
        now: Duration,
        cost: u64,
        effects: Effects,
    ) -> Result<(Standing, u64), Unknown> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let most = self.keys_per_shard;
        match &self.counts {
            Counts::Buckets(law, all) if effects.is_live() => all.with(effects, |all| {
                all.with(
                    key,
                    most,
                    || Bucket::full(law, now),
                    |one| one.take(law, now, cost),
                )
            }),
            Counts::Windows(law, all) if effects.is_live() => all.with(effects, |all| {
                all.with(
                    key,
                    most,
                    || Window::new(now),
                    |one| one.take(law, now, cost),
                )
            }),
            Counts::Buckets(law, all) => all.peek(effects, |all| {
                let one = all.peek(key, |one| one.copied());
                (
                    one.unwrap_or(Bucket::full(law, now)).take(law, now, cost),
                    0,
                )
            }),
            Counts::Windows(law, all) => all.peek(effects, |all| {
                let one = all.peek(key, |one| one.copied());
                (one.unwrap_or(Window::new(now)).take(law, now, cost), 0)
            }),
        }
    }

    /// Takes more for a response than was taken for its request, or gives some back; how the key stands, and how many others were
    /// forgotten for it.
    pub(super) fn owe(
        &self,
        key: u128,
        now: Duration,
        uses: i64,
        effects: Effects,
    ) -> Result<(Standing, u64), Unknown> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let most = self.keys_per_shard;
        match &self.counts {
            Counts::Buckets(law, all) => all.with(effects, |all| {
                let full = || Bucket::full(law, now);
                all.with(key, most, full, |one| one.owe(law, now, uses))
            }),
            Counts::Windows(law, all) => all.with(effects, |all| {
                all.with(
                    key,
                    most,
                    || Window::new(now),
                    |one| one.owe(law, now, uses),
                )
            }),
        }
    }
}
