//! The connections that carry tunnels to other nodes, kept and shared: one for up to a hundred streams.
//! It must not know what tunnels carry, nor how a connection is secured; whoever opens one brings the way to connect.
//! Figures are ztunnel's, so that both ends of a mixed mesh behave alike.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{interval_at, Instant};
use windrose_plugins::contract::{causes, Cause};

use super::stream::Tunnel;

/// Streams of one connection; the next one opens another.
const STREAMS: u32 = 100;
/// How long a connection without streams is kept.
const IDLE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(30);
/// Bytes that may be under way in one stream, and in all of a connection.
pub(super) const STREAM_WINDOW: u32 = 4 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes of one frame.
pub(super) const FRAME: u32 = 1 << 20;

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
pub struct Trunks(Mutex<HashMap<Between, Vec<Trunk>>>);

#[derive(Clone)]
struct Trunk {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicU32>,
    id: u64,
}

/// A stream's place on its connection, until dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Why there is no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Closed {
    /// No connection to the node.
    Connect(&'static Cause),
    /// The node said no.
    Refused(StatusCode),
    /// The connection to the node broke.
    Broke,
}

impl Trunks {
    /// Opens a tunnel to `target`, over a connection there is or a new one made with `connect`.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::proxy) async fn open<S, F>(
        self: &Arc<Trunks>,
        between: Between,
        target: &str,
        fields: HeaderMap,
        connect: impl FnOnce() -> F,
    ) -> Result<Tunnel, Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Result<S, &'static Cause>>,
    {
        if let Some((trunk, place)) = self.free(between) {
            match open(trunk.send.clone(), target, fields.clone(), place).await {
                // It may have been on its way out.
                Err(Closed::Broke) => self.forget(between, trunk.id),
                opened => return opened,
            }
        }
        let stream = connect().await.map_err(Closed::Connect)?;
        let (trunk, place) = self.begin(between, stream).await?;
        open(trunk.send, target, fields, place).await
    }

    /// A connection with room for one more stream.
    fn free(&self, between: Between) -> Option<(Trunk, Place)> {
        let trunks = self.lock();
        trunks.get(&between)?.iter().find_map(|trunk| {
            let more = |now| (now < STREAMS).then(|| now + 1);
            let taken = trunk.streams.fetch_update(Relaxed, Relaxed, more);
            taken
                .ok()
                .map(|_| (trunk.clone(), Place(trunk.streams.clone())))
        })
    }

    async fn begin<S>(
        self: &Arc<Trunks>,
        between: Between,
        stream: S,
    ) -> Result<(Trunk, Place), Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(MOST_FIELDS)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|_| Closed::Broke)?;
        let trunk = Trunk {
            send,
            streams: Arc::new(AtomicU32::new(1)),
            id: NEXT.fetch_add(1, Relaxed),
        };
        let place = Place(trunk.streams.clone());
        self.lock().entry(between).or_default().push(trunk.clone());
        let (trunks, id, streams) = (self.clone(), trunk.id, trunk.streams.clone());
        tokio::spawn(async move {
            drive(connection, &streams, || trunks.forget(between, id)).await;
            trunks.forget(between, id);
        });
        Ok((trunk, place))
    }

    fn forget(&self, between: Between, id: u64) {
        let mut all = self.lock();
        if let Some(trunks) = all.get_mut(&between) {
            trunks.retain(|trunk| trunk.id != id);
            if trunks.is_empty() {
                all.remove(&between);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Between, Vec<Trunk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of an answer's header.
pub(super) const MOST_FIELDS: u32 = 16 << 10;

/// Moves a connection's bytes until it ends; once it has been without streams long enough, it is forgotten and ends by itself.
async fn drive<S>(connection: Connection<S, Bytes>, streams: &AtomicU32, forget: impl Fn())
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::pin!(connection);
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    let mut idle = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    log::debug!("a connection for tunnels broke: {error}");
                }
                return;
            }
            _ = looks.tick() => {
                idle = if streams.load(Relaxed) == 0 { idle + LOOK } else { Duration::ZERO };
                if idle >= IDLE {
                    forget();
                }
            }
        }
    }
}

