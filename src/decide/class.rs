//! The class of a request: the one that a trusted caller names, else its rule's.
//! It must not know what classes are for.
//! The data path and explanations ask it after the decision.

use http::HeaderName;
use pingora::http::RequestHeader;

use super::Facts;
use crate::snapshot::limits::Priority;
use crate::snapshot::route::Rule;

/// The class of a request that met this rule. `header` is the field in which trusted callers name one; what others say there
/// goes no further, because a proxy behind this one trusts this one.
pub fn class(
    rule: &Rule,
    header: Option<&HeaderName>,
    facts: &Facts,
    head: &mut RequestHeader,
) -> Priority {
    let claimed = header.filter(|name| head.headers.contains_key(*name));
    let Some(name) = claimed else {
        return rule.priority;
    };
    if !facts.trusted {
        head.remove_header(name);
        return rule.priority;
    }
    let named = head.headers.get(name);
    let named = named.and_then(|value| Priority::named(value.as_bytes().trim_ascii()));
    named.unwrap_or(rule.priority)
}
