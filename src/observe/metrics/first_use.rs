//! A lock-free list of things made on first use.
//! It must not know what they are.
//! Counters whose label is known only with the event are kept in it.

use std::sync::OnceLock;

/// A map for few keys, filled on first use, read without a lock: chunks of four that never move.
/// A route sees a handful of statuses and causes, the commonest first, so the scan is short.
pub(in crate::observe) struct FirstUse<K, V> {
    slots: [OnceLock<(K, V)>; 4],
    next: OnceLock<Box<FirstUse<K, V>>>,
}

impl<K, V> Default for FirstUse<K, V> {
    fn default() -> Self {
        FirstUse {
            slots: [const { OnceLock::new() }; 4],
            next: OnceLock::new(),
        }
    }
}

impl<K: Copy + PartialEq, V> FirstUse<K, V> {
    /// The value of the key; `make` runs when the key was never used.
    pub(in crate::observe) fn entry(&self, key: K, make: impl Fn() -> V) -> &V {
        let mut chunk = self;
        loop {
            for slot in &chunk.slots {
                // A thread that lost the race for this slot finds the winner's key and goes on.
                let (taken, value) = slot.get_or_init(|| (key, make()));
                if *taken == key {
                    return value;
                }
            }
            chunk = chunk.next.get_or_init(Box::default);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn first_use_keeps_every_key_apart_under_contention() {
        let map: FirstUse<u16, AtomicUsize> = FirstUse::default();

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..50 {
                        map.entry(key, Default::default)
                            .fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });

        for key in 0..50 {
            assert_eq!(map.entry(key, Default::default).load(Ordering::Relaxed), 4);
        }
    }
}
