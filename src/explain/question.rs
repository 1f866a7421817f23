//! A request to explain, as people and tools write it.
//! It must not know how it is answered.
//! Read from the command line, the admin page or a configuration's tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Uri};
use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Principal, PrincipalKind};

use crate::observe::recorder::{Pair, Record};
use crate::snapshot::listener::{Bind, Listener, Role};
use crate::snapshot::Snapshot;

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// The method.
    pub method: String,
    /// `http://host/path?query` or `https://…`.
    pub url: String,
    /// Request fields in order.
    pub headers: Vec<(String, String)>,
    /// The peer's address. Default: 192.0.2.1.
    pub from: Option<IpAddr>,
    /// The name asked for in TLS. Default: the host.
    pub sni: Option<String>,
    /// The principal that was proven: `consumer:NAME`, `certificate:NAME` or a SPIFFE ID.
    #[serde(rename = "as")]
    pub principal: Option<String>,
    /// Where the connection was going. Default: the listener's address, unless it stands for several.
    pub destination: Option<SocketAddr>,
    /// The listener. Default: the one at the address's port, else the first with role `ingress`, else the first.
    pub listener: Option<String>,
    /// The body in base64; the hooks on bodies see it in one piece.
    pub body: Option<String>,
    /// Whether it is about a connection passed through as bytes, of which only `from`, `sni`, `as`, `destination` and `listener` say
    /// something.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tcp: bool,
}

/// What stands for the method of a connection passed through as bytes.
pub const TCP: &str = "TCP";

impl Question {
    pub(super) fn uri(&self) -> Result<Uri, String> {
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error| format!("\"{}\" is no address: {error}", self.url))?;
        match (uri.scheme_str(), uri.authority()) {
            (_, None) => Err(format!("\"{}\" names no host", self.url)),
            (Some("http" | "https" | "ws" | "wss"), _) => Ok(uri),
            _ => Err(format!(
                "\"{}\" does not begin with http:// or https://",
                self.url
            )),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.starts_with("https://") || self.url.starts_with("wss://")
    }

    /// The name in the TLS hello.
    pub(super) fn sni(&self) -> Option<String> {
        let given = self.sni.as_ref().map(|name| name.to_ascii_lowercase());
        let host = || {
            let host = self.uri().ok()?.host()?.to_ascii_lowercase();
            // Addresses are not sent as names (RFC 6066 section 3).
            let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
            (!is_address).then_some(host)
        };
        self.is_tls().then(|| given.or_else(host)).flatten()
    }

