//! The one decision: what a request is about, which rule it meets, and how it goes on. The data path, `explain` and config tests
//! call the same code. It must not know sockets or how answers are sent; it reads a listener and a request's head.
//! With [`Silent`] the trace compiles away.

mod again;
pub mod attempts;
mod caching;
mod class;
mod conditions;
mod deadline;
mod edit;
mod facts;
mod fault;
pub mod fields;
mod framing;
pub mod key;
mod onward;
pub mod opaque;
pub mod policy;
mod share;
mod target;
mod walk;
mod wire;

pub use again::{again, Failure, No};
pub use caching::Caching;
pub use class::class;
pub use conditions::{Condition, Verdict};
pub use deadline::{Deadline, SetBy};
pub use edit::edit;
pub use facts::Facts;
pub use fault::Injected;
pub use framing::framed;
pub use onward::{Hop, MIRROR, REQUEST_ID};
pub use share::share_of_connection;
pub use target::{location, rewritten_path};
pub use walk::{Next, Tls, Walk};
pub use windrose_plugins::contract::{
    canonical_host, canonical_path, BadHost, BadPath, CacheWish, Host,
};
pub use wire::WireText;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::observe::metrics::ChosenBy;
use crate::snapshot::chain::{Instance, Turn};
use crate::snapshot::policy::Policy;
use crate::snapshot::route::{Candidate, FaultPlan, Mirror, RouteTable, Share};

/// What a decision reads of a request. Host and path are canonical.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Host in lower case, without port.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: Option<&'a str>,
    /// All fields.
    pub headers: &'a HeaderMap,
}

/// What a decision reads of the caller.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The client's address after trust was settled.
    pub address: IpAddr,
    /// The name asked for in TLS.
    pub sni: Option<&'a str>,
    /// The principal proven by the connection, in the form policies use.
    pub principal: Option<&'a str>,
    /// Where its connection was going.
    pub destination: Option<SocketAddr>,
    /// The port that is asked for; `None` where a listener stands for one service, whatever its caller says.
    pub port: Option<u16>,
}

/// Where in a request's way a plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the decision, for every request of the listener.
    Listener,
    /// After it, for the requests of the route.
    Route,
    /// On the request as it goes to an endpoint.
    Upstream,
}

/// Hears of every candidate in order of precedence, of every plugin in its turn, and of what became of them.
pub trait Trace: Send {
    /// Whether anyone listens; `false` lets the compiler drop the work.
    const ON: bool;
    /// One condition of a candidate, in the order they are compared.
    fn condition(&mut self, candidate: &Candidate, verdict: &Verdict<'_>);
    /// A candidate was compared as a whole.
    fn candidate(&mut self, candidate: &Candidate, matched: bool);
    /// A plugin had its turn.
    fn plugin(&mut self, stage: Stage, plugin: &Instance, turn: Turn<'_>);
    /// A rule of a policy was looked at.
    fn policy(&mut self, policy: &Policy, rule: usize, fit: &policy::Fit);
    /// Policies ruled.
    fn ruling(&mut self, ruling: &policy::Ruling<'_>);
    /// A share of the rule's split was chosen.
    fn share(&mut self, share: &Share, by: ChosenBy);
    /// A fault is for this request.
    fn fault(&mut self, plan: &FaultPlan);
    /// Copies of this request may be made.
    fn mirrors(&mut self, mirrors: &[Mirror]);
    /// What a cache would do with the request.
    fn caching(&mut self, stage: Stage, plugin: &Instance, wish: &CacheWish);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Trace for Silent {
    const ON: bool = false;

    fn condition(&mut self, _: &Candidate, _: &Verdict<'_>) {}

    fn candidate(&mut self, _: &Candidate, _: bool) {}

    fn plugin(&mut self, _: Stage, _: &Instance, _: Turn<'_>) {}

    fn policy(&mut self, _: &Policy, _: usize, _: &policy::Fit) {}

    fn ruling(&mut self, _: &policy::Ruling<'_>) {}

    fn share(&mut self, _: &Share, _: ChosenBy) {}

    fn fault(&mut self, _: &FaultPlan) {}

    fn mirrors(&mut self, _: &[Mirror]) {}
    fn caching(&mut self, _: Stage, _: &Instance, _: &CacheWish) {}
}

/// The most specific rule whose conditions all hold: host, then path, then method, headers, query, then order.
///
/// Precedence is that of the Kubernetes Gateway API for HTTPRoute. With tracing on, every candidate is compared, also those
/// behind the one that matched, so that a reader sees what was shadowed.
pub fn decide<'t, T: Trace>(
    table: &'t RouteTable,
    head: &'t Head<'_>,
    caller: &Caller<'_>,
    trace: &mut T,
) -> Option<&'t Arc<Candidate>> {
    let candidates = table
        .tables(head.host, caller.destination)
        .flat_map(|paths| paths.candidates(head.path));
    let mut found = None;
    for candidate in candidates {
        let matched = conditions::hold(candidate, head, caller, trace);
        if T::ON {
            trace.candidate(candidate, matched);
        }
        if matched && found.is_none() {
            found = Some(candidate);
            if !T::ON {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
