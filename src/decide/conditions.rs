//! Comparing one candidate's conditions with a request.
//! It must not know how candidates are found.
//! Called by `decide` for each candidate whose host and path match.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use super::{Caller, Head, Trace};
use crate::snapshot::route::{Candidate, Conditions, ValueCondition};

/// Which condition was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition<'a> {
    /// The method.
    Method,
    /// A field.
    Header(&'a HeaderName),
    /// A query parameter.
    Query(&'a str),
    /// The client's network.
    Clients,
    /// The name asked for in TLS.
    Sni,
    /// The principal.
    Principals,
    /// Where the connection was going.
    Destinations,
    /// The port asked for.
    Port,
}

/// How a comparison came out.
#[derive(Debug, Clone)]
pub struct Verdict<'a> {
    /// What was compared.
    pub condition: Condition<'a>,
    /// Whether it holds.
    pub holds: bool,
}

/// Whether all conditions of the candidate hold.
pub(super) fn hold<T: Trace>(
    candidate: &Candidate,
    head: &Head<'_>,
    caller: &Caller<'_>,
    trace: &mut T,
) -> bool {
    let conditions = &*candidate.conditions;
    let mut all = true;
    let mut compared = |condition: Condition<'_>, holds: bool| {
        if T::ON {
            trace.condition(candidate, &Verdict { condition, holds });
        }
        all &= holds;
        T::ON || holds
    };
    // Without a trace the first condition that fails ends the comparison; with one, all are told.
    let _ = method(conditions, head, &mut compared)
        && headers(conditions, head, &mut compared)
        && query(conditions, head, &mut compared)
        && caller_conditions(conditions, caller, &mut compared);
    all
}

fn method(
    conditions: &Conditions,
    head: &Head<'_>,
    compared: &mut impl FnMut(Condition<'_>, bool) -> bool,
) -> bool {
    conditions
        .method
        .as_ref()
        .is_none_or(|method| compared(Condition::Method, method == head.method))
}

fn headers<'c>(
    conditions: &'c Conditions,
    head: &Head<'_>,
    compared: &mut impl FnMut(Condition<'c>, bool) -> bool,
) -> bool {
    conditions.headers.iter().all(|(name, condition)| {
        let value = field(head.headers, name);
        compared(Condition::Header(name), holds(condition, value.as_deref()))
    })
}

fn query<'c>(
    conditions: &'c Conditions,
    head: &Head<'_>,
    compared: &mut impl FnMut(Condition<'c>, bool) -> bool,
) -> bool {
    conditions.query.iter().all(|(name, condition)| {
        let value = parameter(head.query.unwrap_or_default(), name);
        compared(Condition::Query(name), holds(condition, value.as_deref()))
    })
}

fn caller_conditions(
    conditions: &Conditions,
    caller: &Caller<'_>,
    compared: &mut impl FnMut(Condition<'_>, bool) -> bool,
) -> bool {
    let clients = &conditions.clients;
    let sni = |name: &str| conditions.sni.iter().any(|pattern| pattern.matches(name));
    let principal = |id: &str| {
        conditions
            .principals
            .iter()
            .any(|pattern| pattern.matches(id))
    };
    let destination = |to| conditions.destinations.iter().any(|one| one.matches(to));
    (clients.is_empty() || compared(Condition::Clients, clients.contains(caller.address)))
        && (conditions.sni.is_empty() || compared(Condition::Sni, caller.sni.is_some_and(sni)))
        && (conditions.principals.is_empty()
            || compared(
                Condition::Principals,
                caller.principal.is_some_and(principal),
            ))
        && (conditions.destinations.is_empty()
            || compared(
                Condition::Destinations,
                caller.destination.is_some_and(destination),
            ))
        && conditions.port.is_none_or(|port| {
            let asked = caller.port.is_none_or(|asked| asked == port);
            compared(Condition::Port, asked)
        })
}

pub(super) fn holds(condition: &ValueCondition, value: Option<&str>) -> bool {
    match (condition, value) {
        (ValueCondition::Present(wanted), value) => *wanted == value.is_some(),
        (ValueCondition::Exact(exact), Some(value)) => **exact == *value,
        (ValueCondition::Regex(regex), Some(value)) => regex.is_match(value),
        (ValueCondition::Exact(_) | ValueCondition::Regex(_), None) => false,
    }
}

/// A field's value; repeated fields are joined with `,` (RFC 9110 section 5.3). Values that are not text do not match.
pub(super) fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let first = values.next()?;
    // HTTP/2 sends cookies in pieces (RFC 9113, section 8.2.3); to a condition they are what HTTP/1.1 would have sent.
    let between = if *name == COOKIE { "; " } else { "," };
    let mut joined = Cow::Borrowed(first);
    for value in values {
        let joined = joined.to_mut();
        joined.push_str(between);
        joined.push_str(value);
    }
    Some(joined)
}

/// The first parameter of this name, decoded as forms are (`+` is a space).
pub(super) fn parameter<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name) == wanted).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = escape
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (value, bytes[at]) {
            (Some(value), _) => {
                out.push(value);
                at += 3;
                continue;
            }
            (None, b'+') => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        assert_eq!(
            parameter("a=1&b=x%20y+z&b=2", "b").as_deref(),
            Some("x y z")
        );
        assert_eq!(parameter("a=1&flag", "flag").as_deref(), Some(""));
        assert_eq!(parameter("a%62=1", "ab").as_deref(), Some("1"));
        assert_eq!(parameter("a=%", "a").as_deref(), Some("%"));
        assert_eq!(parameter("", "a"), None);
    }
}
