//! Services that change by themselves: whoever keeps them says so, and the configuration is reloaded the one way there is.
//! It must not know what a service is; `config` reads them, with everything else.
//! Started by the supervisor. Further engines than files implement [`Registry`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::discovery::watch::{Changes, Folders};
use super::reload::{Order, Reloader};

/// Where services are kept.
#[async_trait]
pub(super) trait Registry: Send {
    /// Returns once the services are others than when it was made, or than when it returned before.
    async fn changed(&mut self);
}

/// Reloads whenever the registry that the running configuration names says that services changed.
pub(super) async fn follow(reloader: Arc<Reloader>) {
    let mut ticks = tokio::time::interval(LOOK);
    let mut followed: Option<(PathBuf, Box<dyn Registry>)> = None;
    loop {
        let wanted = pattern(&reloader);
        if followed.as_ref().map(|(pattern, _)| pattern) != wanted.as_ref() {
            followed = wanted.map(|pattern| {
                let files: Box<dyn Registry> = Box::new(Files::new(&pattern));
                (pattern, files)
            });
        }
        tokio::select! {
            // Another configuration may name another registry.
            _ = ticks.tick() => {}
            () = change(&mut followed) => {
                let reload = reloader.carry_out(Order::Reload).await;
                log::info!("services changed: {}", reload.words());
            }
        }
    }
}

const LOOK: Duration = Duration::from_secs(1);

async fn change(followed: &mut Option<(PathBuf, Box<dyn Registry>)>) {
    match followed {
        Some((_, registry)) => registry.changed().await,
        None => std::future::pending().await,
    }
}

fn pattern(reloader: &Reloader) -> Option<PathBuf> {
    let running = reloader.running.lock();
    let running = running.unwrap_or_else(PoisonError::into_inner);
    let from = running.services_from.as_ref()?;
    let folder = reloader.path().parent().unwrap_or(Path::new(""));
    Some(folder.join(&from.file))
}

/// Files of a pattern.
struct Files {
    pattern: PathBuf,
    changes: Changes,
    seen: Stamps,
}

type Stamps = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

impl Files {
    fn new(pattern: &Path) -> Files {
        Files {
            pattern: pattern.to_owned(),
            changes: Arc::new(Folders::default()).watch([pattern]),
            seen: stamps(pattern),
        }
    }
}

#[async_trait]
impl Registry for Files {
    async fn changed(&mut self) {
        loop {
            // Looked at first: this may have been dropped between the event and the look.
            let now = stamps(&self.pattern);
            if now != self.seen {
                self.seen = now;
                return;
            }
            self.changes.wait(POLL).await;
        }
    }
}

const POLL: Duration = Duration::from_secs(5);

fn stamps(pattern: &Path) -> Stamps {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let (begin, end) = name.split_once('*').unwrap_or((&name, ""));
    let is_pattern = name.contains('*');
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match is_pattern {
            true => name.starts_with(begin) && name.ends_with(end.rsplit('*').next().unwrap_or("")),
            false => *name == *begin,
        }
    };
    let folder = pattern.parent().unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(fits);
    files
        .filter_map(|path| {
            let about = fs::metadata(&path).ok()?;
            let stamp = (about.ino(), about.len(), about.mtime(), about.mtime_nsec());
            Some((path, stamp))
        })
        .collect()
}
