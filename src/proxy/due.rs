//! The moment by which a request must be over, and the timer that ends it then, whatever it is waiting for.
//! It must not know how the time was set; `decide` says that.
//! Armed when a request is routed; attempts, waits and messages ask what is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::decide::{Deadline, SetBy};
use crate::observe::clock;
use crate::snapshot::lease::{Cut, Why};

/// The moment by which a request must be over.
pub(super) struct Due {
    /// In nanoseconds of `observe::clock`.
    at: u64,
    /// Who set it.
    pub(super) by: SetBy,
    /// What the timer ends.
    cut: Arc<Cut>,
    timer: AbortHandle,
}

impl Drop for Due {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

impl Due {
    /// Begins to wait for the deadline of a request that began at `started`.
    pub(super) fn arm(deadline: Deadline, started: u64, cut: Arc<Cut>) -> Box<Due> {
        let nanos = u64::try_from(deadline.time.as_nanos()).unwrap_or(u64::MAX);
        let at = started.saturating_add(nanos);
        Box::new(Due {
            at,
            by: deadline.by,
            timer: timer(clock::between(clock::now(), at) + GRACE, cut.clone()),
            cut,
        })
    }

    /// Lets the timer come later: a bound of its own comes that much later too.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.timer.abort();
        let wait = self.left(clock::now()) + by + GRACE;
        self.timer = timer(wait, self.cut.clone());
    }

    /// What is left at this moment.
    pub(super) fn left(&self, now: u64) -> Duration {
        clock::between(now, self.at)
    }

    /// Whether it is over. Timers may fire a little before their moment.
    pub(super) fn is_over(&self, now: u64) -> bool {
        now.saturating_add(EARLY_NANOS) >= self.at || self.has_cut()
    }

    /// Whether the timer ended the request.
    pub(super) fn has_cut(&self) -> bool {
        self.cut.why() == Some(Why::Deadline)
    }
}

fn timer(wait: Duration, cut: Arc<Cut>) -> AbortHandle {
    let task = tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        cut.revoke(Why::Deadline);
    });
    task.abort_handle()
}

/// The waits for endpoints have the deadline as their own bound and come to an answer; the timer is for everything else: an
/// endpoint that sends its header byte by byte, a body that does not end. So it comes a little later.
const GRACE: Duration = Duration::from_millis(30);

const EARLY_NANOS: u64 = 1_000_000;
