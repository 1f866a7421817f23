//! Single values as people write them: addresses, hosts, paths, regular expressions, names of methods and fields.
//! It must not know where in a configuration a value stands; the caller has the path.
//! Called by every file of `config::rules`.

use std::fmt::Display;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use regex::RegexBuilder;
use windrose_plugins::contract::{field_name, field_value, Percent, Problem, Side, Time};

use crate::config::report::Report;
use crate::config::schema::HeaderEdits;

/// What is wrong with a value, and what to do.
#[derive(Debug)]
pub(super) struct Wrong {
    /// What is wrong.
    pub(super) fact: String,
    /// What to do.
    pub(super) remedy: String,
}

impl Wrong {
    fn new(fact: impl Into<String>, remedy: impl Into<String>) -> Wrong {
        Wrong {
            fact: fact.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Wrong {
        Wrong {
            fact: problem.fact,
            remedy: problem.remedy,
        }
    }
}

/// Reports what is wrong at a path, and hands on what is right.
pub(super) fn accept<T>(report: &mut Report, path: &str, value: Result<T, Wrong>) -> Option<T> {
    value
        .map_err(|wrong| report.error(path, wrong.fact, wrong.remedy))
        .ok()
}

/// Where a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A Unix socket's path.
    Unix(String),
}

/// `ip:port` or `unix:/absolute/path`.
pub(super) fn address(text: &str) -> Result<Address, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.starts_with('/') && path.len() > 1 {
            true => Ok(Address::Unix(path.to_owned())),
            false => Err(Wrong::new(
                format!("\"{text}\" does not name an absolute path"),
                "write `unix:` and a path from the root, such as \"unix:/run/windrose.sock\"",
            )),
        };
    }
    text.parse().map(Address::Ip).map_err(|_| {
        Wrong::new(
            format!("\"{text}\" is not an address and port"),
            "write an IP address and a port, such as \"0.0.0.0:8080\" or \"[::]:443\", or \"unix:/path\"",
        )
    })
}

/// An address that can be connected to.
pub(super) fn endpoint(text: &str) -> Result<Address, Wrong> {
    let named = text.rsplit_once(':').is_some_and(|(name, port)| {
        !text.starts_with("unix:") && host(name).is_ok() && port.parse::<u16>().is_ok()
    });
    match address(text) {
        Ok(Address::Ip(ip)) if ip.port() == 0 => Err(Wrong::new(
            format!("\"{text}\" has port 0, which cannot be connected to"),
            "write the port the endpoint listens on",
        )),
        Err(_) if named => Err(Wrong::new(
            format!("\"{text}\" has a name where an IP address must be"),
            "use `discovery.dns` with the name and port, so that changes of the name are followed",
        )),
        other => other,
    }
}

/// A host name or IP address, without port.
pub(super) fn host(text: &str) -> Result<(), Wrong> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if bracketed.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()) {
        return Ok(());
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = text.to_ascii_lowercase();
        return Err(Wrong::new(
            format!("\"{text}\" has upper case letters"),
            format!("hosts are compared in lower case; write \"{lower}\""),
        ));
    }
    if let Some((name, port)) = text.rsplit_once(':') {
        if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Wrong::new(
                format!("\"{text}\" has a port"),
                format!("write the host alone, \"{name}\""),
            ));
        }
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    match text.len() <= 253 && text.split('.').all(label) {
        true => Ok(()),
        false => Err(Wrong::new(format!("\"{text}\" is not a host name"), "write labels of letters, digits and dashes with dots between, such as \"www.example.com\"")),
    }
}

/// A host, or `*.` and a host.
pub(super) fn host_pattern(text: &str) -> Result<(), Wrong> {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    if bare.contains('*') {
        return Err(Wrong::new(
            format!("\"{text}\" has a `*` that is not the whole first label"),
            "write an exact host or \"*.example.com\"; leave `hosts` out for any host",
        ));
    }
    host(bare)
}

/// A host with an optional port, as in a Host field.
pub(super) fn authority(text: &str) -> Result<(), Wrong> {
    match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => host(name),
        _ => host(text),
    }
}

/// A canonical path: what a request's path looks like after it was made canonical.
pub(super) fn path(text: &str) -> Result<(), Wrong> {
    let refuse = |why: &str, remedy: &str| Err(Wrong::new(format!("\"{text}\" {why}"), remedy));
    if !text.starts_with('/') {
        return refuse(
            "does not start with \"/\"",
            "write the path from the root, such as \"/api\"",
        );
    }
    if text.contains(['?', '#']) {
        return refuse(
            "holds a query or fragment",
            "write the path alone; conditions on the query belong in `query`",
        );
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse(
            "holds white space or control characters",
            "write them percent-encoded, such as \"%20\"",
        );
    }
    if text.contains("//") {
        return refuse(
            "holds an empty segment (\"//\")",
            "request paths are made canonical before they are matched; write a single \"/\"",
        );
    }
    if text
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return refuse(
            "holds a \".\" or \"..\" segment",
            "request paths are made canonical before they are matched; write the path it leads to",
        );
    }
    Ok(())
}

