//! Who the workloads of this node are, and whom they believe.
//! It must not know where certificates come from; sources in `control::identity` put them in, the fast path only reads.
//! What changes outlives reloads in [`Identities`], which every generation's [`Identity`] points into.

mod clock;
mod extensions;
mod id;
mod proof;
mod share;
mod source;
mod svid;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

pub use clock::{Ahead, Clock, NodeClock, SourceState};
pub use id::{IdPattern, SpiffeId, TrustDomain};
pub use proof::{OnExpiry, Proof, Proofs, Scope};
pub use share::{Bounds, Reached, Share, Used};
pub use source::{root_hash, CaSettings, ConsulAddress, ConsulSettings, Source, SpireSocket};
pub use svid::{Bundle, Svid};
pub use verify::{forget_errors, verify, Rejection, Trust, Verified};

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use openssl::stack::StackRef;
use openssl::x509::X509;
use tokio::sync::Notify;

/// The `identity` of one generation.
#[derive(Debug)]
pub struct Identity {
    /// The trust domain of this node's workloads.
    pub trust_domain: TrustDomain,
    /// Where certificates come from.
    pub source: Source,
    /// The workloads, in the order written.
    pub workloads: Vec<Arc<Workload>>,
    /// Files with the roots of other trust domains.
    pub federated: Vec<(TrustDomain, PathBuf)>,
    /// How long a first connection waits for a certificate or an endpoint.
    pub hold: Duration,
    /// What becomes of connections whose other side's certificate ends while they live.
    pub on_expiry: OnExpiry,
    /// What the compiler read, for workloads and trust domains that have nothing yet.
    pub seed: Seed,
    /// What outlives this generation.
    pub registry: Arc<Identities>,
}

/// What the compiler read. Only used where there is nothing better.
#[derive(Debug, Default)]
pub struct Seed {
    /// Certificates by position of the workload.
    pub svids: Vec<Option<Arc<Svid>>>,
    /// Roots of the own trust domain.
    pub own: Option<Arc<Bundle>>,
    /// Roots of others.
    pub federated: HashMap<TrustDomain, Arc<Bundle>>,
}

/// A local workload.
#[derive(Debug)]
pub struct Workload {
    /// Its name in listeners, pools, metrics and logs.
    pub name: Arc<str>,
    /// Who it is.
    pub id: SpiffeId,
    /// How it is known.
    pub matches: Matches,
    /// Its files, where the source is files.
    pub files: Option<SvidFiles>,
    /// What Consul calls it, where the source is Consul.
    pub service: Option<Box<str>>,
    /// How much it may use at a time.
    pub bounds: Bounds,
    /// What it holds now. The same for the same name and ID in every generation.
    pub held: Arc<Held>,
}

/// The files of a workload's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidFiles {
    /// PEM file with the certificate and its chain, leaf first.
    pub cert: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
}

/// How a local workload is known; any of these will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// Listeners that are its own.
    pub listeners: Box<[Box<str>]>,
    /// Ports it is reached at.
    pub ports: Box<[u16]>,
    /// Users it runs as.
    pub users: Box<[u32]>,
    /// Control groups it runs in, or in one below.
    pub cgroups: Box<[Box<str>]>,
}

impl Matches {
    /// Whether it is known by nothing.
    pub fn is_empty(&self) -> bool {
        *self == Matches::default()
    }
}

impl Identity {
    /// The workload of this name.
    pub fn workload(&self, name: &str) -> Option<&Arc<Workload>> {
        self.workloads.iter().find(|one| *one.name == *name)
    }

    /// The workload that this listener belongs to.
    pub fn at_listener(&self, name: &str) -> Option<&Arc<Workload>> {
        self.find(|matches| matches.listeners.iter().any(|one| **one == *name))
    }

    /// The workload that is reached at this port.
    pub fn at_port(&self, port: u16) -> Option<&Arc<Workload>> {
        self.find(|matches| matches.ports.contains(&port))
    }

    /// The workload that runs as this user.
    pub fn of_user(&self, user: u32) -> Option<&Arc<Workload>> {
        self.find(|matches| matches.users.contains(&user))
    }

