//! Rules of `policies`: names that exist, conditions that can be read and can hold at all.
//! It must not know how a caller is judged; `decide::policy` does that.
//! Called by `config::rules::check`.

use super::matches::{principals, values};
use super::values::{
    accept, given, host_pattern, method, path as canonical, pattern, token, Wrong,
};
use super::{named, Names};
use crate::config::report::Report;
use crate::config::schema::{
    Config, Hold, PathMatch, Policy, PolicyAction, PolicyFrom, PolicyTarget, PolicyWhen,
};
use crate::snapshot::policy::{expression, MOST_RULES};
use crate::snapshot::pool::PASSTHROUGH;

/// Checks every policy.
pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report) {
    named(
        report,
        "policies",
        "-_.",
        config.policies.iter().map(|it| Some(&*it.name)),
    );
    let known = Known {
        names,
        is_captured: config
            .listeners
            .iter()
            .any(|it| it.capture.is_some() || it.hold == Hold::Out),
    };
    for (at, policy) in config.policies.iter().enumerate() {
        one(policy, &known, &format!("policies[{at}]"), report);
    }
}

/// What policies may be for.
struct Known<'n> {
    names: &'n Names<'n>,
    /// Whether there is traffic that goes on without a route.
    is_captured: bool,
}

fn one(policy: &Policy, known: &Known<'_>, path: &str, report: &mut Report) {
    target(&policy.to, known, &format!("{path}.to"), report);
    if policy.rules.len() > MOST_RULES {
        report.error(
            format!("{path}.rules"),
            format!(
                "has {} rules; {MOST_RULES} are the most",
                policy.rules.len()
            ),
            "divide the policy, or let prefixes and namespaces stand for many principals",
        );
    }
    for (at, rule) in policy.rules.iter().enumerate() {
        let path = format!("{path}.rules[{at}]");
        from(&rule.from, policy.action, &format!("{path}.from"), report);
        when(&rule.when, &format!("{path}.when"), report);
    }
}

fn target(to: &PolicyTarget, known: &Known<'_>, path: &str, report: &mut Report) {
    let names = known.names;
    let is_written = |name: &str| !(known.is_captured && name == PASSTHROUGH);
    for (at, name) in to.listeners.iter().enumerate() {
        names.listener(report, &format!("{path}.listeners[{at}]"), name);
    }
    let routes = to.routes.iter().enumerate();
    for (at, name) in routes.filter(|(_, name)| is_written(name)) {
        names.route(report, &format!("{path}.routes[{at}]"), name);
    }
    for (at, name) in to.services.iter().enumerate() {
        names.service(report, &format!("{path}.services[{at}]"), name);
    }
    let pools = to.pools.iter().enumerate();
    for (at, name) in pools.filter(|(_, name)| is_written(name)) {
        names.pool(report, &format!("{path}.pools[{at}]"), name);
    }
}

fn from(from: &PolicyFrom, action: PolicyAction, path: &str, report: &mut Report) {
    let not = Patterns(&from.not_principals);
    principals(&from.principals, path, report);
    not.check(&format!("{path}.not_principals"), report);
    for (key, list) in [
        ("principals", &from.principals),
        ("not_principals", &from.not_principals),
    ] {
        for (at, text) in list.iter().enumerate() {
            accept(report, &format!("{path}.{key}[{at}]"), principal(text));
        }
    }
    type Form = fn(&str) -> Result<(), Wrong>;
    let patterns: [(&str, &Vec<String>, Form); 4] = [
        ("namespaces", &from.namespaces, namespace),
        ("not_namespaces", &from.not_namespaces, namespace),
        ("service_accounts", &from.service_accounts, account),
        ("consumers", &from.consumers, consumer),
    ];
    for (key, list, form) in patterns {
        let path = format!("{path}.{key}");
        Patterns(list).check(&path, report);
        for (at, text) in list.iter().enumerate() {
            accept(report, &format!("{path}[{at}]"), form(text));
        }
    }
    let domains = [
        ("trust_domains", &from.trust_domains),
        ("not_trust_domains", &from.not_trust_domains),
    ];
    for (key, list) in domains {
        for (at, text) in list.iter().enumerate() {
            accept(report, &format!("{path}.{key}[{at}]"), trust_domain(text));
        }
    }
    contradictions(from, path, report);
    if action == PolicyAction::Allow && from.not_principals.iter().any(|text| text == "*") {
        report.error(
            format!("{path}.not_principals"),
            "\"*\" leaves only callers of whom nothing is proven, and `allow` takes what is not known for no match: the rule never matches",
            "leave `not_principals` out: a rule without conditions on the principal lets those callers in too",
        );
    }
}

/// Lists that take away all of each other.
fn contradictions(from: &PolicyFrom, path: &str, report: &mut Report) {
    contradictory(
        "principals",
        &from.principals,
        &from.not_principals,
        path,
        report,
    );
    contradictory(
        "trust_domains",
        &from.trust_domains,
        &from.not_trust_domains,
        path,
        report,
    );
    contradictory(
        "namespaces",
        &from.namespaces,
        &from.not_namespaces,
        path,
        report,
    );
    contradictory("clients", &from.clients, &from.not_clients, path, report);
}

/// Texts that may end in `*`.
struct Patterns<'a>(&'a [String]);

impl Patterns<'_> {
    fn check(&self, path: &str, report: &mut Report) {
        for (at, text) in self.0.iter().enumerate() {
            let path = format!("{path}[{at}]");
            given(report, &path, text);
            if text.trim_end_matches('*').contains('*') || text.ends_with("**") {
                report.error(
                    path,
                    format!("\"{text}\" has a `*` that is not its last character"),
                    "write the whole name, or a prefix of it and `*`",
                );
            }
        }
    }
}