/// A regular expression of bounded size.
pub(super) fn pattern(text: &str) -> Result<(), Wrong> {
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
    built.map(drop).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => Wrong::new(
            format!("\"{text}\" needs more than 1MiB when compiled"),
            "use smaller repetition counts, or several rules",
        ),
        other => {
            let text_of = other.to_string();
            let why = text_of.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            Wrong::new(
                format!("\"{text}\" is not a regular expression: {why}"),
                "use RE2 syntax (no look-around, no back-references); escape literal characters with `\\`",
            )
        }
    })
}

/// A method in upper case.
pub(super) fn method(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(Wrong::new(
            format!("\"{text}\" is not a method"),
            "write one method, such as \"GET\"",
        ));
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(Wrong::new(
            format!("\"{text}\" has lower case letters"),
            format!("methods are case-sensitive; write \"{upper}\""),
        ));
    }
    Ok(())
}

/// A word of token characters (RFC 9110 section 5.6.2).
pub(super) fn token(text: &str, what: &str) -> Result<(), Wrong> {
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(()),
        false => Err(Wrong::new(
            format!("\"{text}\" is not a {what}"),
            "use letters, digits and dashes",
        )),
    }
}

/// An address of the web with a host; `schemes` says which are understood.
pub(super) fn url(text: &str, schemes: &[&str]) -> Result<(), Wrong> {
    let example = "write it in full, such as \"http://127.0.0.1:4318/v1/traces\"";
    let uri: http::Uri = text
        .parse()
        .map_err(|_| Wrong::new(format!("\"{text}\" is not a URL"), example))?;
    match uri.scheme_str() {
        Some(scheme) if schemes.contains(&scheme) => {}
        _ => {
            let known = schemes
                .iter()
                .map(|scheme| format!("{scheme}://"))
                .collect::<Vec<_>>()
                .join(" or ");
            return Err(Wrong::new(
                format!("\"{text}\" does not start with {known}"),
                example,
            ));
        }
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err(Wrong::new(format!("\"{text}\" names no host"), example)),
    }
}

/// Header edits of one side.
pub(super) fn edits(report: &mut Report, path: &str, side: Side, edits: &HeaderEdits) {
    for (key, fields) in [("set", &edits.set), ("add", &edits.add)] {
        for (name, value) in fields {
            let path = format!("{path}.{key}.{name}");
            accept(report, &path, editable(side, name));
            accept(
                report,
                &path,
                field_value(&path, value).map_err(Wrong::from),
            );
        }
    }
    for (at, name) in edits.remove.iter().enumerate() {
        accept(
            report,
            &format!("{path}.remove[{at}]"),
            editable(side, name),
        );
    }
}

fn editable(side: Side, name: &str) -> Result<(), Wrong> {
    if side == Side::Request && name.eq_ignore_ascii_case("host") {
        return Err(Wrong::new(
            format!("the field \"{name}\" cannot be edited here"),
            "use `rewrite.host` to change the host that is sent upstream",
        ));
    }
    field_name(side, "", name).map(drop).map_err(Wrong::from)
}

/// A whole number within bounds.
pub(super) fn within<N: PartialOrd + Display>(
    report: &mut Report,
    path: &str,
    value: N,
    low: N,
    high: N,
) {
    if value < low || value > high {
        let remedy = format!("write a number from {low} to {high}");
        report.error(
            path,
            format!("must be from {low} to {high}, found {value}"),
            remedy,
        );
    }
}

/// A time that has to be there.
pub(super) fn positive(report: &mut Report, path: &str, time: Time) {
    if time.0 == Duration::ZERO {
        report.error(
            path,
            "must be longer than 0s, found \"0s\"",
            "write a time such as \"10s\", or leave the key out for its default",
        );
    }
}

/// A share of requests that something happens to.
pub(super) fn some_share(report: &mut Report, path: &str, share: Percent) {
    if share.fraction() == 0.0 {
        report.error(
            path,
            format!("must be at least 0.01%, found \"{share}\""),
            "remove what happens to no request, or comment it out",
        );
    }
}

/// The keys that are given, quoted, for settings of which one or a few may be.
pub(super) fn quoted(kinds: &[(&str, bool)]) -> Vec<String> {
    let given = kinds.iter().filter(|(_, given)| *given);
    given.map(|(key, _)| format!("`{key}`")).collect()
}

/// A text that has to be there.
pub(super) fn given(report: &mut Report, path: &str, text: &str) {
    if text.trim().is_empty() {
        report.error(
            path,
            "must not be empty, found \"\"",
            "write a value, or leave the key out where it has a default",
        );
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What one expression may take: thousands of them still fit a small machine.
const PATTERN_BYTES: usize = 1 << 20;
