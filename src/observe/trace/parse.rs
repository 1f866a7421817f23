//! Reads trace context from header fields: W3C first, then B3.
//! It must not know what is done with it; what is not exactly right is as good as absent.
//! `TraceContext::from_headers` calls it for every request.

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName};

use super::ids::{read_hex, Case};

/// What the caller told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// A span of a trace.
    Known {
        trace_id: [u8; 16],
        span_id: [u8; 8],
        decision: Decision,
        state: Option<String>,
    },
    /// No span, but perhaps (B3) whether to sample.
    Unknown(Decision),
}

/// Whether the caller wants the trace kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Sample,
    Drop,
    /// The caller leaves it to us.
    Ours,
}

pub(super) fn parent(headers: &HeaderMap) -> Parent {
    // Many callers tell nothing, and looking six names up costs more than looking at every name once.
    let tells = |name: &HeaderName| {
        let name = name.as_str();
        name == TRACEPARENT.as_str() || name == "b3" || name.starts_with("x-b3-")
    };
    if !headers.keys().any(tells) {
        return Parent::Unknown(Decision::Ours);
    }
    w3c(headers)
        .or_else(|| b3_single(headers))
        .or_else(|| b3_multiple(headers))
        .unwrap_or(Parent::Unknown(Decision::Ours))
}

/// A field that occurs once. Repeated, it is ambiguous and worth nothing.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values
        .next()
        .is_none()
        .then(|| value.as_bytes().trim_ascii())
}

/// W3C Trace Context, section 3.2. Later versions may append to what version 00 says.
fn w3c(headers: &HeaderMap) -> Option<Parent> {
    let text = only(headers, &TRACEPARENT)?;
    let dashed = |at: usize| text.get(at) == Some(&b'-');
    if text.len() < 55 || !(dashed(2) && dashed(35) && dashed(52)) {
        return None;
    }
    let [version] = read_hex(&text[..2], Case::Lower)?;
    let ends = match version {
        0 => text.len() == 55,
        0xff => false,
        _ => text.len() == 55 || dashed(55),
    };
    if !ends {
        return None;
    }
    let [flags] = read_hex(&text[53..55], Case::Lower)?;
    Some(Parent::Known {
        trace_id: not_zero(read_hex(&text[3..35], Case::Lower)?)?,
        span_id: not_zero(read_hex(&text[36..52], Case::Lower)?)?,
        decision: if flags & 1 == 1 {
            Decision::Sample
        } else {
            Decision::Drop
        },
        state: tracestate(headers),
    })
}

/// `tracestate` may be split over fields. It is passed on whole or, if it breaks the limits, not at all.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut joined = String::new();
    for value in headers.get_all("tracestate") {
        // Visible ASCII only: what is not cannot be passed on.
        let value = value.to_str().ok()?.trim();
        if value.is_empty() {
            continue;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(value);
        if joined.len() > LONGEST_STATE {
            return None;
        }
    }
    let members = joined.split(',').map(str::trim);
    let members = members.filter(|member| !member.is_empty());
    let well_formed = members.clone().all(|member| {
        member
            .split_once('=')
            .is_some_and(|(key, _)| !key.is_empty())
    });
    let many = members.count();
    (well_formed && (1..=MOST_MEMBERS).contains(&many)).then_some(joined)
}

/// `b3: TRACE-SPAN[-SAMPLED[-PARENT]]`, or the decision alone.
fn b3_single(headers: &HeaderMap) -> Option<Parent> {
    let text = only(headers, "b3")?;
    let mut parts = text.split(|byte| *byte == b'-');
    let first = parts.next()?;
    let Some(span) = parts.next() else {
        return Some(Parent::Unknown(b3_decision(Some(first))?));
    };
    let decision = b3_decision(parts.next())?;
    let (grandparent, rest) = (parts.next(), parts.next());
    if rest.is_some() || grandparent.is_some_and(|id| read_hex::<8>(id, Case::Any).is_none()) {
        return None;
    }
    b3(first, span, decision)
}

/// `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled`, `x-b3-flags`.
fn b3_multiple(headers: &HeaderMap) -> Option<Parent> {
    let debug = only(headers, "x-b3-flags") == Some(b"1");
    let decision = match b3_decision(only(headers, "x-b3-sampled")) {
        _ if debug => Decision::Sample,
        decision => decision.unwrap_or(Decision::Ours),
    };
    let ids = only(headers, "x-b3-traceid").zip(only(headers, "x-b3-spanid"));
    let known = ids.and_then(|(trace, span)| b3(trace, span, decision));
    known.or(Some(Parent::Unknown(decision)))
}

fn b3(trace: &[u8], span: &[u8], decision: Decision) -> Option<Parent> {
    let mut trace_id = [0; 16];
    if trace.len() == 16 {
        // The short form is the low half.
        trace_id[8..].copy_from_slice(&read_hex::<8>(trace, Case::Any)?);
    } else {
        trace_id = read_hex(trace, Case::Any)?;
    }
    Some(Parent::Known {
        trace_id: not_zero(trace_id)?,
        span_id: not_zero(read_hex(span, Case::Any)?)?,
        decision,
        state: None,
    })
}

fn b3_decision(text: Option<&[u8]>) -> Option<Decision> {
    match text {
        None => Some(Decision::Ours),
        Some(b"1" | b"d" | b"true") => Some(Decision::Sample),
        Some(b"0" | b"false") => Some(Decision::Drop),
        Some(_) => None,
    }
}

fn not_zero<const N: usize>(id: [u8; N]) -> Option<[u8; N]> {
    (id != [0; N]).then_some(id)
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Vendors must carry at least 512 characters (section 3.3.1.5); more than this is abuse.
const LONGEST_STATE: usize = 4096;

const MOST_MEMBERS: usize = 32;
