//! What anyone may ask: whether the authority can sign, and its roots. Read from disk now and then, not for each who asks.
//! It must not know HTTP.
//! Asked by the server.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::ca::authority::{Authority, Refusal};
use crate::ca::sign::EXPIRED;
use crate::ca::unix_now;

/// What was read last.
#[derive(Default)]
pub(super) struct Public(Mutex<Option<View>>);

/// Costs nothing to copy.
#[derive(Clone)]
pub(super) struct View {
    pub(super) pem: Bytes,
    pub(super) jwks: Bytes,
    issuer_ends: u64,
    read: Instant,
    changed: Option<SystemTime>,
}

impl Public {
    pub(super) fn view(&self, authority: &Authority) -> Result<View, String> {
        let changed = authority.changed();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |view: &&View| view.changed == changed && view.read.elapsed() < OLDEST;
        if let Some(view) = held.as_ref().filter(is_fresh) {
            return Ok(view.clone());
        }
        let state = authority.state()?;
        let view = View {
            pem: authority.trusted(&state)?.roots.concat().into(),
            jwks: authority.jwks()?.into(),
            issuer_ends: authority.issuer_ends(&state)?.0,
            read: Instant::now(),
            changed,
        };
        *held = Some(view.clone());
        Ok(view)
    }
}

impl View {
    /// Whether the authority can sign.
    pub(super) fn health(&self) -> Result<&'static str, Refusal> {
        match self.issuer_ends > unix_now() {
            true => Ok("ok\n"),
            false => Err(Refusal::new(503, EXPIRED, "the issuer's certificate ended")),
        }
    }
}

const OLDEST: Duration = Duration::from_secs(2);
