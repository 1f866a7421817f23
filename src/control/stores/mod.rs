//! Keeps the connections of stores: connects in the background, notices when one is of no use any more, and tries again.
//! It must not know what stores are asked for.
//! `control::reload` has it follow the snapshot; plugins use what it puts into `snapshot::store`.

mod dial;

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::identity::pace::chance;
use super::pools::Task;
use crate::observe::event;
use crate::observe::metrics::Metrics;
use crate::snapshot::store::Cell;
use crate::snapshot::Snapshot;

/// The stores that are kept.
pub struct StoreKeeper {
    metrics: Arc<Metrics>,
    kept: Mutex<Vec<(Arc<Cell>, Task)>>,
}

impl StoreKeeper {
    /// A keeper of no stores yet.
    pub fn new(metrics: Arc<Metrics>) -> StoreKeeper {
        StoreKeeper {
            metrics,
            kept: Mutex::default(),
        }
    }

    /// Begins to connect new stores, and waits for at most `patience` for how that goes first. It never fails: what is not there
    /// is not there.
    pub async fn prepare(&self, snapshot: &Snapshot, patience: Duration) {
        let tried = self.begin(snapshot);
        let all = async {
            for tried in tried {
                // An error says that the task is gone, which ends waiting as well.
                let _ = tried.await;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// Lets go of the stores that a snapshot does not have. What still runs with the one before keeps its connection for as long
    /// as that stays.
    pub fn follow(&self, snapshot: &Snapshot) {
        drop(self.begin(snapshot));
        let stays = |cell: &Arc<Cell>| snapshot.stores.all().any(|one| Arc::ptr_eq(one, cell));
        self.lock().retain(|(cell, _)| stays(cell));
        let named = |name: &str| snapshot.stores.all().any(|one| *one.name == *name);
        self.metrics.retain_stores(&named);
    }

    /// Keeps those stores that are not kept yet; tells when each was tried for the first time.
    fn begin(&self, snapshot: &Snapshot) -> Vec<oneshot::Receiver<()>> {
        let mut kept = self.lock();
        let mut first = Vec::new();
        for cell in snapshot.stores.all() {
            if kept.iter().any(|(known, _)| Arc::ptr_eq(known, cell)) {
                continue;
            }
            let (tried, told) = oneshot::channel();
            first.push(told);
            let task = Task::spawn(keep(cell.clone(), tried));
            kept.push((cell.clone(), task));
        }
        first
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<Cell>, Task)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one store connected for as long as it runs.
async fn keep(cell: Arc<Cell>, tried: oneshot::Sender<()>) {
    let mut tried = Some(tried);
    let mut failures: u32 = 0;
    loop {
        // One that came back with a rollback may still be connected.
        let driver = match cell.link() {
            Some(_) => Ok(None),
            None => dial::connect(&cell).await.map(Some),
        };
        if let Some(tried) = tried.take() {
            // Nobody may wait for it any more.
            let _ = tried.send(());
        }
        match driver {
            Ok(driver) => {
                log::info!(
                    "store connected: store={} address={}",
                    cell.name,
                    cell.settings.address
                );
                let since = Instant::now();
                let problem = watch(&cell, driver).await;
                event::warn("store lost", &cell.name, || {
                    format!("store lost: store={} problem={problem}", cell.name)
                });
                cell.disconnected(problem);
                // One that is lost again at once is not asked again at once.
                failures = if since.elapsed() > STEADY {
                    0
                } else {
                    failures + 1
                };
            }
            Err(problem) => {
                event::warn("store not connected", &cell.name, || {
                    let address = &cell.settings.address;
                    format!(
                        "store cannot be connected: store={} address={address} problem={problem}",
                        cell.name
                    )
                });
                cell.disconnected(problem);
                failures = failures.saturating_add(1);
            }
        }
        tokio::time::sleep(pause(failures)).await;
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        some => {
            let doubled = FIRST_PAUSE.saturating_mul(1 << (some - 1).min(8));
            doubled.min(LONGEST_PAUSE).mul_f64(0.8 + 0.2 * chance())
        }
    }
}

/// Returns once the connection is of no use any more, with the reason.
async fn watch(cell: &Cell, driver: Option<JoinHandle<()>>) -> String {
    let ended = async {
        match driver {
            Some(driver) => drop(driver.await),
            None => pending().await,
        }
    };
    tokio::select! {
        // What was found out first knows more than that the connection has ended.
        biased;
        problem = cell.lost() => problem,
        () = ended => "the server closed the connection".to_owned(),
        problem = silence(cell) => problem,
    }
}

/// Asks now and then whether the other side is still there: where nobody uses a connection, nobody else would notice.
async fn silence(cell: &Cell) -> String {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        let Some(link) = cell.link() else {
            // Whoever took it away tells why.
            return pending().await;
        };
        let mut connection = link.connection.clone();
        let ping = redis::cmd("PING");
        let answer = connection.send_packed_command(&ping);
        match tokio::time::timeout(cell.settings.connect_timeout, answer).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return crate::snapshot::store::shown(&error),
            Err(_) => return "the server did not answer PING in time".to_owned(),
        }
    }
}

const PING_INTERVAL: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a connection has to last for its end not to count as another failure.
const STEADY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_two_seconds() {
        let pauses: Vec<Duration> = (0..40).map(pause).collect();

        assert_eq!(pauses[0], Duration::ZERO);
        assert!(pauses[1] >= FIRST_PAUSE.mul_f64(0.8) && pauses[1] <= FIRST_PAUSE);
        assert!(pauses[3] > pauses[1]);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(pauses[39] >= LONGEST_PAUSE.mul_f64(0.8));
    }
}
