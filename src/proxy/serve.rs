//! Requests on a connection, one after another: waits cheaply between them, and ends when the connection should.
//! It must not know what a request is for.
//! Called by `accept`; hands each request to Pingora's engine.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::v2::server::{default_h2_options, H2Options};
use pingora::protocols::http::ServerSession;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::{sleep_until, Instant, Sleep};

use super::accept::{refused, Refusal};
use super::aside::Aside;
use super::connection::Connection;
use super::engine::Engine;
use super::guard::Guarded;
use crate::observe::clock;
use crate::snapshot::identity::Proof;
use crate::snapshot::lease::{Cut, Why};
use crate::snapshot::listener::Listener;

/// Serves HTTP until the connection ends.
pub(super) async fn http(
    engine: &Arc<Engine>,
    stream: Guarded,
    connection: Arc<Connection>,
    drain: watch::Receiver<bool>,
) -> Result<(), Refusal> {
    let limits = &connection.listener.limits;
    let (close, closing) = watch::channel(*drain.borrow());
    let age = limits.connection_age;
    let proof = connection.proof.as_deref();
    // A cut only has to wake this task: the stream's socket reads as ended from then on, so that the request is finished and
    // accounted for as any other.
    let told = async {
        let end = async {
            ending(drain, age, proof).await;
            let _ = close.send(true);
            // Between requests nobody waits for this, so that none has to begin and end a wait; this task looks again.
            tokio::task::yield_now().await;
        };
        let fall = async {
            if let Some(proof) = proof {
                proof.fell().await;
                connection.cut.revoke(Why::Unproven);
            }
        };
        tokio::join!(end, fall, connection.cut.revoked());
    };
    let told = Aside::new(told);
    let serving = async {
        match connection.http2 {
            true => http2(engine, stream, &connection, closing).await,
            false => http1(engine, stream, &connection, closing).await,
        }
    };
    tokio::pin!(serving, told);
    tokio::select! {
        biased;
        () = &mut serving => Ok(()),
        () = &mut told => {
            serving.await;
            Ok(())
        }
    }
}

/// Waits until the listener drains, the connection is old enough, spread by a tenth so that ages do not fall together, or what its
/// other side proved itself with has ended.
pub(super) async fn ending(mut drain: watch::Receiver<bool>, age: Duration, proof: Option<&Proof>) {
    let drained = async move {
        if drain.wait_for(|drain| *drain).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let over = async {
        match proof {
            Some(proof) => proof.over().await,
            None => std::future::pending().await,
        }
    };
    if age.is_zero() {
        return tokio::select! {
            () = drained => {}
            () = over => {}
        };
    }
    let spread = 0.9 + 0.2 * super::random::fraction();
    tokio::select! {
        () = drained => {}
        () = over => {}
        () = sleep_until(Instant::now() + age.mul_f64(spread)) => {}
    }
}

async fn http1(
    engine: &Arc<Engine>,
    mut stream: Guarded,
    connection: &Arc<Connection>,
    closing: ShutdownWatch,
) {
    let keep_alive = connection.listener.limits.keep_alive;
    let idle_timer = sleep_until(Instant::now() + keep_alive);
    tokio::pin!(idle_timer);
    let mut settings = None;
    let mut waiting = false;
    loop {
        // The first request's bytes are there already.
        if waiting && !next_request(&mut stream, &closing, idle_timer.as_mut(), keep_alive).await {
            return;
        }
        waiting = true;
        stream.arm();
        let mut session = ServerSession::new_http1(Box::new(stream));
        match settings.take() {
            Some(persistent) => {
                pingora::apps::HttpPersistentSettings::apply_to_session(persistent, &mut session)
            }
            None => session.set_keepalive(Some(keep_alive.as_secs().max(1))),
        }
        if *closing.borrow() {
            session.set_keepalive(None);
        }
        let reused = engine.get().process_new_http(session, &closing).await;
        if !connection.has_header() {
            unparsed(connection);
        }
        let Some((returned, persistent)) = reused.map(ReusedHttpStream::consume) else {
            return;
        };
        let Some(back) = ours(returned) else { return };
        stream = back;
        settings = persistent;
        // A client that has sent its next request already hears from the answer to it that the connection ends.
        if *closing.borrow() && !stream.has_early() {
            return;
        }
    }
}

/// Waits between requests, holding nothing but the socket and one timer, which is moved only when it fires and not for
/// each request. `false` when the connection should end; whoever says so wakes this task.
async fn next_request(
    stream: &mut Guarded,
    closing: &ShutdownWatch,
    mut timer: Pin<&mut Sleep>,
    keep_alive: Duration,
) -> bool {
    let since = clock::now();
    loop {
        tokio::select! {
            biased;
            ready = stream.idle() => return ready.is_ok(),
            () = closes(closing) => return false,
            () = &mut timer => {
                let rest = keep_alive.saturating_sub(clock::between(since, clock::now()));
                if rest.is_zero() {
                    return false;
                }
                timer.as_mut().reset(Instant::now() + rest);
            }
        }
    }
}

/// Ends when the connection should, if it is polled then.
async fn closes(closing: &ShutdownWatch) {
    let looks = |_: &mut Context<'_>| match *closing.borrow() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    };
    poll_fn(looks).await;
}

fn ours(stream: Stream) -> Option<Guarded> {
    stream
        .into_any()
        .downcast::<Guarded>()
        .ok()
        .map(|stream| *stream)
}

/// Counts and reports bytes that never became a request.
fn unparsed(connection: &Connection) {
    if let Some(cause) = connection.fault() {
        refused(
            &connection.listener,
            connection.client,
            &Refusal::new(cause, "no request could be read"),
        );
    }
}

async fn http2(
    engine: &Arc<Engine>,
    stream: Guarded,
    connection: &Arc<Connection>,
    closing: ShutdownWatch,
) {
    let server = Arc::new(Http2 {
        engine: engine.clone(),
        streams: connection.listener.limits.h2_streams,
        header_bytes: connection.listener.limits.header_bytes,
        options: server_options(&connection.listener),
    });
    server.process_new(Box::new(stream), &closing).await;
}

/// Options of Pingora's HTTP/2 server loop for a listener.
fn server_options(listener: &Listener) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(listener.limits.keep_alive);
    options
}

tokio::task_local! {
    /// Ends the stream that this task serves. Pingora's engine, between here and our hooks, takes nothing along for us.
    static STREAM: Arc<Cut>;
}

/// What ends the HTTP/2 stream that the current task serves.
pub(super) fn stream_cut() -> Arc<Cut> {
    STREAM.try_with(Arc::clone).unwrap_or_default()
}

/// Pingora's HTTP/2 loop with a listener's own bounds.
struct Http2 {
    engine: Arc<Engine>,
    streams: u32,
    header_bytes: usize,
    options: HttpServerOptions,
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let cut = Arc::<Cut>::default();
        let serving = self.engine.get().process_new_http(session, shutdown);
        let serving = STREAM.scope(cut.clone(), serving);
        // Dropping the exchange resets its streams on both sides; the context accounts for it as it goes.
        tokio::select! {
            biased;
            reused = serving => reused,
            () = cut.revoked() => None,
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_concurrent_streams(self.streams);
        options.max_header_list_size(u32::try_from(self.header_bytes).unwrap_or(u32::MAX));
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
