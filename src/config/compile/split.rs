//! Splits: shares with their pools, what keeps users in them, and who may choose one.
//! It must not know how a share is chosen.
//! Called by `routes` for each rule that has a split.

use crate::config::schema;
use crate::snapshot::net::NetSet;
use crate::snapshot::route::{
    Guard, Override, OverrideBy, PrincipalPattern, Share, Split, StickyKey, Target,
};

use super::routes::Workshop;

impl Workshop<'_> {
    /// The split of a rule; `None` where rules have found it impossible.
    pub(super) fn split(&self, route: &str, rule: &schema::Rule) -> Option<Split> {
        let share = |target: &schema::SplitTarget| {
            let name = target.name.as_deref().unwrap_or(&target.pool);
            let pool = self.pool(&target.pool, &target.subset).map(Target::Pool);
            let broken = || Target::Quarantined(target.pool.as_str().into());
            let metrics = self.means.metrics.share(route, name);
            Share::new(name, target.weight, pool.unwrap_or_else(broken), metrics)
        };
        let sticky = match &rule.sticky {
            Some(key) => Some(sticky(key)?),
            None => None,
        };
        let overriding = match &rule.overriding {
            Some(by) => Some(overriding(by)?),
            None => None,
        };
        let shares = rule.split.iter().map(share).collect();
        Split::new(shares, sticky, overriding)
    }
}

fn sticky(key: &schema::Sticky) -> Option<StickyKey> {
    Some(match key {
        schema::Sticky::ClientIp => StickyKey::ClientIp,
        schema::Sticky::Principal => StickyKey::Principal,
        schema::Sticky::Header(name) => StickyKey::Header(name.parse().ok()?),
        schema::Sticky::Cookie(name) => StickyKey::Cookie(name.as_str().into()),
        schema::Sticky::Query(name) => StickyKey::Query(name.as_str().into()),
    })
}

fn overriding(given: &schema::Override) -> Option<Override> {
    let by = match (&given.header, &given.cookie) {
        (Some(name), _) => OverrideBy::Header(name.parse().ok()?),
        (None, Some(name)) => OverrideBy::Cookie(name.as_str().into()),
        (None, None) => return None,
    };
    Some(Override {
        by,
        guard: guard(&given.principals, &given.clients),
    })
}

/// Whom something is for.
pub(super) fn guard(principals: &[String], clients: &[ipnet::IpNet]) -> Guard {
    Guard {
        principals: principals
            .iter()
            .map(|id| PrincipalPattern::new(id))
            .collect(),
        clients: NetSet::new(clients.iter().copied()),
    }
}