/// A principal in one of the three forms, or a prefix that keeps to one trust domain.
fn principal(text: &str) -> Result<(), Wrong> {
    let wrong = |fact: String, remedy: &str| {
        Err(Wrong {
            fact,
            remedy: remedy.to_owned(),
        })
    };
    if matches!(text, "*" | "spiffe://*") {
        return Ok(());
    }
    if let Some(rest) = text.strip_prefix("spiffe://") {
        let (domain, _) = rest.split_once('/').unwrap_or((rest, ""));
        if domain.ends_with('*') {
            return wrong(
                format!(
                    "\"{text}\" also means trust domains that only begin with \"{}\"",
                    domain.trim_end_matches('*')
                ),
                "end the trust domain with \"/\", such as \"spiffe://mesh.example/*\"",
            );
        }
        return trust_domain(domain);
    }
    let is_kind = ["consumer:", "certificate:"]
        .iter()
        .any(|kind| text.starts_with(kind));
    match is_kind {
        true => Ok(()),
        false => wrong(
            format!("\"{text}\" is none of the forms that principals have"),
            "write a SPIFFE ID such as \"spiffe://mesh.example/ns/shop/sa/web\", \"consumer:NAME\", \"certificate:NAME\", or \"*\" for anyone who is proven",
        ),
    }
}

/// A rule for a name that no caller can have would never fit, which for one that denies means that everybody passes.
fn namespace(text: &str) -> Result<(), Wrong> {
    match text.contains('/') {
        false => Ok(()),
        true => Err(Wrong {
            fact: format!("\"{text}\" is no namespace: those have no \"/\""),
            remedy:
                "write the word after \"ns/\" of the SPIFFE ID, or the whole ID under `principals`"
                    .to_owned(),
        }),
    }
}

fn account(text: &str) -> Result<(), Wrong> {
    let words = text.split('/').count();
    let is_whole = text.split('/').all(|word| !word.is_empty());
    match text.is_empty() || (words <= 2 && is_whole) {
        true => Ok(()),
        false => Err(Wrong {
            fact: format!("\"{text}\" is no service account"),
            remedy: "write \"ACCOUNT\" or \"NAMESPACE/ACCOUNT\", or the whole SPIFFE ID under `principals`"
                .to_owned(),
        }),
    }
}

fn consumer(text: &str) -> Result<(), Wrong> {
    match text.strip_prefix("consumer:") {
        None => Ok(()),
        Some(name) => Err(Wrong {
            fact: format!(
                "\"{text}\" is no consumer's name: those are written without the word before"
            ),
            remedy: format!("write \"{name}\" here, or \"{text}\" under `principals`"),
        }),
    }
}

fn trust_domain(text: &str) -> Result<(), Wrong> {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(Wrong {
            fact: format!("\"{text}\" is not a trust domain"),
            remedy:
                "use lower case letters, digits, \".\", \"-\" and \"_\", such as \"mesh.example\""
                    .to_owned(),
        }),
    }
}

fn when(when: &PolicyWhen, path: &str, report: &mut Report) {
    for (key, list) in [
        ("methods", &when.methods),
        ("not_methods", &when.not_methods),
    ] {
        for (at, text) in list.iter().enumerate() {
            accept(report, &format!("{path}.{key}[{at}]"), method(text));
        }
    }
    for (key, list) in [("paths", &when.paths), ("not_paths", &when.not_paths)] {
        for (at, condition) in list.iter().enumerate() {
            let (kind, checked) = match condition {
                PathMatch::Exact(text) => ("exact", canonical(text)),
                PathMatch::Prefix(text) => ("prefix", canonical(text)),
                PathMatch::Regex(text) => ("regex", pattern(text)),
            };
            accept(report, &format!("{path}.{key}[{at}].{kind}"), checked);
        }
    }
    for (key, list) in [("hosts", &when.hosts), ("not_hosts", &when.not_hosts)] {
        for (at, text) in list.iter().enumerate() {
            accept(report, &format!("{path}.{key}[{at}]"), host_pattern(text));
        }
    }
    for name in when.headers.keys() {
        let path = format!("{path}.headers.{name}");
        accept(report, &path, token(name, "header name"));
        if name.eq_ignore_ascii_case("host") {
            report.error(
                path,
                "HTTP/2 has no such field, and HTTP/1.1 may write it in many ways",
                "use `hosts`, which compares the canonical name of either",
            );
        }
    }
    values(&when.headers, &format!("{path}.headers"), report);
    for (key, list) in [("ports", &when.ports), ("not_ports", &when.not_ports)] {
        if let Some(at) = list.iter().position(|port| *port == 0) {
            report.error(
                format!("{path}.{key}[{at}]"),
                "port 0 cannot be connected to",
                "write a port from 1 to 65535",
            );
        }
    }
    if let Some(Err(fact)) = when.cel.as_ref().map(|text| expression(text)) {
        report.error(
            format!("{path}.cel"),
            format!("the expression cannot be used: {fact}"),
            "see the variables and functions in `windrose schema`, or use the other conditions",
        );
    }
    contradictory("methods", &when.methods, &when.not_methods, path, report);
    contradictory("paths", &when.paths, &when.not_paths, path, report);
    contradictory("hosts", &when.hosts, &when.not_hosts, path, report);
    contradictory("ports", &when.ports, &when.not_ports, path, report);
}

/// Every value of a list is also in the one of what is not meant.
fn contradictory<T: PartialEq>(key: &str, list: &[T], not: &[T], path: &str, report: &mut Report) {
    if !list.is_empty() && list.iter().all(|value| not.contains(value)) {
        report.error(
            format!("{path}.not_{key}"),
            format!("takes away everything that `{key}` names, so the rule never matches"),
            format!("remove the values from `not_{key}`, or the rule"),
        );
    }
}
