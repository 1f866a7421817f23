//! The connections that carry tunnels to other nodes, kept and shared: one for up to a hundred streams.
//! It must not know what tunnels carry, nor how a connection is secured; whoever opens one brings the way to connect.
//! Figures are ztunnel's where nothing is said, so that both ends of a mixed mesh behave alike.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::Reason;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{watch, Notify};
use tokio::time::{timeout, Instant};
use windrose_plugins::contract::{causes, Cause};

use super::heard::Heard;
use super::life::{Beat, Life};
use super::stream::Tunnel;
use crate::snapshot::identity::Proof;

/// Streams of one connection; the next one opens another.
const STREAMS: u32 = 100;
/// How long a connection without streams is kept.
const IDLE: Duration = Duration::from_secs(300);
/// Bytes that may be under way in one stream. A quarter of ztunnel's, see [`window`].
pub(in crate::proxy) const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of one frame.
pub(super) const FRAME: u32 = 1 << 20;
/// Bytes of an answer's header.
pub(super) const MOST_FIELDS: u32 = 16 << 10;

/// Bytes that may be under way in all of a connection: as many as in all of its streams. With less, a few streams whose bytes
/// nobody reads would stop all the others.
pub(super) fn window(streams: u32) -> u32 {
    const MOST: u32 = (1 << 31) - 1;
    STREAM_WINDOW.saturating_mul(streams.max(1)).min(MOST)
}

/// Whom a connection may serve: the same workload calling the same peers at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Between {
    /// Own identity, expected peers and trust, as one number that no other combination has.
    pub(in crate::proxy) group: u64,
    /// The peer node.
    pub(in crate::proxy) address: SocketAddr,
}

/// All connections that carry tunnels.
#[derive(Default)]
pub struct Trunks {
    lanes: Mutex<HashMap<Between, Lane>>,
    beat: Beat,
}

/// The connections between two.
#[derive(Default)]
struct Lane {
    trunks: Vec<Trunk>,
    /// What comes of the one that is being made, if one is.
    making: Option<watch::Receiver<Made>>,
}

/// What came of making a connection; `None` while that is not known.
type Made = Option<Result<(), &'static Cause>>;

#[derive(Clone)]
struct Trunk {
    send: SendRequest<Bytes>,
    state: Arc<State>,
    id: u64,
    proof: Option<Arc<Proof>>,
}

/// A connection to a node, and what the node proved itself with.
pub(in crate::proxy) struct Connected<S> {
    pub(in crate::proxy) stream: S,
    pub(in crate::proxy) proof: Option<Arc<Proof>>,
}

/// How a connection is.
#[derive(Debug, Default)]
pub(super) struct State {
    streams: AtomicU32,
    /// Whether its other end ever said anything.
    is_heard: Arc<AtomicBool>,
    /// Whether its other end is late with showing that it is alive: nothing new begins on it.
    is_doubted: AtomicBool,
    /// Has its other end asked now.
    asks: Notify,
}

impl State {
    /// Tells a connection that went away without a word from one that broke off, and from one that was given up as dead.
    fn silent(&self, closed: Closed) -> Closed {
        let spoke = self.is_heard.load(Relaxed) || self.is_doubted.load(Relaxed);
        match closed {
            Closed::Broke(error) if !spoke => Closed::Silent(error),
            closed => closed,
        }
    }
}

