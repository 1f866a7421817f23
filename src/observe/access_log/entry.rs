//! What is known about a finished request, and the two forms of its line.
//! It must not know where lines go.
//! The fast path fills an `Entry` from what it has at hand; `AccessLog::log` formats it.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use windrose_plugins::contract::{Cause, Said};

use super::{escape, stamp};
use crate::observe::redact;

/// One finished request, or one TCP connection where HTTP's fields are empty. Empty text is left out of the line.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When the request's header had arrived.
    pub time: SystemTime,
    /// The client, after trust in forwarded headers was settled.
    pub client: &'a str,
    /// The client's port; 0 where a header told the address.
    pub client_port: u16,
    /// Where a captured connection was going; `None` for others.
    pub destination: Option<SocketAddr>,
    /// The listener's name.
    pub listener: &'a str,
    /// The listener's role.
    pub role: &'a str,
    /// The route's name; empty when none matched.
    pub route: &'a str,
    /// Index of the route's rule.
    pub rule: usize,
    /// The pool's name; empty when none was chosen.
    pub pool: &'a str,
    /// The endpoint of the last attempt.
    pub endpoint: &'a str,
    /// The method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host asked for.
    pub host: &'a str,
    /// The target as received, with its query. Values of query keys that tell a secret are redacted in the line.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0`, `TCP`.
    pub protocol: &'a str,
    /// The status sent; 0 when nothing was sent.
    pub status: u16,
    /// Set when the proxy answered or cut the response itself.
    pub cause: Option<&'static Cause>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Wall time from the request's header to the end.
    pub duration: Duration,
    /// Time from the last attempt's begin to its response header.
    pub upstream_duration: Option<Duration>,
    /// Attempts at endpoints.
    pub attempts: u8,
    /// Whether the last attempt used a connection that was there.
    pub reused: bool,
    /// The request id.
    pub request_id: &'a str,
    /// The trace id, in hex.
    pub trace_id: Option<&'a str>,
    /// Who called, if proven.
    pub principal: Option<&'a str>,
    /// The policy and rule that refused it; empty where none did.
    pub policy: &'a str,
    /// What policies in audit mode would have changed; empty for nothing.
    pub audit: &'a str,
    /// What a cache did, in one word; empty where none was asked.
    pub cache: &'a str,
    /// The `user-agent` field as received.
    pub user_agent: Option<&'a [u8]>,
    /// The `referer` field as received; its query is redacted as that of `path`.
    pub referer: Option<&'a [u8]>,
    /// The TLS version of the client's connection.
    pub tls_version: Option<&'a str>,
    /// The server name the client's TLS asked for.
    pub sni: Option<&'a str>,
    /// `grpc-status` of a gRPC call.
    pub grpc_status: Option<u16>,
    /// What plugins said of it, by names that need no escape; only in the line of JSON.
    pub notes: &'a [(&'static str, Said)],
}

type Escape = fn(&mut Vec<u8>, &[u8]);

/// A member's key with what stands before and after it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

