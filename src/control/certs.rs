//! Watches the certificate files of listeners and puts new certificates into force without a reload.
//! It must not know how a handshake uses them, nor where the list of files comes from; the compiler hands it over.
//! Called by `reload` after each published snapshot, and asked by `admin`.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::discovery::watch::{Changes, Folders, Wake};
use super::pools::Task;
use crate::observe::metrics::Metrics;
use crate::snapshot::certs::{Cert, CertFiles, CertSet, Termination};

/// The certificates of a listener, and the files they come from.
#[derive(Debug, Clone)]
pub struct CertSource {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where the certificates are in force.
    pub termination: Arc<Termination>,
    /// Every certificate of the listener, in the order written.
    pub files: Vec<CertFiles>,
}

/// Keeps certificates in force in step with their files.
pub struct CertKeeper {
    me: Weak<CertKeeper>,
    metrics: Arc<Metrics>,
    folders: Arc<Folders>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listeners: Vec<Tracked>,
    /// Held, not read.
    _task: Option<Task>,
}

struct Tracked {
    listener: Arc<str>,
    termination: Arc<Termination>,
    pairs: Vec<Pair>,
    /// When each subject was last warned about.
    warned: HashMap<String, Instant>,
}

/// A certificate with what is known of its files.
struct Pair {
    files: CertFiles,
    stamp: Stamp,
    digest: Option<[u8; 32]>,
    /// What was last read well.
    cert: Option<Arc<Cert>>,
    problem: Option<String>,
}

/// What changes about a file when its content does, as a rule. `None` for a file that is not there.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

