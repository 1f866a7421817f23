//! One monotonic clock for everything that compares moments across threads.
//! It must not know what is timed.
//! Called by the fast path several times for each request; costs one vDSO read.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Nanoseconds since the process first asked; starts at one, so that zero can mean "never".
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX - 1) + 1
}

/// The time of day at a moment of [`now`] that has just been. The clock that tells it is read a few times a second and thread; in
/// between the monotonic one goes on from there, so that a clock that is set is followed within [`FRESH`].
pub fn wall(now: u64) -> SystemTime {
    WALL.with(|wall| {
        let (at, time) = wall.get();
        let since = now.wrapping_sub(at);
        if at != 0 && since < FRESH {
            return time + Duration::from_nanos(since);
        }
        let time = SystemTime::now();
        wall.set((now, time));
        time
    })
}

/// Nanoseconds for which a reading of the time of day is used.
const FRESH: u64 = 100_000_000;

thread_local! {
    static WALL: Cell<(u64, SystemTime)> = const { Cell::new((0, SystemTime::UNIX_EPOCH)) };
}

/// The time between two moments of [`now`]; zero if they are the wrong way around.
pub fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_goes_on_between_readings() {
        let now = now();
        let (first, later) = (wall(now), wall(now + 1_000_000));

        assert_eq!(later, first + Duration::from_millis(1));
        assert!(first.elapsed().is_ok_and(|since| since.as_secs() < 60));
    }

    #[test]
    fn a_reading_of_long_ago_is_not_used() {
        let now = now();
        wall(now);
        let real = SystemTime::now();

        let later = wall(now + FRESH);

        assert!(later
            .duration_since(real)
            .is_ok_and(|since| since < Duration::from_nanos(FRESH)));
    }
}
