//! Whether a rule of a policy fits a subject: yes, no, or not to be known.
//! It must not decide what follows from that.
//! Called for each rule that is for a place.

use std::fmt;

use super::subject::{Subject, Variables, Workload};
use crate::decide::conditions::{field, holds};
use crate::decide::Head;
use crate::snapshot::policy::{Effect, From, PolicyRule, When};
use crate::snapshot::route::{HostPattern, PathPattern, PrincipalPattern};

/// How a rule fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// Every condition holds.
    Yes,
    /// This condition does not hold.
    No(&'static str),
    /// Every condition that can be judged holds, and one cannot.
    Unknown(Unknown),
}

/// Why a condition cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing is proven of the caller.
    Identity,
    /// What is proven of the caller has no such part.
    Part,
    /// The connection is passed through as bytes.
    Http,
    /// Only the caller says which port it is.
    Port,
    /// The expression has no outcome, for this reason.
    Expression(String),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Identity => f.write_str("needs an identity, and none is proven"),
            Unknown::Part => f.write_str(
                "asks for a part of an identity that the caller's, which is proven, does not have",
            ),
            Unknown::Http => {
                f.write_str("asks about HTTP, and the connection is passed through as bytes")
            }
            Unknown::Port => f.write_str(
                "asks for the port, which in a tunnel is the caller's own word: no rule's `destinations` names it",
            ),
            Unknown::Expression(why) => write!(f, "cannot be evaluated: {why}"),
        }
    }
}

/// Compares a rule. What its policy does decides how a missing identity counts: a rule that denies someone does not mean nobody,
/// one that allows someone would need to know.
pub(super) fn fit(rule: &PolicyRule, effect: Effect, subject: &Subject<'_>) -> Fit {
    let mut unknown = None;
    let mut failed = |compared: &[Compared]| {
        compared.iter().find_map(|(what, held)| match held {
            Held::Yes => None,
            Held::No => Some(Fit::No(what)),
            Held::Unknown(why) => {
                let _ = unknown.get_or_insert_with(|| why.clone());
                None
            }
        })
    };
    let no = failed(&connected(&rule.from, &rule.when, subject))
        .or_else(|| failed(&proven(&rule.from, effect, subject)))
        .or_else(|| failed(&parts(&rule.from, effect, subject)))
        .or_else(|| failed(&called(&rule.when, subject)));
    if let Some(no) = no {
        return no;
    }
    // Last, as it costs most, and only where the rest does not rule it out.
    match rule.when.cel.as_ref() {
        Some(cel) if cel.asks_any("request.") && subject.http.is_none() => {
            unknown = unknown.or(Some(Unknown::Http));
        }
        Some(cel) if cel.asks("destination.port") && subject.port.is_none() => {
            unknown = unknown.or(Some(Unknown::Port));
        }
        Some(cel) => match cel.holds(&Variables::of(subject)) {
            Ok(true) => {}
            Ok(false) => return Fit::No("cel"),
            Err(why) => return Fit::Unknown(Unknown::Expression(why.0)),
        },
        None => {}
    }
    unknown.map_or(Fit::Yes, Fit::Unknown)
}

/// Whether one condition holds.
enum Held {
    Yes,
    No,
    Unknown(Unknown),
}

impl Held {
    fn of(truth: bool) -> Held {
        match truth {
            true => Held::Yes,
            false => Held::No,
        }
    }

    /// A list that must have the value, of which nothing may be known.
    fn among<V>(
        list_is_empty: bool,
        value: Option<V>,
        missing: Held,
        has: impl Fn(V) -> bool,
    ) -> Held {
        match (list_is_empty, value) {
            (true, _) => Held::Yes,
            (false, Some(value)) => Held::of(has(value)),
            (false, None) => missing,
        }
    }
}

