//! What is known of a downstream connection, for every request on it.
//! It must not know routes or plugins, nor how its bytes are read.
//! Made by `accept`; shared by the stream that guards it and the requests it carries.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::HeaderValue;
use pingora::http::RequestHeader;
use windrose_plugins::contract::{Cause, ClientCertificate, Principal};

use super::accept::Arrival;
use crate::decide::{Tls, WireText};
use crate::snapshot::certs::{Cert, Termination};
use crate::snapshot::identity::{Proof, Workload};
use crate::snapshot::lease::Cut;
use crate::snapshot::listener::Listener;

/// What is known of a connection; reachable from every request on it.
pub(super) struct Connection {
    /// The listener as it was when the connection was accepted.
    pub(super) listener: Arc<Listener>,
    /// The client, after the PROXY protocol.
    pub(super) client: SocketAddr,
    /// The client's address without its port, as it is told to endpoints and logged.
    pub(super) address: WireText,
    /// The address the client connected to, after the PROXY protocol; where it was captured, the original destination.
    pub(super) local: SocketAddr,
    /// What the TLS handshake brought; `None` in the clear.
    pub(super) tls: Option<TlsFacts>,
    /// Whether it speaks HTTP/2.
    pub(super) http2: bool,
    /// The workload of this node at its other end, or that it is for where that is known by more than the name it asked for: who
    /// calls when its requests go on.
    pub(super) caller: Option<Arc<Workload>>,
    /// The same as a principal, where the kernel told who calls.
    known: Option<Box<Principal>>,
    /// What its other side proved itself with, where that was by mutual TLS.
    pub(super) proof: Option<Arc<Proof>>,
    /// Ends the connection's stream when its route goes away (HTTP/1 upgrades).
    pub(super) cut: Arc<Cut>,
    header_seen: AtomicBool,
    was_asked: AtomicBool,
    body: AtomicU64,
    fault: OnceLock<&'static Cause>,
}

/// What a TLS handshake brought.
pub(super) struct TlsFacts {
    /// The name asked for, in lower case.
    pub(super) sni: Option<Box<str>>,
    /// The version, such as `TLSv1.3`.
    pub(super) version: &'static str,
    /// The termination it was made with; `None` for mutual TLS.
    pub(super) termination: Option<Arc<Termination>>,
    /// The certificate that was shown.
    pub(super) cert: Option<Arc<Cert>>,
    /// Who the client's certificate names.
    pub(super) principal: Option<Principal>,
    /// That certificate, read when a plugin asks.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// What the application is told of the caller's certificate, where it was proven by mutual TLS.
    pub(super) told: Option<HeaderValue>,
}

impl TlsFacts {
    /// What a decision reads of it.
    pub(super) fn view(&self) -> Tls<'_> {
        Tls {
            sni: self.sni.as_deref(),
            termination: self.termination.as_deref(),
            cert: self.cert.as_ref(),
        }
    }
}

impl Connection {
    /// A connection about to carry requests.
    pub(super) fn new(arrival: Arrival, tls: Option<TlsFacts>, http2: bool) -> Connection {
        let Arrival {
            listener,
            client,
            local,
            caller,
            known,
            proof,
            ..
        } = arrival;
        Connection {
            listener,
            caller,
            known,
            client,
            address: WireText::new(&client.ip().to_canonical().to_string()).unwrap_or_default(),
            local,
            tls,
            http2,
            proof,
            cut: Arc::default(),
            header_seen: AtomicBool::new(false),
            was_asked: AtomicBool::new(false),
            body: AtomicU64::new(UNBOUNDED),
            fault: OnceLock::new(),
        }
    }

    /// Whom it proved: by its certificate, or, calling from this node, by what the kernel says of it.
    pub(super) fn peer(&self) -> Option<&Principal> {
        let proven = self.tls.as_ref().and_then(|tls| tls.principal.as_ref());
        proven.or(self.known.as_deref())
    }

    /// The certificate that the other end proved itself with.
    pub(super) fn certificate(&self) -> Option<Arc<ClientCertificate>> {
        self.tls.as_ref()?.certificate.clone()
    }

    /// Where it was going, if it was captured.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        let is_known = self.listener.knows_destination();
        is_known.then_some(self.local)
    }

    /// Expects a request's header from now on.
    pub(super) fn expect_header(&self) {
        self.header_seen.store(false, Relaxed);
    }

    /// Whether nobody asked this before: it is the first request.
    pub(super) fn is_first(&self) -> bool {
        !self.was_asked.swap(true, Relaxed)
    }

    /// Says that a request's header arrived whole: the guard rests until the next request.
    pub(super) fn header_arrived(&self, head: &RequestHeader) {
        if !self.http2 {
            self.body.store(body(head), Relaxed);
        }
        self.header_seen.store(true, Relaxed);
    }

    /// Whether a request's header arrived since one was expected.
    pub(super) fn has_header(&self) -> bool {
        self.header_seen.load(Relaxed)
    }

    /// Says that the request's body was read to its end: what follows belongs to the next request.
    pub(super) fn body_ended(&self) {
        if !self.http2 {
            self.body.store(0, Relaxed);
        }
    }

    /// Says that the connection left HTTP with a 101.
    pub(super) fn switched(&self) {
        self.body.store(UNBOUNDED, Relaxed);
    }

    /// How many bytes of body the request has; `None` where only the reader of chunks or another protocol knows the end.
    pub(super) fn body(&self) -> Option<u64> {
        Some(self.body.load(Relaxed)).filter(|bytes| *bytes != UNBOUNDED)
    }

    /// Says why the connection ends without a request. The first reason stays.
    pub(super) fn fail(&self, cause: &'static Cause) {
        let _ = self.fault.set(cause);
    }

    /// Why the connection ended without a request, if the guard saw it.
    pub(super) fn fault(&self) -> Option<&'static Cause> {
        self.fault.get().copied()
    }
}

/// How many bytes of body follow a header.
fn body(head: &RequestHeader) -> u64 {
    let mut bytes = 0;
    for (name, value) in &head.headers {
        match *name {
            TRANSFER_ENCODING => return UNBOUNDED,
            CONTENT_LENGTH => {
                let length = value.to_str().ok().and_then(|text| text.parse().ok());
                bytes = length.unwrap_or(UNBOUNDED);
            }
            _ => {}
        }
    }
    bytes
}

const UNBOUNDED: u64 = u64::MAX;
