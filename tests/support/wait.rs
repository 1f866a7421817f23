//! Waiting for a state with a deadline.
//! It must not know what is waited for.
//! Used wherever another process or thread has to get somewhere first.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for anything; far above what a loaded machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < DEADLINE, "never came: {what}");
        pause(Duration::from_millis(5));
    }
}

/// Lets others work for a moment. Only for loops that look again, and for peers that are slow on purpose.
pub(crate) fn pause(moment: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap();
    let _ = Condvar::new().wait_timeout_while(guard, moment, |()| true);
}
