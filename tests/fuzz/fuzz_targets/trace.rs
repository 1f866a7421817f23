//! Trace headers, from anyone: whatever they say, the next hop is told a context that reads back as the same trace.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use windrose::observe::trace::{Sampler, TraceContext};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let headers = headers(text);
    for sampler in [Sampler::share(0.5), Sampler::passive()] {
        let context = TraceContext::from_headers(&headers, &sampler);
        let Some(told) = context.traceparent() else {
            continue;
        };
        let mut next = HeaderMap::new();
        next.insert("traceparent", told);
        context.tracestate().map(|state| next.insert("tracestate", state));
        let read = TraceContext::from_headers(&next, &sampler);
        assert_eq!(read.trace_id, context.trace_id);
        assert_eq!(read.sampled, context.sampled);
        assert_eq!(read.state, context.state);
    }
});

/// `name: value` lines; what is no header is left out, as it would not get this far.
fn headers(text: &[u8]) -> HeaderMap {
    let lines = text.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    });
    let mut headers = HeaderMap::new();
    fields.take(100).for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}
