//! Keys of `limits`: bounds of the whole process.
//! It must not know listeners, routes and pools, which have bounds of their own.
//! Read by `config::compile`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Size, Time};

/// Bounds of the whole process. A reload changes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessLimits {
    /// Bytes of bodies that are held at a time because plugins want to see them whole: of requests until they are over, of responses until they are sent on. Requests beyond it are refused with 503 and `overloaded.bodies`. What a plugin puts in place of a body is bounded by the plugin. Default: 64MiB; 1MiB to 1TiB.
    pub held_bodies: Size,
    /// How long a client may take to send a body that a plugin wants to see whole; then it gets 408 and `body_timeout`. Default: 30s; 1s to 1h.
    pub held_body_time: Time,
}

impl Default for ProcessLimits {
    fn default() -> ProcessLimits {
        ProcessLimits {
            held_bodies: Size(64 << 20),
            held_body_time: Time::secs(30),
        }
    }
}
