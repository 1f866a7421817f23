//! The table that finds the rule of a connection passed through as bytes.
//! It must not know what such a connection carries.
//! One for each listener; built by `config::compile`, asked by `proxy::tcp`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ahash::AHashMap;

use super::{DestinationPattern, HostPattern, Rule};
use crate::observe::metrics::RouteMetrics;
use crate::snapshot::net::NetSet;
use crate::snapshot::policy::PolicySet;

/// A rule for connections passed through as bytes, under one of its names.
pub struct TcpRule {
    /// The name in TLS this is for; `None` for any, and for connections without TLS.
    pub sni: Option<HostPattern>,
    /// Networks this is for; empty for any.
    pub clients: NetSet,
    /// Destinations this is for; empty for any.
    pub destinations: Box<[DestinationPattern]>,
    /// The compiled rule; its action is a pool or a split.
    pub rule: Arc<Rule>,
    /// Who may use it; absent where no policy is for it and everybody may.
    pub policies: Option<Arc<PolicySet>>,
    /// Counters of the listener and route.
    pub metrics: Arc<RouteMetrics>,
}

impl TcpRule {
    /// Whether it is for every connection.
    fn is_for_all(&self) -> bool {
        self.sni.is_none() && self.clients.is_empty() && self.destinations.is_empty()
    }

    /// Whether it is for such a connection; `sni` is the name asked for in TLS.
    pub fn is_for(&self, client: IpAddr, destination: SocketAddr, sni: Option<&str>) -> bool {
        let is_named = match &self.sni {
            Some(pattern) => sni.is_some_and(|sni| pattern.matches(sni)),
            None => true,
        };
        let mut destinations = self.destinations.iter();
        is_named
            && (self.clients.is_empty() || self.clients.contains(client))
            && (self.destinations.is_empty() || destinations.any(|one| one.matches(destination)))
    }
}

/// A port of a service, as connections of bytes find it.
pub struct TcpService {
    /// What it is called by in TLS.
    pub hosts: Box<[HostPattern]>,
    /// Where it is called at.
    pub addresses: Box<[IpAddr]>,
    /// The port it is called at.
    pub port: u16,
    /// Where it leads; for every client.
    pub rule: TcpRule,
}

/// The `tcp` rules of a listener.
#[derive(Default)]
pub struct TcpTable {
    /// Those that are written, most specific first.
    pub rules: Box<[TcpRule]>,
    /// Those of services.
    pub services: Box<[TcpService]>,
    by_destination: AHashMap<SocketAddr, usize>,
    by_name: AHashMap<Box<str>, Vec<usize>>,
    by_suffix: Vec<usize>,
    /// Who may use each route.
    policies: AHashMap<Arc<str>, Option<Arc<PolicySet>>>,
    /// The service that the listener stands for.
    own: Option<usize>,
}

impl TcpTable {
    /// A table of rules in their order, and of services. `own` is the host of the service that the listener stands for.
    pub fn new(rules: Vec<TcpRule>, services: Vec<TcpService>, own: Option<&str>) -> TcpTable {
        let mut table = TcpTable {
            rules: rules.into(),
            ..TcpTable::default()
        };
        for (at, service) in services.iter().enumerate() {
            for address in &service.addresses {
                let destination = SocketAddr::new(*address, service.port);
                table.by_destination.entry(destination).or_insert(at);
            }
            for host in &service.hosts {
                match host {
                    HostPattern::Exact(name) => {
                        table.by_name.entry(name.clone()).or_default().push(at);
                    }
                    HostPattern::Suffix(_) => table.by_suffix.push(at),
                }
                if table.own.is_none() && own.is_some_and(|own| host.matches(own)) {
                    table.own = Some(at);
                }
            }
        }
        table.services = services.into();
        let judged = table
            .all()
            .map(|one| (one.rule.route.clone(), one.policies.clone()));
        table.policies = judged.collect();
        table
    }

    /// Every rule, those of services as well.
    pub fn all(&self) -> impl Iterator<Item = &TcpRule> {
        let services = self.services.iter().map(|service| &service.rule);
        self.rules.iter().chain(services)
    }

    /// The policies for connections of a route; `None` where it is not in the table.
    pub fn policies(&self, route: &str) -> Option<Option<&Arc<PolicySet>>> {
        self.policies.get(route).map(Option::as_ref)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.services.is_empty()
    }

    /// Whether a service of bytes is called at this address.
    pub fn is_service(&self, destination: SocketAddr) -> bool {
        self.by_destination.contains_key(&destination)
    }

    /// Whether a rule is for connections to this address, by a network that has it.
    pub fn names_address(&self, to: SocketAddr) -> bool {
        let mut all = self.rules.iter().flat_map(|rule| &rule.destinations);
        all.any(|one| one.net.is_some() && one.matches(to))
    }

    /// Whether the service that the listener stands for is one of bytes.
    pub fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whether a rule or a service names this server name, rather than taking whatever comes.
    pub fn names(&self, sni: &str) -> bool {
        let is_named = |rule: &TcpRule| {
            let pattern = rule.sni.as_ref();
            pattern.is_some_and(|pattern| pattern.matches(sni))
        };
        self.rules.iter().any(is_named) || self.named(sni).next().is_some()
    }

    /// The rule for a connection: a written one with conditions, then a service by its address, by its name, or the listener's
    /// own, then a written one for everything. However many services there are, it costs the same.
    pub fn find(
        &self,
        client: IpAddr,
        destination: SocketAddr,
        sni: Option<&str>,
    ) -> Option<&TcpRule> {
        let mut rules = self.rules.iter();
        let written = rules.find(|rule| rule.is_for(client, destination, sni));
        match written.filter(|rule| !rule.is_for_all()) {
            Some(rule) => Some(rule),
            None => self.service(destination, sni).or(written),
        }
    }

    fn service(&self, destination: SocketAddr, sni: Option<&str>) -> Option<&TcpRule> {
        let by_destination = self.by_destination.get(&destination).copied();
        let at = by_destination.or_else(|| self.by_sni(sni?, destination.port()));
        Some(&self.services.get(at.or(self.own)?)?.rule)
    }

    /// Of a service's ports the one that is asked for, else its first.
    fn by_sni(&self, sni: &str, port: u16) -> Option<usize> {
        let mut named = self.named(sni);
        let first = named.next()?;
        let is_asked = |at: &usize| self.services[*at].port == port;
        match is_asked(&first) {
            true => Some(first),
            false => named.find(is_asked).or(Some(first)),
        }
    }

    fn named<'t>(&'t self, sni: &'t str) -> impl Iterator<Item = usize> + 't {
        let exact = self.by_name.get(sni).into_iter().flatten().copied();
        let suffixes = self.by_suffix.iter().copied().filter(move |at| {
            let mut hosts = self.services[*at].hosts.iter();
            hosts.any(|host| host.matches(sni))
        });
        exact.chain(suffixes)
    }
}