impl CertKeeper {
    /// A keeper of no certificates yet.
    pub fn new(metrics: Arc<Metrics>) -> Arc<CertKeeper> {
        Arc::new_cyclic(|me| CertKeeper {
            me: me.clone(),
            metrics,
            folders: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// Watches these files from now on. Certificates of a termination that was watched before are not read again unless
    /// they changed; those of a new one are, since their files may have changed after the compiler read them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn follow(&self, sources: Vec<CertSource>) {
        let files = sources.iter().flat_map(|source| &source.files);
        let paths = files.flat_map(|files| [files.cert.as_path(), files.key.as_path()]);
        let changes = self.folders.watch(paths);
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.listeners);
        let track = |source: CertSource| {
            let known = before.iter().position(|known| {
                Arc::ptr_eq(&known.termination, &source.termination)
                    && known.pairs.iter().map(|pair| &pair.files).eq(&source.files)
            });
            match known {
                Some(known) => before.swap_remove(known),
                None => Tracked::new(source),
            }
        };
        state.listeners = sources.into_iter().map(track).collect();
        state._task = Some(Task::spawn(run(self.me.clone(), changes)));
    }

    /// What is wrong with the files of a listener right now.
    pub fn problems(&self, listener: &str) -> Vec<String> {
        let state = self.state();
        let of_listener = state
            .listeners
            .iter()
            .filter(|known| *known.listener == *listener);
        let pairs = of_listener.flat_map(|known| &known.pairs);
        pairs.filter_map(|pair| pair.problem.clone()).collect()
    }

    /// Looks at every file once. Holds the state throughout, so that it never acts on files of a list that was replaced.
    fn look(&self, wake: Wake) {
        for tracked in &mut self.state().listeners {
            tracked.look(wake);
            tracked.report(&self.metrics);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(keeper: Weak<CertKeeper>, mut changes: Changes) {
    let mut wake = Wake::Event;
    loop {
        let Some(keeper) = keeper.upgrade() else {
            return;
        };
        // Files are read off the async threads. A panic in there would be a bug; the next look tries again.
        let _ = tokio::task::spawn_blocking(move || keeper.look(wake)).await;
        wake = changes.wait(POLL).await;
    }
}

impl Tracked {
    fn new(source: CertSource) -> Tracked {
        let pair = |files| Pair {
            files,
            stamp: [None; 2],
            digest: None,
            cert: None,
            problem: None,
        };
        Tracked {
            listener: source.listener,
            termination: source.termination,
            pairs: source.files.into_iter().map(pair).collect(),
            warned: HashMap::new(),
        }
    }

    /// Reads what changed. A pair that is broken keeps its last certificate and does not hold up the others; only while
    /// a pair was never read well does the set of the compiler stay in force as a whole.
    fn look(&mut self, wake: Wake) {
        let mut has_news = false;
        for pair in &mut self.pairs {
            has_news |= pair.look(wake, &self.listener);
        }
        let certs: Option<Vec<Arc<Cert>>> =
            self.pairs.iter().map(|pair| pair.cert.clone()).collect();
        if let Some(certs) = certs.filter(|certs| has_news && !certs.is_empty()) {
            self.termination.certs.store(Arc::new(CertSet::new(certs)));
        }
    }

    /// Publishes when certificates end, and warns of the end once a day.
    fn report(&mut self, metrics: &Metrics) {
        let certs = self.termination.certs.load();
        for cert in &certs.all {
            metrics.certificate(&self.listener, &cert.subject, cert.not_after);
            let days = days_left(cert.not_after, SystemTime::now());
            let last = self.warned.get(&cert.subject);
            let is_due = last.is_none_or(|last| last.elapsed() >= WARN_INTERVAL);
            if days >= WARN_DAYS || !is_due {
                continue;
            }
            self.warned.insert(cert.subject.clone(), Instant::now());
            let (listener, subject) = (&self.listener, &cert.subject);
            if days < 0 {
                log::error!("certificate has expired: listener={listener} subject={subject}");
            } else {
                log::warn!(
                    "certificate expires soon: listener={listener} subject={subject} days={days}"
                );
            }
        }
    }
}

impl Pair {
    /// Whether there is another certificate now.
    fn look(&mut self, wake: Wake, listener: &str) -> bool {
        let stamp = [&self.files.cert, &self.files.key].map(|path| stamp(path));
        let was_read = self.digest.is_some() || self.problem.is_some();
        // An event says that something happened, so the content is compared even if the stamps look the same.
        if wake == Wake::Poll && was_read && stamp == self.stamp {
            return false;
        }
        self.stamp = stamp;
        let is_first = !was_read;
        match self.read() {
            Ok(None) => {
                self.problem = None;
                false
            }
            Ok(Some((digest, cert))) => {
                if !is_first {
                    log::info!(
                        "certificate read again: listener={listener} subject={}",
                        cert.subject
                    );
                }
                (self.digest, self.cert, self.problem) = (Some(digest), Some(Arc::new(cert)), None);
                true
            }
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    log::error!("certificate stays as it was: listener={listener} cause={problem}");
                }
                self.problem = Some(problem);
                false
            }
        }
    }

    /// The certificate in the files, or none if it is the one read last.
    fn read(&self) -> Result<Option<([u8; 32], Cert)>, String> {
        let files = &self.files;
        let (cert, key) = (contents(&files.cert)?, contents(&files.key)?);
        let mut hasher = openssl::sha::Sha256::new();
        // The length in between keeps a byte that moves from one file to the other from going unnoticed.
        hasher.update(&(cert.len() as u64).to_be_bytes());
        hasher.update(&cert);
        hasher.update(&key);
        let digest = hasher.finish();
        if self.digest == Some(digest) {
            return Ok(None);
        }
        let cert = Cert::new(&cert, &key, &files.hosts, files.default)
            .map_err(|problem| format!("{}: {problem}", files.cert.display()))?;
        Ok(Some((digest, cert)))
    }
}

/// What a file holds, within a bound.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(text)?.len();
    if length > MAX_BYTES {
        return Err(format!("{}: larger than {MAX_BYTES} bytes", path.display()));
    }
    std::fs::read(path).map_err(text)
}

/// What changes about a file when its content does, as a rule.
pub(super) fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let of = |file: Metadata| (file.ino(), file.len(), file.mtime(), file.mtime_nsec());
    std::fs::metadata(path).ok().map(of)
}

/// Whole days until a certificate ends; below zero once it has.
pub(super) fn days_left(not_after: i64, now: SystemTime) -> i64 {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    not_after.saturating_sub(now).div_euclid(86_400)
}

const POLL: Duration = Duration::from_secs(10);
const WARN_DAYS: i64 = 14;
const WARN_INTERVAL: Duration = Duration::from_secs(86_400);
const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests;
