//! A connection to ask about, as people write it: an address, a service or a route, perhaps at a listener.
//! It must not decide where it goes; it only finds the listener and the destination that are meant.
//! Called by `explain --tcp`, `who-can connect` and `mesh check`.

use std::net::SocketAddr;

use crate::config::schema::{Config, Listener, Protocol, Route, RouteProtocol};
use crate::explain::Question;

/// Reads `LISTENER/ADDRESS:PORT`, `ADDRESS:PORT`, `SERVICE[:PORT]`, or the name of a route for bytes or of a listener.
///
/// # Errors
/// What is meant by none of them.
pub(super) fn question(config: &Config, text: &str, at: Option<&str>) -> Result<Question, String> {
    if let Some((listener, address)) = text.split_once('/') {
        let destination = address
            .parse()
            .map_err(|_| format!("\"{address}\" is not an address and port"))?;
        return Ok(to(Some(listener), Some(destination)));
    }
    if let Ok(destination) = text.parse::<SocketAddr>() {
        return Ok(to(at, Some(destination)));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => {
            let number = port.parse::<u16>();
            (
                name,
                Some(number.map_err(|_| format!("\"{port}\" is not a port"))?),
            )
        }
        None => (text, None),
    };
    if config.services.iter().any(|service| service.name == name) {
        return service(config, name, port, at);
    }
    let is_route = |route: &&Route| route.protocol == RouteProtocol::Tcp && route.name == name;
    if let (Some(found), None) = (config.routes.iter().find(is_route), port) {
        return Ok(of_route(config, found, at));
    }
    if config
        .listeners
        .iter()
        .any(|listener| listener.name == name)
        && port.is_none()
    {
        return Ok(to(Some(name), None));
    }
    Err(format!(
        "\"{text}\" is no address with a port, and no service, route for bytes or listener has this name"
    ))
}

fn to(listener: Option<&str>, destination: Option<SocketAddr>) -> Question {
    Question {
        tcp: true,
        listener: listener.map(str::to_owned),
        destination,
        ..Question::default()
    }
}

/// A service's port for bytes: at the listener that stands for it, by its address, else by its name.
fn service(
    config: &Config,
    name: &str,
    port: Option<u16>,
    at: Option<&str>,
) -> Result<Question, String> {
    let routes = config.routes.iter().filter(|route| {
        let of = route.service.as_ref();
        of.is_some_and(|of| config.services[of.at].name == name)
            && route.protocol == RouteProtocol::Tcp
    });
    let mut asked = routes.filter(|route| {
        let of = route.service.as_ref();
        port.is_none() || of.map(|of| of.port) == port
    });
    let found = asked.next().ok_or_else(|| match port {
        Some(port) => format!("service \"{name}\" has no port {port} with `protocol: tcp`"),
        None => format!(
            "service \"{name}\" has no port with `protocol: tcp`; ask `who-can METHOD {name}/` about requests"
        ),
    })?;
    Ok(of_route(config, found, at))
}

/// What a route for bytes is met by.
pub(super) fn of_route(config: &Config, route: &Route, at: Option<&str>) -> Question {
    let names = route.listeners.as_deref().unwrap_or_default();
    let hosts = &route.hosts;
    let listeners = || {
        let all = config.listeners.iter();
        all.filter(|one| names.is_empty() || names.contains(&one.name))
    };
    let of = route.service.as_ref();
    let address = of.and_then(|of| Some(SocketAddr::new(*of.addresses.first()?, of.port)));
    let stands_for = |one: &&Listener| {
        let service = one.service.as_ref();
        service.is_some_and(|name| hosts.contains(name))
    };
    let captures = |one: &&Listener| one.capture.is_some();
    let own = listeners().find(stands_for).filter(|_| at.is_none());
    if let (Some(own), true) = (own, of.is_some()) {
        return to(Some(&own.name), None);
    }
    let listener = match (at, address) {
        (Some(at), _) => Some(at.to_owned()),
        (None, Some(_)) => listeners().find(captures).map(|one| one.name.clone()),
        (None, None) => None,
    };
    let listener = listener.or_else(|| listeners().next().map(|one| one.name.clone()));
    let speaks_tls = config.listeners.iter().any(|one| {
        let is_tls = matches!(
            one.protocol,
            Some(Protocol::TlsPassthrough | Protocol::Auto)
        );
        Some(&one.name) == listener.as_ref() && is_tls
    });
    let is_plain = |host: &&String| !host.starts_with('*');
    Question {
        sni: match address {
            Some(_) => None,
            None => hosts.iter().find(is_plain).filter(|_| speaks_tls).cloned(),
        },
        ..to(listener.as_deref(), address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    fn config() -> Config {
        let text = "listeners:
- {name: out, role: mesh-outbound, bind: '127.0.0.1:1', protocol: auto, capture: redirect}
- {name: db, role: mesh-outbound, bind: '127.0.0.1:2', protocol: tcp, service: db}
- {name: in, role: mesh-inbound, bind: '127.0.0.1:3', protocol: tcp}
services:
- {name: db, addresses: [10.96.0.1], ports: [{port: 5432, protocol: tcp}], endpoints: [10.0.0.1]}
- {name: mq, addresses: [10.96.0.2], ports: [{port: 80}, {port: 5672, protocol: tcp}], endpoints: [10.0.0.1]}
- {name: web, ports: [{port: 80}], endpoints: [10.0.0.1]}
- {name: pass, ports: [{port: 443, protocol: tcp}], endpoints: [10.0.0.1]}
pools: [{name: p, protocol: tcp, endpoints: ['10.0.0.1:1']}]
routes: [{name: raw, protocol: tcp, listeners: [in], rules: [{pool: p}]}]
";
        load_text("windrose.yaml", text, &[]).unwrap().config
    }

    #[test]
    fn what_is_meant_is_found() {
        let config = config();
        let of = |text: &str| {
            let found = question(&config, text, None).unwrap();
            let listener = found.listener.unwrap_or_default();
            let to = found.destination.map_or(String::new(), |it| it.to_string());
            format!("{listener} {to} {}", found.sni.unwrap_or_default())
        };

        assert_eq!(of("in/10.0.0.9:7"), "in 10.0.0.9:7 ");
        assert_eq!(of("10.0.0.9:7"), " 10.0.0.9:7 ");
        assert_eq!(of("db"), "db  ");
        assert_eq!(of("mq:5672"), "out 10.96.0.2:5672 ");
        assert_eq!(of("pass"), "out  pass");
        assert_eq!(of("raw"), "in  ");
        assert_eq!(of("in"), "in  ");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let config = config();
        let problem = |text: &str| question(&config, text, None).unwrap_err();

        assert!(problem("mq:81").contains("no port 81"));
        assert!(problem("web").contains("who-can METHOD web/"));
        assert!(problem("nobody").contains("no service, route for bytes or listener"));
        assert!(problem("in/x").contains("not an address and port"));
    }
}
