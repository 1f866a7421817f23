//! Compares the endpoints of a pool at the end of every interval.
//! It must not know by what they are compared; `snapshot::outlier` does that.
//! One task for each pool that asks for it; `PoolKeeper` starts and stops it.

use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use super::spread;
use crate::observe::clock;
use crate::snapshot::outlier::{self, Told};
use crate::snapshot::pool::Pool;

/// Compares for as long as it runs.
pub(super) async fn follow(slot: Arc<Slot>, interval: Duration) {
    let mut looks = tokio::time::interval(interval);
    // The first comes at once.
    looks.tick().await;
    loop {
        looks.tick().await;
        sweep(&slot.pool());
    }
}

fn sweep(pool: &Pool) {
    let set = pool.set.load();
    let told = Told {
        rules: &pool.settings.ejection,
        members: &set.members,
        now: clock::now(),
        random: 0,
    };
    for (member, change) in outlier::sweep(&told, &mut spread::bits) {
        change.report(&pool.name, &member.endpoint);
    }
}
