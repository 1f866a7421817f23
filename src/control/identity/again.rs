//! Judges connections again that are open: all of them when other roots are believed, each when its certificates end.
//! It must not know what a connection carries; whoever carries it waits at its proof.
//! One task, run while the node has an identity.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::snapshot::identity::{Identities, Scope};
use crate::snapshot::lease::Leases;

/// Judges for as long as it is polled.
pub(super) async fn follow(registry: Arc<Identities>, leases: Arc<Leases>) {
    let mut scope = Scope::All;
    loop {
        let (judged, streams) = (registry.clone(), leases.clone());
        // Signatures are verified for each certificate there is: thousands take a while.
        let judging = tokio::task::spawn_blocking(move || {
            let fell = judged.proofs().judge(scope, &judged.trust(), now());
            if fell > 0 {
                streams.end_unproven();
                log::info!("ended connections whose certificates no longer prove anything: connections={fell}");
            }
        });
        if judging.await.is_err() {
            log::error!("judging connections again failed");
        }
        scope = tokio::select! {
            biased;
            () = registry.changed() => Scope::All,
            () = registry.proofs().came() => Scope::Due,
            () = tokio::time::sleep(rest(&registry)) => Scope::Due,
        };
    }
}

/// Until the next certificate ends; the clock of the wall may be set meanwhile.
fn rest(registry: &Identities) -> Duration {
    let next = registry.proofs().next();
    let left = next.map(|next| u64::try_from(next - now()).unwrap_or(0));
    left.map_or(LOOK, |left| Duration::from_millis(left).min(LOOK))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

const LOOK: Duration = Duration::from_secs(30);
