//! A pool as an explanation shows it: who could be picked, and why others are out.
//! It must not pick.
//! Called for every pool a rule may send to.

use std::sync::atomic::Ordering::Relaxed;

use super::view::{EndpointSeen, PoolSeen};
use super::words;
use crate::observe::clock;
use crate::snapshot::pool::{Ejection, Member, Pool, PoolSettings};

pub(super) fn seen(pool: &Pool, share_percent: f64, live: bool) -> PoolSeen {
    let set = pool.set.load();
    let now = clock::now();
    PoolSeen {
        name: pool.name.to_string(),
        place: pool.place.to_string(),
        share_percent: (share_percent * 100.0).round() / 100.0,
        balance: balance(&pool.settings),
        endpoints: set
            .members
            .iter()
            .map(|member| EndpointSeen {
                address: member.endpoint.label.to_string(),
                weight: member.weight,
                out: out(member, &pool.settings.ejection, now, live),
            })
            .collect(),
    }
}

fn out(member: &Member, rules: &Ejection, now: u64, live: bool) -> Option<String> {
    let state = &member.endpoint.state;
    if member.weight == 0 {
        return Some("draining: its weight is 0".to_owned());
    }
    if !live {
        return None;
    }
    if !state.healthy.load(Relaxed) {
        return Some("its health check fails".to_owned());
    }
    words::ejection(&state.outlier.seen(rules, now))
}

/// How an endpoint is chosen, with what is hashed.
fn balance(settings: &PoolSettings) -> String {
    let name = words::algorithm(settings.balance.algorithm);
    match words::hash(settings) {
        Some(hash) => format!("{name} by {hash}"),
        None => name.to_owned(),
    }
}
