//! What a connection speaks, by its first bytes; where it was captured, by whoever speaks first.
//! It must not know what follows from it.
//! Called by `accept` for listeners that look.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use windrose_plugins::contract::causes;

use super::accept::{Arrival, Refusal};
use super::hello::{opening, Opening, MOST};
use super::tcp::{self, Dialled};
use super::transport::Transport;
use super::Shared;
use crate::observe::metrics::Detected;
use crate::snapshot::capture::{Capture, Hint};
use crate::snapshot::listener::{Listener, Protocol};

/// Looks until the first bytes tell what is spoken.
pub(super) async fn first_bytes(
    transport: &mut Transport,
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
        Err(_) => Err(Refusal::new(
            &causes::CONNECTION_TIMEOUT,
            "while waiting for the first bytes",
        )),
    }
}

/// Looks until it is decided. What was read stays with the transport, also when this is dropped half-way.
async fn decided(transport: &mut Transport) -> io::Result<Opening> {
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

/// How long a client is waited for before its server is asked as well. HTTP clients send with the connection, so few of them
/// cost a second one upstream; a server that speaks first is late by this much the first time at its port.
const QUIET: Duration = Duration::from_millis(50);

/// What a captured connection speaks. While the client says nothing the server is asked, and whoever speaks first decides.
pub(super) async fn race(
    shared: &Arc<Shared>,
    transport: &mut Transport,
    arrival: &Arrival,
    capture: &Capture,
) -> Result<(Opening, Option<Dialled>), Refusal> {
    let listener = &arrival.listener;
    let port = arrival.local.port();
    // A service at this address says what is spoken there.
    let service = listener.tcp.is_service(arrival.local).then_some(Hint::Tcp);
    match service.or_else(|| capture.hint(port)) {
        Some(Hint::Tcp) => {
            listener.metrics.detected(Detected::Written);
            return Ok((Opening::Opaque, None));
        }
        Some(Hint::Http) => {
            listener.metrics.detected(Detected::Written);
            return Ok((first_bytes(transport, listener).await?, None));
        }
        None => {}
    }
    let quiet = match capture.learned.is_server_first(port) {
        true => Duration::ZERO,
        false => QUIET.min(capture.detect_timeout),
    };
    if let Ok(opening) = tokio::time::timeout(quiet, decided(transport)).await {
        return Ok((told(listener, opening?), None));
    }
    // By now it is certain that our own connections are known as such.
    if shared.own.has_made(arrival.client).await {
        return Err(super::capture::looped("it is the proxy's own connection"));
    }
    let mut asked = None;
    let racing = both(shared, transport, arrival, &mut asked);
    let first = tokio::time::timeout(capture.detect_timeout, racing).await;
    let dialled = asked.flatten();
    let Ok(opening) = first else {
        listener.metrics.detected(Detected::Timeout);
        return Ok((Opening::Opaque, dialled));
    };
    match opening? {
        None => {
            capture.learned.spoke(port, true);
            listener.metrics.detected(Detected::ServerFirst);
            Ok((Opening::Opaque, dialled))
        }
        Some(opening) => {
            capture.learned.spoke(port, false);
            Ok((told(listener, opening), dialled))
        }
    }
}

/// Who speaks first: the client with an opening, or the server with `None`. Leaves the connection to the server behind, once
/// there is one, or that there is none to be had.
async fn both(
    shared: &Arc<Shared>,
    transport: &mut Transport,
    arrival: &Arrival,
    asked: &mut Option<Option<Dialled>>,
) -> Result<Option<Opening>, Refusal> {
    let mut asking = Box::pin(tcp::dial_ahead(shared, arrival));
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
