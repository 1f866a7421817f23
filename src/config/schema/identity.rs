//! Keys of `identity`: who the workloads of this node are, where their certificates come from, whom they believe.
//! It must not know listeners or pools, which only name workloads.
//! Read by `config::compile`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Size, Time};

use super::CertificateFiles;

/// Identities of this node's workloads (SPIFFE), for mutual TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The trust domain of the workloads here, such as `mesh.example`: lower case letters, digits, `.`, `-` and `_`.
    pub trust_domain: String,
    /// Where certificates and the roots of the own trust domain come from.
    pub source: IdentitySource,
    /// Workloads of this node, at most 1000.
    pub workloads: Vec<Workload>,
    /// Other trust domains whose workloads are believed. Each is verified against its own roots only. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub federated: Vec<Federated>,
    /// Hold at birth: how long first connections wait for what is not there yet. In both directions they wait for the workload's certificate; when the time passes, the cause is `mtls.no_identity`. Requests and connections to a pool whose `discovery` has found nothing yet wait as well, until that long after the pool came; then the cause is `no_endpoint`. Pools whose endpoints have gone again wait for nothing. A request's deadline goes first. Default: 5s, at most 60s; 0s does not wait.
    #[serde(default = "five_seconds")]
    pub hold: Time,
    /// What becomes of connections that are open when the certificate ends that their other side proved itself with, in both directions. `close`: from that moment on nothing new begins on them (HTTP/1 says `connection: close`, HTTP/2 and tunnels GOAWAY, kept connections to endpoints are not used again); what is under way goes on for `expiry_grace` and is cut then, with the cause `mtls.expired`. Callers that renew in time notice nothing of it, unless they have streams or connections passed through as bytes that outlive their certificate and the grace. `keep`: only handshakes look at the end. Certificates whose root is no longer in the bundle of their trust domain are cut at once either way, with the cause `mtls.untrusted` or `mtls.trust_domain`; only requests that an endpoint is answering by then are still answered. Holds for connections made after it came into force. Default: close.
    #[serde(default)]
    pub on_expiry: OnExpiry,
    /// How long streams and connections go on after the certificate of their other side has ended, at most 24h; 0s cuts at once. Only with `on_expiry: close`. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_grace: Option<Time>,
}

/// What becomes of connections whose other side's certificate ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// They end.
    #[default]
    Close,
    /// They go on.
    Keep,
}

fn five_seconds() -> Time {
    Time::secs(5)
}

/// Where certificates come from: one of `files`, `ca`, `spire`, `consul`. When a source does not answer, what is in use stays until it ends; the source is asked again after half a second, then later and later, up to two minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum IdentitySource {
    /// Files that something else renews. They are watched; files that cannot be used leave what is in use as it is.
    Files(IdentityFiles),
    /// The built-in authority (`windrose ca`). The node joins once with a token; certificates are renewed at half of their life.
    Ca(IdentityCa),
    /// A SPIFFE Workload API, such as that of SPIRE's agent. It says who has which certificate, and renews them.
    Spire(IdentitySpire),
    /// Consul's agent on this machine (Connect). It renews certificates; `identity.trust_domain` is Consul's, such as `UUID.consul`.
    Consul(IdentityConsul),
}

/// Certificates from the built-in authority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityCa {
    /// Where it serves: `host:port`.
    pub address: String,
    /// The hash of its root, as `windrose ca init` and `windrose ca token` print it: `sha256:` and 64 hexadecimal digits. Who answers without that root hears no token. After a change of the root, nodes that joined before need no new hash.
    pub root_hash: String,
    /// File with a join token. It is only read while the node has no certificate of its own, so it may be missing later; a node that was off for too long, or was forgotten, joins again when a new token is in it. Default: none, which only works where the node joined before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// Folder for the node's keys, certificates and roots, made if missing and readable by its owner only. With it, a restart needs neither a token nor the authority. Each node has its own.
    pub state: String,
}

