//! Conditions of a rule, ready to be compared with a request.
//! It must not know how they are evaluated; `decide` does that.
//! Part of a candidate; built by `config::compile`.

use std::net::SocketAddr;

use http::{HeaderName, Method};
use ipnet::IpNet;
use regex::Regex;

use crate::snapshot::net::NetSet;

/// A path condition.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Exactly.
    Exact(Box<str>),
    /// By whole segments, without a trailing slash; empty for every path.
    Prefix(Box<str>),
    /// As a whole by pattern.
    Regex(Regex),
    /// Every path, before all other patterns: the condition of a broken route cannot be understood, and nothing it was to
    /// take may reach a less specific route.
    Unknown,
}

/// Conditions besides host and path. All must hold.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The method.
    pub method: Option<Method>,
    /// Fields.
    pub headers: Box<[(HeaderName, ValueCondition)]>,
    /// Query parameters.
    pub query: Box<[(Box<str>, ValueCondition)]>,
    /// The client's network.
    pub clients: NetSet,
    /// Server names asked for.
    pub sni: Box<[HostPattern]>,
    /// Principals.
    pub principals: Box<[PrincipalPattern]>,
    /// Where the connection was going.
    pub destinations: Box<[DestinationPattern]>,
    /// The port that was asked for, of services that have several.
    pub port: Option<u16>,
    /// Whether a condition of a broken route is not understood and taken to hold; ranks before all that are.
    pub is_widened: bool,
}

impl Conditions {
    /// Gateway API precedence after host and path: method, headers, query; then any further conditions.
    pub fn rank(&self) -> (bool, usize, usize, usize) {
        if self.is_widened {
            return (true, usize::MAX, usize::MAX, usize::MAX);
        }
        let further = [
            !self.clients.is_empty(),
            !self.sni.is_empty(),
            !self.principals.is_empty(),
            !self.destinations.is_empty(),
            self.port.is_some(),
        ];
        let further = further.into_iter().filter(|given| *given).count();
        (
            self.method.is_some(),
            self.headers.len(),
            self.query.len(),
            further,
        )
    }
}

/// A condition on a value.
#[derive(Debug, Clone)]
pub enum ValueCondition {
    /// Equal.
    Exact(Box<str>),
    /// The whole value matches.
    Regex(Regex),
    /// Is there, or is not.
    Present(bool),
}

/// A host, or all hosts below one.
#[derive(Debug, Clone, PartialEq)]
pub enum HostPattern {
    /// This host.
    Exact(Box<str>),
    /// Hosts that end with this, which begins with a dot.
    Suffix(Box<str>),
}

impl HostPattern {
    /// Parses `host` or `*.host`, in lower case.
    pub fn new(text: &str) -> HostPattern {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None => HostPattern::Exact(text.into()),
        }
    }

    /// Whether the host, in lower case, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(exact) => **exact == *host,
            HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

/// Addresses and ports that a connection may be going to.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationPattern {
    /// The network; `None` for any address.
    pub net: Option<IpNet>,
    /// Ports; empty for any.
    pub ports: Box<[u16]>,
}

impl DestinationPattern {
    /// Whether the destination is meant.
    pub fn matches(&self, destination: SocketAddr) -> bool {
        let address = destination.ip().to_canonical();
        self.net.is_none_or(|net| net.contains(&address))
            && (self.ports.is_empty() || self.ports.contains(&destination.port()))
    }
}

/// A principal, or all that begin alike.
#[derive(Debug, Clone, PartialEq)]
pub enum PrincipalPattern {
    /// This one.
    Exact(Box<str>),
    /// Those that begin with this.
    Prefix(Box<str>),
}

impl PrincipalPattern {
    /// Parses `id` or `id*`.
    pub fn new(text: &str) -> PrincipalPattern {
        match text.strip_suffix('*') {
            Some(prefix) => PrincipalPattern::Prefix(prefix.into()),
            None => PrincipalPattern::Exact(text.into()),
        }
    }

    /// Whether the principal is meant.
    pub fn matches(&self, id: &str) -> bool {
        match self {
            PrincipalPattern::Exact(exact) => **exact == *id,
            PrincipalPattern::Prefix(prefix) => id.starts_with(&**prefix),
        }
    }
}
