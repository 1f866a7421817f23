//! Tells when something in the folders of some files changed.
//! It must not read the files, nor decide whether they changed: events only say that looking again is worth it.
//! Called by file discovery and by `certs`; one watcher serves them all, since the system has few (inotify instances).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

/// Folders under watch, for the whole process.
#[derive(Default)]
pub(in crate::control) struct Folders(Mutex<Option<Watching>>);

struct Watching {
    /// `None` when the system gave no watcher; polling alone still finds every change.
    watcher: Option<RecommendedWatcher>,
    events: watch::Receiver<()>,
}

/// Waits for changes of some files.
pub(in crate::control) struct Changes {
    folders: Arc<Folders>,
    paths: BTreeSet<PathBuf>,
    events: watch::Receiver<()>,
}

/// Why it is time to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Wake {
    /// Something changed in one of the folders.
    Event,
    /// Time passed. Network file systems and folders made anew give no events.
    Poll,
}

impl Folders {
    /// Watches the folders of these files. The folder and not the file, because editors and Kubernetes replace files
    /// by renaming another file or link over them, and a watch would stay with the file that is gone.
    pub(in crate::control) fn watch<'p>(
        self: &Arc<Folders>,
        files: impl IntoIterator<Item = &'p Path>,
    ) -> Changes {
        let paths = files.into_iter().filter_map(Path::parent);
        let paths: BTreeSet<PathBuf> = paths
            .map(|path| match path.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => path.to_owned(),
            })
            .collect();
        let events = self.renew(&paths);
        Changes {
            folders: self.clone(),
            paths,
            events,
        }
    }

    /// Watches the folders, also those watched already: one that was removed and made anew is another folder.
    fn renew(&self, paths: &BTreeSet<PathBuf>) -> watch::Receiver<()> {
        let mut watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watching = watching.get_or_insert_with(Watching::new);
        if let Some(watcher) = &mut watching.watcher {
            for path in paths {
                if let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                    log::debug!("folder is only polled: folder={path:?} cause={error}");
                }
            }
        }
        watching.events.clone()
    }
}

impl Watching {
    fn new() -> Watching {
        let (sender, events) = watch::channel(());
        let on_event = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event.kind)) {
                sender.send_replace(());
            }
        };
        let watcher = notify::recommended_watcher(on_event);
        if let Err(error) = &watcher {
            log::warn!("files are only polled, the system gave no watcher: cause={error}");
        }
        Watching {
            watcher: watcher.ok(),
            events,
        }
    }
}

/// Reading is no change; treating it as one would let our own reads wake us for ever.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

impl Changes {
    /// Waits until it is worth looking again, at most `poll`.
    pub(in crate::control) async fn wait(&mut self, poll: Duration) -> Wake {
        // An error means that there is no watcher any more: only time is left then.
        let event = async {
            if self.events.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match tokio::time::timeout(poll, event).await {
            Ok(()) => {
                // A writer rarely stops after one step (a certificate, then its key); let it finish.
                tokio::time::sleep(SETTLE).await;
                self.events.mark_unchanged();
                Wake::Event
            }
            Err(_) => {
                self.folders.renew(&self.paths);
                Wake::Poll
            }
        }
    }
}

const SETTLE: Duration = Duration::from_millis(100);
