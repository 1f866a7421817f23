//! What was invalidated of late, so that a response fetched before is not kept after; and whose responses were not kept.
//! It must not know what is stored.
//! Part of the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::CacheName;

/// The last invalidations, numbered. Who began before the oldest that is known is taken for invalidated.
#[derive(Debug, Default)]
pub(super) struct Invalidations {
    count: u64,
    places: VecDeque<CacheName>,
    /// Nothing that began before is kept.
    all_before: u64,
}

impl Invalidations {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What is at this place is out of date.
    pub(super) fn place(&mut self, place: CacheName) {
        self.count += 1;
        self.places.push_back(place);
        if self.places.len() > MOST_PLACES {
            self.places.pop_front();
        }
    }

    /// All that is being fetched may be out of date.
    pub(super) fn all(&mut self) {
        self.count += 1;
        self.places.clear();
        self.all_before = self.count;
    }

    /// Whether a place was invalidated since.
    pub(super) fn since(&self, since: u64, place: &CacheName) -> bool {
        let later = usize::try_from(self.count.saturating_sub(since)).unwrap_or(usize::MAX);
        if since < self.all_before || later > self.places.len() {
            return later > 0;
        }
        self.places.iter().rev().take(later).any(|one| one == place)
    }
}

/// Keys whose last response was not kept: a bounded table, in which a key may push another out.
#[derive(Debug)]
pub(super) struct Unkept(Box<[AtomicU64]>);

impl Default for Unkept {
    fn default() -> Unkept {
        Unkept((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Unkept {
    fn place(&self, key: &CacheName) -> (&AtomicU64, u64) {
        let number = |from: usize| {
            let bytes = key[from..from + 8].iter();
            bytes.fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let at = usize::try_from(number(0) % PLACES).unwrap_or(0);
        (&self.0[at], number(8) | 1)
    }

    pub(super) fn has(&self, key: &CacheName) -> bool {
        let (place, mark) = self.place(key);
        place.load(Ordering::Relaxed) == mark
    }

    pub(super) fn set(&self, key: &CacheName, is_unkept: bool) {
        let (place, mark) = self.place(key);
        if is_unkept {
            place.store(mark, Ordering::Relaxed);
        } else {
            // Another key's mark stays.
            let _ = place.compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

const MOST_PLACES: usize = 1024;
const PLACES: u64 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_an_invalidation_of_its_place_is_out_of_date() {
        let mut all = Invalidations::default();
        let before = all.count();
        all.place([1; 32]);

        assert!(all.since(before, &[1; 32]));
        assert!(!all.since(before, &[2; 32]));
        assert!(!all.since(all.count(), &[1; 32]));
    }

    #[test]
    fn beyond_what_is_remembered_everything_is_out_of_date() {
        let mut all = Invalidations::default();
        for _ in 0..=MOST_PLACES {
            all.place([1; 32]);
        }

        assert!(all.since(0, &[2; 32]));
        let now = all.count();
        assert!(!all.since(now, &[2; 32]));
        all.all();
        assert!(all.since(now, &[2; 32]));
        assert!(!all.since(all.count(), &[2; 32]));
    }

    #[test]
    fn only_the_key_itself_takes_its_mark_away() {
        let unkept = Unkept::default();
        let (mut one, mut other) = ([7; 32], [7; 32]);
        (one[8], other[8]) = (1, 2);
        unkept.set(&one, true);

        unkept.set(&other, false);
        assert!(unkept.has(&one) && !unkept.has(&other));
        unkept.set(&one, false);
        assert!(!unkept.has(&one));
    }
}
