//! Rules of `match`: conditions that can hold at all.
//! It must not know which condition wins; `decide` does that.
//! Called by `config::rules::routes` for each alternative.

use std::collections::BTreeMap;

use super::values::{accept, given, host_pattern, method, path as canonical, pattern, token};
use crate::config::report::Report;
use crate::config::schema::{Match, PathMatch, ValueMatch, ValueRule};

/// Checks one alternative.
pub(super) fn check(found: &Match, path: &str, report: &mut Report) {
    let on_path = found.path.as_ref().map(|condition| match condition {
        PathMatch::Exact(text) => ("exact", canonical(text)),
        PathMatch::Prefix(text) => ("prefix", canonical(text)),
        PathMatch::Regex(text) => ("regex", pattern(text)),
    });
    if let Some((key, checked)) = on_path {
        accept(report, &format!("{path}.path.{key}"), checked);
    }
    if let Some(text) = &found.method {
        accept(report, &format!("{path}.method"), method(text));
    }
    for name in found.headers.keys() {
        accept(
            report,
            &format!("{path}.headers.{name}"),
            token(name, "header name"),
        );
    }
    for name in found.query.keys() {
        given(report, &format!("{path}.query.{name}"), name);
    }
    values(&found.headers, &format!("{path}.headers"), report);
    values(&found.query, &format!("{path}.query"), report);
    for (at, name) in found.sni.iter().enumerate() {
        accept(report, &format!("{path}.sni[{at}]"), host_pattern(name));
    }
    principals(&found.principals, path, report);
    for (at, one) in found.destinations.iter().enumerate() {
        if one.net.is_none() && one.ports.is_empty() {
            report.error(
                format!("{path}.destinations[{at}]"),
                "names neither a network nor a port",
                "give `net` or `ports`; leave `destinations` out for any",
            );
        }
        if one.ports.contains(&0) {
            report.error(
                format!("{path}.destinations[{at}].ports"),
                "has port 0, to which nothing can be going",
                "name ports from 1 to 65535",
            );
        }
    }
}

/// Checks patterns of principals, at the key `principals` below a path.
pub(super) fn principals(patterns: &[String], path: &str, report: &mut Report) {
    for (at, principal) in patterns.iter().enumerate() {
        let path = format!("{path}.principals[{at}]");
        given(report, &path, principal);
        if principal.trim_end_matches('*').contains('*') || principal.ends_with("**") {
            report.error(
                path,
                format!("\"{principal}\" has a `*` that is not its last character"),
                "write the whole principal, or a prefix of it and `*`",
            );
        }
    }
}

pub(super) fn values(conditions: &BTreeMap<String, ValueMatch>, path: &str, report: &mut Report) {
    for (name, condition) in conditions {
        if let ValueMatch::By(ValueRule::Regex(text)) = condition {
            accept(report, &format!("{path}.{name}.regex"), pattern(text));
        }
    }
}
