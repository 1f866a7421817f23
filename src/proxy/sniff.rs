//! What a connection speaks, by its first bytes; where both sides may begin, by whoever speaks first.
//! It must not know what follows from it.
//! Called by `accept` for listeners that look, on connections as they come and on what is inside TLS and tunnels.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use windrose_plugins::contract::causes;

use super::accept::{Arrival, Refusal};
use super::hello::{opening, Opening, MOST};
use super::tcp::{self, Dialled};
use super::Shared;
use crate::observe::metrics::Detected;
use crate::snapshot::capture::Hint;
use crate::snapshot::listener::{Listener, Protocol};
use crate::snapshot::mtls::Mode;

/// What can be looked at before it is read.
pub(super) trait Look: Send + Sync {
    /// Reads more bytes to look at; all of them so far, or `None` at the end of the stream. Those stay also when it is dropped
    /// half-way.
    fn look(&mut self, most: usize) -> impl Future<Output = io::Result<Option<&[u8]>>> + Send;

    /// The bytes looked at so far.
    fn seen(&self) -> &[u8];
}

/// What was heard of a connection.
pub(super) struct Heard {
    pub(super) opening: Opening,
    /// The connection to the server that was asked meanwhile; only for bytes.
    pub(super) dialled: Option<Box<Dialled>>,
}

impl From<Opening> for Heard {
    fn from(opening: Opening) -> Heard {
        Heard {
            opening,
            dialled: None,
        }
    }
}

/// Looks until the first bytes tell what is spoken.
pub(super) async fn first_bytes(
    transport: &mut impl Look,
    listener: &Listener,
) -> Result<Opening, Refusal> {
    let looking = tokio::time::timeout(listener.limits.header_timeout, decided(transport));
    match looking.await {
        Ok(opening) => Ok(opening?),
        // A server that speaks first, behind a listener that must look: after the wait its bytes are passed on.
        Err(_)
            if transport.seen().is_empty()
                && matches!(listener.protocol, Protocol::Auto(_) | Protocol::Tcp) =>
        {
            Ok(Opening::Opaque)
        }
        Err(_) => Err(late()),
    }
}

fn late() -> Refusal {
    Refusal::new(
        &causes::CONNECTION_TIMEOUT,
        "while waiting for the first bytes",
    )
}

/// The same where nothing but HTTP is spoken: neither silence nor other bytes lead past what rules and policies say of requests.
async fn only_http(transport: &mut impl Look, listener: &Listener) -> Result<Opening, Refusal> {
    let looking = tokio::time::timeout(listener.limits.header_timeout, decided(transport));
    match looking.await {
        Ok(Ok(Opening::Opaque)) => Err(Refusal::new(
            &causes::PROTOCOL_MISMATCH,
            "only HTTP is spoken at this destination, and the client sent other bytes",
        )),
        Ok(opening) => Ok(opening?),
        Err(_) => Err(late()),
    }
}

/// Looks until it is decided. What was read stays with the transport, also when this is dropped half-way.
async fn decided(transport: &mut impl Look) -> io::Result<Opening> {
    let known = |bytes: &[u8]| match opening(bytes) {
        Opening::Unknown => None,
        opening => Some(opening),
    };
    if let Some(opening) = known(transport.seen()) {
        return Ok(opening);
    }
    loop {
        let Some(bytes) = transport.look(MOST).await? else {
            return Ok(Opening::Unknown);
        };
        if let Some(opening) = known(bytes) {
            return Ok(opening);
        }
        if bytes.len() >= MOST {
            return Ok(Opening::Opaque);
        }
    }
}

/// Whether a connection as it came may be for a server that speaks first. Callers of strict ports begin by proving who they are.
pub(super) fn may_be_quiet(arrival: &Arrival) -> bool {
    let listener = &arrival.listener;
    match (&listener.protocol, &listener.mtls) {
        (Protocol::Auto(_), None) => listener.capture.is_some(),
        (Protocol::Auto(_) | Protocol::Tcp, Some(mtls)) => {
            mtls.mode(arrival.local.port()) == Mode::Permissive && listener.takes_bytes()
        }
        (Protocol::Tcp, None) => false,
        (Protocol::Http | Protocol::Https(_) | Protocol::TlsPassthrough, _) => false,
    }
}

/// What is known of a destination before anybody has spoken: what a service at this address speaks, else what is written of the
/// port, else what rules for requests ask for, else what is usual.
fn known(arrival: &Arrival, sni: Option<Option<&str>>) -> Option<Hint> {
    let (listener, to) = (&arrival.listener, arrival.local);
    if matches!(listener.protocol, Protocol::Tcp) || listener.tcp.is_service(to) {
        return Some(Hint::Tcp);
    }
    let capture = listener.capture.as_ref()?;
    let asks_requests = || {
        let bytes = listener.tcp.find(arrival.client.ip(), to, sni.flatten());
        let has_bytes = bytes.is_some();
        (listener.routes.asks_port(to) && !has_bytes).then_some(Hint::Http)
    };
    let written = match listener.speaks_http(to) {
        true => Some(Hint::Http),
        false => capture.written(to.port()),
    };
    written
        .or_else(asks_requests)
        .or_else(|| capture.usual(to.port()))
}

