//! A pool as an explanation shows it: who could be picked, and why others are out.
//! It must not pick.
//! Called for every pool a rule may send to.

use std::sync::atomic::Ordering::Relaxed;

use http::HeaderMap;

use super::view::{EndpointSeen, LevelSeen, PoolSeen};
use super::{limits, mutual, words};
use crate::decide::fields;
use crate::observe::clock;
use crate::snapshot::balance::LevelShare;
use crate::snapshot::pool::{
    Affinity, EndpointSet, EndpointSpec, Member, Pool, PoolSettings, SubsetFallback,
};

pub(super) fn seen(pool: &Pool, share_percent: f64, live: bool, came: &HeaderMap) -> PoolSeen {
    let set = pool.set.load();
    let now = clock::now();
    let shares = live.then(|| set.table.shares(&set.members, pool.subset, now));
    let share = |at: usize| Some(percent(*shares.as_ref()?.get(at)?));
    let members = set.members.iter().enumerate();
    PoolSeen {
        name: pool.name.to_string(),
        place: pool.place.to_string(),
        share_percent: (share_percent * 100.0).round() / 100.0,
        balance: balance(&pool.settings),
        mtls: pool
            .settings
            .mtls
            .as_ref()
            .map(|mtls| mutual::outbound(mtls)),
        limits: pool
            .limits
            .as_ref()
            .map_or_else(Vec::new, |limited| limits::told(limited, live)),
        subset: pool.subset_labels().cloned().unwrap_or_default(),
        subset_fallback: pool.subset.map(|_| fallback(pool).to_owned()),
        affinity: affinity(pool, &set, came),
        levels: levels(pool, &set, live, now),
        endpoints: members
            .map(|(at, member)| EndpointSeen {
                address: member.endpoint.label.to_string(),
                weight: member.weight,
                priority: Some(member.priority).filter(|priority| *priority > 0),
                zone: words::zone(&pool.settings.balance, member),
                slow_start_percent: words::slow_start(&pool.settings.balance, member, now)
                    .filter(|_| live),
                share_percent: share(at),
                out: out(pool, member, now, live),
            })
            .chain(set.forbidden.iter().map(|(_, spec)| forbidden(pool, spec)))
            .collect(),
    }
}

/// An endpoint that nothing connects to.
fn forbidden(pool: &Pool, spec: &EndpointSpec) -> EndpointSeen {
    let why = pool.settings.forbids(&spec.address).unwrap_or_default();
    EndpointSeen {
        address: spec.address.to_string(),
        weight: spec.weight,
        priority: Some(spec.priority).filter(|priority| *priority > 0),
        zone: None,
        slow_start_percent: None,
        share_percent: Some(0.0),
        out: Some(format!("`ssrf_guard` forbids it: the address {why}")),
    }
}

fn out(pool: &Pool, member: &Member, now: u64, live: bool) -> Option<String> {
    let state = &member.endpoint.state;
    let is_asked_for = pool.subset_labels().is_none_or(|labels| member.has(labels));
    if !is_asked_for && pool.settings.balance.subset_fallback == SubsetFallback::None {
        return Some("it is not in the subset".to_owned());
    }
    if member.weight == 0 {
        return Some("draining: its weight is 0".to_owned());
    }
    if !live {
        return None;
    }
    if !state.healthy.load(Relaxed) {
        return Some("its health check fails".to_owned());
    }
    words::ejection(&state.outlier.seen(&pool.settings.ejection, now))
}

fn fallback(pool: &Pool) -> &'static str {
    words::fallback(pool.settings.balance.subset_fallback)
}

/// What keeps the client at its endpoint; of a cookie also which endpoint it names, and whether the response sets it.
fn affinity(pool: &Pool, set: &EndpointSet, came: &HeaderMap) -> Option<String> {
    let affinity = pool.settings.balance.affinity.as_ref()?;
    let words = words::affinity(affinity);
    let (Affinity::Cookie(cookie), Some(sessions)) = (affinity, &set.sessions) else {
        return Some(words);
    };
    let named = fields::cookie(came, &cookie.name);
    let member = named.and_then(|name| set.members.get(usize::from(sessions.find(name)?)));
    Some(match (named, member) {
        (Some(_), Some(member)) => format!("{words}, which names {}", member.endpoint.label),
        (Some(_), None) => format!("{words}, which names no endpoint; the response sets it anew"),
        (None, _) => format!("{words}, which the response sets"),
    })
}

fn levels(pool: &Pool, set: &EndpointSet, live: bool, now: u64) -> Vec<LevelSeen> {
    let levels = set.table.levels(&set.members, pool.subset, now);
    if levels.len() < 2 {
        return Vec::new();
    }
    let seen = |(at, level): (usize, LevelShare)| LevelSeen {
        priority: level.rank.priority,
        zone: words::level_zone(&pool.settings.balance, level.rank),
        total: level.total,
        available: live.then_some(level.available),
        share_percent: match live {
            true => percent(level.part),
            false if at == 0 => 100.0,
            false => 0.0,
        },
        panics: live && level.panics,
    };
    levels.into_iter().enumerate().map(seen).collect()
}

fn percent(part: f64) -> f64 {
    (part * 10_000.0).round() / 100.0
}

/// How an endpoint is chosen, with what is hashed.
fn balance(settings: &PoolSettings) -> String {
    let name = words::algorithm(settings.balance.algorithm);
    match words::hash(settings) {
        Some(hash) => format!("{name} by {hash}"),
        None => format!("{name}{}", words::choices(settings.balance.choices)),
    }
}
