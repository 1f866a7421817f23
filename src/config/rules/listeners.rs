//! Rules of `listeners`: where they bind, what they speak, whom they trust.
//! It must not know which routes are attached; `routes` checks that.
//! Called by `config::rules::check`.

use std::collections::{HashMap, HashSet};

use windrose_plugins::contract::Size;

use super::values::{accept, address, given, host, host_pattern, positive, within, Address};
use super::{capture, protocol_of, Names};
use crate::config::report::Report;
use crate::config::schema::{
    Config, Hold, Limits, Listener, ListenerTls, Protocol, ProxyProtocol, ProxyProtocolMode, Role,
};

/// Checks every listener.
pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report) {
    binds(config, report);
    capture::names(config, report);
    for (at, listener) in judged(config) {
        let path = format!("listeners[{at}]");
        speaks(listener, &path, report);
        if let Some(tls) = &listener.tls {
            terminates(tls, &format!("{path}.tls"), report);
        }
        proxy_protocol(
            &listener.proxy_protocol,
            &format!("{path}.proxy_protocol"),
            report,
        );
        super::identity::listener(config, listener, &path, report);
        service(listener, &format!("{path}.service"), report);
        capture::check(listener, &path, report);
        limits(&listener.limits, &format!("{path}.limits"), report);
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        let path = format!("listeners[{at}].plugins");
        names.plugins(report, &path, &listener.plugins);
    }
}

/// Of a listener that is quarantined only the name is left.
fn judged(config: &Config) -> impl Iterator<Item = (usize, &Listener)> {
    let all = config.listeners.iter().enumerate();
    all.filter(|(_, listener)| listener.hold != Hold::Out)
}

fn binds(config: &Config, report: &mut Report) {
    let mut taken: HashMap<Address, String> = HashMap::new();
    let admin = address(&config.admin.bind).ok();
    if let Some(admin) = admin.filter(|_| !config.gaps.within("admin")) {
        taken.insert(admin, "admin.bind".to_owned());
    }
    for (at, listener) in judged(config) {
        let path = format!("listeners[{at}].bind");
        match accept(report, &path, address(&listener.bind)) {
            None => {}
            Some(Address::Ip(ip)) if ip.port() == 0 => {}
            Some(address) => match taken.get(&address) {
                Some(other) => report.error(
                    &path,
                    format!("\"{}\" is taken by {other}", listener.bind),
                    "two sockets cannot share an address; choose another port",
                ),
                None => drop(taken.insert(address, path)),
            },
        }
    }
}

fn speaks(listener: &Listener, path: &str, report: &mut Report) {
    let protocol = protocol_of(listener);
    match (protocol, &listener.tls) {
        (Protocol::Https, None) => report.error(
            format!("{path}.tls"),
            "is missing: protocol \"https\" terminates TLS",
            "give `tls.certificates`, or use protocol `http` or `tls_passthrough`",
        ),
        (Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough, Some(_)) => report.error(
            format!("{path}.tls"),
            format!("is not used by protocol \"{}\"", word(protocol)),
            "remove `tls`, or use protocol `https` or `auto`, which terminate TLS",
        ),
        (Protocol::Https | Protocol::Auto, _) | (_, None) => {}
    }
    if matches!(protocol, Protocol::Tcp | Protocol::TlsPassthrough) {
        http_only(listener, protocol, path, report);
    }
}

fn http_only(listener: &Listener, protocol: Protocol, path: &str, report: &mut Report) {
    let (own, usual) = (&listener.limits, Limits::default());
    let changed = [
        ("trusted_proxies", !listener.trusted_proxies.is_empty()),
        (
            "service",
            listener.service.is_some() && protocol == Protocol::TlsPassthrough,
        ),
        (
            "limits.header_bytes",
            own.header_bytes != usual.header_bytes,
        ),
        (
            "limits.header_fields",
            own.header_fields != usual.header_fields,
        ),
        (
            "limits.target_bytes",
            own.target_bytes != usual.target_bytes,
        ),
        ("limits.keep_alive", own.keep_alive != usual.keep_alive),
        ("limits.h2_streams", own.h2_streams != usual.h2_streams),
        (
            "limits.write_timeout",
            own.write_timeout != usual.write_timeout,
        ),
    ];
    for (key, _) in changed.iter().filter(|(_, changed)| *changed) {
        report.error(
            format!("{path}.{key}"),
            format!("is not used by protocol \"{}\"", word(protocol)),
            "remove it; it is about HTTP, which this listener does not read",
        );
    }
}