    /// The workload that runs in this control group; of those within each other, the inner one's.
    pub fn in_cgroup(&self, group: &str) -> Option<&Arc<Workload>> {
        let is_in = |wanted: &str| {
            let below = group.strip_prefix(wanted.trim_end_matches('/'));
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        let inner = |one: &Arc<Workload>| {
            let groups = one.matches.cgroups.iter().filter(|group| is_in(group));
            groups.map(|group| group.trim_end_matches('/').len()).max()
        };
        let all = self.workloads.iter();
        let (_, found) = all
            .filter_map(|one| Some((inner(one)?, one)))
            .max_by_key(|(length, _)| *length)?;
        Some(found)
    }

    /// The workload that runs in the control group of this number.
    pub fn in_group(&self, number: u64) -> Option<&Arc<Workload>> {
        let groups = self.registry.groups.load();
        self.in_cgroup(groups.get(&number)?)
    }

    /// Whether any workload is known by where its process runs.
    pub fn asks_origin(&self) -> bool {
        let by_origin =
            |one: &Arc<Workload>| !one.matches.users.is_empty() || !one.matches.cgroups.is_empty();
        self.workloads.iter().any(by_origin)
    }

    /// The only workload, if it may be any caller: it is known by nothing.
    pub fn only_caller(&self) -> Option<&Arc<Workload>> {
        self.only().filter(|one| one.matches.is_empty())
    }

    /// The only workload, if it may be reached by any way: no port or listener is its own.
    pub fn only_callee(&self) -> Option<&Arc<Workload>> {
        let is_anywhere =
            |matches: &Matches| matches.ports.is_empty() && matches.listeners.is_empty();
        self.only().filter(|one| is_anywhere(&one.matches))
    }

    /// The only workload, if there is one only, however it is known.
    pub fn only(&self) -> Option<&Arc<Workload>> {
        match &*self.workloads {
            [one] => Some(one),
            _ => None,
        }
    }

    fn find(&self, is_meant: impl Fn(&Matches) -> bool) -> Option<&Arc<Workload>> {
        self.workloads.iter().find(|one| is_meant(&one.matches))
    }
}

/// What a workload holds: its certificate right now, and the clock of its renewal.
#[derive(Default)]
pub struct Held {
    svid: ArcSwapOption<Svid>,
    clock: Mutex<Clock>,
    arrived: Notify,
    load: share::Load,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?})", &*self.svid.load())
    }
}

impl Held {
    /// The certificate right now.
    pub fn svid(&self) -> Option<Arc<Svid>> {
        self.svid.load_full()
    }

    /// The certificate; waits for the first one, at most this long.
    pub async fn wait(&self, most: Duration) -> Option<Arc<Svid>> {
        let first = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(svid) = self.svid() {
                    return svid;
                }
                arrived.await;
            }
        };
        match self.svid() {
            Some(svid) => Some(svid),
            None => tokio::time::timeout(most, first).await.ok(),
        }
    }

    /// Puts a certificate into use.
    pub fn put(&self, svid: Arc<Svid>, renew_at: Option<SystemTime>) {
        self.svid.store(Some(svid));
        lock(&self.clock).renewed(SystemTime::now(), renew_at);
        self.arrived.notify_waiters();
    }

    /// Takes the certificate away: its source says that the workload has none any more.
    pub fn withdraw(&self) {
        self.svid.store(None);
    }

    /// Notes that no certificate came; the one in use stays.
    pub fn failed(&self, error: String) {
        lock(&self.clock).failed(SystemTime::now(), error);
    }

    /// Notes that all is as it should be, though nothing new came.
    pub fn is_well(&self) {
        let mut clock = lock(&self.clock);
        (clock.failures, clock.error, clock.failed_at) = (0, None, None);
    }

    /// Moves the next renewal.
    pub fn renew_at(&self, at: SystemTime) {
        lock(&self.clock).renew_at = Some(at);
    }

    /// The clock of its renewal.
    pub fn clock(&self) -> Clock {
        lock(&self.clock).clone()
    }
}

/// Everything about identities that outlives a reload: what workloads hold, whom they believe, how the source is.
#[derive(Default)]
pub struct Identities {
    trust: ArcSwap<Trust>,
    layers: Mutex<Layers>,
    held: Mutex<Known>,
    source: Mutex<SourceState>,
    groups: ArcSwap<Groups>,
    node: Mutex<Option<NodeClock>>,
    ahead: Mutex<Option<Ahead>>,
    proofs: Arc<Proofs>,
    changed: Notify,
}

/// Control groups by the number of their folder: as they, or the ones they are below, are written in a `match`. Whose they are is each
/// generation's own to say.
pub type Groups = HashMap<u64, Arc<str>>;

type Known = HashMap<(Box<str>, SpiffeId), Weak<Held>>;
type Bundles = HashMap<TrustDomain, Arc<Bundle>>;

/// Roots by who brought them. What the operator wrote goes before what the source says of the same domain.
#[derive(Default)]
struct Layers {
    source: Bundles,
    federated: Bundles,
    /// Those of `source` are of another source than the one that runs.
    is_doubted: bool,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({:?})", &**self.trust.load())
    }
}

impl Identities {
    /// What the workload of this name and ID holds; the same for as long as somebody has it.
    pub fn held(&self, name: &str, id: &SpiffeId) -> Arc<Held> {
        let mut known = lock(&self.held);
        known.retain(|_, held| held.strong_count() > 0);
        let key = (name.into(), id.clone());
        if let Some(held) = known.get(&key).and_then(Weak::upgrade) {
            return held;
        }
        let held = Arc::<Held>::default();
        known.insert(key, Arc::downgrade(&held));
        held
    }

