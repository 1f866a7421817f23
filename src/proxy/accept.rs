//! From an accepted socket to a protocol: bounds, PROXY header, first bytes, TLS.
//! It must not know requests; it ends where HTTP begins or bytes are passed through.
//! `control::listeners` calls [`Frontend::serve`] for each connection, through a closure made by `app`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use windrose_plugins::contract::{
    causes, Cause, ClientCertificate, ConnectionView, Effects, Principal,
};

use super::connection::{Connection, TlsFacts};
use super::engine::Engine;
use super::guard::Guarded;
use super::handshake::Alpn;
use super::hello::{Opening, MOST};
use super::inside::Inside;
use super::line::Carrier;
use super::proxy_protocol::{read, Reading};
use super::sniff::{Heard, Layer, Look as _};
use super::tcp::Dialled;
use super::transport::Transport;
use super::way::{way, word, Way};
use super::{caller, capture, edge, fair, handshake, serve, sniff, tcp, Shared};
use crate::observe::event;
use crate::snapshot::certs::Termination;
use crate::snapshot::identity::{Proof, Workload};
use crate::snapshot::incoming::{Full, Incoming, Open, Socket};
use crate::snapshot::listener::{Listener, Protocol, ProxyHeader, Role};
use crate::snapshot::mtls::Inbound;

/// Takes connections of every listener.
pub struct Frontend {
    /// What every part of the fast path shares.
    pub shared: Arc<Shared>,
    /// Pingora's HTTP engine around our hooks.
    pub http: Arc<Engine>,
}

/// Why a connection ended before it carried anything.
pub(super) struct Refusal {
    pub(super) cause: &'static Cause,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(cause: &'static Cause, detail: impl Into<String>) -> Refusal {
        Refusal {
            cause,
            detail: detail.into(),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::new(&causes::CLIENT_CLOSED, error.to_string())
    }
}

impl Frontend {
    /// Serves a connection to its end.
    pub async fn serve(self: Arc<Frontend>, incoming: Incoming) {
        let Some(listener) = self
            .shared
            .current
            .peek()
            .listener(&incoming.slot.name)
            .cloned()
        else {
            return;
        };
        let peer = incoming.peer;
        listener.metrics.accepted();
        let outcome = self.take(incoming, &listener).await;
        listener.metrics.closed();
        if let Err(refusal) = outcome {
            refused(&listener, peer, &refusal);
        }
    }

    async fn take(
        self: &Arc<Frontend>,
        incoming: Incoming,
        listener: &Arc<Listener>,
    ) -> Result<(), Refusal> {
        let limits = &listener.limits;
        let mut open = Open::listener(&incoming.slot, limits.connections).map_err(full)?;
        let slot = incoming.slot;
        let mut client = incoming.peer;
        let mut local = incoming.local;
        if let Some(capture) = &listener.capture {
            let snapshot = self.shared.current.load();
            local = capture::destination(&incoming.socket, local, capture.how, &snapshot)?;
            capture::not_own(client, local)?;
        }
        let caller = self.caller(listener, &incoming.socket, (client, local));
        let share = fair::connection(&self.shared, caller.as_ref());
        let _share = share.map_err(|detail| Refusal::new(&causes::WORKLOAD_LIMIT, detail))?;
        let mut transport = Transport::new(incoming.socket, client, local);
        if let Some((from, to)) = proxy_header(&mut transport, listener, incoming.peer).await? {
            (client, local) = (from, to);
            transport.set_addresses(client, local);
        }
        open.client(client.ip(), limits.connections_per_client)
            .map_err(full)?;
        let view = ConnectionView {
            address: client.ip(),
            listener: &listener.name,
        };
        if let Some(answer) = listener
            .chain
            .connection(&view, Effects::Live, &mut |_, _| {})
        {
            return Err(Refusal::new(answer.cause, "refused by a plugin"));
        }
        let arrival = Arrival {
            listener: listener.clone(),
            client,
            local,
            known: caller::known(listener, caller.as_deref()),
            caller,
            principal: None,
            certificate: None,
            told: None,
            proof: None,
            slot,
        };
        let drain = arrival.slot.drain.clone();
        // Here and not further in: a wake-up goes through every future between the task and what it wakes.
        let Some((stream, connection)) = self.open(transport, arrival).await? else {
            return Ok(());
        };
        serve::http(&self.http, stream, connection.clone(), drain).await?;
        match &connection.proof {
            Some(proof) => handshake::unproven(proof),
            None => Ok(()),
        }
    }

