//! Roots of other trust domains, from files that are watched.
//! It must not know the source of the own certificates, which may bring such roots as well.
//! Run by the keeper beside the source.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::control::certs::contents;
use crate::control::discovery::watch::Folders;
use crate::observe::metrics::Metrics;
use crate::snapshot::identity::{Bundle, Identity, TrustDomain};

/// Reads the files again whenever something changed. One that cannot be used leaves its trust domain as it is.
pub(super) async fn follow(identity: Arc<Identity>, folders: Arc<Folders>, metrics: Arc<Metrics>) {
    let paths = identity.federated.iter().map(|(_, path)| path.as_path());
    let mut changes = folders.watch(paths);
    let mut said = HashMap::new();
    loop {
        let look = Arc::clone(&identity);
        let read = tokio::task::spawn_blocking(move || read(&look));
        if let Ok((bundles, problems)) = read.await {
            identity.registry.set_federated(bundles);
            problems.iter().for_each(|(domain, problem)| {
                if said.get(domain) != Some(problem) {
                    log::error!("roots stay as they were: trust_domain={domain} cause={problem}");
                }
            });
            said = problems;
        }
        for (domain, bundle) in &identity.registry.trust().bundles {
            metrics.identity().roots(domain.as_str(), bundle.ends.0);
        }
        changes.wait(POLL).await;
    }
}

type Read = (
    HashMap<TrustDomain, Arc<Bundle>>,
    HashMap<TrustDomain, String>,
);

fn read(identity: &Identity) -> Read {
    let known = identity.registry.federated();
    let (mut bundles, mut problems) = Read::default();
    for (domain, path) in &identity.federated {
        let before = known.get(domain);
        match bundle(path) {
            Ok(bundle) => {
                bundles.insert(domain.clone(), Arc::new(bundle));
            }
            Err(problem) => {
                bundles.extend(before.map(|before| (domain.clone(), before.clone())));
                problems.insert(domain.clone(), problem);
            }
        }
    }
    (bundles, problems)
}

fn bundle(path: &Path) -> Result<Bundle, String> {
    let content = contents(path)?;
    Bundle::read(&content).map_err(|problem| format!("{}: {problem}", path.display()))
}

const POLL: Duration = Duration::from_secs(10);