/// Certificates from a Workload API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentitySpire {
    /// Where it listens: `unix:/path`, or `tcp://ip:port` on loopback, since keys come over it unencrypted; `${env:SPIFFE_ENDPOINT_SOCKET}` where that is set. The agent has to know this process as each of the workloads.
    pub socket: String,
}

/// Certificates from Consul's agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityConsul {
    /// Where it listens: `http://` with an IP address of this machine and a port, or `unix:/path`. Default: `http://127.0.0.1:8500`. Not over a network, since private keys come back.
    #[serde(default = "consul_agent")]
    pub address: String,
    /// File with an ACL token that may write the services; read for each query, so it may be replaced. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
}

fn consul_agent() -> String {
    "http://127.0.0.1:8500".to_owned()
}

/// Certificates from files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityFiles {
    /// Roots of the own trust domain: PEM certificates, or a SPIFFE bundle (JWK set). During a change of roots it holds both.
    pub bundle: String,
}

/// A workload of this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name, unique among workloads: lower case letters, digits, `-`, `_` and `.`. Used in listeners, pools, metrics and logs.
    pub name: String,
    /// Its SPIFFE ID, such as `spiffe://mesh.example/ns/shop/sa/web`, in the own trust domain.
    pub id: String,
    /// Its certificate and key; only with `source.files`, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFiles>,
    /// What Consul calls it; only with `source.consul`. Default: the workload's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How it is known among the workloads of the node. Default: by nothing; the only workload of a node is everybody's then.
    #[serde(default, rename = "match")]
    pub matches: WorkloadMatch,
    /// How much of the node's proxy it may use at a time, so that it cannot starve the other workloads. Default: no bounds.
    #[serde(default)]
    pub limits: WorkloadLimits,
}

/// How much a workload may use at a time. What is beyond is refused with the cause `workload_limit` (429 for requests); the log and `windrose_workload_refused_total` name the workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadLimits {
    /// Connections it has open to the node's proxy. What comes in for it from other nodes is not counted here. Default: 0, no bound.
    pub connections: u32,
    /// Requests under way that it makes; and counted apart from them, as many that others make to it, where a connection of bytes is one as well. Those that policies refuse are not counted. Default: 0, no bound.
    pub requests: u32,
    /// Bytes that the proxy may hold for what it makes; and as many, counted apart, for what others make to it. They are reckoned from above and in whole: 32 KiB for a connection (1 MiB more where its bytes go through a tunnel between nodes), 16 KiB for a request, and of each body what went through, as far as Pingora may keep it: 448 KiB of a request (all of it, once it is read, where a plugin wants it whole), copies for mirrors besides, and 320 KiB of a response, or 1344 KiB where it comes by HTTP/2 or mutual TLS. A response that says its length is reckoned with it at once. What would go beyond is refused, or, where a body without a length grows, cut off. Not counted: the buffers of the kernel, of TLS, and what plugins keep. Default: 0, no bound; otherwise at least 64KiB.
    pub memory: Size,
}

/// How a workload is known. Any of these will do; each value belongs to one workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadMatch {
    /// Listeners that are its own: what comes in at one of role `mesh-outbound` is called by it, what comes in at one of role `mesh-inbound` is for it.
    pub listeners: Vec<String>,
    /// Ports it is reached at, by original destination. Only for what comes in from other nodes.
    pub ports: Vec<u16>,
    /// Unix users it runs as, by number; the user of the calling socket. Only for callers on this machine.
    pub users: Vec<u32>,
    /// Control groups (v2) it runs in, as `/proc/PID/cgroup` names them, such as `/system.slice/web.service`; groups below count too. Only for callers on this machine whose process can be seen.
    pub cgroups: Vec<String>,
}

/// Another trust domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Federated {
    /// Its name.
    pub trust_domain: String,
    /// File with its roots: PEM certificates, or a SPIFFE bundle (JWK set). Watched.
    pub bundle: String,
}

