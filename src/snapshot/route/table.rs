//! The tables that find candidates by host and path.
//! It must not evaluate conditions.
//! One for each listener; `decide` walks it.

use std::net::SocketAddr;
use std::sync::Arc;

use ahash::AHashMap;
use ipnet::IpNet;

use super::{Candidate, DestinationPattern, PathPattern};
use crate::snapshot::policy::PolicySet;

/// The candidates under one host pattern.
#[derive(Debug, Default)]
pub struct PathTable {
    unknown: Vec<Arc<Candidate>>,
    exact: AHashMap<Box<str>, Vec<Arc<Candidate>>>,
    prefix: AHashMap<Box<str>, Vec<Arc<Candidate>>>,
    regex: Vec<Arc<Candidate>>,
    longest_prefix: usize,
}

impl PathTable {
    fn add(&mut self, candidate: Arc<Candidate>) {
        match &candidate.path {
            PathPattern::Exact(path) => self.exact.entry(path.clone()).or_default().push(candidate),
            PathPattern::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                self.prefix.entry(path.clone()).or_default().push(candidate);
            }
            PathPattern::Regex(_) => self.regex.push(candidate),
            PathPattern::Unknown => self.unknown.push(candidate),
        }
    }

    fn finish(&mut self) {
        let order = |candidate: &Arc<Candidate>| {
            (
                std::cmp::Reverse(candidate.conditions.rank()),
                candidate.order,
            )
        };
        for list in self.exact.values_mut().chain(self.prefix.values_mut()) {
            list.sort_by_key(order);
        }
        self.regex.sort_by_key(order);
        self.unknown.sort_by_key(order);
    }

    /// Candidates for a canonical path, in order of precedence: those whose pattern could not be understood, exact ones, longer prefixes, regular expressions.
    /// Costs one look-up for each path segment up to the longest prefix known, however many rules there are.
    pub fn candidates<'t>(&'t self, path: &'t str) -> impl Iterator<Item = &'t Arc<Candidate>> {
        let exact = self.exact.get(path).into_iter().flatten();
        let prefixes = prefixes(path, self.longest_prefix);
        let prefix = prefixes
            .filter_map(|prefix| self.prefix.get(prefix))
            .flatten();
        let regex = self
            .regex
            .iter()
            .filter(move |candidate| match &candidate.path {
                PathPattern::Regex(regex) => regex.is_match(path),
                PathPattern::Exact(_) | PathPattern::Prefix(_) | PathPattern::Unknown => false,
            });
        self.unknown.iter().chain(exact).chain(prefix).chain(regex)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Candidate>> {
        self.exact
            .values()
            .flatten()
            .chain(self.prefix.values().flatten())
            .chain(&self.regex)
            .chain(&self.unknown)
    }
}

/// The prefixes of a path by whole segments, longest first, none longer than `longest`; the last is empty.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let whole = path.strip_suffix('/').unwrap_or(path);
    let start = if whole.len() <= longest {
        Some(whole)
    } else {
        let cut = whole.as_bytes()[..=longest]
            .iter()
            .rposition(|byte| *byte == b'/');
        cut.map(|at| &whole[..at])
    };
    std::iter::successors(start, |prefix| prefix.rfind('/').map(|at| &prefix[..at]))
}

/// All rules of a listener, found by host and path.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: AHashMap<Box<str>, PathTable>,
    wildcard: AHashMap<Box<str>, PathTable>,
    any: PathTable,
    /// Services by the addresses they are called at.
    destinations: AHashMap<SocketAddr, PathTable>,
    /// The ports that rules ask for, each with networks; `None` for any.
    ports: AHashMap<u16, Vec<Option<IpNet>>>,
    /// The networks that rules ask for at any port.
    nets: Vec<IpNet>,
    /// Who may use each route.
    policies: AHashMap<Arc<str>, Option<Arc<PolicySet>>>,
}

