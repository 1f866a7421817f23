//! Whether the other end of an HTTP/2 connection is still there: it is asked from time to time, and has to answer.
//! It must not know what the connection carries.
//! Both ends of HBONE ask, so that neither holds connections of a node that was cut off until the system gives them up.

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

/// When the other end is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beat {
    /// How often.
    pub(super) every: Duration,
    /// How long is waited for the answer.
    pub(super) patience: Duration,
    /// After how long an answer is late: it is asked at once where another answer is, and nothing new begins while its own is.
    pub(super) late: Duration,
}

impl Default for Beat {
    /// As often as Linkerd; with more patience, since the answer of a node that is well waits behind what fills its line.
    fn default() -> Beat {
        let ten = Duration::from_secs(10);
        Beat {
            every: ten,
            patience: ten,
            late: Duration::from_secs(1),
        }
    }
}

/// The other end's life.
pub(super) struct Life {
    pings: PingPong,
    beat: Beat,
}

impl Life {
    pub(super) fn new(pings: PingPong, beat: Beat) -> Life {
        Life { pings, beat }
    }

    /// Asks once, and says when the answer is late. Not to be asked again after `false`.
    pub(super) async fn answers(&mut self, is_late: impl FnOnce()) -> bool {
        let Beat { patience, late, .. } = self.beat;
        let answer = self.pings.ping(Ping::opaque());
        tokio::pin!(answer);
        if let Ok(answered) = timeout(late.min(patience), &mut answer).await {
            return answered.is_ok();
        }
        is_late();
        let answered = timeout(patience.saturating_sub(late), answer).await;
        answered.is_ok_and(|answered| answered.is_ok())
    }

    /// Waits until it is time to ask again.
    pub(super) async fn rests(&self) {
        sleep(self.beat.every).await;
    }

    /// Ends when the other end no longer answers.
    pub(super) async fn ended(mut self) {
        loop {
            self.rests().await;
            if !self.answers(|| {}).await {
                return;
            }
        }
    }
}
