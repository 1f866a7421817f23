//! Certificates and roots from files that something else renews: watched, read again when they change.
//! It must not know who writes them; a pair that does not fit together yet is read again a moment later.
//! Run by the keeper.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{Desk, Source};
use crate::control::certs::{contents, stamp};
use crate::control::discovery::watch::{Folders, Wake};
use crate::snapshot::identity::{Bundle, Svid, SvidFiles, Workload};

/// Files of every workload, and the roots.
pub(super) struct Files {
    bundle: PathBuf,
    folders: Arc<Folders>,
    seen: Arc<Mutex<Seen>>,
}

/// What the files looked like when they were read last.
type Seen = HashMap<Box<[PathBuf]>, Vec<Option<(u64, u64, i64, i64)>>>;

impl Files {
    pub(super) fn new(bundle: PathBuf, folders: Arc<Folders>) -> Files {
        Files {
            bundle,
            folders,
            seen: Arc::default(),
        }
    }
}

#[async_trait]
impl Source for Files {
    async fn run(&self, desk: &Desk) {
        let workloads = desk.identity().workloads.iter();
        let files = workloads.filter_map(|one| one.files.as_ref());
        let paths = files.flat_map(|files| [files.cert.as_path(), files.key.as_path()]);
        let paths: Vec<&Path> = paths.chain([self.bundle.as_path()]).collect();
        let mut changes = self.folders.watch(paths);
        let mut wake = Wake::Event;
        loop {
            let look = Look {
                wake,
                bundle: self.bundle.clone(),
                seen: self.seen.clone(),
                desk: Desk::new(desk.identity().clone(), desk.metrics()),
            };
            // Files are read off the async threads. A panic in there would be a bug; the next look tries again.
            let _ = tokio::task::spawn_blocking(move || look.at_all()).await;
            wake = changes.wait(POLL).await;
        }
    }
}

struct Look {
    wake: Wake,
    bundle: PathBuf,
    seen: Arc<Mutex<Seen>>,
    desk: Desk,
}

impl Look {
    fn at_all(&self) {
        // Roots first: what is issued by a new one is believed as soon as it is shown.
        if self.may_have_changed(&[&self.bundle]) {
            self.roots();
        }
        for workload in &self.desk.identity().workloads {
            if let Some(files) = &workload.files {
                let paths: [&Path; 2] = [&files.cert, &files.key];
                if self.may_have_changed(&paths) && self.certificate(workload, files).is_err() {
                    // It may be good later, as it is.
                    self.forget(&paths);
                }
            }
        }
    }

    /// An event says that something happened, so content is compared then even if the files look the same.
    fn may_have_changed(&self, paths: &[&Path]) -> bool {
        let stamps: Vec<_> = paths.iter().map(|path| stamp(path)).collect();
        let key: Box<[PathBuf]> = paths.iter().map(|path| path.to_path_buf()).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = seen.get(&key) == Some(&stamps);
        seen.insert(key, stamps);
        self.wake == Wake::Event || !is_same
    }

    fn forget(&self, paths: &[&Path]) {
        let key: Box<[PathBuf]> = paths.iter().map(|path| path.to_path_buf()).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&key);
    }

    fn roots(&self) {
        let own = self.desk.identity().trust_domain.clone();
        let path = self.bundle.display();
        let bundle = contents(&self.bundle)
            .and_then(|content| Bundle::read(&content).map_err(|error| format!("{path}: {error}")));
        match bundle {
            Ok(bundle) => {
                self.desk.bundles(HashMap::from([(own, Arc::new(bundle))]));
                self.desk.answered();
            }
            Err(error) => self.desk.unreachable(error),
        }
    }

    /// An error is one of the certificate, not of reading it.
    fn certificate(&self, workload: &Workload, files: &SvidFiles) -> Result<(), String> {
        match read(files) {
            Ok(svid) => self.desk.put(workload, svid, None),
            Err(error) => {
                self.desk.failed(workload, error);
                Ok(())
            }
        }
    }
}

fn read(files: &SvidFiles) -> Result<Svid, String> {
    let cert = contents(&files.cert)?;
    let key = Zeroizing::new(contents(&files.key)?);
    Svid::from_pem(&cert, &key).map_err(|error| format!("{}: {error}", files.cert.display()))
}

const POLL: Duration = Duration::from_secs(10);
