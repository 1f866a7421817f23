//! Listeners: addresses, TLS contexts and certificates read, bounds, and the tables of their routes.
//! It must not know sockets.
//! Called by `compile`.

use std::path::PathBuf;
use std::sync::Arc;

use super::capture;
use super::plugins::{self, Certificates, Stand};
use super::routes::{Rules, Workshop};
use super::Means;
use crate::config::report::Report;
use crate::config::rules::protocol_of;
use crate::config::schema::{self, AlpnName, Hold, ProxyProtocolMode, TlsVersion};
use crate::snapshot::certs::{
    Cert, CertFiles, CertSet, ClientAuth, Termination, TerminationSettings,
};
use crate::snapshot::chain::Chain;
use crate::snapshot::listener::{Bind, Limits, Listener, Protocol, ProxyHeader, Role};
use crate::snapshot::mtls::{acceptor, Inbound, Mode};
use crate::snapshot::net::NetSet;

/// Builds all listeners. One that is broken runs on as it did before, or not at all.
pub(super) fn compile(
    workshop: &Workshop<'_>,
    rules: &Rules,
    report: &mut Report,
) -> Vec<Arc<Listener>> {
    let listeners = workshop.config.listeners.iter().enumerate();
    let mut built: Vec<Arc<Listener>> = Vec::new();
    for (at, listener) in listeners {
        let chain = chain(workshop, at, listener, report);
        let one = match listener.hold {
            // Two that are broken because they share a name are one that runs.
            Hold::Out if built.iter().any(|one| *one.name == listener.name) => None,
            Hold::Out => kept(workshop, rules, at, &listener.name),
            Hold::None | Hold::Closed => build(workshop, rules, (at, listener), chain, report),
        };
        built.extend(one.map(Arc::new));
    }
    built
}

/// The plugins of a listener, whatever is wrong with the rest of it.
fn chain(
    workshop: &Workshop<'_>,
    at: usize,
    listener: &schema::Listener,
    report: &mut Report,
) -> Chain {
    let (path, means) = (format!("listeners[{at}]"), workshop.means);
    match (listener.hold, protocol_of(listener)) {
        // Where bytes may pass through, no hook on requests would see them.
        (Hold::Closed, schema::Protocol::Auto) => {
            plugins::closed(listener, &path, Stand::ByteListener, means)
        }
        (Hold::Closed, _) => plugins::closed(listener, &path, stand(listener), means),
        (Hold::None | Hold::Out, _) => {
            let path = format!("{path}.plugins");
            let (name, lists) = (&listener.name, [(&*path, &*listener.plugins)]);
            let stand = stand(listener);
            plugins::chain(&lists, name, stand, workshop.instances, means, report)
        }
    }
}

/// A broken listener with the settings it runs with so far, and the routes of the new configuration.
fn kept(workshop: &Workshop<'_>, rules: &Rules, at: usize, name: &str) -> Option<Listener> {
    let running = workshop.means.previous?.listener(name)?;
    let shape = schema::Listener {
        name: name.to_owned(),
        role: match running.role {
            Role::Ingress => schema::Role::Ingress,
            Role::MeshOutbound => schema::Role::MeshOutbound,
            Role::MeshInbound => schema::Role::MeshInbound,
        },
        protocol: Some(match running.protocol {
            Protocol::Http => schema::Protocol::Http,
            Protocol::Https(_) => schema::Protocol::Https,
            Protocol::Auto(_) => schema::Protocol::Auto,
            Protocol::TlsPassthrough => schema::Protocol::TlsPassthrough,
            Protocol::Tcp => schema::Protocol::Tcp,
        }),
        ..schema::Listener::default()
    };
    let role = running.role.as_str();
    Some(Listener {
        name: running.name.clone(),
        place: (workshop.means.place)(&format!("listeners[{at}]")).into(),
        role: running.role,
        bind: running.bind.clone(),
        protocol: running.protocol.clone(),
        proxy_header: running.proxy_header.clone(),
        trusted_proxies: running.trusted_proxies.clone(),
        service: running.service.clone(),
        mtls: running.mtls.clone(),
        capture: running
            .capture
            .as_ref()
            .map(|capture| capture::kept(workshop, name, capture)),
        limits: running.limits.clone(),
        chain: running.chain.clone(),
        routes: workshop.table(&shape, role, rules),
        tcp: workshop.tcp_table(&shape, role, rules),
        metrics: running.metrics.clone(),
        unrouted: running.unrouted.clone(),
    })
}

