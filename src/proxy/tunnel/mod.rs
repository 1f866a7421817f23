//! HBONE: connections carried in HTTP/2 CONNECT streams over mutual TLS, as ztunnel, Istio and Cilium speak it.
//! It must not know routes or policies; what comes out of a tunnel goes the way of any accepted connection.
//! `accept` hands it connections of listeners with `mtls.hbone`; `tcp` and `upstream` open tunnels to endpoints.

mod client;
mod head;
mod heard;
mod knock;
mod life;
mod server;
mod stream;
mod trunk;

pub(super) use client::{through, Through};
pub(super) use knock::Knock;
pub(super) use stream::Tunnel;
pub use trunk::Trunks;
pub(super) use trunk::STREAM_WINDOW;
