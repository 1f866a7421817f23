//! Calls: how a plugin asks a service over HTTP, and what may come of it.
//! It must not know pools or connections; whoever builds plugins hands in what carries a call.
//! Plugins get a [`Caller`] from `Build::caller`; the test kit answers from a script.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{
    Cause, Counter, Effects, Origin, Problem, Request, Target, Unknown, Verdict, WireSettings,
    Wires,
};

/// A request of a plugin's own. Made by [`Caller::get`] or [`Caller::post`], which fill in where it goes.
#[derive(Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Fields; `Host` is the target's. Framing is written by whoever carries the call.
    pub headers: HeaderMap,
    /// The body, sent whole.
    pub body: Bytes,
    /// From here to the last byte of the response, waiting for a place and a second attempt included.
    pub timeout: Duration,
    /// The longest body of the response in bytes; a longer one is [`CallFailure::TooLarge`].
    pub limit: usize,
    /// Whether it may be sent again where a kept connection broke before it was answered.
    pub is_repeatable: bool,
}

/// Without values: fields and bodies hold credentials.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "Call({} {path}, {} bytes)", self.method, self.body.len())
    }
}

impl Call {
    /// Sends this field, in place of one of the same name.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Call {
        self.headers.insert(name, value);
        self
    }

    /// Goes to this path and query of the target's origin.
    pub fn at(mut self, path: impl Into<String>) -> Call {
        self.path = path.into();
        self
    }

    /// Is given up after this time.
    pub fn within(mut self, time: Duration) -> Call {
        self.timeout = time;
        self
    }

    /// Takes a response's body of at most so many bytes.
    pub fn at_most(mut self, bytes: usize) -> Call {
        self.limit = bytes;
        self
    }

    /// Does no harm when it is sent twice, which a `POST` else is never.
    pub fn repeatable(mut self) -> Call {
        self.is_repeatable = true;
        self
    }

    /// Is made for this request: carries its id and trace.
    pub fn of(mut self, request: &Request<'_>) -> Call {
        let id = HeaderValue::from_str(request.client.request_id);
        if let Some(id) = id.ok().filter(|id| !id.is_empty()) {
            self.headers.insert(REQUEST_ID, id);
        }
        if let Some(parent) = request.client.trace.map(Trace::traceparent) {
            self.headers.insert(TRACEPARENT, parent);
        }
        self
    }
}

/// The trace that a request belongs to, and the proxy's own span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span of which a call is a part.
    pub span_id: [u8; 8],
    /// Whether it is kept.
    pub sampled: bool,
}

impl Trace {
    /// As `traceparent` says it (W3C Trace Context).
    pub fn traceparent(&self) -> HeaderValue {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        self.trace_id.iter().for_each(|byte| hex(&mut text, *byte));
        text.push('-');
        self.span_id.iter().for_each(|byte| hex(&mut text, *byte));
        text.push_str(if self.sampled { "-01" } else { "-00" });
        HeaderValue::from_str(&text).expect("hexadecimal digits and dashes")
    }
}

fn hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    }
}

/// The response to a call, whole. Redirects are responses as others: nothing follows them.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body, as it came.
    pub body: Bytes,
    /// What came after the body, over HTTP/2 only; gRPC's status is there.
    pub trailers: HeaderMap,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// In a dry run: nobody was asked.
    Unknown(Unknown),
    /// The pool has no endpoint that can be used.
    NoEndpoint,
    /// Every address is one that the proxy must not connect to (`ssrf_guard`).
    Forbidden,
    /// As many calls are under way as may be.
    Full,
    /// No whole response came in time.
    TimedOut,
    /// No connection, or one that broke; the text is for logs.
    Broken(String),
    /// The response's body is longer than the call takes.
    TooLarge,
}

impl CallFailure {
    /// The event that counts it.
    pub fn event(&self) -> Option<&'static str> {
        match self {
            CallFailure::Unknown(_) => None,
            CallFailure::NoEndpoint => Some("call_no_endpoint"),
            CallFailure::Forbidden => Some("call_forbidden"),
            CallFailure::Full => Some("call_full"),
            CallFailure::TimedOut => Some("call_timed_out"),
            CallFailure::Broken(_) => Some("call_broken"),
            CallFailure::TooLarge => Some("call_too_large"),
        }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallFailure::Unknown(what) => write!(f, "is not asked in a dry run: {}", what.0),
            CallFailure::NoEndpoint => f.write_str("has no endpoint that can be used"),
            CallFailure::Forbidden => f.write_str("has only addresses that `ssrf_guard` forbids"),
            CallFailure::Full => f.write_str("has too many calls under way"),
            CallFailure::TimedOut => f.write_str("did not answer in time"),
            CallFailure::Broken(why) => write!(f, "could not be asked: {why}"),
            CallFailure::TooLarge => f.write_str("answered with a body that is too large"),
        }
    }
}

/// What comes of a call.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Reply, CallFailure>> + Send>>;

/// Carries calls to one target.
pub trait Carrier: Send + Sync {
    /// Makes a call.
    fn carry(&self, call: Call) -> CallFuture;
}