/// A stream's place on its connection, until dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Why there is no tunnel.
#[derive(Debug)]
pub(in crate::proxy) enum Closed {
    /// No connection to the node.
    Connect(&'static Cause),
    /// The node said no.
    Refused(StatusCode),
    /// The node ended this stream, and its connection goes on.
    Reset(Reason),
    /// The connection to the node broke.
    Broke(h2::Error),
    /// The node went away without having said anything.
    Silent(h2::Error),
}

impl From<h2::Error> for Closed {
    fn from(error: h2::Error) -> Closed {
        match error.reason() {
            Some(reason) if error.is_reset() => Closed::Reset(reason),
            _ => Closed::Broke(error),
        }
    }
}

impl Trunks {
    /// Opens a tunnel to `target`, over a connection there is or a new one made with `connect`. Of those who need a new one at the
    /// same time one makes it, and the others wait for it.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::proxy) async fn open<S, F>(
        self: &Arc<Trunks>,
        between: Between,
        target: &str,
        fields: HeaderMap,
        connect: impl Fn() -> F,
    ) -> Result<Tunnel, Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Result<Connected<S>, &'static Cause>>,
    {
        // Those that take no more, though they go on.
        let mut unwilling = Vec::new();
        loop {
            if let Some((trunk, place)) = self.free(between, &unwilling) {
                let id = trunk.id;
                match self.ask(trunk, target, fields.clone(), place).await {
                    // It may have been on its way out.
                    Err(Closed::Broke(_)) => self.forget(between, id),
                    Err(Closed::Reset(Reason::REFUSED_STREAM)) => unwilling.push(id),
                    opened => return opened,
                }
                continue;
            }
            match self.turn(between) {
                Turn::Wait(making) => heard(making).await?,
                Turn::Make(making) => {
                    let connected = match connect().await {
                        Ok(connected) => connected,
                        Err(cause) => return Err(making.failed(cause)),
                    };
                    let (trunk, place) = self.begin(between, connected, making).await?;
                    let state = trunk.state.clone();
                    let asked = self.ask(trunk, target, fields, place).await;
                    return asked.map_err(|closed| state.silent(closed));
                }
            }
        }
    }

    /// A connection with room for one more stream.
    fn free(&self, between: Between, unwilling: &[u64]) -> Option<(Trunk, Place)> {
        let lanes = self.lock();
        let mut trunks = lanes.get(&between)?.trunks.iter();
        trunks.find_map(|trunk| match unwilling.contains(&trunk.id) {
            true => None,
            false => Some((trunk.clone(), trunk.place()?)),
        })
    }

    /// Who makes the next connection.
    fn turn(self: &Arc<Trunks>, between: Between) -> Turn {
        let mut lanes = self.lock();
        let lane = lanes.entry(between).or_default();
        if let Some(making) = &lane.making {
            return Turn::Wait(making.clone());
        }
        let (tell, making) = watch::channel(None);
        lane.making = Some(making);
        Turn::Make(Making {
            trunks: self.clone(),
            between,
            tell,
        })
    }

