//! One monotonic clock for everything that compares moments across threads.
//! It must not know what is timed.
//! Called by the fast path several times for each request; costs one vDSO read.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Nanoseconds since the process first asked; starts at one, so that zero can mean "never".
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX - 1) + 1
}

/// The time between two moments of [`now`]; zero if they are the wrong way around.
pub fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}
