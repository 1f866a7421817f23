//! The names of a snapshot, to look many of them up.
//! It must not know who asks, nor why.
//! Made by `reload` when it lets go of what a configuration does not have any more.

use std::collections::HashSet;

use crate::snapshot::policy::NO_POLICY;
use crate::snapshot::pool::PASSTHROUGH;
use crate::snapshot::quarantine::Kind;
use crate::snapshot::Snapshot;

/// The names of a snapshot, to look many of them up.
pub(super) struct Names<'s> {
    snapshot: &'s Snapshot,
    routes: HashSet<&'s str>,
    pools: HashSet<&'s str>,
}

impl<'s> Names<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Names<'s> {
        let broken = snapshot.quarantined.iter();
        let broken = broken.filter(|one| one.kind == Kind::Pool);
        Names {
            snapshot,
            routes: snapshot.rules.iter().map(|rule| &*rule.route).collect(),
            // A broken pool has not gone away: what it carries goes on.
            pools: snapshot
                .pools
                .iter()
                .map(|pool| &*pool.name)
                .chain(broken.map(|one| &*one.name))
                .collect(),
        }
    }

    pub(super) fn has_listener(&self, name: &str) -> bool {
        self.snapshot.listener(name).is_some()
    }

    pub(super) fn has_route(&self, name: &str) -> bool {
        name == PASSTHROUGH || self.routes.contains(name)
    }

    pub(super) fn has_policy(&self, name: &str) -> bool {
        let mut all = self.snapshot.policies.all.iter();
        name == NO_POLICY || all.any(|policy| *policy.name == *name)
    }

    pub(super) fn has_pool(&self, name: &str) -> bool {
        name == PASSTHROUGH || self.pools.contains(name)
    }
}