async fn open(
    send: SendRequest<Bytes>,
    target: &str,
    fields: HeaderMap,
    place: Place,
) -> Result<Tunnel, Closed> {
    let mut send = send.ready().await.map_err(|_| Closed::Broke)?;
    let request = Request::builder().method(Method::CONNECT).uri(target);
    let mut request = request
        .body(())
        .map_err(|_| Closed::Connect(&causes::INTERNAL))?;
    *request.headers_mut() = fields;
    let (answer, stream) = send
        .send_request(request, false)
        .map_err(|_| Closed::Broke)?;
    let answer = answer.await.map_err(|_| Closed::Broke)?;
    match answer.status() {
        status if status.is_success() => Ok(Tunnel::new(stream, answer.into_body()).holding(place)),
        status => Err(Closed::Refused(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use std::sync::atomic::AtomicUsize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const NODE: Between = Between {
        group: 1,
        address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15008),
    };

    /// A node that echoes what tunnels bring, or refuses them with this status.
    fn node(status: StatusCode) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            while let Some(Ok((request, mut respond))) = server.accept().await {
                let answer = Response::builder().status(status).body(()).unwrap();
                let refused = !status.is_success();
                let send = respond.send_response(answer, refused).unwrap();
                if !refused {
                    tokio::spawn(echo(Tunnel::new(send, request.into_body())));
                }
            }
        });
        near
    }

    async fn echo(mut tunnel: Tunnel) {
        let mut byte = [0];
        while tunnel.read_exact(&mut byte).await.is_ok() {
            tunnel.write_all(&byte).await.unwrap();
        }
    }

    async fn opened(trunks: &Arc<Trunks>, made: &AtomicUsize, between: Between) -> Tunnel {
        let connect = || async {
            made.fetch_add(1, Relaxed);
            Ok(node(StatusCode::OK))
        };
        let opened = trunks.open(between, "10.0.0.1:80", HeaderMap::new(), connect);
        opened.await.unwrap()
    }

    #[tokio::test]
    async fn tunnels_share_a_connection_until_it_is_full() {
        let (trunks, made) = (Arc::new(Trunks::default()), AtomicUsize::new(0));
        let mut tunnels = Vec::new();
        for _ in 0..STREAMS {
            tunnels.push(opened(&trunks, &made, NODE).await);
        }
        assert_eq!(made.load(Relaxed), 1);

        let mut next = opened(&trunks, &made, NODE).await;
        assert_eq!(made.load(Relaxed), 2);
        drop(tunnels);
        opened(&trunks, &made, NODE).await;

        assert_eq!(made.load(Relaxed), 2);
        next.write_all(b"x").await.unwrap();
        assert_eq!(next.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn no_connection_serves_two_identities() {
        let (trunks, made) = (Arc::new(Trunks::default()), AtomicUsize::new(0));
        let other = Between { group: 2, ..NODE };

        let _one = opened(&trunks, &made, NODE).await;
        let _other = opened(&trunks, &made, other).await;

        assert_eq!(made.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn a_node_that_refuses_says_so() {
        let trunks = Arc::new(Trunks::default());
        let connect = || async { Ok(node(StatusCode::UNAUTHORIZED)) };

        let opened = trunks.open(NODE, "10.0.0.1:80", HeaderMap::new(), connect);

        let refused = Closed::Refused(StatusCode::UNAUTHORIZED);
        assert_eq!(opened.await.err(), Some(refused));
    }

    #[tokio::test]
    async fn a_connection_that_broke_is_replaced() {
        let (trunks, made) = (Arc::new(Trunks::default()), AtomicUsize::new(0));
        let connect = || async {
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let mut server = h2::server::handshake(far).await.unwrap();
                let (request, mut respond) = server.accept().await.unwrap().unwrap();
                let send = respond.send_response(Response::new(()), false);
                drop((send, request, server));
            });
            Ok(near)
        };
        let first = trunks.open(NODE, "10.0.0.1:80", HeaderMap::new(), connect);
        let _ = first.await;

        let mut next = opened(&trunks, &made, NODE).await;

        next.write_all(b"y").await.unwrap();
        assert_eq!(next.read_u8().await.unwrap(), b'y');
    }
}