/// How long a client is waited for before its server is asked as well. HTTP clients send with the connection, so few of them
/// cost a second one upstream; a server that speaks first is late by this much the first time at its port.
const QUIET: Duration = Duration::from_millis(50);

/// Where a connection is looked at.
#[derive(Clone, Copy)]
pub(super) enum Layer<'l> {
    /// As it came: where the listener has `mtls`, callers may begin with that whatever is spoken inside.
    Outside,
    /// In a tunnel.
    Tunnel,
    /// Inside mutual TLS; the name that was asked for.
    Mutual(Option<&'l str>),
}

impl<'l> Layer<'l> {
    /// The name that rules are asked with, as for connections of bytes.
    fn sni(self) -> Option<Option<&'l str>> {
        match self {
            Layer::Outside | Layer::Tunnel => None,
            Layer::Mutual(sni) => Some(sni),
        }
    }
}

/// What a connection speaks. While the client says nothing the server is asked, and whoever speaks first decides.
pub(super) async fn race(
    shared: &Arc<Shared>,
    transport: &mut impl Look,
    arrival: &Arrival,
    layer: Layer<'_>,
) -> Result<Heard, Refusal> {
    let listener = &arrival.listener;
    let may_be_mutual = matches!(layer, Layer::Outside) && listener.mtls.is_some();
    let hint = known(arrival, layer.sni());
    match hint {
        Some(Hint::Http) => {
            listener.metrics.detected(Detected::Written);
            return Ok(only_http(transport, listener).await?.into());
        }
        Some(Hint::Tcp) if !may_be_mutual => {
            listener.metrics.detected(Detected::Written);
            return Ok(Opening::Opaque.into());
        }
        Some(Hint::Tcp) | None => {}
    }
    let heard = whoever(shared, transport, arrival, layer).await?;
    Ok(match (hint, &heard.opening) {
        // What callers in the clear send is not looked at any further.
        (Some(Hint::Tcp), Opening::Http1 | Opening::Http2) => Opening::Opaque.into(),
        _ => heard,
    })
}

async fn whoever(
    shared: &Arc<Shared>,
    transport: &mut impl Look,
    arrival: &Arrival,
    layer: Layer<'_>,
) -> Result<Heard, Refusal> {
    let (listener, port) = (&arrival.listener, arrival.local.port());
    let capture = listener.capture.as_ref();
    let learned = capture.map(|capture| &capture.learned);
    let patience = capture.map_or(listener.limits.header_timeout, |it| it.detect_timeout);
    let quiet = match learned.is_some_and(|learned| learned.is_server_first(port)) {
        // Callers with mutual TLS would cost their server a second connection each.
        true if listener.mtls.is_none() => Duration::ZERO,
        _ => QUIET.min(patience),
    };
    if let Ok(opening) = tokio::time::timeout(quiet, decided(transport)).await {
        return Ok(told(listener, opening?).into());
    }
    // By now it is certain that our own connections are known as such.
    if arrival.is_captured() {
        super::capture::not_own(arrival.client, arrival.local)?;
    }
    let mut asked = None;
    let asking = tcp::dial_ahead(shared, arrival, layer.sni());
    let racing = both(transport, asking, &mut asked);
    let first = tokio::time::timeout(patience, racing).await;
    let bytes = Heard {
        opening: Opening::Opaque,
        dialled: asked.flatten().map(Box::new),
    };
    let spoke = |is_server| {
        if let Some(learned) = learned {
            learned.spoke(port, is_server);
        }
    };
    let Ok(opening) = first else {
        listener.metrics.detected(Detected::Timeout);
        return Ok(bytes);
    };
    Ok(match opening? {
        None => {
            spoke(true);
            listener.metrics.detected(Detected::ServerFirst);
            bytes
        }
        Some(opening) => {
            spoke(false);
            match told(listener, opening) {
                Opening::Opaque => bytes,
                opening => opening.into(),
            }
        }
    })
}

/// Who speaks first: the client with an opening, or the server with `None`. Leaves the connection to the server behind, once
/// there is one, or that there is none to be had.
async fn both(
    transport: &mut impl Look,
    asking: impl Future<Output = Option<Dialled>>,
    asked: &mut Option<Option<Dialled>>,
) -> Result<Option<Opening>, Refusal> {
    let mut asking = Box::pin(asking);
    loop {
        let server = async {
            match asked.as_ref() {
                None => Some(asking.as_mut().await),
                Some(dialled) => {
                    tcp::spoke(dialled.as_ref()).await;
                    None
                }
            }
        };
        tokio::select! {
            biased;
            opening = decided(transport) => return Ok(Some(opening?)),
            answer = server => match answer {
                Some(dialled) => *asked = Some(dialled),
                None => return Ok(None),
            },
        }
    }
}

fn told(listener: &Listener, opening: Opening) -> Opening {
    listener.metrics.detected(match &opening {
        Opening::Tls(_) => Detected::Tls,
        Opening::Http1 => Detected::Http1,
        Opening::Http2 => Detected::Http2,
        Opening::Opaque | Opening::Unknown => Detected::Opaque,
    });
    opening
}
