//! Rules of `pools[].balance`.
//! It must not know how endpoints are chosen; `subsets` checks what routes ask of a pool.
//! Called by `config::rules::pools` for each pool.

use std::collections::BTreeMap;

use windrose_plugins::contract::Time;

use super::values::{accept, given, path as canonical, token, within};
use crate::config::report::Report;
use crate::config::schema::{
    Affinity, AffinityCookie, Algorithm, Balance, Choices, Discovery, Endpoint, HashKey, HashKeys,
    Pool, PoolProtocol, Zone,
};

/// Checks how a pool's endpoints are chosen.
pub(super) fn check(pool: &Pool, path: &str, report: &mut Report) {
    let it = &pool.balance;
    let path = format!("{path}.balance");
    unused(it, &path, report);
    if let Some(Choices::Of(count)) = it.choices {
        within(report, &format!("{path}.choices"), count, 2, 10);
    }
    if let Some(keys) = &it.hash {
        hash(keys, pool.protocol, &format!("{path}.hash"), report);
    }
    if it.hash_balance_factor != 0 {
        let path = format!("{path}.hash_balance_factor");
        within(report, &path, it.hash_balance_factor, 101, 1000);
    }
    if it.slow_start > Time::secs(3600) {
        report.error(
            format!("{path}.slow_start"),
            format!("must be at most 1h, found \"{}\"", it.slow_start),
            "shorten it; a minute warms most caches",
        );
    }
    if let Some(it) = &it.zone {
        zone(it, pool, &format!("{path}.zone"), report);
    }
    if let Some(it) = &it.affinity {
        affinity(it, pool, &format!("{path}.affinity"), report);
    }
}

/// Settings that the algorithm does not look at.
fn unused(it: &Balance, path: &str, report: &mut Report) {
    let is_consistent = matches!(it.algorithm, Algorithm::Maglev | Algorithm::Ketama);
    let compares = matches!(it.algorithm, Algorithm::Ewma | Algorithm::LeastRequest);
    for (key, given) in [
        ("hash", it.hash.is_some()),
        ("hash_balance_factor", it.hash_balance_factor != 0),
    ] {
        if given && !is_consistent {
            report.error(
                format!("{path}.{key}"),
                "is only used by the algorithms \"maglev\" and \"ketama\"",
                "remove it, or choose one of them",
            );
        }
    }
    if it.slow_start != Time::secs(0) && is_consistent {
        report.error(
            format!("{path}.slow_start"),
            "is not used by the algorithms \"maglev\" and \"ketama\": a weight that grows would move keys all the time",
            "remove it, or choose another algorithm",
        );
    }
    if matches!(it.affinity, Some(Affinity::Address(true))) && !is_consistent {
        replaced(it, path, report);
    }
    if it.choices.is_some() && !compares {
        report.error(
            format!("{path}.choices"),
            "is only used by the algorithms \"ewma\" and \"least_request\"",
            "remove it, or choose one of them",
        );
    }
}

/// Every client has an address, so its endpoint is found by that alone and nothing is left to the algorithm.
fn replaced(it: &Balance, path: &str, report: &mut Report) {
    for (key, given) in [
        ("algorithm", it.algorithm != Algorithm::default()),
        ("choices", it.choices.is_some()),
        ("slow_start", it.slow_start != Time::secs(0)),
    ] {
        if given {
            report.error(
                format!("{path}.{key}"),
                "is not used beside `affinity: {address: true}`, which finds the endpoint of every client by its address",
                "remove it, or keep clients with `affinity.cookie`",
            );
        }
    }
}

fn hash(keys: &HashKeys, protocol: PoolProtocol, path: &str, report: &mut Report) {
    let all = keys.all();
    if all.is_empty() || all.len() > MOST_KEYS {
        report.error(
            path,
            format!("must have from 1 to {MOST_KEYS} keys, found {}", all.len()),
            "leave it out to hash the client's address",
        );
    }
    for (at, key) in all.iter().enumerate() {
        let path = match keys {
            HashKeys::One(_) => path.to_owned(),
            HashKeys::FirstOf(_) => format!("{path}[{at}]"),
        };
        if protocol == PoolProtocol::Tcp && *key != HashKey::ClientIp {
            report.error(
                &path,
                "needs a request, and protocol \"tcp\" has none",
                "use `client_ip`",
            );
        }
        hash_key(key, &path, report);
        let always = |key: &HashKey| matches!(key, HashKey::ClientIp | HashKey::Path);
        if all[..at].contains(key) || all[..at].iter().any(always) {
            report.error(
                &path,
                "is never reached: a key before it is found in every request that has this one",
                "remove it, or put it further up",
            );
        }
    }
}