fn build(
    workshop: &Workshop<'_>,
    rules: &Rules,
    (at, listener): (usize, &schema::Listener),
    chain: Chain,
    report: &mut Report,
) -> Option<Listener> {
    let path = format!("listeners[{at}]");
    let role = match listener.role {
        schema::Role::Ingress => Role::Ingress,
        schema::Role::MeshOutbound => Role::MeshOutbound,
        schema::Role::MeshInbound => Role::MeshInbound,
    };
    let protocol = protocol(workshop.means, listener, &path, report)?;
    let mtls = match &listener.mtls {
        Some(mtls) => Some(inbound(workshop, mtls, listener.protocol, &path, report)?),
        None => None,
    };
    Some(Listener {
        name: listener.name.as_str().into(),
        place: (workshop.means.place)(&path).into(),
        role,
        bind: bind(&listener.bind)?,
        protocol,
        proxy_header: proxy_header(&listener.proxy_protocol),
        trusted_proxies: NetSet::new(listener.trusted_proxies.iter().copied()),
        service: listener
            .service
            .as_deref()
            .map(|service| service.to_ascii_lowercase().into()),
        mtls,
        capture: capture::capture(workshop, listener, &path, report),
        limits: limits(&listener.limits),
        chain,
        routes: workshop.table(listener, role.as_str(), rules),
        tcp: workshop.tcp_table(listener, role.as_str(), rules),
        metrics: workshop
            .means
            .metrics
            .listener(&listener.name, role.as_str()),
        unrouted: workshop
            .means
            .metrics
            .route(&listener.name, role.as_str(), ""),
    })
}

/// Where the plugins of a listener stand.
fn stand(listener: &schema::Listener) -> Stand {
    match protocol_of(listener) {
        _ if listener.hold == Hold::Out => Stand::Unknown,
        schema::Protocol::Tcp | schema::Protocol::TlsPassthrough => Stand::ByteListener,
        schema::Protocol::Http | schema::Protocol::Https | schema::Protocol::Auto => {
            Stand::Listener(Certificates::of([listener]))
        }
    }
}

fn inbound(
    workshop: &Workshop<'_>,
    mtls: &schema::ListenerMtls,
    protocol: Option<schema::Protocol>,
    path: &str,
    report: &mut Report,
) -> Option<Arc<Inbound>> {
    let identity = workshop.identity.clone()?;
    let mode = |mode: schema::MtlsMode| match mode {
        schema::MtlsMode::Strict => Mode::Strict,
        schema::MtlsMode::Permissive => Mode::Permissive,
    };
    let alpn = match (mtls.hbone, protocol) {
        (true, _) => Some(&b"\x02h2"[..]),
        (false, Some(schema::Protocol::Tcp)) => None,
        (false, _) => Some(&b"\x02h2\x08http/1.1"[..]),
    };
    let acceptor = acceptor(alpn)
        .map_err(|fact| report.error(format!("{path}.mtls"), fact, ""))
        .ok()?;
    Some(Arc::new(Inbound {
        hbone: mtls.hbone,
        mode: mode(mtls.mode),
        ports: mtls
            .ports
            .iter()
            .filter_map(|(port, own)| Some((port.parse().ok()?, mode(*own))))
            .collect(),
        workload: mtls
            .workload
            .as_ref()
            .and_then(|name| identity.workload(name).cloned()),
        handshake_timeout: mtls.handshake_timeout.0,
        acceptor,
        identity,
    }))
}

/// A listener's or the admin address; `None` for text that `rules` has refused.
pub(in crate::config) fn bind(text: &str) -> Option<Bind> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(Bind::Unix(PathBuf::from(path))),
        None => text.parse().ok().map(Bind::Tcp),
    }
}

fn protocol(
    means: &Means<'_>,
    listener: &schema::Listener,
    path: &str,
    report: &mut Report,
) -> Option<Protocol> {
    let termination = match &listener.tls {
        Some(tls) => Some(Arc::new(termination(
            means,
            &listener.name,
            tls,
            &format!("{path}.tls"),
            report,
        )?)),
        None => None,
    };
    Some(match (listener.protocol, termination) {
        (Some(schema::Protocol::Auto), termination) => Protocol::Auto(termination),
        (Some(schema::Protocol::TlsPassthrough), _) => Protocol::TlsPassthrough,
        (Some(schema::Protocol::Tcp), _) => Protocol::Tcp,
        (Some(schema::Protocol::Https) | None, Some(termination)) => Protocol::Https(termination),
        (Some(schema::Protocol::Http | schema::Protocol::Https) | None, _) => Protocol::Http,
    })
}

