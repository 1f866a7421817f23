//! Conditions, hosts, paths and precedence in words.
//! It must not compare anything with a request.
//! Explanations and the admin pages use the same words.

use std::cmp::Reverse;
use std::fmt::Write;

use http::Method;
use windrose_plugins::contract::{CacheWish, Time};

use crate::decide::Condition;
use crate::snapshot::balance::{warmth, Rank, FULL};
use crate::snapshot::budget::Allowance;
use crate::snapshot::outlier::{self, Phase};
use crate::snapshot::pool::{
    Affinity, Algorithm, Balance, Choices, HashKey, Labels, Member, PoolSettings, SubsetFallback,
};
use crate::snapshot::route::{
    Abort, Candidate, Chance, Conditions, DestinationPattern, Fault, FaultPlan, Guard, HostPattern,
    Mirror, Override, OverrideBy, PathPattern, PrincipalPattern, Retry, StickyKey, ValueCondition,
};

/// A host pattern; `*` for any.
pub fn host(host: &str) -> &str {
    if host.is_empty() {
        "*"
    } else {
        host
    }
}

/// A path pattern with its kind.
pub fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => format!("= {path}"),
        PathPattern::Prefix(path) if path.is_empty() => "/ and below".to_owned(),
        PathPattern::Prefix(path) => format!("{path} and below"),
        PathPattern::Regex(regex) => format!("~ {regex}"),
        PathPattern::Unknown => "every path, as its own is not understood".to_owned(),
    }
}

/// Why passive health keeps an endpoint out, if it does. One that waits for a request to try it is not out.
pub fn ejection(seen: &outlier::Seen) -> Option<String> {
    let for_what = match seen.reason {
        Some(reason) => format!("ejected after failed requests ({reason})"),
        None => "ejected after failed requests".to_owned(),
    };
    match seen.phase {
        Phase::Open | Phase::Awaiting => None,
        Phase::Trying => Some(format!("{for_what}, one request tries it")),
        Phase::Shut => {
            let seconds = seen.left.as_secs().max(1);
            Some(format!("{for_what}, {seconds} s left"))
        }
    }
}

/// What places a candidate before others, most important first.
pub fn precedence(candidate: &Candidate) -> String {
    let host = match (candidate.host.is_empty(), candidate.host.starts_with('*')) {
        (true, _) => "any host".to_owned(),
        (false, true) => format!("wildcard host of {}", candidate.host.len()),
        (false, false) => "exact host".to_owned(),
    };
    let path = match &candidate.path {
        PathPattern::Exact(_) => "exact path".to_owned(),
        PathPattern::Prefix(path) => format!("prefix of {}", path.len()),
        PathPattern::Regex(_) => "pattern".to_owned(),
        PathPattern::Unknown => "path not understood".to_owned(),
    };
    let mut words = format!("{host}, {path}");
    if candidate.conditions.is_widened {
        words.push_str(", conditions not understood");
        return words;
    }
    let (method, headers, query, further) = candidate.conditions.rank();
    if method {
        words.push_str(", method");
    }
    for (count, what) in [(headers, "header"), (query, "query"), (further, "further")] {
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(words, ", {count} {what}");
        }
    }
    let _ = write!(words, ", written {}.", candidate.order + 1);
    words
}

/// Gateway API precedence as far as it can be said without a request: exact hosts, then longer wildcards, then any;
/// exact paths, then longer prefixes, then regular expressions; then conditions and the order written.
pub fn rank(candidate: &Candidate) -> impl Ord + '_ {
    let host = &*candidate.host;
    let host_class = match host.starts_with('*') {
        _ if host.is_empty() => (2, Reverse(0)),
        true => (1, Reverse(host.len())),
        false => (0, Reverse(0)),
    };
    let (path_class, length, path) = match &candidate.path {
        PathPattern::Exact(path) => (1, 0, &**path),
        PathPattern::Prefix(path) => (2, path.len(), &**path),
        // Regular expressions are tried by rank and order alone.
        PathPattern::Regex(_) => (3, 0, ""),
        PathPattern::Unknown => (0, 0, ""),
    };
    (
        (host_class, host),
        (path_class, Reverse(length), path),
        Reverse(candidate.conditions.rank()),
        candidate.order,
    )
}

