//! Keys of `listeners`: addresses, who may speak to them and in which protocol.
//! It must not know where requests go.
//! Read by `config::compile`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Size, Time};

use super::{Capture, ListenerMtls, PluginUse, PortHint, Unknown};

/// An address that accepts connections.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name, unique among listeners: lower case letters, digits, `-` and `_`. Used in routes, metrics and logs.
    pub name: String,
    /// Who is calling and where to. Default: ingress.
    #[serde(default)]
    pub role: Role,
    /// Address and port such as `0.0.0.0:8080` or `[::]:443`, or `unix:/path`. Port 0 takes any free port.
    pub bind: String,
    /// What is spoken. Default: `http`, or `https` when `tls` is given.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// TLS settings; needed for `https`, and for `auto` to accept TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// The PROXY protocol (v1 and v2) of load balancers in front.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Networks whose `X-Forwarded-*` and `X-Request-Id` fields are believed. Default: none; fields from others are replaced.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Only for `mesh-outbound`: every request of this listener goes to this service, as if its host were this name. One local port for each service needs no change to the workload but an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only for `mesh-inbound`: mutual TLS with other workloads, by the identities of `identity`. `protocol` then says what is spoken inside: `http`, `auto` or `tcp`. Default: in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<ListenerMtls>,
    /// Only for the two mesh roles: its connections were made for somebody else and brought here by rules of the kernel (`windrose capture` writes them). Where they were going is asked of the kernel, decides as `match.destinations`, and is logged. A connection that was made for this listener itself is refused as `capture_loop`. Default: not captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// Only with `capture`: what becomes of what no route and no service is for. `passthrough` sends it on to where it was going, `block` refuses it as `destination_unknown`. Nothing is sent on to this machine's loopback nor to link-local addresses, such as 169.254.169.254, where clouds hand out credentials; a route or a service for such an address is. Default: passthrough for `mesh-outbound`, block for `mesh-inbound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Unknown>,
    /// Only with `capture` and protocol `auto`: how long both sides may be silent before a connection is taken for bytes. A server that speaks first does not wait for it: it is asked once the client has been silent for 50ms, or at once where servers did so at that port before (not beside `mtls`). Silence is never taken for bytes at the address of a service of requests, at ports with the hint `http`, and at ports that rules for requests name in `destinations` while no `tcp` rule is for them. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_timeout: Option<Time>,
    /// Only with `capture` and protocol `auto`: what is spoken at destination ports, such as `"8080": http` or `"3307": tcp`, so that nothing needs to be found out. At a service's address the service says it. Beside `mtls` a permissive port still looks whether a caller begins with mutual TLS, and the hint is for what is inside. Default: `tcp` at 25, 587, 3306, 4444, 5432, 6379, 9300 and 11211.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, PortHint>")]
    pub ports: BTreeMap<u16, PortHint>,
    /// Bounds on connections and request headers.
    #[serde(default)]
    pub limits: Limits,
    /// Plugins for every connection and request of this listener, before the route's.
    #[serde(default)]
    pub plugins: Vec<PluginUse>,
    /// Set by `config::decode` and `config::quarantine`, never written.
    #[serde(skip)]
    pub hold: Hold,
}

/// What is left of a broken listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hold {
    /// It is not broken.
    #[default]
    None,
    /// A plugin is: everything is refused.
    Closed,
    /// Its name: it runs on as it did before, or not at all.
    Out,
}

/// Who is calling and where to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Clients from outside reach services here (north-south).
    #[default]
    Ingress,
    /// Workloads of this node send their requests to other services here (east-west).
    MeshOutbound,
    /// Other nodes reach workloads of this node here (east-west).
    MeshInbound,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in the clear.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
    /// Looks at the first bytes: TLS (terminated, or passed through where a `tcp` route has its SNI), HTTP/1, HTTP/2, and anything else goes to the listener's `tcp` route.
    Auto,
    /// TLS is not terminated; `tcp` routes choose by SNI.
    TlsPassthrough,
    /// Bytes; a `tcp` route says where to. Nothing is sniffed, so servers that speak first work.
    Tcp,
}