    pub(super) fn body(&self) -> Result<Option<Vec<u8>>, String> {
        let decode = |text: &String| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            bytes.map_err(|error| format!("the body is not base64: {error}"))
        };
        self.body.as_ref().map(decode).transpose()
    }

    /// The header as it would arrive.
    pub(super) fn head(&self) -> Result<RequestHeader, String> {
        let uri = self.uri()?;
        let method: Method = self
            .method
            .parse()
            .map_err(|_| format!("\"{}\" is no method", self.method))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut head = RequestHeader::build_no_case(method, target.as_bytes(), None)
            .map_err(|error| error.to_string())?;
        for (name, value) in &self.headers {
            head.append_header(name.to_ascii_lowercase(), value.as_str())
                .map_err(|_| format!("\"{name}: {value}\" is no field"))?;
        }
        if !head.headers.contains_key(HOST) {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let host = authority.rsplit('@').next().unwrap_or_default();
            head.insert_header(HOST, host)
                .map_err(|_| format!("\"{authority}\" is no host"))?;
        }
        if let Some(body) = self.body()? {
            if !head.headers.contains_key(CONTENT_LENGTH) {
                let _ = head.insert_header(CONTENT_LENGTH, body.len());
            }
        }
        Ok(head)
    }

    pub(super) fn principal(&self) -> Option<Principal> {
        let id = self.principal.as_deref()?;
        let (kind, name) = match id.split_once(':') {
            Some(("consumer", name)) => (PrincipalKind::Consumer, name),
            Some(("certificate", name)) => (PrincipalKind::Certificate, name),
            _ => (PrincipalKind::Workload, id),
        };
        Some(Principal::new(kind, name))
    }

    /// Whom the connection proved: a plugin proves consumers.
    pub(super) fn peer(&self) -> Option<Principal> {
        self.principal()
            .filter(|principal| principal.kind != PrincipalKind::Consumer)
    }

    /// The port that is connected to, as traffic has it: of a captured connection and of a tunnel the one it was going to, of
    /// any other the listener's. Where that is not told, the address of the question stands for it.
    pub(super) fn port(&self, listener: &Listener) -> Option<u16> {
        let asked = || self.uri().ok().and_then(|uri| uri.port_u16());
        if listener.knows_destination() {
            let usual = if self.is_tls() { 443 } else { 80 };
            let going = self.destination.map(|to| to.port());
            return going.or_else(asked).or(Some(usual));
        }
        match listener.bind {
            Bind::Tcp(address) if address.port() != 0 => Some(address.port()),
            Bind::Tcp(_) => asked(),
            Bind::Unix(_) => None,
        }
    }

    /// The request of a record, as far as it was kept. Values that were redacted stay `***`: what depends on them is not decided
    /// as it was.
    pub fn recorded(record: &Record) -> Question {
        let (asked, caller) = (&record.request, &record.caller);
        let pair = |pair: &Pair| match pair.value.is_empty() {
            true => pair.name.clone(),
            false => format!("{}={}", pair.name, pair.value),
        };
        let query: Vec<String> = asked.query.iter().map(pair).collect();
        let query = match query.is_empty() {
            true => String::new(),
            false => format!("?{}", query.join("&")),
        };
        let peer = caller.peer.parse::<SocketAddr>().map(|peer| peer.ip());
        let fields = asked.fields.iter();
        Question {
            method: asked.method.clone(),
            url: format!(
                "{}://{}{}{query}",
                asked.scheme, asked.authority, asked.path
            ),
            headers: fields
                .map(|field| (field.name.to_ascii_lowercase(), field.value.clone()))
                .collect(),
            from: peer.or(caller.client.parse()).ok(),
            sni: caller.sni.clone(),
            principal: caller.certificate.clone(),
            destination: caller.destination.as_ref().and_then(|to| to.parse().ok()),
            listener: Some(caller.listener.clone()),
            body: None,
            tcp: false,
        }
    }

    /// Where the connection was going.
    pub(super) fn destination(&self, listener: &Listener) -> Option<SocketAddr> {
        let bound = || match listener.bind {
            Bind::Tcp(address) => Some(address).filter(|at| !at.ip().is_unspecified()),
            Bind::Unix(_) => None,
        };
        self.destination.or_else(bound)
    }

    /// Where a connection was going; with a listener at any address of the machine, one of those.
    pub(super) fn going_to(&self, listener: &Listener) -> SocketAddr {
        let bound = match listener.bind {
            Bind::Tcp(address) => address,
            Bind::Unix(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        self.destination.unwrap_or(bound)
    }

    /// The listener that a connection is for: one that knows a service at the destination, is bound there, or takes bytes.
    fn of_bytes<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s Arc<Listener>, String> {
        let all = || snapshot.listeners.iter().filter(|it| it.takes_bytes());
        let to = self.destination;
        let serves = |one: &&Arc<Listener>| to.is_some_and(|to| one.tcp.is_service(to));
        let is_bound = |one: &&Arc<Listener>| match one.bind {
            Bind::Tcp(address) => to.is_some_and(|to| to.port() == address.port()),
            Bind::Unix(_) => false,
        };
        let found = all().find(serves).or_else(|| all().find(is_bound));
        found
            .or_else(|| all().find(|one| one.capture.is_some()))
            .or_else(|| all().next())
            .ok_or_else(|| "no listener passes bytes through".to_owned())
    }

    /// The listener the request is for.
    pub(super) fn listener<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s Arc<Listener>, String> {
        let listeners = &snapshot.listeners;
        if let Some(name) = &self.listener {
            let known = || {
                let names = listeners.iter().map(|listener| &*listener.name);
                names.collect::<Vec<_>>().join(", ")
            };
            return snapshot
                .listener(name)
                .ok_or_else(|| format!("no listener is named \"{name}\"; there are {}", known()));
        }
        if self.tcp {
            return self.of_bytes(snapshot);
        }
        let uri = self.uri()?;
        let port = uri
            .port_u16()
            .unwrap_or(if self.is_tls() { 443 } else { 80 });
        let at_port = |listener: &&Arc<Listener>| match listener.bind {
            Bind::Tcp(address) => address.port() == port,
            Bind::Unix(_) => false,
        };
        let is_ingress = |listener: &&Arc<Listener>| listener.role == Role::Ingress;
        let found = listeners.iter().find(at_port);
        let found = found.or_else(|| listeners.iter().find(is_ingress));
        found
            .or(listeners.first())
            .ok_or_else(|| "there is no listener".to_owned())
    }
}
