//! Rules of `identity`: names, trust domains, and how workloads are told apart.
//! It must not read files; the compiler does.
//! Called by `config::rules::check`.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use windrose_plugins::contract::{Size, Time};

use super::values::{accept, given, host, positive};
use super::{named, protocol_of, unknown, Names};
use crate::config::report::Report;
use crate::config::schema::{
    Config, Endpoint, Identity, IdentityCa, IdentitySource, Listener, Pool, PoolProtocol, Protocol,
    Role, Workload,
};
use crate::snapshot::identity::{
    root_hash, ConsulAddress, IdPattern, SpiffeId, SpireSocket, TrustDomain,
};

/// Checks who workloads are.
pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report) {
    let Some(identity) = &config.identity else {
        return;
    };
    let domain = domain(&identity.trust_domain, "identity.trust_domain", report);
    source(&identity.source, report);
    let all = &identity.workloads;
    named(
        report,
        "identity.workloads",
        "-_.",
        all.iter().map(|one| Some(&*one.name)),
    );
    if all.is_empty() || all.len() > MOST_WORKLOADS {
        report.error(
            "identity.workloads",
            format!(
                "must have from 1 to {MOST_WORKLOADS} entries, found {}",
                all.len()
            ),
            "name the workloads of this node; each needs a name and an id",
        );
    }
    for (at, one) in all.iter().enumerate() {
        workload(
            one,
            identity,
            domain.as_ref(),
            &format!("identity.workloads[{at}]"),
            names,
            report,
        );
    }
    told_apart(all, report);
    federated(identity, domain.as_ref(), report);
    super::expiry::check(identity, report);
    if identity.hold > Time::secs(60) {
        report.error(
            "identity.hold",
            format!("must be from 0s to 60s, found \"{}\"", identity.hold),
            "callers give up earlier than that; look for what keeps the certificate away",
        );
    }
}

fn domain(text: &str, path: &str, report: &mut Report) -> Option<TrustDomain> {
    match TrustDomain::parse(text) {
        Ok(domain) => Some(domain),
        Err(fact) => {
            report.error(
                path,
                format!("\"{text}\": {fact}"),
                "write a name such as \"mesh.example\"",
            );
            None
        }
    }
}

fn source(source: &IdentitySource, report: &mut Report) {
    match source {
        IdentitySource::Files(files) => {
            given(report, "identity.source.files.bundle", &files.bundle)
        }
        IdentitySource::Ca(ca) => authority(ca, report),
        IdentitySource::Spire(spire) => {
            let path = "identity.source.spire.socket";
            formed(
                report,
                path,
                &spire.socket,
                SpireSocket::parse,
                "write \"unix:/run/spire/agent.sock\", or \"tcp://\" with an IP address and a port",
            );
        }
        IdentitySource::Consul(consul) => {
            let path = "identity.source.consul.address";
            formed(
                report,
                path,
                &consul.address,
                ConsulAddress::parse,
                "write \"http://127.0.0.1:8500\", or \"unix:\" and a path",
            );
            if let Some(file) = &consul.token_file {
                given(report, "identity.source.consul.token_file", file);
            }
        }
    }
}

