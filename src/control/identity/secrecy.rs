//! Keeps keys out of files: a process with identities leaves no core dump, and its memory is not open to others of its user.
//! It must not know which keys there are.
//! Called by the keeper before the first one comes into use.

use std::sync::Once;

use rustix::process::{set_dumpable_behavior, DumpableBehavior};

/// From now on this process is not dumped (`PR_SET_DUMPABLE`). Only an administrator can attach to it.
pub(super) fn conceal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            log::warn!(
                "keys may end up in core files, which could not be turned off: cause={error}"
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn the_process_is_not_dumped_any_more() {
        conceal();

        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