    async fn begin<S>(
        self: &Arc<Trunks>,
        between: Between,
        connected: Connected<S>,
        making: Making,
    ) -> Result<(Trunk, Place), Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Connected { stream, proof } = connected;
        let state = Arc::new(State {
            streams: AtomicU32::new(1),
            ..State::default()
        });
        let stream = Heard::new(stream, state.is_heard.clone());
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(window(STREAMS))
            .max_frame_size(FRAME)
            .max_header_list_size(MOST_FIELDS)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(Closed::Silent)?;
        let id = NEXT.fetch_add(1, Relaxed);
        let place = Place(state.clone());
        let trunk = Trunk {
            send,
            state,
            id,
            proof,
        };
        let life = connection
            .ping_pong()
            .map(|pings| Life::new(pings, self.beat));
        let (trunks, shared) = (self.clone(), trunk.clone());
        tokio::spawn(async move {
            let watched = watched(life, shared, making, || trunks.forget(between, id));
            drive(connection, watched).await;
            trunks.forget(between, id);
        });
        Ok((trunk, place))
    }

    async fn ask(
        &self,
        trunk: Trunk,
        target: &str,
        fields: HeaderMap,
        place: Place,
    ) -> Result<Tunnel, Closed> {
        let Trunk {
            send, state, proof, ..
        } = trunk;
        let mut send = send.ready().await?;
        let request = Request::builder().method(Method::CONNECT).uri(target);
        let mut request = request
            .body(())
            .map_err(|_| Closed::Connect(&causes::INTERNAL))?;
        *request.headers_mut() = fields;
        let (mut answer, stream) = send.send_request(request, false)?;
        let answer = match timeout(self.beat.late, &mut answer).await {
            Ok(answer) => answer?,
            // The node may be waiting for its application; or it is gone, and the next ones should know.
            Err(_) => {
                state.asks.notify_one();
                answer.await?
            }
        };
        match answer.status() {
            status if status.is_success() => {
                Ok(Tunnel::new(stream, answer.into_body()).holding(place, proof))
            }
            status => Err(Closed::Refused(status)),
        }
    }

    fn forget(&self, between: Between, id: u64) {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get_mut(&between) {
            lane.trunks.retain(|trunk| trunk.id != id);
        }
        sweep(&mut lanes, between);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Between, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sweep(lanes: &mut HashMap<Between, Lane>, between: Between) {
    let is_unused = |lane: &Lane| lane.trunks.is_empty() && lane.making.is_none();
    if lanes.get(&between).is_some_and(is_unused) {
        lanes.remove(&between);
    }
}

enum Turn {
    /// Another does.
    Wait(watch::Receiver<Made>),
    /// Oneself.
    Make(Making),
}

/// The making of a connection. Whoever waits for it is told what came of it; or makes the next one, if this is dropped before.
struct Making {
    trunks: Arc<Trunks>,
    between: Between,
    tell: watch::Sender<Made>,
}

impl Making {
    /// It is there, and others may use it.
    fn made(self, trunk: Trunk) {
        if let Some(lane) = self.trunks.lock().get_mut(&self.between) {
            lane.trunks.push(trunk);
        }
        self.tell.send_replace(Some(Ok(())));
    }

    /// There is none, for anybody who waited.
    fn failed(self, cause: &'static Cause) -> Closed {
        self.tell.send_replace(Some(Err(cause)));
        Closed::Connect(cause)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut lanes = self.trunks.lock();
        if let Some(lane) = lanes.get_mut(&self.between) {
            lane.making = None;
        }
        sweep(&mut lanes, self.between);
    }
}

/// Waits for what comes of a connection that another makes.
async fn heard(mut making: watch::Receiver<Made>) -> Result<(), Closed> {
    let made = making.wait_for(Option::is_some).await;
    match made.ok().and_then(|made| *made) {
        Some(Err(cause)) => Err(Closed::Connect(cause)),
        // Or whoever made it has left.
        Some(Ok(())) | None => Ok(()),
    }
}

impl Trunk {
    /// A place for one more stream: the other end may allow fewer.
    fn place(&self) -> Option<Place> {
        let theirs = u32::try_from(self.send.current_max_send_streams());
        let most = theirs.map_or(STREAMS, |theirs| theirs.min(STREAMS));
        let more = |now| (now < most).then(|| now + 1);
        let is_over = self.proof.as_ref().is_some_and(|proof| proof.is_over());
        if is_over || self.state.is_doubted.load(Relaxed) {
            return None;
        }
        let taken = self.state.streams.fetch_update(Relaxed, Relaxed, more);
        taken.ok().map(|_| Place(self.state.clone()))
    }
}

/// Moves a connection's bytes until it ends, or its other end no longer answers.
async fn drive<S>(connection: Connection<S, Bytes>, silent: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        biased;
        ended = connection => {
            if let Err(error) = ended {
                log::debug!("a connection for tunnels broke: {error}");
            }
        }
        () = silent => log::debug!("a connection for tunnels ends: its other end does not answer"),
    }
}

/// Watches over a connection: shares it once its other end has answered for the first time, since what that end bounds is known
/// then; lets it end by itself when it was without streams long enough, or once what its node proved itself with has ended: what is
/// carried knows itself whether it may go on. Ends when its other end no longer answers.
async fn watched(life: Option<Life>, trunk: Trunk, making: Making, forget: impl Fn()) {
    let Some(mut life) = life else { return };
    let state = trunk.state.clone();
    if !life.answers(|| {}).await {
        state.is_doubted.store(true, Relaxed);
        return;
    }
    let proof = trunk.proof.clone();
    making.made(trunk);
    let over = over(proof.as_deref());
    tokio::pin!(over);
    let (mut used, mut is_over) = (Instant::now(), false);
    loop {
        tokio::select! {
            () = &mut over, if !is_over => {
                is_over = true;
                forget();
                continue;
            }
            () = life.rests() => {}
            () = state.asks.notified() => {}
        }
        let doubt = || state.is_doubted.store(true, Relaxed);
        if !life.answers(doubt).await {
            return;
        }
        state.is_doubted.store(false, Relaxed);
        if state.streams.load(Relaxed) > 0 {
            used = Instant::now();
        } else if used.elapsed() >= IDLE {
            forget();
        }
    }
}

async fn over(proof: Option<&Proof>) {
    match proof {
        Some(proof) => proof.over().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
