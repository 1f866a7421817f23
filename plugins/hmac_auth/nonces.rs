//! Nonces that were let through, until nobody could repeat them any more.
//! It must not know signatures.
//! Kept across reloads by the state registry, so that a reload is no chance to repeat something.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

type Name = [u8; 16];

/// What came, and until when it is remembered.
#[derive(Default)]
pub(super) struct Nonces {
    most: usize,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    names: HashSet<Name>,
    /// By when they end.
    ends: BTreeSet<(Duration, Name)>,
}

impl Nonces {
    /// Room for as many.
    pub(super) fn new(most: usize) -> Nonces {
        Nonces {
            most,
            all: Mutex::default(),
        }
    }

    /// Whether this one is new, and from now on not any more; none where there is no room.
    pub(super) fn first_time(
        &self,
        key: &str,
        nonce: &str,
        until: Duration,
        now: Duration,
    ) -> Option<bool> {
        let name = name(key, nonce);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((end, over)) = all.ends.first().copied().filter(|(end, _)| *end < now) {
            all.ends.remove(&(end, over));
            all.names.remove(&over);
        }
        if all.names.contains(&name) {
            return Some(false);
        }
        if all.names.len() >= self.most {
            return None;
        }
        all.names.insert(name);
        all.ends.insert((until, name));
        Some(true)
    }
}

/// Half of a SHA-256: nobody finds another nonce with the same. The length keeps key and nonce apart.
fn name(key: &str, nonce: &str) -> Name {
    let mut hash = Sha256::new();
    hash.update(key.len().to_le_bytes());
    hash.update(key);
    hash.update(nonce);
    let mut name = Name::default();
    name.copy_from_slice(&hash.finalize()[..16]);
    name
}
