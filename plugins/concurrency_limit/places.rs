//! How many requests of each key are under way: a table that knows only keys with some.
//! It must not know requests; a [`Place`] gives itself back wherever it is dropped.
//! Kept across reloads by the state registry.

use std::collections::hash_map::{DefaultHasher, Entry, RandomState};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Independent locks.
pub(super) const SHARDS: usize = 64;

/// The table.
pub(super) struct Places {
    secrets: [RandomState; 2],
    shards: Vec<Mutex<HashMap<u128, u32>>>,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The key has as many as it may.
    Key,
    /// There are as many keys as may be counted.
    Table,
}

impl Places {
    pub(super) fn new() -> Places {
        Places {
            secrets: [RandomState::new(), RandomState::new()],
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The key of whatever `feed` writes.
    pub(super) fn hash(&self, feed: impl Fn(&mut DefaultHasher)) -> u128 {
        let half = |secret: &RandomState| {
            let mut hasher = secret.build_hasher();
            feed(&mut hasher);
            u128::from(hasher.finish())
        };
        half(&self.secrets[0]) << 64 | half(&self.secrets[1])
    }

    /// Takes a place of the key.
    pub(super) fn take(
        all: &Arc<Places>,
        key: u128,
        max: u32,
        keys_per_shard: usize,
    ) -> Result<Place, Full> {
        let mut shard = all.shard(key);
        let keys = shard.len();
        match shard.entry(key) {
            Entry::Occupied(entry) if *entry.get() >= max => return Err(Full::Key),
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
            Entry::Vacant(_) if keys >= keys_per_shard => return Err(Full::Table),
            Entry::Vacant(entry) => {
                entry.insert(1);
            }
        }
        Ok(Place {
            of: all.clone(),
            key,
        })
    }

    /// How many of the key are taken.
    pub(super) fn used(&self, key: u128) -> u32 {
        self.shard(key).get(&key).copied().unwrap_or(0)
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, HashMap<u128, u32>> {
        let shard = &self.shards[key as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().expect("no test panics inside").len())
            .sum()
    }
}

/// A place, taken until it is dropped.
pub(super) struct Place {
    of: Arc<Places>,
    key: u128,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.of.shard(self.key);
        if let Entry::Occupied(mut entry) = shard.entry(self.key) {
            match *entry.get() {
                0 | 1 => drop(entry.remove()),
                more => *entry.get_mut() = more - 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_keys_without_any_are_forgotten() {
        let all = Arc::new(Places::new());
        let take = |key| Places::take(&all, key, 2, 10);

        let (one, two) = (take(1).ok(), take(1).ok());
        assert!(one.is_some() && two.is_some());
        assert_eq!(take(1).err(), Some(Full::Key));
        assert!(take(2).is_ok(), "another key has places of its own");
        drop(one);
        assert!(take(1).is_ok());
        drop(two);

        assert_eq!(all.keys(), 0);
    }

    #[test]
    fn a_million_keys_one_after_another_leave_nothing_and_at_once_only_the_bound() {
        let all = Arc::new(Places::new());
        for key in 0..1_000_000 {
            assert!(Places::take(&all, key, 1, 1).is_ok());
        }
        assert_eq!(all.keys(), 0);

        let held: Vec<_> = (0..1_000_000)
            .filter_map(|key| Places::take(&all, key, 1, 16).ok())
            .collect();

        assert_eq!((held.len(), all.keys()), (16 * SHARDS, 16 * SHARDS));
        assert_eq!(
            Places::take(&all, 2_000_000, 1, 16).err(),
            Some(Full::Table)
        );
    }

    #[test]
    fn a_smaller_maximum_refuses_until_enough_have_ended() {
        let all = Arc::new(Places::new());
        let mut held: Vec<_> = (0..5)
            .filter_map(|_| Places::take(&all, 1, 5, 1).ok())
            .collect();

        assert!(Places::take(&all, 1, 2, 1).is_err());
        held.truncate(2);
        assert!(Places::take(&all, 1, 2, 1).is_err());
        held.truncate(1);
        assert!(Places::take(&all, 1, 2, 1).is_ok());
    }
}
