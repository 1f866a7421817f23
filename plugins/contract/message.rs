//! The messages a hook reads and edits, and what is known about who sent them.
//! It must not know routes or pools; names are given as text for messages only.
//! Built by the proxy for every hook call, and by the test kit.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pingora_http::{RequestHeader, ResponseHeader};

use super::{Cause, ClientCertificate, Effects, Trace, WholeBody};

/// What kind of caller a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A workload, named by its SPIFFE ID from mutual TLS.
    Workload,
    /// A consumer of an API, named by a plugin (basic auth, API key, JWT).
    Consumer,
    /// A client certificate's subject, where it carries no SPIFFE ID.
    Certificate,
}

/// Who is calling, once something has proven it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What proved it.
    pub kind: PrincipalKind,
    /// `spiffe://…`, or the consumer's or subject's name.
    pub name: String,
    /// What a token said about it, where one proved it. Later plugins read them; nothing shows them.
    pub claims: Option<Arc<Claims>>,
}

/// What whoever issued a token says in it (RFC 7519 section 4).
pub type Claims = serde_json::Map<String, serde_json::Value>;

impl Principal {
    /// A caller of this kind and name.
    pub fn new(kind: PrincipalKind, name: impl Into<String>) -> Principal {
        Principal {
            kind,
            name: name.into(),
            claims: None,
        }
    }

    /// The consumer of this name.
    pub fn consumer(name: impl Into<String>) -> Principal {
        Principal::new(PrincipalKind::Consumer, name)
    }

    /// The form policies and logs use: SPIFFE IDs as they are, others as `consumer:NAME` or `certificate:NAME`.
    pub fn id(&self) -> String {
        match self.kind {
            PrincipalKind::Workload => self.name.clone(),
            PrincipalKind::Consumer => format!("consumer:{}", self.name),
            PrincipalKind::Certificate => format!("certificate:{}", self.name),
        }
    }
}

/// What the proxy knows about the client, after trust in forwarded headers was settled.
#[derive(Debug, Clone)]
pub struct ClientFacts<'a> {
    /// The client's address: the socket's peer, or what a trusted proxy reported.
    pub address: IpAddr,
    /// Whether the client's side is TLS (`https`).
    pub secure: bool,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name; empty before a route was decided.
    pub route: &'a str,
    /// Canonical host: lower case, no port.
    pub host: &'a str,
    /// Whether a body follows that is not known to be empty. HTTP/2 need not announce one: there it is whether the stream goes on.
    pub sends_body: bool,
    /// Canonical path: decoded where that is safe, dot segments removed. Policies must use this one.
    pub path: &'a str,
    /// The request id that is logged and forwarded.
    pub request_id: &'a str,
    /// Whether the address that sent the request id is trusted.
    pub trusted_peer: bool,
    /// The trace it belongs to, where the next hop is told of one.
    pub trace: Option<&'a Trace>,
    /// The certificate that the other end of the connection proved itself with: the client, or a proxy in front of it.
    pub certificate: Option<&'a ClientCertificate>,
}

/// A connection that was just accepted, for `on_connection` hooks.
#[derive(Debug)]
pub struct ConnectionView<'a> {
    /// The client's address, after the PROXY protocol.
    pub address: IpAddr,
    /// The listener's name.
    pub listener: &'a str,
}

/// A request on its way to a decision or upstream.
pub struct Request<'a> {
    /// Request line and fields, to read and edit.
    pub head: &'a mut RequestHeader,
    /// Who sent it and where it goes.
    pub client: &'a ClientFacts<'a>,
    /// The caller, if proven. Authentication plugins set it.
    pub principal: &'a mut Option<Principal>,
    /// The whole body, for hooks that were attached with `with_whole_body`; `None` for all others.
    pub body: Option<Box<WholeBody>>,
    /// The endpoint of this attempt, for hooks on the request as it goes upstream; `None` for all others, and in dry runs, which
    /// choose none.
    pub upstream: Option<&'a Upstream<'a>>,
    /// State a plugin keeps from request to response.
    pub slots: &'a mut Slots,
    /// Whether effects are real or this is a dry run.
    pub effects: Effects,
}

/// Where an attempt goes.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// The endpoint's address.
    pub endpoint: &'a str,
    /// The endpoint's labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// A response on its way to the client, from upstream or made by the proxy.
pub struct Response<'a> {
    /// Status line and fields, to read and edit.
    pub head: &'a mut ResponseHeader,
    /// Request line and fields as received.
    pub request: &'a RequestHeader,
    /// Who asked.
    pub client: &'a ClientFacts<'a>,
    /// Set when the proxy made this answer itself.
    pub cause: Option<&'static Cause>,
    /// State kept since the request.
    pub slots: &'a mut Slots,
    /// Whether effects are real or this is a dry run.
    pub effects: Effects,
}

