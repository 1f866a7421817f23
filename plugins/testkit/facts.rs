//! What is known of a client, and what hooks see besides heads, for tests.
//! It must not know hooks.
//! Part of the kit.

use std::net::IpAddr;
use std::sync::Arc;

use pingora_http::RequestHeader;

use crate::contract::{ClientCertificate, ClientFacts, Effects, Principal, Request, Slots, Trace};

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
}

impl Facts {
    pub(super) fn view(&self) -> ClientFacts<'_> {
        ClientFacts {
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
            slots: &mut self.slots,
            effects: self.effects,
        }
    }
}
