//! Spans of a finished request, and their form in OpenTelemetry.
//! It must not know how or whether they are sent.
//! The fast path fills a `FinishedSpan` for sampled requests; the exporter's thread turns it into OTLP.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use windrose_plugins::contract::Cause;

use super::TraceContext;

/// A request that is over: one SERVER span, and a CLIENT span below it for each attempt.
#[derive(Debug, Clone)]
pub struct FinishedSpan {
    /// The trace and the span's own id.
    pub context: TraceContext,
    /// When the request's header had arrived.
    pub start: SystemTime,
    /// Wall time to the end.
    pub duration: Duration,
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host asked for.
    pub host: String,
    /// The path, without its query: queries hold secrets.
    pub path: String,
    /// `1.0`, `1.1` or `2`.
    pub protocol_version: &'static str,
    /// The client's address.
    pub client: IpAddr,
    /// The client's `user-agent`.
    pub user_agent: Option<String>,
    /// The status sent; 0 when nothing was sent.
    pub status: u16,
    /// Set when the proxy answered or cut the response itself.
    pub cause: Option<&'static Cause>,
    /// The listener's name.
    pub listener: String,
    /// The route's name; empty when none matched.
    pub route: String,
    /// The pool's name; empty when none was chosen.
    pub pool: String,
    /// The request id.
    pub request_id: String,
    /// Who called, if proven.
    pub principal: Option<String>,
    /// The policy and rule that refused it; empty where policies in audit mode only would have.
    pub policy: Option<String>,
    /// Attempts at endpoints, in order.
    pub attempts: Vec<AttemptSpan>,
}

/// One attempt at an endpoint.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// What [`TraceContext::begin_attempt`] returned.
    pub span_id: [u8; 8],
    /// When the endpoint was chosen.
    pub start: SystemTime,
    /// Time to the end of the response, or to the failure.
    pub duration: Duration,
    /// The endpoint's name.
    pub endpoint: String,
    /// The status it answered; `None` when it did not.
    pub status: Option<u16>,
    /// Why the attempt failed.
    pub cause: Option<&'static Cause>,
    /// Whether it used a connection that was there.
    pub reused: bool,
}

impl FinishedSpan {
    /// Appends the spans in OpenTelemetry's form, attributes named by its semantic conventions for HTTP.
    pub(super) fn export_into(self, scope: &InstrumentationScope, spans: &mut Vec<SpanData>) {
        for (index, attempt) in self.attempts.iter().enumerate() {
            spans.push(self.attempt(attempt, index, scope));
        }
        let mut attributes = self.shared_attributes();
        attributes.extend([
            text("url.path", self.path.clone()),
            text("url.scheme", self.scheme),
            text("server.address", self.host.clone()),
            text("client.address", self.client.to_string()),
            text("network.protocol.name", "http"),
            text("network.protocol.version", self.protocol_version),
            text("windrose.listener", self.listener.clone()),
            text("windrose.request_id", self.request_id.clone()),
            number("windrose.retries", self.attempts.len().saturating_sub(1)),
        ]);
        push_text(
            &mut attributes,
            "user_agent.original",
            self.user_agent.as_deref(),
        );
        push_text(
            &mut attributes,
            "windrose.principal",
            self.principal.as_deref(),
        );
        push_text(&mut attributes, "windrose.policy", self.policy.as_deref());
        let status = Some(self.status).filter(|status| *status != 0);
        push_status(&mut attributes, status, self.cause, FIRST_SERVER_ERROR);
        let parent = self.context.parent;
        spans.push(SpanData {
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: parent.is_some(),
            span_kind: SpanKind::Server,
            name: self.name().into(),
            status: state(status, self.cause, FIRST_SERVER_ERROR),
            ..self.data(
                self.context.span_id,
                self.start,
                self.duration,
                attributes,
                scope,
            )
        });
    }

