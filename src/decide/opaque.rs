//! Connections passed through as bytes: which rule each meets at its listener, and what policies are asked of it.
//! It must not know sockets; the data path and explanations call the same code.
//! Called by `proxy::tcp`, `proxy::permit` and `explain`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use windrose_plugins::contract::{causes, Cause, Principal};

use super::policy::Subject;
use crate::observe::metrics::RouteMetrics;
use crate::snapshot::listener::Listener;
use crate::snapshot::policy::PolicySet;
use crate::snapshot::route::{DestinationPattern, Rule};

/// A connection, as far as decisions about it go.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Where it came in.
    pub listener: &'a Listener,
    /// The client's address.
    pub client: IpAddr,
    /// Where it was going: the address it came in at, or where it was captured the original one.
    pub destination: SocketAddr,
    /// The name asked for in TLS.
    pub sni: Option<&'a str>,
    /// Who calls.
    pub peer: Option<&'a Principal>,
}

/// What a connection meets: a rule with its counters, and who may use it.
#[derive(Clone, Copy)]
pub struct Met<'l> {
    /// The rule.
    pub rule: &'l Arc<Rule>,
    /// Counters of the listener and route.
    pub metrics: &'l Arc<RouteMetrics>,
    /// Policies; none where everybody may.
    pub policies: Option<&'l Arc<PolicySet>>,
    /// What the rule asks of destinations.
    pub destinations: &'l [DestinationPattern],
}

impl<'a> Call<'a> {
    /// A rule, or what there is for unknown destinations.
    ///
    /// # Errors
    /// The cause to close it with.
    pub fn meets(&self) -> Result<Met<'a>, &'static Cause> {
        let listener = self.listener;
        let found = listener.tcp.find(self.client, self.destination, self.sni);
        if let Some(rule) = found {
            return Ok(Met {
                rule: &rule.rule,
                metrics: &rule.metrics,
                policies: rule.policies.as_ref(),
                destinations: &rule.destinations,
            });
        }
        let capture = listener.capture.as_ref().ok_or(&causes::NO_TCP_ROUTE)?;
        if listener.speaks_http(self.destination) {
            return Err(&causes::PROTOCOL_MISMATCH);
        }
        let candidate = capture.unknown(Some(self.destination))?;
        Ok(Met {
            rule: &candidate.rule,
            metrics: &candidate.metrics,
            policies: candidate.policies.as_ref(),
            destinations: &[],
        })
    }

    /// The port, as far as more than the caller says it.
    pub fn port(&self, met: &Met<'_>) -> Option<u16> {
        let listener = self.listener;
        listener.known_port(self.destination, met.destinations)
    }

    /// Who asks policies for what.
    pub fn subject(&self, port: Option<u16>, route: &'a str, pool: &'a str) -> Subject<'a> {
        Subject {
            principal: self.peer,
            peer: self.peer,
            client: self.client,
            port,
            listener: &self.listener.name,
            route,
            pool,
            sni: self.sni,
            http: None,
        }
    }
}
