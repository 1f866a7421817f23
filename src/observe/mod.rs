//! What the proxy tells about its traffic: metrics, access log, traces, events, records of requests and the answers it makes itself.
//! It must not know configuration, snapshots or Pingora; it takes plain settings and names.
//! The data path calls it for every request, the control path for everything else.

pub mod access_log;
pub mod answer;
pub mod clock;
pub mod event;
pub mod metrics;
pub mod mirror;
pub mod policy;
pub mod recorder;
pub mod redact;
pub mod trace;