    fn attempt(
        &self,
        attempt: &AttemptSpan,
        index: usize,
        scope: &InstrumentationScope,
    ) -> SpanData {
        let (address, port) = split_port(&attempt.endpoint);
        let mut attributes = self.shared_attributes();
        attributes.push(text("server.address", address.to_owned()));
        if let Some(port) = port {
            attributes.push(number("server.port", port.into()));
        }
        attributes.push(text("windrose.endpoint", attempt.endpoint.clone()));
        attributes.push(KeyValue::new("windrose.connection_reused", attempt.reused));
        if index > 0 {
            attributes.push(number("http.request.resend_count", index));
        }
        push_status(
            &mut attributes,
            attempt.status,
            attempt.cause,
            FIRST_CLIENT_ERROR,
        );
        SpanData {
            parent_span_id: SpanId::from_bytes(self.context.span_id),
            span_kind: SpanKind::Client,
            name: format!("{} {}", self.known_method(), self.pool).into(),
            status: state(attempt.status, attempt.cause, FIRST_CLIENT_ERROR),
            ..self.data(
                attempt.span_id,
                attempt.start,
                attempt.duration,
                attributes,
                scope,
            )
        }
    }

    fn shared_attributes(&self) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(20);
        let method = self.known_method();
        attributes.push(text("http.request.method", method.to_owned()));
        if method != self.method {
            let original = self.method.clone();
            attributes.push(text("http.request.method_original", original));
        }
        push_text(&mut attributes, "windrose.route", Some(&self.route));
        push_text(&mut attributes, "windrose.pool", Some(&self.pool));
        attributes
    }

    fn data(
        &self,
        span_id: [u8; 8],
        start: SystemTime,
        duration: Duration,
        attributes: Vec<KeyValue>,
        scope: &InstrumentationScope,
    ) -> SpanData {
        let state = self.context.state.as_deref().unwrap_or_default();
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(self.context.trace_id),
                SpanId::from_bytes(span_id),
                TraceFlags::SAMPLED,
                false,
                state.parse().unwrap_or(TraceState::NONE),
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: start,
            end_time: start + duration,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope.clone(),
        }
    }

    /// Names must be few, so neither path nor an invented method may be in one.
    fn name(&self) -> String {
        match (self.known_method(), self.route.as_str()) {
            ("_OTHER", "") => "HTTP".into(),
            ("_OTHER", route) => format!("HTTP {route}"),
            (method, "") => method.into(),
            (method, route) => format!("{method} {route}"),
        }
    }

    fn known_method(&self) -> &str {
        const KNOWN: [&str; 9] = [
            "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE",
        ];
        if KNOWN.contains(&self.method.as_str()) {
            &self.method
        } else {
            "_OTHER"
        }
    }
}

fn push_text(attributes: &mut Vec<KeyValue>, key: &'static str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        attributes.push(text(key, value.to_owned()));
    }
}

fn push_status(
    attributes: &mut Vec<KeyValue>,
    status: Option<u16>,
    cause: Option<&'static Cause>,
    first_error: u16,
) {
    if let Some(status) = status {
        attributes.push(number("http.response.status_code", status.into()));
    }
    if let Some(cause) = cause {
        attributes.push(text("windrose.why", cause.name));
        attributes.push(text("windrose.blame", cause.blame.as_str()));
    }
    if is_error(status, cause, first_error) {
        let kind: Value = match (cause, status) {
            (Some(cause), _) => cause.name.into(),
            (None, status) => status.unwrap_or_default().to_string().into(),
        };
        attributes.push(KeyValue::new("error.type", kind));
    }
}

fn is_error(status: Option<u16>, cause: Option<&Cause>, first_error: u16) -> bool {
    match status {
        Some(status) => status >= first_error,
        None => cause.is_some(),
    }
}

fn state(status: Option<u16>, cause: Option<&'static Cause>, first_error: u16) -> Status {
    if is_error(status, cause, first_error) {
        Status::error(cause.map_or("", |cause| cause.title))
    } else {
        Status::Unset
    }
}

fn split_port(endpoint: &str) -> (&str, Option<u16>) {
    match endpoint.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (
                host.trim_start_matches('[').trim_end_matches(']'),
                Some(port),
            ),
            Err(_) => (endpoint, None),
        },
        None => (endpoint, None),
    }
}

fn text(key: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(key, value)
}

fn number(key: &'static str, value: usize) -> KeyValue {
    KeyValue::new(key, value as i64)
}

/// A server's 4xx is the client's mistake and no error of the span; for a client, every 4xx is.
const FIRST_SERVER_ERROR: u16 = 500;
const FIRST_CLIENT_ERROR: u16 = 400;
