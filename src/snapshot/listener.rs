//! A listener as the fast path sees it: settings in their final form and the tables of its routes.
//! It must not know sockets; binding and accepting belong to `control::listeners`.
//! Built by `config::compile`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::capture::{Capture, Hint, Unknown};
use super::certs::Termination;
use super::chain::Chain;
use super::mtls::Inbound;
use super::net::NetSet;
use super::policy::PolicySet;
use super::route::{Candidate, DestinationPattern, RouteTable, TcpTable};
use crate::observe::metrics::{ListenerMetrics, RouteMetrics};

/// Who is calling and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// From outside to services.
    Ingress,
    /// From this node's workloads to other services.
    MeshOutbound,
    /// From other nodes to this node's workloads.
    MeshInbound,
}

impl Role {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Ingress => "ingress",
            Role::MeshOutbound => "mesh-outbound",
            Role::MeshInbound => "mesh-inbound",
        }
    }
}

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => address.fmt(f),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a listener does with the bytes of a connection.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https(Arc<Termination>),
    /// Whatever the first bytes say; TLS only where there is a termination or a passthrough route.
    Auto(Option<Arc<Termination>>),
    /// TLS, routed by SNI, not terminated.
    TlsPassthrough,
    /// Bytes, without looking.
    Tcp,
}

impl Protocol {
    /// The word in views and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https(_) => "https",
            Protocol::Auto(_) => "auto",
            Protocol::TlsPassthrough => "tls_passthrough",
            Protocol::Tcp => "tcp",
        }
    }

    /// The termination, if TLS can be terminated here.
    pub fn termination(&self) -> Option<&Arc<Termination>> {
        match self {
            Protocol::Https(termination) => Some(termination),
            Protocol::Auto(termination) => termination.as_ref(),
            Protocol::Http | Protocol::TlsPassthrough | Protocol::Tcp => None,
        }
    }
}

/// What to do with PROXY protocol headers.
#[derive(Debug, Clone, PartialEq)]
pub enum ProxyHeader {
    /// Not looked for.
    Ignore,
    /// Read from these peers if they send it.
    Use(NetSet),
    /// Needed, and only from these peers.
    Require(NetSet),
}

/// Bounds of a listener; 0 means no bound where the schema says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Open connections.
    pub connections: u32,
    /// Open connections of one client; 0 for no bound.
    pub connections_per_client: u32,
    /// Bytes of a request header.
    pub header_bytes: usize,
    /// Fields of a request header.
    pub header_fields: usize,
    /// Bytes of a request target.
    pub target_bytes: usize,
    /// Time for a request header.
    pub header_timeout: Duration,
    /// Time an idle connection is kept.
    pub keep_alive: Duration,
    /// Longest life of a connection; zero for no bound.
    pub connection_age: Duration,
    /// Concurrent HTTP/2 streams.
    pub h2_streams: u32,
    /// Time a client may take no bytes.
    pub write_timeout: Duration,
}

/// A listener.
pub struct Listener {
    /// Its name: the key across generations.
    pub name: Arc<str>,
    /// Where it is written, as `file:line`.
    pub place: Box<str>,
    /// Who is calling and where to.
    pub role: Role,
    /// Where it is bound.
    pub bind: Bind,
    /// What it speaks.
    pub protocol: Protocol,
    /// PROXY protocol policy.
    pub proxy_header: ProxyHeader,
    /// Whose forwarded fields are believed.
    pub trusted_proxies: NetSet,
    /// The host every request is taken to be for (mesh-outbound by local port).
    pub service: Option<Box<str>>,
    /// Mutual TLS with other workloads; `None` for none.
    pub mtls: Option<Arc<Inbound>>,
    /// How it takes connections made for somebody else; `None` for those made for itself.
    pub capture: Option<Capture>,
    /// Bounds.
    pub limits: Limits,
    /// Plugins for every connection and request.
    pub chain: Chain,
    /// Where requests go.
    pub routes: RouteTable,
    /// Where connections passed through as bytes go.
    pub tcp: TcpTable,
    /// Counters.
    pub metrics: Arc<ListenerMetrics>,
    /// Counters of requests that met no route.
    pub unrouted: Arc<RouteMetrics>,
}

impl Listener {
    /// Whether connections of bytes can go anywhere from here.
    pub fn takes_bytes(&self) -> bool {
        !self.tcp.is_empty() || self.capture.is_some()
    }

    /// Whether nothing but HTTP is spoken where a captured connection was going: a service's address, as it is written of the
    /// port, or as the listener stands for a service of requests.
    pub fn speaks_http(&self, destination: SocketAddr) -> bool {
        let capture = self.capture.as_ref();
        let written = capture.and_then(|capture| capture.written(destination.port()));
        let stands_for = self.service.is_some() && self.capture.is_some() && !self.tcp.has_own();
        written == Some(Hint::Http) || stands_for || self.routes.is_service(destination)
    }

    /// Whether its connections come in tunnels, which say themselves where they go.
    pub fn has_tunnels(&self) -> bool {
        self.mtls.as_ref().is_some_and(|mtls| mtls.hbone)
    }

    /// The port that policies are told of a connection to an address that was met by these patterns. In a tunnel it is the caller's
    /// own word, and counts only where a pattern names it: then it decided where the connection leads.
    pub fn known_port(&self, to: SocketAddr, met: &[DestinationPattern]) -> Option<u16> {
        let is_met = |one: &DestinationPattern| one.ports.contains(&to.port()) && one.matches(to);
        (!self.has_tunnels() || met.iter().any(is_met)).then_some(to.port())
    }

    /// Whether a rule is for connections to this address, by a network that has it.
    pub fn names_address(&self, to: SocketAddr) -> bool {
        self.routes.names_address(to) || self.tcp.names_address(to)
    }

    /// The policies for requests of a route; `None` where it has no such route.
    pub fn policies_of_requests(&self, route: &str) -> Option<Option<&Arc<PolicySet>>> {
        let of_unknown = || self.unknown(route).map(|one| one.policies.as_ref());
        self.routes.policies(route).or_else(of_unknown)
    }

    /// The policies for connections of bytes of a route; `None` where it has no such route.
    pub fn policies_of_bytes(&self, route: &str) -> Option<Option<&Arc<PolicySet>>> {
        let of_unknown = || self.unknown(route).map(|one| one.policies.as_ref());
        self.tcp.policies(route).or_else(of_unknown)
    }

    /// The rule for what nothing else is for, if it goes by this name.
    fn unknown(&self, route: &str) -> Option<&Arc<Candidate>> {
        match &self.capture.as_ref()?.unknown {
            Unknown::Passthrough(it) if *it.rule.route == *route => Some(it),
            Unknown::Passthrough(_) | Unknown::Block => None,
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Whether connections say where they were going: captured ones, and those in tunnels.
    pub fn knows_destination(&self) -> bool {
        self.capture.is_some() || self.has_tunnels()
    }
}
