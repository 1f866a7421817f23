//! Rules of listeners that take connections made for somebody else.
//! It must not know the kernel's rules that bring them.
//! Called by `listeners` for each.

use super::values::{address, Address};
use crate::config::report::Report;
use crate::config::schema::{Listener, ProxyProtocolMode, Role};

/// Checks what a listener says about capture.
pub(super) fn check(listener: &Listener, path: &str, report: &mut Report) {
    if listener.capture.is_none() {
        return;
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
