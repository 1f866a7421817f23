//! Tokens that were found right lately, by their SHA-256, so that one signature is verified once.
//! It must not hold tokens, nor any that was wrong.
//! Asked by the gate before anything else; one for each instance, so that a reload with other keys forgets all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Proven;

/// What is remembered, in parts so that threads seldom wait for each other.
pub(super) struct Remembered {
    shards: Box<[Mutex<Shard>]>,
    most: usize,
}

type Name = [u8; 32];

#[derive(Default)]
struct Shard(HashMap<Name, Arc<Proven>>);

impl Remembered {
    /// Room for as many tokens; none for 0.
    pub(super) fn new(most: usize) -> Remembered {
        let shards = if most < SHARDS * 4 {
            most.min(1)
        } else {
            SHARDS
        };
        Remembered {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            most: most / shards.max(1),
        }
    }

    /// What a token proved to this set of keys, if that still holds.
    pub(super) fn recall(&self, name: &Name, keys: u64, now: Duration) -> Option<Arc<Proven>> {
        let shard = self.shard(name)?;
        let proven = shard.0.get(name)?;
        let holds = proven.keys == keys && proven.span.holds(now).is_ok();
        holds.then(|| proven.clone())
    }

    /// Remembers what a token proves. One is forgotten for each beyond the bound, those that are over first.
    pub(super) fn keep(&self, name: Name, proven: Arc<Proven>, now: Duration) {
        let Some(mut shard) = self.shard(&name) else {
            return;
        };
        if shard.0.len() >= self.most && !shard.0.contains_key(&name) {
            let keys = proven.keys;
            let over = |one: &Proven| one.keys != keys || one.span.holds(now).is_err();
            let some = shard.0.iter().take(LOOKED_AT);
            let mut names = some.map(|(name, proven)| (*name, over(proven)));
            let first = names.next();
            let forgotten = names.find(|(_, is_over)| *is_over).or(first);
            if let Some((name, _)) = forgotten {
                shard.0.remove(&name);
            }
        }
        shard.0.insert(name, proven);
    }

    fn shard(&self, name: &Name) -> Option<MutexGuard<'_, Shard>> {
        let at = usize::from(name[0]) % self.shards.len().max(1);
        let shard = self.shards.get(at)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a token is remembered by. Nobody can make another token with the same.
    pub(super) fn name(token: &[u8]) -> Name {
        Sha256::digest(token).into()
    }
}

const SHARDS: usize = 16;
/// Entries that are looked at for one that is over.
const LOOKED_AT: usize = 8;