impl Entry<'_> {
    /// Appends the line as one JSON object.
    pub fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        stamp::rfc3339(out, self.time);
        out.push(b'"');
        let mut object = Object(out);
        self.json_request(&mut object);
        self.json_outcome(&mut object);
        self.json_caller(&mut object);
        out.extend_from_slice(b"}\n");
    }

    fn json_request(&self, object: &mut Object<'_>) {
        object.name(key!("listener"), self.listener);
        object.name(key!("role"), self.role);
        object.name(key!("client"), self.client);
        object.number(key!("client_port"), self.client_port.into());
        if let Some(destination) = self.destination {
            object.name(key!("destination"), &destination.to_string());
        }
        object.text(key!("method"), self.method);
        object.name(key!("scheme"), self.scheme);
        object.text(key!("host"), self.host);
        let (path, query) = split(self.path.as_bytes());
        object.bytes(key!("path"), path);
        if let Some(query) = query {
            let out = object.open_text(key!("query"));
            redact::query(cap(query).0, |piece| escape::json(out, piece));
            object.close_text(cap(query).1);
        }
        object.name(key!("protocol"), self.protocol);
    }

    fn json_outcome(&self, object: &mut Object<'_>) {
        object.number(key!("status"), self.status.into());
        if let Some(cause) = self.cause {
            object.name(key!("why"), cause.name);
            object.name(key!("blame"), cause.blame.as_str());
        }
        object.name(key!("policy"), self.policy);
        object.name(key!("policy_audit"), self.audit);
        if !self.route.is_empty() {
            object.name(key!("route"), self.route);
            object.number(key!("rule"), self.rule as u64);
        }
        object.name(key!("cache"), self.cache);
        object.name(key!("pool"), self.pool);
        if !self.endpoint.is_empty() {
            object.text(key!("endpoint"), self.endpoint);
            object.raw(key!("reused"), if self.reused { b"true" } else { b"false" });
        }
        object.number(key!("attempts"), self.attempts.into());
        object.number(key!("request_bytes"), self.request_bytes);
        object.number(key!("response_bytes"), self.response_bytes);
        object.millis(key!("duration_ms"), self.duration);
        if let Some(duration) = self.upstream_duration {
            object.millis(key!("upstream_ms"), duration);
        }
        if let Some(status) = self.grpc_status {
            object.number(key!("grpc_status"), status.into());
        }
    }

    fn json_caller(&self, object: &mut Object<'_>) {
        object.text(key!("request_id"), self.request_id);
        object.name(key!("trace_id"), self.trace_id.unwrap_or_default());
        object.text(key!("principal"), self.principal.unwrap_or_default());
        object.bytes(key!("user_agent"), self.user_agent.unwrap_or_default());
        if let Some(referer) = self.referer {
            let (page, query) = split(cap(referer).0);
            let out = object.open_text(key!("referer"));
            reference(out, page, query, escape::json);
            object.close_text(cap(referer).1);
        }
        object.name(key!("tls_version"), self.tls_version.unwrap_or_default());
        object.text(key!("sni"), self.sni.unwrap_or_default());
        for (name, said) in self.notes {
            object.note(name, said);
        }
    }

    /// Appends the line in Apache's combined format with our fields at the end.
    pub(super) fn combined(&self, out: &mut Vec<u8>) {
        bare(out, self.client);
        out.extend_from_slice(b" - ");
        bare(out, self.principal.unwrap_or_default());
        out.extend_from_slice(b" [");
        stamp::apache(out, self.time);
        out.extend_from_slice(b"] \"");
        escape::quoted(out, cap(self.method.as_bytes()).0);
        out.push(b' ');
        let (path, query) = split(cap(self.path.as_bytes()).0);
        reference(out, path, query, escape::quoted);
        out.push(b' ');
        escape::quoted(out, cap(self.protocol.as_bytes()).0);
        out.extend_from_slice(b"\" ");
        stamp::number(out, self.status.into());
        out.push(b' ');
        stamp::number(out, self.response_bytes);
        out.extend_from_slice(b" \"");
        let (page, query) = split(cap(self.referer.unwrap_or(b"-")).0);
        reference(out, page, query, escape::quoted);
        out.push(b'"');
        quoted(out, self.user_agent.unwrap_or_default());
        quoted(out, self.route.as_bytes());
        quoted(out, self.pool.as_bytes());
        quoted(out, self.endpoint.as_bytes());
        out.push(b' ');
        bare(out, self.cause.map_or("", |cause| cause.name));
        out.push(b' ');
        stamp::seconds(out, self.duration);
        out.push(b' ');
        bare(out, self.request_id);
        out.push(b'\n');
    }
}

/// Members of a JSON object that already has one. Keys come with their punctuation, so that each is one copy.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn open_text(&mut self, key: &str) -> &mut Vec<u8> {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'"');
        self.0
    }

    fn close_text(&mut self, cut: &str) {
        if !cut.is_empty() {
            self.0.extend_from_slice(cut.as_bytes());
        }
        self.0.push(b'"');
    }

    /// Text that cannot need an escape: a word of ours, or a name that the configuration's rules let through.
    fn name(&mut self, key: &str, name: &str) {
        if !name.is_empty() {
            self.open_text(key).extend_from_slice(name.as_bytes());
            self.close_text("");
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.bytes(key, value.as_bytes());
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        if !value.is_empty() {
            let (value, cut) = cap(value);
            escape::json(self.open_text(key), value);
            self.close_text(cut);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.0.extend_from_slice(key.as_bytes());
        stamp::number(self.0, value);
    }

    fn millis(&mut self, key: &str, value: Duration) {
        self.0.extend_from_slice(key.as_bytes());
        stamp::millis(self.0, value);
    }

    fn note(&mut self, name: &str, said: &Said) {
        let key = format!(",\"{name}\":");
        match said {
            Said::Text(text) => self.text(&key, text),
            Said::Number(number) => self.number(&key, *number),
        }
    }

    fn raw(&mut self, key: &str, value: &[u8]) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(value);
    }
}

/// A target's path and its query, without the question mark.
fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

fn reference(out: &mut Vec<u8>, path: &[u8], query: Option<&[u8]>, escape: Escape) {
    escape(out, path);
    if let Some(query) = query {
        out.push(b'?');
        redact::query(query, |piece| escape(out, piece));
    }
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b" \"");
    escape::quoted(out, cap(if text.is_empty() { b"-" } else { text }).0);
    out.push(b'"');
}

fn bare(out: &mut Vec<u8>, text: &str) {
    let text = if text.is_empty() { "-" } else { text };
    escape::bare(out, cap(text.as_bytes()).0);
}

/// The part of a field that is logged, and the mark of a cut. Without it one request's header could fill the queue.
fn cap(text: &[u8]) -> (&[u8], &'static str) {
    match text.split_at_checked(LONGEST_FIELD) {
        Some((kept, [_, ..])) => (kept, "\u{2026}"),
        _ => (text, ""),
    }
}

const LONGEST_FIELD: usize = 4096;
