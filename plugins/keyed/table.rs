//! A bounded table of what is counted by key, in shards, so that threads rarely wait for each other.
//! It must not know what a key is made of or what is counted; keys are hashes that nobody outside can choose to collide.
//! Kept across reloads by the state registry, called by plugins once or twice per request.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Independent locks. Far more than workers, so that two of them rarely meet.
pub(crate) const SHARDS: usize = 64;
/// How many entries are compared to find one to replace: eight come close to the true oldest (Redis uses five).
const SAMPLE: usize = 8;

/// What a table can tell the age of.
pub(crate) trait Aged {
    /// When it was last used, closely enough to find those that nobody uses.
    fn used(&self) -> u64;
}

/// The table.
pub(crate) struct Table<T> {
    /// Two, for a key of 128 bits: with 64 a collision among 2^32 callers would be likely.
    secrets: [RandomState; 2],
    shards: Vec<Mutex<Shard<T>>>,
}

struct Shard<T> {
    places: HashMap<u128, usize>,
    entries: Vec<(u128, T)>,
    /// Where the last search for an entry to replace ended.
    hand: usize,
}

impl<T: Aged> Table<T> {
    pub(crate) fn new() -> Table<T> {
        let shard = || Shard {
            places: HashMap::new(),
            entries: Vec::new(),
            hand: 0,
        };
        Table {
            secrets: [RandomState::new(), RandomState::new()],
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
        }
    }

    /// The key of whatever `feed` writes.
    pub(crate) fn hash(&self, feed: impl Fn(&mut DefaultHasher)) -> u128 {
        let half = |secret: &RandomState| {
            let mut hasher = secret.build_hasher();
            feed(&mut hasher);
            u128::from(hasher.finish())
        };
        half(&self.secrets[0]) << 64 | half(&self.secrets[1])
    }

    /// Runs `act` on the key's entry, made if it was not there; also says how many others were replaced for it.
    pub(crate) fn with<R>(
        &self,
        key: u128,
        keys_per_shard: usize,
        new: impl FnOnce() -> T,
        act: impl FnOnce(&mut T) -> R,
    ) -> (R, u64) {
        let mut shard = self.shard(key);
        let (place, evicted) = match shard.places.get(&key) {
            Some(place) => (*place, 0),
            None => shard.insert(key, new(), keys_per_shard),
        };
        (act(&mut shard.entries[place].1), evicted)
    }

    /// Runs `look` on the key's entry, if there is one.
    pub(crate) fn peek<R>(&self, key: u128, look: impl FnOnce(Option<&T>) -> R) -> R {
        let shard = self.shard(key);
        let place = shard.places.get(&key);
        look(place.map(|place| &shard.entries[*place].1))
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Shard<T>> {
        let shard = &self.shards[key as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().expect("no test panics inside").entries.len())
            .sum()
    }

    /// What it holds of the heap at most, by the room that was made.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        let shards = self.shards.iter().map(|shard| {
            let shard = shard.lock().expect("no test panics inside");
            // A hash map keeps a byte of control beside each place, and an eighth of the places free.
            let places = (shard.places.capacity() * 8 / 7) * (size_of::<(u128, usize)>() + 1);
            places + shard.entries.capacity() * size_of::<(u128, T)>()
        });
        shards.sum()
    }
}

impl<T: Aged> Shard<T> {
    fn insert(&mut self, key: u128, entry: T, most: usize) -> (usize, u64) {
        let mut evicted = 0;
        // Two at a time at most: after a reload with a smaller bound the table shrinks without a long stop.
        while self.entries.len() >= most.max(1) && evicted < 2 {
            self.evict();
            evicted += 1;
        }
        let place = self.entries.len();
        self.entries.push((key, entry));
        self.places.insert(key, place);
        (place, evicted)
    }

    /// Removes the entry of the sample that was unused for longest.
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

    /// Used once, at a time.
    struct Once {
        at: u64,
        uses: u64,
    }

    impl Aged for Once {
        fn used(&self) -> u64 {
            self.at
        }
    }

    /// How often the caller was seen, now included, and how many were replaced.
    fn see(table: &Table<Once>, caller: u64, now: u64, keys_per_shard: usize) -> (u64, u64) {
        let key = table.hash(|hasher| hasher.write_u64(caller));
        let new = || Once { at: now, uses: 0 };
        table.with(key, keys_per_shard, new, |entry| {
            entry.at = now;
            entry.uses += 1;
            entry.uses
        })
    }

    #[test]
    fn each_key_has_an_entry_of_its_own() {
        let table = Table::new();

        assert_eq!(see(&table, 1, 0, 10), (1, 0));
        assert_eq!(see(&table, 1, 0, 10), (2, 0));
        assert_eq!(see(&table, 2, 0, 10), (1, 0));
    }

    #[test]
    fn looking_makes_nothing() {
        let table: Table<Once> = Table::new();
        let key = table.hash(|hasher| hasher.write_u64(1));

        assert!(table.peek(key, |entry| entry.is_none()));
        assert_eq!(table.len(), 0);
        see(&table, 1, 0, 10);
        assert_eq!(table.peek(key, |entry| entry.map(|it| it.uses)), Some(1));
    }

    #[test]
    fn a_million_keys_take_no_more_room_than_the_bound_allows() {
        let table = Table::new();
        let keys_per_shard = 100_000_usize.div_ceil(SHARDS);

        let evicted: u64 = (0..1_000_000)
            .map(|caller| see(&table, caller, caller, keys_per_shard).1)
            .sum();

        assert_eq!(table.len(), keys_per_shard * SHARDS);
        assert_eq!(evicted, 1_000_000 - (keys_per_shard * SHARDS) as u64);
        // Twice what is needed, as tables grow by doubling.
        assert!(table.heap_bytes() < 100_000 * 200, "{}", table.heap_bytes());
    }

    #[test]
    fn a_caller_that_keeps_coming_is_not_replaced_by_a_flood_of_others() {
        let table = Table::new();
        see(&table, 0, 0, 16);

        for now in 1..20_000 {
            see(&table, now, now, 16);
            assert_eq!(see(&table, 0, now, 16).0, now + 1, "replaced at {now}");
        }
    }

    #[test]
    fn a_smaller_bound_shrinks_the_table() {
        let table = Table::new();
        for caller in 0..3_000 {
            see(&table, caller, 0, 1_000);
        }

        for caller in 3_000..12_000 {
            see(&table, caller, 1, 4);
        }

        assert_eq!(table.len(), 4 * SHARDS);
    }
}
