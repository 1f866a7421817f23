//! The class of a request: the one that a trusted caller names, else its rule's.
//! It must not know what classes are for.
//! The data path and explanations ask it after the decision.

use http::{HeaderMap, HeaderName};

use crate::snapshot::limits::Priority;
use crate::snapshot::route::Rule;

/// The class of a request that met this rule. `header` is the field to read, if its caller may name one.
pub fn class(rule: &Rule, header: Option<&HeaderName>, headers: &HeaderMap) -> Priority {
    let named = header.and_then(|name| headers.get(name));
    let named = named.and_then(|value| Priority::named(value.as_bytes().trim_ascii()));
    named.unwrap_or(rule.priority)
}