/// Finds what carries calls and opens wires, while plugins are built.
pub trait Carriers {
    /// What carries calls to a target.
    ///
    /// # Errors
    /// Why nothing can, at `url` or `pool`.
    fn carrier(&self, target: &Target, origin: &Origin) -> Result<Arc<dyn Carrier>, Problem>;

    /// What opens wires to a peer that speaks no HTTP.
    ///
    /// # Errors
    /// Why nothing can, at no path of its own.
    fn wires(&self, settings: &WireSettings) -> Result<Arc<dyn Wires>, Problem>;
}

/// Calls one target. Cheap to clone.
///
/// What a call tells of an endpoint counts as what a request tells: load, latency and, by the pool's `ejection`, failures. So an
/// endpoint that refuses, breaks or stays silent is ejected as it would be for requests, and a slow one only gets fewer calls.
#[derive(Clone)]
pub struct Caller(Arc<Called>);

struct Called {
    carrier: Arc<dyn Carrier>,
    host: HeaderValue,
    path: String,
    /// The URL without its query, for explanations and logs.
    about: String,
    answered: Counter,
    failed: Vec<(&'static str, Counter)>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.0.about)
    }
}

impl Caller {
    pub(super) fn new(
        origin: &Origin,
        carrier: Arc<dyn Carrier>,
        counter: &dyn Fn(&'static str) -> Counter,
    ) -> Result<Caller, Problem> {
        let host = HeaderValue::from_str(&origin.authority());
        let host = host.map_err(|_| Problem::at("url", "the URL's host cannot be sent"))?;
        let path = origin.path.split('?').next().unwrap_or_default();
        Ok(Caller(Arc::new(Called {
            carrier,
            host,
            path: origin.path.clone(),
            about: format!("{}{path}", origin.name()),
            answered: counter("call_answered"),
            failed: FAILURES.map(|event| (event, counter(event))).into(),
        })))
    }

    /// The target's URL without its query.
    pub fn about(&self) -> &str {
        &self.0.about
    }

    /// The target's path and query.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// A `GET` of the target's URL: 5 seconds, a body of at most 1 MiB.
    pub fn get(&self) -> Call {
        self.call_with(Method::GET, Bytes::new())
    }

    /// A `POST` to the target's URL with a body of this media type.
    pub fn post(&self, media: &'static str, body: impl Into<Bytes>) -> Call {
        let call = self.call_with(Method::POST, body.into());
        call.with(CONTENT_TYPE, HeaderValue::from_static(media))
    }

    fn call_with(&self, method: Method, body: Bytes) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("windrose"));
        Call {
            is_repeatable: method.is_safe(),
            method,
            path: self.0.path.clone(),
            headers,
            body,
            timeout: TIMEOUT,
            limit: LIMIT,
        }
    }

    /// Makes a call. Dropping the future gives it up.
    ///
    /// # Errors
    /// Why there is no response; where effects are not live, that it would have to ask.
    pub async fn call(&self, effects: Effects, mut call: Call) -> Result<Reply, CallFailure> {
        let called = &self.0;
        if !effects.is_live() {
            let about = Cow::Owned(called.about.clone());
            return Err(CallFailure::Unknown(Unknown(about)));
        }
        call.headers.insert(HOST, called.host.clone());
        let result = called.carrier.carry(call).await;
        match &result {
            Ok(_) => (called.answered)(1),
            Err(failure) => {
                let is_of = |(event, _): &&(&str, Counter)| Some(*event) == failure.event();
                if let Some((_, counter)) = called.failed.iter().find(is_of) {
                    counter(1);
                }
            }
        }
        result
    }

    /// What a hook says that could not do its work without the response; in a dry run, what it would have asked.
    pub fn failed(&self, failure: CallFailure, cause: &'static Cause) -> Verdict {
        match failure {
            CallFailure::Unknown(what) => Verdict::Unknown(what),
            failure => Verdict::Failed {
                cause,
                reason: format!("{} {failure}", self.0.about),
            },
        }
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TIMEOUT: Duration = Duration::from_secs(5);
const LIMIT: usize = 1 << 20;
const FAILURES: [&str; 6] = [
    "call_no_endpoint",
    "call_forbidden",
    "call_full",
    "call_timed_out",
    "call_broken",
    "call_too_large",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_counter_and_words() {
        let failures = [
            CallFailure::NoEndpoint,
            CallFailure::Forbidden,
            CallFailure::Full,
            CallFailure::TimedOut,
            CallFailure::Broken("reset".to_owned()),
            CallFailure::TooLarge,
        ];
        let events: Vec<_> = failures.iter().filter_map(CallFailure::event).collect();

        assert_eq!(events, FAILURES);
        assert!(failures
            .iter()
            .all(|failure| !failure.to_string().is_empty()));
    }

    #[test]
    fn a_trace_is_said_as_the_standard_wants() {
        let trace = Trace {
            trace_id: *b"\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c",
            span_id: *b"\xb7\xad\x6b\x71\x69\x20\x33\x31",
            sampled: true,
        };

        let expected = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace.traceparent(), expected);
    }
}