fn termination(
    means: &Means<'_>,
    name: &str,
    tls: &schema::ListenerTls,
    path: &str,
    report: &mut Report,
) -> Option<Termination> {
    let client = client_auth(means, tls, path, report)?;
    let settings = TerminationSettings {
        only_tls13: tls.min_version == TlsVersion::V13,
        only_tls12: tls.max_version == TlsVersion::V12,
        alpn: alpn(&tls.alpn),
        ciphers: tls.ciphers.clone(),
        client,
        resumption: tls.session_resumption,
        handshake_timeout: tls.handshake_timeout.0,
    };
    let (files, certs) = certificates(means, tls, path, report)?;
    let previous = means
        .previous
        .and_then(|previous| previous.listener(name)?.protocol.termination().cloned());
    let termination = Termination::new(settings, files, certs, previous.as_deref());
    termination
        .map_err(|fact| report.error(path, fact, ""))
        .ok()
}

fn alpn(names: &[AlpnName]) -> &'static [u8] {
    match names {
        [AlpnName::H2] => b"\x02h2",
        [AlpnName::Http11] => b"\x08http/1.1",
        [AlpnName::Http11, ..] => b"\x08http/1.1\x02h2",
        _ => b"\x02h2\x08http/1.1",
    }
}

fn client_auth(
    means: &Means<'_>,
    tls: &schema::ListenerTls,
    path: &str,
    report: &mut Report,
) -> Option<ClientAuth> {
    let Some(settings) = &tls.client_certificates else {
        return Some(ClientAuth::None);
    };
    let at = format!("{path}.client_certificates.ca");
    let pem = means
        .read(&settings.ca)
        .map_err(|fact| report.error(at, fact, RELATIVE))
        .ok()?;
    Some(match settings.mode {
        schema::ClientCertificateMode::Optional => ClientAuth::Optional(pem),
        schema::ClientCertificateMode::Required => ClientAuth::Required(pem),
    })
}

const RELATIVE: &str = "paths are relative to the configuration file";

fn certificates(
    means: &Means<'_>,
    tls: &schema::ListenerTls,
    path: &str,
    report: &mut Report,
) -> Option<(Vec<CertFiles>, CertSet)> {
    let only = tls.certificates.len() == 1;
    let mut files = Vec::new();
    let mut certs = Vec::new();
    for (at, certificate) in tls.certificates.iter().enumerate() {
        let path = format!("{path}.certificates[{at}]");
        let default = certificate.default.unwrap_or(only);
        let cert = means
            .read(&certificate.cert)
            .map_err(|fact| report.error(format!("{path}.cert"), fact, RELATIVE));
        let key = means
            .read(&certificate.key)
            .map_err(|fact| report.error(format!("{path}.key"), fact, RELATIVE));
        let (Ok(cert), Ok(key)) = (cert, key) else {
            continue;
        };
        match Cert::new(&cert, &key, &certificate.hosts, default) {
            Ok(cert) => certs.push(Arc::new(cert)),
            Err(fact) => report.error(
                format!("{path}.cert"),
                format!("\"{}\": {fact}", certificate.cert),
                "",
            ),
        }
        files.push(CertFiles {
            cert: means.path(&certificate.cert),
            key: means.path(&certificate.key),
            hosts: certificate.hosts.clone(),
            default,
        });
    }
    (certs.len() == tls.certificates.len()).then(|| (files, CertSet::new(certs)))
}

fn proxy_header(settings: &schema::ProxyProtocol) -> ProxyHeader {
    let trusted = NetSet::new(settings.trusted.iter().copied());
    match settings.mode {
        ProxyProtocolMode::Ignore => ProxyHeader::Ignore,
        ProxyProtocolMode::Use => ProxyHeader::Use(trusted),
        ProxyProtocolMode::Require => ProxyHeader::Require(trusted),
    }
}

fn limits(limits: &schema::Limits) -> Limits {
    Limits {
        connections: limits.connections,
        connections_per_client: limits.connections_per_client,
        header_bytes: limits.header_bytes.0 as usize,
        header_fields: usize::from(limits.header_fields),
        target_bytes: limits.target_bytes.0 as usize,
        header_timeout: limits.header_timeout.0,
        keep_alive: limits.keep_alive.0,
        connection_age: limits.connection_age.0,
        h2_streams: limits.h2_streams,
        write_timeout: limits.write_timeout.0,
    }
}