    /// Chooses the protocol by the listener's setting and the first bytes. What does not speak HTTP has been served then.
    async fn open(
        self: &Arc<Frontend>,
        mut transport: Transport,
        arrival: Arrival,
    ) -> Result<Opened, Refusal> {
        let listener = arrival.listener.clone();
        if matches!((&listener.protocol, &listener.mtls), (Protocol::Tcp, None)) {
            edge::in_the_clear(&arrival, &self.shared);
            return self.bytes(transport.into(), arrival, None, None).await;
        }
        // In boxes what is large and not for all: in place it would make every connection's future as large.
        let heard = match sniff::may_be_quiet(&arrival) {
            true => {
                let racing = sniff::race(&self.shared, &mut transport, &arrival, Layer::Outside);
                Box::pin(racing).await?
            }
            false => sniff::first_bytes(&mut transport, &listener).await?.into(),
        };
        let way = way(&listener, &arrival, heard)?;
        if way.is_in_the_clear() {
            edge::in_the_clear(&arrival, &self.shared);
        }
        match way {
            Way::Plain(heard) => self.by_opening(transport, arrival, heard).await,
            Way::Bytes(sni, dialled) => self.bytes(transport.into(), arrival, sni, dialled).await,
            Way::Mutual(mtls, sni) => Box::pin(self.workload(transport, arrival, mtls, sni)).await,
        }
    }

    pub(super) async fn by_opening(
        &self,
        transport: Transport,
        arrival: Arrival,
        heard: Heard,
    ) -> Result<Opened, Refusal> {
        let listener = arrival.listener.clone();
        match (&listener.protocol, heard.opening) {
            (_, Opening::Unknown) => Ok(None),
            (Protocol::TlsPassthrough, Opening::Tls(sni)) => {
                self.bytes(transport.into(), arrival, Some(sni), None).await
            }
            (Protocol::Auto(_), Opening::Tls(sni))
                if sni.as_ref().is_some_and(|sni| listener.tcp.names(sni)) =>
            {
                self.bytes(transport.into(), arrival, Some(sni), None).await
            }
            (
                Protocol::Https(termination) | Protocol::Auto(Some(termination)),
                Opening::Tls(sni),
            ) => {
                let termination = termination.clone();
                terminate(transport, arrival, termination, sni).await
            }
            (Protocol::Http | Protocol::Auto(_), Opening::Http2) => {
                Ok(plain(transport, arrival, true))
            }
            (Protocol::Auto(_), Opening::Tls(sni)) => {
                self.bytes(transport.into(), arrival, Some(sni), None).await
            }
            (Protocol::Auto(_), Opening::Opaque) if listener.takes_bytes() => {
                let dialled = heard.dialled;
                self.bytes(transport.into(), arrival, None, dialled).await
            }
            (Protocol::Http, Opening::Http1 | Opening::Opaque)
            | (Protocol::Auto(_), Opening::Http1) => Ok(plain(transport, arrival, false)),
            (_, opening) => Err(mismatch(&listener, &opening)),
        }
    }

    /// The workload that calls, where the listener is for callers on this machine.
    fn caller(
        &self,
        listener: &Listener,
        socket: &Socket,
        addresses: (SocketAddr, SocketAddr),
    ) -> Option<Arc<Workload>> {
        if listener.role == Role::MeshInbound {
            return None;
        }
        let snapshot = self.shared.current.peek();
        caller::workload(snapshot.identity.as_ref()?, listener, socket, addresses)
    }

