//! Credentials that bcrypt has found right lately, as hashes under a secret of this process.
//! It must not hold passwords, nor credentials that were wrong: those must cost bcrypt each time.
//! Kept across reloads by the state registry, so that a reload does not make every client wait for bcrypt.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Credentials;

/// Beyond it one is forgotten for each new one; a user has at most one, so few instances get near.
const MOST: usize = 10_000;

/// What is remembered.
pub(super) struct Verified {
    secrets: [RandomState; 2],
    by_name: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    digest: u128,
    until: Duration,
}

impl Verified {
    pub(super) fn new() -> Verified {
        Verified {
            secrets: [RandomState::new(), RandomState::new()],
            by_name: Mutex::default(),
        }
    }

    /// Whether these credentials were right for this hash, and recently enough.
    pub(super) fn knows(&self, credentials: &Credentials, hash: &str, now: Duration) -> bool {
        let digest = self.digest(credentials, hash);
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = by_name.get(&credentials.name);
        // One comparison of the whole number: time does not tell how much of it matched.
        entry.is_some_and(|entry| (entry.digest ^ digest) == 0 && now < entry.until)
    }

    pub(super) fn keep(&self, credentials: &Credentials, hash: &str, until: Duration) {
        let digest = self.digest(credentials, hash);
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if by_name.len() >= MOST && !by_name.contains_key(&credentials.name) {
            let forgotten = by_name.keys().next().cloned();
            forgotten.map(|name| by_name.remove(&name));
        }
        by_name.insert(credentials.name.clone(), Entry { digest, until });
    }

    /// SipHash twice under secrets that never leave the process. The stored hash is part of it, so that a changed
    /// password forgets the old one.
    fn digest(&self, credentials: &Credentials, hash: &str) -> u128 {
        let all = (&credentials.name, &credentials.password, hash);
        let half = |secret: &RandomState| u128::from(secret.hash_one(all));
        half(&self.secrets[0]) << 64 | half(&self.secrets[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, password: &str) -> Credentials {
        Credentials {
            name: name.to_owned(),
            password: password.into(),
        }
    }

    #[test]
    fn only_the_same_name_password_and_hash_are_known() {
        let verified = Verified::new();
        let (now, until) = (Duration::ZERO, Duration::from_secs(1));
        verified.keep(&credentials("ann", "right"), "hash", until);

        assert!(verified.knows(&credentials("ann", "right"), "hash", now));
        assert!(!verified.knows(&credentials("ann", "wrong"), "hash", now));
        assert!(!verified.knows(&credentials("bob", "right"), "hash", now));
        assert!(!verified.knows(&credentials("ann", "right"), "changed", now));
        assert!(!verified.knows(&credentials("ann", "right"), "hash", until));
    }

    #[test]
    fn the_memory_is_bounded() {
        let verified = Verified::new();

        for user in 0..MOST + 100 {
            let user = credentials(&user.to_string(), "p");
            verified.keep(&user, "hash", Duration::from_secs(1));
        }

        assert_eq!(verified.by_name.lock().unwrap().len(), MOST);
    }
}
