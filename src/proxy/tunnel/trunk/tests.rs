//! What becomes of the connections that carry tunnels: shared, watched, replaced.

use super::*;
use h2::server::SendResponse;
use h2::RecvStream;
use http::Response;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const NODE: Between = Between {
    group: 1,
    address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15008),
};

type Answer = SendResponse<Bytes>;

/// A node that does this with each CONNECT, and allows so many streams.
fn node(
    streams: u32,
    serve: impl Fn(Request<RecvStream>, Answer) + Send + 'static,
) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams);
        let mut server = builder.handshake(far).await.unwrap();
        while let Some(Ok((request, respond))) = server.accept().await {
            serve(request, respond);
        }
    });
    near
}

/// Takes the tunnel and echoes what it brings.
fn echo(request: Request<RecvStream>, mut respond: Answer) {
    let send = respond.send_response(Response::new(()), false).unwrap();
    let mut tunnel = Tunnel::new(send, request.into_body());
    tokio::spawn(async move {
        let mut byte = [0];
        while tunnel.read_exact(&mut byte).await.is_ok() {
            tunnel.write_all(&byte).await.unwrap();
        }
    });
}

fn refuse(status: StatusCode) -> impl Fn(Request<RecvStream>, Answer) {
    move |_, mut respond| {
        let answer = Response::builder().status(status).body(()).unwrap();
        respond.send_response(answer, true).unwrap();
    }
}

/// Echoes, but does this with the CONNECT of this number.
fn except(
    number: usize,
    other: impl Fn(Request<RecvStream>, Answer),
) -> impl Fn(Request<RecvStream>, Answer) {
    let count = AtomicUsize::new(0);
    move |request, respond| match count.fetch_add(1, Relaxed) == number {
        true => other(request, respond),
        false => echo(request, respond),
    }
}

fn trunks() -> Arc<Trunks> {
    Arc::default()
}

fn connected(stream: DuplexStream) -> Connected<DuplexStream> {
    Connected {
        stream,
        proof: None,
    }
}

/// A connection whose node has proven nothing.
async fn plain(
    made: impl Future<Output = Result<DuplexStream, &'static Cause>>,
) -> Result<Connected<DuplexStream>, &'static Cause> {
    made.await.map(connected)
}

async fn through<F>(
    trunks: &Arc<Trunks>,
    made: &AtomicUsize,
    node: impl Fn() -> F,
) -> Result<Tunnel, Closed>
where
    F: Future<Output = Result<DuplexStream, &'static Cause>>,
{
    let connect = || {
        made.fetch_add(1, Relaxed);
        plain(node())
    };
    trunks
        .open(NODE, "10.0.0.1:80", HeaderMap::new(), connect)
        .await
}

async fn opened(trunks: &Arc<Trunks>, made: &AtomicUsize) -> Tunnel {
    through(trunks, made, || async { Ok(node(STREAMS, echo)) })
        .await
        .unwrap()
}

async fn is_open(tunnel: &mut Tunnel) {
    tunnel.write_all(b"x").await.unwrap();
    assert_eq!(tunnel.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn tunnels_share_a_connection_until_it_is_full() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let mut tunnels = Vec::new();
    for _ in 0..STREAMS {
        tunnels.push(opened(&trunks, &made).await);
    }
    assert_eq!(made.load(Relaxed), 1);

    let mut next = opened(&trunks, &made).await;
    assert_eq!(made.load(Relaxed), 2);
    drop(tunnels);
    opened(&trunks, &made).await;

    assert_eq!(made.load(Relaxed), 2);
    is_open(&mut next).await;
}

#[tokio::test]
async fn no_connection_serves_two_identities() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let other = Between { group: 2, ..NODE };
    let connect = || async { Ok(connected(node(STREAMS, echo))) };

    let _one = opened(&trunks, &made).await;
    let _other = trunks.open(other, "10.0.0.1:80", HeaderMap::new(), || {
        made.fetch_add(1, Relaxed);
        connect()
    });
    let _other = _other.await.unwrap();

    assert_eq!(made.load(Relaxed), 2);
}

