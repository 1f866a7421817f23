//! stub
#[derive(Default)]
pub struct TraceContext {
    pub sampled: bool,
}
pub struct Sampler;
impl Sampler {
    pub fn new(_: f64) -> Sampler {
        Sampler
    }
}
impl TraceContext {
    pub fn from_headers(_: &http::HeaderMap, _: &Sampler) -> TraceContext {
        TraceContext::default()
    }
    pub fn traceparent(&self) -> http::HeaderValue {
        http::HeaderValue::from_static("00-00000000000000000000000000000001-0000000000000001-00")
    }
    pub fn trace_id_hex(&self) -> String {
        String::new()
    }
}
pub struct Tracer;
pub struct FinishedSpan<'a> {
    pub context: &'a TraceContext,
    pub start: std::time::SystemTime,
    pub duration: std::time::Duration,
    pub method: &'a str,
    pub path: &'a str,
    pub host: &'a str,
    pub status: u16,
    pub listener: &'a str,
    pub route: &'a str,
    pub pool: &'a str,
    pub endpoint: &'a str,
    pub attempts: u8,
    pub cause: Option<&'static windrose_plugins::contract::Cause>,
}
impl Tracer {
    pub fn enabled(&self) -> bool {
        false
    }
    pub fn span(&self, _: FinishedSpan<'_>) {}
}