fn authority(ca: &IdentityCa, report: &mut Report) {
    let at = |key: &str| format!("identity.source.ca.{key}");
    let is_address = |text: &str| {
        let parts = text.rsplit_once(':');
        let is_good = parts.is_some_and(|(name, port)| {
            host(name).is_ok() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if is_good {
            Ok(())
        } else {
            Err("it is not a host and a port")
        }
    };
    formed(
        report,
        &at("address"),
        &ca.address,
        is_address,
        "write it as \"10.0.0.1:15012\"",
    );
    let remedy = "copy what `windrose ca init` or `windrose ca token` printed";
    formed(report, &at("root_hash"), &ca.root_hash, root_hash, remedy);
    given(report, &at("state"), &ca.state);
    if let Some(file) = &ca.token_file {
        given(report, &at("token_file"), file);
    }
}

/// Reports a text that cannot be read.
fn formed<T>(
    report: &mut Report,
    path: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, &'static str>,
    remedy: &str,
) {
    if let Err(fact) = parse(text) {
        report.error(path, format!("\"{text}\": {fact}"), remedy);
    }
}

fn workload(
    one: &Workload,
    identity: &Identity,
    domain: Option<&TrustDomain>,
    path: &str,
    names: &Names<'_>,
    report: &mut Report,
) {
    id(one, domain, &format!("{path}.id"), report);
    let at = format!("{path}.certificate");
    match (&identity.source, &one.certificate) {
        (IdentitySource::Files(_), None) => report.error(
            at,
            "is missing: the source is `files`",
            "give `cert` and `key` of the workload",
        ),
        (IdentitySource::Files(_), Some(files)) => {
            given(report, &format!("{at}.cert"), &files.cert);
            given(report, &format!("{at}.key"), &files.key);
        }
        (_, Some(_)) => report.error(
            at,
            "belongs to the source `files`, and there is another",
            "remove it: the source brings certificates",
        ),
        (_, None) => {}
    }
    service(one, identity, &format!("{path}.service"), report);
    let memory = one.limits.memory;
    if memory.0 > 0 && memory < LEAST_MEMORY {
        report.error(
            format!("{path}.limits.memory"),
            format!("must be 0 or at least {LEAST_MEMORY}, found {memory}"),
            "one connection and one request are reckoned with 48KiB before any body",
        );
    }
    for (at, name) in one.matches.listeners.iter().enumerate() {
        names.listener(report, &format!("{path}.match.listeners[{at}]"), name);
    }
    for (at, port) in one.matches.ports.iter().enumerate() {
        if *port == 0 {
            report.error(
                format!("{path}.match.ports[{at}]"),
                "must be from 1 to 65535, found 0",
                "",
            );
        }
    }
    for (at, group) in one.matches.cgroups.iter().enumerate() {
        if !group.starts_with('/') || group.trim_matches('/').is_empty() {
            report.error(
                format!("{path}.match.cgroups[{at}]"),
                format!("\"{group}\" is no control group below the root"),
                "write it as /proc/PID/cgroup does, such as \"/system.slice/web.service\"",
            );
        }
    }
}

fn service(one: &Workload, identity: &Identity, path: &str, report: &mut Report) {
    let Some(service) = &one.service else {
        return;
    };
    if !matches!(identity.source, IdentitySource::Consul(_)) {
        let remedy = "remove it: other sources know workloads by their IDs";
        report.error(
            path,
            "belongs to the source `consul`, and there is another",
            remedy,
        );
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if service.is_empty() || !service.bytes().all(is_plain) {
        let fact = format!("\"{service}\" is no name of a service");
        report.error(path, fact, "use letters, digits, `-`, `_` and `.`");
    }
}

fn id(one: &Workload, domain: Option<&TrustDomain>, path: &str, report: &mut Report) {
    let id = match SpiffeId::parse(&one.id) {
        Ok(id) => id,
        Err(fact) => {
            let remedy = "write it as \"spiffe://mesh.example/ns/shop/sa/web\"";
            return report.error(path, format!("\"{}\": {fact}", one.id), remedy);
        }
    };
    if id.path().is_empty() {
        report.error(
            path,
            format!("\"{id}\" has no path"),
            "name the workload after the trust domain",
        );
    }
    if let Some(domain) = domain.filter(|domain| domain.as_str() != id.domain()) {
        report.error(
            path,
            format!("\"{id}\" is not in the trust domain \"{domain}\""),
            "workloads of one node are of one trust domain",
        );
    }
}

/// A value that two workloads had would make the choice between them one of order.
fn told_apart(workloads: &[Workload], report: &mut Report) {
    fn once<T: Hash + Eq + Display>(
        key: &str,
        workloads: &[Workload],
        values: impl Fn(&Workload) -> &[T],
        report: &mut Report,
    ) {
        let mut taken: HashMap<&T, &str> = HashMap::new();
        for (at, workload) in workloads.iter().enumerate() {
            for (of, value) in values(workload).iter().enumerate() {
                let Some(other) = taken.insert(value, &workload.name) else {
                    continue;
                };
                report.error(
                    format!("identity.workloads[{at}].match.{key}[{of}]"),
                    format!("\"{value}\" is the workload \"{other}\"'s already"),
                    "each value belongs to one workload",
                );
            }
        }
    }
    once("listeners", workloads, |one| &one.matches.listeners, report);
    once("ports", workloads, |one| &one.matches.ports, report);
    once("users", workloads, |one| &one.matches.users, report);
    once("cgroups", workloads, |one| &one.matches.cgroups, report);
    once("id", workloads, |one| std::slice::from_ref(&one.id), report);
}

fn federated(identity: &Identity, own: Option<&TrustDomain>, report: &mut Report) {
    let mut seen = HashMap::new();
    for (at, other) in identity.federated.iter().enumerate() {
        let path = format!("identity.federated[{at}]");
        given(report, &format!("{path}.bundle"), &other.bundle);
        let name = format!("{path}.trust_domain");
        let Some(domain) = domain(&other.trust_domain, &name, report) else {
            continue;
        };
        if Some(&domain) == own {
            report.error(
                &name,
                format!("\"{domain}\" is the own trust domain"),
                "its roots come from `source`",
            );
        }
        if let Some(first) = seen.insert(domain.clone(), at) {
            report.error(
                &name,
                format!("\"{domain}\" is federated[{first}] already"),
                "put all roots into one bundle",
            );
        }
    }
}

/// `mtls` of a listener.
pub(super) fn listener(config: &Config, listener: &Listener, path: &str, report: &mut Report) {
    let Some(mtls) = &listener.mtls else {
        return;
    };
    let path = format!("{path}.mtls");
    has_identity(config, &path, report);
    if listener.role != Role::MeshInbound {
        report.error(
            &path,
            "is only used with role \"mesh-inbound\"",
            "set `role: mesh-inbound`, or ask clients for certificates with `tls.client_certificates`",
        );
    }
    if listener.tls.is_some() {
        report.error(
            &path,
            "stands beside `tls`",
            "keep one of them: both would terminate TLS",
        );
    }
    if matches!(
        protocol_of(listener),
        Protocol::Https | Protocol::TlsPassthrough
    ) {
        report.error(
            &path,
            format!(
                "is not used by protocol \"{}\"",
                super::listeners::word(protocol_of(listener))
            ),
            "say what is spoken inside: `http`, `auto` or `tcp`",
        );
    }
    positive(
        report,
        &format!("{path}.handshake_timeout"),
        mtls.handshake_timeout,
    );
    let ports = mtls.ports.keys();
    for port in ports.filter(|port| !port.parse().is_ok_and(|port: u16| port > 0)) {
        report.error(
            format!("{path}.ports.{port}"),
            "is no port",
            "name ports from 1 to 65535, in quotes",
        );
    }
    if !mtls.ports.is_empty() && listener.capture.is_none() {
        report.error(
            format!("{path}.ports"),
            "is not used: all connections of this listener are made for its own port",
            "set `capture`, which tells the port they were made for, or use `mode`",
        );
    }
    known(
        config,
        mtls.workload.as_deref(),
        &format!("{path}.workload"),
        report,
    );
}

/// `mtls` of a pool.
pub(super) fn pool(config: &Config, pool: &Pool, path: &str, report: &mut Report) {
    let Some(mtls) = &pool.mtls else {
        return;
    };
    let path = format!("{path}.mtls");
    has_identity(config, &path, report);
    if pool.tls.is_some() {
        report.error(
            &path,
            "stands beside `tls`",
            "keep one of them: both say how to speak TLS",
        );
    }
    if mtls.peers.is_empty() {
        report.error(
            format!("{path}.peers"),
            "must not be empty, found []",
            "name who endpoints may be, such as \"spiffe://mesh.example/ns/shop/sa/web\"",
        );
    }
    for (at, peer) in mtls.peers.iter().enumerate() {
        if let Err(fact) = IdPattern::parse(peer) {
            report.error(
                format!("{path}.peers[{at}]"),
                format!("\"{peer}\": {fact}"),
                "write an ID such as \"spiffe://mesh.example/ns/shop/sa/web\", or a pattern such as \"spiffe://mesh.example/ns/shop/**\"",
            );
        }
    }
    if let Some(sni) = &mtls.sni {
        accept(report, &format!("{path}.sni"), host(sni));
    }
    known(
        config,
        mtls.workload.as_deref(),
        &format!("{path}.workload"),
        report,
    );
    hbone(pool, &path, report);
    let has_several = config
        .identity
        .as_ref()
        .is_some_and(|identity| identity.workloads.len() > 1);
    if pool.health.is_some() && mtls.workload.is_none() && has_several {
        report.error(
            format!("{path}.workload"),
            "is missing: a health check is nobody's call, and the node has several workloads",
            "name the workload that checks, and calls, here; or remove `health`",
        );
    }
}

/// `mtls.hbone` of a pool: what cannot go through a tunnel.
fn hbone(pool: &Pool, path: &str, report: &mut Report) {
    let Some(hbone) = pool.mtls.as_ref().and_then(|mtls| mtls.hbone.as_ref()) else {
        return;
    };
    let path = format!("{path}.hbone");
    if hbone.port == 0 {
        let remedy = "name the port that nodes take tunnels at, such as 15008";
        report.error(format!("{path}.port"), "is no port", remedy);
    }
    let mut beside = |what: &str, remedy: &str| report.error(&path, what, remedy);
    if pool.health.is_some() {
        beside(
            "stands beside `health`, whose checks do not go through tunnels",
            "remove `health`; endpoints that fail requests are ejected all the same",
        );
    }
    if pool.proxy_protocol.is_some() {
        beside(
            "stands beside `proxy_protocol`",
            "remove it: the node at the other end knows the caller by its identity",
        );
    }
    if pool.protocol == PoolProtocol::Auto {
        beside(
            "stands beside protocol \"auto\", which is agreed in a TLS handshake with the endpoint",
            "say `http1` or `http2`",
        );
    }
    let address = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(address) => address.starts_with("unix:"),
        Endpoint::Full(endpoint) => endpoint.address.starts_with("unix:"),
    };
    if pool.endpoints.iter().any(address) {
        beside(
            "stands beside an endpoint at a socket file",
            "name endpoints by address and port: tunnels go to other nodes",
        );
    }
}

fn has_identity(config: &Config, path: &str, report: &mut Report) {
    if config.identity.is_none() && !config.gaps.within("identity") {
        report.error(
            path,
            "needs `identity`",
            "say who the workloads of this node are",
        );
    }
}

fn known(config: &Config, name: Option<&str>, path: &str, report: &mut Report) {
    let (Some(name), Some(identity)) = (name, &config.identity) else {
        return;
    };
    let names = || identity.workloads.iter().map(|one| one.name.as_str());
    if !names().any(|one| one == name) {
        unknown(report, path, "workload", name, names());
    }
}

/// Views and metrics are sized for this.
const MOST_WORKLOADS: usize = 1000;
/// With less, nothing could be done at all.
const LEAST_MEMORY: Size = Size(64 * 1024);