    /// A connection of another workload's.
    async fn workload(
        self: &Arc<Frontend>,
        transport: Transport,
        mut arrival: Arrival,
        mtls: &Inbound,
        sni: Option<String>,
    ) -> Result<Opened, Refusal> {
        let listener = arrival.listener.clone();
        let port = arrival.local.port();
        let workload = mtls.workload(&listener.name, port, sni.as_deref());
        let workload = workload.ok_or_else(|| {
            let detail = format!("no workload is at port {port} nor named {sni:?}");
            Refusal::new(&causes::MTLS_NO_IDENTITY, detail)
        })?;
        arrival.caller = mtls.placed(&listener.name, port).cloned();
        let (stream, shaken) = handshake::mutual(transport, mtls, workload, &listener).await?;
        arrival.principal = Some(Box::new(shaken.principal.clone()));
        arrival.proof = Some(shaken.proof.clone());
        arrival.certificate.clone_from(&shaken.certificate);
        if mtls.hbone {
            return self.tunnels(stream, arrival, shaken).await;
        }
        let mut inside = Inside::from(stream);
        let heard = match (&listener.protocol, shaken.alpn) {
            (Protocol::Tcp, _) => Opening::Opaque.into(),
            // What nobody has agreed on may be anything: only what is no HTTP goes past rules and policies for requests.
            (Protocol::Auto(_), Alpn::None) if listener.takes_bytes() => {
                sniff::race(
                    &self.shared,
                    &mut inside,
                    &arrival,
                    Layer::Mutual(sni.as_deref()),
                )
                .await?
            }
            (_, Alpn::Http2) => Opening::Http2.into(),
            (_, Alpn::Http1 | Alpn::None) => Opening::Http1.into(),
        };
        let http2 = match heard.opening {
            Opening::Unknown => return Ok(None),
            Opening::Opaque | Opening::Tls(_) => {
                return self
                    .bytes(inside.into(), arrival, Some(sni), heard.dialled)
                    .await
            }
            Opening::Http1 => false,
            Opening::Http2 => true,
        };
        let tls = TlsFacts {
            sni: sni.map(Into::into),
            version: shaken.version,
            termination: None,
            cert: None,
            principal: Some(shaken.principal),
            certificate: shaken.certificate,
            told: Some(shaken.told),
        };
        let connection = Arc::new(Connection::new(arrival, Some(tls), http2));
        Ok(Some((
            Guarded::inside(inside, connection.clone()),
            connection,
        )))
    }

    /// Passes a connection through as bytes, to its end.
    async fn bytes(
        &self,
        carrier: Carrier,
        arrival: Arrival,
        sni: Option<Option<String>>,
        dialled: Option<Box<Dialled>>,
    ) -> Result<Opened, Refusal> {
        tcp::serve(&self.shared, carrier.into(), arrival, sni, dialled).await?;
        Ok(None)
    }
}

/// A connection that is to be served as HTTP, if it is one.
pub(super) type Opened = Option<(Guarded, Arc<Connection>)>;

fn plain(transport: Transport, arrival: Arrival, http2: bool) -> Opened {
    let tls = arrival.carried();
    let connection = Arc::new(Connection::new(arrival, tls, http2));
    Some((Guarded::plain(transport, connection.clone()), connection))
}

async fn terminate(
    transport: Transport,
    arrival: Arrival,
    termination: Arc<Termination>,
    sni: Option<String>,
) -> Result<Opened, Refusal> {
    let (stream, shaken) = handshake::accept(transport, &termination, &arrival.listener).await?;
    let tls = TlsFacts {
        sni: sni.map(Into::into),
        version: shaken.version,
        termination: Some(termination),
        cert: shaken.cert,
        principal: shaken.principal,
        certificate: shaken.certificate,
        told: None,
    };
    let connection = Arc::new(Connection::new(arrival, Some(tls), shaken.http2));
    Ok(Some((Guarded::tls(stream, connection.clone()), connection)))
}

/// A connection past its bounds and PROXY header.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) listener: Arc<Listener>,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    /// The workload of this node that calls, or that it is for where that is known by more than the name it asked for.
    pub(super) caller: Option<Arc<Workload>>,
    /// The caller as a principal, where it is a workload of this node that the kernel told of.
    pub(super) known: Option<Box<Principal>>,
    /// Who the other end proved to be, by mutual TLS.
    pub(super) principal: Option<Box<Principal>>,
    /// What it proved that with.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// What the application is told of that.
    pub(super) told: Option<HeaderValue>,
    /// What that rests on.
    pub(super) proof: Option<Arc<Proof>>,
    pub(super) slot: Arc<crate::snapshot::incoming::Slot>,
}

