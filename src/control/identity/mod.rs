//! Keeps identities in step with their source: certificates of workloads, roots of trust domains, and the clock of both.
//! It must not know connections; what it gets goes into `snapshot::identity`, where the fast path reads it.
//! Called by `reload` before and after a snapshot comes into force.

mod again;
mod alarm;
mod ca;
mod consul;
mod desk;
mod federated;
mod files;
mod groups;
pub(super) mod pace;
mod secrecy;
mod spire;

pub(crate) use alarm::{level, within, Level};
pub(crate) use desk::Desk;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::discovery::watch::Folders;
use super::pools::Task;
use crate::observe::metrics::Metrics;
use crate::snapshot::identity::{
    Identities, Identity, Matches, Source as Settings, SpiffeId, SvidFiles, TrustDomain,
};
use crate::snapshot::lease::Leases;
use crate::snapshot::Snapshot;

/// Where certificates come from. A source tells its desk whatever it learns, for as long as it runs.
///
/// What it fetches is kept until it is replaced: a source that cannot reach its server reports that and tries again, with
/// backoff, and takes nothing away. Only what the server says is gone is withdrawn.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Runs for as long as it is wanted; dropped, at any await, when it is not.
    async fn run(&self, desk: &Desk);
}

/// Runs the source of the snapshot in force.
pub struct IdentityKeeper {
    registry: Arc<Identities>,
    metrics: Arc<Metrics>,
    leases: Arc<Leases>,
    folders: Arc<Folders>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    key: Option<Key>,
    /// Until when roots of the source before may stay.
    doubt_ends: Option<Instant>,
    /// Held, not read.
    tasks: Vec<Task>,
}

/// What a source is started with; while it stays the same, the source runs on over reloads.
#[derive(PartialEq)]
struct Key {
    source: Settings,
    trust_domain: TrustDomain,
    workloads: Vec<Named>,
    federated: Vec<(TrustDomain, PathBuf)>,
}

/// Name, ID, files, how it is known, and its name at Consul.
type Named = (
    Arc<str>,
    SpiffeId,
    Option<SvidFiles>,
    Matches,
    Option<Box<str>>,
);

impl Key {
    fn of(identity: &Identity) -> Key {
        let workload = |one: &Arc<_>| {
            let one: &crate::snapshot::identity::Workload = one;
            (
                one.name.clone(),
                one.id.clone(),
                one.files.clone(),
                one.matches.clone(),
                one.service.clone(),
            )
        };
        Key {
            source: identity.source.clone(),
            trust_domain: identity.trust_domain.clone(),
            workloads: identity.workloads.iter().map(workload).collect(),
            federated: identity.federated.clone(),
        }
    }
}

impl IdentityKeeper {
    /// A keeper of nobody yet.
    pub fn new(
        registry: Arc<Identities>,
        metrics: Arc<Metrics>,
        leases: Arc<Leases>,
    ) -> Arc<IdentityKeeper> {
        Arc::new(IdentityKeeper {
            registry,
            metrics,
            leases,
            folders: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// What outlives reloads.
    pub fn registry(&self) -> &Arc<Identities> {
        &self.registry
    }

    /// Gives those who have nothing what the compiler read, before connections ask for it. What is in use stays.
    pub fn prepare(&self, snapshot: &Snapshot) {
        let Some(identity) = &snapshot.identity else {
            return;
        };
        secrecy::conceal();
        for (workload, svid) in identity.workloads.iter().zip(&identity.seed.svids) {
            if let (None, Some(svid)) = (workload.held.svid(), svid) {
                workload.held.put(svid.clone(), None);
            }
        }
        let mut own = self.registry.source_bundles();
        if let Some(bundle) = identity
            .seed
            .own
            .as_ref()
            .filter(|_| !own.contains_key(&identity.trust_domain))
        {
            own.insert(identity.trust_domain.clone(), bundle.clone());
            self.registry.set_source_bundles(own);
        }
        let mut federated = identity.seed.federated.clone();
        federated.extend(self.registry.federated());
        self.registry.set_federated(federated);
    }

    /// Runs the source of this snapshot from now on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn follow(&self, snapshot: &Snapshot) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = snapshot.identity.as_deref().map(Key::of);
        if state.key == key {
            return;
        }
        self.doubt(&mut state, key.as_ref());
        state.key = key;
        state.tasks.clear();
        let Some(identity) = &snapshot.identity else {
            self.registry.set_federated(HashMap::new());
            return self.metrics.identity().retain(&|_| false, &|_| false);
        };
        let desk = Desk::new(identity.clone(), self.metrics.clone());
        let source = self.source(identity);
        let run = async move {
            loop {
                source.run(&desk).await;
                // None ends by itself; one that did would be begun again, but not in a circle.
                tokio::time::sleep(RESTART).await;
            }
        };
        state.tasks.push(Task::spawn(run));
        let federated =
            federated::follow(identity.clone(), self.folders.clone(), self.metrics.clone());
        state.tasks.push(Task::spawn(federated));
        if identity
            .workloads
            .iter()
            .any(|one| !one.matches.cgroups.is_empty())
        {
            state
                .tasks
                .push(Task::spawn(groups::follow(identity.clone())));
        }
        if let Some(ends) = state.doubt_ends {
            state
                .tasks
                .push(Task::spawn(forget(self.registry.clone(), ends)));
        }
        let clock = alarm::watch(identity.clone(), self.metrics.clone());
        state.tasks.push(Task::spawn(clock));
        let again = again::follow(self.registry.clone(), self.leases.clone());
        state.tasks.push(Task::spawn(again));
    }

    /// Roots are the source's and the trust domain's: with another one they stay for a while at most.
    fn doubt(&self, state: &mut State, key: Option<&Key>) {
        match (&state.key, key) {
            (_, None) => self.registry.set_source_bundles(HashMap::new()),
            (Some(before), Some(key)) => {
                let is_other_domain = before.trust_domain != key.trust_domain;
                if is_other_domain || before.source != key.source {
                    self.registry
                        .doubt_source_bundles(is_other_domain, &key.trust_domain);
                    state.doubt_ends = Some(Instant::now() + DOUBT);
                }
            }
            (None, Some(_)) => {}
        }
    }

    /// The one place that knows every source.
    fn source(&self, identity: &Identity) -> Box<dyn Source> {
        match &identity.source {
            Settings::Files { bundle } => {
                Box::new(files::Files::new(bundle.clone(), self.folders.clone()))
            }
            Settings::Ca(settings) => Box::new(ca::Ca::new(settings.clone())),
            Settings::Spire(socket) => Box::new(spire::Spire::new(socket.clone())),
            Settings::Consul(settings) => Box::new(consul::Consul::new(settings)),
        }
    }
}

async fn forget(registry: Arc<Identities>, at: Instant) {
    tokio::time::sleep_until(at).await;
    if registry.drop_doubted() {
        log::error!(
            "roots of the identity source before are not believed any more: the new one gave none in {} s",
            DOUBT.as_secs()
        );
    }
}

/// How long roots of the source before stay in use while a new one gives none.
const DOUBT: Duration = Duration::from_secs(600);
const RESTART: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
