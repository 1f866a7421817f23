//! Rules of the subsets that routes ask of pools: somebody can be in them, and their tables stay within bounds.
//! It must not know how endpoints are chosen.
//! Called by `config::rules::routes` for each rule, and by `pools` for each pool afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::balance::labels;
use super::Names;
use crate::config::report::Report;
use crate::config::schema::{
    Affinity, Algorithm, Discovery, Endpoint, Pool, Rule, SubsetFallback, Zone,
};
use crate::snapshot::pool::MAX_PRIORITY;

type Labels = BTreeMap<String, String>;

/// The subsets that rules have named so far, by pool.
#[derive(Default)]
pub(super) struct Subsets<'a> {
    named: HashMap<&'a str, BTreeSet<&'a Labels>>,
    /// Whether a broken route could have named others.
    pub(super) has_broken_routes: bool,
}

impl<'a> Subsets<'a> {
    /// Checks the subsets that a rule names.
    pub(super) fn rule(
        &mut self,
        rule: &'a Rule,
        names: &Names<'a>,
        path: &str,
        report: &mut Report,
    ) {
        if !rule.subset.is_empty() && rule.pool.is_none() {
            let remedy = match rule.split.is_empty() {
                true => "remove it; nothing is sent upstream by this rule",
                false => "give each share its own `subset`",
            };
            report.error(
                format!("{path}.subset"),
                "is only used beside `pool`",
                remedy,
            );
        }
        let one = rule
            .pool
            .iter()
            .map(|pool| (format!("{path}.subset"), pool, &rule.subset));
        let shares = rule.split.iter().enumerate();
        let many = shares.map(|(at, share)| {
            let path = format!("{path}.split[{at}].subset");
            (path, &share.pool, &share.subset)
        });
        for (path, name, subset) in one.chain(many).filter(|(_, _, subset)| !subset.is_empty()) {
            let pool = names.pools.get(name.as_str());
            let Some(pool) = pool.filter(|pool| !pool.is_quarantined) else {
                continue;
            };
            somebody_has(subset, pool, &path, report);
            self.bounded(subset, pool, &path, report);
        }
    }

    /// Counts a subset for its pool. What goes beyond the bounds is told where it is named, as the pool is sound.
    fn bounded(&mut self, subset: &'a Labels, pool: &'a Pool, path: &str, report: &mut Report) {
        let named = self.named.entry(pool.name.as_str()).or_default();
        if named.contains(subset) {
            return;
        }
        let most = most_subsets(pool);
        if named.len() < most {
            named.insert(subset);
            return;
        }
        let name = &pool.name;
        if most == MOST_SUBSETS {
            report.error(
                path,
                format!("routes name {MOST_SUBSETS} other subsets of the pool \"{name}\" before it, and it can have no more"),
                "divide the endpoints between several pools",
            );
        } else {
            let levels = levels(pool);
            report.error(
                path,
                format!("routes name {most} other subsets of the pool \"{name}\" before it; each has a hash table for each of up to {levels} levels (priorities and zones), and a pool can have {MOST_TABLES} tables"),
                "divide the endpoints between several pools, name fewer zones in `failover`, or choose an algorithm without tables",
            );
        }
    }

    /// Settings of a pool that only its subsets would use.
    pub(super) fn pool(&self, pool: &Pool, path: &str, report: &mut Report) {
        let is_named = self.named.contains_key(pool.name.as_str()) || self.has_broken_routes;
        if pool.balance.subset_fallback == SubsetFallback::Any && !is_named {
            report.error(
                format!("{path}.balance.subset_fallback"),
                "is not used: no route names a subset of this pool",
                "remove it, or give a rule `subset`",
            );
        }
    }
}

fn somebody_has(subset: &Labels, pool: &Pool, path: &str, report: &mut Report) {
    if matches!(pool.discovery, Some(Discovery::Dns(_))) {
        report.error(
            path,
            format!(
                "asks for labels, and DNS gives the endpoints of the pool \"{}\" none",
                pool.name
            ),
            "list the endpoints with `labels` in a file and use `discovery.file`, or remove `subset`",
        );
    }
    let has = |labels: &Labels| {
        let mut wanted = subset.iter();
        wanted.all(|(key, value)| labels.get(key) == Some(value))
    };
    if !pool.endpoints.is_empty() && !labels(pool).any(has) {
        let wanted: Vec<String> = subset
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        report.error(
            path,
            format!(
                "no endpoint of the pool \"{}\" has the labels {}",
                pool.name,
                wanted.join(", ")
            ),
            "give endpoints these `labels`, or correct the subset",
        );
    }
}

/// How many subsets a pool can have: as many as its tables leave room for, beside those of the pool as a whole.
fn most_subsets(pool: &Pool) -> usize {
    let has_tables = match (pool.balance.algorithm, &pool.balance.affinity) {
        (Algorithm::Maglev | Algorithm::Ketama, _) => true,
        (_, Some(Affinity::Header(_) | Affinity::Address(_))) => true,
        (_, Some(Affinity::Cookie(_)) | None) => false,
    };
    match has_tables {
        true => (MOST_TABLES / levels(pool) - 1).min(MOST_SUBSETS),
        false => MOST_SUBSETS,
    }
}

/// How many levels endpoints of the pool can stand in: those that are listed, or all that a source could give.
fn levels(pool: &Pool) -> usize {
    let zone = pool.balance.zone.as_ref();
    let priorities = usize::from(MAX_PRIORITY) + 1;
    match &pool.discovery {
        Some(Discovery::Dns(_)) => priorities,
        Some(Discovery::File(_)) => priorities * zone.map_or(1, |zone| zone.failover.len() + 2),
        None => {
            let level = |endpoint: &Endpoint| match endpoint {
                Endpoint::Address(_) => (0, zone.map(|zone| zone.failover.len() + 1)),
                Endpoint::Full(full) => {
                    let distance = zone.map(|zone| distance(zone, &full.labels));
                    (full.priority.min(MAX_PRIORITY), distance)
                }
            };
            let all: BTreeSet<_> = pool.endpoints.iter().map(level).collect();
            all.len().max(1)
        }
    }
}

fn distance(zone: &Zone, labels: &Labels) -> usize {
    let name = labels.get(&zone.label);
    if name == Some(&zone.own) {
        return 0;
    }
    let at = zone.failover.iter().position(|one| Some(one) == name);
    at.unwrap_or(zone.failover.len()) + 1
}

/// Each subset has what the algorithm prepares for a level.
const MOST_SUBSETS: usize = 64;
/// A table of maglev has 128 KiB, so these are 32 MiB.
const MOST_TABLES: usize = 256;