#[tokio::test]
async fn those_who_come_together_make_one_connection() {
    let (trunks, made) = (trunks(), Arc::new(AtomicUsize::new(0)));
    let coming = (0..50).map(|_| {
        let (trunks, made) = (trunks.clone(), made.clone());
        tokio::spawn(async move { opened(&trunks, &made).await })
    });

    let mut tunnels = Vec::new();
    for coming in coming.collect::<Vec<_>>() {
        tunnels.push(coming.await.unwrap());
    }

    assert_eq!(made.load(Relaxed), 1);
    for tunnel in &mut tunnels {
        is_open(tunnel).await;
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_tried_once_for_all_who_wait() {
    let (trunks, made) = (trunks(), Arc::new(AtomicUsize::new(0)));
    let go = Arc::new(Notify::new());
    let coming = (0..10).map(|_| {
        let (trunks, made, go) = (trunks.clone(), made.clone(), go.clone());
        tokio::spawn(async move {
            let refused = || async {
                go.notified().await;
                Err(&causes::CONNECT_REFUSED)
            };
            through(&trunks, &made, refused).await.err()
        })
    });
    let coming: Vec<_> = coming.collect();
    settle().await;

    go.notify_one();

    for coming in coming {
        let closed = coming.await.unwrap();
        assert!(
            matches!(closed, Some(Closed::Connect(cause)) if *cause == causes::CONNECT_REFUSED)
        );
    }
    assert_eq!(made.load(Relaxed), 1);
    assert!(trunks.lock().is_empty());
}

/// Lets every task go on until it waits.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_waits_goes_on_when_the_one_who_connects_leaves() {
    let (trunks, made) = (trunks(), Arc::new(AtomicUsize::new(0)));
    let leaving = {
        let (trunks, made) = (trunks.clone(), made.clone());
        tokio::spawn(async move { through(&trunks, &made, std::future::pending).await.err() })
    };
    while made.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let staying = {
        let (trunks, made) = (trunks.clone(), made.clone());
        tokio::spawn(async move { opened(&trunks, &made).await })
    };
    settle().await;

    leaving.abort();

    is_open(&mut staying.await.unwrap()).await;
    assert_eq!(made.load(Relaxed), 2);
}

#[tokio::test]
async fn a_node_that_refuses_says_so() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let denying = || async { Ok(node(STREAMS, refuse(StatusCode::UNAUTHORIZED))) };

    let closed = through(&trunks, &made, denying).await.err();

    assert!(matches!(
        closed,
        Some(Closed::Refused(StatusCode::UNAUTHORIZED))
    ));
}

#[tokio::test]
async fn a_node_that_goes_away_without_a_word_is_told_from_a_dead_one() {
    let (trunks, made) = (beating(60_000, 20, 60_000), AtomicUsize::new(0));
    let gone = || async { Ok(tokio::io::duplex(64 * 1024).0) };
    let (near, _open) = tokio::io::duplex(64 * 1024);
    let near = Mutex::new(Some(near));
    let dead = || {
        let near = near.lock().unwrap().take().unwrap();
        async { Ok(near) }
    };

    let left = through(&trunks, &made, gone).await.err();
    let silent = through(&trunks, &made, dead).await.err();

    assert!(matches!(left, Some(Closed::Silent(_))), "{left:?}");
    assert!(matches!(silent, Some(Closed::Broke(_))), "{silent:?}");
}

#[tokio::test]
async fn a_node_that_takes_fewer_streams_gets_more_connections() {
    let (trunks, made) = (trunks(), Arc::new(AtomicUsize::new(0)));
    let coming = (0..6).map(|_| {
        let (trunks, made) = (trunks.clone(), made.clone());
        tokio::spawn(async move {
            let narrow = || async { Ok(node(2, echo)) };
            through(&trunks, &made, narrow).await.unwrap()
        })
    });

    let mut tunnels = Vec::new();
    for coming in coming.collect::<Vec<_>>() {
        tunnels.push(coming.await.unwrap());
    }

    assert_eq!(made.load(Relaxed), 3);
}

#[tokio::test]
async fn a_stream_that_is_reset_takes_no_other_with_it() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let resetting = || async {
        Ok(node(
            STREAMS,
            except(1, |_, mut it| it.send_reset(Reason::CANCEL)),
        ))
    };
    let mut first = through(&trunks, &made, resetting).await.unwrap();

    let closed = through(&trunks, &made, resetting).await.err();
    let mut third = through(&trunks, &made, resetting).await.unwrap();

    assert!(matches!(closed, Some(Closed::Reset(Reason::CANCEL))));
    is_open(&mut first).await;
    is_open(&mut third).await;
    assert_eq!(made.load(Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_takes_no_more_streams_gets_another_beside_it() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let full = || async {
        let refused = |_, mut it: Answer| it.send_reset(Reason::REFUSED_STREAM);
        Ok(node(STREAMS, except(1, refused)))
    };
    let mut first = through(&trunks, &made, full).await.unwrap();

    let mut second = through(&trunks, &made, full).await.unwrap();

    is_open(&mut first).await;
    is_open(&mut second).await;
    assert_eq!(made.load(Relaxed), 2);
}

#[tokio::test]
async fn a_connection_that_is_on_its_way_out_is_replaced() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let leaving = || async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let (request, respond) = server.accept().await.unwrap().unwrap();
            echo(request, respond);
            // The next stream is above the last one of its GOAWAY.
            server.graceful_shutdown();
            while server.accept().await.is_some() {}
        });
        Ok(near)
    };
    let mut first = through(&trunks, &made, leaving).await.unwrap();
    is_open(&mut first).await;

    let mut next = opened(&trunks, &made).await;

    is_open(&mut next).await;
    is_open(&mut first).await;
    assert_eq!(made.load(Relaxed), 2);
}

