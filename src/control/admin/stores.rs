//! The view of stores that plugins share with other proxies: whether they are there, and if not, why.
//! It must not ask them anything; whoever keeps them knows.
//! Part of the overview, which `windrose status` renders.

use serde::Serialize;

use super::state::rfc3339;
use crate::snapshot::Snapshot;

/// A store.
#[derive(Serialize)]
pub(super) struct StoreView {
    pub(super) name: String,
    address: String,
    pub(super) connected: bool,
    since: String,
    /// Why it is not connected, or was not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// Every store, by name.
pub(super) fn view(snapshot: &Snapshot) -> Vec<StoreView> {
    let all = snapshot.stores.all().map(|cell| {
        let health = cell.health();
        StoreView {
            name: cell.name.to_string(),
            address: cell.settings.address.to_string(),
            connected: health.is_up,
            since: rfc3339(health.since),
            problem: health.problem,
        }
    });
    all.collect()
}

/// What needs attention about a store.
pub(super) fn alarm(store: &StoreView) -> Option<String> {
    let why = match &store.problem {
        _ if store.connected => return None,
        Some(problem) => problem.as_str(),
        None => "it was not tried yet",
    };
    Some(format!("store {} is not connected: {why}", store.name))
}
