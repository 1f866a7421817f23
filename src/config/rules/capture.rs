//! Rules of listeners that take connections made for somebody else.
//! It must not know the kernel's rules that bring them.
//! Called by `listeners` for each.

use super::protocol_of;
use super::values::{address, positive, Address};
use crate::config::report::Report;
use crate::config::schema::{Config, Listener, Protocol, ProxyProtocolMode, Role};
use crate::snapshot::pool::PASSTHROUGH;

/// Checks what a listener says about capture.
pub(super) fn check(listener: &Listener, path: &str, report: &mut Report) {
    unused(listener, path, report);
    if listener.capture.is_none() {
        return;
    }
    if let Some(time) = listener.detect_timeout {
        positive(report, &format!("{path}.detect_timeout"), time);
    }
    if listener.ports.contains_key(&0) {
        report.error(
            format!("{path}.ports.0"),
            "is no port that something can be going to",
            "name ports from 1 to 65535",
        );
    }
    let at = format!("{path}.capture");
    if listener.role == Role::Ingress {
        report.error(
            &at,
            "is only for the roles \"mesh-outbound\" and \"mesh-inbound\"",
            "set `role`, or remove `capture`: clients from outside connect to this listener itself",
        );
    }
    if let Ok(Address::Unix(_)) = address(&listener.bind) {
        report.error(
            &at,
            format!("cannot be used with \"{}\"", listener.bind),
            "the kernel brings captured connections to a TCP port; bind `ip:port`",
        );
    }
    if listener.proxy_protocol.mode != ProxyProtocolMode::Ignore {
        report.error(
            &at,
            "cannot be used beside `proxy_protocol`",
            "remove one: both say where the connection was going, and captured ones come from applications, not from balancers",
        );
    }
}

/// Names that captured traffic without a route has in logs and metrics.
pub(super) fn names(config: &Config, report: &mut Report) {
    let is_captured = |listener: &Listener| listener.capture.is_some();
    if !config.listeners.iter().any(is_captured) {
        return;
    }
    let routes: Vec<&str> = config.routes.iter().map(|route| &*route.name).collect();
    let pools: Vec<&str> = config.pools.iter().map(|pool| &*pool.name).collect();
    for (list, names) in [("routes", routes), ("pools", pools)] {
        let taken = names.iter().position(|name| *name == PASSTHROUGH);
        if let Some(at) = taken {
            report.error(
                format!("{list}[{at}].name"),
                format!("the name \"{PASSTHROUGH}\" is taken by what captured traffic without a route goes by"),
                "choose another name",
            );
        }
    }
}

/// Settings that nothing reads.
fn unused(listener: &Listener, path: &str, report: &mut Report) {
    let looks = protocol_of(listener) == Protocol::Auto;
    let given = [
        ("unknown", listener.unknown.is_some(), true),
        ("detect_timeout", listener.detect_timeout.is_some(), looks),
        ("ports", !listener.ports.is_empty(), looks),
    ];
    for (key, _, can) in given.iter().filter(|(_, given, _)| *given) {
        if listener.capture.is_none() {
            report.error(
                format!("{path}.{key}"),
                "is only used beside `capture`",
                "remove it, or set `capture`",
            );
        } else if !can {
            report.error(
                format!("{path}.{key}"),
                "is only used with protocol \"auto\"",
                "remove it, or set `protocol: auto`, which finds out what is spoken",
            );
        }
    }
}
