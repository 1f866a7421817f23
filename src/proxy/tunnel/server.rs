//! The receiving end of tunnels: CONNECT streams of another node, each of which becomes a connection of the listener.
//! It must not know what is in them.
//! Called by `accept` once the other node has proven who it is.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::RecvStream;
use http::{Request, Response, StatusCode};
use pingora::protocols::tls::SslStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{interval_at, Instant};
use windrose_plugins::contract::causes;

use super::head;
use super::life::{Beat, Life};
use super::trunk::{window, FRAME, MOST_FIELDS, STREAM_WINDOW};
use super::Knock;
use crate::proxy::accept::{refused, Arrival, Frontend, Opened, Refusal};
use crate::proxy::capture::is_local;
use crate::proxy::handshake::{unproven, Alpn, Proven};
use crate::proxy::line::Arriving;
use crate::proxy::sniff::{first_bytes, race, Layer};
use crate::proxy::transport::Transport;
use crate::proxy::{serve, tcp};
use crate::snapshot::identity::Proof;
use crate::snapshot::listener::{Limits, Protocol};

/// Serves the tunnels of a connection until it ends: by its client, idle for `limits.keep_alive`, with the listener, or because
/// nobody is at its other end.
async fn serve<S>(frontend: &Arc<Frontend>, stream: S, arrival: Arrival) -> Result<(), Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = arrival.listener.limits.clone();
    let mut connection = begun(stream, &limits).await?;
    let life = connection
        .ping_pong()
        .map(|pings| Life::new(pings, Beat::default()));
    let silent = silent(life);
    let proof = arrival.proof.clone();
    let (drain, age) = (arrival.slot.drain.clone(), limits.connection_age);
    let ending = serve::ending(drain, age, proof.as_deref());
    let fell = fell(proof.as_deref());
    tokio::pin!(silent, ending, fell);
    let open = Arc::new(AtomicU32::new(0));
    let mut looks = interval_at(Instant::now() + limits.keep_alive, limits.keep_alive);
    let (mut is_ending, mut was_idle) = (false, false);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    was_idle = false;
                    open.fetch_add(1, Relaxed);
                    let (frontend, arrival, open) = (frontend.clone(), arrival.clone(), open.clone());
                    tokio::spawn(async move {
                        one(&frontend, request, respond, arrival).await;
                        open.fetch_sub(1, Relaxed);
                    });
                }
                Some(Err(error)) => return Err(broken(&error)),
                None => return Ok(()),
            },
            // What it carries breaks with it.
            unproven = &mut fell => return unproven,
            () = &mut ending, if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            _ = looks.tick() => {
                let is_idle = open.load(Relaxed) == 0;
                match is_idle && was_idle {
                    // It was told, and leaves it open all the same.
                    true if is_ending => return Ok(()),
                    true => {
                        is_ending = true;
                        connection.graceful_shutdown();
                    }
                    false => {}
                }
                was_idle = is_idle;
            }
            () = &mut silent => {
                let detail = "its other end no longer answers";
                return Err(Refusal::new(&causes::CLIENT_CLOSED, detail));
            }
        }
    }
}

/// Waits until nobody is at the other end.
async fn silent(life: Option<Life>) {
    match life {
        Some(life) => life.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits until what the node proved itself with is no longer good.
async fn fell(proof: Option<&Proof>) -> Result<(), Refusal> {
    let Some(proof) = proof else {
        return std::future::pending().await;
    };
    proof.fell().await;
    unproven(proof)
}

impl Frontend {
    /// A connection that carries others.
    pub(in crate::proxy) async fn tunnels(
        self: &Arc<Frontend>,
        stream: SslStream<Transport>,
        arrival: Arrival,
        shaken: Proven,
    ) -> Result<Opened, Refusal> {
        if shaken.alpn != Alpn::Http2 {
            let detail = "the listener takes tunnels, and the client did not agree to HTTP/2";
            return Err(Refusal::new(&causes::PROTOCOL_MISMATCH, detail));
        }
        let arrival = Arrival {
            told: Some(shaken.told),
            ..arrival
        };
        Box::pin(serve(self, stream, arrival)).await?;
        Ok(None)
    }

    /// A connection that came in a tunnel, with what its node has proven.
    async fn tunnelled(
        self: &Arc<Frontend>,
        knock: Knock,
        arrival: Arrival,
    ) -> Result<(), Refusal> {
        if matches!(arrival.listener.protocol, Protocol::Tcp) {
            let knock = Arriving::Knock(Box::new(knock));
            return tcp::serve(&self.shared, knock, arrival, None, None).await;
        }
        // What asks for HTTP is judged when it is there, and told so in HTTP.
        let Some(mut transport) = knock.open() else {
            return Ok(());
        };
        let heard = match arrival.listener.takes_bytes() {
            true => race(&self.shared, &mut transport, &arrival, Layer::Tunnel).await?,
            false => first_bytes(&mut transport, &arrival.listener).await?.into(),
        };
        let drain = arrival.slot.drain.clone();
        match self.by_opening(transport, arrival, heard).await? {
            Some((stream, connection)) => serve::http(&self.http, stream, connection, drain).await,
            None => Ok(()),
        }
    }
}

async fn begun<S>(stream: S, limits: &Limits) -> Result<Connection<S, Bytes>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = builder(limits).handshake(stream);
    match tokio::time::timeout(limits.header_timeout, handshake).await {
        Ok(made) => made.map_err(|error| broken(&error)),
        Err(_) => {
            let detail = "while waiting for HTTP/2 to begin";
            Err(Refusal::new(&causes::CONNECTION_TIMEOUT, detail))
        }
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window(limits.h2_streams))
        .max_frame_size(FRAME)
        .max_header_list_size(MOST_FIELDS)
        .max_concurrent_streams(limits.h2_streams);
    builder
}

fn broken(error: &h2::Error) -> Refusal {
    let cause = match error.is_io() {
        true => &causes::CLIENT_CLOSED,
        false => &causes::BAD_REQUEST,
    };
    Refusal::new(cause, error.to_string())
}

/// A stream: a connection of bytes is judged and has its endpoint before it is answered, one that may be HTTP is answered first.
async fn one(
    frontend: &Arc<Frontend>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    arrival: Arrival,
) {
    let (listener, client) = (arrival.listener.clone(), arrival.client);
    let Some(target) = head::target(request.method(), request.uri()) else {
        let answer = status(StatusCode::BAD_REQUEST);
        let _ = respond.send_response(answer, true);
        let detail = "a tunnel begins with CONNECT to an address and port";
        let refusal = Refusal::new(&causes::PROTOCOL_MISMATCH, detail);
        return refused(&listener, client, &refusal);
    };
    if !is_local(target.ip()) && !listener.names_address(target) {
        let _ = respond.send_response(status(StatusCode::NOT_FOUND), true);
        let detail = format!(
            "a tunnel to {target}, which is no address of this machine, nor in a rule's `destinations`"
        );
        let refusal = Refusal::new(&causes::DESTINATION_UNKNOWN, detail);
        return refused(&listener, client, &refusal);
    }
    let knock = Knock::new(respond, request.into_body(), (client, target));
    let arrival = Arrival {
        local: target,
        ..arrival
    };
    // Large, and its task is small.
    let outcome = Box::pin(frontend.tunnelled(knock, arrival)).await;
    if let Err(refusal) = outcome {
        refused(&listener, client, &refusal);
    }
}

pub(super) fn status(status: StatusCode) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    answer
}
