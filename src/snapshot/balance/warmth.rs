//! Slow start: how much of its weight an endpoint has after it came, or came back.
//! It must not know pools or choices.
//! Asked for every candidate of pools with `slow_start`, and by views.

use crate::snapshot::endpoint::EndpointState;

/// The part of its weight that an endpoint has at the moment `now`, of [`FULL`]: time since it came divided by the
/// window, a tenth at least. That is Envoy's rule with aggression 1: in the middle of the window it has half.
///
/// It came when it was new in a pool that was running, passed its health check again, or when its ejection ended.
pub fn warmth(state: &EndpointState, now: u64, window: u64) -> u64 {
    let since = state.since(now);
    if since == 0 || window == 0 {
        return FULL;
    }
    let age = now.saturating_sub(since);
    if age >= window {
        return FULL;
    }
    let grown = u128::from(age) * u128::from(FULL) / u128::from(window);
    (grown as u64).max(LEAST)
}

/// The whole weight.
pub const FULL: u64 = 1 << 16;

/// Enough to be noticed failing, and to get warm at all.
const LEAST: u64 = FULL / 10;
