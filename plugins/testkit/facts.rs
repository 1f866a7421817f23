//! What is known of a client, and what hooks see besides heads, for tests.
//! It must not know hooks.
//! Part of the kit.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::Version;
use pingora_http::RequestHeader;

use super::Exchange;
use crate::contract::{
    ClientCertificate, ClientFacts, Effects, Part, Principal, Request, Slots, Trace,
};

/// [`ClientFacts`], owned.
pub(super) struct Facts {
    pub(super) address: IpAddr,
    pub(super) secure: bool,
    pub(super) listener: String,
    pub(super) route: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) request_id: String,
    pub(super) trusted_peer: bool,
    pub(super) trace: Option<Trace>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// A body follows that the head does not announce.
    pub(super) streams: bool,
}

impl Facts {
    /// What is known of the client that sent this head.
    pub(super) fn view(&self, head: &RequestHeader) -> ClientFacts<'_> {
        let length = head.headers.get(CONTENT_LENGTH);
        let announces = match length {
            Some(length) => length.as_bytes() != b"0",
            None => head.headers.contains_key(TRANSFER_ENCODING),
        };
        ClientFacts {
            sends_body: announces || self.streams,
            address: self.address,
            secure: self.secure,
            listener: &self.listener,
            route: &self.route,
            host: &self.host,
            path: &self.path,
            request_id: &self.request_id,
            trusted_peer: self.trusted_peer,
            trace: self.trace.as_ref(),
            certificate: self.certificate.as_deref(),
        }
    }
}

/// What hooks see besides the heads.
pub(super) struct Seen {
    pub(super) principal: Option<Principal>,
    pub(super) slots: Slots,
    pub(super) effects: Effects,
}

impl Seen {
    pub(super) fn request<'a>(
        &'a mut self,
        head: &'a mut RequestHeader,
        client: &'a ClientFacts<'a>,
    ) -> Request<'a> {
        Request {
            head,
            client,
            principal: &mut self.principal,
            body: None,
            upstream: None,
            slots: &mut self.slots,
            effects: self.effects,
        }
    }
}

impl Exchange {
    /// The id the proxy gave the request.
    pub fn with_id(mut self, request_id: &str) -> Exchange {
        self.facts.request_id = request_id.to_owned();
        self
    }

    /// The canonical path, where it differs from the one in the request line.
    pub fn with_path(mut self, path: &str) -> Exchange {
        self.facts.path = path.to_owned();
        self
    }

    /// A body follows whose length nobody says, as HTTP/2 allows without a word in the head.
    pub fn streaming(mut self) -> Exchange {
        self.facts.streams = true;
        self.over_http2()
    }

    /// The request came over HTTP/2: its host is in the target, and there is no field of that name.
    ///
    /// # Panics
    /// When the host and target are none.
    pub fn over_http2(mut self) -> Exchange {
        let scheme = if self.facts.secure { "https" } else { "http" };
        let target = self
            .request
            .uri
            .path_and_query()
            .map_or("/", |it| it.as_str());
        let uri = format!("{scheme}://{}{target}", self.facts.host);
        self.request
            .set_uri(uri.parse().expect("the parts were parsed before"));
        self.request.set_version(Version::HTTP_2);
        self.request.remove_header("host");
        self
    }

    /// The request comes from a peer the operator trusts.
    pub fn trusted(mut self) -> Exchange {
        self.facts.trusted_peer = true;
        self
    }

    /// The trace it belongs to.
    pub fn in_trace(mut self, trace: Trace) -> Exchange {
        self.facts.trace = Some(trace);
        self
    }

    /// What plugins inside of the one that ran said, in a dry run.
    pub fn parts(&mut self) -> Vec<Part> {
        self.seen.slots.take_parts()
    }
}
