//! The task that tells the collector: batches, sent again with longer pauses, and given up in the end.
//! It must not look into entries.
//! Part of `log_http`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Format;
use crate::contract::{Caller, Counter, Effects, Life, Shared};
use crate::logged::queue::{number, Queue};

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
        while queue.is_due(&life, self.batch, self.wait).await {
            while let Some(count) = self.one(&queue, &life).await {
                queue.take_away(count);
                // What is left and makes no whole batch waits for more.
                if life.is_over() || !queue.is_full(self.batch) {
                    break;
                }
            }
        }
        while let Some((text, count)) = self.format.batch(&queue, self.batch) {
            match self.send(text).await {
                Sent::Taken => (self.logged)(number(count)),
                Sent::Refused => (self.refused)(number(count)),
                // The next task finds them; without one they are lost with the process.
                Sent::Failed => return,
            }
            queue.take_away(count);
        }
    }

    /// Sends the oldest batch, again and again if need be. How many entries are done with; `None` when there are none, or when the
    /// task shall end first.
    async fn one(&self, queue: &Queue, life: &Life) -> Option<usize> {
        let (text, count) = self.format.batch(queue, self.batch)?;
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

impl Format {
    /// The oldest entries in this form, and their number.
    fn batch(self, queue: &Queue, most: usize) -> Option<(String, usize)> {
        match self {
            Format::Lines => queue.batch(most, |text, entry| {
                text.push_str(entry);
                text.push('\n');
            }),
            Format::Array => {
                let array = queue.batch(most, |text, entry| {
                    text.push(if text.is_empty() { '[' } else { ',' });
                    text.push_str(entry);
                });
                array.map(|(text, count)| (text + "]", count))
            }
        }
    }
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of the collector's answer, of which only the status matters.
const LARGEST: usize = 64 << 10;
