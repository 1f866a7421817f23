//! Bytes moved both ways between the two ends of a connection.
//! It must not know where the ends lead.
//! Called by `tcp`.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::line::{Carrier, Line};
use crate::snapshot::incoming::Socket;

/// Bytes moved at a time in each direction of a connection.
const BUFFER: usize = 16 * 1024;

/// Bytes that went each way.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

/// Moves bytes both ways. An end of one direction is passed on as a half-close while the other goes on.
pub(super) async fn copy(transport: Carrier, upstream: Line, counts: &Counts) -> io::Result<()> {
    let (down_read, down_write) = match transport {
        Carrier::Plain(transport) => halves(transport),
        Carrier::Tls(stream) => halves(stream),
    };
    match upstream {
        Line::Plain(Socket::Tcp(upstream)) => {
            let (up_read, up_write) = upstream.into_split();
            both(down_read, down_write, up_read, up_write, counts).await
        }
        Line::Plain(Socket::Unix(upstream)) => {
            let (up_read, up_write) = upstream.into_split();
            both(down_read, down_write, up_read, up_write, counts).await
        }
        Line::Tunnel(upstream) => {
            let (up_read, up_write) = halves(*upstream);
            both(down_read, down_write, up_read, up_write, counts).await
        }
        Line::Tls(upstream) => {
            let (up_read, up_write) = halves(upstream);
            both(down_read, down_write, up_read, up_write, counts).await
        }
    }
}

type Halves = (
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
);

/// One type for streams of several, so that the copying is compiled once.
fn halves(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Halves {
    let (read, write) = tokio::io::split(stream);
    (Box::new(read), Box::new(write))
}

async fn both(
    down_read: impl AsyncRead + Unpin,
    down_write: impl AsyncWrite + Unpin,
    up_read: impl AsyncRead + Unpin,
    up_write: impl AsyncWrite + Unpin,
    counts: &Counts,
) -> io::Result<()> {
    let up = one_way(down_read, up_write, &counts.up);
    let down = one_way(up_read, down_write, &counts.down);
    tokio::try_join!(up, down).map(|_| ())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        count.fetch_add(read as u64, Relaxed);
    }
}

/// Ends when nothing moved for the idle time; looks four times in it.
pub(super) async fn silence(counts: &Counts, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    let mut seen = (0, 0);
    let mut quiet = 0;
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_millis(10)));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (counts.up.load(Relaxed), counts.down.load(Relaxed));
        quiet = if now == seen { quiet + 1 } else { 0 };
        if quiet >= 4 {
            return;
        }
        seen = now;
    }
}