/// One condition that was compared.
pub fn condition(conditions: &Conditions, compared: &Condition<'_>) -> String {
    match compared {
        Condition::Method => method(conditions).unwrap_or_default(),
        Condition::Header(name) => {
            let wanted = conditions.headers.iter().find(|(one, _)| one == *name);
            wanted.map_or(String::new(), |(name, wanted)| {
                format!("header {name} {}", value(wanted))
            })
        }
        Condition::Query(name) => {
            let wanted = conditions.query.iter().find(|(one, _)| **one == **name);
            wanted.map_or(String::new(), |(name, wanted)| {
                format!("query {name} {}", value(wanted))
            })
        }
        Condition::Clients => clients(conditions).join(" or "),
        Condition::Sni => hosts(&conditions.sni).join(" or "),
        Condition::Principals => principals(conditions).join(" or "),
        Condition::Destinations => destinations(&conditions.destinations).join(" or "),
        Condition::Port => port(conditions).unwrap_or_default(),
    }
}

/// Conditions in words; all of them must hold, of several clients, names or principals one.
pub fn conditions(conditions: &Conditions) -> Vec<String> {
    let mut words: Vec<String> = method(conditions).into_iter().collect();
    let headers = conditions.headers.iter();
    words.extend(headers.map(|(name, wanted)| format!("header {name} {}", value(wanted))));
    let query = conditions.query.iter();
    words.extend(query.map(|(name, wanted)| format!("query {name} {}", value(wanted))));
    words.extend(clients(conditions));
    words.extend(hosts(&conditions.sni));
    words.extend(principals(conditions));
    words.extend(destinations(&conditions.destinations));
    words.extend(port(conditions));
    words
}

fn port(conditions: &Conditions) -> Option<String> {
    conditions.port.map(|port| format!("port {port}"))
}

/// Where connections may be going.
pub fn destinations(destinations: &[DestinationPattern]) -> Vec<String> {
    let word = |one: &DestinationPattern| {
        let ports: Vec<String> = one.ports.iter().map(u16::to_string).collect();
        let ports = ports.join(", ");
        match (one.net, ports.is_empty()) {
            (Some(net), true) => format!("destination {net}"),
            (Some(net), false) => format!("destination {net} port {ports}"),
            (None, _) => format!("destination port {ports}"),
        }
    };
    destinations.iter().map(word).collect()
}

/// How an endpoint is chosen.
pub fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ewma => "ewma",
        Algorithm::RoundRobin => "round_robin",
        Algorithm::LeastRequest => "least_request",
        Algorithm::Random => "random",
        Algorithm::Maglev => "maglev",
        Algorithm::Ketama => "ketama",
    }
}

/// What is hashed, where something is.
pub fn hash(settings: &PoolSettings) -> Option<String> {
    let balance = &settings.balance;
    let key = |key: &HashKey| match key {
        HashKey::ClientIp => "client_ip".into(),
        HashKey::Header(name) => format!("header {name}"),
        HashKey::Cookie(name) => format!("cookie {name}"),
        HashKey::Query(name) => format!("query {name}"),
        HashKey::Path => "path".into(),
    };
    let keys: Vec<String> = balance.hash.iter().map(key).collect();
    balance
        .algorithm
        .is_consistent()
        .then(|| keys.join(", else "))
}

/// How many endpoints are compared, where it is not two.
pub fn choices(choices: Choices) -> String {
    match choices {
        Choices::Of(2) => String::new(),
        Choices::Of(count) => format!(" of {count}"),
        Choices::All => " of all".into(),
    }
}

/// The zone of an endpoint, in pools that know zones.
pub fn zone(balance: &Balance, member: &Member) -> Option<String> {
    let zone = balance.zone.as_ref()?;
    let own = member.labels.get(&*zone.label);
    Some(own.map_or("unknown", String::as_str).to_owned())
}

