//! What a request reads: one immutable picture of the configuration, with state that outlives it behind stable keys.
//! It must not know who fills it (`config`) or who reads it (`proxy`, `control`).
//! Published by `control::reload` through [`Current`]; every request holds the one it started with.

pub mod balance;
pub mod budget;
pub mod call;
pub mod capture;
pub mod certs;
pub mod chain;
pub mod endpoint;
pub mod gate;
pub mod identity;
pub mod idle;
pub mod incoming;
pub mod lease;
pub mod limits;
pub mod listener;
pub mod mtls;
pub mod net;
pub mod outlier;
pub mod own;
pub mod policy;
pub mod pool;
pub mod quarantine;
pub mod route;
pub mod secrets;
pub mod shadow;
pub mod ssrf;
pub mod store;
pub mod tls;
pub mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ahash::{AHashMap, AHashSet};
use arc_swap::{ArcSwap, Guard};
use http::HeaderName;

use chain::Instance;
use identity::Identity;
use limits::{Bounds, Overload};
use listener::{Bind, Listener};
use net::NetSet;
use policy::Policies;
use pool::Pool;
use quarantine::{Kind, Quarantined};
use route::Rule;
use secrets::Secrets;
use store::Stores;

use crate::observe::trace::Sampler;

/// The configuration in force for a request.
#[derive(Clone)]
pub struct Snapshot {
    /// Counts up with every reload that was published.
    pub generation: u64,
    /// SHA-256 of everything that was read, in hex.
    pub digest: String,
    /// When it was built.
    pub built: SystemTime,
    /// Listeners in the order written.
    pub listeners: Vec<Arc<Listener>>,
    /// Rules in the order written.
    pub rules: Vec<Arc<Rule>>,
    /// Pools in the order written.
    pub pools: Vec<Arc<Pool>>,
    /// Where the admin address is bound, if there is one.
    pub admin: Option<Bind>,
    /// What plugins share with other proxies.
    pub stores: Stores,
    /// Who may call what. Candidates hold those that are for them.
    pub policies: Policies,
    /// Whose clients see the cause in `x-windrose-why`.
    pub show_cause_to: NetSet,
    /// Which requests are traced.
    pub sampler: Sampler,
    /// From when on the process is overloaded; `None` for never.
    pub overload: Option<Bounds>,
    /// How overloaded it is. The same for every generation.
    pub pressure: Arc<Overload>,
    /// How much of bodies may be held for plugins, and how long they may take to come.
    pub bodies: BodyBounds,
    /// The effective configuration as YAML, secrets redacted.
    pub effective: String,
    /// What must not be shown of it.
    pub secrets: Arc<Secrets>,
    /// What `check` warns about.
    pub warnings: Vec<String>,
    /// Broken objects that a marked answer stands in for.
    pub quarantined: Vec<Quarantined>,
    /// Who the workloads of this node are; `None` without `identity`.
    pub identity: Option<Arc<Identity>>,
    /// Positions of listeners by name; filled in by [`Snapshot::new`].
    pub by_name: AHashMap<Arc<str>, usize>,
}

/// Bounds of request bodies that are read because a plugin wants to see them whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyBounds {
    /// Bytes of all of them in the process.
    pub most: u64,
    /// Time for one to come.
    pub time: Duration,
}

impl Snapshot {
    /// Finishes a snapshot: indexes its listeners.
    pub fn new(mut parts: Snapshot) -> Snapshot {
        let names = parts.listeners.iter().enumerate();
        parts.by_name = names
            .map(|(at, listener)| (listener.name.clone(), at))
            .collect();
        parts
    }

    /// The same once more, to be published as another generation.
    pub fn again(&self, generation: u64) -> Snapshot {
        Snapshot {
            generation,
            ..self.clone()
        }
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.by_name.get(name).map(|at| &self.listeners[*at])
    }

    /// Every plugin instance in use, once.
    pub fn instances(&self) -> Vec<&Arc<Instance>> {
        let listeners = self.listeners.iter().map(|listener| &listener.chain);
        let rules = self.rules.iter().map(|rule| &rule.chain);
        let mut seen = AHashSet::new();
        let all = listeners.chain(rules).flat_map(|chain| &chain.all);
        all.filter(|one| seen.insert(Arc::as_ptr(one))).collect()
    }

    /// Whether a listener takes connections that were made for somebody else.
    pub fn captures(&self) -> bool {
        self.listeners
            .iter()
            .any(|listener| listener.capture.is_some())
    }

    /// The broken object of this kind and name, if it is one.
    pub fn quarantined(&self, kind: Kind, name: &str) -> Option<&Quarantined> {
        let mut all = self.quarantined.iter();
        all.find(|one| one.kind == kind && *one.name == *name)
    }

    /// Whether a pool believes the system's authorities.
    pub fn believes_system(&self) -> bool {
        let mut tls = self
            .pools
            .iter()
            .filter_map(|pool| pool.settings.tls.as_ref());
        tls.any(|tls| tls.believes_system())
    }

    /// The field in which trusted callers name the class of a request.
    pub fn priority_header(&self) -> Option<&HeaderName> {
        self.overload.as_ref()?.header.as_ref()
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }
}

/// The snapshot new requests start with.
pub struct Current(ArcSwap<Snapshot>);

impl Current {
    /// Starts with this one.
    pub fn new(snapshot: Snapshot) -> Current {
        watch(&snapshot);
        Current(ArcSwap::from_pointee(snapshot))
    }

    /// The snapshot right now, to hold for a whole request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The snapshot right now, for a short look.
    pub fn peek(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Makes this the snapshot of new requests.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        watch(&snapshot);
        self.0.store(snapshot);
    }
}

/// Where connections are captured the process has to know its own.
fn watch(snapshot: &Snapshot) {
    if snapshot.captures() {
        own::watch();
    }
}
