//! Who is guarded by `ssrf_guard`.
//! It must not judge addresses; `snapshot::ssrf` does.
//! Asked by the other parts of `compile`, and by the rules.

use std::sync::Arc;

use crate::config::schema::{Config, Discovery, Guarded, Pool};
use crate::snapshot::net::NetSet;
use crate::snapshot::ssrf::Guard;

/// The guard and what it guards.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    guard: Option<Arc<Guard>>,
    guarded: Vec<Guarded>,
}

impl Guards {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Guards {
        let Some(settings) = &config.ssrf_guard else {
            return Guards::default();
        };
        let nets = |nets: &[ipnet::IpNet]| NetSet::new(nets.iter().copied());
        let guard = Guard::new(nets(&settings.allow), nets(&settings.deny));
        Guards {
            guard: Some(Arc::new(guard)),
            guarded: settings.guarded.clone(),
        }
    }

    /// The guard of a pool.
    pub(in crate::config) fn of_pool(&self, pool: &Pool) -> Option<Arc<Guard>> {
        let is_dns = matches!(pool.discovery, Some(Discovery::Dns(_)));
        let by_default = is_dns && self.guarded.contains(&Guarded::Dns);
        let is_guarded = pool.ssrf_guard.unwrap_or(by_default);
        self.guard.clone().filter(|_| is_guarded)
    }

    /// The guard of something that is no pool of the configuration.
    pub(in crate::config) fn of_kind(&self, kind: Guarded) -> Option<Arc<Guard>> {
        self.guard.clone().filter(|_| self.guarded.contains(&kind))
    }
}