fn terminates(tls: &ListenerTls, path: &str, report: &mut Report) {
    if tls.certificates.is_empty() {
        report.error(
            format!("{path}.certificates"),
            "must not be empty, found []",
            "give at least one `cert` and `key`",
        );
    }
    let mut default = None;
    for (at, certificate) in tls.certificates.iter().enumerate() {
        let path = format!("{path}.certificates[{at}]");
        given(report, &format!("{path}.cert"), &certificate.cert);
        given(report, &format!("{path}.key"), &certificate.key);
        for (at, name) in certificate.hosts.iter().enumerate() {
            accept(report, &format!("{path}.hosts[{at}]"), host_pattern(name));
        }
        match (certificate.default == Some(true), default) {
            (true, Some(first)) => report.error(
                format!("{path}.default"),
                format!("certificates[{first}] is the default already"),
                "mark one certificate of a listener as default",
            ),
            (true, None) => default = Some(at),
            (false, _) => {}
        }
    }
    if tls.min_version > tls.max_version {
        report.error(
            format!("{path}.min_version"),
            "\"1.3\" is newer than max_version \"1.2\"",
            "raise `max_version` or lower `min_version`",
        );
    }
    if tls.alpn.is_empty() {
        report.error(
            format!("{path}.alpn"),
            "must not be empty, found []",
            "leave it out for [h2, http/1.1]",
        );
    }
    for (at, name) in tls.alpn.iter().enumerate() {
        if tls.alpn[..at].contains(name) {
            report.error(
                format!("{path}.alpn[{at}]"),
                "is in the list already",
                "name each protocol once, in order of preference",
            );
        }
    }
    if let Some(clients) = &tls.client_certificates {
        given(
            report,
            &format!("{path}.client_certificates.ca"),
            &clients.ca,
        );
    }
    positive(
        report,
        &format!("{path}.handshake_timeout"),
        tls.handshake_timeout,
    );
}

fn proxy_protocol(proxy: &ProxyProtocol, path: &str, report: &mut Report) {
    let path = format!("{path}.trusted");
    match (proxy.mode, proxy.trusted.is_empty()) {
        (ProxyProtocolMode::Ignore, false) => report.error(
            path,
            "is not used: mode is \"ignore\"",
            "remove it, or set `mode` to `use` or `require`",
        ),
        (ProxyProtocolMode::Use | ProxyProtocolMode::Require, true) => report.error(
            path,
            "must not be empty unless mode is \"ignore\"",
            "name the networks of the load balancers, such as \"10.0.0.0/8\"",
        ),
        (ProxyProtocolMode::Ignore, true) => {}
        (ProxyProtocolMode::Use | ProxyProtocolMode::Require, false) => {
            let mut seen = HashSet::new();
            for (at, network) in proxy.trusted.iter().enumerate() {
                if !seen.insert(network) {
                    report.error(
                        format!("{path}[{at}]"),
                        format!("\"{network}\" is in the list already"),
                        "remove the repetition",
                    );
                }
            }
        }
    }
}

fn service(listener: &Listener, path: &str, report: &mut Report) {
    let Some(service) = &listener.service else {
        return;
    };
    if listener.role != Role::MeshOutbound {
        report.error(
            path,
            format!("\"{service}\" is only used with role \"mesh-outbound\""),
            "remove it, or set `role: mesh-outbound`",
        );
    }
    accept(report, path, host(service));
}

fn limits(limits: &Limits, path: &str, report: &mut Report) {
    let at = |key: &str| format!("{path}.{key}");
    within(report, &at("connections"), limits.connections, 1, u32::MAX);
    within(report, &at("header_fields"), limits.header_fields, 1, 255);
    within(report, &at("h2_streams"), limits.h2_streams, 1, u32::MAX);
    let sizes = [
        ("header_bytes", limits.header_bytes),
        ("target_bytes", limits.target_bytes),
    ];
    for (key, size) in sizes {
        if size == Size(0) || size > LARGEST_HEADER {
            report.error(
                at(key),
                format!("must be from 1B to 512KiB, found \"{size}\""),
                "every open connection may hold this much memory; write a size such as \"64KiB\"",
            );
        }
    }
    positive(report, &at("header_timeout"), limits.header_timeout);
    positive(report, &at("keep_alive"), limits.keep_alive);
    positive(report, &at("write_timeout"), limits.write_timeout);
}

/// The word in the YAML.
pub(super) fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Https => "https",
        Protocol::Auto => "auto",
        Protocol::TlsPassthrough => "tls_passthrough",
        Protocol::Tcp => "tcp",
    }
}

const LARGEST_HEADER: Size = Size(512 << 10);
