//! Services that change by themselves: whoever keeps them says so, and the configuration is reloaded the one way there is.
//! It must not know what a service is; `config` reads them, with everything else.
//! Started by the supervisor. Further engines than files implement [`Registry`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use super::discovery::watch::{Changes, Folders};
use super::reload::{Order, Reloader};

/// Where services are kept.
#[async_trait]
pub(super) trait Registry: Send {
    /// Returns once the services are others than when it was made, or than when it returned before.
    async fn changed(&mut self);
}

/// Reloads whenever the registry that the running configuration names says that services changed. What a reload refuses, because
/// of a probation or of what else is on disk, is tried again until it is in force.
pub(super) async fn follow(reloader: Arc<Reloader>) {
    let mut ticks = tokio::time::interval(LOOK);
    let mut followed: Option<(PathBuf, Box<dyn Registry>)> = None;
    let mut pending = Pending::default();
    loop {
        let wanted = pattern(&reloader);
        if followed.as_ref().map(|(pattern, _)| pattern) != wanted.as_ref() {
            pending.done();
            followed = wanted.map(|pattern| {
                let files = Files::new(&pattern);
                // Between the reading of the configuration and this moment nobody looked.
                if files.changed_since(reloader.current.peek().built - MARGIN) {
                    pending.now();
                }
                let files: Box<dyn Registry> = Box::new(files);
                (pattern, files)
            });
        }
        tokio::select! {
            // Another configuration may name another registry.
            _ = ticks.tick() => {}
            () = change(&mut followed) => pending.now(),
        }
        if pending.is_due() {
            let reload = reloader.carry_out(Order::Reload).await;
            match reload.result.is_ok() {
                true => pending.done(),
                false => pending.later(),
            }
            log::info!("services changed: {}", reload.words());
        }
    }
}

const LOOK: Duration = Duration::from_secs(1);

/// How long before it was built a configuration may have been read.
const MARGIN: Duration = Duration::from_secs(10);

/// A change that is not in force yet.
#[derive(Debug, Default)]
struct Pending {
    due: Option<Instant>,
    wait: Duration,
}

impl Pending {
    fn now(&mut self) {
        (self.due, self.wait) = (Some(Instant::now()), FIRST_WAIT);
    }

    fn later(&mut self) {
        self.due = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    fn done(&mut self) {
        self.due = None;
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

async fn change(followed: &mut Option<(PathBuf, Box<dyn Registry>)>) {
    match followed {
        Some((_, registry)) => registry.changed().await,
        None => std::future::pending().await,
    }
}

fn pattern(reloader: &Reloader) -> Option<PathBuf> {
    let running = reloader.running.lock();
    let running = running.unwrap_or_else(PoisonError::into_inner);
    let from = running.written().services_from.as_ref()?;
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

    /// Whether a file, or the folder with what it lost, has changed since.
    fn changed_since(&self, then: SystemTime) -> bool {
        let then = then.duration_since(SystemTime::UNIX_EPOCH);
        let then = then.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        let folder = self.pattern.parent().unwrap_or(Path::new("."));
        let paths = self.seen.keys().map(PathBuf::as_path).chain([folder]);
        paths
            .filter_map(|path| fs::metadata(path).ok())
            .any(|about| about.ctime() >= then)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_tried_again_after_longer_and_longer_waits() {
        let mut pending = Pending::default();
        assert!(!pending.is_due());

        pending.now();
        assert!(pending.is_due());
        for _ in 0..10 {
            pending.later();
            assert!(!pending.is_due());
        }
        assert_eq!(pending.wait, LONGEST_WAIT);

        pending.now();
        assert!(pending.is_due(), "a further change does not wait");
        pending.done();
        assert!(!pending.is_due());
    }

    #[test]
    fn what_changed_before_anybody_looked_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.yaml");
        fs::write(&file, "services: []\n").unwrap();
        let files = Files::new(&folder.path().join("*.yaml"));
        let now = SystemTime::now();

        assert!(files.changed_since(now - MARGIN));
        assert!(!files.changed_since(now + MARGIN));
    }
}
