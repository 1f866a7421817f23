//! Background tasks: work of a plugin beside requests, such as refreshing keys or sending what was gathered.
//! It must not know who runs it; the proxy does while the instance is in force, a test by hand.
//! Attached in `build` with `Hooks::background`.

use std::fmt;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use super::Clock;

/// The future of a task.
pub type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task of an instance.
///
/// It begins when the snapshot with the instance is in force. Every reload that changes anything builds all instances anew, so it
/// also ends the task and begins that of the new instance, once the old one has ended: what both need lives in `Build::shared`,
/// and at no moment do two tasks of the same instance work on it. One that panics or ends by itself is told, counted and begun
/// again, after a second at first and up to a minute later. Dry runs begin none.
#[derive(Clone)]
pub struct Background {
    /// Its name within the instance.
    pub name: &'static str,
    /// Begins it.
    pub begin: Arc<dyn Fn(Life) -> TaskFuture + Send + Sync>,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Background({})", self.name)
    }
}

/// What a task knows of its end, and of time.
#[derive(Clone)]
pub struct Life {
    clock: Clock,
    end: watch::Receiver<bool>,
}

/// Ends a life.
pub struct End(watch::Sender<bool>);

impl End {
    /// Asks the task to end. It has five seconds for what it has in hand, then it is stopped where it is.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Life {
    /// A life, and what ends it. Without the latter it is over.
    pub fn new(clock: Clock) -> (Life, End) {
        let (end, asked) = watch::channel(false);
        (Life { clock, end: asked }, End(end))
    }

    /// Whether the task shall end.
    pub fn is_over(&self) -> bool {
        *self.end.borrow() || self.end.has_changed().is_err()
    }

    /// Waits until the task shall end.
    pub async fn over(&self) {
        let mut end = self.end.clone();
        // Whoever would ask is gone: that is an end as well.
        let _ = end.wait_for(|asked| *asked).await;
    }

    /// Waits for a time. `false` as soon as the task shall end.
    pub async fn rest(&self, time: Duration) -> bool {
        let until = self.clock.elapsed() + time;
        let mut over = pin!(self.over());
        let mut timer = match self.clock {
            Clock::System => Some(Box::pin(tokio::time::sleep(time))),
            // A test moves the clock and polls again.
            Clock::Fake(_) => None,
        };
        poll_fn(|cx| {
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            let is_time = match &mut timer {
                Some(timer) => timer.as_mut().poll(cx).is_ready(),
                None => self.clock.elapsed() >= until,
            };
            if is_time {
                Poll::Ready(true)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