type Compared = (&'static str, Held);

fn any(patterns: &[PrincipalPattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

/// Conditions on whoever is proven.
fn proven(from: &From, effect: Effect, subject: &Subject<'_>) -> [Compared; 3] {
    let is_proven = subject.principals().next().is_some();
    let proven = is_proven.then_some(());
    let is_one = |all: &[PrincipalPattern]| subject.ids().any(|id| any(all, &id));
    let (principals, not) = (&from.principals, &from.not_principals);
    let principal = Held::among(principals.is_empty(), proven, nobody(effect), |()| {
        is_one(principals)
    });
    let other = Held::among(not.is_empty(), proven, UNPROVEN, |()| !is_one(not));
    let consumers = &from.consumers;
    let consumer = subject.consumer();
    let missing = absent(effect, is_proven);
    let consumer = Held::among(consumers.is_empty(), consumer, missing, |it| {
        any(consumers, it)
    });
    [
        ("principals", principal),
        ("not_principals", other),
        ("consumers", consumer),
    ]
}

/// Conditions on the parts of a workload's id.
fn parts(from: &From, effect: Effect, subject: &Subject<'_>) -> [Compared; 5] {
    let workload = subject.workload();
    let domain = workload.map(|it| it.trust_domain);
    let namespace = workload.map(|it| it.namespace).filter(|it| !it.is_empty());
    let accounted = workload.filter(|it| !it.account.is_empty());
    let has = |all: &[Box<str>], it: &str| all.iter().any(|one| **one == *it);
    let is_account = |it: Workload<'_>| {
        let mut accounts = from.service_accounts.iter();
        accounts.any(|(namespace, account)| {
            let namespace = namespace.as_deref();
            account.matches(it.account) && namespace.is_none_or(|wanted| wanted == it.namespace)
        })
    };
    let (domains, not_domains) = (&from.trust_domains, &from.not_trust_domains);
    let (names, not_names) = (&from.namespaces, &from.not_namespaces);
    let no_accounts = from.service_accounts.is_empty();
    let is_proven = subject.principals().next().is_some();
    let missing = || absent(effect, is_proven);
    let spared = || match is_proven {
        true => Held::Unknown(Unknown::Part),
        false => UNPROVEN,
    };
    let of_domain = Held::among(domains.is_empty(), domain, missing(), |it| has(domains, it));
    let not_domain = Held::among(not_domains.is_empty(), domain, spared(), |it| {
        !has(not_domains, it)
    });
    let named = Held::among(names.is_empty(), namespace, missing(), |it| any(names, it));
    let not_named = Held::among(not_names.is_empty(), namespace, spared(), |it| {
        !any(not_names, it)
    });
    [
        ("trust_domains", of_domain),
        ("not_trust_domains", not_domain),
        ("namespaces", named),
        ("not_namespaces", not_named),
        (
            "service_accounts",
            Held::among(no_accounts, accounted, missing(), is_account),
        ),
    ]
}

/// Conditions on the connection.
fn connected(from: &From, when: &When, subject: &Subject<'_>) -> [Compared; 6] {
    let client = subject.client;
    let (port, host) = (subject.port, subject.host());
    let is_host = |all: &[HostPattern], it: &str| all.iter().any(|host| host.matches(it));
    let (ports, not_ports) = (&when.ports, &when.not_ports);
    let (hosts, not_hosts) = (&when.hosts, &when.not_hosts);
    let at_port = Held::among(ports.is_empty(), port, PORT, |it| ports.contains(&it));
    let not_port = Held::among(not_ports.is_empty(), port, PORT, |it| {
        !not_ports.contains(&it)
    });
    let of_host = Held::among(hosts.is_empty(), host, BYTES, |it| is_host(hosts, it));
    let not_host = Held::among(not_hosts.is_empty(), host, BYTES, |it| {
        !is_host(not_hosts, it)
    });
    let is_client = from.clients.is_empty() || from.clients.contains(client);
    [
        ("clients", Held::of(is_client)),
        ("not_clients", Held::of(!from.not_clients.contains(client))),
        ("ports", at_port),
        ("not_ports", not_port),
        ("hosts", of_host),
        ("not_hosts", not_host),
    ]
}

/// Conditions on the request.
fn called(when: &When, subject: &Subject<'_>) -> [Compared; 5] {
    let http = subject.http.as_ref();
    let (methods, not_methods) = (&when.methods, &when.not_methods);
    let at = |paths: &[PathPattern], head: &Head<'_>| paths.iter().any(|it| is_at(it, head.path));
    let has_fields = |head: &Head<'_>| {
        let mut fields = when.headers.iter();
        fields.all(|(name, condition)| holds(condition, field(head.headers, name).as_deref()))
    };
    let method = Held::among(methods.is_empty(), http, BYTES, |it| {
        methods.contains(it.method)
    });
    let not_method = Held::among(not_methods.is_empty(), http, BYTES, |it| {
        !not_methods.contains(it.method)
    });
    let path = Held::among(when.paths.is_empty(), http, BYTES, |it| at(&when.paths, it));
    let not_path = Held::among(when.not_paths.is_empty(), http, BYTES, |it| {
        !at(&when.not_paths, it)
    });
    [
        ("methods", method),
        ("not_methods", not_method),
        ("paths", path),
        ("not_paths", not_path),
        (
            "headers",
            Held::among(when.headers.is_empty(), http, BYTES, has_fields),
        ),
    ]
}

/// What a condition on an identity comes to where none is proven.
fn nobody(effect: Effect) -> Held {
    match effect {
        Effect::Deny => Held::No,
        Effect::Allow => UNPROVEN,
    }
}

/// What a condition on a part of an identity comes to where there is no such part: whoever is proven is simply another.
fn absent(effect: Effect, is_proven: bool) -> Held {
    match is_proven {
        true => Held::No,
        false => nobody(effect),
    }
}

const UNPROVEN: Held = Held::Unknown(Unknown::Identity);
const BYTES: Held = Held::Unknown(Unknown::Http);
const PORT: Held = Held::Unknown(Unknown::Port);

fn is_at(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => **exact == *path,
        PathPattern::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathPattern::Regex(regex) => regex.is_match(path),
        PathPattern::Unknown => true,
    }
}
