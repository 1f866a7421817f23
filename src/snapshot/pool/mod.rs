//! A pool: how to speak to its endpoints, how to choose, and the set of endpoints right now.
//! It must not know routes, nor how endpoints are found; `control::discovery` stores new sets.
//! Built by `config::compile`.

mod balance;
mod birth;
mod ejection;
mod passthrough;
mod peer;
mod sessions;
mod settings;

pub use balance::*;
pub use birth::Birth;
pub use ejection::*;
pub use passthrough::*;
pub use peer::{Template, H2_WINDOW};
pub use sessions::Sessions;
pub use settings::*;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use windrose_plugins::contract::{causes, Cause};

use super::balance::Table;
use super::budget::Budget;
use super::endpoint::{Address, Endpoint, Endpoints};
use super::gate::Gate;
use super::limits::Limited;
use super::outlier::{Claim, Probe};
use crate::observe::metrics::{Metrics, PoolMetrics};

/// A pool.
pub struct Pool {
    /// Its name: the key across generations.
    pub name: Arc<str>,
    /// Where it is written, as `file:line`.
    pub place: Box<str>,
    /// Settings.
    pub settings: PoolSettings,
    /// The endpoints right now. Shared with the same pool of the next generation while its settings stay the same.
    pub set: Arc<ArcSwap<EndpointSet>>,
    /// Bounds on what it takes at a time; `None` for none.
    pub limits: Option<Limited>,
    /// How many further attempts its requests may make together.
    pub retry_budget: Budget,
    /// What copies of requests pass on their way here. The same in the next generation.
    pub gate: Arc<Gate>,
    /// What calls of plugins pass on their way here. The same in the next generation.
    pub calls: Arc<Gate>,
    /// Counters.
    pub metrics: Arc<PoolMetrics>,
    /// Which of its endpoints are meant, by position in `settings.balance.subsets`; `None` for all. Rules that name a
    /// subset hold the pool as seen through it, with the same endpoints and counters.
    pub subset: Option<u16>,
}

impl Pool {
    /// The pool as seen through one of its subsets.
    pub fn through(&self, subset: u16) -> Pool {
        Pool {
            name: self.name.clone(),
            place: self.place.clone(),
            settings: self.settings.clone(),
            set: self.set.clone(),
            limits: self.limits.clone(),
            retry_budget: self.retry_budget.clone(),
            gate: self.gate.clone(),
            calls: self.calls.clone(),
            metrics: self.metrics.clone(),
            subset: Some(subset),
        }
    }

    /// The same settings and counters over one endpoint.
    pub fn with_one(&self, endpoint: Arc<Endpoint>) -> Pool {
        let member = Member {
            endpoint,
            weight: 1,
            labels: Labels::new(),
            priority: 0,
        };
        let members: Box<[Member]> = Box::new([member]);
        let set = EndpointSet {
            table: Table::with(&self.settings.balance, &members),
            sessions: None,
            local: None,
            birth: None,
            template: Template::default(),
            members,
            forbidden: Box::default(),
        };
        Pool {
            name: self.name.clone(),
            place: self.place.clone(),
            settings: self.settings.clone(),
            set: Arc::new(ArcSwap::from_pointee(set)),
            limits: None,
            retry_budget: self.retry_budget.clone(),
            gate: self.gate.clone(),
            calls: self.calls.clone(),
            metrics: self.metrics.clone(),
            subset: None,
        }
    }

    /// How to connect to a member of one of its sets; `None` for a pool of bytes.
    pub fn peer(&self, set: &EndpointSet, at: usize) -> Option<Box<HttpPeer>> {
        let address = &set.members.get(at)?.endpoint.address;
        set.template.at(&self.name, &self.settings, address)
    }

    /// Counts an attempt at a member for its zone, if the pool knows zones.
    pub fn count_zone(&self, set: &EndpointSet, at: usize) {
        if let Some(is_local) = set.is_local(at) {
            self.metrics.zone(is_local);
        }
    }

    /// The labels its endpoints are chosen by, if it is seen through a subset.
    pub fn subset_labels(&self) -> Option<&Labels> {
        self.settings.balance.subsets.get(usize::from(self.subset?))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.name)
    }
}

/// An endpoint as a source names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Where.
    pub address: Address,
    /// Part of the traffic beside others; 0 for none.
    pub weight: u32,
    /// Labels.
    pub labels: Labels,
    /// Endpoints of a higher one take over when those of lower ones cannot carry the traffic; 0 is first.
    pub priority: u8,
}

/// The highest priority of an endpoint: eight levels are more than anybody keeps in reserve.
pub const MAX_PRIORITY: u8 = 7;

/// An endpoint in a set, with what only this set knows of it.
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Part of the traffic beside others.
    pub weight: u32,
    /// Labels.
    pub labels: Labels,
    /// Its priority; 0 is first.
    pub priority: u8,
}

