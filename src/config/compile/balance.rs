//! How endpoints are chosen, in final form, and the subsets that routes ask of a pool.
//! It must not know endpoints.
//! Called for each pool, and once for all subsets.

use std::collections::{BTreeSet, HashMap};

use crate::config::schema::{self, Config};
use crate::snapshot::pool::{
    Affinity, AffinityCookie, Algorithm, Balance, Choices, HashKey, Labels, SubsetFallback,
    ZonePreference,
};

/// The settings of `balance`; subsets are those of routes and come later.
pub(super) fn balance(it: &schema::Balance, pool: &str) -> Balance {
    Balance {
        algorithm: match it.algorithm {
            schema::Algorithm::Ewma => Algorithm::Ewma,
            schema::Algorithm::RoundRobin => Algorithm::RoundRobin,
            schema::Algorithm::LeastRequest => Algorithm::LeastRequest,
            schema::Algorithm::Random => Algorithm::Random,
            schema::Algorithm::Maglev => Algorithm::Maglev,
            schema::Algorithm::Ketama => Algorithm::Ketama,
        },
        choices: match it.choices {
            None => Choices::Of(2),
            Some(schema::Choices::Of(count)) => Choices::Of(count),
            Some(schema::Choices::All(schema::AllChoices::All)) => Choices::All,
        },
        hash: match &it.hash {
            None => vec![HashKey::ClientIp],
            Some(keys) => keys.all().iter().filter_map(key).collect(),
        },
        load_bound: f64::from(it.hash_balance_factor) / 100.0,
        slow_start: it.slow_start.0,
        panic_threshold: it.panic_threshold.fraction(),
        zone: it.zone.as_ref().map(|zone| ZonePreference {
            own: zone.own.as_str().into(),
            label: zone.label.as_str().into(),
            failover: zone
                .failover
                .iter()
                .map(|zone| zone.as_str().into())
                .collect(),
            min_endpoints: usize::try_from(zone.min_endpoints).unwrap_or(usize::MAX),
        }),
        affinity: it.affinity.as_ref().and_then(|it| affinity(it, pool)),
        subsets: Box::default(),
        subset_fallback: match it.subset_fallback {
            schema::SubsetFallback::None => SubsetFallback::None,
            schema::SubsetFallback::Any => SubsetFallback::Any,
        },
    }
}

/// `None` for a name that `rules` has refused.
fn key(key: &schema::HashKey) -> Option<HashKey> {
    Some(match key {
        schema::HashKey::ClientIp => HashKey::ClientIp,
        schema::HashKey::Header(name) => HashKey::Header(name.parse().ok()?),
        schema::HashKey::Cookie(name) => HashKey::Cookie(name.as_str().into()),
        schema::HashKey::Query(name) => HashKey::Query(name.as_str().into()),
        schema::HashKey::Path => HashKey::Path,
    })
}

fn affinity(it: &schema::Affinity, pool: &str) -> Option<Affinity> {
    Some(match it {
        schema::Affinity::Header(name) => Affinity::Header(name.parse().ok()?),
        schema::Affinity::Address(_) => Affinity::Address,
        schema::Affinity::Cookie(cookie) => Affinity::Cookie(AffinityCookie {
            name: cookie.name.as_str().into(),
            attributes: attributes(cookie).into(),
            key: cookie.secret.as_deref().unwrap_or(pool).as_bytes().into(),
            always_secure: cookie.same_site == schema::SameSite::None,
        }),
    })
}

fn attributes(cookie: &schema::AffinityCookie) -> String {
    let same_site = match cookie.same_site {
        schema::SameSite::Strict => "Strict",
        schema::SameSite::Lax => "Lax",
        schema::SameSite::None => "None",
    };
    let age = match cookie.ttl.0.as_secs() {
        0 => String::new(),
        seconds => format!("; Max-Age={seconds}"),
    };
    format!(
        "; Path={}{age}; HttpOnly; SameSite={same_site}",
        cookie.path
    )
}

/// The subsets of each pool that rules name, each once. Their order is that of the labels, so that a route moved in the
/// file changes nothing.
pub(super) fn subsets(config: &Config) -> HashMap<&str, BTreeSet<&Labels>> {
    let rules = config
        .routes
        .iter()
        .filter(|route| !route.is_quarantined)
        .flat_map(|route| &route.rules);
    let mut all = HashMap::<_, BTreeSet<_>>::new();
    for (pool, subset) in rules.flat_map(|rule| rule.destinations()) {
        if !subset.is_empty() {
            all.entry(pool).or_default().insert(subset);
        }
    }
    all
}
