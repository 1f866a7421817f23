//! Rules of `services`: names of their own, endpoints from one place, ports that can be told apart.
//! It must not judge what the generated pools and routes are judged by anyway.
//! Called by `config::rules::check`.

use std::collections::HashMap;
use std::net::IpAddr;

use super::values::{accept, given, host_pattern, within};
use super::{named, protocol_of, Names};
use crate::config::report::Report;
use crate::config::schema::{
    Config, Endpoint, Hold, Listener, Protocol, Role, Service, ServicePort, ServiceProtocol,
};

/// Checks every service.
pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report) {
    if let Some(from) = &config.services_from {
        given(report, "services_from.file", &from.file);
    }
    ports_of_their_own(config, report);
    if config.services.is_empty() {
        return;
    }
    let listeners = config.listeners.iter();
    let may_be = |one: &Listener| one.role == Role::MeshOutbound || one.hold == Hold::Out;
    if !listeners.clone().any(may_be) {
        report.error(
            "services",
            "are called through listeners with role \"mesh-outbound\", and there is none",
            "add one, or remove `services`",
        );
    }
    let all = config.services.iter();
    let names_of = all.map(|one| (!one.is_quarantined).then_some(&*one.name));
    named(report, "services", "-_.", names_of);
    let mut taken = HashMap::new();
    // Of a service that is quarantined only the place is left.
    let sound = config.services.iter().enumerate();
    for (at, service) in sound.filter(|(_, service)| !service.is_quarantined) {
        let path = format!("services[{at}]");
        one(service, names, &path, report);
        for address in &service.addresses {
            for (index, port) in service.ports.iter().enumerate() {
                let path = format!("{path}.ports[{index}]");
                if let Some(other) = taken.insert((*address, port.port), path.clone()) {
                    report.error(
                        path,
                        format!("{address} port {} is called already by {other}", port.port),
                        "an address and port lead to one service; remove one of both",
                    );
                }
            }
        }
    }
}

/// Listeners of bytes that stand for a service. Those of requests may stand for any host that a route has.
fn ports_of_their_own(config: &Config, report: &mut Report) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let Some(wanted) = &listener.service else {
            continue;
        };
        if protocol_of(listener) != Protocol::Tcp {
            continue;
        }
        let is_called = |service: &&Service| {
            let named = service.hosts.is_empty() && service.name == *wanted;
            named || service.hosts.contains(wanted)
        };
        let mut called = config.services.iter().filter(is_called);
        let is_tcp = |port: &ServicePort| port.protocol == ServiceProtocol::Tcp;
        let gaps = &config.gaps;
        let may_be = gaps.within("services") || gaps.within("services_from");
        if !may_be && !called.any(|service| service.ports.iter().any(is_tcp)) {
            report.error(
                format!("listeners[{at}].service"),
                format!("no service with a port of protocol \"tcp\" is called \"{wanted}\""),
                "add it to `services`, or write a `tcp` route for this listener instead",
            );
        }
    }
}

fn one(service: &Service, names: &Names<'_>, path: &str, report: &mut Report) {
    for (at, host) in service.hosts.iter().enumerate() {
        accept(report, &format!("{path}.hosts[{at}]"), host_pattern(host));
    }
    if service.ports.is_empty() || service.ports.len() > MOST_PORTS {
        report.error(
            format!("{path}.ports"),
            format!(
                "must have 1 to {MOST_PORTS} entries, found {}",
                service.ports.len()
            ),
            "name the ports it is called at, such as {port: 80}",
        );
    }
    sources(service, path, report);
    let mut seen = Vec::new();
    for (at, port) in service.ports.iter().enumerate() {
        let path = format!("{path}.ports[{at}]");
        within(report, &format!("{path}.port"), port.port, 1, u16::MAX);
        if seen.contains(&port.port) {
            report.error(
                format!("{path}.port"),
                format!("{} is in the list already", port.port),
                "name each port once",
            );
        }
        seen.push(port.port);
        if let Some(name) = &port.pool {
            names.pool(report, &format!("{path}.pool"), name);
        }
        if port.target.is_some() && (port.pool.is_some() || service.pool.is_some()) {
            report.error(
                format!("{path}.target"),
                "is not used beside `pool`, whose endpoints have ports",
                "remove it",
            );
        }
    }
    if let Some(name) = &service.pool {
        names.pool(report, &format!("{path}.pool"), name);
    }
}

fn sources(service: &Service, path: &str, report: &mut Report) {
    let own = !service.endpoints.is_empty() || service.discovery.is_some();
    let pools = service.ports.iter().filter(|port| port.pool.is_some());
    let others = service.pool.is_some() || pools.count() == service.ports.len();
    let given = [
        !service.endpoints.is_empty(),
        service.discovery.is_some(),
        service.pool.is_some(),
    ];
    let count = given.iter().filter(|given| **given).count();
    if count > 1 || count == 0 && !others {
        report.error(
            path,
            "needs one of `endpoints`, `discovery` and `pool`",
            "say where it is, in one way",
        );
    }
    if others && !own {
        for (key, given) in [
            ("mtls", service.mtls.is_some()),
            ("balance", service.balance.is_some()),
            ("health", service.health.is_some()),
        ] {
            if given {
                report.error(
                    format!("{path}.{key}"),
                    "is not used beside `pool`, which has its own",
                    "set it at the pool",
                );
            }
        }
    }
    for (at, endpoint) in service.endpoints.iter().enumerate() {
        let text = match endpoint {
            Endpoint::Address(text) => text,
            Endpoint::Full(full) => &full.address,
        };
        if text.parse::<IpAddr>().is_err() && service.ports.len() > 1 {
            report.error(
                format!("{path}.endpoints[{at}]"),
                format!("\"{text}\" has a port, but the service has several"),
                "write the address alone; each port's `target` says where it is served",
            );
        }
    }
}

const MOST_PORTS: usize = 64;