/// The endpoints of a pool at one moment.
pub struct EndpointSet {
    /// Endpoints, in the order of the source.
    pub members: Box<[Member]>,
    /// What the algorithm needs, built once.
    pub table: Table,
    /// The names of endpoints in cookies, where the pool has such.
    pub sessions: Option<Sessions>,
    /// Whether each member is in the own zone, where the pool knows zones.
    pub local: Option<Box<[bool]>>,
    /// Set where a source has named no endpoints yet.
    pub birth: Option<Birth>,
    /// Endpoints that the source named and the pool's guard forbids, with their place among all.
    pub forbidden: Box<[(usize, EndpointSpec)]>,
    /// How to connect to any of them; `None` for pools of bytes. Made by the first who does.
    pub template: Template,
}

impl Member {
    /// Whether it has all these labels.
    pub fn has(&self, wanted: &Labels) -> bool {
        let has = |(key, value): (&String, &String)| self.labels.get(key) == Some(value);
        wanted.iter().all(has)
    }
}

impl EndpointSet {
    /// A set of these endpoints for a pool with these settings.
    pub fn new(
        pool: &str,
        settings: &PoolSettings,
        specs: &[EndpointSpec],
        endpoints: &Endpoints,
        metrics: &Metrics,
    ) -> EndpointSet {
        let forbids = |spec: &&EndpointSpec| settings.forbids(&spec.address).is_some();
        let members: Box<[Member]> = specs
            .iter()
            .filter(|spec| !forbids(spec))
            .map(|spec| {
                let endpoint = endpoints.endpoint(pool, &spec.address, metrics);
                Member {
                    endpoint,
                    weight: spec.weight,
                    labels: spec.labels.clone(),
                    priority: spec.priority,
                }
            })
            .collect();
        let table = Table::with(&settings.balance, &members);
        let sessions = Sessions::of(&settings.balance, &members);
        let zone = settings.balance.zone.as_ref();
        let is_local = |member: &Member| zone.is_some_and(|one| one.distance(&member.labels) == 0);
        EndpointSet {
            local: zone.map(|_| members.iter().map(is_local).collect()),
            birth: specs.is_empty().then(Birth::now),
            forbidden: specs
                .iter()
                .enumerate()
                .filter(|(_, spec)| forbids(spec))
                .map(|(at, spec)| (at, spec.clone()))
                .collect(),
            template: Template::default(),
            members,
            table,
            sessions,
        }
    }

    /// Whether a member is in the own zone; `None` for pools without zones.
    pub fn is_local(&self, at: usize) -> Option<bool> {
        self.local.as_ref()?.get(at).copied()
    }

    /// Marks endpoints that were not in the set before it, or drained there, as newcomers for slow start. After an empty
    /// set nobody is new: a pool that has just found its endpoints has no others to spare them.
    pub fn greet(&self, before: &EndpointSet, now: u64) {
        let had_traffic = |member: &&Member| member.weight > 0;
        let known: HashSet<&Address> = before
            .members
            .iter()
            .filter(had_traffic)
            .map(|member| &member.endpoint.address)
            .collect();
        if known.is_empty() {
            return;
        }
        let members = self.members.iter().filter(had_traffic);
        for member in members.filter(|member| !known.contains(&member.endpoint.address)) {
            member.endpoint.state.came(now);
        }
    }

    /// Chooses a member by `pick`, and claims an ejected one that waits for a request to try it.
    ///
    /// Of two requests that choose such a member at once one loses the claim, and chooses again: the member is not available
    /// any more. When it is chosen all the same the pool panics, and ejections are ignored.
    pub fn choose(
        &self,
        now: u64,
        pick: impl Fn() -> Option<usize>,
    ) -> Option<(usize, Option<Box<Probe>>)> {
        let mut lost = None;
        for _ in 0..=self.members.len() {
            let at = pick()?;
            match Probe::claim(&self.members.get(at)?.endpoint, now) {
                Claim::Free => return Some((at, None)),
                Claim::Probe(probe) => return Some((at, Some(probe))),
                Claim::Busy if lost == Some(at) => return Some((at, None)),
                Claim::Busy => lost = Some(at),
            }
        }
        lost.map(|at| (at, None))
    }

    /// What a source would have named to get this set.
    pub fn specs(&self) -> Vec<EndpointSpec> {
        let spec = |member: &Member| EndpointSpec {
            address: member.endpoint.address.clone(),
            weight: member.weight,
            labels: member.labels.clone(),
            priority: member.priority,
        };
        let mut specs: Vec<_> = self.members.iter().map(spec).collect();
        for (at, spec) in &self.forbidden {
            specs.insert((*at).min(specs.len()), spec.clone());
        }
        specs
    }

    /// Why there is no member, where there is none.
    pub fn nobody(&self) -> &'static Cause {
        match self.forbidden.is_empty() {
            true => &causes::NO_ENDPOINT,
            false => &causes::ADDRESS_FORBIDDEN,
        }
    }
}

impl PoolSettings {
    /// Why nothing is to connect to an endpoint at this address; `None` where it may.
    pub fn forbids(&self, address: &Address) -> Option<&'static str> {
        match (&self.guard, address) {
            (Some(guard), Address::Tcp(address)) => guard.forbids(address.ip()),
            (None, _) | (_, Address::Unix(_)) => None,
        }
    }
}
