//! What waits to be told, and the task that tells it.
//! It must not look into entries.
//! Part of `log_http`.

use std::collections::VecDeque;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::sync::Notify;

use super::Format;
use crate::contract::{Caller, Counter, Effects, Life, Shared};

/// Entries that wait, the oldest first. It outlives reloads.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    full: Notify,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<String>,
    bytes: usize,
}

impl Queue {
    /// Takes an entry, if there is room. A whole batch wakes the task.
    pub(super) fn push(&self, entry: String, most: usize, bytes: usize, batch: usize) -> bool {
        let mut waiting = self.waiting();
        if waiting.entries.len() >= most || waiting.bytes + entry.len() > bytes {
            return false;
        }
        waiting.bytes += entry.len();
        waiting.entries.push_back(entry);
        let is_full = waiting.entries.len() >= batch;
        drop(waiting);
        if is_full {
            self.full.notify_one();
        }
        true
    }

    /// The oldest entries, which stay until they are taken away.
    fn batch(&self, format: Format, most: usize) -> Option<(String, usize)> {
        let waiting = self.waiting();
        let entries = waiting.entries.iter().take(most);
        let count = entries.len();
        if count == 0 {
            return None;
        }
        let (between, around) = match format {
            Format::Lines => ("\n", ["", "\n"]),
            Format::Array => (",", ["[", "]"]),
        };
        let mut text = String::from(around[0]);
        for (at, entry) in entries.enumerate() {
            if at > 0 {
                text.push_str(between);
            }
            text.push_str(entry);
        }
        text.push_str(around[1]);
        Some((text, count))
    }

    fn take_away(&self, count: usize) {
        let mut waiting = self.waiting();
        for entry in (0..count)
            .map_while(|_| waiting.entries.pop_front())
            .collect::<Vec<_>>()
        {
            waiting.bytes -= entry.len();
        }
    }

    fn is_full(&self, batch: usize) -> bool {
        self.waiting().entries.len() >= batch
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task's side.
pub(super) struct Sender {
    pub(super) caller: Caller,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) queue: Shared<Arc<Queue>>,
    pub(super) format: Format,
    pub(super) batch: usize,
    pub(super) wait: Duration,
    pub(super) attempts: u32,
    pub(super) timeout: Duration,
    pub(super) logged: Counter,
    pub(super) lost: Counter,
    pub(super) refused: Counter,
}

/// What became of a batch.
enum Sent {
    Taken,
    Refused,
    Failed,
}

impl Sender {
    /// Sends batches until it shall end, and then what there is, once.
    pub(super) async fn live(&self, life: Life) {
        // The task runs with traffic only, so that the queue is that of the traffic.
        let Ok(queue) = self.queue.with(Effects::Live, Arc::clone) else {
            return life.over().await;
        };
        while self.is_due(&queue, &life).await {
            while let Some(count) = self.one(&queue, &life).await {
                queue.take_away(count);
                // What is left and makes no whole batch waits for more.
                if life.is_over() || !queue.is_full(self.batch) {
                    break;
                }
            }
        }
        while let Some((text, count)) = queue.batch(self.format, self.batch) {
            match self.send(text).await {
                Sent::Taken => (self.logged)(number(count)),
                Sent::Refused => (self.refused)(number(count)),
                // The next task finds them; without one they are lost with the process.
                Sent::Failed => return,
            }
            queue.take_away(count);
        }
    }

    /// Waits for a whole batch, or for the time that one may wait. `false` when the task shall end.
    async fn is_due(&self, queue: &Queue, life: &Life) -> bool {
        if queue.is_full(self.batch) {
            return !life.is_over();
        }
        let mut rest = pin!(life.rest(self.wait));
        loop {
            let mut woken = pin!(queue.full.notified());
            let due = poll_fn(|cx| match rest.as_mut().poll(cx) {
                Poll::Ready(goes_on) => Poll::Ready(Some(goes_on)),
                Poll::Pending => woken.as_mut().poll(cx).map(|()| None),
            });
            match due.await {
                Some(goes_on) => return goes_on,
                None if queue.is_full(self.batch) => return !life.is_over(),
                // The batch that woke it is on its way already.
                None => {}
            }
        }
    }

    /// Sends the oldest batch, again and again if need be. How many entries are done with; `None` when there are none, or when the
    /// task shall end first.
    async fn one(&self, queue: &Queue, life: &Life) -> Option<usize> {
        let (text, count) = queue.batch(self.format, self.batch)?;
        let mut pause = SHORTEST;
        for attempt in 1..=self.attempts {
            match self.send(text.clone()).await {
                Sent::Taken => {
                    (self.logged)(number(count));
                    return Some(count);
                }
                Sent::Refused => {
                    (self.refused)(number(count));
                    return Some(count);
                }
                Sent::Failed if attempt == self.attempts => break,
                Sent::Failed => {}
            }
            if !life.rest(pause).await {
                return None;
            }
            pause = (pause * 2).min(LONGEST);
        }
        (self.lost)(number(count));
        Some(count)
    }

    async fn send(&self, text: String) -> Sent {
        let media = match self.format {
            Format::Lines => "application/x-ndjson",
            Format::Array => "application/json",
        };
        let mut call = self.caller.post(media, text).within(self.timeout);
        for (name, value) in &self.headers {
            call = call.with(name.clone(), value.clone());
        }
        match self.caller.call(Effects::Live, call.at_most(LARGEST)).await {
            Ok(reply) => match reply.status {
                200..=299 => Sent::Taken,
                408 | 429 => Sent::Failed,
                400..=499 => Sent::Refused,
                _ => Sent::Failed,
            },
            Err(_) => Sent::Failed,
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of the collector's answer, of which only the status matters.
const LARGEST: usize = 64 << 10;