fn hash_key(key: &HashKey, path: &str, report: &mut Report) {
    match key {
        HashKey::Header(name) => {
            accept(
                report,
                &format!("{path}.header"),
                token(name, "header name"),
            );
        }
        HashKey::Cookie(name) => {
            accept(
                report,
                &format!("{path}.cookie"),
                token(name, "cookie name"),
            );
        }
        HashKey::Query(name) => {
            given(report, &format!("{path}.query"), name);
        }
        HashKey::ClientIp | HashKey::Path => {}
    }
}

fn zone(it: &Zone, pool: &Pool, path: &str, report: &mut Report) {
    if matches!(pool.discovery, Some(Discovery::Dns(_))) {
        report.error(
            path,
            "reads labels, and DNS gives endpoints none",
            "list the endpoints with `labels` in a file and use `discovery.file`, or remove `zone`",
        );
    }
    given(report, &format!("{path}.own"), &it.own);
    given(report, &format!("{path}.label"), &it.label);
    within(
        report,
        &format!("{path}.min_endpoints"),
        it.min_endpoints,
        1,
        10_000,
    );
    if it.failover.len() > MOST_ZONES {
        report.error(
            format!("{path}.failover"),
            format!(
                "has {} zones, and at most {MOST_ZONES} are told apart",
                it.failover.len()
            ),
            "name the nearest; all others come after them together",
        );
    }
    for (at, name) in it.failover.iter().enumerate() {
        let path = format!("{path}.failover[{at}]");
        given(report, &path, name);
        if *name == it.own || it.failover[..at].contains(name) {
            report.error(
                path,
                format!("\"{name}\" has its place already"),
                "remove it; the own zone is always first",
            );
        }
    }
    let has_label = |labels: &BTreeMap<String, String>| labels.contains_key(&it.label);
    if !pool.endpoints.is_empty() && !labels(pool).any(has_label) {
        report.error(
            format!("{path}.label"),
            format!("no endpoint of the pool has a label \"{}\"", it.label),
            "give the endpoints `labels`, or remove `zone`",
        );
    }
}

fn affinity(it: &Affinity, pool: &Pool, path: &str, report: &mut Report) {
    let is_consistent = matches!(
        pool.balance.algorithm,
        Algorithm::Maglev | Algorithm::Ketama
    );
    let key = match it {
        Affinity::Cookie(_) => "cookie",
        Affinity::Header(_) => "header",
        Affinity::Address(_) => "address",
    };
    let path = format!("{path}.{key}");
    match it {
        Affinity::Cookie(it) => cookie(it, &path, report),
        Affinity::Header(name) => {
            accept(report, &path, token(name, "header name"));
        }
        Affinity::Address(true) => {}
        Affinity::Address(false) => report.error(
            &path,
            "must be true, found false",
            "remove `affinity` to choose an endpoint for each request",
        ),
    }
    if is_consistent && key != "cookie" {
        report.error(
            &path,
            "is not used by the algorithms \"maglev\" and \"ketama\", which keep keys at their endpoints themselves",
            "write it under `hash`, or choose another algorithm",
        );
    }
    if pool.protocol == PoolProtocol::Tcp && key != "address" {
        report.error(
            &path,
            "needs a request, and protocol \"tcp\" has none",
            "use `address: true`",
        );
    }
}

fn cookie(it: &AffinityCookie, path: &str, report: &mut Report) {
    accept(
        report,
        &format!("{path}.name"),
        token(&it.name, "cookie name"),
    );
    let at = format!("{path}.path");
    // RFC 6265 section 4.1.1: an attribute ends at the semicolon.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if it.path.bytes().all(is_plain) {
        accept(report, &at, canonical(&it.path));
    } else {
        report.error(
            at,
            format!("\"{}\" cannot be the path of a cookie", it.path),
            "write a path without spaces and semicolons, other characters percent-encoded",
        );
    }
    if it.ttl > LONGEST_COOKIE {
        report.error(
            format!("{path}.ttl"),
            format!("must be at most 400d, found \"{}\"", it.ttl),
            "shorten it; browsers keep no cookie longer",
        );
    }
    if it
        .secret
        .as_ref()
        .is_some_and(|secret| secret.len() < SHORTEST_SECRET)
    {
        report.error(
            format!("{path}.secret"),
            format!("must have at least {SHORTEST_SECRET} bytes"),
            "make one with `openssl rand -hex 16` and read it with `${file:…}`",
        );
    }
}

/// The labels of the endpoints that are written in the configuration.
pub(super) fn labels(pool: &Pool) -> impl Iterator<Item = &BTreeMap<String, String>> {
    pool.endpoints.iter().map(|endpoint| match endpoint {
        Endpoint::Address(_) => &NO_LABELS,
        Endpoint::Full(full) => &full.labels,
    })
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

const MOST_KEYS: usize = 8;
/// With the own zone and all others this makes eight distances.
const MOST_ZONES: usize = 6;
/// RFC 6265bis section 5.5.
const LONGEST_COOKIE: Time = Time::secs(400 * 24 * 3600);
const SHORTEST_SECRET: usize = 16;
