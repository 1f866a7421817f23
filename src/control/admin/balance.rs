//! How a pool balances, as `/pools` shows it: settings that are not the default, levels with their shares, and subsets.
//! It must not know endpoints beyond what the table counts.
//! Called by `pools`.

use serde::Serialize;

use super::state::millis;
use crate::explain::words;
use crate::snapshot::balance::LevelShare;
use crate::snapshot::pool::{Balance, Choices, EndpointSet, Labels};

/// Settings beside the algorithm.
#[derive(Serialize)]
pub(super) struct BalanceView {
    panic_threshold: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_balance_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<ZoneView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subsets: Vec<SubsetView>,
}

#[derive(Serialize)]
struct ZoneView {
    own: String,
    label: String,
    failover: Vec<String>,
    min_endpoints: usize,
}

/// A subset that some rule asks for.
#[derive(Serialize)]
struct SubsetView {
    labels: Labels,
    /// Endpoints with a weight that have the labels.
    endpoints: usize,
    fallback: &'static str,
}

/// Endpoints of one priority and zone distance.
#[derive(Serialize)]
pub(super) struct LevelView {
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    total: usize,
    available: usize,
    share_percent: f64,
    panics: bool,
}

pub(super) fn settings(balance: &Balance, set: &EndpointSet) -> BalanceView {
    let subset = |(at, labels): (u16, &Labels)| SubsetView {
        labels: labels.clone(),
        endpoints: set.table.subset_size(at),
        fallback: words::fallback(balance.subset_fallback),
    };
    BalanceView {
        panic_threshold: balance.panic_threshold,
        choices: match balance.choices {
            Choices::Of(2) => None,
            Choices::Of(count) => Some(count.to_string()),
            Choices::All => Some("all".into()),
        },
        hash_balance_factor: Some(balance.load_bound * 100.0).filter(|factor| *factor > 0.0),
        slow_start_ms: Some(millis(balance.slow_start)).filter(|time| *time > 0.0),
        zone: balance.zone.as_ref().map(|zone| ZoneView {
            own: zone.own.to_string(),
            label: zone.label.to_string(),
            failover: zone.failover.iter().map(ToString::to_string).collect(),
            min_endpoints: zone.min_endpoints,
        }),
        affinity: balance.affinity.as_ref().map(words::affinity),
        subsets: (0..).zip(&balance.subsets).map(subset).collect(),
    }
}

pub(super) fn levels(balance: &Balance, set: &EndpointSet, now: u64) -> Vec<LevelView> {
    let view = |level: LevelShare| LevelView {
        priority: level.rank.priority,
        zone: words::level_zone(balance, level.rank),
        total: level.total,
        available: level.available,
        share_percent: (level.part * 10_000.0).round() / 100.0,
        panics: level.panics,
    };
    let levels = set.table.levels(&set.members, None, now);
    levels.into_iter().map(view).collect()
}
