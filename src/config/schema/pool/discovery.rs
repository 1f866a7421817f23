//! Keys of `pools[].discovery`: where endpoints are found.
//! It must not know what is done with them.
//! Part of a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

/// A source of endpoints: one of `dns` and `file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Discovery {
    /// A DNS name.
    Dns(DnsDiscovery),
    /// A file, read again when it changes.
    File(FileDiscovery),
}

/// Endpoints from DNS. The answer's time to live says when to ask again; the last good answer stays when DNS fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsDiscovery {
    /// The name to look up.
    pub name: String,
    /// `a`, `aaaa`, `both` or `srv`. Default: both.
    #[serde(default)]
    pub record: DnsRecord,
    /// Port of the endpoints; needed unless `srv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Shortest time between questions, whatever the time to live. Default: 1s.
    #[serde(default = "one_second")]
    pub min_ttl: Time,
    /// Longest time between questions. Default: 5m.
    #[serde(default = "five_minutes")]
    pub max_ttl: Time,
    /// Name servers as `ip:port`. Default: those of the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

fn one_second() -> Time {
    Time::secs(1)
}

fn five_minutes() -> Time {
    Time::secs(300)
}

/// Which records to ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsRecord {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// Hosts, ports and weights (RFC 2782). Priorities keep their order: the lowest value becomes priority 0, at most eight are told apart.
    Srv,
}

/// Endpoints from a YAML or JSON file with a list like `endpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDiscovery {
    /// The file, relative to the configuration.
    pub path: String,
}