/// TLS termination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTls {
    /// Certificates, chosen by the name the client asks for (SNI): exact before wildcard, then the default one. Files are watched and read again when they change.
    pub certificates: Vec<Certificate>,
    /// Oldest version accepted. Default: 1.2.
    pub min_version: TlsVersion,
    /// Newest version accepted. Default: 1.3.
    pub max_version: TlsVersion,
    /// Protocols offered, in order of preference. Default: [h2, http/1.1].
    pub alpn: Vec<AlpnName>,
    /// OpenSSL cipher list for TLS 1.2. Default: forward secrecy and authenticated encryption only (Mozilla intermediate).
    pub ciphers: Option<String>,
    /// Asks clients for a certificate.
    pub client_certificates: Option<ClientCertificates>,
    /// Whether clients may resume a session with a ticket, which saves a handshake; tickets live two hours. They survive reloads, not restarts. Default: true.
    pub session_resumption: bool,
    /// How long a handshake may take. Default: 10s.
    pub handshake_timeout: Time,
}

impl Default for ListenerTls {
    fn default() -> ListenerTls {
        ListenerTls {
            certificates: Vec::new(),
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
            alpn: vec![AlpnName::H2, AlpnName::Http11],
            ciphers: None,
            client_certificates: None,
            session_resumption: true,
            handshake_timeout: Time::secs(10),
        }
    }
}

/// A protocol's registered ALPN name (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlpnName {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http11,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file with the certificate and its chain, leaf first.
    pub cert: String,
    /// PEM file with the private key.
    pub key: String,
    /// Names to serve it for, exact or `*.example.com`. Default: the names in the certificate.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Serve it also when no name matches, or none was asked for. Default: true for a listener's only certificate, else false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// `required` refuses the handshake without one; `optional` lets clients without one in, but refuses a bad one.
    pub mode: ClientCertificateMode,
    /// PEM file with the certificates of the authorities that are believed.
    pub ca: String,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificateMode {
    /// May.
    Optional,
    /// Must.
    Required,
}

/// The PROXY protocol on incoming connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyProtocol {
    /// `ignore` does not look for it; `use` reads it if a trusted peer sends it; `require` refuses trusted peers that do not send it, and peers that are not trusted. Default: ignore.
    pub mode: ProxyProtocolMode,
    /// Networks that may send it. A header from others is refused as malformed HTTP. Must be given unless ignored.
    pub trusted: Vec<IpNet>,
}

/// What to do with PROXY protocol headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocolMode {
    /// Not looked for.
    #[default]
    Ignore,
    /// Read if sent by a trusted peer.
    Use,
    /// Needed.
    Require,
}

/// Bounds of a listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections. More are closed at once and counted. Default: 20000.
    pub connections: u32,
    /// Open connections of one client address (IPv6: of one /64). Default: 0, no bound.
    pub connections_per_client: u32,
    /// Bytes of a request header. Default: 64KiB, at most 512KiB.
    pub header_bytes: Size,
    /// Fields of a request header. Default: 100, at most 255.
    pub header_fields: u16,
    /// Bytes of a request target. Default: 16KiB.
    pub target_bytes: Size,
    /// Time for a whole request header, and for a new connection to show what it speaks. Default: 15s.
    pub header_timeout: Time,
    /// How long an idle connection is kept for its next request. Default: 65s.
    pub keep_alive: Time,
    /// How long a connection may live; it then ends after the requests in flight. Spread by 10 % either way. Default: 0s, no bound.
    pub connection_age: Time,
    /// Concurrent streams of an HTTP/2 connection. Default: 128.
    pub h2_streams: u32,
    /// How long a client may take no bytes of a response that waits for it. Default: 60s. This bounds memory held for stalled readers.
    pub write_timeout: Time,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            connections_per_client: 0,
            header_bytes: Size(64 << 10),
            header_fields: 100,
            target_bytes: Size(16 << 10),
            header_timeout: Time::secs(15),
            keep_alive: Time::secs(65),
            connection_age: Time::secs(0),
            h2_streams: 128,
            write_timeout: Time::secs(60),
        }
    }
}