/// The zone of a level, in pools that know zones.
pub fn level_zone(balance: &Balance, rank: Rank) -> Option<String> {
    let zone = balance.zone.as_ref()?;
    Some(match usize::from(rank.zone).checked_sub(1) {
        None => zone.own.to_string(),
        Some(at) => match zone.failover.get(at) {
            Some(name) => name.to_string(),
            None => "other".to_owned(),
        },
    })
}

/// The part of its weight that an endpoint has, in percent, while its slow start lasts.
pub fn slow_start(balance: &Balance, member: &Member, now: u64) -> Option<u8> {
    let window = u64::try_from(balance.slow_start.as_nanos()).unwrap_or(u64::MAX);
    let grown = warmth(&member.endpoint.state, now, window);
    (grown < FULL).then(|| u8::try_from(grown * 100 / FULL).unwrap_or(100))
}

/// What keeps a session at its endpoint.
pub fn affinity(affinity: &Affinity) -> String {
    match affinity {
        Affinity::Cookie(cookie) => format!("cookie {}", cookie.name),
        Affinity::Header(name) => format!("header {name}"),
        Affinity::Address => "the client's address".into(),
    }
}

/// What becomes of requests for a subset of which no endpoint can be used.
pub fn fallback(fallback: SubsetFallback) -> &'static str {
    match fallback {
        SubsetFallback::None => "none",
        SubsetFallback::Any => "any",
    }
}

/// Labels as they are written, in one line.
pub fn labels(labels: &Labels) -> String {
    let words: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    words.join(", ")
}

/// What keeps a user in a share.
pub fn sticky(key: &StickyKey) -> String {
    match key {
        StickyKey::ClientIp => "client_ip".into(),
        StickyKey::Principal => "principal".into(),
        StickyKey::Header(name) => format!("header {name}"),
        StickyKey::Cookie(name) => format!("cookie {name}"),
        StickyKey::Query(name) => format!("query {name}"),
    }
}

/// How a request may name its share, and who may.
pub fn overriding(overriding: &Override) -> String {
    let by = match &overriding.by {
        OverrideBy::Header(name) => format!("header {name}"),
        OverrideBy::Cookie(name) => format!("cookie {name}"),
    };
    match guard(&overriding.guard) {
        Some(whom) => format!("{by}, for {whom}"),
        None => by,
    }
}

/// What may be injected, each part with its chance.
pub fn fault_plan(plan: &FaultPlan) -> Vec<String> {
    let chance = |chance: Chance| match chance.is_certain() {
        true => String::new(),
        false => format!(", chance {} %", chance.percent()),
    };
    let delay = plan.delay.map(|(time, of)| {
        let time = Time(time);
        format!("delayed by {time}{}", chance(of))
    });
    let abort = plan.abort.map(|(abort, of)| match abort {
        Abort::Status(status) => format!("aborted with {status}{}", chance(of)),
        Abort::Grpc(code) => format!("aborted with grpc-status {code}{}", chance(of)),
    });
    delay.into_iter().chain(abort).collect()
}

/// A mirror, with the chance of a copy.
pub fn mirror(mirror: &Mirror) -> String {
    let compared = match mirror.compare {
        Some(_) => ", responses compared",
        None => "",
    };
    let broken = match mirror.pool {
        Some(_) => "",
        None => " (broken, gets none)",
    };
    let percent = mirror.chance.percent();
    format!("{}{broken}, chance {percent} %{compared}", mirror.name)
}