/// Mutual TLS of a listener: TLS 1.3, a certificate of each caller, no resumption. What a caller proves is its principal in conditions, policies and logs, and goes to the application as `x-forwarded-client-cert`: `By=` the workload here, `Hash=` SHA-256 of the caller's certificate, `URI=` its SPIFFE ID. What callers say in that field themselves is never passed on. HTTP/2 and HTTP/1.1 are agreed by ALPN; without, bytes go to the listener's `tcp` route if it has one, else they are HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerMtls {
    /// What becomes of callers in the clear: `strict` refuses them (`mtls.plaintext_refused`), `permissive` lets them in without a principal. Callers that speak TLS must show a good certificate either way. A reload may change it; connections that are open go on. Default: strict.
    pub mode: MtlsMode,
    /// The same at single ports, by the port that a connection was made for, in quotes as all keys of maps are: `{"9090": permissive}`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, MtlsMode>,
    /// The workload that every connection is for. Default: the one whose `match.ports` has the port, else the one whose name the caller asks for (SNI), else the one whose `match.listeners` has the listener, else the node's only one if its `match` has neither ports nor listeners. One that is found by the name alone is shown to the caller and no more: it has no part in limits, and its certificate is not used for what goes on to a pool with `mtls`, which then needs a `workload` of its own (else `mtls.no_identity`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Whether connections carry tunnels: HBONE, HTTP/2 CONNECT streams as ztunnel, Istio and Cilium send them to port 15008. Each stream becomes a connection that was made for the address it names, and is served as `protocol` says: requests meet the routes, bytes the `tcp` routes. The node that opened the tunnel is the principal. At most `limits.h2_streams` at a time on a connection, which ends when it carried none for `limits.keep_alive`, or when its other end leaves a question (a ping every 10 s) unanswered for 10 s. Up to 1 MiB of each stream is taken before the application reads it. Callers that speak HTTP/1 or no ALPN are refused. Default: false.
    pub hbone: bool,
    /// How long a handshake may take. Default: 10s.
    pub handshake_timeout: Time,
}

impl Default for ListenerMtls {
    fn default() -> ListenerMtls {
        ListenerMtls {
            mode: MtlsMode::Strict,
            ports: BTreeMap::new(),
            workload: None,
            hbone: false,
            handshake_timeout: Time::secs(10),
        }
    }
}

/// What becomes of callers in the clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MtlsMode {
    /// Refused.
    #[default]
    Strict,
    /// Let in.
    Permissive,
}

/// Mutual TLS to the endpoints of a pool. The endpoint's identity is verified before the first byte of a request, on new and on kept connections. Connections are never shared between two identities of this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolMtls {
    /// Who endpoints may be: SPIFFE IDs, in which a whole segment may be `*`, the last one `**` for everything below, and the trust domain `*` for any that is believed.
    pub peers: Vec<String>,
    /// Who calls. Default: the calling workload, by its listener, user or control group; the node's only one if it has no `match`. Health checks are the node's only workload's, however it is known; where there are several, they need this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Reaches endpoints through their nodes: a tunnel (HBONE) to this port at the endpoint's address, for its own port. Not together with `health`, `proxy_protocol`, protocol `auto` or endpoints at socket files; requests share connections to a node, at most 100 at a time on one and no more than the node allows, which is kept for 5 minutes and given up when the node leaves a question (a ping every 10 s) unanswered for 10 s. Default: mutual TLS with the endpoint's own port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hbone: Option<Hbone>,
    /// The name to ask for (SNI), by which a Windrose node finds the workload that is meant. Default: the pool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// Tunnels to endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hbone {
    /// The port that nodes take tunnels at. Default: 15008, as in Istio and Cilium.
    pub port: u16,
}

impl Default for Hbone {
    fn default() -> Hbone {
        Hbone { port: 15_008 }
    }
}
