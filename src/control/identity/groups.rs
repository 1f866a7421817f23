//! The numbers of control groups, by which the kernel names them for a socket: looked up beside traffic, now and then.
//! It must not know sockets.
//! Run by the keeper where a workload is known by its control group.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::identity::Identity;

/// Keeps the numbers in step with the folders: services come and go, and each time have another one.
pub(super) async fn follow(identity: Arc<Identity>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let look = identity.clone();
        if let Ok(found) =
            tokio::task::spawn_blocking(move || numbers(&look, Path::new(ROOT))).await
        {
            identity.groups.store(Arc::new(found));
        }
    }
}

/// Every workload's groups and those below them; of groups within another workload's the inner one counts.
fn numbers(identity: &Identity, root: &Path) -> HashMap<u64, usize> {
    let workloads = identity.workloads.iter().enumerate();
    let mut all: Vec<(&str, usize)> = workloads
        .flat_map(|(at, one)| one.matches.cgroups.iter().map(move |group| (&**group, at)))
        .collect();
    all.sort_by_key(|(group, _)| group.len());
    let mut found = HashMap::new();
    for (group, at) in all {
        let mut folders: Vec<PathBuf> = vec![root.join(group.trim_start_matches('/'))];
        let mut seen = 0;
        while let Some(folder) = folders.pop().filter(|_| seen < MOST_FOLDERS) {
            seen += 1;
            let Ok(about) = std::fs::metadata(&folder) else {
                continue;
            };
            found.insert(about.ino(), at);
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
