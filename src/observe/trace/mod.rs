//! Trace context: which trace a request belongs to, and what the next hop is told.
//! It must not know how requests are served; it reads header fields and hands out ids.
//! The fast path makes one context for each request; `Tracer` exports what was sampled.

mod export;
mod ids;
mod parse;
mod span;

use http::{HeaderMap, HeaderValue};

pub use export::{Tracer, TracerError, TracerSettings};
use parse::{Decision, Parent};
pub use span::{AttemptSpan, FinishedSpan};
use windrose_plugins::contract::Trace;

/// Whether spans are made here, and for which share of the traces that begin here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// A new trace is sampled if its random part is at least this; `None` where no spans are made.
    threshold: Option<u64>,
}

impl Sampler {
    /// Spans are exported. Of traces without a parent this share (0.0 to 1.0) is sampled.
    pub fn share(share: f64) -> Sampler {
        // By the trace id's random 56 bits, as OpenTelemetry's consistent sampling does, so that
        // proxies with the same share agree on a trace.
        let refused = (1.0 - share.clamp(0.0, 1.0)) * RANDOM as f64;
        Sampler {
            threshold: Some(refused as u64),
        }
    }

    /// No spans are exported. A parent's context is passed on as it is, and none is begun: a hop upstream would
    /// else look for spans that do not exist, and believe a decision nobody made.
    pub fn passive() -> Sampler {
        Sampler { threshold: None }
    }

    fn takes(self, trace_id: &[u8; 16]) -> bool {
        let mut low = [0; 8];
        low.copy_from_slice(&trace_id[8..]);
        let random = u64::from_be_bytes(low) % RANDOM;
        self.threshold.is_some_and(|threshold| random >= threshold)
    }
}

/// The trace a request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span, if it told one.
    pub parent: Option<[u8; 8]>,
    /// The proxy's own span for the request (kind SERVER).
    pub span_id: [u8; 8],
    /// Whether the trace is kept: the parent's word, else the sampler's.
    pub sampled: bool,
    /// `tracestate` as received, several fields joined.
    pub state: Option<String>,
    /// The span the next hop is told: that of the attempt, or the parent's where no spans are made.
    told: Option<[u8; 8]>,
    recording: bool,
}

impl TraceContext {
    /// Reads W3C `traceparent`, else B3 in its single or multiple form. What cannot be read begins a new trace.
    pub fn from_headers(headers: &HeaderMap, sample: &Sampler) -> TraceContext {
        let parent = parse::parent(headers);
        let (decision, parent) = match parent {
            Parent::Known {
                trace_id,
                span_id,
                decision,
                state,
            } => (decision, Some((trace_id, span_id, state))),
            Parent::Unknown(decision) => (decision, None),
        };
        let trace_id = parent
            .as_ref()
            .map_or_else(ids::trace_id, |(trace_id, ..)| *trace_id);
        let recording = sample.threshold.is_some();
        let sampled = match decision {
            Decision::Sample => true,
            Decision::Drop => false,
            Decision::Ours => sample.takes(&trace_id),
        };
        let (parent, state) = match parent {
            Some((_, span_id, state)) => (Some(span_id), state),
            None => (None, None),
        };
        TraceContext {
            trace_id,
            parent,
            span_id: ids::span_id(),
            sampled,
            state,
            told: if recording {
                Some(ids::span_id())
            } else {
                parent
            },
            recording,
        }
    }

    /// Begins an attempt upstream: from here on the next hop is told this span (kind CLIENT), whose id is returned
    /// for [`AttemptSpan::span_id`].
    pub fn begin_attempt(&mut self) -> [u8; 8] {
        let id = ids::span_id();
        if self.recording {
            self.told = Some(id);
        }
        id
    }

    /// `traceparent` for the next hop; `None` when it should be told nothing.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        let told = self.told?;
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        ids::write_hex(&self.trace_id, &mut text[3..35]);
        ids::write_hex(&told, &mut text[36..52]);
        text[54] = if self.sampled { b'1' } else { b'0' };
        HeaderValue::from_bytes(&text).ok()
    }

    /// What calls that are made beside the way upstream are part of: the proxy's own span, or the parent's where no spans are made.
    pub fn beside(&self) -> Option<Trace> {
        let span = Some(self.span_id).filter(|_| self.recording);
        Some(Trace {
            trace_id: self.trace_id,
            span_id: span.or(self.parent)?,
            sampled: self.sampled,
        })
    }

    /// `tracestate` for the next hop.
    pub fn tracestate(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.state.as_deref()?).ok()
    }

    /// The trace id as logs show it.
    pub fn trace_id_hex(&self) -> TraceIdHex {
        let mut hex = [0; 32];
        ids::write_hex(&self.trace_id, &mut hex);
        TraceIdHex(hex)
    }
}

/// A trace id in hex, without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceIdHex([u8; 32]);

impl TraceIdHex {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::ops::Deref for TraceIdHex {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// One more than the largest random part of a trace id (W3C Trace Context level 2).
const RANDOM: u64 = 1 << 56;

#[cfg(test)]
mod tests;
