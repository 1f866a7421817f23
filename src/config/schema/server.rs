//! Keys of `server` and `admin`: what belongs to the process rather than to traffic.
//! It must not know routes or pools.
//! Read by `config::boot`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Time;

/// Process settings. A change needs a restart or `windrose upgrade`; a reload that changes them says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Worker threads. Default: 0, one for each core.
    pub threads: usize,
    /// Where to write the process id. Default: not written.
    pub pid_file: Option<String>,
    /// The socket through which a new process takes over the listening sockets. Default: `upgrade.sock` in `$RUNTIME_DIRECTORY` (systemd's `RuntimeDirectory`), else `windrose-upgrade.sock` in `$XDG_RUNTIME_DIR`, else `upgrade.sock` in `/tmp/windrose-UID`, a folder made for this user alone. Who listens there gets the sockets, so a folder where others could put a socket of theirs is refused when it comes to an upgrade. At most 32 sockets can be handed over.
    pub upgrade_socket: Option<String>,
    /// How long requests may finish after SIGTERM, and after SIGQUIT or an upgrade, before they are cut. Default: 30s.
    pub drain_timeout: Time,
    /// How long long-lived streams (upgraded connections, TCP, gRPC streams) may go on while draining. Default: 30s. Counted from the same moment as `drain_timeout`.
    pub stream_drain_timeout: Time,
    /// The mark of every TCP connection that the process makes (SO_MARK), to endpoints, authorities and agents alike, but for those to a collector of traces (`observe.traces.otlp`), which should be on this machine; from 1 on, so that rules of the kernel can tell them from those of applications (`windrose capture`). The best is one below 65536: `capture: tproxy` uses the upper half of marks. Needs `CAP_NET_ADMIN`; without it no endpoint can be reached. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// Idle upstream connections kept for reuse, in the whole process. Default: 1024.
    pub upstream_idle_connections: usize,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            threads: 0,
            pid_file: None,
            upgrade_socket: None,
            drain_timeout: Time::secs(30),
            stream_drain_timeout: Time::secs(30),
            mark: None,
            upstream_idle_connections: 1024,
        }
    }
}

/// The admin address: health, metrics, and views of the running configuration. Plain HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port, or `unix:/path`, or `off`. Default: `127.0.0.1:9901`. An address that is not loopback needs `allow_remote: true`.
    pub bind: String,
    /// Whether an address that others can reach is meant. Everything here is readable without a password. Default: false.
    pub allow_remote: bool,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            bind: "127.0.0.1:9901".into(),
            allow_remote: false,
        }
    }
}
