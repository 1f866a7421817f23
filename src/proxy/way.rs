//! Mutual TLS or not: which way a connection goes by its first bytes and the listener's `mtls`.
//! It must not go there.
//! Called by `accept`.

use windrose_plugins::contract::causes;

use super::accept::{Arrival, Refusal};
use super::hello::Opening;
use super::sniff::Heard;
use super::tcp::Dialled;
use crate::snapshot::listener::{Listener, Protocol};
use crate::snapshot::mtls::{Inbound, Mode};

/// What becomes of a connection, by the listener's `mtls`.
pub(super) enum Way<'l> {
    /// What the listener does without.
    Plain(Heard),
    /// It is carried as bytes; the name asked for, where it is TLS, and what it is carried on, where that is there.
    Bytes(Option<Option<String>>, Option<Box<Dialled>>),
    /// Another workload's; the name asked for.
    Mutual(&'l Inbound, Option<String>),
}

/// Mutual TLS, or what a permissive port takes in the clear.
pub(super) fn way<'l>(
    listener: &'l Listener,
    arrival: &Arrival,
    heard: Heard,
) -> Result<Way<'l>, Refusal> {
    let Some(mtls) = &listener.mtls else {
        return Ok(Way::Plain(heard));
    };
    let is_strict = mtls.mode(arrival.local.port()) == Mode::Strict;
    match heard.opening {
        Opening::Unknown => Ok(Way::Plain(Opening::Unknown.into())),
        Opening::Tls(sni)
            if !is_strict && sni.as_ref().is_some_and(|sni| listener.tcp.names(sni)) =>
        {
            Ok(Way::Bytes(Some(sni), None))
        }
        Opening::Tls(sni) => Ok(Way::Mutual(mtls, sni)),
        opening if is_strict => Err(Refusal::new(
            &causes::MTLS_PLAINTEXT_REFUSED,
            format!("client sent {}", word(&opening)),
        )),
        _ if matches!(listener.protocol, Protocol::Tcp) => Ok(Way::Bytes(None, heard.dialled)),
        opening => Ok(Way::Plain(Heard { opening, ..heard })),
    }
}

impl Way<'_> {
    /// Whether a strict port would refuse it.
    pub(super) fn is_in_the_clear(&self) -> bool {
        match self {
            Way::Plain(heard) => !matches!(heard.opening, Opening::Tls(_) | Opening::Unknown),
            Way::Bytes(..) => true,
            Way::Mutual(..) => false,
        }
    }
}

/// In words, for details.
pub(super) fn word(opening: &Opening) -> &'static str {
    match opening {
        Opening::Tls(_) => "TLS",
        Opening::Http1 => "HTTP/1 in the clear",
        Opening::Http2 => "HTTP/2 in the clear",
        Opening::Opaque => "bytes of no protocol known here",
        Opening::Unknown => "nothing",
    }
}
