//! Services become pools and routes, so that everything that holds for those holds for services.
//! It must not judge: `rules::services` does, before anything is compiled.
//! Called by `config::load` once a configuration is decoded.

use super::report::Report;
use super::schema::{
    Config, Discovery, Ejection, Endpoint, EndpointSettings, OfService, Pool, PoolConnections,
    PoolProtocol, Protocol, Role, Route, RouteProtocol, RouteTimeouts, Rule, Service, ServicePort,
    ServiceProtocol,
};
use super::{compile, rules};

/// What was generated.
pub(super) struct Generated {
    routes: Vec<usize>,
    pools: Vec<usize>,
    first_route: usize,
    first_pool: usize,
}

impl Generated {
    /// A path in what was written, for one in what was generated.
    pub(super) fn written(&self, path: &str) -> Option<String> {
        let lists = [
            ("routes[", &self.routes, self.first_route),
            ("pools[", &self.pools, self.first_pool),
        ];
        lists.into_iter().find_map(|(list, owners, first)| {
            let (at, _) = path.strip_prefix(list)?.split_once(']')?;
            let at = at.parse::<usize>().ok()?.checked_sub(first)?;
            Some(format!("services[{}]", owners.get(at)?))
        })
    }

    /// Moves findings to what was written.
    pub(super) fn place(&self, report: &mut Report) {
        report.rename(|path| self.written(path));
    }
}

/// Adds the pools and routes of services.
pub(super) fn generate(config: &mut Config) -> Generated {
    let mut generated = Generated {
        routes: Vec::new(),
        pools: Vec::new(),
        first_route: config.routes.len(),
        first_pool: config.pools.len(),
    };
    let services = std::mem::take(&mut config.services);
    for (at, service) in services.iter().enumerate() {
        for (index, port) in service.ports.iter().enumerate() {
            let name = match index {
                0 => service.name.clone(),
                _ => format!("{}.{}", service.name, port.port),
            };
            let written = port.pool.as_ref().or(service.pool.as_ref());
            let pool = written.unwrap_or(&name).clone();
            if written.is_none() && !is_taken(config, service, &name) {
                config.pools.push(pool_of(&name, at, service, port));
                generated.pools.push(at);
            }
            let route = route_of(name, pool, at, service, port, config);
            config.routes.push(route);
            generated.routes.push(at);
        }
    }
    config.services = services;
    generated
}

/// Whether a broken service has the name of another pool: what is sound keeps it.
fn is_taken(config: &Config, service: &Service, name: &str) -> bool {
    service.is_quarantined && config.pools.iter().any(|pool| pool.name == name)
}

/// Takes away what `generate` added.
pub(super) fn take_back(config: &mut Config) {
    config.routes.retain(|route| route.service.is_none());
    config.pools.retain(|pool| pool.service.is_none());
    config.routes.shrink_to_fit();
    config.pools.shrink_to_fit();
}

fn pool_of(name: &str, at: usize, service: &Service, port: &ServicePort) -> Pool {
    let target = port.target.unwrap_or(port.port);
    let endpoints = service.endpoints.iter();
    let discovery = service.discovery.clone().map(|found| match found {
        Discovery::Dns(mut dns) => {
            dns.port = dns.port.or(Some(target));
            Discovery::Dns(dns)
        }
        Discovery::File(file) => Discovery::File(file),
    });
    Pool {
        name: name.to_owned(),
        endpoints: endpoints.map(|one| with_port(one, target)).collect(),
        discovery,
        protocol: match port.protocol {
            ServiceProtocol::Http => PoolProtocol::Http1,
            ServiceProtocol::Http2 | ServiceProtocol::Grpc => PoolProtocol::Http2,
            ServiceProtocol::Tcp => PoolProtocol::Tcp,
        },
        mtls: service.mtls.clone(),
        balance: service.balance.clone().unwrap_or_default(),
        health: service.health.clone(),
        ejection: Ejection::default(),
        connections: PoolConnections::default(),
        service: Some(at),
        is_quarantined: service.is_quarantined,
        ..Pool::default()
    }
}

/// An endpoint with the port it serves at.
fn with_port(endpoint: &Endpoint, target: u16) -> Endpoint {
    let full = |text: &String| match text.parse::<std::net::IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, target).to_string(),
        Err(_) => text.clone(),
    };
    match endpoint {
        Endpoint::Address(text) => Endpoint::Address(full(text)),
        Endpoint::Full(settings) => Endpoint::Full(EndpointSettings {
            address: full(&settings.address),
            ..settings.clone()
        }),
    }
}

fn route_of(
    name: String,
    pool: String,
    at: usize,
    service: &Service,
    port: &ServicePort,
    config: &Config,
) -> Route {
    let is_tcp = port.protocol == ServiceProtocol::Tcp;
    let outbound = config.listeners.iter().filter(|listener| {
        let speaks = rules::protocol_of(listener);
        let bytes_only = matches!(speaks, Protocol::Tcp | Protocol::TlsPassthrough);
        let can = match is_tcp {
            true => bytes_only || speaks == Protocol::Auto,
            false => !bytes_only,
        };
        listener.role == Role::MeshOutbound && can
    });
    let hosts = match service.hosts.is_empty() {
        true => std::slice::from_ref(&service.name),
        false => service.hosts.as_slice(),
    };
    Route {
        name,
        protocol: match is_tcp {
            true => RouteProtocol::Tcp,
            false => RouteProtocol::Http,
        },
        listeners: Some(outbound.map(|listener| listener.name.clone()).collect()),
        hosts: hosts.to_vec(),
        rules: vec![Rule {
            pool: Some(pool),
            ..Rule::default()
        }],
        timeouts: RouteTimeouts {
            // Databases keep connections that are silent for long.
            idle: is_tcp.then_some(compile::LONG_IDLE),
            ..RouteTimeouts::default()
        },
        service: Some(OfService {
            at,
            addresses: service.addresses.clone(),
            port: port.port,
            is_one_of_several: service.ports.len() > 1,
        }),
        is_quarantined: service.is_quarantined,
        ..Route::default()
    }
}
