//! The task that sends: one wire, kept open, made anew with longer pauses when it breaks.
//! It must not look into messages.
//! Part of `log_syslog`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{Counter, Effects, Life, Shared, Wire, WireFailure, Wires};
use crate::logged::queue::{number, Queue};

/// The task's side.
pub(super) struct Sender {
    pub(super) wires: Arc<dyn Wires>,
    pub(super) queue: Shared<Arc<Queue>>,
    /// Messages at once; one where they are datagrams.
    pub(super) batch: usize,
    pub(super) has_datagrams: bool,
    pub(super) logged: Counter,
    pub(super) lost: Counter,
    pub(super) failed: Counter,
}

impl Sender {
    /// Sends until it shall end, and then what there is, once.
    pub(super) async fn live(&self, life: Life) {
        // The task runs with traffic only, so that the queue is that of the traffic.
        let Ok(queue) = self.queue.with(Effects::Live, Arc::clone) else {
            return life.over().await;
        };
        let mut wire = None;
        let mut pause = SHORTEST;
        while queue.is_due(&life, 1, IDLE).await {
            if self.some(&queue, &mut wire).await {
                pause = SHORTEST;
                continue;
            }
            if !life.rest(pause).await {
                break;
            }
            pause = (pause * 2).min(LONGEST);
        }
        // The next task finds what is left; without one it is lost with the process.
        while queue.is_full(1) && self.some(&queue, &mut wire).await {}
        if let Some(wire) = wire {
            wire.close().await;
        }
    }

    /// Sends the oldest messages. Whether that went well; else the wire is gone, and they still wait.
    async fn some(&self, queue: &Queue, wire: &mut Option<Box<dyn Wire>>) -> bool {
        let Some((text, count)) = self.framed(queue) else {
            return true;
        };
        match self.sent(wire, text).await {
            Ok(()) => (self.logged)(number(count)),
            Err(WireFailure::TooLong) => (self.lost)(number(count)),
            Err(WireFailure::Broken(_)) => {
                (self.failed)(1);
                *wire = None;
                return false;
            }
        }
        queue.take_away(count);
        true
    }

    async fn sent(
        &self,
        wire: &mut Option<Box<dyn Wire>>,
        text: String,
    ) -> Result<(), WireFailure> {
        let open = match wire {
            Some(open) => open,
            None => wire.insert(self.wires.open().await?),
        };
        open.send(text.into()).await
    }

    /// Over a stream each message has its length before it (RFC 6587 section 3.4.1).
    fn framed(&self, queue: &Queue) -> Option<(String, usize)> {
        queue.batch(self.batch, |text, message| {
            if !self.has_datagrams {
                // Writing into memory cannot fail.
                let _ = write!(text, "{} ", message.len());
            }
            text.push_str(message);
        })
    }
}

/// Messages wake the task; this is only how long it sleeps without any.
const IDLE: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