fn beating(every: u64, patience: u64, late: u64) -> Arc<Trunks> {
    let [every, patience, late] = [every, patience, late].map(Duration::from_millis);
    Arc::new(Trunks {
        beat: Beat {
            every,
            patience,
            late,
        },
        ..Trunks::default()
    })
}

/// A node that takes one tunnel, and does nothing any more once it is told.
fn falling_silent(silence: &Arc<Notify>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let silence = silence.clone();
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        let (request, respond) = server.accept().await.unwrap().unwrap();
        echo(request, respond);
        tokio::select! {
            _ = server.accept() => {}
            () = silence.notified() => {}
        }
        // Its connection stays open.
        std::future::pending::<()>().await;
        drop(server);
    });
    near
}

#[tokio::test]
async fn a_node_that_falls_silent_takes_its_tunnels_with_it() {
    let (trunks, made) = (beating(20, 200, 60_000), AtomicUsize::new(0));
    let silence = Arc::<Notify>::default();
    let node = || async { Ok(falling_silent(&silence)) };
    let mut first = through(&trunks, &made, node).await.unwrap();
    is_open(&mut first).await;

    silence.notify_one();

    assert!(first.read_u8().await.is_err());
    is_open(&mut opened(&trunks, &made).await).await;
    assert_eq!(made.load(Relaxed), 2);
}

fn is_doubted(trunks: &Trunks) -> bool {
    let lanes = trunks.lock();
    let mut all = lanes.values().flat_map(|lane| &lane.trunks);
    all.any(|trunk| trunk.state.is_doubted.load(Relaxed))
}

#[tokio::test]
async fn a_node_that_leaves_a_connect_unanswered_is_asked_and_left_alone_if_it_is_silent() {
    let (trunks, made) = (beating(60_000, 60_000, 20), Arc::new(AtomicUsize::new(0)));
    let silence = Arc::<Notify>::default();
    let node = || async { Ok(falling_silent(&silence)) };
    let mut first = through(&trunks, &made, node).await.unwrap();
    is_open(&mut first).await;
    // A second one finds it once it has answered its first ping.
    while trunks.lock().values().all(|lane| lane.trunks.is_empty()) {
        tokio::task::yield_now().await;
    }
    silence.notify_one();

    let hangs = {
        let (trunks, made) = (trunks.clone(), made.clone());
        tokio::spawn(async move { opened(&trunks, &made).await })
    };
    while !is_doubted(&trunks) {
        tokio::task::yield_now().await;
    }

    is_open(&mut opened(&trunks, &made).await).await;
    assert_eq!(made.load(Relaxed), 2);
    hangs.abort();
}

#[tokio::test]
async fn a_node_that_waits_for_its_application_goes_on_with_the_others() {
    let (trunks, made) = (beating(60_000, 60_000, 20), Arc::new(AtomicUsize::new(0)));
    let held = Arc::new(Mutex::new(Vec::new()));
    let waits = || {
        let held = held.clone();
        async move {
            let hold = move |request, respond| held.lock().unwrap().push((request, respond));
            Ok(node(STREAMS, except(1, hold)))
        }
    };
    let mut first = through(&trunks, &made, waits).await.unwrap();
    let hangs = through(&trunks, &made, waits);

    assert!(timeout(Duration::from_millis(200), hangs).await.is_err());

    is_open(&mut first).await;
    is_open(&mut opened(&trunks, &made).await).await;
    assert_eq!((made.load(Relaxed), is_doubted(&trunks)), (1, false));
}

#[tokio::test]
async fn streams_that_nobody_reads_stop_no_other() {
    let (trunks, made) = (trunks(), AtomicUsize::new(0));
    let flooding = || async {
        let flood = |request: Request<RecvStream>, mut respond: Answer| {
            let send = respond.send_response(Response::new(()), false).unwrap();
            let mut tunnel = Tunnel::new(send, request.into_body());
            let floods = async move { while tunnel.write_all(&[0; 16 * 1024]).await.is_ok() {} };
            tokio::spawn(floods);
        };
        Ok(node(STREAMS, move |request, respond| {
            match request.uri().port_u16() {
                Some(9) => flood(request, respond),
                _ => echo(request, respond),
            }
        }))
    };
    let mut unread = Vec::new();
    for _ in 0..24 {
        let tunnel = trunks.open(NODE, "10.0.0.1:9", HeaderMap::new(), || {
            made.fetch_add(1, Relaxed);
            plain(flooding())
        });
        let mut tunnel = tunnel.await.unwrap();
        assert_eq!(tunnel.read_u8().await.unwrap(), 0);
        unread.push(tunnel);
    }

    let mut other = through(&trunks, &made, flooding).await.unwrap();

    for _ in 0..2000 {
        is_open(&mut other).await;
    }
    assert_eq!(made.load(Relaxed), 1);
}
