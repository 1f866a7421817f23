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
    /// Broken ones.
    services: Vec<&'s str>,
}

impl<'s> Names<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Names<'s> {
        let broken = |kind| {
            let all = snapshot.quarantined.iter();
            all.filter(move |one| one.kind == kind)
                .map(|one| &*one.name)
        };
        Names {
            snapshot,
            routes: snapshot.rules.iter().map(|rule| &*rule.route).collect(),
            // A broken pool has not gone away: what it carries goes on.
            pools: snapshot
                .pools
                .iter()
                .map(|pool| &*pool.name)
                .chain(broken(Kind::Pool))
                .collect(),
            services: broken(Kind::Service).collect(),
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
        name == PASSTHROUGH || self.pools.contains(name) || self.is_of_broken_service(name)
    }

    /// As for broken pools: those of a service have its name, or it and a port.
    fn is_of_broken_service(&self, name: &str) -> bool {
        let mut all = self.services.iter();
        all.any(|service| {
            let rest = name.strip_prefix(service);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}