/// What a cache does with a request.
pub fn caching(wish: &CacheWish) -> String {
    match wish {
        CacheWish::Bypass(why) => format!("is passed by: {why}"),
        CacheWish::Write(_) => {
            "takes out what it holds of this URL once the request succeeded".to_owned()
        }
        CacheWish::Look(wanted) => {
            let key: String = wanted.key[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let fills = match wanted.fills {
                true => "keeps what comes",
                false => "keeps nothing of HEAD and ranges",
            };
            format!(
                "looks for {} (key {key}), and {fills}; what it holds is unknown here",
                wanted.told
            )
        }
    }
}

/// A fault: what may be injected, and into which requests.
pub fn fault(fault: &Fault) -> Vec<String> {
    let mut words = fault_plan(&fault.plan);
    if fault.by_header {
        words.push("as the request asks itself".into());
    }
    let when = fault.when.iter();
    words.extend(when.map(|(name, wanted)| format!("when header {name} {}", value(wanted))));
    words.extend(guard(&fault.guard).map(|whom| format!("for {whom}")));
    words
}

/// Whom something is for; `None` for everybody.
pub fn guard(guard: &Guard) -> Option<String> {
    let nets = guard.clients.nets().iter();
    let clients: Vec<String> = nets.map(|net| format!("client {net}")).collect();
    let principals: Vec<String> = guard.principals.iter().map(principal).collect();
    let lists = [principals, clients].map(|list| list.join(" or "));
    let lists: Vec<String> = lists.into_iter().filter(|list| !list.is_empty()).collect();
    (!lists.is_empty()).then(|| lists.join(", and "))
}

/// Server names.
pub fn hosts(hosts: &[HostPattern]) -> Vec<String> {
    let word = |host: &HostPattern| match host {
        HostPattern::Exact(host) => format!("sni {host}"),
        HostPattern::Suffix(suffix) => format!("sni *{suffix}"),
    };
    hosts.iter().map(word).collect()
}

fn method(conditions: &Conditions) -> Option<String> {
    let method = conditions.method.as_ref()?;
    Some(format!("method {method}"))
}

fn clients(conditions: &Conditions) -> Vec<String> {
    let clients = conditions.clients.nets().iter();
    clients.map(|net| format!("client {net}")).collect()
}

fn principals(conditions: &Conditions) -> Vec<String> {
    conditions.principals.iter().map(principal).collect()
}

fn principal(pattern: &PrincipalPattern) -> String {
    match pattern {
        PrincipalPattern::Exact(id) => format!("principal {id}"),
        PrincipalPattern::Prefix(id) => format!("principal {id}*"),
    }
}

fn value(wanted: &ValueCondition) -> String {
    match wanted {
        ValueCondition::Exact(text) => format!("= {text}"),
        ValueCondition::Regex(regex) => format!("~ {regex}"),
        ValueCondition::Present(true) => "present".into(),
        ValueCondition::Present(false) => "absent".into(),
    }
}

/// After which failures a rule makes another attempt.
pub fn retry_on(retry: &Retry) -> String {
    let methods: Vec<&str> = retry.methods.iter().map(Method::as_str).collect();
    let safe = [
        (retry.on_reset, "broken connection".to_owned()),
        (retry.on_per_try_timeout, "attempt over its time".to_owned()),
        (
            !retry.statuses.is_empty(),
            format!("status {}", list(retry.statuses.iter())),
        ),
    ];
    let safe: Vec<String> = given(safe);
    let safe =
        (!safe.is_empty()).then(|| format!("{} for {}", safe.join(", "), methods.join(", ")));
    let any = [
        (retry.on_connect_failure, "failure to connect".to_owned()),
        (retry.on_refused_stream, "refused stream".to_owned()),
        (
            retry.grpc != 0,
            format!(
                "grpc-status {}",
                list((0..32).filter(|code| retry.on_grpc(*code)))
            ),
        ),
    ];
    let all: Vec<String> = given(any).into_iter().chain(safe).collect();
    match all.is_empty() {
        true => "nothing".to_owned(),
        false => all.join("; "),
    }
}

fn given<const N: usize>(parts: [(bool, String); N]) -> Vec<String> {
    let given = parts.into_iter().filter(|(is_given, _)| *is_given);
    given.map(|(_, part)| part).collect()
}

fn list(parts: impl Iterator<Item = impl ToString>) -> String {
    let parts: Vec<String> = parts.map(|part| part.to_string()).collect();
    parts.join(", ")
}

/// What a retry budget allows.
pub fn budget(allowance: &Allowance) -> String {
    let percent = (allowance.ratio * 10_000.0).round() / 100.0;
    let (reserve, window) = (allowance.min_per_second, allowance.window.as_secs());
    format!("{percent} % of requests and {reserve} a second, over {window} s")
}
