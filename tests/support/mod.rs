//! The scene of a black-box test: a proxy process, upstreams, clients and certificates.
//! It must not know any topic; what only one test needs stays with that test.
//! Used by every module of the test binary.

pub(crate) mod ca;
pub(crate) mod client;
pub(crate) mod envoy;
pub(crate) mod grpc;
pub(crate) mod load;
pub(crate) mod names;
pub(crate) mod netns;
pub(crate) mod node;
pub(crate) mod provider;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod stream;
pub(crate) mod svid;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wait;

pub(crate) use ca::Ca;
pub(crate) use client::{Conn, Reply};
pub(crate) use grpc::{frame, Grpc};
pub(crate) use load::Load;
pub(crate) use names::NameServer;
pub(crate) use node::node;
pub(crate) use proxy::{run, Proxy};
pub(crate) use stream::{Echo, WebSocket};
pub(crate) use tls::{Authority, Pair};
pub(crate) use upstream::Upstream;
pub(crate) use wait::{until, DEADLINE};
