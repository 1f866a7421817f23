//! Lints of balancing: zones that nobody is in, and cookies of several pools that overwrite each other.
//! It must not know how endpoints are chosen.
//! Called by `config::lint::check`.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::config::report::Report;
use crate::config::schema::{Affinity, AffinityCookie, Config, Endpoint, Pool, Rule, Zone};

/// Looks at every pool, and at the pools of every split.
pub(super) fn check(config: &Config, report: &mut Report) {
    for (at, pool) in config.pools.iter().enumerate() {
        if let Some(zone) = &pool.balance.zone {
            zones(zone, pool, &format!("pools[{at}].balance.zone"), report);
        }
    }
    let cookies: HashMap<&str, &AffinityCookie> = config
        .pools
        .iter()
        .filter_map(|pool| match &pool.balance.affinity {
            Some(Affinity::Cookie(cookie)) => Some((pool.name.as_str(), cookie)),
            Some(Affinity::Header(_) | Affinity::Address(_)) | None => None,
        })
        .collect();
    for (at, route) in config.routes.iter().enumerate() {
        for (index, rule) in route.rules.iter().enumerate() {
            same_cookie(
                rule,
                &cookies,
                &format!("routes[{at}].rules[{index}].split"),
                report,
            );
        }
    }
}

/// Zones that no listed endpoint is in, misspelt perhaps. Of a source nothing is known.
fn zones(zone: &Zone, pool: &Pool, path: &str, report: &mut Report) {
    if pool.endpoints.is_empty() {
        return;
    }
    let label = |endpoint| match endpoint {
        &Endpoint::Address(_) => None,
        Endpoint::Full(full) => full.labels.get(&zone.label),
    };
    let known: HashSet<&String> = pool.endpoints.iter().filter_map(label).collect();
    let own = (format!("{path}.own"), &zone.own);
    let failover = zone.failover.iter().enumerate();
    let failover = failover.map(|(at, name)| (format!("{path}.failover[{at}]"), name));
    for (path, name) in std::iter::once(own).chain(failover) {
        if !known.contains(name) {
            report.warning(
                path,
                format!(
                    "[empty_zone] no endpoint of \"{}\" is in the zone \"{name}\"",
                    pool.name
                ),
                "correct its name, or label the endpoints that are there",
            );
        }
    }
}

/// Pools of one split whose cookies a browser cannot hold beside each other.
fn same_cookie(
    rule: &Rule,
    cookies: &HashMap<&str, &AffinityCookie>,
    path: &str,
    report: &mut Report,
) {
    let mut taken: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (at, share) in rule.split.iter().enumerate() {
        let Some(cookie) = cookies.get(share.pool.as_str()) else {
            continue;
        };
        let key = (cookie.name.as_str(), cookie.path.as_str());
        match taken.get(&key) {
            Some(other) if *other != share.pool => report.warning(
                format!("{path}[{at}].pool"),
                format!("[shared_cookie] keeps clients by the cookie \"{}\" as \"{other}\" does: each response of the one makes the client forget its endpoint in the other", cookie.name),
                "give each pool's `affinity.cookie` a name of its own",
            ),
            Some(_) => {}
            None => drop(taken.insert(key, &share.pool)),
        }
    }
}