    /// Proves the other side of a connection, which is judged again for as long as somebody holds the proof.
    ///
    /// # Errors
    /// Why it proved nothing.
    pub fn prove(
        &self,
        leaf: X509,
        chain: Option<&StackRef<X509>>,
        on_expiry: OnExpiry,
    ) -> Result<Arc<Proof>, Rejection> {
        let trust = || self.trust.load_full();
        self.proofs.prove(leaf, chain, on_expiry, trust)
    }

    /// What the other sides of connections proved.
    pub fn proofs(&self) -> &Arc<Proofs> {
        &self.proofs
    }

    /// Waits until others are believed than before. For one task only.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whom to believe right now.
    pub fn trust(&self) -> Guard<Arc<Trust>> {
        self.trust.load()
    }

    /// The roots that the source gives: all of them; those of other domains given before are gone.
    pub fn set_source_bundles(&self, bundles: Bundles) {
        self.change(|layers| {
            layers.source = bundles;
            layers.is_doubted = false;
        });
    }

    /// Another source has begun, for this trust domain: what the one before gave of others is gone, the rest stays until this one
    /// gives its own, or until [`Identities::drop_doubted`].
    pub fn doubt_source_bundles(&self, is_other_domain: bool, domain: &TrustDomain) {
        self.change(|layers| {
            layers
                .source
                .retain(|one, _| !is_other_domain || one == domain);
            layers.is_doubted = !layers.source.is_empty();
        });
    }

    /// Gives up what the source before gave; `false` where there is nothing of it.
    pub fn drop_doubted(&self) -> bool {
        let is_doubted = lock(&self.layers).is_doubted;
        if is_doubted {
            self.set_source_bundles(HashMap::new());
        }
        is_doubted
    }

    /// The roots of federated trust domains: all of them.
    pub fn set_federated(&self, bundles: Bundles) {
        self.change(|layers| layers.federated = bundles);
    }

    /// The roots that the source gave.
    pub fn source_bundles(&self) -> Bundles {
        lock(&self.layers).source.clone()
    }

    /// The roots of federated trust domains.
    pub fn federated(&self) -> Bundles {
        lock(&self.layers).federated.clone()
    }

    /// The numbers of control groups; `control::identity` keeps them in step.
    pub fn set_groups(&self, groups: Groups) {
        self.groups.store(Arc::new(groups));
    }

    /// How the source is.
    pub fn source(&self) -> SourceState {
        lock(&self.source).clone()
    }

    /// The node's own certificate, where the source gives it one.
    pub fn node(&self) -> Option<NodeClock> {
        lock(&self.node).clone()
    }

    /// Another one, or none.
    pub fn set_node(&self, node: Option<NodeClock>) {
        *lock(&self.node) = node;
    }

    /// How far the authority's clock is ahead of this machine's, as its last answer told.
    pub fn authority_ahead(&self) -> Option<Ahead> {
        *lock(&self.ahead)
    }

    /// The authority told its time.
    pub fn heard_time(&self, theirs: SystemTime) {
        *lock(&self.ahead) = Some(Ahead::now(theirs));
    }

    /// It was not renewed. The same failure is said once.
    pub fn node_failed(&self, error: String) {
        if let Some(node) = &mut *lock(&self.node) {
            node.failures = node.failures.saturating_add(1);
            if node.error.as_ref() != Some(&error) {
                log::error!("the node's own certificate stays as it was: cause={error}");
            }
            node.error = Some(error);
        }
    }

    /// The source answered.
    pub fn source_answered(&self, kind: &'static str) {
        *lock(&self.source) = SourceState {
            kind,
            answered_at: Some(SystemTime::now()),
            ..SourceState::default()
        };
    }

    /// The source did not answer.
    pub fn source_failed(&self, kind: &'static str, error: String) {
        let mut state = lock(&self.source);
        let since = state.failing_since.filter(|_| state.kind == kind);
        *state = SourceState {
            kind,
            answered_at: state.answered_at.filter(|_| state.kind == kind),
            failing_since: since.or_else(|| Some(SystemTime::now())),
            error: Some(error),
        };
    }

    /// Generations count only changes, since connections are told apart by them.
    fn change(&self, change: impl FnOnce(&mut Layers)) {
        let mut layers = lock(&self.layers);
        change(&mut layers);
        let mut bundles = layers.source.clone();
        bundles.extend(layers.federated.clone());
        let before = self.trust.load();
        let is_same = |(domain, bundle): (&TrustDomain, &Arc<Bundle>)| {
            let known = before.bundles.get(domain);
            known.is_some_and(|known| known.fingerprint == bundle.fingerprint)
        };
        if bundles.len() != before.bundles.len() || !bundles.iter().all(is_same) {
            let generation = before.generation + 1;
            self.trust.store(Arc::new(Trust {
                generation,
                bundles,
                since: Some(SystemTime::now()),
            }));
            self.changed.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