impl RouteTable {
    /// A table of these candidates.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> RouteTable {
        let mut table = RouteTable::default();
        for candidate in candidates {
            table.ask_for(&candidate.conditions.destinations);
            table.judged(&candidate);
            let paths = match candidate.host.strip_prefix('*') {
                Some(suffix) => table.wildcard.entry(suffix.into()).or_default(),
                None if candidate.host.is_empty() => &mut table.any,
                None => table.exact.entry((&*candidate.host).into()).or_default(),
            };
            paths.add(Arc::new(candidate));
        }
        let tables = table.exact.values_mut().chain(table.wildcard.values_mut());
        tables.for_each(PathTable::finish);
        table.any.finish();
        table
    }

    fn judged(&mut self, candidate: &Candidate) {
        if !self.policies.contains_key(&candidate.rule.route) {
            let route = candidate.rule.route.clone();
            self.policies.insert(route, candidate.policies.clone());
        }
    }

    /// The policies for requests of a route; `None` where it is not in the table.
    pub fn policies(&self, route: &str) -> Option<Option<&Arc<PolicySet>>> {
        self.policies.get(route).map(Option::as_ref)
    }

    fn ask_for(&mut self, destinations: &[DestinationPattern]) {
        for one in destinations {
            let whole = one
                .net
                .filter(|net| one.ports.is_empty() && !self.nets.contains(net));
            self.nets.extend(whole);
            for port in &one.ports {
                let nets = self.ports.entry(*port).or_default();
                if !nets.contains(&one.net) {
                    nets.push(one.net);
                }
            }
        }
    }

    /// Adds candidates that stand under a destination.
    pub fn at(
        mut self,
        candidates: impl IntoIterator<Item = (SocketAddr, Candidate)>,
    ) -> RouteTable {
        for (destination, candidate) in candidates {
            self.judged(&candidate);
            let paths = self.destinations.entry(destination).or_default();
            paths.add(Arc::new(candidate));
        }
        self.destinations.values_mut().for_each(PathTable::finish);
        self
    }

    /// Whether a service of requests is called at this address.
    pub fn is_service(&self, destination: SocketAddr) -> bool {
        self.destinations.contains_key(&destination)
    }

    /// Whether a rule is for requests to this port of this address, by its number.
    pub fn asks_port(&self, destination: SocketAddr) -> bool {
        let nets = self.ports.get(&destination.port());
        let address = destination.ip().to_canonical();
        nets.is_some_and(|nets| {
            let mut nets = nets.iter();
            nets.any(|net| net.is_none_or(|net| net.contains(&address)))
        })
    }

    /// Whether a rule is for requests to this address, by a network that has it.
    pub fn names_address(&self, to: SocketAddr) -> bool {
        let address = to.ip().to_canonical();
        let of_port = self.ports.get(&to.port()).into_iter().flatten();
        let mut nets = self.nets.iter().chain(of_port.flatten());
        nets.any(|net| net.contains(&address))
    }

    /// Tables for a request: those of its host, its destination's, then that of any host.
    pub fn tables<'t>(
        &'t self,
        host: &'t str,
        destination: Option<SocketAddr>,
    ) -> impl Iterator<Item = &'t PathTable> {
        let to = destination.filter(|_| !self.destinations.is_empty());
        let to = to.and_then(|to| self.destinations.get(&to));
        self.named(host).chain(to).chain([&self.any])
    }

    /// Tables for a host in lower case: its own, then wildcards from the longest.
    fn named<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t PathTable> {
        let exact = self.exact.get(host);
        let suffixes = if self.wildcard.is_empty() { "" } else { host };
        let suffixes = suffixes
            .char_indices()
            .filter(|(at, c)| *c == '.' && *at > 0)
            .map(|(at, _)| &host[at..]);
        let wildcards = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        exact.into_iter().chain(wildcards)
    }

    /// Every candidate, in no order; for views and draining.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Candidate>> {
        let tables = self
            .exact
            .values()
            .chain(self.wildcard.values())
            .chain(self.destinations.values())
            .chain([&self.any]);
        tables.flat_map(PathTable::all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_by_whole_segments_from_the_longest() {
        assert_eq!(
            prefixes("/a/b/c", 100).collect::<Vec<_>>(),
            ["/a/b/c", "/a/b", "/a", ""]
        );
        assert_eq!(
            prefixes("/a/b/", 100).collect::<Vec<_>>(),
            ["/a/b", "/a", ""]
        );
        assert_eq!(prefixes("/", 100).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn prefixes_longer_than_any_rule_are_not_tried() {
        assert_eq!(
            prefixes("/a/b/c", 4).collect::<Vec<_>>(),
            ["/a/b", "/a", ""]
        );
        assert_eq!(prefixes("/abc/d", 2).collect::<Vec<_>>(), [""]);
        assert_eq!(prefixes("/abc", 0).collect::<Vec<_>>(), [""]);
    }
}
