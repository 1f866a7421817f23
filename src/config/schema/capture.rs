//! Keys of listeners that take connections made for somebody else.
//! It must not know how such connections are brought here; `windrose capture` writes those rules.
//! Part of a listener's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How captured connections reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// By a REDIRECT rule of nftables or iptables: the kernel tells the original destination (`SO_ORIGINAL_DST`). The client's address stays.
    Redirect,
    /// By a TPROXY rule: the socket accepts connections for foreign addresses, which needs `CAP_NET_ADMIN` when it is bound.
    Tproxy,
}

/// What becomes of what no route and no service is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// It goes on to where it was going: HTTP as HTTP, everything else as bytes.
    Passthrough,
    /// It is refused.
    Block,
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortHint {
    /// HTTP in the clear, or in TLS that ends here. Nothing else passes: other bytes, and TLS that could only be passed through, are refused as `connection.protocol`, and a client that says nothing for `limits.header_timeout` as `connection.timeout`.
    Http,
    /// Bytes. Nothing is looked at, so rules and policies on requests do not see what is HTTP all the same.
    Tcp,
}
