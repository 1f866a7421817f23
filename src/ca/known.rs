//! What the process that serves remembers of certificates that have not ended: their keys, and how many each node has.
//! It must not know files; the log has all of it for the next start.
//! Asked by `enroll` before something is signed, told by `sign` after.

use std::collections::HashMap;

use super::authority::{Refusal, BY_HAND, ITSELF};

/// Keys by hash.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: HashMap<String, Key>,
    live: HashMap<String, usize>,
    /// At this many keys, those whose certificates ended are forgotten: twice as many as were left the last time.
    prune_at: usize,
    /// When that was last done for a node that has too many.
    pruned: u64,
}

#[derive(Debug)]
struct Key {
    ends: u64,
    node: String,
}

impl Known {
    /// A certificate was signed.
    pub(super) fn add(&mut self, key: String, node: &str, ends: u64, now: u64) {
        if self.keys.len() >= self.prune_at.max(FEW) {
            self.prune(now);
        }
        *self.live.entry(node.to_owned()).or_default() += 1;
        let node = node.to_owned();
        self.keys.insert(key, Key { ends, node });
    }

    /// Whether this key may be certified for this node.
    pub(super) fn check(&mut self, key: &str, node: &str, now: u64) -> Result<(), Refusal> {
        if self.keys.get(key).is_some_and(|known| known.ends > now) {
            return Err(Refusal::new(
                409,
                "ca.key_reused",
                "this key was certified before; each certificate wants a fresh one",
            ));
        }
        if self.has_most(node) && now.saturating_sub(self.pruned) >= PRUNE_STEP {
            self.pruned = now;
            self.prune(now);
        }
        match self.has_most(node) {
            false => Ok(()),
            true => Err(Refusal::new(
                429,
                "ca.rate_limited",
                format!("this node has {MOST_OF_NODE} certificates that have not ended"),
            )),
        }
    }

    fn has_most(&self, node: &str) -> bool {
        let live = self.live.get(node).copied().unwrap_or(0);
        live >= MOST_OF_NODE && ![BY_HAND, ITSELF].contains(&node)
    }

    fn prune(&mut self, now: u64) {
        self.keys.retain(|_, key| key.ends > now);
        self.live.clear();
        for key in self.keys.values() {
            *self.live.entry(key.node.clone()).or_default() += 1;
        }
        self.prune_at = self.keys.len() * 2;
    }
}

const FEW: usize = 10_000;
/// More than some thousand workloads need, renewed at half of their certificates' lives.
const MOST_OF_NODE: usize = 10_000;
/// Seconds.
const PRUNE_STEP: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_certificates_and_others_have_theirs() {
        let mut known = Known::default();
        for number in 0..MOST_OF_NODE {
            known.add(number.to_string(), "a", 100, 0);
        }

        let refusal = known.check("fresh", "a", 20).unwrap_err();
        assert_eq!((refusal.status, refusal.cause), (429, "ca.rate_limited"));
        assert_eq!(known.check("fresh", "b", 20), Ok(()));
        assert_eq!(
            known.check("1", "b", 20).unwrap_err().cause,
            "ca.key_reused"
        );
        assert_eq!(known.check("fresh", "a", 101), Ok(()));
        assert!(known.keys.is_empty());
    }
}
