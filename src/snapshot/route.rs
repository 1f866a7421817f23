//! Rules in matching form and the tables that find candidates for a request.
//! It must not know how a request came in, nor evaluate conditions: `decide` walks these tables.
//! Built by `config::compile`, one table for each listener.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use super::chain::Chain;
use super::net::NetSet;
use super::pool::Pool;
use crate::observe::metrics::RouteMetrics;

/// A rule of a route, compiled.
pub struct Rule {
    /// The route's name.
    pub route: Arc<str>,
    /// Position of the rule in its route.
    pub index: usize,
    /// Where it stands, as a path: `routes[3].rules[0]`.
    pub path: Box<str>,
    /// Where it stands, as `file:line`.
    pub place: Box<str>,
    /// What becomes of the request.
    pub action: Action,
    /// Changes of host and path.
    pub rewrite: Rewrite,
    /// Edits of the request's fields.
    pub request_headers: HeaderOps,
    /// Edits of the response's fields.
    pub response_headers: HeaderOps,
    /// Times.
    pub timeouts: Timeouts,
    /// Attempts after a failure.
    pub retry: Retry,
    /// Largest request body in bytes.
    pub body_limit: u64,
    /// Plugins, the route's before the rule's.
    pub chain: Chain,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({}[{}])", self.route, self.index)
    }
}

/// What becomes of a request.
pub enum Action {
    /// To one pool.
    Pool(Arc<Pool>),
    /// To one of several pools.
    Split(Split),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered from the configuration.
    Respond(Respond),
    /// Refused: the route is broken, or the pool it names.
    Quarantined,
}

/// Pools by weight.
pub struct Split {
    /// Pools with the running sum of weights up to and including their own.
    pub targets: Box<[(u64, Target)]>,
    /// Sum of all weights; above zero.
    pub total: u64,
}

impl Split {
    /// The target for a random number.
    pub fn choose(&self, random: u64) -> &Target {
        let point = random % self.total;
        let at = self.targets.partition_point(|(sum, _)| *sum <= point);
        &self.targets[at.min(self.targets.len() - 1)].1
    }
}

/// Where a share of a split goes.
pub enum Target {
    /// To this pool.
    Pool(Arc<Pool>),
    /// Nowhere: the pool of this name is broken. Its share is refused, not moved to the others.
    Quarantined(Arc<str>),
}

impl Target {
    /// The pool, unless it is broken.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match self {
            Target::Pool(pool) => Some(pool),
            Target::Quarantined(_) => None,
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        match self {
            Target::Pool(pool) => &pool.name,
            Target::Quarantined(name) => name,
        }
    }
}

/// A redirect; `None` keeps the request's own.
#[derive(Debug, Clone, Default)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// Host.
    pub host: Option<Box<str>>,
    /// Port.
    pub port: Option<u16>,
    /// New path.
    pub path: PathRewrite,
    /// Status.
    pub status: StatusCode,
}

/// A fixed answer.
#[derive(Debug, Clone)]
pub struct Respond {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Bytes,
    /// Media type.
    pub content_type: HeaderValue,
}

/// Changes of host and path.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// Host to send.
    pub host: Option<HeaderValue>,
    /// Path to send.
    pub path: PathRewrite,
}

/// How a path changes.
#[derive(Debug, Clone, Default)]
pub enum PathRewrite {
    /// Not at all.
    #[default]
    Keep,
    /// Replaced whole.
    Whole(Box<str>),
    /// The matched prefix is replaced.
    Prefix(Box<str>),
    /// What the pattern finds is replaced.
    Regex(Regex, Box<str>),
}

/// Edits of fields: removed, then set, then added.
#[derive(Debug, Clone, Default)]
pub struct HeaderOps {
    /// Taken away.
    pub remove: Box<[HeaderName]>,
    /// Replaced or created.
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Appended.
    pub add: Box<[(HeaderName, HeaderValue)]>,
}

impl HeaderOps {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Times of a request; `None` for no bound.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until the response's header.
    pub response_header: Option<Duration>,
    /// Silence while bodies are under way.
    pub idle: Option<Duration>,
    /// Everything until the response's header, all attempts together.
    pub request: Option<Duration>,
}

/// Attempts after a failure.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Further attempts.
    pub attempts: u8,
    /// Whether a connection that was not made is tried again.
    pub on_connect_failure: bool,
    /// Whether a connection that broke before the response is tried again.
    pub on_reset: bool,
    /// Methods that may be sent twice.
    pub methods: Box<[Method]>,
}

/// One alternative of a rule, ready to be compared with a request.
#[derive(Clone)]
pub struct Candidate {
    /// The rule it belongs to.
    pub rule: Arc<Rule>,
    /// Position of the alternative in the rule's `match`.
    pub alternative: usize,
    /// The host pattern it stands under; empty for any.
    pub host: Arc<str>,
    /// The path pattern.
    pub path: PathPattern,
    /// The other conditions.
    pub conditions: Arc<Conditions>,
    /// Counters of the listener and route.
    pub metrics: Arc<RouteMetrics>,
    /// Order written, over all rules.
    pub order: u32,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Candidate({:?} {} {:?})",
            self.rule, self.host, self.path
        )
    }
}

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
}

impl RouteTable {
    /// A table of these candidates.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> RouteTable {
        let mut table = RouteTable::default();
        for candidate in candidates {
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

    /// Tables for a host in lower case: its own, then wildcards from the longest, then that of any host.
    pub fn hosts<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t PathTable> {
        let exact = self.exact.get(host);
        let suffixes = if self.wildcard.is_empty() { "" } else { host };
        let suffixes = suffixes
            .char_indices()
            .filter(|(at, c)| *c == '.' && *at > 0)
            .map(|(at, _)| &host[at..]);
        let wildcards = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        exact.into_iter().chain(wildcards).chain([&self.any])
    }

    /// Every candidate, in no order; for views and draining.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Candidate>> {
        let tables = self
            .exact
            .values()
            .chain(self.wildcard.values())
            .chain([&self.any]);
        tables.flat_map(PathTable::all)
    }
}

/// A rule for connections passed through as bytes, under one of its names.
pub struct TcpRule {
    /// The name in TLS this is for; `None` for any, and for connections without TLS.
    pub sni: Option<HostPattern>,
    /// Networks this is for; empty for any.
    pub clients: NetSet,
    /// The compiled rule; its action is a pool or a split.
    pub rule: Arc<Rule>,
    /// Counters of the listener and route.
    pub metrics: Arc<RouteMetrics>,
}

/// The `tcp` rules of a listener, most specific first.
#[derive(Default)]
pub struct TcpTable(pub Box<[TcpRule]>);

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
