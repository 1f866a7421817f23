//! The lint of rules that never win, because an earlier one of the same rank matches everything they match.
//! It must not guess: only conditions that are equal, or absent in the earlier rule and unranked, count.
//! Called by `config::lint::check`.

use std::collections::HashMap;
use std::rc::Rc;

use crate::config::report::Report;
use crate::config::schema::{Config, Match, Role, Route};

/// Warns of rules whose every alternative is taken by earlier rules.
pub(super) fn check(config: &Config, report: &mut Report) {
    let any = [Match::default()];
    let mut earlier = Earlier::new();
    let whole = config.routes.iter().enumerate();
    for (at, route) in whole.filter(|(_, route)| !route.is_quarantined) {
        let listeners = listeners(config, route);
        let rules = route.rules.iter().enumerate();
        for (nth, rule) in rules.filter(|(_, rule)| !rule.is_gap) {
            let path = format!("routes[{at}].rules[{nth}]");
            let alternatives = match rule.matches.is_empty() {
                true => &any[..],
                false => &rule.matches,
            };
            let mine: Vec<Seen<'_>> = alternatives
                .iter()
                .map(|found| Seen {
                    path: path.clone(),
                    route,
                    listeners: listeners.clone(),
                    found: found.clone(),
                })
                .collect();
            let winners: Vec<Option<String>> =
                mine.iter().map(|seen| winner(&earlier, seen)).collect();
            if let Some(Some(first)) = winners
                .first()
                .filter(|_| winners.iter().all(Option::is_some))
            {
                report.warning(
                    &path,
                    format!("[shadowed_route] is never used: {first} matches the same requests first"),
                    "remove it, put it before the other, or give it a condition of higher rank such as a longer path",
                );
            }
            for seen in mine.into_iter().map(Rc::new) {
                let rank = earlier.entry(rank(&seen)).or_default();
                for host in hosts(seen.route) {
                    rank.entry(host).or_default().push(seen.clone());
                }
            }
        }
    }
}

/// Alternatives by rank, then by each host of their route: one that wins names every host of the one that loses, so it is
/// found under the first, and thousands of routes are not compared with each other.
type Earlier<'a> = HashMap<String, HashMap<&'a str, Vec<Rc<Seen<'a>>>>>;

/// The hosts of a route; the empty one stands for any.
fn hosts(route: &Route) -> impl Iterator<Item = &str> {
    let any = route.hosts.is_empty().then_some("");
    route.hosts.iter().map(String::as_str).chain(any)
}

struct Seen<'a> {
    path: String,
    route: &'a Route,
    listeners: Vec<&'a str>,
    found: Match,
}

fn listeners<'a>(config: &'a Config, route: &'a Route) -> Vec<&'a str> {
    match &route.listeners {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => config
            .listeners
            .iter()
            .filter(|listener| listener.role == Role::Ingress)
            .map(|listener| listener.name.as_str())
            .collect(),
    }
}

/// Conditions that rank. Rules that differ in them are put in order by `decide`, so only equal ones can shadow.
fn rank(seen: &Seen<'_>) -> String {
    let Match {
        path,
        method,
        headers,
        query,
        ..
    } = &seen.found;
    format!(
        "{:?} {path:?} {method:?} {headers:?} {query:?}",
        seen.route.protocol
    )
}

fn winner(earlier: &Earlier<'_>, late: &Seen<'_>) -> Option<String> {
    let wins = |early: &&Rc<Seen<'_>>| {
        covers(&early.route.hosts, &late.route.hosts)
            && late
                .listeners
                .iter()
                .all(|name| early.listeners.contains(name))
            && !late.listeners.is_empty()
            && covers(&early.found.clients, &late.found.clients)
            && covers(&early.found.sni, &late.found.sni)
            && covers(&early.found.principals, &late.found.principals)
            && covers(&early.found.destinations, &late.found.destinations)
            && (port(early.route).is_none() || port(early.route) == port(late.route))
    };
    // A host decides before anything else, so a route for any host never takes from one that names it.
    earlier
        .get(&rank(late))?
        .get(hosts(late.route).next()?)?
        .iter()
        .find(wins)
        .map(|early| early.path.clone())
}

/// The port that what is meant for a service of several is told apart by.
fn port(route: &Route) -> Option<u16> {
    let service = route.service.as_ref();
    let service = service.filter(|service| service.is_one_of_several);
    service.map(|service| service.port)
}

/// Whether every value that the second condition lets through passes the first; none means any.
fn covers<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|value| wide.contains(value)))
}
