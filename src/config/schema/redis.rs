//! Keys of `redis`: stores that several proxies share, for plugins that count together.
//! It must not know plugins, which name a store.
//! Read by `config::compile`; `control::stores` keeps the connections.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

/// A Redis server (5 or later, or Valkey), not a cluster. The proxy connects in the background and never on behalf of a request: while it is not connected, operations fail at once, and it tries again after 100 ms, then later and later, up to two seconds. Three operations in a row without an answer count as a lost connection.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Name, unique among stores, by which plugins use it.
    pub name: String,
    /// Where it is: `redis://host:port/database`, `rediss://…` over TLS with the server's certificate and name verified, or `unix:///path/of/socket?db=database`. Default port: 6379. Default database: 0. A name is looked up at each attempt to connect. User and password have keys of their own.
    pub url: String,
    /// The user, where the server has users (ACL). Only with `password`. Default: the server's default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, best as `${env:REDIS_PASSWORD}` or `${file:…}`, which are never shown. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// PEM file of the authorities to believe instead of the system's. Only with `rediss`. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// How long connecting may take, with TLS, password and all; 10ms to 60s. Default: 1s.
    #[serde(default = "one_second")]
    pub connect_timeout: Time,
    /// How long an operation may take before it counts as failed; 1ms to 10s. A request waits no longer than this for each time it asks. Default: 50ms.
    #[serde(default = "fifty_millis")]
    pub command_timeout: Time,
    /// How many operations may be under way at once; more fail at once. 1 to 100000. Default: 1024.
    #[serde(default = "plenty")]
    pub max_in_flight: u32,
    /// What all keys begin with: up to 64 letters, digits and `:._-`. Default: `windrose:`.
    #[serde(default = "own_prefix")]
    pub prefix: String,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis {
            name: String::new(),
            url: String::new(),
            username: None,
            password: None,
            ca: None,
            connect_timeout: one_second(),
            command_timeout: fifty_millis(),
            max_in_flight: plenty(),
            prefix: own_prefix(),
        }
    }
}

/// Without the password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn one_second() -> Time {
    Time::secs(1)
}

fn fifty_millis() -> Time {
    Time::millis(50)
}

fn plenty() -> u32 {
    1024
}

fn own_prefix() -> String {
    "windrose:".to_owned()
}
