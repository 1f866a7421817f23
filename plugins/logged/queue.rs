//! What waits to be told: a bounded queue that outlives reloads, filled by requests and emptied by one task.
//! It must not look into entries.
//! Shared by the hooks and the task of a plugin that tells a collector.

use std::collections::VecDeque;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use crate::contract::Life;

/// Entries that wait, the oldest first.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    full: Notify,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<String>,
    bytes: usize,
}

/// How much may wait, and how much is sent at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Entries.
    pub(crate) most: usize,
    /// Bytes of all of them.
    pub(crate) bytes: usize,
    /// Entries that wake the task.
    pub(crate) batch: usize,
}

impl Queue {
    /// Takes an entry, if there is room. A whole batch wakes the task.
    pub(crate) fn push(&self, entry: String, room: &Room) -> bool {
        let mut waiting = self.waiting();
        if waiting.entries.len() >= room.most || waiting.bytes + entry.len() > room.bytes {
            return false;
        }
        waiting.bytes += entry.len();
        waiting.entries.push_back(entry);
        let is_full = waiting.entries.len() >= room.batch;
        drop(waiting);
        if is_full {
            self.full.notify_one();
        }
        true
    }

    /// The oldest entries, written one after another, and their number. They stay until they are taken away.
    pub(crate) fn batch(
        &self,
        most: usize,
        mut write: impl FnMut(&mut String, &str),
    ) -> Option<(String, usize)> {
        let waiting = self.waiting();
        let entries = waiting.entries.iter().take(most);
        let count = entries.len();
        let mut text = String::new();
        entries.for_each(|entry| write(&mut text, entry));
        (count > 0).then_some((text, count))
    }

    /// Forgets the oldest entries.
    pub(crate) fn take_away(&self, count: usize) {
        let mut waiting = self.waiting();
        for _ in 0..count {
            let Some(entry) = waiting.entries.pop_front() else {
                return;
            };
            waiting.bytes -= entry.len();
        }
    }

    /// Whether there is a whole batch.
    pub(crate) fn is_full(&self, batch: usize) -> bool {
        self.waiting().entries.len() >= batch
    }

    /// Waits for a whole batch, or for the time that one may wait. `false` when the task shall end.
    pub(crate) async fn is_due(&self, life: &Life, batch: usize, wait: Duration) -> bool {
        if self.is_full(batch) {
            return !life.is_over();
        }
        let mut rest = pin!(life.rest(wait));
        loop {
            let mut woken = pin!(self.full.notified());
            let due = poll_fn(|cx| match rest.as_mut().poll(cx) {
                Poll::Ready(goes_on) => Poll::Ready(Some(goes_on)),
                Poll::Pending => woken.as_mut().poll(cx).map(|()| None),
            });
            match due.await {
                Some(goes_on) => return goes_on,
                None if self.is_full(batch) => return !life.is_over(),
                // The batch that woke it is on its way already.
                None => {}
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many, as counters count.
pub(crate) fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
