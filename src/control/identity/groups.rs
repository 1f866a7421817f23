//! The numbers of control groups, by which the kernel names them for a socket: looked up beside traffic, now and then.
//! It must not know sockets.
//! Run by the keeper where a workload is known by its control group.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::identity::{Groups, Identity};

/// Keeps the numbers in step with the folders: services come and go, and each time have another one.
pub(super) async fn follow(identity: Arc<Identity>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let look = identity.clone();
        if let Ok(found) =
            tokio::task::spawn_blocking(move || numbers(&look, Path::new(ROOT))).await
        {
            identity.registry.set_groups(found);
        }
    }
}

/// Every workload's groups and those below them; of groups within another one the inner one counts.
fn numbers(identity: &Identity, root: &Path) -> Groups {
    let workloads = identity.workloads.iter();
    let mut all: Vec<Arc<str>> = workloads
        .flat_map(|one| one.matches.cgroups.iter())
        .map(|group| Arc::from(&**group))
        .collect();
    all.sort_by_key(|group| group.trim_end_matches('/').len());
    let mut found = Groups::new();
    for group in all {
        let mut folders: Vec<PathBuf> = vec![root.join(group.trim_start_matches('/'))];
        let mut seen = 0;
        while let Some(folder) = folders.pop().filter(|_| seen < MOST_FOLDERS) {
            seen += 1;
            let Ok(about) = std::fs::metadata(&folder) else {
                continue;
            };
            found.insert(about.ino(), group.clone());
            let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| entry.path()));
        }
    }
    found
}

const ROOT: &str = "/sys/fs/cgroup";
const INTERVAL: Duration = Duration::from_secs(2);
/// Of one group: a service with more below it is known by its user or listener.
const MOST_FOLDERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::super::tests::desk;
    use super::*;
    use crate::snapshot::identity::{Matches, Source, Workload};

    /// A generation in which workloads have these groups.
    fn generation(before: Option<&Identity>, groups: [&str; 2]) -> Identity {
        let desk = desk(
            Source::Files { bundle: "b".into() },
            &["spiffe://td/web", "spiffe://td/shop"],
        );
        let made = desk.identity();
        let workloads = made.workloads.iter().zip(groups).map(|(one, group)| {
            Arc::new(Workload {
                bounds: Default::default(),
                name: one.name.clone(),
                id: one.id.clone(),
                matches: Matches {
                    cgroups: Box::new([group.into()]),
                    ..Matches::default()
                },
                files: None,
                service: None,
                held: one.held.clone(),
            })
        });
        Identity {
            trust_domain: made.trust_domain.clone(),
            source: made.source.clone(),
            workloads: workloads.collect(),
            federated: Vec::new(),
            hold: Duration::ZERO,
            on_expiry: crate::snapshot::identity::OnExpiry::Keep,
            seed: Default::default(),
            registry: before.map_or(&made.registry, |one| &one.registry).clone(),
        }
    }

    #[test]
    fn control_groups_are_known_in_generations_after_the_one_that_looked() {
        let root = tempfile::TempDir::new().unwrap();
        let inner = root.path().join("all/shop/task");
        std::fs::create_dir_all(&inner).unwrap();
        let number = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let first = generation(None, ["/all", "/all/shop"]);

        first.registry.set_groups(numbers(&first, root.path()));
        let second = generation(Some(&first), ["/all", "/all/shop"]);
        let swapped = generation(Some(&first), ["/all/shop", "/all"]);

        let name = |identity: &Identity, path: &Path| {
            identity
                .in_group(number(path))
                .map(|one| one.name.to_string())
        };
        assert_eq!(name(&second, &inner).as_deref(), Some("shop"));
        assert_eq!(
            name(&second, &root.path().join("all")).as_deref(),
            Some("web")
        );
        assert_eq!(name(&swapped, &inner).as_deref(), Some("web"));
        assert_eq!(name(&second, root.path()), None);
    }
}