impl Arrival {
    /// Whom the connection proved: by its certificate, or, calling from this node, by what the kernel says of it.
    pub(super) fn peer(&self) -> Option<&Principal> {
        self.principal.as_deref().or(self.known.as_deref())
    }

    /// What the TLS around a tunnel says of what is in it; `None` for a connection of its own.
    fn carried(&self) -> Option<TlsFacts> {
        let principal = self.principal.as_deref()?.clone();
        Some(TlsFacts {
            sni: None,
            version: "TLSv1.3",
            termination: None,
            cert: None,
            principal: Some(principal),
            certificate: self.certificate.clone(),
            told: self.told.clone(),
        })
    }

    /// Where it was going, if that is known: it was captured, or came in a tunnel.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        let is_known = self.listener.knows_destination();
        is_known.then_some(self.local)
    }

    /// Whether `local` is where it was going before it was captured.
    pub(super) fn is_captured(&self) -> bool {
        self.listener.capture.is_some()
    }
}

fn full(full: Full) -> Refusal {
    match full {
        Full::Listener => Refusal::new(&causes::CONNECTION_LIMIT, ""),
        Full::Client => Refusal::new(&causes::CLIENT_CONNECTION_LIMIT, ""),
    }
}

fn mismatch(listener: &Listener, opening: &Opening) -> Refusal {
    let (speaks, sent) = (listener.protocol.as_str(), word(opening));
    let detail = format!("listener speaks {speaks}, client sent {sent}");
    Refusal::new(&causes::PROTOCOL_MISMATCH, detail)
}

/// Reads the PROXY header where the listener's policy wants one; the client and destination it names.
async fn proxy_header(
    transport: &mut Transport,
    listener: &Listener,
    peer: SocketAddr,
) -> Result<Option<(SocketAddr, SocketAddr)>, Refusal> {
    let required = match &listener.proxy_header {
        ProxyHeader::Ignore => return Ok(None),
        ProxyHeader::Use(trusted) if !trusted.contains(peer.ip()) => return Ok(None),
        ProxyHeader::Require(trusted) if !trusted.contains(peer.ip()) => {
            return Err(Refusal::new(
                &causes::PROXY_PROTOCOL,
                "the peer is not in `proxy_protocol.trusted`",
            ));
        }
        ProxyHeader::Use(_) => false,
        ProxyHeader::Require(_) => true,
    };
    let reading = tokio::time::timeout(listener.limits.header_timeout, async {
        loop {
            let Some(bytes) = transport.look(MOST).await? else {
                return Ok::<_, io::Error>(Reading::Absent);
            };
            match read(bytes) {
                Reading::Partial => {}
                reading => return Ok(reading),
            }
        }
    });
    match reading.await {
        Err(_) => Err(Refusal::new(
            &causes::CONNECTION_TIMEOUT,
            "while waiting for the PROXY header",
        )),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(Reading::Header { length, addresses })) => {
            transport.consume(length);
            Ok(addresses)
        }
        Ok(Ok(Reading::Absent)) if !required => Ok(None),
        Ok(Ok(Reading::Absent)) => Err(Refusal::new(
            &causes::PROXY_PROTOCOL,
            "the header is missing",
        )),
        Ok(Ok(Reading::Malformed | Reading::Partial)) => Err(Refusal::new(
            &causes::PROXY_PROTOCOL,
            "the header is malformed",
        )),
    }
}

/// Counts and reports a connection that ended early. Clients that simply went away are only counted.
pub(super) fn refused(listener: &Listener, peer: SocketAddr, refusal: &Refusal) {
    listener.metrics.refused(refusal.cause);
    if *refusal.cause != causes::CLIENT_CLOSED {
        event::warn("connection refused", &listener.name, || {
            let (name, cause, detail) = (&listener.name, refusal.cause, &refusal.detail);
            format!("connection ended early: listener={name} client={peer} cause={cause} detail=\"{detail}\"")
        });
    }
}
