//! The wait for a pool's first endpoints: its source has named none yet.
//! It must not know sources; whoever puts another set into use says so.
//! Part of a set without endpoints; requests and connections wait here, all until the same moment.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Pool, Source};

/// That a set waits for its first endpoints, and since when.
#[derive(Debug)]
pub struct Birth {
    since: Instant,
    arrived: Notify,
}

impl Birth {
    /// Begins now.
    pub(super) fn now() -> Birth {
        Birth {
            since: Instant::now(),
            arrived: Notify::new(),
        }
    }

    /// There is another set.
    pub fn is_over(&self) {
        self.arrived.notify_waiters();
    }
}

impl Pool {
    /// Whether its source has named no endpoint yet.
    pub fn is_unborn(&self) -> bool {
        self.settings.source != Source::Static && self.set.load().birth.is_some()
    }

    /// Waits until the source has named endpoints, at most until the set is this old: who comes later does not wait.
    pub async fn born(&self, hold: Duration) {
        let set = self.set.load_full();
        let Some(birth) = &set.birth else {
            return;
        };
        let arrived = birth.arrived.notified();
        // Only now: whoever puts another set into use from here on is heard.
        if self.is_unborn() {
            let _ = tokio::time::timeout_at(birth.since + hold, arrived).await;
        }
    }
}