/// A request that is over, for `on_finish` hooks.
pub struct Finished<'a> {
    /// Final status; 0 when nothing was sent.
    pub status: u16,
    /// Set when the proxy answered or cut the response itself.
    pub cause: Option<&'static Cause>,
    /// When the request's header had arrived.
    pub at: SystemTime,
    /// Wall time from the request header to the end.
    pub duration: Duration,
    /// Who asked.
    pub client: &'a ClientFacts<'a>,
    /// Who called, if proven.
    pub principal: Option<&'a Principal>,
    /// Request line and fields, with what request hooks changed.
    pub request: &'a RequestHeader,
    /// Status line and fields of the response as sent; `None` when nothing was sent.
    pub response: Option<&'a ResponseHeader>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// The pool's name; empty when none was chosen.
    pub pool: &'a str,
    /// The endpoint of the last attempt; empty when there was none.
    pub endpoint: &'a str,
    /// Attempts at endpoints.
    pub attempts: u8,
    /// Time from the first attempt's begin to the response's header.
    pub upstream_duration: Option<Duration>,
    /// The trace id in hex, if the request is part of a trace.
    pub trace_id: Option<&'a str>,
    /// What plugins noted of it with [`Slots::note`].
    pub notes: &'a [(&'static str, Said)],
    /// Appends the access log's line of the request: a JSON object and a line feed, secrets in queries redacted.
    pub line: &'a dyn Fn(&mut Vec<u8>),
    /// State kept since the request.
    pub slots: &'a mut Slots,
}

/// A typed place for one plugin instance's per-request state. Make it once in `build`.
#[derive(Debug)]
pub struct Slot<T> {
    id: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl<T: Send + Sync + 'static> Slot<T> {
    pub(super) fn new() -> Slot<T> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Slot {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            of: PhantomData,
        }
    }
}

/// The per-request state of all plugins of a chain. Empty costs nothing; a linear scan, since chains are short.
#[derive(Default)]
pub struct Slots(Vec<(usize, Box<dyn Any + Send + Sync>)>);

impl Slots {
    /// Puts a value, replacing an earlier one of the same slot.
    pub fn put<T: Send + Sync + 'static>(&mut self, slot: Slot<T>, value: T) {
        self.0.retain(|(id, _)| *id != slot.id);
        self.0.push((slot.id, Box::new(value)));
    }

    /// The value of the slot, if this request put one.
    pub fn value<T: Send + Sync + 'static>(&self, slot: Slot<T>) -> Option<&T> {
        self.0
            .iter()
            .find(|(id, _)| *id == slot.id)?
            .1
            .downcast_ref()
    }

    /// The value of the slot, to change.
    pub fn value_mut<T: Send + Sync + 'static>(&mut self, slot: Slot<T>) -> Option<&mut T> {
        self.0
            .iter_mut()
            .find(|(id, _)| *id == slot.id)?
            .1
            .downcast_mut()
    }

    /// Says something of the request in its line of the access log, and in what plugins write of it: a name of the plugin's own, such
    /// as `llm_model`, in place of what was said under it before. The last one counts that is said before the request is over; in a
    /// finish hook it is too late. At most 32 names.
    pub fn note(&mut self, name: &'static str, said: Said) {
        if !self.0.iter().any(|(id, _)| *id == NOTES) {
            self.0.push((NOTES, Box::new(Notes::new())));
        }
        let Some(notes) = self.notes_mut() else {
            return;
        };
        match notes.iter().position(|(known, _)| *known == name) {
            Some(at) => notes[at].1 = said,
            None if notes.len() < MOST_NOTES => notes.push((name, said)),
            None => {}
        }
    }

    /// What was said of the request, which is over then.
    pub fn take_notes(&mut self) -> Vec<(&'static str, Said)> {
        self.notes_mut().map(std::mem::take).unwrap_or_default()
    }

    /// In a dry run, tells what a plugin said that is inside of this one. Traffic has nobody to tell.
    pub fn part(&mut self, part: Part) {
        match self.parts_mut() {
            Some(parts) => parts.push(part),
            None => self.0.push((PARTS, Box::new(vec![part]))),
        }
    }

    /// What was told of parts, in order.
    pub fn take_parts(&mut self) -> Vec<Part> {
        self.parts_mut().map(std::mem::take).unwrap_or_default()
    }

    fn parts_mut(&mut self) -> Option<&mut Vec<Part>> {
        let (_, parts) = self.0.iter_mut().find(|(id, _)| *id == PARTS)?;
        parts.downcast_mut()
    }

    fn notes_mut(&mut self) -> Option<&mut Notes> {
        let (_, notes) = self.0.iter_mut().find(|(id, _)| *id == NOTES)?;
        notes.downcast_mut()
    }
}

/// What a plugin says of a request for its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(u64),
}

/// What a plugin said that is inside of another one, such as one of `auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which plugin.
    pub kind: String,
    /// Where it stands in the settings of the one around it, such as `of[0]`.
    pub path: String,
    /// How many are around it, less one.
    pub depth: u8,
    /// What it said.
    pub turn: PartTurn,
}

/// A word of a [`Part`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartTurn {
    /// It would let the request go on, and proves this principal, if any.
    Continued(Option<String>),
    /// It would answer with this status and cause.
    Answered(u16, &'static Cause),
    /// It could not do its work.
    Failed(&'static Cause, String),
    /// It would have to ask this.
    Unknown(String),
    /// What came before it has decided.
    NotReached,
}

type Notes = Vec<(&'static str, Said)>;

/// No slot has this number: they are given from zero.
const NOTES: usize = usize::MAX;
const PARTS: usize = usize::MAX - 1;
const MOST_NOTES: usize = 32;
