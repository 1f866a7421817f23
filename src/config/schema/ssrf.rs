//! The key `ssrf_guard`: where the proxy's own connections may lead.
//! It must not know addresses; `snapshot::ssrf` judges them.
//! Read by `config::compile`.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps the proxy's own connections from addresses that are not public, where somebody else says where they lead: by an answer of DNS,
/// or by where a captured connection was going. Judged is the address that is connected to, each time a name is looked up, so that a name
/// that changes its meaning gains nothing. Forbidden are loopback, link-local (with the metadata services of clouds), private,
/// unique-local, shared, multicast, documentation and reserved addresses, also in the forms that IPv6 has for them (mapped, NAT64, 6to4,
/// Teredo, ISATAP). Connections refused by it have the cause `address_forbidden`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SsrfGuard {
    /// What it guards: `calls` (URLs that plugins call or send to), `dns` (pools with `discovery: dns`, unless their `ssrf_guard` says
    /// otherwise) and `passthrough` (what captured connections go on to where nothing else is for them). Default: all three.
    #[serde(rename = "for")]
    pub guarded: Vec<Guarded>,
    /// Networks that may be reached all the same, such as `10.1.0.0/16`. Default: none.
    pub allow: Vec<IpNet>,
    /// Networks that may not, even if `allow` holds them. Default: none.
    pub deny: Vec<IpNet>,
}

impl Default for SsrfGuard {
    fn default() -> SsrfGuard {
        SsrfGuard {
            guarded: vec![Guarded::Calls, Guarded::Dns, Guarded::Passthrough],
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

/// What is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarded {
    /// URLs of plugins.
    Calls,
    /// Pools whose endpoints DNS names.
    Dns,
    /// What goes on to where it was going.
    Passthrough,
}
