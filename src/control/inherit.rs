//! Sockets inherited from the process before, as numbers, made into owned ones.
//! It must not know listeners.
//! Called once at start by `listeners`; the only unsafe code of the house.
#![allow(
    unsafe_code,
    reason = "a number received from another process can only be trusted, not checked; see `adopt`"
)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that Pingora received for us from the process before.
///
/// Each number in Pingora's table was just received with `SCM_RIGHTS` and belongs to nobody else; the caller empties the
/// table, so each is adopted once.
pub(super) fn adopt(number: RawFd) -> Option<OwnedFd> {
    if number < 0 {
        return None;
    }
    // SAFETY: see above: the number is open, ours, and adopted once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
