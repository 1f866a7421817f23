//! stub
use prometheus::IntCounter;
use std::sync::Arc;
use windrose_plugins::contract::{Cause, Counter, CounterFactory};
pub struct Metrics;
pub struct ListenerMetrics;
pub struct RouteMetrics;
pub struct PoolMetrics;
pub struct EndpointMetrics;
pub struct RequestSample<'a> {
    pub status: u16,
    pub method: &'a http::Method,
    pub seconds: f64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub cause: Option<&'static Cause>,
    pub grpc_status: Option<u16>,
}
impl Metrics {
    pub fn new(_: usize) -> Arc<Metrics> {
        Arc::new(Metrics)
    }
    pub fn listener(&self, _: &str, _: &str) -> Arc<ListenerMetrics> {
        Arc::new(ListenerMetrics)
    }
    pub fn route(&self, _: &str, _: &str, _: &str) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics)
    }
    pub fn pool(&self, _: &str) -> Arc<PoolMetrics> {
        Arc::new(PoolMetrics)
    }
    pub fn endpoint(&self, _: &str, _: &str) -> Arc<EndpointMetrics> {
        Arc::new(EndpointMetrics)
    }
    pub fn plugin_event(&self, _: &str, _: &str) -> IntCounter {
        IntCounter::new("x", "y").expect("x")
    }
    pub fn certificate(&self, _: &str, _: &str, _: i64) {}
    pub fn render(&self) -> String {
        String::new()
    }
}
impl CounterFactory for Metrics {
    fn counter(&self, _: &str, _: &'static str) -> Counter {
        Arc::new(|_| ())
    }
}
impl ListenerMetrics {
    pub fn accepted(&self) {}
    pub fn closed(&self) {}
    pub fn refused(&self, _: &'static Cause) {}
    pub fn tls_handshake(&self, _: &str, _: bool, _: f64) {}
    pub fn bytes(&self, _: u64, _: u64) {}
}
impl RouteMetrics {
    pub fn started(&self) {}
    pub fn finished(&self, _: &RequestSample<'_>) {}
    pub fn retried(&self, _: &'static Cause) {}
    pub fn stream_opened(&self) {}
    pub fn stream_closed(&self) {}
}
impl PoolMetrics {
    pub fn no_endpoint(&self, _: &'static Cause) {}
    pub fn endpoints(&self, _: usize, _: usize) {}
}
impl EndpointMetrics {
    pub fn attempt(&self, _: bool, _: f64) {}
    pub fn connect(&self, _: bool, _: f64) {}
    pub fn healthy(&self, _: bool) {}
    pub fn ejected(&self, _: bool) {}
    pub fn check(&self, _: bool) {}
}
impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RouteMetrics")
    }
}
impl std::fmt::Debug for EndpointMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EndpointMetrics")
    }
}
