//! Rules of what a route's rule does: redirects, answers, rewrites, edits and retries.
//! It must not know pools or listeners; `routes` checks references.
//! Called by `config::rules::routes` for each rule.

use windrose_plugins::contract::{field_value, Side};

use super::values::{accept, authority, edits, host, path as canonical, pattern, within, Wrong};
use super::{fault, retry};
use crate::config::report::Report;
use crate::config::schema::{PathMatch, Redirect, Respond, Rewrite, Rule};

/// Checks what a rule for requests does.
pub(super) fn check(rule: &Rule, path: &str, report: &mut Report) {
    let prefixed = !rule.matches.is_empty()
        && rule
            .matches
            .iter()
            .all(|found| matches!(found.path, Some(PathMatch::Prefix(_))));
    if let Some(it) = &rule.redirect {
        redirect(it, prefixed, &format!("{path}.redirect"), report);
    }
    if let Some(it) = &rule.respond {
        respond(it, &format!("{path}.respond"), report);
    }
    if let Some(it) = &rule.rewrite {
        rewrite(it, prefixed, &format!("{path}.rewrite"), report);
    }
    if let Some(it) = &rule.retry {
        retry::retry(it, &format!("{path}.retry"), report);
    }
    if let Some(it) = &rule.fault {
        fault::check(it, &format!("{path}.fault"), report);
    }
    edits(
        report,
        &format!("{path}.request_headers"),
        Side::Request,
        &rule.request_headers,
    );
    edits(
        report,
        &format!("{path}.response_headers"),
        Side::Response,
        &rule.response_headers,
    );
    unused(rule, path, report);
}

fn redirect(it: &Redirect, prefixed: bool, path: &str, report: &mut Report) {
    if !matches!(it.status, 301 | 302 | 303 | 307 | 308) {
        report.error(
            format!("{path}.status"),
            format!("{} is not a status of a redirect", it.status),
            "use 301, 302, 303, 307 or 308",
        );
    }
    if let Some(scheme) = it
        .scheme
        .as_deref()
        .filter(|scheme| !matches!(*scheme, "http" | "https"))
    {
        report.error(
            format!("{path}.scheme"),
            format!("\"{scheme}\" is neither \"http\" nor \"https\""),
            "use `http` or `https`, in lower case",
        );
    }
    if let Some(name) = &it.host {
        accept(report, &format!("{path}.host"), host(name));
    }
    if it.port == Some(0) {
        report.error(
            format!("{path}.port"),
            "must be from 1 to 65535, found 0",
            "leave it out for the scheme's own port",
        );
    }
    let changes = it.scheme.is_some()
        || it.host.is_some()
        || it.port.is_some()
        || it.path.is_some()
        || it.path_prefix.is_some();
    if !changes {
        // Allowed, as in the Gateway API: after a 303, for one, the client comes back with GET, which may match another rule.
        report.warning(
            path,
            "changes nothing, so clients go in a circle unless what they send next matches another rule",
            "give `scheme`, `host`, `port`, `path` or `path_prefix`",
        );
    }
    paths(
        &[("path", &it.path), ("path_prefix", &it.path_prefix)],
        prefixed,
        path,
        report,
    );
}

fn rewrite(it: &Rewrite, prefixed: bool, path: &str, report: &mut Report) {
    if let Some(name) = &it.host {
        accept(report, &format!("{path}.host"), authority(name));
    }
    let expression = it.path_regex.as_ref().map(|by| by.pattern.clone());
    if let Some(text) = &expression {
        accept(report, &format!("{path}.path_regex.pattern"), pattern(text));
    }
    let kinds = [
        ("path", &it.path),
        ("path_prefix", &it.path_prefix),
        ("path_regex", &expression),
    ];
    paths(&kinds, prefixed, path, report);
}

/// What both a rewrite and a redirect can do to a path: one thing.
fn paths(kinds: &[(&str, &Option<String>)], prefixed: bool, path: &str, report: &mut Report) {
    let given: Vec<String> = kinds
        .iter()
        .filter(|(_, text)| text.is_some())
        .map(|(key, _)| format!("`{key}`"))
        .collect();
    if given.len() > 1 {
        report.error(
            path,
            format!(
                "changes the path in {} ways: {}",
                given.len(),
                given.join(", ")
            ),
            "keep one of them",
        );
    }
    for (key, text) in kinds.iter().filter(|(key, _)| *key != "path_regex") {
        let Some(text) = text else {
            continue;
        };
        let path = format!("{path}.{key}");
        accept(report, &path, canonical(text));
        if *key == "path_prefix" && !prefixed {
            report.error(path, format!("\"{text}\" replaces a matched prefix, and not every alternative of `match` has one"), "give each alternative `path: {prefix: …}`, or use `path`");
        }
    }
}

fn respond(it: &Respond, path: &str, report: &mut Report) {
    within(report, &format!("{path}.status"), it.status, 200, 599);
    if let Some(media) = &it.content_type {
        let path = format!("{path}.content_type");
        accept(
            report,
            &path,
            field_value(&path, media).map_err(Wrong::from),
        );
    }
}

/// Nothing is sent upstream, so nothing about sending can matter.
fn unused(rule: &Rule, path: &str, report: &mut Report) {
    let action = match (&rule.redirect, &rule.respond) {
        (Some(_), _) => "redirect",
        (None, Some(_)) => "respond",
        (None, None) => return,
    };
    let settings = [
        ("fault", rule.fault.is_some()),
        ("mirror", !rule.mirror.is_empty()),
        ("rewrite", rule.rewrite.is_some()),
        (
            "request_headers",
            rule.request_headers != Default::default(),
        ),
        ("timeouts", rule.timeouts != Default::default()),
        ("retry", rule.retry.is_some()),
        ("body_limit", rule.body_limit.is_some()),
        ("priority", rule.priority.is_some()),
    ];
    for (key, _) in settings.iter().filter(|(_, given)| *given) {
        report.error(
            format!("{path}.{key}"),
            format!("is not used by the action `{action}`"),
            "remove it; nothing is sent upstream by this rule",
        );
    }
}
