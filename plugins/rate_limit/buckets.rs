//! All buckets of one instance: a bounded table in shards, so that threads rarely wait for each other.
//! It must not know what a key is made of; keys are hashes under a secret that nobody outside can predict.
//! Kept across reloads by the state registry, called by `rate_limit` once per request.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::bucket::{Bucket, Law, Take};

/// Independent locks. Far more than workers, so that two of them rarely meet.
pub(super) const SHARDS: usize = 64;
/// How many buckets are compared to find one to replace: eight come close to the true oldest (Redis uses five).
const SAMPLE: usize = 8;

/// The table.
pub(super) struct Buckets {
    /// Two, for a key of 128 bits: with 64 a collision among 2^32 callers would be likely.
    secrets: [RandomState; 2],
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    places: HashMap<u128, usize>,
    entries: Vec<(u128, Bucket)>,
    /// Where the last search for a bucket to replace ended.
    hand: usize,
}

impl Buckets {
    pub(super) fn new() -> Buckets {
        Buckets {
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

    /// Takes a token from the key's bucket, which is full if it was not there; also says how many were replaced for it.
    pub(super) fn take(
        &self,
        key: u128,
        law: &Law,
        now: Duration,
        keys_per_shard: usize,
    ) -> (Take, u64) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let shard = &self.shards[key as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, evicted) = match shard.places.get(&key) {
            Some(place) => (*place, 0),
            None => shard.insert(key, Bucket::full(law, now), keys_per_shard),
        };
        (shard.entries[place].1.take(law, now), evicted)
    }

    /// What taking a token would give.
    pub(super) fn peek(&self, key: u128, law: &Law, now: Duration) -> Take {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let shard = &self.shards[key as usize % SHARDS];
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let place = shard.places.get(&key);
        let mut copy = place.map_or(Bucket::full(law, now), |place| shard.entries[*place].1);
        copy.take(law, now)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().expect("no test panics inside").entries.len())
            .sum()
    }
}

impl Shard {
    fn insert(&mut self, key: u128, bucket: Bucket, most: usize) -> (usize, u64) {
        let mut evicted = 0;
        // Two at a time at most: after a reload with a smaller bound the table shrinks without a long stop.
        while self.entries.len() >= most.max(1) && evicted < 2 {
            self.evict();
            evicted += 1;
        }
        let place = self.entries.len();
        self.entries.push((key, bucket));
        self.places.insert(key, place);
        (place, evicted)
    }

    /// Removes the bucket of the sample that was unused for longest.
    fn evict(&mut self) {
        let len = self.entries.len();
        let sample = (self.hand..self.hand + SAMPLE.min(len)).map(|place| place % len);
        let oldest = sample.min_by_key(|place| self.entries[*place].1.used());
        self.hand = (self.hand + SAMPLE) % len;
        let Some(place) = oldest else { return };
        let (key, _) = self.entries.swap_remove(place);
        self.places.remove(&key);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(*moved, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: fn() -> Law = || Law::new(1, Duration::from_secs(3600), 1);

    fn take(buckets: &Buckets, caller: u64, now: u64, keys_per_shard: usize) -> (bool, u64) {
        let key = buckets.hash(|hasher| hasher.write_u64(caller));
        let now = Duration::from_millis(now);
        let (take, evicted) = buckets.take(key, &LAW(), now, keys_per_shard);
        (take.admitted, evicted)
    }

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let buckets = Buckets::new();

        assert_eq!(take(&buckets, 1, 0, 10), (true, 0));
        assert_eq!(take(&buckets, 1, 0, 10), (false, 0));
        assert_eq!(take(&buckets, 2, 0, 10), (true, 0));
    }

    #[test]
    fn looking_takes_nothing() {
        let buckets = Buckets::new();
        let key = buckets.hash(|hasher| hasher.write_u64(1));
        let look = || buckets.peek(key, &LAW(), Duration::ZERO).admitted;

        assert!(look() && look());
        assert!(take(&buckets, 1, 0, 10).0);
        assert!(!look());
    }

    #[test]
    fn the_table_never_grows_past_its_bound() {
        let buckets = Buckets::new();

        let evicted: u64 = (0..5_000)
            .map(|caller| take(&buckets, caller, caller, 4).1)
            .sum();

        assert_eq!(buckets.len(), 4 * SHARDS);
        assert_eq!(evicted, 5_000 - 4 * SHARDS as u64);
    }

    #[test]
    fn a_caller_that_keeps_coming_is_not_replaced_by_a_flood_of_others() {
        let buckets = Buckets::new();
        assert!(take(&buckets, 0, 0, 16).0);

        for now in 1..20_000 {
            take(&buckets, now, now, 16);
            assert!(!take(&buckets, 0, now, 16).0, "replaced at {now}");
        }
    }

    #[test]
    fn a_smaller_bound_shrinks_the_table() {
        let buckets = Buckets::new();
        for caller in 0..3_000 {
            take(&buckets, caller, 0, 1_000);
        }

        for caller in 3_000..12_000 {
            take(&buckets, caller, 1, 4);
        }

        assert_eq!(buckets.len(), 4 * SHARDS);
    }
}
